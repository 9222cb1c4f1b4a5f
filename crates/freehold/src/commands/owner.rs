//! `owner`: what the registry knows of one owner.

use clap::{Args, Subcommand};
use freehold_api::v1::owners::{Anonymized, Owner as View};

use super::Context;
use super::confirm::Confirm;
use crate::exit::Failure;
use crate::output::{fields, maybe, table, word};

/// See the registry of one owner.
#[derive(Debug, Subcommand)]
pub(crate) enum Owner {
    /// Show an owner's instances and reservations, destroyed ones included
    #[command(after_help = "Examples:\n  freehold owner show user:alice")]
    Show(Show),
    /// Forget whose destroyed instances were: a pseudonym takes the owner's place, for good
    #[command(after_help = "Examples:\n  freehold owner anonymize user:alice")]
    Anonymize(Anonymize),
}

/// The arguments of `anonymize`.
#[derive(Debug, Args)]
pub(crate) struct Anonymize {
    /// Who: user:ID or org:ID. Everything it has must be destroyed
    owner: String,
    #[command(flatten)]
    confirm: Confirm,
}

/// The arguments of `show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Who: user:ID or org:ID
    owner: String,
}

impl Owner {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Show(Show { owner }) => context.output.show(&context.client()?.owner(&owner).await?, people),
            Self::Anonymize(Anonymize { owner, confirm }) => {
                let client = context.client()?;
                if confirm.is_needed("forgetting an owner")? {
                    let known = people(&client.owner(&owner).await?);
                    Confirm::ask(&format!(
                        "{known}\n\nWhose these were will be known to nobody any more, here and in the records. \
                         There is no way back."
                    ))?;
                }
                context.output.show(&client.anonymize(&owner).await?, |Anonymized { pseudonym, instances }| {
                    fields([("now called", pseudonym.clone()), ("instances", instances.to_string())])
                })
            }
        }
    }
}

fn people(view: &View) -> String {
    let View { owner, entries, reservations, backfilled } = view;
    let head = fields([("owner", owner.clone()), ("backfilled", backfilled.to_string())]);
    let entries = entries.iter().map(|entry| {
        let destroyed = maybe(entry.destroyed_at);
        [entry.instance_id.to_string(), entry.assigned_user.clone(), entry.created_at.to_string(), destroyed]
    });
    let reservations = reservations.iter().map(|reservation| {
        [
            reservation.instance_id.to_string(),
            reservation.assigned_user.clone(),
            word(reservation.status),
            reservation.started_at.to_string(),
        ]
    });
    format!(
        "{head}\n\n{}\n\n{}",
        table(["entry", "for", "created", "destroyed"], entries),
        table(["reservation", "for", "status", "started"], reservations)
    )
}
