//! The sentences that change a run, as the domain decides them: what to write, if anything, and what to say. How a run is
//! read and how what is said here is committed is each store's own.

use std::time::Duration;

use freehold_domain::event::{Actor, Event, EventKind};
use freehold_domain::evidence::OperatorOverride;
use freehold_domain::ids::LeakId;
use freehold_domain::lease::{Epoch, Holder, Lease};
use freehold_domain::protection::{Protection, stands};
use freehold_domain::records::CanonicalSuccess;
use freehold_domain::reservation::IllegalTransition;
use freehold_domain::resource::{Resource, RuntimeState};
use freehold_domain::route::Endpoint;
use freehold_domain::run::{self, Begin, Change, Destroy, Hold, Note, Refused, Run, Settle, Then, Unclaimable, Work};
use freehold_domain::time::Timestamp;
use freehold_engine::ports::{Answer, Asked, DestroyAccepted, StoreError, WorkAccepted};

use super::corrupt;
use super::desk::Moment;

/// What a sentence came to.
pub(crate) struct Said<T> {
    /// What is to be written; `None` where nothing changes.
    pub(crate) change: Option<Change>,
    /// The answer to keep for the caller's key.
    pub(crate) answer: Option<Answer>,
    /// What its asker hears, once everything is committed.
    pub(crate) out: T,
}

impl<T> Said<T> {
    pub(crate) fn nothing(out: T) -> Self {
        Self { change: None, answer: None, out }
    }

    pub(crate) fn changed(change: Change, out: T) -> Self {
        Self { change: Some(change), answer: None, out }
    }
}

type Spoken<T> = Result<Said<T>, StoreError>;

/// Takes an operation over.
pub(crate) fn claim(run: &Run, holder: &Holder, moment: Moment) -> Spoken<Result<(Run, Lease), Unclaimable>> {
    // The clock may jump; an instance's time does not run backwards.
    let now = moment.now.max(run.reservation.updated_at);
    match run::claimed(run, &Hold { holder: holder.clone(), until: moment.lease_until }, now) {
        Err(unclaimable) => Ok(Said::nothing(Err(unclaimable))),
        Ok(change) => {
            let lease = change.run.lease().ok_or_else(|| corrupt("a claim that nobody holds"))?;
            let run = change.run.clone();
            Ok(Said::changed(change, Ok((run, lease))))
        }
    }
}

/// Gives a lease back: its operation rests until now. One that is lost already has nothing to give.
pub(crate) fn give_back(run: &Run, lease: &Lease, moment: Moment) -> Said<()> {
    let operation = &run.operation;
    let theirs = operation.id == lease.operation && operation.holder.as_ref() == Some(&lease.holder);
    let mut held = lease.epoch;
    if !stands(Protection::LeaseIsItsHolders) {
        held = run.reservation.epoch;
    } else if !theirs {
        return Said::nothing(());
    }
    let rest = Note { at: moment.now, finding: None, then: Then::Rest(moment.now) };
    match run::noted(run, held, &rest) {
        Ok(change) => Said::changed(change, ()),
        Err(_) => Said::nothing(()),
    }
}

/// Commits a finding and what follows from it.
pub(crate) fn note(run: &Run, lease: &Lease, note: &Note) -> Spoken<Run> {
    let change = run::noted(run, lease.epoch, note)?;
    let run = change.run.clone();
    Ok(Said::changed(change, run))
}

/// Commits an end, or the turn to cleaning up.
pub(crate) fn settle(run: &Run, lease: &Lease, settle: &Settle, answer: Option<&Answer>) -> Spoken<Run> {
    let change = run::settled(run, lease.epoch, settle)?;
    let run = change.run.clone();
    Ok(Said { change: Some(change), answer: answer.cloned(), out: run })
}

/// What a look at a runtime saw between operations.
pub(crate) struct Watched {
    pub(crate) epoch: Epoch,
    pub(crate) state: RuntimeState,
    pub(crate) at: Timestamp,
    pub(crate) check_at: Timestamp,
    pub(crate) settled_after: Duration,
}

/// Puts down what a look at a runtime saw.
pub(crate) fn watched(run: &Run, saw: &Watched) -> Spoken<()> {
    let Watched { epoch, state, at, check_at, settled_after } = saw;
    let change = run::watched(run, *epoch, state.clone(), *at, *check_at, *settled_after).map_err(Refused::Fenced)?;
    Ok(Said::changed(change, ()))
}

