//! Nodes: the servers that share a registry, as each told of itself.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The role of a node that runs operations.
pub const EXECUTOR: &str = "executor";

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Node {
    /// Its name, kept over restarts.
    #[schema(example = "node-a")]
    pub name: String,
    /// Which of its lives this is: another one after every start.
    #[schema(example = "5f0c3a9d7e21b846")]
    pub incarnation: String,
    /// What it does at the moment: some of `http`, `executor`, `reconcilers`, `proxy`. One that was drained and knows it
    /// is no `executor`; one that was stopped has none.
    pub roles: Vec<String>,
    /// Its program's version.
    pub version: String,
    /// Where it listens.
    #[schema(example = "10.0.0.5:7788")]
    pub address: String,
    /// The providers that it has. Operations of one that it does not have are left to the nodes that do.
    #[serde(default)]
    #[schema(example = json!(["fly"]))]
    pub providers: Vec<String>,
    /// Since when it is in this life.
    pub started_at: Timestamp,
    /// When it was heard of last. One that was not for 15 seconds is gone, or does not reach the registry.
    pub seen_at: Timestamp,
    /// Whether it was asked to take no new work and to give back what it has.
    pub draining: bool,
    /// How many operations it holds.
    pub operations: u64,
}

impl Node {
    /// Whether it runs operations at the moment.
    #[must_use]
    pub fn is_executor(&self) -> bool {
        self.roles.iter().any(|role| role == EXECUTOR)
    }
}

/// The nodes that were heard of within a day.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeList {
    /// The nodes, by name.
    pub nodes: Vec<Node>,
}

/// The body of `POST /v1/nodes/{name}/drain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DrainNode {
    /// Whether the node is to be drained, or to take work again.
    #[serde(default = "yes")]
    pub draining: bool,
}

impl Default for DrainNode {
    fn default() -> Self {
        Self { draining: yes() }
    }
}

fn yes() -> bool {
    true
}
