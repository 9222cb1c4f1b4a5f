//! A world in one hand: a provider, records, billing and executors, driven by the plan in virtual time.
//!
//! It does what an engine does and nothing else: claim, plan, note, act, commit what came of it. Every commit is checked
//! against the invariants, and every step of the plan against its manners: no act past the deadline, no second try at the
//! instant of the first, no wait beyond its bound.

use std::time::Duration;

use freehold_domain::event::{Actor, EventKind};
use freehold_domain::ids::LeakId;
use freehold_domain::invariants::{Tenancy, check_change, check_context};
use freehold_domain::lease::Epoch;
use freehold_domain::operation::{OperationKind, Step};
use freehold_domain::plan::{Action, Capabilities, Next, Patience, Situation, next};
use freehold_domain::records::{CanonicalSuccess, RecordsView};
use freehold_domain::reservation::Status;
use freehold_domain::resource::{Resource, ResourceKind, RuntimeState};
use freehold_domain::route::{Endpoint, Route};
use freehold_domain::run::{
    Begin, Bid, Change, Destroy, Finding, Hold, LeakChange, Note, Refused, Run, Settle, Settlement, Then, Work,
    admitted, begun, claimed, destroyed, folded, noted, repaired, settled, swept,
};
use freehold_domain::time::Timestamp;

mod other_side;
mod plot;

pub(crate) use plot::{Fault, Moment, PROVIDERS, Plot, provider};

use crate::common::{START, bid, commission, holder, resource, subscription};

/// How long a lease lasts.
pub(crate) const LEASE: Duration = Duration::from_secs(10);
/// How long after its send an effect may arrive.
pub(crate) const HORIZON: Duration = Duration::from_secs(60);
/// How long going forward may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);
/// The longest wait between tries.
pub(crate) const RETRY_MAX: Duration = Duration::from_secs(60);
/// How long a fresh runtime takes to be up.
const START_UP: Duration = Duration::from_millis(100);
/// More acts than any story needs at one instant: a loop without a wait passes it.
const ACTS_AT_ONE_INSTANT_MAX: u32 = 16;
/// More steps than any story needs: an endless one passes it.
const STEPS_MAX: u32 = 2_000;
/// How long an executor that is about to stall goes on renewing its lease.
const STALL: Duration = Duration::from_secs(30);

pub(crate) const PATIENCE: Patience = Patience {
    max_attempts: 5,
    retry_min: Duration::from_secs(1),
    retry_max: RETRY_MAX,
    ready_grace: Duration::from_secs(5),
    lease: LEASE,
};

struct Live {
    resource: Resource,
    state: RuntimeState,
    since: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Billing {
    Never,
    Running,
    Ended,
}

struct Executor {
    held: Epoch,
    run: Run,
    finding: Option<(Step, Finding)>,
}

/// The world.
pub(crate) struct World {
    pub(crate) now: Timestamp,
    pub(crate) run: Run,
    pub(crate) route: Option<Route>,
    pub(crate) records: RecordsView,
    pub(crate) leaked: bool,
    pub(crate) told: Vec<EventKind>,
    pub(crate) acts: u32,
    pub(crate) waits: Vec<(Step, Duration)>,
    capabilities: Capabilities,
    plot: Plot,
    read: Vec<(Timestamp, RecordsView)>,
    billing: Billing,
    live: Vec<Live>,
    gone: Vec<Resource>,
    late: Vec<(Timestamp, Action)>,
    sealed: bool,
    made: u32,
    claims: u32,
    executor: Option<Executor>,
    failing: Option<(Timestamp, Step)>,
    at_once: (Timestamp, u32),
    operations: u8,
}

impl World {
    /// A world in which one instance was just admitted.
    pub(crate) fn admitted(capabilities: Capabilities, plot: Plot) -> Self {
        let regions = plot.regions.iter().map(|&region| region.to_owned()).collect();
        let bid = Bid { regions, ..bid(1) };
        let change = admitted(bid, &commission(1, START.plus(DEADLINE)), START);
        Self {
            now: START,
            run: change.run,
            route: None,
            records: RecordsView::default(),
            leaked: false,
            told: Vec::new(),
            acts: 0,
            waits: Vec::new(),
            capabilities,
            plot,
            read: Vec::new(),
            billing: Billing::Never,
            live: Vec::new(),
            gone: Vec::new(),
            late: Vec::new(),
            sealed: false,
            made: 0,
            claims: 0,
            executor: None,
            failing: None,
            at_once: (START, 0),
            operations: 1,
        }
    }

    /// A world in which one instance is complete, and `plot` begins.
    pub(crate) fn completed(capabilities: Capabilities, plot: Plot) -> Self {
        let world = Self::admitted(capabilities, Plot::default()).settled();
        assert_eq!(world.run.reservation.status, Status::Completed);
        world.with_plot(plot)
    }

