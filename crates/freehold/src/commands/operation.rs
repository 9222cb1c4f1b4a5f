//! `operation`: how far a piece of work is.

use std::time::Duration;

use clap::{Args, Subcommand};
use freehold_api::v1::operations::Operation as View;
use uuid::Uuid;

use super::Context;
use super::watch::{Until, follow, outcome};
use crate::config::Period;
use crate::exit::Failure;
use crate::output::{fields, maybe, table, word};

/// See how far an operation is.
#[derive(Debug, Subcommand)]
pub(crate) enum Operation {
    /// Show an operation and the journal of its steps
    Show(Show),
    /// Follow an operation until nothing of it is left to do; the exit code is its outcome
    #[command(after_help = "Examples:\n  freehold operation watch 01990000-0000-7000-8000-000000000002 --timeout 2m")]
    Watch(Watch),
}

/// The arguments of `show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The operation
    id: Uuid,
}

/// The arguments of `watch`.
#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// The operation
    id: Uuid,
    /// How long to watch at most; the work goes on behind that
    #[arg(long, value_name = "DURATION", default_value = "10m")]
    timeout: Period,
}

impl Operation {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        match self {
            Self::Show(Show { id }) => context.output.show(&client.operation(id).await?, people),
            Self::Watch(Watch { id, timeout }) => {
                let longest: Duration = timeout.get();
                let operation = follow(&client, id, Until::Over, longest).await?;
                context.output.show(&operation, people)?;
                // The operation is on stdout already, with its problem in it.
                outcome(&operation).map_err(|failure| Failure { problem: None, ..failure })
            }
        }
    }
}

/// An operation for people.
fn people(operation: &View) -> String {
    let View {
        id,
        kind,
        instance_id,
        owner,
        status,
        phase,
        attempt,
        epoch,
        holder,
        deadline,
        started_at,
        finished_at,
        steps,
        error,
    } = operation;
    let head = fields([
        ("id", id.to_string()),
        ("kind", word(kind)),
        ("instance", instance_id.to_string()),
        ("owner", owner.clone()),
        ("status", word(status)),
        ("phase", phase.clone()),
        ("attempt", attempt.to_string()),
        ("epoch", epoch.to_string()),
        ("holder", maybe(holder.as_ref())),
        ("deadline", maybe(*deadline)),
        ("started", started_at.to_string()),
        ("finished", maybe(*finished_at)),
        ("error", maybe(error.as_ref())),
    ]);
    if steps.is_empty() {
        return head;
    }
    let rows = steps.iter().map(|step| {
        [
            step.name.clone(),
            word(step.status),
            step.attempts.to_string(),
            maybe(step.finished_at),
            maybe(step.last_error.as_ref()),
        ]
    });
    format!("{head}\n\n{}", table(["step", "status", "attempts", "finished", "last error"], rows))
}
