//! Whether this node may serve with what it has.
//!
//! Instances of the process provider live on one machine, in one data folder: another node finds nothing of them there,
//! and would make them a second time. So a node that has this provider serves alone, and only from the folder that its
//! instances are in.

use std::path::Path;

use freehold_domain::lease::NodeId;
use freehold_engine::ports::{InstanceQuery, LIVE_FOR, NodeRecord, Store, StoreError};
use freehold_providers::process;

use crate::config::{Config, ProviderConfig};
use crate::exit::Failure;

/// How many instances are asked for at once.
const INSTANCES_AT_ONCE: usize = 1_000;

/// Refuses to serve with a provider that only this machine has, beside others or from another folder than before.
///
/// # Errors
/// Where others serve the registry, its instances are elsewhere, or it does not answer.
pub(super) async fn check(config: &Config, store: &dyn Store, own: &NodeId, data_dir: &Path) -> Result<(), Failure> {
    let local = config.providers.iter().find(|(_, provider)| matches!(provider, ProviderConfig::Process));
    let Some((provider, _)) = local else { return Ok(()) };
    beside_nobody(provider, store, own).await?;
    let failed = |error: StoreError| Failure::failed(error.to_string());
    // A registry from a backup is compared with what is here before anything is made.
    if process::was_here(data_dir) || store.quarantine().await.map_err(failed)?.is_some() {
        return Ok(());
    }
    match has_instances(provider, store).await.map_err(failed)? {
        false => Ok(()),
        true => Err(Failure::usage(format!(
            "provider `{provider}` keeps its instances in the data folder, and those of this registry are in another one than \
             {}",
            data_dir.display()
        ))
        .hint(format!(
            "start with the data folder that has them (--data-dir), on the machine they run on; if it is lost, make the \
             folder {} and they are made anew",
            process::instances(data_dir).display()
        ))),
    }
}

/// Whether anything is on record that the provider made, or may have made, and that is not gone.
async fn has_instances(provider: &str, store: &dyn Store) -> Result<bool, StoreError> {
    let mut query = InstanceQuery { released: Some(false), limit: INSTANCES_AT_ONCE, ..InstanceQuery::default() };
    loop {
        let page = store.instance_list(&query).await?;
        if page.items.iter().any(|registered| registered.reservation.provider.as_str() == provider) {
            return Ok(true);
        }
        match page.next {
            Some(after) => query.after = Some(after),
            None => return Ok(false),
        }
    }
}

async fn beside_nobody(provider: &str, store: &dyn Store, own: &NodeId) -> Result<(), Failure> {
    let nodes = store.node_list().await.map_err(|error| Failure::failed(error.to_string()))?;
    match other(&nodes, own) {
        None => Ok(()),
        Some(other) => Err(Failure::usage(format!(
            "provider `{provider}` keeps its instances on this machine, and node {} serves this registry too",
            other.beat.holder.node
        ))
        .hint(format!(
            "use a provider that every node reaches, such as docker or fly; a node that is gone counts as gone after \
             {} s",
            LIVE_FOR.as_secs()
        ))),
    }
}

/// Another node that was heard of lately, by the time at which this one was.
fn other<'n>(nodes: &'n [NodeRecord], own: &NodeId) -> Option<&'n NodeRecord> {
    let now = nodes.iter().find(|node| node.beat.holder.node == *own).map(|node| node.seen_at)?;
    let gone = |node: &NodeRecord| node.beat.roles.is_empty() || now.since(node.seen_at) > LIVE_FOR;
    nodes.iter().find(|node| node.beat.holder.node != *own && !gone(node))
}

#[cfg(test)]
mod tests {
    use freehold_domain::lease::Holder;
    use freehold_domain::time::Timestamp;
    use freehold_engine::ports::NodeBeat;

    use super::*;

    fn node(name: &str, roles: &str, seen_at: i64) -> NodeRecord {
        let beat = NodeBeat {
            holder: Holder { node: name.parse().unwrap(), incarnation: 1 },
            roles: roles.to_owned(),
            version: "1".to_owned(),
            address: "127.0.0.1:1".to_owned(),
            providers: Vec::new(),
        };
        let seen_at = Timestamp::from_micros(seen_at * 1_000_000);
        NodeRecord { beat, started_at: seen_at, seen_at, draining: false, operations: 0 }
    }

    #[test]
    fn only_nodes_that_are_there_are_in_the_way() {
        let own = "a".parse().unwrap();
        let name = |nodes: &[NodeRecord]| other(nodes, &own).map(|node| node.beat.holder.node.to_string());
        let me = node("a", "http", 100);
        assert_eq!(name(std::slice::from_ref(&me)), None);
        assert_eq!(name(&[me.clone(), node("b", "http", 90)]).as_deref(), Some("b"));
        assert_eq!(name(&[me.clone(), node("b", "http", 101)]).as_deref(), Some("b"));
        assert_eq!(name(&[me.clone(), node("b", "http", 80)]), None, "silent for long");
        assert_eq!(name(&[me, node("b", "", 99)]), None, "it said goodbye");
    }
}
