//! What to do next. Pure: it sees everything and does nothing. First run, retry, takeover, destroy and clean-up are the
//! same question.
//!
//! - Going forward it makes what is missing, in order, and publishes once canonical success is on record.
//! - Once destroy is accepted or going forward is given up, it seals, removes, looks, and releases on evidence.
//! - It never takes "not found" for absence, and never gives up on cleaning up.

use std::time::Duration;

use crate::evidence::{ActiveInstanceExists, NothingSent, ProvenAbsent, Release, Sealed};
use crate::operation::{Failure, FailureCode, OperationKind, Step, StepRecord, StepStatus};
use crate::protection::{Protection, stands};
use crate::records::{CanonicalSuccess, RecordsView};
use crate::reservation::{Reservation, Status};
use crate::resource::{Footprint, Rejection, RejectionClass, Resource, ResourceKind, RuntimeState};
use crate::run::Run;
use crate::time::Timestamp;

/// What a provider can promise. Everything else in the plan is the same for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Of which kinds a second create under one ident is refused or finds the first, so that re-sending is safe.
    pub names: Names,
    /// It can make creation under an ident impossible.
    pub seals: bool,
    /// It has volumes.
    pub storage: bool,
    /// It can show what an instance wrote.
    pub logs: bool,
    /// The longest time after which an unanswered call may still take effect.
    pub settle_horizon: Duration,
}

/// What a provider makes only one of under one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Names {
    /// One of each kind.
    Unique,
    /// One of each kind but the volume, of which a second create makes a second one.
    UniqueButStorage,
    /// Nothing: names are words.
    Free,
}

impl Names {
    /// Whether a second create of this kind is refused or finds the first.
    #[must_use]
    pub fn are_unique(self, kind: ResourceKind) -> bool {
        match self {
            Self::Unique => true,
            Self::UniqueButStorage => kind != ResourceKind::Storage,
            Self::Free => false,
        }
    }
}

/// How patient the plan is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// How often a step may fail going forward.
    pub max_attempts: u32,
    /// The wait after a first failure; it doubles with each.
    pub retry_min: Duration,
    /// The longest wait between tries.
    pub retry_max: Duration,
    /// How long to watch a runtime before publishing it while it still starts.
    pub ready_grace: Duration,
    /// How long a lease lasts: a fenced executor cannot have been allowed to send later than that after its last note.
    pub lease: Duration,
}

/// The first wait between two looks at a starting runtime; it doubles with each.
const READY_LOOK_MIN: Duration = Duration::from_millis(20);

/// Everything the plan looks at.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// The instance and the operation at hand.
    pub run: &'a Run,
    /// What the records say of the instance; `None` while they do not answer.
    pub records: Option<&'a RecordsView>,
    /// Another instance that takes the last place in the context, where the records know one.
    pub in_the_way: Option<&'a RecordsView>,
    /// Whether others take all places of the context, so that one that is not published yet is not to be.
    pub is_crowded: bool,
    /// Whether the instance gets a volume.
    pub wants_storage: bool,
    /// Whether the provider names an endpoint for what is on record. What answers nobody is not published.
    pub has_endpoint: bool,
    /// Whether a subscription may be started without billing when billing does not answer.
    pub billing_falls_back: bool,
    /// What the provider can promise.
    pub capabilities: Capabilities,
    /// How patient to be.
    pub patience: Patience,
    /// The time.
    pub now: Timestamp,
}

/// One thing to do in the world. Each is safe to do again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make a resource of the kind, or find it made.
    Ensure(ResourceKind),
    /// Look what exists under the ident, for this step's sake.
    Look(Step),
    /// Write the canonical row.
    InsertRecord,
    /// Start the subscription.
    Subscribe,
    /// Start the subscription without billing, which hears of it later.
    SubscribeLocally,
    /// Make creation under the ident impossible.
    Seal,
    /// Remove a resource.
    Remove(Resource),
    /// End the subscription.
    EndSubscription,
    /// Mark the canonical row destroyed.
    MarkDestroyed,
    /// Start the runtime.
    Start,
    /// Stop the runtime.
    Stop,
    /// Stop and start the runtime.
    Restart,
    /// Apply another spec.
    Update,
}

