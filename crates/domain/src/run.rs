//! What can happen to an instance, as pure functions from a [`Run`] to a [`Change`].
//!
//! A store loads a run, calls one of these, and writes the change in one commit, fenced by the epoch. Nothing else moves
//! an instance, so what holds here holds everywhere:
//!
//! - every change of hands raises the epoch, and a writer with an old one is refused;
//! - a creating call is noted before it may leave, and none is noted once destroy is accepted or the ident is sealed;
//! - each change of a reservation's status has exactly one event.

use std::time::Duration;

use crate::event::{Actor, Event, EventKind};
use crate::evidence::{LOOKUPS_KEPT, Lookup, Release};
use crate::ids::{LeakId, OperationId};
use crate::lease::{Epoch, Fenced, Holder, Lease};
use crate::operation::{Failure, FailureCode, Operation, OperationKind, OperationStatus, Step, StepRecord, StepStatus};
use crate::records::CanonicalSuccess;
use crate::reservation::{FrozenSpec, IllegalTransition, Intent, Power, Reservation, Resolution, Status, StatusChange};
use crate::resource::{
    Custody, Footprint, Found, Observation, Rejection, RejectionClass, Resource, ResourceKind, RuntimeState,
};
use crate::route::{Endpoint, Route};
use crate::time::Timestamp;

/// An instance and the operation that works on it: everything an executor needs to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The instance's reservation.
    pub reservation: Reservation,
    /// The operation at hand.
    pub operation: Operation,
}

impl Run {
    /// Whether something may have been done already to undo what was made: canonical success comes too late then, because
    /// what it speaks of may be gone.
    #[must_use]
    pub fn is_being_undone(&self) -> bool {
        let Self { reservation, operation } = self;
        let given_up = matches!(reservation.status, Status::NeedsReconciliation { .. });
        // Going forward only extra copies are removed. A removal in doubt after giving up may have been the runtime's.
        let removing = operation.step(Step::Remove).is_some_and(|record| match record.status {
            StepStatus::Noted | StepStatus::Unknown => given_up,
            StepStatus::Done | StepStatus::Failed | StepStatus::Rejected => false,
        });
        removing
            || reservation.sealed_at.is_some()
            || operation.step(Step::Seal).is_some()
            || reservation.resource(ResourceKind::Runtime).is_none()
    }

    /// The lease that this run is held under, if somebody holds it.
    #[must_use]
    pub fn lease(&self) -> Option<Lease> {
        Some(Lease {
            instance: self.reservation.instance,
            operation: self.operation.id,
            epoch: self.reservation.epoch,
            holder: self.operation.holder.clone()?,
            expires_at: self.operation.due_at?,
        })
    }
}

/// What to do to the leak list in the same commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeakChange {
    /// Put the instance's ident on it.
    Open {
        /// The record's id.
        id: LeakId,
        /// Why it was given up on.
        reason: String,
    },
    /// What was given up on is gone after all.
    Resolve,
}

/// What one commit writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The run from then on.
    pub run: Run,
    /// The operation that this one replaced.
    pub replaced: Option<Operation>,
    /// The route from then on, where it changes.
    pub route: Option<Route>,
    /// The leak list's change.
    pub leak: Option<LeakChange>,
    /// What to put on the audit trail, in order.
    pub events: Vec<Event>,
}

impl Change {
    fn of(run: Run) -> Self {
        Self { run, replaced: None, route: None, leak: None, events: Vec::new() }
    }

    fn tell(&mut self, kind: EventKind, actor: Actor, at: Timestamp, detail: impl Into<String>) {
        let Run { reservation, operation } = &self.run;
        self.events.push(Event {
            kind,
            instance: reservation.instance,
            operation: operation.id,
            epoch: reservation.epoch,
            status: reservation.status.name(),
            actor,
            at,
            detail: detail.into(),
        });
    }
}

/// Who takes an operation and until when, if anybody: an operation without a holder waits for the next executor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Who.
    pub holder: Holder,
    /// Until when, by the store's clock.
    pub until: Timestamp,
}

/// The parts of an operation that its asker decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commission {
    /// The operation's id.
    pub operation: OperationId,
    /// Who asked.
    pub actor: Actor,
    /// In which request.
    pub request_id: String,
    /// When going forward is given up.
    pub deadline: Timestamp,
    /// Who runs it first.
    pub hold: Option<Hold>,
}

