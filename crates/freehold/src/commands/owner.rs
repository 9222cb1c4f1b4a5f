//! `owner`: what the registry knows of one owner.

use clap::{Args, Subcommand};
use freehold_api::v1::owners::Owner as View;

use super::Context;
use crate::exit::Failure;
use crate::output::{fields, maybe, table, word};

/// See the registry of one owner.
#[derive(Debug, Subcommand)]
pub(crate) enum Owner {
    /// Show an owner's instances and reservations, destroyed ones included
    #[command(after_help = "Examples:\n  freehold owner show user:alice")]
    Show(Show),
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