impl Action {
    /// The step that the action is part of.
    #[must_use]
    pub fn step(&self) -> Step {
        match self {
            Self::Ensure(kind) => Step::making(*kind),
            Self::Look(step) => *step,
            Self::InsertRecord => Step::Record,
            Self::Subscribe | Self::SubscribeLocally => Step::Subscribe,
            Self::Seal => Step::Seal,
            Self::Remove(_) => Step::Remove,
            Self::EndSubscription => Step::EndSubscription,
            Self::MarkDestroyed => Step::MarkDestroyed,
            Self::Start | Self::Stop | Self::Restart => Step::Power,
            Self::Update => Step::Update,
        }
    }

    /// Whether it only reads: it needs no intent on record.
    #[must_use]
    pub fn only_reads(&self) -> bool {
        matches!(self, Self::Look(_))
    }
}

/// What to do next.
#[derive(Debug)]
pub enum Next {
    /// Do this, after noting it.
    Act(Action),
    /// Nothing before then.
    Rest(Timestamp),
    /// Publish: the endpoint is the adapter's to name.
    Complete(CanonicalSuccess),
    /// Give up going forward; cleaning up follows.
    GiveUp(Failure),
    /// Release the reservation.
    Release {
        /// Why that is safe.
        evidence: Release,
        /// What went wrong, if something did.
        failure: Option<Failure>,
    },
    /// The operation did what it was for.
    Succeed,
    /// The operation did not, and the instance stays as it is.
    Fail(Failure),
    /// Nothing, ever: the operation is over.
    Nothing,
}

/// Decides what to do next.
#[must_use]
pub fn next(situation: &Situation<'_>) -> Next {
    let Run { reservation, operation } = situation.run;
    if operation.status.is_over() {
        return Next::Nothing;
    }
    match reservation.status {
        Status::InProgress if reservation.intent.is_destroy() => clean_up(situation),
        Status::InProgress => forward(situation),
        Status::NeedsReconciliation { .. } if may_still_complete(situation) => finish(situation),
        Status::NeedsReconciliation { .. } if may_be_canonical(situation) => wait_for_records(situation),
        Status::NeedsReconciliation { .. } | Status::Released { .. } => clean_up(situation),
        Status::Completed if reservation.intent.is_destroy() => clean_up(situation),
        Status::Completed => match operation.kind {
            OperationKind::Provision | OperationKind::Destroy => Next::Succeed,
            OperationKind::Start | OperationKind::Recover => power(situation, &Action::Start),
            OperationKind::Stop => power(situation, &Action::Stop),
            OperationKind::Restart => power(situation, &Action::Restart),
            OperationKind::Update => power(situation, &Action::Update),
            OperationKind::Sweep => sweep(situation),
            OperationKind::Adopt | OperationKind::Mend => pair(situation),
        },
    }
}

/// Canonical success is stronger than a provider's error, as long as nothing was done to undo it.
fn may_still_complete(situation: &Situation<'_>) -> bool {
    situation.proof().is_some()
        && situation.has_endpoint
        && !situation.run.reservation.intent.is_destroy()
        && !situation.run.is_being_undone()
}

/// Whether canonical success may be on record, and nobody can say: nothing is undone on a guess.
fn may_be_canonical(situation: &Situation<'_>) -> bool {
    let Run { reservation, operation } = situation.run;
    let written = operation.step(Step::Record).is_some();
    let unknown = situation.records.is_none() && stands(Protection::SilenceIsNoAnswer);
    unknown && written && !reservation.intent.is_destroy() && !situation.run.is_being_undone()
}

/// Puts the operation down until the records may answer again: ever more seldom, and not past the deadline.
fn wait_for_records(situation: &Situation<'_>) -> Next {
    let Run { operation, .. } = situation.run;
    let asked = operation.step(Step::CheckActive).map_or(1, |record| record.attempts.max(1));
    let until = situation.now.plus(pause(situation, asked));
    Next::Rest(if situation.now < operation.deadline { until.min(operation.deadline) } else { until })
}

impl Situation<'_> {
    /// Canonical success, where the records answered and hold it.
    fn proof(&self) -> Option<CanonicalSuccess> {
        self.records.and_then(CanonicalSuccess::establish)
    }
}

fn finish(situation: &Situation<'_>) -> Next {
    // An extra copy that cannot be removed in time stays on record, and goes with the instance.
    let deadline = situation.run.operation.deadline;
    if situation.now < deadline
        && let Some(extra) = situation.run.reservation.extra()
    {
        return match attempt(situation, Action::Remove(extra.clone()), Exhausted::GoesOn) {
            Next::Rest(until) => Next::Rest(until.min(deadline)),
            next => next,
        };
    }
    match situation.proof() {
        Some(proof) => Next::Complete(proof),
        None => clean_up(situation),
    }
}

