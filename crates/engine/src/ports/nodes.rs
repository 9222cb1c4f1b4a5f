//! The nodes that share a registry, as each told the registry of itself.
//!
//! Nothing here decides who may do what: leases do. A list of nodes tells people who is there, tells a node that it is to
//! be drained, and lets nodes begin with different parts of the work.
//!
//! A node's name belongs to one life of it at a time, and lives have no order of their own: incarnations are random, and
//! the clocks of a process that was frozen say nothing. So the registry goes by who came:
//!
//! - A life takes its node's name when it starts, whoever has it: whoever started last is the node.
//! - From then on it is heard only while it has the name. An earlier life that wakes up changes nothing on record, and
//!   hears that it was superseded.
//! - A name whose life was silent for [`LIVE_FOR`] is free: any life of the node that is heard of next has it. So of two
//!   processes by one name one goes on when the other ends.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use freehold_domain::lease::{Holder, NodeId, ProviderName};
use freehold_domain::time::Timestamp;

use super::StoreError;

/// How long a node counts as there after it was heard of last, by the store's clock: several beats, so that one that is
/// late does not change everybody's share.
pub const LIVE_FOR: Duration = Duration::from_secs(15);

/// How long a silent node stays on the list.
pub const LISTED_FOR: Duration = Duration::from_secs(24 * 3600);

/// The role of nodes that share the timers.
const EXECUTOR: &str = "executor";

/// The role of nodes that look after runtimes.
const RECONCILERS: &str = "reconcilers";

/// What a node tells of itself, every few seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeBeat {
    /// Who it is, and in which life.
    pub holder: Holder,
    /// What it does at the moment: some of `http,executor,reconcilers,proxy`. One that is being drained and has heard of
    /// it is no executor.
    pub roles: String,
    /// Its program's version.
    pub version: String,
    /// Where it listens.
    pub address: String,
    /// The providers that it has.
    pub providers: Vec<ProviderName>,
}

impl NodeBeat {
    /// Its providers, as a node's row has them.
    #[must_use]
    pub fn providers_on_record(&self) -> String {
        let names: Vec<&str> = self.providers.iter().map(ProviderName::as_str).collect();
        names.join(",")
    }
}

/// Reads what [`NodeBeat::providers_on_record`] wrote. What cannot be a name is none.
pub fn providers_of(on_record: &str) -> impl Iterator<Item = ProviderName> {
    on_record.split(',').filter_map(|name| name.parse().ok())
}

/// A node that is there and not being drained, as its row says.
#[derive(Clone, Copy, Debug)]
pub struct Peer<'n> {
    /// Its name.
    pub node: &'n str,
    /// What it does.
    pub roles: &'n str,
    /// Its providers.
    pub providers: &'n str,
}

impl Peer<'_> {
    fn is(&self, role: &str) -> bool {
        self.roles.split(',').any(|own| own == role)
    }
}

/// Providers that a node does not have, by what others that have them do: that is theirs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elsewhere {
    /// Another executor has them.
    pub executed: Vec<ProviderName>,
    /// Another node that looks after runtimes has them.
    pub watched: Vec<ProviderName>,
}

impl Elsewhere {
    /// What `own` does not have and one of those that are there has, by name.
    #[must_use]
    pub fn of(own: &NodeBeat, there: &[Peer<'_>]) -> Self {
        let by = |role: &str| {
            let others = there.iter().filter(|peer| peer.node != own.holder.node.as_str() && peer.is(role));
            let theirs: BTreeSet<ProviderName> = others.flat_map(|peer| providers_of(peer.providers)).collect();
            theirs.into_iter().filter(|provider| !own.providers.contains(provider)).collect()
        };
        Self { executed: by(EXECUTOR), watched: by(RECONCILERS) }
    }
}

/// What a node hears back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeOrders {
    /// Whether it is to take no new work, and to finish or give back what it has.
    pub draining: bool,
    /// Whether another life of the node has its name: nothing of this one is on record.
    pub superseded: bool,
    /// With which part of the work it is to begin.
    pub share: Share,
    /// What it does not have and others have.
    pub elsewhere: Elsewhere,
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
    /// On how many operations it has a lease that has not lapsed.
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

