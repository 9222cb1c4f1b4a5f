//! What was given up on, on record until it is resolved.

use freehold_domain::ids::{InstanceId, LeakId};
use freehold_domain::time::Timestamp;
use freehold_engine::ports::{LeakPage, LeakRecord, StoreError};
use rusqlite::params;

use super::audit::page;
use super::db::{Columns, Db, limit};
use super::tx::Tx;
use crate::shared::fields::Fields as _;

/// Opens a leak.
pub(super) fn open(
    db: Db<'_>,
    id: LeakId,
    instance: InstanceId,
    reason: &str,
    at: Timestamp,
) -> Result<(), StoreError> {
    db.run(
        "INSERT INTO leaks (id, instance_id, reason, opened_at) VALUES (?1, ?2, ?3, ?4)",
        params![id.as_bytes(), instance.as_bytes(), reason, at.as_micros()],
    )?;
    Ok(())
}

/// Closes every open leak of an instance.
pub(super) fn resolve_of(db: Db<'_>, instance: InstanceId, at: Timestamp) -> Result<(), StoreError> {
    db.run(
        "UPDATE leaks SET resolved_at = ?2 WHERE instance_id = ?1 AND resolved_at IS NULL",
        params![instance.as_bytes(), at.as_micros()],
    )?;
    Ok(())
}

fn record(row: &mut Columns<'_>) -> Result<LeakRecord, StoreError> {
    Ok(LeakRecord {
        id: row.id()?,
        instance: row.id()?,
        reason: row.get()?,
        opened_at: row.time()?,
        resolved_at: row.time_or_null()?,
    })
}

/// Closes one leak. Closing it again changes nothing.
pub(super) fn resolve(tx: Tx<'_>, leak: LeakId, at: Timestamp) -> Result<LeakRecord, StoreError> {
    tx.run(
        "UPDATE leaks SET resolved_at = ?2 WHERE id = ?1 AND resolved_at IS NULL",
        params![leak.as_bytes(), at.as_micros()],
    )?;
    tx.first(
        "SELECT id, instance_id, reason, opened_at, resolved_at FROM leaks WHERE id = ?1",
        params![leak.as_bytes()],
        record,
    )?
    .ok_or(StoreError::Missing("leak"))
}

/// Leaks in the order of their ids, which is that of time.
pub(super) fn list(db: Db<'_>, open_only: bool, after: Option<LeakId>, wanted: usize) -> Result<LeakPage, StoreError> {
    let after: &[u8] = after.as_ref().map_or(&[], |after| after.as_bytes());
    let items = db.all(
        "SELECT id, instance_id, reason, opened_at, resolved_at FROM leaks \
         WHERE id > ?1 AND (resolved_at IS NULL OR NOT ?2) ORDER BY id LIMIT ?3",
        params![after, open_only, limit(wanted) + 1],
        record,
    )?;
    Ok(page(items, wanted, |leak| leak.id))
}
