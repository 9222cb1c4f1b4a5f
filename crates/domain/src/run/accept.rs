//! What people ask for, and what a look at a runtime saw. Accepted in one commit each.

use crate::event::{Actor, EventKind};
use crate::evidence::Release;
use crate::ids::OperationId;
use crate::lease::{Epoch, Fenced};
use crate::operation::{Failure, FailureCode, OperationKind, OperationStatus};
use crate::protection::{Protection, stands};
use crate::records::CanonicalSuccess;
use crate::reservation::{FrozenSpec, IllegalTransition, Intent, Power, Reservation, Status, StatusChange};
use crate::resource::RuntimeState;
use crate::route::{Endpoint, Route};
use crate::time::Timestamp;
use std::time::Duration;

use super::claim::may_send_until_now;
use super::settle::{complete, end, release};
use super::{Change, Commission, Run, fence};

/// What asking for a destroy amounts to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destroy {
    /// There is nothing left to destroy.
    Finished,
    /// It is accepted already; this operation does it.
    Underway(OperationId),
    /// It is accepted now.
    Accepted(Box<Change>),
}

/// Accepts a destroy. Its intent is set for ever, the epoch rises, whatever worked on the instance is fenced, the route
/// becomes a tombstone, and a complete instance stops counting in its context: all in one commit.
#[must_use]
pub fn destroyed(run: &Run, reason: Option<String>, commission: &Commission, at: Timestamp) -> Destroy {
    match run.reservation.status {
        Status::Released { .. } => return Destroy::Finished,
        Status::InProgress | Status::NeedsReconciliation { .. } | Status::Completed => {}
    }
    if run.reservation.intent.is_destroy() {
        return Destroy::Underway(run.reservation.operation);
    }
    let mut reservation = run.reservation.clone();
    reservation.intent = Intent::Destroy { at, reason: reason.clone() };
    let mut change = replace(run, reservation, OperationKind::Destroy, None, commission, at);
    if stands(Protection::DestroyBuriesRoute) {
        change.route = Some(Route::Tombstone { at });
    }
    change.run.reservation.check_at = Timestamp::NEVER;
    if let Ok(status) = change.run.reservation.status.apply(&StatusChange::GiveUp(FailureCode::Cancelled)) {
        change.run.reservation.status = status;
    }
    change.tell(EventKind::DestroyStarted, commission.actor, at, reason.unwrap_or_default());
    Destroy::Accepted(Box::new(change))
}

/// Puts another operation in the place of the one at hand: the epoch rises, so whoever ran the old one is fenced. A step
/// whose finding is missing stays in doubt: its send remains unanswered.
pub(super) fn replace(
    run: &Run,
    mut reservation: Reservation,
    kind: OperationKind,
    spec: Option<FrozenSpec>,
    commission: &Commission,
    at: Timestamp,
) -> Change {
    let replaced = (!run.operation.status.is_over()).then(|| {
        let mut old = run.operation.clone();
        end(&mut old, OperationStatus::Cancelled, at);
        old.failure.get_or_insert(Failure {
            code: FailureCode::Cancelled,
            rejection: None,
            detail: format!("replaced by {}", kind.name()),
        });
        old
    });
    if !run.operation.status.is_over() {
        may_send_until_now(&mut reservation, &run.operation, at);
    }
    if stands(Protection::ReplacingRaisesEpoch) {
        reservation.epoch = reservation.epoch.next();
    }
    reservation.operation = commission.operation;
    reservation.updated_at = at.max(reservation.updated_at);
    let operation = commission.begin(&reservation, kind, spec, at);
    let mut change = Change::of(Run { reservation, operation });
    change.replaced = replaced;
    change
}

/// Work on a complete instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Start its runtime.
    Start,
    /// Stop its runtime.
    Stop,
    /// Stop and start its runtime.
    Restart,
    /// Apply another spec.
    Update(FrozenSpec),
    /// Bring its runtime back.
    Recover,
    /// Write again what the records lost, or publish what they prove.
    Mend,
}

impl Work {
    /// The kind of operation that does it.
    #[must_use]
    pub fn kind(&self) -> OperationKind {
        match self {
            Self::Start => OperationKind::Start,
            Self::Stop => OperationKind::Stop,
            Self::Restart => OperationKind::Restart,
            Self::Update(_) => OperationKind::Update,
            Self::Recover => OperationKind::Recover,
            Self::Mend => OperationKind::Mend,
        }
    }
}

/// What asking for work amounts to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    /// It is as asked already.
    NothingToDo,
    /// The same is under way; this operation does it.
    Underway(OperationId),
    /// It is accepted.
    Accepted(Box<Change>),
}

/// Why work cannot be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkRefused {
    /// The instance is not complete yet.
    #[error("the instance is still being made")]
    InProgress,
    /// Destroy was accepted, or the instance is gone.
    #[error("the instance is destroyed")]
    Destroyed,
}