impl Commission {
    fn begin(&self, run_of: &Reservation, kind: OperationKind, spec: Option<FrozenSpec>, at: Timestamp) -> Operation {
        Operation {
            id: self.operation,
            instance: run_of.instance,
            kind,
            status: if self.hold.is_some() { OperationStatus::Running } else { OperationStatus::Waiting },
            attempt: u32::from(self.hold.is_some()),
            holder: self.hold.as_ref().map(|hold| hold.holder.clone()),
            due_at: Some(self.hold.as_ref().map_or(at, |hold| hold.until)),
            deadline: self.deadline,
            steps: Vec::new(),
            regions_full: 0,
            failure: None,
            spec,
            request_id: self.request_id.clone(),
            started_at: at,
            finished_at: None,
        }
    }
}

/// The parts of a reservation that its asker decides. Lawful only after [`crate::ledger::admit`] said yes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bid {
    /// The instance's id.
    pub instance: crate::ids::InstanceId,
    /// Whose it is.
    pub context: crate::owner::Context,
    /// Who makes it.
    pub provider: crate::lease::ProviderName,
    /// How large.
    pub tier: crate::lease::TierName,
    /// At which price.
    pub price_version: crate::lease::PriceVersion,
    /// Where, in order of preference.
    pub regions: Vec<String>,
    /// What it runs.
    pub spec: FrozenSpec,
}

/// Takes a reservation and begins its operation.
#[must_use]
pub fn admitted(bid: Bid, commission: &Commission, at: Timestamp) -> Change {
    let reservation = Reservation {
        instance: bid.instance,
        context: bid.context,
        provider: bid.provider,
        tier: bid.tier,
        price_version: bid.price_version,
        regions: bid.regions,
        spec: bid.spec,
        status: Status::InProgress,
        epoch: Epoch::FIRST,
        intent: Intent::Keep,
        power: Power::On,
        operation: commission.operation,
        unanswered: 0,
        last_sent_at: None,
        resources: Vec::new(),
        sealed_at: None,
        lookups: Vec::new(),
        runtime: None,
        recoveries: 0,
        check_at: Timestamp::NEVER,
        started_at: at,
        updated_at: at,
        completed_at: None,
        released_at: None,
    };
    let operation = commission.begin(&reservation, OperationKind::Provision, None, at);
    let mut change = Change::of(Run { reservation, operation });
    change.tell(EventKind::ReservationStarted, commission.actor, at, "");
    change
}

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
    if due_at > now && !orphaned {
        return Err(Unclaimable::NotDue { at: due_at });
    }
    let mut run = run.clone();
    let previous = run.operation.holder.replace(hold.holder.clone());
    run.reservation.epoch = run.reservation.epoch.next();
    run.operation.attempt += 1;
    run.operation.due_at = Some(hold.until);
    if run.operation.status == OperationStatus::Waiting {
        run.operation.status = OperationStatus::Running;
    }
    may_send_until_now(&mut run.reservation, &run.operation, now);
    for step in run.operation.steps.iter_mut().filter(|step| step.status == StepStatus::Noted) {
        step.status = StepStatus::Unknown;
        step.finished_at = None;
        step.last_error = Some("the executor went away before it knew what came of it".to_owned());
    }
    let mut change = Change::of(run);
    if let Some(previous) = previous {
        change.tell(EventKind::ExecutorTakenOver, Actor::System, now, format!("from {}", previous.node));
    }
    Ok(change)
}

/// A holder that renews its lease may send long after its note, up to the moment it is fenced and a lease beyond: that
/// moment counts as the last send of whatever has no finding.
fn may_send_until_now(reservation: &mut Reservation, operation: &Operation, now: Timestamp) {
    if operation.steps.iter().any(|record| record.step.may_create() && record.status == StepStatus::Noted) {
        reservation.last_sent_at = reservation.last_sent_at.max(Some(now));
    }
}

/// What came of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Surely nothing left.
    NotSent(String),
    /// Surely refused.
    Rejected(Rejection),
    /// Anything may have happened.
    Unknown(String),
    /// It happened, or was read.
    Done(Effect),
}

/// What a step changed, or saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing that the registry keeps.
    Nothing,
    /// A resource exists, made or found under the ident.
    Made {
        /// The resource.
        resource: Resource,
        /// What the runtime is doing, where the resource is one.
        runtime: Option<RuntimeState>,
    },
    /// The provider was looked at.
    Seen {
        /// When the question was asked.
        asked_at: Timestamp,
        /// The answer.
        observation: Observation,
    },
    /// Creation under the ident is impossible from now on.
    Sealed,
    /// A resource is gone.
    Removed(Resource),
}

/// What an executor does after a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Then {
    /// It takes this step; the call may leave once the note is committed.
    Intend(Step),
    /// It looks at the provider, which changes nothing and needs no intent.
    Look,
    /// It puts the operation down until then.
    Rest(Timestamp),
}

