//! `reservation`: the operators' view of who may create, and the tools to settle what does not settle itself.

use clap::{Args, Subcommand};
use freehold_api::client::Client;
use freehold_api::v1::reservations::{
    Evidence, ListReservations, ReleaseReservation, Reservation as View, ReservationStatus,
};
use serde::de::value::{Error as WordError, StrDeserializer};
use serde::de::{Deserialize as _, IntoDeserializer as _};
use uuid::Uuid;

use super::Context;
use super::confirm::Confirm;
use crate::config::Period;
use crate::exit::Failure;
use crate::output::{fields, maybe, say, table, word};

/// See, repair and release reservations.
#[derive(Debug, Subcommand)]
pub(crate) enum Reservation {
    /// List reservations, oldest first
    #[command(
        after_help = "Examples:\n  freehold reservation list --status failed_requires_reconciliation --older-than 10m"
    )]
    List(List),
    /// Show a reservation with its evidence
    Show(One),
    /// Complete a reservation whose instance is on record
    Repair(One),
    /// Free a context: on proof of absence, or with --override on your word
    #[command(after_help = "\
Without --override the server proves first that nothing is left at the provider. With it the
context is freed on your word, and a leak record stays open.

Examples:
  freehold reservation release 01990000-0000-7000-8000-000000000001 --reason 'region is gone'")]
    Release(Release),
}

/// The arguments of `list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only those in this status
    #[arg(long, value_parser = status)]
    status: Option<ReservationStatus>,
    /// Only those taken at least so long ago
    #[arg(long, value_name = "DURATION")]
    older_than: Option<Period>,
    /// How many at most
    #[arg(long)]
    limit: Option<u32>,
    /// Where the last page ended
    #[arg(long)]
    cursor: Option<String>,
}

/// One reservation.
#[derive(Debug, Args)]
pub(crate) struct One {
    /// The instance it is for
    instance: Uuid,
}

/// The arguments of `release`.
#[derive(Debug, Args)]
pub(crate) struct Release {
    /// The instance it is for
    instance: Uuid,
    /// Why, for the audit trail
    #[arg(long)]
    reason: String,
    /// Do nothing unless it is in this status [default: the one it is in]
    #[arg(long, value_parser = status, value_name = "STATUS")]
    expected_status: Option<ReservationStatus>,
    /// Free the context without proof; a leak record stays open
    #[arg(long)]
    r#override: bool,
    #[command(flatten)]
    confirm: Confirm,
}

fn status(text: &str) -> Result<ReservationStatus, String> {
    let word: StrDeserializer<'_, WordError> = text.into_deserializer();
    ReservationStatus::deserialize(word)
        .map_err(|_| "use in_progress, failed_requires_reconciliation, completed or released".to_owned())
}

impl Reservation {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        match self {
            Self::List(list) => list.run(context, &client).await,
            Self::Show(One { instance }) => context.output.show(&client.reservation(instance).await?, people),
            Self::Repair(One { instance }) => context.output.show(&client.repair(instance).await?, people),
            Self::Release(release) => release.run(context, &client).await,
        }
    }
}

impl List {
    async fn run(self, context: &Context, client: &Client) -> Result<(), Failure> {
        let Self { status, older_than, limit, cursor } = self;
        // The server knows one unit at a time; seconds say everything that matters here.
        let older_than = older_than.map(|period| format!("{}s", period.get().as_secs()));
        let list = client.reservations(&ListReservations { status, older_than, limit, cursor }).await?;
        context.output.show(&list, |list| {
            let rows = list.reservations.iter().map(|reservation| {
                [
                    reservation.instance_id.to_string(),
                    reservation.owner.clone(),
                    reservation.assigned_user.clone(),
                    word(reservation.status),
                    reservation.started_at.to_string(),
                    reservation.failure_code.map(word).unwrap_or_default(),
                ]
            });
            table(["instance", "owner", "for", "status", "started", "failure"], rows)
        })?;
        super::more(context, list.next_cursor.as_deref());
        Ok(())
    }
}

impl Release {
    async fn run(self, context: &Context, client: &Client) -> Result<(), Failure> {
        let Self { instance, reason, expected_status, r#override, confirm } = self;
        let must_ask = confirm.is_needed("releasing a reservation")?;
        let reservation = client.reservation(instance).await?;
        say(&people(&reservation));
        if must_ask {
            let how = if r#override {
                "on your word, without proof that nothing is left at the provider; a leak record stays open"
            } else {
                "once the server has proven that nothing is left at the provider"
            };
            let owner = &reservation.owner;
            Confirm::ask(&format!("\nThis frees the context of {owner} for another instance, {how}."))?;
        }
        let expected_status = expected_status.unwrap_or(reservation.status);
        let body = ReleaseReservation { expected_status, reason, r#override };
        let released = client.release(instance, &body).await;
        // What the proof saw, whether it was enough or not.
        if let Ok(after) = client.reservation(instance).await
            && !after.evidence.is_empty()
        {
            say(&format!("\n{}", evidence_table(&after.evidence)));
        }
        context.output.show(&released?, |released| {
            let previous = word(released.previous_status);
            match r#override {
                true => format!("released on your word; it was {previous}; `freehold leak list` has what may be left"),
                false => format!("released on proof; it was {previous}"),
            }
        })
    }
}

fn evidence_table(evidence: &[Evidence]) -> String {
    let rows = evidence.iter().map(|item| [item.kind.clone(), item.at.to_string(), item.detail.clone()]);
    table(["evidence", "at", "seen"], rows)
}

/// A reservation for people, with its evidence.
fn people(reservation: &View) -> String {
    let View {
        instance_id,
        owner,
        assigned_user,
        status,
        epoch,
        operation_id,
        work_started,
        started_at,
        updated_at,
        completed_at,
        failure_code,
        resolution_reason,
        evidence,
    } = reservation;
    let head = fields([
        ("instance", instance_id.to_string()),
        ("owner", owner.clone()),
        ("for", assigned_user.clone()),
        ("status", word(status)),
        ("epoch", epoch.to_string()),
        ("operation", operation_id.to_string()),
        ("work sent", if *work_started { "maybe" } else { "no" }.to_owned()),
        ("started", started_at.to_string()),
        ("updated", updated_at.to_string()),
        ("completed", maybe(*completed_at)),
        ("failure", failure_code.map(word).unwrap_or_default()),
        ("resolution", resolution_reason.map(word).unwrap_or_default()),
    ]);
    if evidence.is_empty() {
        return head;
    }
    format!("{head}\n\n{}", evidence_table(evidence))
}
