//! What one request sees of the transaction it runs in, and how a change of the domain's is written.

use std::ops::Deref;
use std::sync::Arc;

use freehold_domain::ids::InstanceId;
use freehold_domain::lease::{Fenced, LeaseTerm};
use freehold_domain::protection::{Protection, stands};
use freehold_domain::run::{Change, LeakChange, Refused, Run};
use freehold_domain::time::Timestamp;
use freehold_engine::ports::{Answer, Clock, StoreError};
use rusqlite::params;

use super::db::{Columns, Db};
use super::{audit, leaks, rows};
use crate::shared::corrupt;
use crate::shared::desk::{Moment, Violations};
use crate::shared::sentences::Said;

/// What every request shares.
pub(super) struct Desk {
    /// The store's clock: leases lapse and timers ring by it.
    pub(super) clock: Arc<dyn Clock>,
    /// How long a lease lasts.
    pub(super) lease_term: LeaseTerm,
    /// What was ever found broken.
    pub(super) violations: Violations,
}

impl Desk {
    /// A desk on which nothing was ever found broken.
    pub(super) fn new(clock: Arc<dyn Clock>, lease_term: LeaseTerm) -> Self {
        Self { clock, lease_term, violations: Violations::default() }
    }
}

/// One request's view of its batch's transaction.
#[derive(Clone, Copy)]
pub(super) struct Tx<'t> {
    db: Db<'t>,
    desk: &'t Desk,
    moment: Moment,
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
            $crate::shared::rows::run_columns!(),
            " FROM reservations r JOIN contexts c ON c.id = r.context_id JOIN operations o ON o.id = r.operation_id \
              WHERE ",
            $condition
        )
    };
}

pub(super) const RUN_OF_INSTANCE: &str = loaded!("r.instance_id = ?1");

fn read_loaded(row: &mut Columns<'_>) -> Result<Loaded, StoreError> {
    Ok(Loaded { context_id: row.get()?, run: crate::shared::rows::run(row)? })
}

impl<'t> Tx<'t> {
    pub(super) fn new(db: Db<'t>, desk: &'t Desk) -> Self {
        Self { db, desk, moment: Moment::at(desk.clock.now(), desk.lease_term) }
    }

    /// The time by the store's clock, the same throughout the request.
    pub(super) fn now(&self) -> Timestamp {
        self.moment.now
    }

    /// When a lease that this request gives lapses.
    pub(super) fn lease_until(&self) -> Timestamp {
        self.moment.lease_until
    }

    /// The run of an instance.
    pub(super) fn run_of(&self, instance: InstanceId) -> Result<Loaded, StoreError> {
        self.first(RUN_OF_INSTANCE, params![instance.as_bytes()], read_loaded)?.ok_or(StoreError::Missing("instance"))
    }

    /// Says a sentence about an instance: loads its run, lets it be decided, writes what follows.
    pub(super) fn say<T>(
        &self,
        instance: InstanceId,
        sentence: impl FnOnce(&Run, Moment) -> Result<Said<T>, StoreError>,
    ) -> Result<T, StoreError> {
        let loaded = self.run_of(instance)?;
        let Said { change, answer, out } = sentence(&loaded.run, self.moment)?;
        if let Some(change) = change {
            self.write(&loaded, &change, answer.as_ref())?;
        }
        Ok(out)
    }

    /// Writes a change of a run that was loaded in this transaction: reservation, operations, route, leaks and events.
    pub(super) fn write(&self, loaded: &Loaded, change: &Change, answer: Option<&Answer>) -> Result<(), StoreError> {
        let Loaded { context_id, run: before } = loaded;
        let Change { run: after, replaced, route, leak, events } = change;
        self.desk.violations.check(before, change);
        if !rows::reservation_update(self.db, &before.reservation, &after.reservation)? {
            return Err(self.fenced(before)?);
        }
        if let Some(replaced) = replaced {
            rows::operation_update(self.db, &before.operation, replaced)?;
        }
        if after.operation.id == before.operation.id {
            rows::operation_update(self.db, &before.operation, &after.operation)?;
        } else {
            rows::operation_insert(self.db, &after.reservation.context, &after.operation, None)?;
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
