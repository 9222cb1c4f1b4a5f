//! Changes of hands.

use crate::event::{Actor, EventKind};
use crate::operation::{Operation, OperationStatus, Step, StepRecord, StepStatus};
use crate::protection::{Protection, stands};
use crate::reservation::Reservation;
use crate::time::Timestamp;

use super::journal::is_incomplete;
use super::{Change, Hold, Run};

/// Why an operation cannot be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unclaimable {
    /// It is over.
    #[error("the operation is over")]
    Over,
    /// Its timer has not rung: somebody holds it, or it rests.
    #[error("the operation is not due yet")]
    NotDue {
        /// When it is.
        at: Timestamp,
    },
}

/// Takes an operation over: from nobody, from a lapsed holder, or from an earlier life of the same node.
///
/// # Errors
/// [`Unclaimable`] when there is nothing to do, or somebody else may still be doing it.
pub fn claimed(run: &Run, hold: &Hold, now: Timestamp) -> Result<Change, Unclaimable> {
    let due_at = run.operation.due_at.ok_or(Unclaimable::Over)?;
    let orphaned = run
        .operation
        .holder
        .as_ref()
        .is_some_and(|holder| holder.node == hold.holder.node && holder.incarnation != hold.holder.incarnation);
    if due_at > now && !orphaned && stands(Protection::LeaseIsRespected) {
        return Err(Unclaimable::NotDue { at: due_at });
    }
    let mut run = run.clone();
    let previous = run.operation.holder.replace(hold.holder.clone());
    if stands(Protection::ClaimRaisesEpoch) {
        run.reservation.epoch = run.reservation.epoch.next();
    }
    run.operation.attempt += 1;
    run.operation.due_at = Some(hold.until);
    if run.operation.status == OperationStatus::Waiting {
        run.operation.status = OperationStatus::Running;
    }
    may_send_until_now(&mut run.reservation, &run.operation, now);
    let pays_in_doubt = run.operation.step(Step::Subscribe).is_some_and(|record| record.status == StepStatus::Noted);
    let in_doubt = |step: &&mut StepRecord| step.status == StepStatus::Noted && stands(Protection::CrashLeavesDoubt);
    for step in run.operation.steps.iter_mut().filter(in_doubt) {
        step.status = StepStatus::Unknown;
        step.finished_at = None;
        step.last_error = Some("the executor went away before it knew what came of it".to_owned());
    }
    let mut change = Change::of(run);
    if let Some(previous) = previous {
        change.tell(EventKind::ExecutorTakenOver, Actor::System, now, format!("from {}", previous.node));
        if pays_in_doubt && is_incomplete(&change.run) {
            let detail = "its subscription may have been started by an executor that went away";
            change.tell(EventKind::ReservationRepairRequired, Actor::System, now, detail);
        }
    }
    Ok(change)
}

/// A holder that renews its lease may send long after its note, up to the moment it is fenced and a lease beyond: that
/// moment counts as the last send of whatever has no finding.
pub(super) fn may_send_until_now(reservation: &mut Reservation, operation: &Operation, now: Timestamp) {
    let under_way = operation.steps.iter().any(|record| record.step.may_create() && record.status == StepStatus::Noted);
    if under_way && stands(Protection::SendsUntilFenced) {
        reservation.last_sent_at = reservation.last_sent_at.max(Some(now));
    }
}
