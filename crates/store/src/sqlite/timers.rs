//! What is due, and what does not get on. Everything here reads an index from its front.

use std::collections::BTreeSet;

use freehold_domain::ids::{InstanceId, OperationId};
use freehold_domain::time::Timestamp;
use freehold_engine::ports::{StoreError, Stuck, UnresolvedSummary};
use rusqlite::params;

use super::db::{Columns, Db, limit};
use crate::shared::corrupt;
use crate::shared::fields::Fields as _;
use crate::shared::json;
use crate::shared::parts::SHARDS;

/// How many turns each part of the timers has in one look.
const OF_A_PART: usize = 8;

pub(super) const DUE: &str = "SELECT id FROM operations WHERE due_at <= ?1 ORDER BY due_at LIMIT ?2";
pub(super) const DUE_OF_PART: &str = "\
    SELECT due_at, id FROM operations INDEXED BY operations_due_in_part \
    WHERE shard = ?1 AND due_at <= ?2 ORDER BY due_at LIMIT ?3";
pub(super) const DUE_NEXT: &str = "SELECT min(due_at) FROM operations WHERE due_at IS NOT NULL";
const LATEST: &str = "\
    SELECT max(r.updated_at) FROM operations o CROSS JOIN reservations r ON r.instance_id = o.instance_id \
    WHERE o.due_at IS NOT NULL";
pub(super) const TO_CHECK: &str =
    "SELECT instance_id FROM reservations WHERE check_at <= ?1 ORDER BY check_at LIMIT ?2";
pub(super) const STUCK: &str = "\
    SELECT r.instance_id, r.destroy_at, o.steps, o.failure \
    FROM reservations r JOIN operations o ON o.id = r.operation_id \
    WHERE r.destroy_at < ?1 AND r.destroy_at IS NOT NULL AND r.released_at IS NULL ORDER BY r.destroy_at LIMIT ?2";

/// Operations whose timer has rung: longest first, and where there are more than wanted, the parts of the timers take turns
/// before the longest of all fill up what is left.
pub(super) fn due(db: Db<'_>, now: Timestamp, wanted: usize) -> Result<Vec<OperationId>, StoreError> {
    let at = now.as_micros();
    let wanted = usize::try_from(limit(wanted)).unwrap_or(usize::MAX);
    let longest: Vec<OperationId> = db.all(DUE, params![at, limit(wanted.saturating_add(1))], |row| row.id())?;
    if longest.len() <= wanted {
        return Ok(longest);
    }
    let mut turns = Vec::new();
    for part in 0..SHARDS {
        let front = db.all(DUE_OF_PART, params![part, at, limit(wanted.min(OF_A_PART))], |row| {
            Ok((row.time()?, row.id::<OperationId>()?))
        })?;
        turns.extend(front.into_iter().enumerate());
    }
    turns.sort_unstable();
    let mut due: Vec<OperationId> = turns.into_iter().map(|(_turn, (_since, id))| id).take(wanted).collect();
    let listed: BTreeSet<OperationId> = due.iter().copied().collect();
    let left = wanted - due.len();
    due.extend(longest.into_iter().filter(|id| !listed.contains(id)).take(left));
    Ok(due)
}

/// When the next timer rings.
pub(super) fn due_next(db: Db<'_>) -> Result<Option<Timestamp>, StoreError> {
    Ok(db.first(DUE_NEXT, [], |row| row.time_or_null())?.flatten())
}

/// The latest time on record: of the last event, and of everything that is not over. What is over waits for no clock.
pub(super) fn latest(db: Db<'_>) -> Result<Option<Timestamp>, StoreError> {
    let last_told = db.first("SELECT at FROM audit ORDER BY position DESC LIMIT 1", [], |row| row.time())?;
    let last_written = db.first(LATEST, [], |row| row.time_or_null())?.flatten();
    Ok(last_told.max(last_written))
}

/// When the database took the first step of its schema.
pub(super) fn made_at(db: Db<'_>) -> Result<Timestamp, StoreError> {
    let first = "SELECT applied_at FROM schema_migrations ORDER BY version LIMIT 1";
    db.first(first, [], |row| row.time())?.ok_or_else(|| corrupt("a database without a step of a schema"))
}

/// Complete instances to look at, longest overdue first.
pub(super) fn to_check(db: Db<'_>, now: Timestamp, wanted: usize) -> Result<Vec<InstanceId>, StoreError> {
    db.all(TO_CHECK, params![now.as_micros(), limit(wanted)], |row| row.id())
}

/// Destroys that were accepted before `before` and are not finished.
pub(super) fn stuck(db: Db<'_>, before: Timestamp, wanted: usize) -> Result<Vec<Stuck>, StoreError> {
    db.all(STUCK, params![before.as_micros(), limit(wanted)], |row| {
        let (instance, since) = (row.id()?, row.time()?);
        let steps = json::read_steps(row.text()?)?;
        let failure = row.text_or_null()?.map(json::read_failure).transpose()?;
        let last = steps.into_iter().filter(|step| step.last_error.is_some()).max_by_key(|step| step.finished_at);
        let last_error = last.and_then(|step| step.last_error).or(failure.map(|failure| failure.detail));
        Ok(Stuck { instance, since, last_error })
    })
}

/// How much is unresolved.
pub(super) fn summary(db: Db<'_>, now: Timestamp) -> Result<UnresolvedSummary, StoreError> {
    let read = |row: &mut Columns<'_>| {
        Ok(UnresolvedSummary {
            in_progress: row.count()?,
            needs_reconciliation: row.count()?,
            oldest: row.time_or_null()?,
            timers_due: row.count()?,
            leaks_open: row.count()?,
        })
    };
    let summary = db.first(
        "SELECT count(*) FILTER (WHERE status = 'in_progress'), \
             count(*) FILTER (WHERE status = 'failed_requires_reconciliation'), \
             min(started_at), \
             (SELECT count(*) FROM operations WHERE due_at <= ?1), \
             (SELECT count(*) FROM leaks WHERE resolved_at IS NULL) \
         FROM reservations INDEXED BY reservations_one_unresolved \
         WHERE status IN ('in_progress', 'failed_requires_reconciliation')",
        [now.as_micros()],
        read,
    )?;
    Ok(summary.unwrap_or_default())
}
