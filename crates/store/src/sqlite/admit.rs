//! Admission: everything that a taken reservation is, in one commit. And the look that most conflicts end at.

use freehold_domain::ids::{InstanceId, OperationId};
use freehold_domain::ledger::{self, Entry};
use freehold_domain::owner::Context;
use freehold_domain::protection::{Protection, stands};
use freehold_domain::reservation::Status;
use freehold_domain::run::{self, Change};
use freehold_domain::time::Timestamp;
use freehold_engine::ports::{Admission, AdmitRefused, Admitted, ContextPeek, IdempotencyKey, StoreError};
use rusqlite::params;

use super::db::{Columns, Db};
use super::tx::Tx;
use super::{audit, rows};
use crate::shared::fields::Fields as _;

/// The operation that a key leads to.
pub(super) const KNOWN: &str = "SELECT key_fingerprint, id, instance_id FROM operations WHERE key_scope = ?1";

/// Where a key leads.
struct Known {
    fingerprint: [u8; 32],
    operation: OperationId,
    instance: InstanceId,
}

impl Known {
    fn by(db: Db<'_>, key: Option<IdempotencyKey>) -> Result<Option<(Self, bool)>, StoreError> {
        let Some(key) = key.filter(|_| stands(Protection::KeyIsKept)) else { return Ok(None) };
        let read =
            |row: &mut Columns<'_>| Ok(Self { fingerprint: row.bytes()?, operation: row.id()?, instance: row.id()? });
        let known = db.first(KNOWN, [key.scope], read)?;
        Ok(known.map(|known| {
            let same = known.fingerprint == key.fingerprint || !stands(Protection::FingerprintIsChecked);
            (known, same)
        }))
    }
}

pub(super) const CONTEXT_ID: &str = "SELECT id FROM contexts WHERE owner = ?1 AND assigned_user = ?2";

/// What is in a context's ledger; tombstones do not count, and are not read.
pub(super) const LEDGER: &str = "\
    SELECT instance_id, operation_id, status, status_reason, destroy_at FROM reservations \
    WHERE context_id = ?1 AND status IN ('in_progress', 'failed_requires_reconciliation', 'completed')";

pub(super) fn entry(row: &mut Columns<'_>) -> Result<Entry, StoreError> {
    Ok(Entry {
        instance: row.id()?,
        operation: row.id()?,
        status: crate::shared::rows::status(row)?,
        destroying: row.time_or_null()?.is_some(),
    })
}

/// Takes a reservation, if the domain lets it.
pub(super) fn admit(tx: Tx<'_>, admission: &Admission) -> Result<Result<Admitted, AdmitRefused>, StoreError> {
    let Admission { bid, asked, limit, idempotency } = admission;
    match Known::by(*tx, *idempotency)? {
        Some((Known { operation, instance, .. }, true)) => return Ok(Ok(Admitted::Replayed { operation, instance })),
        Some((_, false)) => return Ok(Err(AdmitRefused::KeyReused)),
        None => {}
    }
    let owner = bid.context.owner().to_string();
    let context_id: Option<i64> =
        tx.first(CONTEXT_ID, params![owner, bid.context.assigned_user().as_str()], |row| row.get())?;
    let entries = match context_id {
        Some(id) => tx.all(LEDGER, [id], entry)?,
        None => Vec::new(),
    };
    if let Err(refusal) = ledger::admit(&entries, *limit) {
        return Ok(Err(AdmitRefused::Conflict(refusal)));
    }
    // An admission begins a run, and touches none of what a change of a run may replace.
    let Change { run, replaced: _, route: _, leak: _, events } =
        run::admitted(bid.clone(), &asked.commission(tx.now(), tx.lease_until()), tx.now());
    let context_id = match context_id {
        Some(id) => {
            audit::append(*tx, id, &run.reservation.context, &events)?;
            id
        }
        None => audit::begin(*tx, &run.reservation.context, &events)?,
    };
    rows::reservation_insert(*tx, context_id, &run.reservation)?;
    rows::operation_insert(*tx, &bid.context, &run.operation, idempotency.as_ref())?;
    Ok(Ok(Admitted::Taken(Box::new(run))))
}

/// The ledger of a context by name, with the timers of what works on it.
pub(super) const PEEK: &str = "\
    SELECT r.instance_id, r.operation_id, r.status, r.status_reason, r.destroy_at, o.due_at \
    FROM contexts c CROSS JOIN reservations r ON r.context_id = c.id CROSS JOIN operations o ON o.id = r.operation_id \
    WHERE c.owner = ?1 AND c.assigned_user = ?2 \
        AND r.status IN ('in_progress', 'failed_requires_reconciliation', 'completed')";

/// Looks at a context without a transaction.
///
/// The context is read before the key: a caller that sees somebody's reservation there sees the key that led to it, so a
/// retry is never told that it is in its own way.
pub(super) fn peek(
    db: Db<'_>,
    context: &Context,
    limit: u32,
    key: Option<IdempotencyKey>,
    now: Timestamp,
) -> Result<ContextPeek, StoreError> {
    let entries = db.all(PEEK, params![context.owner().to_string(), context.assigned_user().as_str()], |row| {
        Ok((entry(row)?, row.time_or_null()?))
    })?;
    match Known::by(db, key)? {
        Some((Known { operation, instance, .. }, true)) => return Ok(ContextPeek::Replayed { operation, instance }),
        Some((_, false)) => return Ok(ContextPeek::KeyReused),
        None => {}
    }
    let (entries, timers): (Vec<Entry>, Vec<Option<Timestamp>>) = entries.into_iter().unzip();
    let Err(refusal) = ledger::admit(&entries, limit) else { return Ok(ContextPeek::Free) };
    let unattended = match refusal {
        ledger::Refusal::AlreadyActive { .. } => false,
        ledger::Refusal::InProgress { instance, status, .. } => {
            let rang = entries
                .iter()
                .zip(timers)
                .any(|(entry, timer)| entry.instance == instance && timer.is_none_or(|due_at| due_at <= now));
            match status {
                Status::NeedsReconciliation { .. } => true,
                Status::InProgress | Status::Completed | Status::Released { .. } => rang,
            }
        }
    };
    Ok(ContextPeek::Taken { refusal, unattended })
}