    /// The same world, in which `plot` begins.
    pub(crate) fn with_plot(mut self, plot: Plot) -> Self {
        self.plot = plot;
        self.acts = 0;
        self
    }

    fn next_commission(&mut self) -> freehold_domain::run::Commission {
        self.operations += 1;
        commission(self.operations, self.now.plus(DEADLINE))
    }

    /// Somebody asks for work.
    pub(crate) fn begin(&mut self, work: Work) {
        let commission = self.next_commission();
        match begun(&self.run, work, &commission, self.now).expect("the instance is complete") {
            Begin::Accepted(change) => self.commit(*change),
            Begin::NothingToDo | Begin::Underway(_) => {}
        }
    }

    /// Somebody destroys the instance.
    pub(crate) fn destroy(&mut self) {
        let commission = self.next_commission();
        match destroyed(&self.run, None, &commission, self.now) {
            Destroy::Accepted(change) => self.commit(*change),
            Destroy::Finished | Destroy::Underway(_) => {}
        }
    }

    /// Something of the instance appears at the provider behind everybody's back.
    pub(crate) fn appear(&mut self, kind: ResourceKind) -> Resource {
        self.made += 1;
        let resource = resource(kind, self.made);
        self.live.push(Live { resource: resource.clone(), state: RuntimeState::Running, since: self.now });
        resource
    }

    /// The janitor has resources removed that it saw a horizon ago for the first time.
    pub(crate) fn sweep(&mut self, found: &[Resource]) {
        self.now = self.now.plus(HORIZON);
        let commission = self.next_commission();
        let leak = LeakId::mint(self.now.as_millis(), [self.operations; 10]);
        let held = self.run.reservation.epoch;
        self.commit(swept(&self.run, held, found, leak, &commission, self.now).expect("it may be swept"));
    }

    /// Whether the reservation was repaired.
    fn success_arrives(&mut self) -> bool {
        if self.billing == Billing::Running && self.records.row_is_active() && self.records.subscription.is_none() {
            let mut records = self.records.clone();
            records.subscription = Some(subscription(self.run.reservation.instance, self.now));
            self.write(records);
        }
        let Some(proof) = CanonicalSuccess::establish(&self.records) else {
            return false;
        };
        let endpoint = Endpoint("http://127.0.0.1:1".to_owned());
        match repaired(&self.run, &proof, &endpoint, Actor::System, self.now, self.now.plus(RETRY_MAX)) {
            Ok(change) => {
                self.commit(change);
                true
            }
            Err(_) => false,
        }
    }

    fn commit(&mut self, change: Change) {
        let violations = check_change(&self.run, &change);
        assert!(violations.is_empty(), "{violations:?} after {}", self.tale());
        match change.leak {
            Some(LeakChange::Open { .. }) => self.leaked = true,
            Some(LeakChange::Resolve) => self.leaked = false,
            None => {}
        }
        self.told.extend(change.events.iter().map(|event| event.kind));
        self.run = change.run;
        self.route = change.route.or(self.route.take());
        let reservation = &self.run.reservation;
        let tenancy = Tenancy {
            reservation: reservation.clone(),
            route: self.route.clone(),
            records: self.records.clone(),
            leaked: self.leaked,
        };
        let violations = check_context(&[tenancy], 1);
        assert!(violations.is_empty(), "{violations:?} after {}", self.tale());
        let over = self.run.operation.status.is_over();
        assert_eq!(over, self.run.operation.due_at.is_none(), "what is not over has a timer");
        let open = reservation.status.is_unresolved()
            || (reservation.status == Status::Completed && reservation.intent.is_destroy());
        assert!(!(open && over), "something is left to do, and nobody to do it, after {}", self.tale());
    }

    fn tale(&self) -> String {
        format!("{:?} on {:?}: {:?}", self.plot, self.capabilities, self.run)
    }

    /// Lets everything happen until nothing can happen any more.
    pub(crate) fn settled(mut self) -> Self {
        for _ in 0..STEPS_MAX {
            if !self.goes_on() {
                return self.at_rest();
            }
        }
        panic!("it never settles: {}", self.tale());
    }

    /// Lets the next thing happen. Answers whether there was one.
    pub(crate) fn goes_on(&mut self) -> bool {
        self.land();
        let due_at = self.run.operation.due_at;
        if self.executor.is_some() {
            self.step();
        } else if due_at.is_some_and(|due_at| due_at <= self.now) {
            self.claim();
        } else {
            match self.late.iter().map(|(at, _)| *at).chain(due_at).min() {
                Some(wake) => self.now = wake,
                None => return false,
            }
        }
        true
    }

