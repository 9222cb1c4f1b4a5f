//! What runs an operation: plan, note, act, note, until the plan rests or the operation is over.
//!
//! - Nothing leaves for a provider before its intent is committed, nor on a lease that is nearly over.
//! - The finding of one step and the intent of the next share a commit.
//! - Recovery enters here and takes the same path: a crash is a late claim.
//! - A commit that is refused ends the run at once: somebody else has the instance.
//! - A node that lays down its duty gives a run back between two steps, with what came of the first of them: never in
//!   the middle of a call. So does a node that began what only others can go on with, for it does not have the provider.

use std::sync::Arc;
use std::time::Duration;

use freehold_domain::ids::OperationId;
use freehold_domain::lease::{Lease, ProviderName};
use freehold_domain::operation::{OperationKind, OperationStatus, Step, StepStatus};
use freehold_domain::plan::{self, Action, Next, Situation};
use freehold_domain::protection::{Protection, stands};
use freehold_domain::records::RecordsView;
use freehold_domain::reservation::{Reservation, Status};
use freehold_domain::run::{self, Effect, Finding, Note, Run, Settle, Settlement, Then, Unclaimable};
use freehold_domain::time::Timestamp;

use crate::acts::{Acts, wants_storage};
use crate::held::Held;
use crate::ports::{Answer, Claimed, Gap, RecordsError, Registered, StoreError};
use crate::world::World;

/// How a run of an executor ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Worked {
    /// The operation is over.
    Over,
    /// There is nothing to do before then.
    Resting(Timestamp),
    /// Somebody else runs it, or did, or it is not due.
    Elsewhere,
    /// It is not this node's to go on with at the moment: the next executor that looks does.
    GivenBack,
    /// The store did not answer; the lease lapses, and somebody goes on.
    Interrupted(StoreError),
}

/// Runs operations on this node.
#[derive(Clone)]
pub struct Executor {
    world: Arc<World>,
    held: Held,
}

/// What a run knows besides what is committed.
struct Going {
    run: Run,
    lease: Lease,
    /// What came of the last step and is not committed yet.
    finding: Option<(Step, Finding)>,
    /// What the records say; `None` while they do not answer.
    records: Option<RecordsView>,
    in_the_way: Option<RecordsView>,
    /// Whether others take all places of the context of one that is not published.
    is_crowded: bool,
    wants_storage: bool,
    clock: StoreTime,
}

/// The store's time, as this node can know it: what it was when the lease was given, and what has passed here since. The
/// wall clocks of nodes disagree; the times of one instance must not.
#[derive(Clone, Copy)]
struct StoreTime {
    given_at: Timestamp,
    asked_at: Duration,
}

impl StoreTime {
    fn of(claimed: &Claimed, term: Duration) -> Self {
        let micros = i64::try_from(term.as_micros()).unwrap_or(i64::MAX);
        let given_at = Timestamp::from_micros(claimed.lease.expires_at.as_micros().saturating_sub(micros));
        Self { given_at, asked_at: claimed.asked_at }
    }

    fn now(&self, world: &World, run: &Run) -> Timestamp {
        let passed = world.clock.monotonic().saturating_sub(self.asked_at);
        self.given_at.plus(passed).max(run.reservation.updated_at)
    }
}

impl Going {
    /// The run as the next commit will have it.
    fn foreseen(&self, at: Timestamp) -> Run {
        match &self.finding {
            Some((step, finding)) => run::folded(&self.run, *step, finding, at),
            None => self.run.clone(),
        }
    }
}

impl Executor {
    /// Over a world.
    #[must_use]
    pub fn new(world: Arc<World>) -> Self {
        Self { world, held: Held::default() }
    }

    /// Claims an operation whose timer has rung and runs it until it rests or is over.
    pub async fn work_once(&self, operation: OperationId) -> Worked {
        match self.claim(operation).await {
            Ok(claimed) => self.work(claimed).await,
            Err(worked) => worked,
        }
    }

