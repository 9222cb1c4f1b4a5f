//! How an operation ends, or turns from making to cleaning up.

use crate::event::{Actor, EventKind};
use crate::evidence::Release;
use crate::lease::Epoch;
use crate::operation::{Failure, Operation, OperationKind, OperationStatus, Step};
use crate::protection::{Protection, stands};
use crate::records::CanonicalSuccess;
use crate::reservation::{IllegalTransition, Reservation, Resolution, Status, StatusChange};
use crate::resource::Footprint;
use crate::route::{Endpoint, Route};
use crate::time::Timestamp;

use super::journal::{Finding, fold};
use super::{Change, LeakChange, Refused, Run, fence, still_on};

/// How an operation ends, or turns around.
#[derive(Debug)]
pub enum Settlement {
    /// Canonical success: publish the route.
    Complete {
        /// The proof.
        proof: CanonicalSuccess,
        /// Where traffic goes.
        endpoint: Endpoint,
    },
    /// Going forward is given up with work started; cleaning up begins.
    GiveUp(Failure),
    /// The reservation is over.
    Release {
        /// Why that is safe.
        evidence: Release,
        /// What went wrong, where this is not the end of a destroy.
        failure: Option<Failure>,
    },
    /// The operation did what it was for; the route follows the runtime.
    Succeed {
        /// Where traffic goes from then on, where it may have changed.
        endpoint: Option<Endpoint>,
    },
    /// The operation did not, and the instance stays as it is.
    Fail(Failure),
}

/// A settlement, with the finding that led to it.
#[derive(Debug)]
pub struct Settle {
    /// When.
    pub at: Timestamp,
    /// What came of the last step.
    pub finding: Option<(Step, Finding)>,
    /// What it amounts to.
    pub settlement: Settlement,
    /// When to look at a completed instance's runtime next.
    pub check_at: Timestamp,
}

/// Commits the end of an operation, or its turn from making to cleaning up.
///
/// # Errors
/// [`Refused::Fenced`] under an old epoch; [`Refused::Illegal`] for what the state machine does not have.
pub fn settled(run: &Run, held: Epoch, settle: &Settle) -> Result<Change, Refused> {
    fence(run, held)?;
    still_on(run)?;
    let mut change = Change::of(run.clone());
    let at = settle.at.max(run.reservation.updated_at);
    change.run.reservation.updated_at = at;
    if let Some((step, finding)) = &settle.finding {
        fold(&mut change, *step, finding, settle.at);
    }
    match &settle.settlement {
        Settlement::Complete { proof, endpoint } => complete(&mut change, proof, endpoint, at, settle.check_at)?,
        Settlement::GiveUp(failure) => {
            let reservation = &mut change.run.reservation;
            reservation.status = reservation.status.apply(&StatusChange::GiveUp(failure.code))?;
            change.run.operation.status = OperationStatus::Reconciling;
            change.run.operation.failure = Some(failure.clone());
            let detail = format!("{}: {}", failure.code.name(), failure.detail);
            change.tell(EventKind::ReservationFailed, Actor::System, at, detail);
            if has_row_without_subscription(&change.run.operation) {
                let detail = format!("its row is on record without a subscription: {}", failure.detail);
                change.tell(EventKind::SubscriptionBootstrapQuarantined, Actor::System, at, detail);
            }
        }
        Settlement::Release { evidence, failure } => {
            if let Some(failure) = failure {
                change.run.operation.failure.get_or_insert_with(|| failure.clone());
            }
            let succeeded = change.run.operation.kind == OperationKind::Destroy;
            release(&mut change, evidence, Actor::System, at)?;
            end(
                &mut change.run.operation,
                if succeeded { OperationStatus::Succeeded } else { OperationStatus::Failed },
                at,
            );
            if change.run.operation.kind == OperationKind::Provision {
                let failure = change.run.operation.failure.as_ref();
                let detail = failure.map(|failure| format!("{}: {}", failure.code.name(), failure.detail));
                change.tell(EventKind::ProvisioningFailed, Actor::System, at, detail.unwrap_or_default());
            }
        }
        Settlement::Succeed { endpoint } => {
            may_end(&change.run.reservation)?;
            succeed(&mut change, endpoint.as_ref(), at, settle.check_at);
        }
        Settlement::Fail(failure) => {
            may_end(&change.run.reservation)?;
            change.run.operation.failure = Some(failure.clone());
            change.run.reservation.check_at = settle.check_at;
            end(&mut change.run.operation, OperationStatus::Failed, at);
            let detail = format!("{}: {}", change.run.operation.kind.name(), failure.detail);
            change.tell(EventKind::OperationFailed, Actor::System, at, detail);
        }
    }
    Ok(change)
}

/// An operation ends without a transition only where nothing is left to do: what is unresolved, or is to be destroyed and
/// is not released, always has an operation that works on it.
fn may_end(reservation: &Reservation) -> Result<(), IllegalTransition> {
    match reservation.status {
        Status::Completed if !reservation.intent.is_destroy() => Ok(()),
        // Released on an operator's word, or swept after its release: its leak stays open while anything is on record.
        Status::Released { .. } if reservation.footprint() != Footprint::There => Ok(()),
        Status::InProgress | Status::NeedsReconciliation { .. } | Status::Completed | Status::Released { .. } => {
            Err(IllegalTransition { from: reservation.status.name(), change: "be left without an operation" })
        }
    }
}