/// One line in the journal: the finding of the last step and the intent of the next share a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// When.
    pub at: Timestamp,
    /// What came of the last step.
    pub finding: Option<(Step, Finding)>,
    /// What comes next.
    pub then: Then,
}

/// Why a write did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The writer lost its right.
    #[error(transparent)]
    Fenced(#[from] Fenced),
    /// The state machine does not have it.
    #[error(transparent)]
    Illegal(#[from] IllegalTransition),
}

fn fence(run: &Run, held: Epoch) -> Result<(), Fenced> {
    let current = run.reservation.epoch;
    if held == current { Ok(()) } else { Err(Fenced { held, current }) }
}

/// An operation that is over takes no more findings: nobody would look at it again.
fn still_on(run: &Run) -> Result<(), IllegalTransition> {
    if run.operation.status.is_over() {
        return Err(IllegalTransition { from: run.reservation.status.name(), change: "go on: its operation is over" });
    }
    Ok(())
}

/// Commits a finding, and the intent or the rest that follows from it.
///
/// # Errors
/// [`Refused::Fenced`] under an old epoch; [`Refused::Illegal`] for an operation that is over, for a creating step that
/// may not leave any more, and for an undoing one while the instance is wanted.
pub fn noted(run: &Run, held: Epoch, note: &Note) -> Result<Change, Refused> {
    fence(run, held)?;
    still_on(run)?;
    let mut change = Change::of(run.clone());
    change.run.reservation.updated_at = note.at.max(run.reservation.updated_at);
    if let Some((step, finding)) = &note.finding {
        fold(&mut change, *step, finding, note.at);
    }
    match note.then {
        Then::Intend(step) => intend(&mut change.run, step, note.at)?,
        Then::Look => {}
        Then::Rest(until) => {
            let operation = &mut change.run.operation;
            operation.holder = None;
            operation.due_at = Some(until);
            if operation.status == OperationStatus::Running {
                operation.status = OperationStatus::Waiting;
            }
        }
    }
    Ok(change)
}

fn record_of(operation: &mut Operation, step: Step, at: Timestamp) -> &mut StepRecord {
    let position = operation.steps.iter().position(|record| record.step == step).unwrap_or_else(|| {
        operation.steps.push(StepRecord {
            step,
            status: StepStatus::Noted,
            attempts: 0,
            started_at: at,
            finished_at: None,
            last_error: None,
            rejection: None,
        });
        operation.steps.len() - 1
    });
    &mut operation.steps[position]
}

fn intend(run: &mut Run, step: Step, at: Timestamp) -> Result<(), IllegalTransition> {
    let reservation = &mut run.reservation;
    let from = reservation.status.name();
    let open = matches!(reservation.status, Status::InProgress | Status::Completed);
    let wanted = open && !reservation.intent.is_destroy();
    if wanted && step.undoes() {
        return Err(IllegalTransition { from, change: "be undone: it is wanted" });
    }
    if step.may_create() {
        if !wanted || reservation.sealed_at.is_some() {
            return Err(IllegalTransition { from, change: "create anything any more" });
        }
        reservation.unanswered += 1;
        reservation.last_sent_at = Some(at);
        reservation.lookups.clear();
    }
    let record = record_of(&mut run.operation, step, at);
    record.status = StepStatus::Noted;
    record.attempts += 1;
    Ok(())
}

/// The run with a finding folded in, as the next commit will have it. Planning looks at this, so that the next intent
/// can share the finding's commit.
#[must_use]
pub fn folded(run: &Run, step: Step, finding: &Finding, at: Timestamp) -> Run {
    let mut change = Change::of(run.clone());
    fold(&mut change, step, finding, at);
    change.run
}

fn fold(change: &mut Change, step: Step, finding: &Finding, at: Timestamp) {
    let was_in_doubt = change.run.operation.step(step).is_some_and(|record| record.status == StepStatus::Unknown);
    let answered = change.run.operation.step(step).is_some_and(|record| record.status == StepStatus::Noted);
    let operation = &mut change.run.operation;
    let looked_only = matches!(finding, Finding::Done(Effect::Seen { .. }));
    let record = record_of(operation, step, at);
    record.finished_at = Some(at);
    if !answered {
        // A look has no intent on record to count it.
        record.attempts += 1;
    }
    match finding {
        // The step's doubt is about an earlier send; a look that failed settles nothing.
        Finding::NotSent(why) if was_in_doubt => record.last_error = Some(why.clone()),
        Finding::Rejected(rejection) if was_in_doubt => record.last_error = Some(rejection.detail.clone()),
        Finding::NotSent(why) => {
            record.status = StepStatus::Failed;
            record.last_error = Some(why.clone());
        }
        Finding::Rejected(rejection) => {
            record.status = StepStatus::Rejected;
            record.last_error = Some(rejection.detail.clone());
            record.rejection = Some(rejection.clone());
            if let RejectionClass::Capacity { .. } = rejection.class {
                operation.regions_full += 1;
            }
        }
        Finding::Unknown(why) => {
            record.status = StepStatus::Unknown;
            record.last_error = Some(why.clone());
        }
        Finding::Done(_) => {
            // A look settles a creating step only if it found what the step makes; see `see`.
            if !(looked_only && step.may_create()) {
                record.status = StepStatus::Done;
                record.last_error = None;
                if !looked_only {
                    record.attempts = 0;
                }
            }
        }
    }
    if step.may_create() && answered {
        match finding {
            // A definite answer to the one send that this executor made. Sends of others stay unanswered for ever.
            Finding::NotSent(_) | Finding::Rejected(_) | Finding::Done(_) => {
                change.run.reservation.unanswered = change.run.reservation.unanswered.saturating_sub(1);
            }
            Finding::Unknown(_) => {}
        }
    }
    match finding {
        Finding::Done(effect) => take_in(change, step, effect, at, was_in_doubt),
        Finding::Rejected(_) | Finding::NotSent(_) | Finding::Unknown(_) => match step {
            Step::Record => change.tell(EventKind::RecordInsertFailed, Actor::System, at, failure_text(finding)),
            Step::Subscribe => {
                change.tell(EventKind::SubscriptionBootstrapFailed, Actor::System, at, failure_text(finding));
            }
            Step::CheckActive
            | Step::Base
            | Step::Storage
            | Step::Runtime
            | Step::Ready
            | Step::Complete
            | Step::Seal
            | Step::Remove
            | Step::Absence
            | Step::EndSubscription
            | Step::MarkDestroyed
            | Step::Release
            | Step::Power
            | Step::Update => {}
        },
    }
}

fn failure_text(finding: &Finding) -> String {
    match finding {
        Finding::NotSent(why) | Finding::Unknown(why) => why.clone(),
        Finding::Rejected(rejection) => rejection.detail.clone(),
        Finding::Done(_) => String::new(),
    }
}

fn take_in(change: &mut Change, step: Step, effect: &Effect, at: Timestamp, was_in_doubt: bool) {
    match effect {
        Effect::Nothing => match step {
            Step::Record => change.tell(EventKind::RecordInserted, Actor::System, at, ""),
            Step::Subscribe => change.tell(EventKind::SubscriptionBootstrapped, Actor::System, at, ""),
            Step::CheckActive
            | Step::Base
            | Step::Storage
            | Step::Runtime
            | Step::Ready
            | Step::Complete
            | Step::Seal
            | Step::Remove
            | Step::Absence
            | Step::EndSubscription
            | Step::MarkDestroyed
            | Step::Release
            | Step::Power
            | Step::Update => {}
        },
        Effect::Made { resource, runtime } => {
            let reservation = &mut change.run.reservation;
            let known = reservation.resources.iter().any(|known| known.same_thing(resource));
            reservation.resources.retain(|known| !known.same_thing(resource));
            reservation.resources.insert(0, resource.clone());
            if let Some(state) = runtime {
                reservation.runtime = Some((state.clone(), at));
            }
            if was_in_doubt && !known {
                let detail = format!("{} {}", resource.kind, resource.id);
                change.tell(EventKind::ResourceAdopted, Actor::System, at, detail);
            }
        }
        Effect::Seen { asked_at, observation } => see(change, step, *asked_at, observation, at),
        Effect::Sealed => {
            change.run.reservation.sealed_at = Some(at);
            change.run.reservation.lookups.clear();
        }
        Effect::Removed(resource) => {
            change.run.reservation.resources.retain(|known| !known.same_thing(resource));
            change.run.reservation.lookups.clear();
        }
    }
}

fn see(change: &mut Change, step: Step, asked_at: Timestamp, observation: &Observation, at: Timestamp) {
    let reservation = &mut change.run.reservation;
    // What an inconclusive look did not find may be there all the same.
    if observation.conclusive || observation.runtime != RuntimeState::Missing {
        reservation.runtime = Some((observation.runtime.clone(), asked_at));
    }
    let mut adopted = Vec::new();
    for found in observation.found.iter().filter(|found| found.custody == Custody::Ours) {
        if !reservation.resources.iter().any(|known| known.same_thing(&found.resource)) {
            reservation.resources.push(found.resource.clone());
            adopted.push(found.resource.clone());
        }
    }
    let made = |found: &Found| found.custody == Custody::Ours && Step::making(found.resource.kind) == step;
    let absent = if step.may_create() {
        // The base is there while the runtime is looked for; whatever else is ours is on record as well.
        observation.conclusive && !observation.found.iter().any(made)
    } else {
        observation.proves_absence()
    };
    if step != Step::Ready {
        reservation.lookups.push(Lookup {
            at: asked_at,
            absent,
            detail: format!(
                "{} found, {}",
                observation.found.len(),
                if observation.conclusive { "conclusive" } else { "not conclusive" }
            ),
        });
        let surplus = reservation.lookups.len().saturating_sub(LOOKUPS_KEPT);
        reservation.lookups.drain(..surplus);
    }
    for resource in adopted {
        if Step::making(resource.kind) == step {
            let record = record_of(&mut change.run.operation, step, at);
            record.status = StepStatus::Done;
            record.attempts = 0;
        }
        let detail = format!("{} {}", resource.kind, resource.id);
        change.tell(EventKind::ResourceAdopted, Actor::System, at, detail);
    }
    if let Some(foreign) = observation.foreign() {
        if step.may_create() {
            let detail = format!("the name of the {} belongs to somebody else's resource", foreign.kind);
            let record = record_of(&mut change.run.operation, step, at);
            record.status = StepStatus::Rejected;
            record.last_error = Some(detail.clone());
            record.rejection = Some(Rejection { class: RejectionClass::ConflictForeign, detail });
        }
        let detail = format!("{} {}", foreign.kind, foreign.id);
        change.tell(EventKind::ResourceQuarantined, Actor::System, at, detail);
    }
}

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
        // Released on an operator's word: its leak stays open while anything is on record.
        Status::Released { .. } if reservation.footprint() != Footprint::There => Ok(()),
        Status::InProgress | Status::NeedsReconciliation { .. } | Status::Completed | Status::Released { .. } => {
            Err(IllegalTransition { from: reservation.status.name(), change: "be left without an operation" })
        }
    }
}