    fn claim(&mut self) {
        let node = char::from(b'a' + u8::try_from(self.claims % 26).expect("small"));
        self.claims += 1;
        let hold = Hold { holder: holder(node, 1), until: self.now.plus(LEASE) };
        let change = claimed(&self.run, &hold, self.now).expect("it is due");
        assert!(change.run.reservation.epoch > self.run.reservation.epoch, "a change of hands raises the epoch");
        self.commit(change);
        self.executor = Some(Executor { held: self.run.reservation.epoch, run: self.run.clone(), finding: None });
    }

    fn step(&mut self) {
        let executor = self.executor.as_ref().expect("somebody");
        let seen = match &executor.finding {
            Some((step, finding)) => folded(&executor.run, *step, finding, self.now),
            None => executor.run.clone(),
        };
        let records = self.records_read();
        let situation = Situation {
            run: &seen,
            records: Some(&records),
            in_the_way: None,
            is_crowded: false,
            wants_storage: true,
            has_endpoint: self.now.since(START) >= self.plot.mute,
            billing_falls_back: false,
            capabilities: self.capabilities,
            patience: PATIENCE,
            now: self.now,
        };
        let settlement = match next(&situation) {
            Next::Act(action) => return self.act(&seen, action),
            Next::Rest(until) => return self.rest(&seen, until),
            Next::Complete(proof) => {
                Settlement::Complete { proof, endpoint: Endpoint("http://127.0.0.1:1".to_owned()) }
            }
            Next::GiveUp(failure) => Settlement::GiveUp(failure),
            Next::Release { evidence, failure } => Settlement::Release { evidence, failure },
            Next::Succeed => Settlement::Succeed { endpoint: None },
            Next::Fail(failure) => Settlement::Fail(failure),
            Next::Nothing => {
                self.executor = None;
                return;
            }
        };
        let mut executor = self.executor.take().expect("somebody");
        let settle =
            Settle { at: self.now, finding: executor.finding.take(), settlement, check_at: self.now.plus(RETRY_MAX) };
        match settled(&self.run, executor.held, &settle) {
            Ok(change) => {
                self.commit(change);
                if !self.run.operation.status.is_over() {
                    self.executor = Some(Executor { run: self.run.clone(), ..executor });
                }
            }
            Err(Refused::Fenced(_)) => {}
            Err(Refused::Illegal(illegal)) => panic!("the plan asks for the illegal: {illegal}: {}", self.tale()),
        }
    }

    fn rest(&mut self, seen: &Run, until: Timestamp) {
        assert!(until > self.now, "a rest that is none: {}", self.tale());
        let span = until.since(self.now);
        assert!(span <= RETRY_MAX.max(LEASE + HORIZON), "a rest of {span:?}: {}", self.tale());
        if seen.reservation.status == Status::InProgress {
            assert!(until <= seen.operation.deadline, "a rest past the deadline: {}", self.tale());
        }
        if let Some(step) = seen.operation.steps.iter().max_by_key(|record| record.finished_at) {
            self.waits.push((step.step, span));
        }
        let executor = self.executor.take().expect("somebody");
        let note = Note { at: self.now, finding: executor.finding, then: Then::Rest(until) };
        match noted(&self.run, executor.held, &note) {
            Ok(change) => self.commit(change),
            Err(Refused::Fenced(_)) => {}
            Err(Refused::Illegal(illegal)) => panic!("no rest: {illegal}"),
        }
    }

    fn manners(&mut self, seen: &Run, action: &Action) {
        let step = action.step();
        let room_elsewhere = (seen.operation.regions_full as usize) < seen.reservation.regions.len();
        assert!(self.failing != Some((self.now, step)) || room_elsewhere, "{step} again at once: {}", self.tale());
        if self.at_once.0 != self.now {
            self.at_once = (self.now, 0);
        }
        self.at_once.1 += 1;
        assert!(self.at_once.1 <= ACTS_AT_ONE_INSTANT_MAX, "a busy loop at {step}: {}", self.tale());
        let forward = step.may_create() || matches!(step, Step::Record | Step::Subscribe);
        let first = seen.operation.step(step).is_none();
        let provisioning = seen.operation.kind == OperationKind::Provision;
        assert!(
            !forward || self.now < seen.operation.deadline || (first && !provisioning),
            "{step} past the deadline: {}",
            self.tale()
        );
    }

    fn fault(&mut self, step: Step) -> Option<Fault> {
        let number = self.acts;
        self.acts += 1;
        if let Some((stuck, fault, times)) = &mut self.plot.stuck
            && *stuck == step
            && *times > 0
        {
            *times -= 1;
            return Some(*fault);
        }
        self.plot.faults.iter().find(|(at, _)| *at == number).map(|(_, fault)| *fault)
    }