fn forward(situation: &Situation<'_>) -> Next {
    let Run { reservation, operation } = situation.run;
    if may_still_complete(situation) {
        return finish(situation);
    }
    if let Some(evidence) = situation.in_the_way.and_then(|other| ActiveInstanceExists::establish(reservation, other)) {
        return Next::Release { evidence: Release::ActiveInstanceExists(evidence), failure: None };
    }
    if may_be_canonical(situation) {
        return wait_for_records(situation);
    }
    if situation.now >= operation.deadline {
        if unbilled(situation) {
            return attempt(situation, Action::SubscribeLocally, Exhausted::GoesOn);
        }
        let last = operation.steps.iter().rev().find_map(|record| record.last_error.as_deref());
        return give_up(situation, FailureCode::DeadlineExceeded, None, last.unwrap_or("the deadline passed"));
    }
    let Some(records) = situation.records else { return wait_for_records(situation) };
    if let Some(storage) = stranded(situation) {
        return attempt(
            situation,
            Action::Remove(storage.clone()),
            Exhausted::GivesUp(FailureCode::ProviderProvisionFailed),
        );
    }
    for kind in ResourceKind::ALL {
        let wanted = kind != ResourceKind::Storage || (situation.wants_storage && situation.capabilities.storage);
        if wanted && reservation.resource(kind).is_none() {
            return make(situation, kind);
        }
    }
    if let Some(unready) = ready(situation) {
        return unready;
    }
    if situation.proof().is_some() && !situation.has_endpoint {
        // It was made and is not up, or not known to be. Making it again could make a second one.
        return attempt(situation, Action::Start, Exhausted::GivesUp(FailureCode::ProviderProvisionFailed));
    }
    if !records.row_is_active() {
        if records.closed || records.row.is_some() {
            let why = "the canonical row is marked destroyed";
            return give_up(situation, FailureCode::InstanceRecordInsertFailed, None, why);
        }
        return attempt(situation, Action::InsertRecord, Exhausted::GivesUp(FailureCode::InstanceRecordInsertFailed));
    }
    subscribe(situation)
}

/// Starts the subscription: with billing as long as there is time, and without it where that is allowed.
fn subscribe(situation: &Situation<'_>) -> Next {
    match attempt(situation, Action::Subscribe, Exhausted::GivesUp(FailureCode::SubscriptionBootstrapFailed)) {
        Next::GiveUp(_) if unbilled(situation) => attempt(situation, Action::SubscribeLocally, Exhausted::GoesOn),
        next => next,
    }
}

/// Whether everything exists and only billing does not answer, which is no reason to take it away again where the
/// configuration says so. A refusal is an answer.
fn unbilled(situation: &Situation<'_>) -> bool {
    let step = situation.run.operation.step(Step::Subscribe);
    let unanswered = step.is_some_and(|record| record.status != StepStatus::Rejected);
    let recorded = situation.records.is_some_and(|records| records.row_is_active() && records.subscription.is_none());
    situation.billing_falls_back && unanswered && recorded
}

/// Brings together an instance that exists and its records: what was taken in waits for them, and what they lost is
/// written again. Never gives up: the instance is there.
fn pair(situation: &Situation<'_>) -> Next {
    let Run { reservation, operation } = situation.run;
    let Some(records) = situation.records else { return wait_for_records(situation) };
    if records.closed {
        let detail = "the records say that it is destroyed".to_owned();
        return Next::Fail(Failure { code: FailureCode::InstanceRecordInsertFailed, rejection: None, detail });
    }
    let found = reservation.resource(ResourceKind::Runtime).is_some() && situation.has_endpoint;
    if !found || !operation.has_done(Step::Ready) {
        return attempt(situation, Action::Look(Step::Ready), Exhausted::GoesOn);
    }
    if situation.is_crowded && reservation.completed_at.is_none() && stands(Protection::OneIsPublished) {
        return Next::Rest(situation.now.plus(pause(situation, operation.attempt.max(1))));
    }
    if let Some(proof) = situation.proof() {
        return Next::Complete(proof);
    }
    let ended = records.subscription.is_some();
    if operation.kind == OperationKind::Adopt || ended {
        // Not written here, so not ours to make up: looked at again when somebody asks, and by itself.
        return Next::Rest(situation.now.plus(pause(situation, operation.attempt.max(1))));
    }
    if !records.row_is_active() {
        return attempt(situation, Action::InsertRecord, Exhausted::GoesOn);
    }
    if unbilled(situation) && situation.now >= operation.deadline {
        return attempt(situation, Action::SubscribeLocally, Exhausted::GoesOn);
    }
    attempt(situation, Action::Subscribe, Exhausted::GoesOn)
}

