//! Leases: who runs an operation, until when, and how that ends.

use freehold_domain::ids::OperationId;
use freehold_domain::lease::{Holder, Lease, NodeId};
use freehold_domain::run::{Run, Unclaimable};
use freehold_engine::ports::StoreError;
use rusqlite::params;

use super::db::{Db, count};
use super::tx::Tx;
use crate::shared::fields::Fields as _;
use crate::shared::sentences;

/// The instance of an operation, and whether the operation is the one at hand.
const AT_HAND: &str = "\
    SELECT o.instance_id, r.operation_id = o.id FROM operations o JOIN reservations r ON r.instance_id = o.instance_id \
    WHERE o.id = ?1";

/// Takes an operation over.
pub(super) fn claim(
    tx: Tx<'_>,
    operation: OperationId,
    holder: &Holder,
) -> Result<Result<(Run, Lease), Unclaimable>, StoreError> {
    let (instance, at_hand): (_, bool) = tx
        .first(AT_HAND, params![operation.as_bytes()], |row| Ok((row.id()?, row.get()?)))?
        .ok_or(StoreError::Missing("operation"))?;
    if !at_hand {
        return Ok(Err(Unclaimable::Over));
    }
    tx.say(instance, |run, moment| sentences::claim(run, holder, moment))
}

/// The fence is in the statement: holder and epoch are the lease's. A lease that lapsed and that nobody claimed is
/// prolonged like any other.
pub(super) const RENEW: &str = "\
    UPDATE operations SET due_at = ?5 \
    WHERE id = ?1 AND due_at IS NOT NULL AND holder_node = ?2 AND holder_incarnation = ?3 AND EXISTS ( \
        SELECT 1 FROM reservations r \
        WHERE r.instance_id = operations.instance_id AND r.operation_id = operations.id AND r.epoch = ?4)";

/// Prolongs leases.
pub(super) fn renew(tx: Tx<'_>, leases: &[Lease]) -> Result<Vec<bool>, StoreError> {
    let until = tx.lease_until();
    let renew = |lease: &Lease| {
        let Lease { instance: _, operation, epoch, holder, expires_at: _ } = lease;
        let node = holder.node.as_str();
        let incarnation = holder.incarnation.cast_signed();
        let params = params![operation.as_bytes(), node, incarnation, count(epoch.get()), until.as_micros()];
        Ok(tx.run(RENEW, params)? == 1)
    };
    leases.iter().map(renew).collect()
}

/// Gives leases back: each operation rests until now. Leases that are lost already have nothing to give.
pub(super) fn give_back(tx: Tx<'_>, leases: &[Lease]) -> Result<(), StoreError> {
    for lease in leases {
        match tx.say(lease.instance, |run, moment| Ok(sentences::give_back(run, lease, moment))) {
            Ok(()) | Err(StoreError::Missing(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Timers that one transaction rings for a node that returned: few enough that nobody waits long behind it.
pub(super) const RETURNED_BATCH: u64 = 2_000;

/// What rang already is behind, so each batch goes on where the one before it ended.
pub(super) const RETURNED: &str = "\
    UPDATE operations SET due_at = ?3 WHERE rowid IN ( \
        SELECT rowid FROM operations INDEXED BY operations_due \
        WHERE due_at > ?3 AND holder_node = ?1 AND holder_incarnation <> ?2 LIMIT ?4)";

/// Rings timers of what earlier lives of a node held, at most [`RETURNED_BATCH`]. Holders stay on record, so that whoever
/// claims says from whom.
pub(super) fn node_returned(tx: Tx<'_>, node: &NodeId, incarnation: u64) -> Result<u64, StoreError> {
    let params = params![node.as_str(), incarnation.cast_signed(), tx.now().as_micros(), count(RETURNED_BATCH)];
    Ok(tx.run(RETURNED, params)? as u64)
}

/// Rings an operation's timer, unless somebody holds it.
pub(super) fn hurry(tx: Tx<'_>, operation: OperationId) -> Result<(), StoreError> {
    let rung = tx.run(
        "UPDATE operations SET due_at = ?2 WHERE id = ?1 AND holder_node IS NULL AND due_at > ?2",
        params![operation.as_bytes(), tx.now().as_micros()],
    )?;
    if rung == 0 && !exists(*tx, operation)? {
        return Err(StoreError::Missing("operation"));
    }
    Ok(())
}

fn exists(db: Db<'_>, operation: OperationId) -> Result<bool, StoreError> {
    let found = db.first("SELECT 1 FROM operations WHERE id = ?1", params![operation.as_bytes()], |_| Ok(()))?;
    Ok(found.is_some())
}