    fn renew_for(&mut self, span: Duration) {
        self.now = self.now.plus(span);
        self.run.operation.due_at = Some(self.now.plus(LEASE));
    }

    /// The executor that holds the lease sends at its very end, however late that is.
    fn sends_late(&mut self, action: &Action) {
        let due_at = self.run.operation.due_at.expect("a lease");
        let last_moment = Timestamp::from_micros(due_at.as_micros() - 1);
        self.late.push((last_moment.plus(HORIZON), action.clone()));
    }

    fn act(&mut self, seen: &Run, action: Action) {
        let step = action.step();
        self.manners(seen, &action);
        let destroy = self.plot.destroy.filter(|(at, _)| *at == self.acts).map(|(_, moment)| moment);
        let success = self.plot.late_success.filter(|(at, _)| *at == self.acts).map(|(_, moment)| moment);
        let fault = self.fault(step);
        if destroy == Some(Moment::BeforeNote) {
            self.destroy();
        }
        if success == Some(Moment::BeforeNote) {
            self.success_arrives();
        }
        if fault == Some(Fault::CrashBeforeNote) {
            self.executor = None;
            return;
        }
        let mut executor = self.executor.take().expect("somebody");
        let then = if action.only_reads() { Then::Look } else { Then::Intend(step) };
        let note = Note { at: self.now, finding: executor.finding.take(), then };
        match noted(&self.run, executor.held, &note) {
            Ok(change) => self.commit(change),
            Err(Refused::Fenced(_)) => return,
            Err(Refused::Illegal(illegal)) => panic!("the plan asks for the illegal: {illegal}: {}", self.tale()),
        }
        executor.run = self.run.clone();
        if matches!(success, Some(Moment::Noted | Moment::NotedLongAgo)) && self.success_arrives() {
            self.late.push((self.now.plus(HORIZON), action.clone()));
            return;
        }
        match (destroy, fault) {
            (Some(Moment::Noted), _) => {
                self.sends_late(&action);
                self.destroy();
                return;
            }
            (Some(Moment::NotedLongAgo), _) => {
                self.renew_for(STALL);
                self.sends_late(&action);
                self.destroy();
                return;
            }
            (_, Some(Fault::CrashNoted)) => return,
            (_, Some(Fault::StallNoted)) => {
                self.renew_for(STALL);
                self.sends_late(&action);
                return;
            }
            _ => {}
        }
        let finding = self.answer(&action, fault);
        self.failing = (!matches!(finding, Finding::Done(_))).then_some((self.now, step));
        if destroy == Some(Moment::Sent) {
            self.destroy();
        }
        if success == Some(Moment::Sent) {
            self.success_arrives();
        }
        match fault {
            Some(Fault::CrashSent) => {}
            Some(Fault::CrashAnswered) => {
                let note = Note { at: self.now, finding: Some((step, finding)), then: Then::Look };
                if let Ok(change) = noted(&self.run, executor.held, &note) {
                    self.commit(change);
                }
            }
            _ => {
                executor.finding = Some((step, finding));
                self.executor = Some(executor);
            }
        }
    }

    /// How many things of a kind there are at the provider.
    pub(crate) fn live(&self, kind: ResourceKind) -> usize {
        self.live.iter().filter(|live| live.resource.kind == kind).count()
    }

    /// What the runtime is doing at the provider.
    pub(crate) fn runtime(&self) -> Option<&RuntimeState> {
        self.live.iter().find(|live| live.resource.kind == ResourceKind::Runtime).map(|live| &live.state)
    }

    fn at_rest(self) -> Self {
        let runtimes = self.live(ResourceKind::Runtime);
        match self.run.reservation.status {
            Status::Completed => {
                let kept = if self.run.reservation.extra().is_some() { 2 } else { 1 };
                assert_eq!(runtimes, kept, "a complete instance has one runtime, or knows of more: {}", self.tale());
                assert_eq!(self.billing, Billing::Running, "{}", self.tale());
                assert!(self.route.as_ref().is_some_and(Route::is_live), "{}", self.tale());
            }
            Status::Released { .. } => {
                assert_eq!(runtimes, 0, "a released one has none: {}", self.tale());
                assert_eq!(self.live(ResourceKind::Storage), 0, "{}", self.tale());
                assert_ne!(self.billing, Billing::Running, "nobody pays for it: {}", self.tale());
                assert!(!self.route.as_ref().is_some_and(Route::is_live), "{}", self.tale());
            }
            Status::InProgress | Status::NeedsReconciliation { .. } => panic!("unresolved: {}", self.tale()),
        }
        self
    }
}