fn end(operation: &mut Operation, status: OperationStatus, at: Timestamp) {
    operation.status = status;
    operation.holder = None;
    operation.due_at = None;
    operation.finished_at = Some(at);
}

fn complete(
    change: &mut Change,
    proof: &CanonicalSuccess,
    endpoint: &Endpoint,
    at: Timestamp,
    check_at: Timestamp,
) -> Result<(), IllegalTransition> {
    let undone = change.run.is_being_undone();
    let reservation = &mut change.run.reservation;
    let status = reservation.status.apply(&StatusChange::Complete(proof))?;
    let lawful = proof.instance() == reservation.instance && !reservation.intent.is_destroy() && !undone;
    if !lawful {
        return Err(IllegalTransition { from: reservation.status.name(), change: "become routable" });
    }
    reservation.status = status;
    reservation.completed_at = Some(at);
    reservation.check_at = check_at;
    change.route = Some(Route::Live { endpoint: endpoint.clone(), epoch: reservation.epoch });
    end(&mut change.run.operation, OperationStatus::Succeeded, at);
    change.tell(EventKind::ReservationCompleted, Actor::System, at, "");
    Ok(())
}

fn release(change: &mut Change, evidence: &Release, actor: Actor, at: Timestamp) -> Result<(), IllegalTransition> {
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
    let kind = operation.kind;
    end(operation, OperationStatus::Succeeded, at);
    let event = match kind {
        // The clean-up after an override: the reservation is released already, and what was leaked is gone.
        OperationKind::Provision | OperationKind::Destroy => {
            change.leak = Some(LeakChange::Resolve);
            change.tell(EventKind::OrphanRemoved, Actor::System, at, "what was released on an operator's word is gone");
            return;
        }
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
    change.route = Some(Route::Tombstone { at });
    change.run.reservation.check_at = Timestamp::NEVER;
    if let Ok(status) = change.run.reservation.status.apply(&StatusChange::GiveUp(FailureCode::Cancelled)) {
        change.run.reservation.status = status;
    }
    change.tell(EventKind::DestroyStarted, commission.actor, at, reason.unwrap_or_default());
    Destroy::Accepted(Box::new(change))
}

/// Puts another operation in the place of the one at hand: the epoch rises, so whoever ran the old one is fenced. A step
/// whose finding is missing stays in doubt: its send remains unanswered.
fn replace(
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
    reservation.epoch = reservation.epoch.next();
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
        Status::Completed => {}
    }
    let kind = work.kind();
    let idle = run.operation.status.is_over();
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