/// A volume in a region that has no room for its runtime, while there is another region to try. Nothing ever ran on it.
fn stranded<'a>(situation: &Situation<'a>) -> Option<&'a Resource> {
    let Run { reservation, operation } = situation.run;
    let refused = operation.step(Step::Runtime).filter(|record| record.status == StepStatus::Rejected)?;
    let full = matches!(refused.rejection.as_ref()?.class, RejectionClass::Capacity { .. });
    let next_region = reservation.regions.get(operation.regions_full as usize)?;
    let elsewhere = |resource: &&Resource| resource.region.as_ref().is_some_and(|region| region != next_region);
    let storage = reservation.resource(ResourceKind::Storage).filter(elsewhere)?;
    (full && reservation.resource(ResourceKind::Runtime).is_none()).then_some(storage)
}

fn make(situation: &Situation<'_>, kind: ResourceKind) -> Next {
    let Run { reservation, operation } = situation.run;
    let step = Step::making(kind);
    let in_doubt = operation.step(step).is_some_and(|record| record.status == StepStatus::Unknown);
    if in_doubt && !situation.capabilities.names.are_unique(kind) && stands(Protection::NoSecondSend) {
        // A second send could make a second one: wait until the first can no longer take effect, and look.
        let settled_at = reservation
            .last_sent_at
            .unwrap_or(situation.now)
            .plus(situation.patience.lease)
            .plus(situation.capabilities.settle_horizon);
        let looked = reservation.lookups.last().is_some_and(|lookup| lookup.absent && lookup.at >= settled_at);
        if !looked {
            let look = Action::Look(step);
            return match attempt(situation, look, Exhausted::GivesUp(FailureCode::ProviderProvisionFailed)) {
                Next::Act(_) if situation.now < settled_at && !reservation.lookups.is_empty() => {
                    Next::Rest(settled_at.min(operation.deadline))
                }
                next => next,
            };
        }
    }
    attempt(situation, Action::Ensure(kind), Exhausted::GivesUp(FailureCode::ProviderProvisionFailed))
}

/// Watches a runtime that still starts, for a while. `None`: go on.
fn ready(situation: &Situation<'_>) -> Option<Next> {
    let Run { reservation, operation } = situation.run;
    let down = |how: &str| {
        let rejection = Rejection { class: RejectionClass::Invalid, detail: how.to_owned() };
        Some(give_up(situation, FailureCode::ProviderProvisionFailed, Some(rejection), how))
    };
    match reservation.runtime.as_ref().map(|(state, _)| state) {
        Some(RuntimeState::Running) => None,
        Some(RuntimeState::Exited(how)) => down(&format!("the runtime went down right after its start: {how}")),
        Some(RuntimeState::Stopped) => down("the runtime was stopped right after its start"),
        Some(RuntimeState::Missing) => down("the runtime was gone right after its start"),
        Some(RuntimeState::Starting) | None => {
            let made_at = operation.step(Step::Runtime).and_then(|record| record.finished_at).unwrap_or(situation.now);
            let record = operation.step(Step::Ready);
            if record.is_some() && situation.now >= made_at.plus(situation.patience.ready_grace) {
                return None;
            }
            let wait = record.map_or(Duration::ZERO, |record| doubled(READY_LOOK_MIN, record.attempts.min(6)));
            let look_at = record.and_then(|record| record.finished_at).unwrap_or(made_at).plus(wait);
            let look_at = look_at.min(operation.deadline);
            Some(if situation.now >= look_at { Next::Act(Action::Look(Step::Ready)) } else { Next::Rest(look_at) })
        }
    }
}

fn give_up(situation: &Situation<'_>, code: FailureCode, rejection: Option<Rejection>, detail: &str) -> Next {
    let failure = Failure { code, rejection, detail: detail.to_owned() };
    match NothingSent::establish(&situation.run.reservation) {
        Some(evidence) => Next::Release { evidence: Release::NothingSent(evidence), failure: Some(failure) },
        None => Next::GiveUp(failure),
    }
}

