//! `restore`: a registry that comes from a backup, compared with the providers and confirmed.

use clap::{Args, Subcommand};
use freehold_api::v1::restore::{Comparison, ConfirmRestore, RestoreConfirmed, RestoreStatus};

use super::Context;
use super::confirm::Confirm;
use crate::exit::{Exit, Failure};
use crate::output::{fields, maybe, say, table};

/// See and confirm a registry that comes from a backup.
#[derive(Debug, Subcommand)]
pub(crate) enum Restore {
    /// Show whether the registry is in quarantine, and what the providers show of it
    Status(Status),
    /// Compare the registry with the providers, and end its quarantine
    #[command(after_help = "\
What is at a provider and not in the registry stays where it is. For an hour after this the janitor
removes nothing and logs what it would.

Examples:
  freehold restore confirm
  freehold restore confirm --yes --json")]
    Confirm(ConfirmArgs),
}

/// The arguments of `status`.
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Ask the providers although the registry is not in quarantine
    #[arg(long)]
    compare: bool,
}

/// The arguments of `confirm`.
#[derive(Debug, Args)]
pub(crate) struct ConfirmArgs {
    /// Go on although a provider does not show everything
    #[arg(long)]
    incomplete: bool,
    #[command(flatten)]
    confirm: Confirm,
}

impl Restore {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        match self {
            Self::Status(Status { compare }) => {
                let mut status = client.restore(compare).await?;
                if status.quarantined && !compare {
                    status = client.restore(true).await?;
                }
                context.output.show(&status, people)
            }
            Self::Confirm(ConfirmArgs { incomplete, confirm }) => {
                let needed = confirm.is_needed("ending the quarantine of a registry")?;
                let status = client.restore(needed).await?;
                if !status.quarantined {
                    return Err(Failure::new(
                        Exit::Conflict,
                        "the registry is not in quarantine: there is nothing to confirm",
                    ));
                }
                if needed {
                    Confirm::ask(&format!(
                        "{}\n\nFrom then on the registry is the truth: everything in it is looked at, and what it calls \
                         unfinished goes on.",
                        people(&status)
                    ))?;
                } else if let Some(why) = &status.why {
                    say(&format!("ending the quarantine: {why}"));
                }
                let confirmed = client.confirm_restore(&ConfirmRestore { incomplete }).await?;
                context.output.show(&confirmed, |RestoreConfirmed { raised, comparison }| {
                    format!(
                        "{}\n\nThe quarantine is over; {raised} instances were taken on again.",
                        differences(comparison)
                    )
                })
            }
        }
    }
}

fn people(status: &RestoreStatus) -> String {
    let RestoreStatus { quarantined, why, since, over_at, position, comparison } = status;
    let head = fields([
        ("quarantine", if *quarantined { "yes" } else { "no" }.to_owned()),
        ("why", maybe(why.as_ref())),
        ("since", maybe(*since)),
        ("last over", maybe(*over_at)),
        ("audit position", position.to_string()),
    ]);
    match comparison {
        Some(comparison) => format!("{head}\n\n{}", differences(comparison)),
        None => head,
    }
}

fn differences(comparison: &Comparison) -> String {
    let Comparison {
        providers,
        unknown,
        unknown_count,
        unreferenced,
        unreferenced_count,
        missing,
        missing_count,
        foreign_count,
    } = comparison;
    let looks = providers.iter().map(|look| {
        let seen = match &look.detail {
            None => "all".to_owned(),
            Some(why) => format!("NOT ALL: {why}"),
        };
        [look.provider.clone(), look.resources.to_string(), seen]
    });
    let mut parts = vec![table(["provider", "resources", "shown"], looks)];
    for (what, count, shown) in [
        ("at a provider and unknown to the registry (left alone)", unknown_count, unknown),
        (
            "at a provider, and over by the registry (removed by the janitor in an hour)",
            unreferenced_count,
            unreferenced,
        ),
    ] {
        if *count > 0 {
            let rows = shown
                .iter()
                .map(|one| [one.provider.clone(), one.kind.clone(), one.id.clone(), one.instance_id.to_string()]);
            parts.push(format!("{count} {what}:\n{}", table(["provider", "kind", "id", "instance"], rows)));
        }
    }
    if *missing_count > 0 {
        let rows = missing
            .iter()
            .map(|one| [one.instance_id.to_string(), one.owner.clone(), one.provider.clone(), one.status.clone()]);
        let rows = table(["instance", "owner", "provider", "status"], rows);
        parts.push(format!("{missing_count} in the registry, and shown by no provider:\n{rows}"));
    }
    if *foreign_count > 0 {
        parts.push(format!("{foreign_count} carry this installation's name and are somebody else's"));
    }
    if unknown_count + unreferenced_count + missing_count == 0 {
        parts.push("registry and providers agree".to_owned());
    }
    parts.join("\n\n")
}
