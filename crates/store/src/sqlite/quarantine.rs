//! A registry that went back in time: the mark of it, and the way out.
//!
//! The way out is many transactions, none of which keeps the others out for long. Until the last of them the quarantine
//! holds, so whatever ends in the middle is begun anew, and an epoch that rises twice harms nobody.

use freehold_domain::ids::InstanceId;
use freehold_domain::run;
use freehold_domain::time::Timestamp;
use freehold_engine::ports::{Quarantined, StoreError};
use rusqlite::params;

use super::db::{Columns, Db, count, limit};
use super::tx::Tx;
use crate::shared::corrupt;
use crate::shared::fields::Fields as _;
use crate::shared::house::RAISED_AT_ONCE;

pub(super) const TO_RAISE: &str = "\
    SELECT r.instance_id FROM reservations r JOIN operations o ON o.id = r.operation_id \
    WHERE r.instance_id > ?1 AND (r.released_at IS NULL OR o.due_at IS NOT NULL) ORDER BY r.instance_id LIMIT ?2";

/// Why and since when, while it lasts.
pub(super) fn read(db: Db<'_>) -> Result<Option<Quarantined>, StoreError> {
    db.first("SELECT why, since FROM quarantine WHERE ended_at IS NULL", [], |row: &mut Columns<'_>| {
        Ok(Quarantined { why: row.get()?, since: row.time()? })
    })
}

/// When the last one was over.
pub(super) fn over_at(db: Db<'_>) -> Result<Option<Timestamp>, StoreError> {
    Ok(db.first("SELECT ended_at FROM quarantine", [], |row| row.time_or_null())?.flatten())
}

/// Begins it, unless it is on.
pub(super) fn begin(tx: Tx<'_>, why: &str) -> Result<Quarantined, StoreError> {
    tx.run(
        "INSERT INTO quarantine (only_row, why, since) VALUES (1, ?1, ?2) ON CONFLICT (only_row) DO UPDATE \
         SET why = excluded.why, since = excluded.since, ended_at = NULL WHERE ended_at IS NOT NULL",
        params![why, tx.now().as_micros()],
    )?;
    read(*tx)?.ok_or_else(|| corrupt("a quarantine that was begun is not there"))
}

/// The last position of the audit trail, or what it counts as.
pub(super) fn high_water(db: Db<'_>) -> Result<u64, StoreError> {
    let last =
        "SELECT max(coalesce((SELECT max(position) FROM audit), 0), coalesce((SELECT reached FROM quarantine), 0))";
    Ok(db.first(last, [], |row| row.count())?.unwrap_or(0))
}

/// Raises the next instances behind `after`. Answers how many, and the last of them; `None` once there are no more, or
/// somebody else has ended it. The first event moves on to position `from`: what was given after the backup is not given
/// again.
pub(super) fn raise(
    tx: Tx<'_>,
    after: Option<InstanceId>,
    by: u64,
    from: u64,
) -> Result<(u64, Option<InstanceId>), StoreError> {
    if read(*tx)?.is_none() {
        return Ok((0, None));
    }
    let behind: &[u8] = after.as_ref().map_or(&[], |after| after.as_bytes());
    let instances = tx.all(TO_RAISE, params![behind, limit(RAISED_AT_ONCE)], |row| row.id::<InstanceId>())?;
    for (number, instance) in instances.iter().enumerate() {
        let loaded = tx.run_of(*instance)?;
        let change = run::raised(&loaded.run, by, tx.now());
        tx.write(&loaded, &change, None)?;
        if after.is_none() && number == 0 {
            tx.run(
                "UPDATE audit SET position = ?1 WHERE position = (SELECT max(position) FROM audit) AND position < ?1",
                [count(from)],
            )?;
        }
    }
    Ok((instances.len() as u64, instances.last().copied()))
}

/// Lifts it. Owners are asked for again in records that are elsewhere, which may know what the backup does not.
pub(super) fn lift(tx: Tx<'_>, reached: u64) -> Result<(), StoreError> {
    if read(*tx)?.is_none() {
        return Ok(());
    }
    tx.run("DELETE FROM owners_backfilled", [])?;
    tx.run(
        "UPDATE quarantine SET ended_at = ?1, reached = max(reached, ?2) WHERE ended_at IS NULL",
        params![tx.now().as_micros(), count(reached)],
    )?;
    Ok(())
}
