//! `node`: who serves the registry, and taking one of them out of work.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use freehold_api::client::{Client, ClientError};
use freehold_api::v1::nodes::{DrainNode, Node as View, NodeList};
use freehold_engine::ports::LIVE_FOR;

use super::Context;
use super::watch::{Wait, spinner};
use crate::exit::{Exit, Failure};
use crate::output::{say, table};

/// How often the list is asked for how far a node is.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// How many answers in a row must say that nothing is left: a request that was accepted before the node heard of it may
/// still come in behind the first.
const SAID_TIMES: u32 = 2;

/// See the servers that share a registry, and drain one before it goes away.
#[derive(Debug, Subcommand)]
pub(crate) enum Node {
    /// List the nodes that were heard of within a day, by name
    List,
    /// Let a node take no new work and give back what it has; it goes on serving requests
    #[command(after_help = "\
A drained node is not ready any more (/readyz), so that a load balancer turns away from it. What it
runs it finishes up to the next step; other nodes go on with it. A restart of the node ends it.

Examples:
  freehold node drain node-a && systemctl stop freehold
  freehold node drain node-a --undo")]
    Drain(Drain),
}

/// The arguments of `drain`.
#[derive(Debug, Args)]
pub(crate) struct Drain {
    /// The node
    name: String,
    /// Let it take work again
    #[arg(long)]
    undo: bool,
    #[command(flatten)]
    wait: Wait,
}

impl Node {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        match self {
            Self::List => context.output.show(&client.nodes().await?, |NodeList { nodes }| people(nodes)),
            Self::Drain(Drain { name, undo, wait }) => {
                let asked = client.drain_node(&name, &DrainNode { draining: !undo }).await?;
                let node = match wait.longest().filter(|_| !undo) {
                    Some(longest) => drained(&client, asked, longest).await?,
                    None => asked,
                };
                context.output.show(&node, |node| people(std::slice::from_ref(node)))
            }
        }
    }
}

fn people(nodes: &[View]) -> String {
    let rows = nodes.iter().map(|node| {
        let View {
            name,
            incarnation: _,
            roles,
            version,
            address,
            providers,
            started_at,
            seen_at,
            draining,
            operations,
        } = node;
        [
            name.clone(),
            roles.join(","),
            version.clone(),
            address.clone(),
            providers.join(","),
            started_at.to_string(),
            seen_at.to_string(),
            if *draining { "yes".to_owned() } else { String::new() },
            operations.to_string(),
        ]
    });
    table(["name", "roles", "version", "address", "providers", "started", "seen", "draining", "operations"], rows)
}

/// What was seen of a node that is being drained.
struct Seen {
    node: View,
    /// When it was heard of last, by this command's clock.
    heard_at: Instant,
    /// How often in a row nothing was left.
    said: u32,
}

impl Seen {
    /// Looks at the list. Answers whether the node is drained.
    fn look(&mut self, node: View, now: Instant) -> Result<bool, Failure> {
        if node.incarnation != self.node.incarnation {
            return Err(undone(&node, "was started anew, and takes work"));
        }
        if !node.draining {
            return Err(undone(&node, "was asked to take work again"));
        }
        if node.seen_at != self.node.seen_at {
            self.heard_at = now;
        }
        // One that is gone hears nothing of it, and what it held lapses.
        let is_silent = now.duration_since(self.heard_at) > LIVE_FOR;
        let is_idle = (!node.is_executor() || is_silent) && node.operations == 0;
        self.said = if is_idle { self.said + 1 } else { 0 };
        self.node = node;
        Ok(self.said >= SAID_TIMES)
    }

    fn line(&self) -> String {
        let View { name, operations, .. } = &self.node;
        match (self.node.is_executor(), operations) {
            (true, _) => format!("{name} has not heard of it yet, and holds {operations} operations"),
            (false, operations) => format!("{name} holds {operations} operations"),
        }
    }
}

fn undone(node: &View, what: &str) -> Failure {
    Failure::new(Exit::Conflict, format!("{} {what}", node.name)).hint("see `freehold node list`")
}

/// Waits until a node holds nothing and takes nothing, showing on stderr how much is left.
async fn drained(client: &Client, asked: View, longest: Duration) -> Result<View, Failure> {
    let name = asked.name.clone();
    let bar = spinner();
    let waited = tokio::time::timeout(longest, async {
        let mut seen = Seen { node: asked, heard_at: Instant::now(), said: 0 };
        let mut told = String::new();
        loop {
            let line = seen.line();
            match &bar {
                Some(bar) => bar.set_message(line),
                None if line != told => {
                    say(&line);
                    told = line;
                }
                None => {}
            }
            tokio::time::sleep(ASK_EVERY).await;
            let listed = match client.nodes().await {
                Ok(NodeList { nodes }) => nodes,
                // It may be the very server that is asked, on its way.
                Err(ClientError::Unreachable { .. }) => continue,
                Err(ClientError::Problem(problem)) if problem.retryable => continue,
                Err(error) => return Err(Failure::from(error)),
            };
            let Some(node) = listed.into_iter().find(|node| node.name == seen.node.name) else {
                return Err(Failure::new(Exit::NotFound, format!("{} is not on the list any more", seen.node.name)));
            };
            if seen.look(node, Instant::now())? {
                return Ok(seen.node);
            }
        }
    })
    .await;
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    waited.unwrap_or_else(|_| {
        Err(Failure::new(Exit::Unavailable, format!("{name} is not drained yet, and the time to wait is over"))
            .hint("it goes on: `freehold node list` shows how many operations are left"))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(roles: &[&str], operations: u64) -> View {
        serde_json::from_value(json!({
            "name": "a", "incarnation": "01", "roles": roles, "version": "1", "address": "", "draining": true,
            "started_at": "2026-11-23T10:00:00Z", "seen_at": "2026-11-23T10:00:00Z", "operations": operations,
        }))
        .unwrap()
    }

    fn seen() -> (Seen, Instant) {
        let now = Instant::now();
        (Seen { node: node(&["executor"], 1), heard_at: now, said: 0 }, now)
    }

    #[test]
    fn a_node_is_drained_once_it_heard_of_it_and_holds_nothing() {
        let (mut seen, now) = seen();
        for (roles, operations, drained) in [
            (&["executor", "http"][..], 0, false),
            (&["http"], 1, false),
            (&["http"], 0, false),
            (&["http"], 1, false),
            (&["http"], 0, false),
            (&["http"], 0, true),
        ] {
            assert_eq!(seen.look(node(roles, operations), now).unwrap(), drained, "{roles:?} {operations}");
        }
    }

    #[test]
    fn a_node_that_is_gone_is_drained_when_its_leases_lapsed() {
        let (mut seen, now) = seen();
        let later = now + LIVE_FOR + ASK_EVERY;
        assert!(!seen.look(node(&["executor"], 1), later).unwrap());
        assert!(!seen.look(node(&["executor"], 0), later).unwrap());
        assert!(seen.look(node(&["executor"], 0), later).unwrap());
    }

    #[test]
    fn a_node_that_takes_work_again_is_not_waited_for() {
        let (mut seen, now) = seen();
        let undone = View { draining: false, ..node(&["executor"], 0) };
        assert_eq!(seen.look(undone, now).unwrap_err().exit, Exit::Conflict);
        let reborn = View { incarnation: "02".into(), ..node(&["executor"], 0) };
        assert_eq!(seen.look(reborn, now).unwrap_err().exit, Exit::Conflict);
    }
}