    /// The part of `node` among the nodes that are there and not being drained, each with its roles: those that are
    /// executors have one each, in the order of their names. Whoever is none of them has no part of its own, and begins
    /// with everything.
    #[must_use]
    pub fn among(node: &str, there: &[Peer<'_>]) -> Self {
        let mut executors: Vec<&str> = there.iter().filter(|peer| peer.is(EXECUTOR)).map(|peer| peer.node).collect();
        executors.sort_unstable();
        match (executors.binary_search(&node).map(u32::try_from), u32::try_from(executors.len())) {
            (Ok(Ok(index)), Ok(of)) => Self { index, of },
            _ => Self::ALL,
        }
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
    /// Puts a node on record in a new life, in which it is not draining. To be called once, before it does anything.
    async fn node_start(&self, beat: NodeBeat) -> Result<NodeOrders, StoreError>;

    /// Tells that a node is still there. What a superseded life tells is not put on record.
    async fn node_beat(&self, beat: NodeBeat) -> Result<NodeOrders, StoreError>;

    /// Every node that was heard of within [`LISTED_FOR`], by name.
    async fn node_list(&self) -> Result<Vec<NodeRecord>, StoreError>;

    /// Asks a node to be drained, or not to be. [`StoreError::Missing`] for one that is not on the list.
    async fn node_drain(&self, node: &NodeId, draining: bool) -> Result<NodeRecord, StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer<'n>(node: &'n str, roles: &'n str, providers: &'n str) -> Peer<'n> {
        Peer { node, roles, providers }
    }

    #[test]
    fn executors_share_by_name_and_nobody_else_has_a_part() {
        let there = [("c", "http,executor"), ("a", "executor"), ("b", "http,proxy"), ("d", "executors")];
        let there = there.map(|(node, roles)| peer(node, roles, ""));
        let of_two = |index| Share { index, of: 2 };
        assert_eq!(Share::among("a", &there), of_two(0));
        assert_eq!(Share::among("c", &there), of_two(1));
        for nobody in ["b", "d", "e"] {
            assert_eq!(Share::among(nobody, &there), Share::ALL, "{nobody}");
        }
        assert_eq!(Share::among("a", &[]), Share::ALL);
        for shard in 0..64 {
            let owners = (0..2).filter(|&index| of_two(index).has(shard)).count();
            assert_eq!(owners, 1, "each shard is in one part");
        }
    }

    #[test]
    fn elsewhere_is_what_others_have_and_this_node_has_not() {
        let provider = |name: &str| name.parse::<ProviderName>().unwrap();
        let own = NodeBeat {
            holder: Holder { node: "a".parse().unwrap(), incarnation: 1 },
            roles: "http,executor".to_owned(),
            version: "1".to_owned(),
            address: String::new(),
            providers: vec![provider("docker"), provider("fly")],
        };
        assert_eq!(own.providers_on_record(), "docker,fly");
        let there = [
            // What this node told in an earlier life is not told by another.
            peer("a", "http,executor", "process"),
            peer("b", "executor", "fly,other,No Name"),
            peer("c", "executor,reconcilers", "another,other"),
            peer("d", "http,reconcilers", "none-that-runs"),
            peer("e", "executor", ""),
        ];
        let elsewhere = Elsewhere {
            executed: vec![provider("another"), provider("other")],
            watched: vec![provider("another"), provider("none-that-runs"), provider("other")],
        };
        assert_eq!(Elsewhere::of(&own, &there), elsewhere);
        assert_eq!(Elsewhere::of(&own, &[]), Elsewhere::default());
    }
}