fn clean_up(situation: &Situation<'_>) -> Next {
    let reservation = &situation.run.reservation;
    if reservation.footprint() != Footprint::Untouched || reservation.sealed_at.is_some() {
        if situation.capabilities.seals && reservation.sealed_at.is_none() {
            return attempt(situation, Action::Seal, Exhausted::GoesOn);
        }
        // What needs the base goes before the base.
        if let Some(resource) = reservation.resources.iter().max_by_key(|resource| resource.kind) {
            return attempt(situation, Action::Remove(resource.clone()), Exhausted::GoesOn);
        }
    }
    match absence(situation) {
        Ok(evidence) => conclude(situation, evidence),
        Err(next) => next,
    }
}

/// The proof that nothing is there and nothing can come, or what to do to get it.
fn absence(situation: &Situation<'_>) -> Result<Release, Next> {
    let reservation = &situation.run.reservation;
    if let Some(evidence) = NothingSent::establish(reservation) {
        return Ok(Release::NothingSent(evidence));
    }
    if let Some(evidence) = Sealed::establish(reservation) {
        return Ok(Release::Sealed(evidence));
    }
    let look = Next::Act(Action::Look(Step::Absence));
    if situation.capabilities.seals {
        return Err(unless_just_failed(situation, Step::Absence, look));
    }
    let horizon =
        if stands(Protection::SettleHorizon) { situation.capabilities.settle_horizon } else { Duration::ZERO };
    let last_send = last_possible_send(reservation, situation.patience.lease);
    if let Some(evidence) = ProvenAbsent::establish(reservation, last_send, horizon) {
        return Ok(Release::ProvenAbsent(evidence));
    }
    if situation.now < last_send && stands(Protection::LooksAfterLastSend) {
        return Err(Next::Rest(last_send));
    }
    let first = reservation.lookups.iter().rev().take_while(|lookup| lookup.absent && lookup.at >= last_send).last();
    match first.map(|lookup| lookup.at.plus(horizon.max(situation.patience.retry_min))) {
        Some(second_look) if situation.now < second_look => Err(Next::Rest(second_look)),
        Some(_) | None => Err(unless_just_failed(situation, Step::Absence, look)),
    }
}

fn last_possible_send(reservation: &Reservation, lease: Duration) -> Timestamp {
    reservation.last_sent_at.unwrap_or(reservation.started_at).plus(lease)
}

/// Ends the subscription and marks the row, then releases.
fn conclude(situation: &Situation<'_>, evidence: Release) -> Next {
    let Run { reservation, .. } = situation.run;
    // Nothing was ever sent, so nothing can be on record.
    let untouched = RecordsView::default();
    let records = match situation.records {
        Some(records) => records,
        None if !reservation.work_started() => &untouched,
        None => return wait_for_records(situation),
    };
    // Where there is a row a subscription may have been started that the records know nothing of.
    let in_doubt = records.row.is_some()
        && records.subscription.is_none()
        && !situation.run.operation.has_done(Step::EndSubscription)
        && stands(Protection::DoubtfulBillingEnds);
    let paid = records.subscription_is_active() && stands(Protection::DestroyEndsBilling);
    if in_doubt || paid {
        return attempt(situation, Action::EndSubscription, Exhausted::GoesOn);
    }
    // An executor that lost its right may still write a row: it is to find the door closed.
    let may_come = !records.closed && reservation.work_started() && stands(Protection::RecordsAreClosed);
    if records.row_is_active() || may_come {
        return attempt(situation, Action::MarkDestroyed, Exhausted::GoesOn);
    }
    match reservation.status {
        Status::Released { .. } => Next::Succeed,
        Status::InProgress | Status::NeedsReconciliation { .. } | Status::Completed => {
            Next::Release { evidence, failure: None }
        }
    }
}

fn power(situation: &Situation<'_>, action: &Action) -> Next {
    let operation = &situation.run.operation;
    if operation.spec.is_some() && !operation.has_done(Step::Update) {
        return attempt(situation, Action::Update, Exhausted::Fails);
    }
    if *action == Action::Update || operation.has_done(Step::Power) {
        return Next::Succeed;
    }
    attempt(situation, action.clone(), Exhausted::Fails)
}

/// Removes the extra copies of a complete instance, one after the other, and never gives up: whatever people ask for takes
/// its place.
fn sweep(situation: &Situation<'_>) -> Next {
    match situation.run.reservation.extra() {
        Some(extra) => attempt(situation, Action::Remove(extra.clone()), Exhausted::GoesOn),
        None => Next::Succeed,
    }
}

