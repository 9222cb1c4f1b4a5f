//! `audit`: what happened, in the order in which it was committed, and whether it still says so.

use std::collections::VecDeque;
use std::pin::pin;

use clap::{Args, Subcommand};
use freehold_api::client::{Client, ClientError};
use freehold_api::v1::PAGE_MAX;
use freehold_api::v1::audit::{AuditEvent, AuditPage, ListAudit};
use futures_util::StreamExt as _;
use uuid::Uuid;

use super::Context;
use super::chain::{Scope, Verified, verify};
use crate::exit::Failure;
use crate::output::say;

/// How many events `tail` shows unless `--limit` says otherwise.
const TAIL_EVENTS: usize = 20;

/// Follow and verify the audit trail.
#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// Show the last events, and with --follow whatever comes
    #[command(after_help = "\
Examples:
  freehold audit tail --limit 100
  freehold audit tail --follow --json
  freehold audit tail --instance 01990000-0000-7000-8000-000000000001")]
    Tail(Tail),
    /// Recompute the hash of every line; exit code 1 and the first line that does not fit if one was changed
    #[command(after_help = "\
Examples:
  freehold audit verify
  freehold audit verify --instance 01990000-0000-7000-8000-000000000001 --json")]
    Verify(Verify),
}

/// The arguments of `verify`.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Only the chain of this instance's context
    #[arg(long, value_name = "ID")]
    instance: Option<Uuid>,
}

/// The arguments of `tail`.
#[derive(Debug, Args)]
pub(crate) struct Tail {
    /// Only events of this instance
    #[arg(long, value_name = "ID")]
    instance: Option<Uuid>,
    /// Only events behind the one with this id
    #[arg(long, value_name = "EVENT")]
    after: Option<String>,
    /// How many at most, from the end
    #[arg(long, default_value_t = TAIL_EVENTS)]
    limit: usize,
    /// Go on with what comes; with --json one event a line
    #[arg(long, short)]
    follow: bool,
}

impl Audit {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Tail(tail) => tail.run(context, &context.client()?).await,
            Self::Verify(Verify { instance }) => check(context, &context.client()?, instance).await,
        }
    }
}

async fn check(context: &Context, client: &Client, instance: Option<Uuid>) -> Result<(), Failure> {
    let scope = match instance {
        None => Scope::All,
        Some(id) => {
            let instance = client.instance(id).await?;
            Scope::Context(instance.owner, instance.assigned_user)
        }
    };
    let verified = verify(client, scope).await?;
    context.output.show(&verified, |Verified { events, contexts, broken, .. }| match broken {
        None => format!("{events} lines of {contexts} contexts are what they were"),
        Some(_) => format!("{events} lines of {contexts} contexts were read up to the first that does not fit"),
    })?;
    let Some(broken) = verified.broken else { return Ok(()) };
    let message =
        format!("event {} (line {} of {} for {})", broken.event_id, broken.line, broken.owner, broken.assigned_user);
    Err(Failure::failed(format!("{message}: {}", broken.why))
        .hint("somebody or something wrote to the database behind the server's back: compare it with a backup"))
}

impl Tail {
    async fn run(self, context: &Context, client: &Client) -> Result<(), Failure> {
        let mut last = VecDeque::new();
        let mut after = self.after.clone();
        loop {
            let query = ListAudit { after: after.clone(), instance_id: self.instance, limit: Some(PAGE_MAX) };
            let AuditPage { events, next_cursor } = client.audit(&query).await?;
            if let Some(event) = events.last() {
                after = Some(event.id.clone());
            }
            last.extend(events);
            last.drain(..last.len().saturating_sub(self.limit));
            match next_cursor {
                Some(cursor) => after = Some(cursor),
                None => break,
            }
        }
        let events = Vec::from(last);
        if self.follow {
            for event in &events {
                print(context, event)?;
            }
            return follow(context, client, after, self.instance).await;
        }
        let page = AuditPage { events, next_cursor: after };
        if context.output.json {
            return context.output.json(&page);
        }
        page.events.iter().try_for_each(|event| print(context, event))
    }
}

/// Prints events as they come, until the server ends the stream.
async fn follow(context: &Context, client: &Client, after: Option<String>, only: Option<Uuid>) -> Result<(), Failure> {
    let mut events = pin!(client.events(after.as_deref()).await?);
    let mut last = after;
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error @ ClientError::Unreachable { .. }) => {
                let failure = Failure::from(error);
                let hint = last.map(|id| format!("go on with --after {id}"));
                return Err(Failure { hint: hint.or(failure.hint), ..failure });
            }
            Err(error) => return Err(error.into()),
        };
        let event: AuditEvent = event.json()?;
        if only.is_none_or(|id| id == event.instance_id) {
            print(context, &event)?;
        }
        last = Some(event.id);
    }
    say("the server ended the stream");
    Ok(())
}

fn print(context: &Context, event: &AuditEvent) -> Result<(), Failure> {
    if context.output.json {
        return context.output.json_line(event);
    }
    let AuditEvent { at, kind, owner, assigned_user: _, instance_id, epoch, status, actor, detail, .. } = event;
    let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
    context.output.text(&format!("{at} {kind} {instance_id} {owner} epoch {epoch} {status} by {actor}{detail}"))
}