/// Puts an event on an instance's trail that no transition makes.
pub(crate) fn witness(run: &Run, kind: EventKind, actor: Actor, at: Timestamp, detail: &str) -> Event {
    let reservation = &run.reservation;
    Event {
        kind,
        instance: reservation.instance,
        operation: reservation.operation,
        epoch: reservation.epoch,
        status: reservation.status.name(),
        actor,
        at,
        detail: detail.to_owned(),
    }
}

/// Accepts a destroy.
pub(crate) fn destroy(run: &Run, reason: Option<&str>, asked: &Asked, moment: Moment) -> Said<DestroyAccepted> {
    let commission = asked.commission(moment.now, moment.lease_until);
    match run::destroyed(run, reason.map(str::to_owned), &commission, moment.now) {
        Destroy::Finished => Said::nothing(DestroyAccepted::Finished),
        Destroy::Underway(operation) => Said::nothing(DestroyAccepted::Underway(operation)),
        Destroy::Accepted(change) => {
            let replaced = change.replaced.as_ref().map(|operation| operation.id);
            let run = Box::new(change.run.clone());
            Said::changed(*change, DestroyAccepted::Accepted { run, replaced })
        }
    }
}

/// Accepts work on a complete instance.
pub(crate) fn work(run: &Run, work: &Work, asked: &Asked, moment: Moment) -> Said<WorkAccepted> {
    match run::begun(run, work.clone(), &asked.commission(moment.now, moment.lease_until), moment.now) {
        Err(refused) => Said::nothing(WorkAccepted::Refused(refused)),
        Ok(Begin::NothingToDo) => Said::nothing(WorkAccepted::NothingToDo),
        Ok(Begin::Underway(operation)) => Said::nothing(WorkAccepted::Underway(operation)),
        Ok(Begin::Accepted(change)) => {
            let replaced = change.replaced.as_ref().map(|operation| operation.id);
            let run = Box::new(change.run.clone());
            Said::changed(*change, WorkAccepted::Accepted { run, replaced })
        }
    }
}

/// Begins a sweep of what nothing refers to.
pub(crate) fn sweep(
    run: &Run,
    held: Epoch,
    found: &[Resource],
    leak: LeakId,
    asked: &Asked,
    moment: Moment,
) -> Spoken<Run> {
    let change = run::swept(run, held, found, leak, &asked.commission(moment.now, moment.lease_until), moment.now)?;
    let run = change.run.clone();
    Ok(Said::changed(change, run))
}

/// A repair of a reservation whose canonical success is proven.
pub(crate) struct Repair {
    pub(crate) proof: CanonicalSuccess,
    pub(crate) endpoint: Endpoint,
    pub(crate) actor: Actor,
    pub(crate) at: Timestamp,
    pub(crate) check_at: Timestamp,
    pub(crate) answer: Option<Answer>,
}

/// Completes a reservation whose canonical success is proven.
pub(crate) fn repair(run: &Run, repair: &Repair) -> Said<Result<Run, IllegalTransition>> {
    let Repair { proof, endpoint, actor, at, check_at, answer } = repair;
    match run::repaired(run, proof, endpoint, *actor, *at, *check_at) {
        Err(illegal) => Said::nothing(Err(illegal)),
        Ok(change) => {
            let run = change.run.clone();
            Said { change: Some(change), answer: answer.clone(), out: Ok(run) }
        }
    }
}

/// Releases a reservation on an operator's word, if it still is what the operator saw.
pub(crate) fn release_override(
    run: &Run,
    expected: &str,
    said: &OperatorOverride,
    asked: &Asked,
    moment: Moment,
) -> Spoken<Result<Run, IllegalTransition>> {
    let from = run.reservation.status.name();
    if from != expected {
        let change = "be released as what it was when it was looked at";
        return Ok(Said::nothing(Err(IllegalTransition { from, change })));
    }
    // Evidence is not copied; what was said and the leak it opens establish it again.
    let said = OperatorOverride::establish(said.reason(), said.leak())
        .ok_or_else(|| corrupt("an override that was established and is not"))?;
    match run::overridden(run, said, &asked.commission(moment.now, moment.lease_until), moment.now) {
        Err(illegal) => Ok(Said::nothing(Err(illegal))),
        Ok(change) => {
            let run = change.run.clone();
            Ok(Said::changed(change, Ok(run)))
        }
    }
}