/// What happens when a step was tried as often as it may, or was refused.
#[derive(Clone, Copy)]
enum Exhausted {
    /// The provision turns around.
    GivesUp(FailureCode),
    /// The operation ends; the instance stays.
    Fails,
    /// It is tried for ever, ever more seldom.
    GoesOn,
}

/// Does `action` now, later, or no more, by what came of it so far.
fn attempt(situation: &Situation<'_>, action: Action, exhausted: Exhausted) -> Next {
    let Run { reservation, operation } = situation.run;
    let Some(record) = operation.step(action.step()) else {
        return Next::Act(action);
    };
    let room_elsewhere = (operation.regions_full as usize) < reservation.regions.len();
    let refused = match (&record.rejection, record.status) {
        (Some(rejection), StepStatus::Rejected) => {
            let full_here = matches!(rejection.class, RejectionClass::Capacity { .. });
            if full_here && room_elsewhere {
                return Next::Act(action);
            }
            Some(rejection.clone())
        }
        (_, StepStatus::Noted | StepStatus::Done | StepStatus::Failed | StepStatus::Unknown)
        | (None, StepStatus::Rejected) => None,
    };
    let spent = refused.is_some() || record.attempts >= situation.patience.max_attempts;
    let late = situation.now >= operation.deadline;
    let why = record.last_error.as_deref().unwrap_or("it was tried as often as it may be");
    match exhausted {
        Exhausted::GivesUp(code) if spent => give_up(situation, code, refused, why),
        Exhausted::Fails if spent || late => {
            let code = if late { FailureCode::DeadlineExceeded } else { FailureCode::ProviderProvisionFailed };
            Next::Fail(Failure { code, rejection: refused, detail: why.to_owned() })
        }
        Exhausted::GivesUp(_) => later(situation, record, action, operation.deadline),
        Exhausted::Fails => later(situation, record, action, operation.deadline),
        Exhausted::GoesOn => later(situation, record, action, Timestamp::NEVER),
    }
}

fn later(situation: &Situation<'_>, record: &StepRecord, action: Action, at_the_latest: Timestamp) -> Next {
    let ready_at = match (record.status, record.finished_at) {
        // Left in doubt by an executor that went away, or done for another resource: at once.
        (StepStatus::Noted, _) | (_, None) => situation.now,
        (StepStatus::Done, Some(_)) if matches!(action, Action::Remove(_)) => situation.now,
        // Done, and nothing shows it: what was written is not read yet.
        (StepStatus::Done | StepStatus::Failed | StepStatus::Rejected | StepStatus::Unknown, Some(finished_at)) => {
            finished_at.plus(pause(situation, record.attempts)).min(at_the_latest)
        }
    };
    if situation.now >= ready_at { Next::Act(action) } else { Next::Rest(ready_at) }
}

/// Looks, unless the last look was just now and proved nothing.
fn unless_just_failed(situation: &Situation<'_>, step: Step, look: Next) -> Next {
    let Run { reservation, operation } = situation.run;
    let Some((record, finished_at)) = operation.step(step).and_then(|record| Some((record, record.finished_at?)))
    else {
        return look;
    };
    let proved_nothing = match record.status {
        StepStatus::Done => match reservation.lookups.last() {
            Some(lookup) => !lookup.absent,
            // A look that found something leaves no look-up behind once that is removed. The first time the next look
            // is worth it at once; a provider that goes on showing what is gone is asked with pauses.
            None => record.attempts > 1,
        },
        StepStatus::Noted => false,
        StepStatus::Failed | StepStatus::Rejected | StepStatus::Unknown => true,
    };
    let again_at = finished_at.plus(pause(situation, record.attempts));
    if proved_nothing && again_at > situation.now { Next::Rest(again_at) } else { look }
}

fn doubled(span: Duration, times: u32) -> Duration {
    span.saturating_mul(1 << times.min(20))
}

/// The wait after the `attempts`-th failure: doubling, bounded, and spread by up to a quarter so that what failed
/// together does not return together.
fn pause(situation: &Situation<'_>, attempts: u32) -> Duration {
    let Patience { retry_min, retry_max, .. } = situation.patience;
    let span = doubled(retry_min, attempts.saturating_sub(1)).min(retry_max);
    let id = situation.run.operation.id.as_bytes();
    let spread = u32::from(id[15]).wrapping_mul(31).wrapping_add(attempts.wrapping_mul(97)) % 256;
    span - span.mul_f64(f64::from(spread) / 1024.0)
}