/// Whether an operation wrote the canonical row and has no subscription for it.
fn has_row_without_subscription(operation: &Operation) -> bool {
    let unpaid = !operation.has_done(Step::Subscribe);
    // A subscription is asked for only once the row is active, whoever wrote it.
    unpaid && (operation.has_done(Step::Record) || operation.step(Step::Subscribe).is_some())
}

pub(super) fn end(operation: &mut Operation, status: OperationStatus, at: Timestamp) {
    operation.status = status;
    operation.holder = None;
    operation.due_at = None;
    operation.finished_at = Some(at);
}

pub(super) fn complete(
    change: &mut Change,
    proof: &CanonicalSuccess,
    endpoint: &Endpoint,
    at: Timestamp,
    check_at: Timestamp,
) -> Result<(), IllegalTransition> {
    let undone = change.run.is_being_undone() && stands(Protection::UndoneIsNotCompleted);
    let reservation = &mut change.run.reservation;
    // What was taken in is complete already, and is published now.
    let taken_in = matches!(change.run.operation.kind, OperationKind::Adopt | OperationKind::Mend);
    let status = match reservation.status {
        Status::Completed if taken_in => Status::Completed,
        from => from.apply(&StatusChange::Complete(proof))?,
    };
    let unwanted = reservation.intent.is_destroy() && stands(Protection::DestroyBeatsCompletion);
    let lawful = proof.instance() == reservation.instance && !unwanted && !undone;
    if !lawful {
        return Err(IllegalTransition { from: reservation.status.name(), change: "become routable" });
    }
    reservation.status = status;
    let published = reservation.completed_at.is_some();
    reservation.completed_at.get_or_insert(at);
    reservation.check_at = check_at;
    change.route = Some(Route::Live { endpoint: endpoint.clone(), epoch: reservation.epoch });
    end(&mut change.run.operation, OperationStatus::Succeeded, at);
    let event = if published { EventKind::RecordsMended } else { EventKind::ReservationCompleted };
    change.tell(event, Actor::System, at, "");
    Ok(())
}

pub(super) fn release(
    change: &mut Change,
    evidence: &Release,
    actor: Actor,
    at: Timestamp,
) -> Result<(), IllegalTransition> {
    let reservation = &mut change.run.reservation;
    let failure = change.run.operation.failure.as_ref();
    let was_rejected = failure.is_some_and(|failure| failure.rejection.is_some());
    let because = evidence.resolution(reservation, was_rejected);
    reservation.status = reservation.status.apply(&StatusChange::Release(evidence, because))?;
    reservation.released_at = Some(at);
    reservation.check_at = Timestamp::NEVER;
    change.route = Some(Route::Tombstone { at });
    let kind = match because {
        Resolution::InstanceDestroyed => EventKind::Destroyed,
        Resolution::FailedBeforeProviderWork
        | Resolution::ProviderRejected
        | Resolution::ActiveInstanceExists
        | Resolution::AbsenceProven
        | Resolution::OperatorOverride => EventKind::ReservationReleased,
    };
    let mut detail = format!("{}, on evidence {}", because.name(), evidence.name());
    if let Release::OperatorOverride(said) = evidence {
        detail = format!("{detail}: {}", said.reason());
        change.leak = Some(LeakChange::Open { id: said.leak(), reason: said.reason().to_owned() });
    }
    change.tell(kind, actor, at, detail);
    Ok(())
}

fn succeed(change: &mut Change, endpoint: Option<&Endpoint>, at: Timestamp, check_at: Timestamp) {
    let Run { reservation, operation } = &mut change.run;
    let (kind, removed) = (operation.kind, operation.has_done(Step::Remove));
    end(operation, OperationStatus::Succeeded, at);
    let event = match kind {
        // The clean-up after an override: the reservation is released already, and what was leaked is gone.
        OperationKind::Provision | OperationKind::Destroy => {
            change.leak = Some(LeakChange::Resolve);
            change.tell(EventKind::OrphanRemoved, Actor::System, at, "what was released on an operator's word is gone");
            return;
        }
        // The instance is as it was: neither its route nor its next look changes.
        OperationKind::Sweep => {
            if matches!(reservation.status, Status::Released { .. }) {
                change.leak = Some(LeakChange::Resolve);
            }
            if removed {
                change.tell(EventKind::OrphanRemoved, Actor::System, at, "what nothing referred to is gone");
            }
            return;
        }
        OperationKind::Adopt | OperationKind::Mend => return,
        OperationKind::Start => EventKind::Started,
        OperationKind::Stop => EventKind::Stopped,
        OperationKind::Restart => EventKind::Restarted,
        OperationKind::Recover => EventKind::Recovered,
        OperationKind::Update => EventKind::Updated,
    };
    // Whatever the operation is for, it may carry an update that it replaced.
    if let Some(spec) = operation.spec.clone() {
        reservation.spec = spec;
    }
    reservation.check_at = check_at;
    if let Some(endpoint) = endpoint {
        change.route = Some(Route::Live { endpoint: endpoint.clone(), epoch: reservation.epoch });
    }
    change.tell(event, Actor::System, at, "");
}