    /// Claims an operation whose timer has rung, for [`Executor::work`].
    ///
    /// # Errors
    /// What it came to, where it is not this node's to run.
    pub async fn claim(&self, operation: OperationId) -> Result<Claimed, Worked> {
        if !self.world.standing.may_act() {
            return Err(Worked::Elsewhere);
        }
        let asked_at = self.world.clock.monotonic();
        match self.world.store.claim(operation, &self.world.holder).await {
            Ok(Ok((run, lease))) => {
                // A claim leaves a step without a finding in doubt: its executor went away in the middle of it.
                if run.operation.steps.iter().any(|s| s.status == StepStatus::Unknown && s.finished_at.is_none()) {
                    self.world.meter.takeover();
                }
                Ok(Claimed { run, lease, asked_at })
            }
            Ok(Err(Unclaimable::Over | Unclaimable::NotDue { .. })) => Err(Worked::Elsewhere),
            Err(error) => Err(Worked::Interrupted(error)),
        }
    }

    /// Runs an operation that this node holds until it rests or is over.
    pub async fn work(&self, claimed: Claimed) -> Worked {
        let Some(_hand) = self.held.take(&claimed, self.world.policy.lease) else { return Worked::Elsewhere };
        let lease = claimed.lease.clone();
        if !self.world.standing.may_act() {
            let _ = self.world.store.give_back(&[lease]).await;
            return Worked::Elsewhere;
        }
        match self.run(claimed).await {
            Ok(worked) => worked,
            Err(StoreError::Refused(refused)) => {
                tracing::info!(instance = %lease.instance, operation = %lease.operation, %refused, "stopping");
                Worked::Elsewhere
            }
            Err(error) => {
                tracing::warn!(instance = %lease.instance, operation = %lease.operation, %error, "interrupted");
                // Sooner than the lapse of the lease, if the store hears it.
                let _ = self.world.store.give_back(&[lease]).await;
                Worked::Interrupted(error)
            }
        }
    }

    /// Prolongs every lease this node holds. To be called well before they lapse, while calls are in flight too.
    pub async fn renew(&self) {
        let leases = self.held.leases();
        if leases.is_empty() {
            return;
        }
        let asked_at = self.world.clock.monotonic();
        match self.world.store.renew(&leases).await {
            Ok(renewed) => {
                for (lease, renewed) in leases.iter().zip(renewed) {
                    if renewed {
                        self.held.prolong(lease, asked_at + self.world.policy.lease);
                    } else {
                        self.held.lost(lease);
                    }
                }
            }
            Err(error) => tracing::warn!(%error, leases = leases.len(), "leases could not be renewed"),
        }
    }

    /// Gives every lease back, so that another node, or this one after its restart, goes on at once. To be called once
    /// no run is in flight any more, or will be waited for.
    pub async fn give_back(&self) {
        let leases = self.held.leases();
        if !leases.is_empty()
            && let Err(error) = self.world.store.give_back(&leases).await
        {
            tracing::warn!(%error, leases = leases.len(), "leases could not be given back; they lapse");
        }
    }

    async fn run(&self, claimed: Claimed) -> Result<Worked, StoreError> {
        let clock = StoreTime::of(&claimed, self.world.policy.lease);
        let Claimed { run, lease, .. } = claimed;
        let mut going = self.look_up(run, lease, clock).await;
        loop {
            let now = going.clock.now(&self.world, &going.run);
            let foreseen = going.foreseen(now);
            let provider = self.world.provider(&foreseen.reservation.provider);
            let endpoint = provider.and_then(|provider| provider.endpoint(&foreseen.reservation.resources));
            let next = plan::next(&Situation {
                run: &foreseen,
                records: going.records.as_ref(),
                in_the_way: going.in_the_way.as_ref(),
                is_crowded: going.is_crowded,
                wants_storage: going.wants_storage,
                // Of a provider that this node does not have nothing is known.
                has_endpoint: endpoint.is_some() || provider.is_none(),
                billing_falls_back: self.world.policy.billing_falls_back,
                capabilities: self.world.capabilities(&foreseen.reservation.provider),
                patience: self.world.policy.patience(),
                now,
            });
            let worked = match next {
                Next::Act(_) if self.gives_back(&foreseen.reservation.provider) => {
                    self.note(&mut going, Then::Rest(now), now).await?;
                    Some(Worked::GivenBack)
                }
                Next::Act(action) => {
                    self.step(&mut going, &action, now).await?;
                    None
                }
                Next::Rest(until) => {
                    self.note(&mut going, Then::Rest(until), now).await?;
                    Some(Worked::Resting(until))
                }
                Next::Nothing => Some(Worked::Over),
                Next::Complete(proof) => match endpoint {
                    Some(endpoint) => {
                        let settlement = Settlement::Complete { proof, endpoint };
                        self.settle(&mut going, Step::Complete, settlement, now).await?
                    }
                    // Only a node that has the provider can say where it answers.
                    None if self.gives_back(&foreseen.reservation.provider) => {
                        self.note(&mut going, Then::Rest(now), now).await?;
                        Some(Worked::GivenBack)
                    }
                    None => {
                        let until = now.plus(self.world.policy.retry_max);
                        self.note(&mut going, Then::Rest(until), now).await?;
                        Some(Worked::Resting(until))
                    }
                },
                Next::GiveUp(failure) => {
                    self.settle(&mut going, Step::Release, Settlement::GiveUp(failure), now).await?
                }
                Next::Release { evidence, failure } => {
                    self.settle(&mut going, Step::Release, Settlement::Release { evidence, failure }, now).await?
                }
                Next::Succeed => {
                    let endpoint = endpoint.filter(|_| foreseen.reservation.is_active());
                    self.settle(&mut going, Step::Complete, Settlement::Succeed { endpoint }, now).await?
                }
                Next::Fail(failure) => self.settle(&mut going, Step::Complete, Settlement::Fail(failure), now).await?,
            };
            if let Some(worked) = worked {
                return Ok(worked);
            }
        }
    }

