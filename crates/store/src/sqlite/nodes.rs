//! The list of nodes. Who has a node's name is said in the port.

use freehold_domain::lease::{Holder, NodeId};
use freehold_domain::time::Timestamp;
use freehold_engine::ports::{
    Elsewhere, LISTED_FOR, LIVE_FOR, NodeBeat, NodeOrders, NodeRecord, Peer, Share, StoreError, providers_of,
};
use rusqlite::params;

use super::db::{Columns, Db};
use super::tx::Tx;
use crate::shared::fields::Fields as _;

/// Puts a node on record in a new life. Nodes that nobody lists any more are forgotten on the way.
pub(super) fn start(tx: Tx<'_>, beat: &NodeBeat) -> Result<NodeOrders, StoreError> {
    tx.run("DELETE FROM nodes WHERE seen_at <= ?1", [before(tx.now(), LISTED_FOR)])?;
    put(tx, beat, tx.now(), false)?;
    orders(tx, beat, false)
}

/// Tells that a node is still there, if this life of it has its name.
pub(super) fn beat(tx: Tx<'_>, beat: &NodeBeat) -> Result<NodeOrders, StoreError> {
    let on_record = "SELECT incarnation, started_at, seen_at, draining FROM nodes WHERE node = ?1";
    let read = |row: &mut Columns<'_>| {
        let (incarnation, started_at) = (row.number()?, row.time()?);
        Ok((incarnation.cast_unsigned(), started_at, row.number()?, row.number()? != 0))
    };
    let now = tx.now();
    let (started_at, draining) = match tx.first(on_record, [beat.holder.node.as_str()], read)? {
        None => (now, false),
        Some((incarnation, started_at, _, draining)) if incarnation == beat.holder.incarnation => {
            (started_at, draining)
        }
        Some((_, _, seen_at, draining)) if seen_at <= before(now, LIVE_FOR) => (now, draining),
        Some(_) => return orders(tx, beat, true),
    };
    put(tx, beat, started_at, draining)?;
    orders(tx, beat, false)
}

fn put(tx: Tx<'_>, beat: &NodeBeat, started_at: Timestamp, draining: bool) -> Result<(), StoreError> {
    let NodeBeat { holder: Holder { node, incarnation }, roles, version, address, providers: _ } = beat;
    let (started_at, seen_at) = (started_at.as_micros(), tx.now().as_micros());
    tx.run(
        "INSERT OR REPLACE INTO nodes (node, incarnation, roles, version, address, started_at, seen_at, draining, \
             providers) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            node.as_str(),
            incarnation.cast_signed(),
            roles,
            version,
            address,
            started_at,
            seen_at,
            draining,
            beat.providers_on_record()
        ],
    )?;
    Ok(())
}

fn orders(tx: Tx<'_>, beat: &NodeBeat, superseded: bool) -> Result<NodeOrders, StoreError> {
    let now = tx.now();
    let all = tx.all("SELECT node, roles, providers, seen_at, draining FROM nodes", [], |row| {
        let (node, roles, providers) = (row.text()?.to_owned(), row.text()?.to_owned(), row.text()?.to_owned());
        Ok((node, roles, providers, row.number()?, row.number()? != 0))
    })?;
    let name = beat.holder.node.as_str();
    let draining = !superseded && all.iter().any(|(node, _, _, _, draining)| node == name && *draining);
    let there: Vec<Peer<'_>> = all
        .iter()
        .filter(|(_, _, _, seen_at, draining)| *seen_at > before(now, LIVE_FOR) && !draining)
        .map(|(node, roles, providers, _, _)| Peer { node, roles, providers })
        .collect();
    let share = if superseded { Share::ALL } else { Share::among(name, &there) };
    Ok(NodeOrders { draining, superseded, share, elsewhere: Elsewhere::of(beat, &there), now })
}

/// The moment so long before another, in microseconds.
fn before(now: Timestamp, span: std::time::Duration) -> i64 {
    now.as_micros().saturating_sub(i64::try_from(span.as_micros()).unwrap_or(i64::MAX))
}

/// Leases that have not lapsed, by node: from the index of the timers alone.
pub(super) const HELD: &str = "\
    SELECT holder_node, count(*) FROM operations INDEXED BY operations_due \
    WHERE due_at > ?1 AND holder_node IS NOT NULL GROUP BY holder_node";

/// Every node that was heard of lately, by name.
pub(super) fn list(db: Db<'_>, now: Timestamp) -> Result<Vec<NodeRecord>, StoreError> {
    let held = db.all(HELD, [now.as_micros()], |row| Ok((row.text()?.to_owned(), row.count::<u64>()?)))?;
    let columns = "\
        SELECT node, incarnation, roles, version, address, providers, started_at, seen_at, draining FROM nodes \
        WHERE seen_at > ?1 ORDER BY node";
    db.all(columns, [before(now, LISTED_FOR)], |row| {
        let holder = Holder { node: row.parsed()?, incarnation: row.number()?.cast_unsigned() };
        let (roles, version, address) = (row.text()?.to_owned(), row.text()?.to_owned(), row.text()?.to_owned());
        let operations = held.iter().find(|(node, _)| node == holder.node.as_str()).map_or(0, |(_, count)| *count);
        let providers = providers_of(row.text()?).collect();
        let beat = NodeBeat { holder, roles, version, address, providers };
        Ok(NodeRecord { beat, started_at: row.time()?, seen_at: row.time()?, draining: row.number()? != 0, operations })
    })
}

/// Asks a node to be drained, or not to be.
pub(super) fn drain(tx: Tx<'_>, node: &NodeId, draining: bool) -> Result<NodeRecord, StoreError> {
    tx.run("UPDATE nodes SET draining = ?2 WHERE node = ?1", params![node.as_str(), draining])?;
    let listed = list(*tx, tx.now())?;
    listed.into_iter().find(|record| record.beat.holder.node == *node).ok_or(StoreError::Missing("node"))
}
