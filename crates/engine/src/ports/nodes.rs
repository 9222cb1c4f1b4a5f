//! The nodes that share a registry, as each told the registry of itself.
//!
//! Nothing here decides who may do what: leases do. A list of nodes tells people who is there, tells a node that it is to
//! be drained, and lets nodes begin with different parts of the work.

use async_trait::async_trait;
use freehold_domain::lease::{Holder, NodeId};
use freehold_domain::time::Timestamp;

use super::StoreError;

/// What a node tells of itself, every few seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeBeat {
    /// Who it is, and in which life.
    pub holder: Holder,
    /// What it does: some of `http,executor,reconcilers,proxy`.
    pub roles: String,
    /// Its program's version.
    pub version: String,
    /// Where it listens.
    pub address: String,
}

/// What a node hears back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeOrders {
    /// Whether it is to take no new work, and to finish or give back what it has.
    pub draining: bool,
    /// With which part of the work it is to begin.
    pub share: Share,
    /// The store's time.
    pub now: Timestamp,
}

/// A node on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRecord {
    /// What it told last.
    pub beat: NodeBeat,
    /// Since when it is in this life.
    pub started_at: Timestamp,
    /// When it told last, by the store's clock.
    pub seen_at: Timestamp,
    /// Whether it is to be drained.
    pub draining: bool,
    /// How many operations it holds.
    pub operations: u64,
}

/// A part of the timers: every `of`th, from the `index`th on. It says with which to begin; what nobody begins with is
/// anybody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Which one, from 0.
    pub index: u32,
    /// Of how many; never 0.
    pub of: u32,
}

impl Share {
    /// All of them.
    pub const ALL: Self = Self { index: 0, of: 1 };

    /// Whether a shard is in this part.
    #[must_use]
    pub fn has(self, shard: u32) -> bool {
        shard % self.of.max(1) == self.index
    }
}

impl Default for Share {
    fn default() -> Self {
        Self::ALL
    }
}

/// The list of nodes.
#[async_trait]
pub trait Nodes: Send + Sync {
    /// Puts a node on record, or tells that it is still there. A node in a new life is not draining any more.
    async fn node_beat(&self, beat: NodeBeat) -> Result<NodeOrders, StoreError>;

    /// Every node that was heard of within a day, by name.
    async fn node_list(&self) -> Result<Vec<NodeRecord>, StoreError>;

    /// Asks a node to be drained, or not to be. [`StoreError::Missing`] for one that is not on record.
    async fn node_drain(&self, node: &NodeId, draining: bool) -> Result<NodeRecord, StoreError>;
}