    /// Whether somebody else is to go on with an operation of a provider.
    fn gives_back(&self, provider: &ProviderName) -> bool {
        let World { duty, standing, .. } = self.world.as_ref();
        duty.laid_down().is_some() || duty.leaves(provider) || !standing.may_act()
    }

    /// Reads what the records say: the first step of every run. That they do not answer ends none: what needs them waits.
    async fn look_up(&self, run: Run, lease: Lease, clock: StoreTime) -> Going {
        let unchecked = run.reservation.status == Status::InProgress && !run.operation.has_done(Step::CheckActive);
        let unpublished = run.reservation.is_active() && run.reservation.completed_at.is_none();
        let read = async {
            let records = self.world.records.describe(run.reservation.instance).await?;
            let in_the_way = if unchecked { self.in_the_way(&run.reservation).await? } else { None };
            let is_crowded = unpublished && self.is_crowded(&run.reservation).await?;
            Ok::<_, RecordsError>((records, in_the_way, is_crowded))
        };
        let (finding, records, in_the_way, is_crowded) = match read.await {
            Ok((records, in_the_way, is_crowded)) => {
                let checked = unchecked.then_some((Step::CheckActive, Finding::Done(Effect::Nothing)));
                (checked, Some(records), in_the_way, is_crowded)
            }
            Err(error) => (Some((Step::CheckActive, Finding::NotSent(error.to_string()))), None, None, false),
        };
        let wants_storage = wants_storage(&run);
        Going { run, lease, finding, records, in_the_way, is_crowded, wants_storage, clock }
    }

    /// Whether others take all places of the context of one that was taken in: what is published or being made, and what
    /// is older. Of two that were taken in the older one has the place, so that they do not wait for one another.
    async fn is_crowded(&self, reservation: &Reservation) -> Result<bool, RecordsError> {
        let limit = self.world.policy.instances_per_context as usize;
        let unavailable = |error: StoreError| RecordsError::Unavailable(error.to_string());
        let owned = self.world.store.owner_describe(reservation.context.owner()).await.map_err(unavailable)?;
        let others = owned.iter().map(|registered| &registered.reservation).filter(|other| {
            other.context == reservation.context
                && other.instance != reservation.instance
                && (other.status.is_unresolved() || other.is_active())
                && (other.status.is_unresolved()
                    || other.completed_at.is_some()
                    || other.instance < reservation.instance)
        });
        Ok(others.count() >= limit)
    }

    /// Another instance that takes the last place in the context, where the records know one. One whose destroy was
    /// accepted still has its row, and is in nobody's way.
    async fn in_the_way(&self, reservation: &Reservation) -> Result<Option<RecordsView>, RecordsError> {
        let limit = self.world.policy.instances_per_context as usize;
        let mut standing = Vec::new();
        for other in self.world.records.active_in(&reservation.context).await? {
            let Some(row) = other.row.as_ref().filter(|row| row.instance != reservation.instance) else { continue };
            let registered = self.world.store.instance_describe(row.instance).await;
            let registered = registered.map_err(|error| RecordsError::Unavailable(error.to_string()))?;
            if registered.is_none_or(|registered| registered.reservation.is_active()) {
                standing.push(other);
            }
        }
        Ok(if standing.len() >= limit { standing.into_iter().next() } else { None })
    }

