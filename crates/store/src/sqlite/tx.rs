//! What one request sees of the transaction it runs in, and how a change of the domain's is written.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use freehold_domain::ids::InstanceId;
use freehold_domain::invariants::{Invariant, check_change};
use freehold_domain::lease::{Fenced, LeaseTerm};
use freehold_domain::protection::{Protection, stands};
use freehold_domain::run::{Change, LeakChange, Refused, Run};
use freehold_domain::time::Timestamp;
use freehold_engine::ports::{Answer, Clock, StoreError};
use rusqlite::params;

use super::db::{Columns, Db};
use super::error::corrupt;
use super::{audit, leaks, rows};

/// What every request shares.
pub(super) struct Desk {
    /// The store's clock: leases lapse and timers ring by it.
    pub(super) clock: Arc<dyn Clock>,
    /// How long a lease lasts.
    pub(super) lease_term: LeaseTerm,
    violations: Mutex<BTreeMap<Invariant, u64>>,
}

impl Desk {
    /// A desk on which nothing was ever found broken.
    pub(super) fn new(clock: Arc<dyn Clock>, lease_term: LeaseTerm) -> Self {
        Self { clock, lease_term, violations: Mutex::default() }
    }

    /// How many violations were seen, by invariant.
    pub(super) fn violations(&self) -> Vec<(Invariant, u64)> {
        let seen = self.violations.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().map(|(invariant, times)| (*invariant, *times)).collect()
    }

    /// Counts what a change breaks. Nothing is refused for it: the check is a witness, not a judge.
    fn check(&self, before: &Run, change: &Change) {
        for violation in check_change(before, change) {
            tracing::error!(
                invariant = violation.invariant.name(),
                instance = %change.run.reservation.instance,
                operation = %change.run.operation.id,
                detail = violation.detail,
                "an invariant is violated"
            );
            let mut seen = self.violations.lock().unwrap_or_else(PoisonError::into_inner);
            *seen.entry(violation.invariant).or_default() += 1;
        }
    }
}

/// One request's view of its batch's transaction.
#[derive(Clone, Copy)]
pub(super) struct Tx<'t> {
    db: Db<'t>,
    desk: &'t Desk,
    now: Timestamp,
}

impl<'t> Deref for Tx<'t> {
    type Target = Db<'t>;
    fn deref(&self) -> &Db<'t> {
        &self.db
    }
}

/// A run as it is loaded, with what only its rows know.
pub(super) struct Loaded {
    /// The context's row.
    pub(super) context_id: i64,
    /// The run.
    pub(super) run: Run,
}

/// What a run is loaded from.
macro_rules! loaded {
    ($condition:literal) => {
        concat!(
            "SELECT r.context_id, ",
            $crate::sqlite::rows::run_columns!(),
            " FROM reservations r JOIN contexts c ON c.id = r.context_id JOIN operations o ON o.id = r.operation_id \
              WHERE ",
            $condition
        )
    };
}

pub(super) const RUN_OF_INSTANCE: &str = loaded!("r.instance_id = ?1");

fn read_loaded(row: &mut Columns<'_>) -> Result<Loaded, StoreError> {
    Ok(Loaded { context_id: row.get()?, run: rows::run(row)? })
}

impl<'t> Tx<'t> {
    pub(super) fn new(db: Db<'t>, desk: &'t Desk) -> Self {
        Self { db, desk, now: desk.clock.now() }
    }

    /// The time by the store's clock, the same throughout the request.
    pub(super) fn now(&self) -> Timestamp {
        self.now
    }

    /// When a lease that this request gives lapses.
    pub(super) fn lease_until(&self) -> Timestamp {
        self.now().plus(self.desk.lease_term.0)
    }

    /// The run of an instance.
    pub(super) fn run_of(&self, instance: InstanceId) -> Result<Loaded, StoreError> {
        self.first(RUN_OF_INSTANCE, params![instance.as_bytes()], read_loaded)?.ok_or(StoreError::Missing("instance"))
    }

    /// Writes a change of a run that was loaded in this transaction: reservation, operations, route, leaks and events.
    pub(super) fn write(&self, loaded: &Loaded, change: &Change, answer: Option<&Answer>) -> Result<(), StoreError> {
        let Loaded { context_id, run: before } = loaded;
        let Change { run: after, replaced, route, leak, events } = change;
        self.desk.check(before, change);
        if !rows::reservation_update(self.db, &before.reservation, &after.reservation)? {
            return Err(self.fenced(before)?);
        }
        if let Some(replaced) = replaced {
            rows::operation_update(self.db, &before.operation, replaced)?;
        }
        if after.operation.id == before.operation.id {
            rows::operation_update(self.db, &before.operation, &after.operation)?;
        } else {
            rows::operation_insert(self.db, &after.operation, None)?;
        }
        if let Some(answer) = answer {
            self.answer(&after.operation, answer)?;
        }
        if let Some(route) = route {
            rows::route_update(self.db, &after.reservation, route)?;
        }
        let at = events.last().map_or(after.reservation.updated_at, |event| event.at);
        match leak {
            Some(LeakChange::Open { id, reason }) => {
                leaks::open(self.db, *id, after.reservation.instance, reason, at)?;
            }
            Some(LeakChange::Resolve) => leaks::resolve_of(self.db, after.reservation.instance, at)?,
            None => {}
        }
        if !stands(Protection::AuditInCommit) {
            return Ok(());
        }
        audit::append(self.db, *context_id, &after.reservation.context, events)
    }

    /// Keeps an answer where a key may ask for it again. The first one stays: one key has one answer.
    fn answer(&self, operation: &freehold_domain::operation::Operation, answer: &Answer) -> Result<(), StoreError> {
        self.run(
            "UPDATE operations SET answer_status = ?2, answer_body = ?3 \
             WHERE id = ?1 AND key_scope IS NOT NULL AND (answer_status IS NULL OR ?4)",
            params![operation.id.as_bytes(), answer.status, answer.body, !stands(Protection::FirstAnswerStays)],
        )?;
        Ok(())
    }

    /// Why a fenced statement changed no row.
    fn fenced(&self, before: &Run) -> Result<StoreError, StoreError> {
        let current = self.run_of(before.reservation.instance)?.run.reservation.epoch;
        let held = before.reservation.epoch;
        if held == current {
            return Err(corrupt("a row that is there was not written"));
        }
        Ok(StoreError::Refused(Refused::Fenced(Fenced { held, current })))
    }
}
