//! The journal: what came of a step, and what comes next, in one commit.

use crate::event::{Actor, EventKind};
use crate::evidence::{LOOKUPS_KEPT, Lookup};
use crate::lease::Epoch;
use crate::operation::{Operation, OperationKind, OperationStatus, Step, StepRecord, StepStatus};
use crate::protection::{Protection, stands};
use crate::reservation::{IllegalTransition, Reservation, Status};
use crate::resource::{Custody, Found, Observation, Rejection, RejectionClass, Resource, RuntimeState};
use crate::time::Timestamp;

use super::{Change, Refused, Run, fence, still_on};

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

/// Commits a finding, and the intent or the rest that follows from it.
///
/// # Errors
/// [`Refused::Fenced`] under an old epoch; [`Refused::Illegal`] for an operation that is over, for a creating step that
/// may not leave any more or is part of a sweep, and for an undoing one while the instance is wanted.
pub fn noted(run: &Run, held: Epoch, note: &Note) -> Result<Change, Refused> {
    fence(run, held)?;
    still_on(run)?;
    let mut change = Change::of(run.clone());
    change.run.reservation.updated_at = note.at.max(run.reservation.updated_at);
    if let Some((step, finding)) = &note.finding {
        fold(&mut change, *step, finding, note.at);
        // Its completion usually shares the commit of the subscription.
        if *step == Step::Subscribe && matches!(finding, Finding::Done(_)) && is_incomplete(&change.run) {
            let detail = "its subscription is on record, and something is left to do before it is complete";
            change.tell(EventKind::ReservationRepairRequired, Actor::System, note.at, detail);
        }
    }
    match note.then {
        Then::Intend(step) => intend(&mut change.run, step, note.at)?,
        Then::Look => {}
        Then::Rest(until) => {
            if is_put_down_first(&change.run) {
                let why = note.finding.as_ref().map(|(step, finding)| (step, failure_text(finding)));
                let detail = match why {
                    Some((step, why)) if !why.is_empty() => format!("{}: {why}", step.name()),
                    Some(_) | None => "waiting until nothing can arrive any more".to_owned(),
                };
                change.tell(EventKind::DestroyPending, Actor::System, note.at, detail);
            }
            if change.run.operation.kind == OperationKind::Adopt && change.run.operation.attempt == 1 {
                let detail = "not routable until it is found at its provider and has a subscription";
                change.tell(EventKind::SubscriptionBootstrapQuarantined, Actor::System, note.at, detail);
            }
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

/// Whether canonical success would complete the reservation, and has not.
pub(super) fn is_incomplete(run: &Run) -> bool {
    run.reservation.status.is_unresolved() && !run.reservation.intent.is_destroy() && !run.is_being_undone()
}

/// Whether a destroy does not end with the executor that began it.
fn is_put_down_first(run: &Run) -> bool {
    let Run { reservation, operation } = run;
    let left = !matches!(reservation.status, Status::Released { .. });
    operation.kind == OperationKind::Destroy && operation.attempt == 1 && left
}

pub(super) fn record_of(operation: &mut Operation, step: Step, at: Timestamp) -> &mut StepRecord {
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
    if wanted && step.undoes() && stands(Protection::WantedIsNotUndone) {
        return Err(IllegalTransition { from, change: "be undone: it is wanted" });
    }
    if step.may_create() {
        let closed = !wanted || reservation.sealed_at.is_some() || run.operation.kind == OperationKind::Sweep;
        if closed && stands(Protection::UnwantedIsNotMade) {
            return Err(IllegalTransition { from, change: "create anything any more" });
        }
        reservation.unanswered += u32::from(stands(Protection::UnansweredCount));
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

pub(super) fn fold(change: &mut Change, step: Step, finding: &Finding, at: Timestamp) {
    let was_in_doubt = change.run.operation.step(step).is_some_and(|record| record.status == StepStatus::Unknown);
    let answered = change.run.operation.step(step).is_some_and(|record| record.status == StepStatus::Noted);
    let operation = &mut change.run.operation;
    let looked_only = matches!(finding, Finding::Done(Effect::Seen { .. }));
    let record = record_of(operation, step, at);
    record.finished_at = Some(at);
    // A look has no intent on record to count it. One that settles a doubt about a send is no try: it is what the next
    // one waits for.
    let conclusive = matches!(finding, Finding::Done(Effect::Seen { observation, .. }) if observation.conclusive);
    let settles = conclusive && step.may_create();
    if !answered && !settles {
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
    if step.may_create() && answered && left_nothing(&change.run.reservation, finding) {
        // A definite answer to the one send that this executor made. Sends of others stay in doubt for ever.
        change.run.reservation.unanswered = change.run.reservation.unanswered.saturating_sub(1);
    }
    if step.may_create() && answered && matches!(finding, Finding::Unknown(_)) {
        // A call may be on its way for as long as somebody waits for its answer: its horizon begins when nobody does.
        let reservation = &mut change.run.reservation;
        reservation.last_sent_at = reservation.last_sent_at.max(Some(at));
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

/// Whether a creating call surely left nothing new behind. One that made something has to be proven undone: that a
/// provider took the removal is no proof that it finished it.
fn left_nothing(reservation: &Reservation, finding: &Finding) -> bool {
    match finding {
        Finding::NotSent(_) | Finding::Rejected(_) => true,
        Finding::Unknown(_) => false,
        Finding::Done(Effect::Made { resource, .. }) => {
            reservation.resources.iter().any(|known| known.same_thing(resource))
        }
        Finding::Done(Effect::Nothing | Effect::Seen { .. } | Effect::Sealed | Effect::Removed(_)) => true,
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
            if stands(Protection::IdBeforeReady) || *runtime != Some(RuntimeState::Starting) {
                reservation.resources.insert(0, resource.clone());
            }
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

/// What a look saw, as evidence for people.
fn in_words(observation: &Observation) -> String {
    let Observation { conclusive, found, runtime: _, reference } = observation;
    let proof = if *conclusive { "conclusive" } else { "not conclusive" };
    let asked = if reference.is_empty() { String::new() } else { format!(" ({reference})") };
    format!("{} found, {proof}{asked}", found.len())
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
        reservation.lookups.push(Lookup { at: asked_at, absent, detail: in_words(observation) });
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