/// Accepts work on a complete instance. What is under way is replaced, so nobody waits; asking for the same start, stop
/// or restart twice is asking once.
///
/// # Errors
/// [`WorkRefused`] unless the instance is complete and wanted.
pub fn begun(run: &Run, work: Work, commission: &Commission, at: Timestamp) -> Result<Begin, WorkRefused> {
    match run.reservation.status {
        Status::InProgress => return Err(WorkRefused::InProgress),
        Status::NeedsReconciliation { .. } if !run.reservation.intent.is_destroy() => {
            return Err(WorkRefused::InProgress);
        }
        Status::NeedsReconciliation { .. } | Status::Released { .. } => return Err(WorkRefused::Destroyed),
        Status::Completed if run.reservation.intent.is_destroy() => return Err(WorkRefused::Destroyed),
        // Taken in, and not published yet: only what may publish it takes the place of what waits for that.
        Status::Completed if run.reservation.completed_at.is_none() && work != Work::Mend => {
            return Err(WorkRefused::InProgress);
        }
        Status::Completed => {}
    }
    let kind = work.kind();
    // A sweep is nobody's work: the instance does what it did before, and whatever is asked for takes the sweep's place.
    let idle = run.operation.status.is_over() || run.operation.kind == OperationKind::Sweep;
    let seen = run.reservation.runtime.as_ref().map(|(state, _)| state);
    let (power, spec, repeats) = match work {
        Work::Start => {
            let up = matches!(seen, Some(RuntimeState::Running | RuntimeState::Starting));
            if idle && run.reservation.power == Power::On && up {
                return Ok(Begin::NothingToDo);
            }
            (Power::On, None, true)
        }
        Work::Stop => {
            if idle && run.reservation.power == Power::Off && seen == Some(&RuntimeState::Stopped) {
                return Ok(Begin::NothingToDo);
            }
            (Power::Off, None, true)
        }
        Work::Restart => (Power::On, None, true),
        Work::Recover => {
            // Recovery never pushes anything aside: what people asked for is under way already.
            if !idle || run.reservation.power == Power::Off {
                return Ok(Begin::NothingToDo);
            }
            (Power::On, None, true)
        }
        Work::Mend => {
            // Whatever people asked for goes first; the records can wait.
            if !idle && run.operation.kind != OperationKind::Adopt {
                return Ok(Begin::NothingToDo);
            }
            (run.reservation.power, None, true)
        }
        Work::Update(spec) => {
            if idle && spec == run.reservation.spec {
                return Ok(Begin::NothingToDo);
            }
            let repeats = run.operation.spec.as_ref() == Some(&spec);
            (run.reservation.power, Some(spec), repeats)
        }
    };
    if !idle && repeats && run.operation.kind == kind {
        return Ok(Begin::Underway(run.operation.id));
    }
    // An update that something replaces would be forgotten: it goes on inside what replaces it.
    let spec = spec.or_else(|| run.operation.spec.clone().filter(|_| !idle));
    let mut reservation = run.reservation.clone();
    reservation.power = power;
    if kind == OperationKind::Recover {
        reservation.recoveries += 1;
    }
    let mut change = replace(run, reservation, kind, spec, commission, at);
    change.tell(EventKind::OperationStarted, commission.actor, at, kind.name());
    Ok(Begin::Accepted(Box::new(change)))
}

/// Completes a reservation whose canonical success is on record, whoever held it.
///
/// # Errors
/// [`IllegalTransition`] when it is not unresolved, is to be destroyed, or what was made is being undone.
pub fn repaired(
    run: &Run,
    proof: &CanonicalSuccess,
    endpoint: &Endpoint,
    actor: Actor,
    at: Timestamp,
    check_at: Timestamp,
) -> Result<Change, IllegalTransition> {
    let mut change = Change::of(run.clone());
    change.run.reservation.epoch = run.reservation.epoch.next();
    change.run.reservation.updated_at = at.max(run.reservation.updated_at);
    complete(&mut change, proof, endpoint, at, check_at)?;
    change.events.clear();
    change.tell(EventKind::ReservationRepaired, actor, at, "");
    Ok(change)
}

/// Releases a reservation on an operator's word: the executor is fenced, a leak is opened, and cleaning up goes on
/// behind it as a new operation.
///
/// # Errors
/// [`IllegalTransition`] unless it is unresolved.
pub fn overridden(
    run: &Run,
    said: crate::evidence::OperatorOverride,
    commission: &Commission,
    at: Timestamp,
) -> Result<Change, IllegalTransition> {
    if !run.reservation.status.is_unresolved() {
        return Err(IllegalTransition { from: run.reservation.status.name(), change: "be released by an operator" });
    }
    let mut change = replace(run, run.reservation.clone(), OperationKind::Destroy, None, commission, at);
    release(&mut change, &Release::OperatorOverride(said), commission.actor, at)?;
    Ok(change)
}

/// Puts down what a look at a complete instance's runtime saw, between operations.
///
/// # Errors
/// [`Fenced`] if the instance changed hands since it was looked at; the look is worth nothing then.
pub fn watched(
    run: &Run,
    held: Epoch,
    state: RuntimeState,
    at: Timestamp,
    check_at: Timestamp,
    settled_after: Duration,
) -> Result<Change, Fenced> {
    fence(run, held)?;
    let mut change = Change::of(run.clone());
    let reservation = &mut change.run.reservation;
    if reservation.status == Status::Completed && !reservation.intent.is_destroy() {
        let up_since = run.operation.finished_at.unwrap_or(at);
        if state == RuntimeState::Running && at.since(up_since) >= settled_after {
            reservation.recoveries = 0;
        }
        reservation.runtime = Some((state, at));
        reservation.check_at = check_at;
    }
    Ok(change)
}