    /// Notes an action's intent, then does it. What came of it waits for the next commit.
    async fn step(&self, going: &mut Going, action: &Action, now: Timestamp) -> Result<(), StoreError> {
        let world = &self.world;
        let step = action.step();
        world.gaps.passing(step, Gap::BeforeNote);
        if !action.only_reads() && stands(Protection::IntentBeforeEffect) {
            self.note(going, Then::Intend(step), now).await?;
        } else if going.finding.is_some() {
            self.note(going, Then::Look, now).await?;
        }
        world.gaps.passing(step, Gap::Noted);
        let began = world.clock.monotonic();
        let in_time = self.held.may_send(&going.lease, began, world.policy.send_margin);
        let finding = if in_time || action.only_reads() {
            let mut acts = Acts { world, run: &going.run, records: &mut going.records, now };
            acts.act(action).await
        } else {
            Finding::NotSent("too little of the lease was left for a call to leave".to_owned())
        };
        world.meter.step(step, world.clock.monotonic().saturating_sub(began));
        world.gaps.passing(step, Gap::Sent);
        going.finding = Some((step, finding));
        Ok(())
    }

    async fn note(&self, going: &mut Going, then: Then, at: Timestamp) -> Result<(), StoreError> {
        let finding = going.finding.take();
        let answered = finding.as_ref().map(|(step, _)| *step);
        going.run = self.world.store.note(&going.lease, Note { at, finding, then }).await?;
        if let Some(step) = answered {
            self.world.gaps.passing(step, Gap::Answered);
        }
        self.world.driver.changed(going.lease.instance, going.lease.operation);
        Ok(())
    }

    /// Commits the end of an operation, or its turn to cleaning up (`None`: the run goes on).
    async fn settle(
        &self,
        going: &mut Going,
        step: Step,
        settlement: Settlement,
        at: Timestamp,
    ) -> Result<Option<Worked>, StoreError> {
        let world = &self.world;
        world.gaps.passing(step, Gap::BeforeNote);
        let foreseen = going.foreseen(at);
        // What a failed operation left behind is seen by the next look, and by nothing before it: it comes soon.
        let known = !matches!(settlement, Settlement::Fail(_));
        let seen = foreseen.reservation.runtime.as_ref().map(|(state, _)| state).filter(|_| known);
        let spread = foreseen.reservation.instance.as_bytes()[15];
        let check_at = world.policy.check_at(at, seen, at, spread);
        let finding = going.finding.take();
        let answered = finding.as_ref().map(|(step, _)| *step);
        let settle = Settle { at, finding, settlement, check_at };
        let answer = self.answer(going, &settle)?;
        going.run = world.store.settle(&going.lease, settle, answer).await?;
        for step in answered.into_iter().chain([step]) {
            world.gaps.passing(step, Gap::Answered);
        }
        let operation = &going.run.operation;
        world.meter.operation(operation.kind, operation.status);
        self.count_reconciled(&going.run);
        world.driver.changed(going.lease.instance, going.lease.operation);
        Ok(operation.status.is_over().then_some(Worked::Over))
    }

    /// The answer that a provision's caller gets: fixed by the first settlement, because replays repeat it.
    fn answer(&self, going: &Going, settle: &Settle) -> Result<Option<Answer>, StoreError> {
        let operation = &going.run.operation;
        if operation.kind != OperationKind::Provision || operation.status == OperationStatus::Reconciling {
            return Ok(None);
        }
        let after = run::settled(&going.run, going.lease.epoch, settle)?;
        let registered =
            Registered { reservation: after.run.reservation, operation: after.run.operation, route: after.route };
        let records = going.records.clone().unwrap_or_default();
        Ok(Some(self.world.render.provision(&registered, &records)))
    }

    fn count_reconciled(&self, run: &Run) {
        let settled = run.operation.status.is_over() && run.operation.kind == OperationKind::Provision;
        let in_doubt = run.reservation.unanswered as usize > run.reservation.resources.len();
        let had_doubts = in_doubt || run.operation.attempt > 1;
        if settled && had_doubts {
            let outcome = if run.reservation.status == Status::Completed { "completed" } else { "released" };
            self.world.meter.reconciliation(outcome);
        }
    }
}
