//! `leak`: resources that were given up on and stay on record until somebody answers for them.

use clap::{Args, Subcommand};
use freehold_api::client::Client;
use freehold_api::v1::leaks::{Leak as View, LeakList, ResolveLeak};
use uuid::Uuid;

use super::Context;
use super::confirm::Confirm;
use crate::exit::{Exit, Failure};
use crate::output::{fields, maybe, table};

/// See and resolve resources that were given up on.
#[derive(Debug, Subcommand)]
pub(crate) enum Leak {
    /// List leaks, oldest first
    List(List),
    /// Close a leak: the resource is gone, or no longer ours to answer for
    #[command(
        after_help = "Examples:\n  freehold leak resolve 01990000-0000-7000-8000-000000000003 --reason 'deleted by hand, ticket 17'"
    )]
    Resolve(Resolve),
}

/// The arguments of `list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Where the last page ended
    #[arg(long)]
    cursor: Option<String>,
}

/// The arguments of `resolve`.
#[derive(Debug, Args)]
pub(crate) struct Resolve {
    /// The leak
    id: Uuid,
    /// What was done about it, for the audit trail
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    confirm: Confirm,
}

impl Leak {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        match self {
            Self::List(List { cursor }) => {
                let list = client.leaks(cursor.as_deref()).await?;
                context.output.show(&list, |LeakList { leaks, .. }| {
                    let rows = leaks.iter().map(|leak| {
                        let what =
                            leak.resource.as_ref().map(|resource| super::resources(std::slice::from_ref(resource)));
                        [
                            leak.id.to_string(),
                            leak.instance_id.to_string(),
                            leak.provider.clone(),
                            what.unwrap_or_else(|| "whatever is left".to_owned()),
                            leak.opened_at.to_string(),
                            maybe(leak.resolved_at),
                        ]
                    });
                    table(["id", "instance", "provider", "what", "opened", "resolved"], rows)
                })?;
                super::more(context, list.next_cursor.as_deref());
                Ok(())
            }
            Self::Resolve(Resolve { id, reason, confirm }) => {
                if confirm.is_needed("resolving a leak")? {
                    let leak = find(&client, id).await?;
                    Confirm::ask(&format!(
                        "{}\n\nThis takes it off the list on your word. A clean-up that is under way goes on until nothing is left.",
                        people(&leak)
                    ))?;
                }
                context.output.show(&client.resolve_leak(id, &ResolveLeak { reason }).await?, people)
            }
        }
    }
}

/// One leak, from the list.
async fn find(client: &Client, id: Uuid) -> Result<View, Failure> {
    let mut cursor = None;
    loop {
        let list = client.leaks(cursor.as_deref()).await?;
        if let Some(leak) = list.leaks.into_iter().find(|leak| leak.id == id) {
            return Ok(leak);
        }
        cursor = list.next_cursor;
        if cursor.is_none() {
            return Err(Failure::new(Exit::NotFound, format!("there is no leak {id}")).hint("see `freehold leak list`"));
        }
    }
}

fn people(leak: &View) -> String {
    let View { id, instance_id, provider, resource, reason, opened_at, resolved_at, resolution } = leak;
    fields([
        ("leak", id.to_string()),
        ("instance", instance_id.to_string()),
        ("provider", provider.clone()),
        (
            "what",
            resource.as_ref().map(|resource| super::resources(std::slice::from_ref(resource))).unwrap_or_default(),
        ),
        ("given up", reason.clone()),
        ("opened", opened_at.to_string()),
        ("resolved", maybe(*resolved_at)),
        ("resolution", maybe(resolution.as_ref())),
    ])
}
