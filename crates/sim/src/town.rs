//! A town of a few servers over one store, one provider and one billing service, in one thread and in virtual time. It
//! knows how things happen; what happens is decided by a storm ([`crate::storm`]) or by a cell of the grid
//! ([`crate::grid`]).
//!
//! Whatever happened before, a calm must end well: no fault any more, time passes, and everything comes to rest by itself.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use freehold_domain::ids::OperationId;
use freehold_domain::lease::{Holder, LeaseTerm};
use freehold_domain::plan::Capabilities;
use freehold_domain::route::Endpoint;
use freehold_domain::time::Timestamp;
use freehold_engine::ident::Idents;
use freehold_engine::ports::{Clock, Installation, Provider, Share, Store};
use freehold_engine::reconcilers::{drift, due, janitor};
use freehold_engine::world::Template;
use freehold_providers::fake::{FakeCloud, FakeProvider};
use freehold_store::{CommitFault, SqliteOptions, SqliteStore};

use crate::billing::FarBilling;
use crate::chance::Chance;
use crate::ground::{Ground, HORIZON};
use crate::history::History;
use crate::node::{LEASE, Node, RETRY_MAX, Shared, plans};
use crate::oracle::Oracle;
use crate::places::{Hits, Place, Places};
use crate::records::FarRecords;
use crate::tasks::{Task, at_once};
use crate::time::{VirtualTime, WrongClock};
use crate::watch::Watch;

/// How many rounds a calm may take: each lets at most a minute pass.
const CALM_ROUNDS_MAX: usize = 2_000;

/// How often tasks may be polled in one round of a calm: more is a loop that waits for nothing.
const POLLS_MAX: usize = 100_000;

/// Within which time everything unresolved is resolved once nothing goes wrong any more: the longest wait between two
/// tries, twice, a takeover, and what absence takes to be proven where there is no seal.
pub const SETTLES_WITHIN: Duration =
    Duration::from_secs(2 * RETRY_MAX.as_secs() + 2 * LEASE.as_secs() + 2 * HORIZON.as_secs());

/// Decides about a commit.
pub(crate) type CommitHook = Arc<Mutex<Box<dyn FnMut() -> CommitFault + Send>>>;

/// A world.
pub struct Town {
    pub(crate) shared: Shared,
    pub(crate) store: Arc<SqliteStore>,
    /// The records: the same database, or one of their own.
    pub(crate) records: Arc<SqliteStore>,
    pub(crate) ground: Arc<dyn Ground>,
    pub(crate) idents: Idents,
    pub(crate) time: VirtualTime,
    pub(crate) history: History,
    pub(crate) oracle: Oracle,
    pub(crate) chance: Chance,
    pub(crate) nodes: Vec<Node>,
    pub(crate) tasks: Vec<Task>,
    pub(crate) crashed_at: Hits,
    pub(crate) slowest_settle: Duration,
    /// How often something went on from one call to the next.
    pub(crate) steps: u64,
    /// Whether there is a janitor. Without one the oracle has to notice what is left.
    pub(crate) janitor: bool,
    store_clock: WrongClock,
    frozen_until: Vec<Timestamp>,
    down: Vec<bool>,
    commits: CommitHook,
    commit_armed: Arc<AtomicBool>,
}

/// The provider of a world.
pub(crate) struct Land {
    pub(crate) provider: Arc<dyn Provider>,
    pub(crate) ground: Arc<dyn Ground>,
    /// What instances run.
    pub(crate) program: Template,
}

impl Land {
    /// A fake that promises `capabilities`.
    pub(crate) fn fake(cloud: &FakeCloud, idents: &Idents, capabilities: Capabilities) -> Self {
        cloud.answer_at(Endpoint("http://127.0.0.1:1".to_owned()));
        cloud.starting_for(Duration::from_millis(500));
        Self {
            provider: Arc::new(FakeProvider::new(cloud.clone(), idents.clone(), capabilities)),
            ground: Arc::new(cloud.clone()),
            program: Template { command: vec!["hello".to_owned()], ..Template::default() },
        }
    }
}

/// Names and keys of every world.
pub(crate) fn installation() -> Installation {
    Installation { install: "sim".parse().expect("a valid name"), mac_key: [7; 32], secret_key: [8; 32] }
}

/// The idents of every world.
pub(crate) fn idents() -> Idents {
    let installation = installation();
    Idents::new(installation.install, &installation.mac_key)
}

impl Town {
    /// Two servers whose clocks disagree by five minutes.
    pub(crate) fn found(chance: Chance, land: Land) -> Self {
        Self::found_with(chance, land, false)
    }

    /// The same, with the records in a database of their own, where nobody sees the registry.
    pub(crate) fn found_with(chance: Chance, land: Land, records_elsewhere: bool) -> Self {
        let time = VirtualTime::default();
        let store_clock = WrongClock::new(time.clone(), 0);
        let commits: CommitHook = Arc::new(Mutex::new(Box::new(|| CommitFault::None)));
        let asked = Arc::clone(&commits);
        let options = SqliteOptions::memory(Arc::new(store_clock.clone()), LeaseTerm(LEASE))
            .fault(move || asked.lock().unwrap_or_else(PoisonError::into_inner)());
        let store = Arc::new(SqliteStore::open(options).expect("a store in memory opens"));
        let records = if records_elsewhere {
            let options = SqliteOptions::memory(Arc::new(store_clock.clone()), LeaseTerm(LEASE));
            Arc::new(SqliteStore::open(options).expect("a store in memory opens"))
        } else {
            store.clone()
        };
        let promises = land.provider.capabilities();
        let shared = Shared {
            store: store.clone(),
            far_records: FarRecords::over(records.clone()),
            records_elsewhere,
            provider: land.provider,
            billing: FarBilling::new(plans()),
            places: Places::default(),
            watch: Watch::new(store.clone(), time.clone(), promises),
            chance: chance.clone(),
            installation: installation(),
            program: land.program,
        };
        let clock = |off| WrongClock::new(time.clone(), off);
        let nodes = vec![Node::start(&shared, "node-a", clock(0)), Node::start(&shared, "node-b", clock(300_000_000))];
        let mut town = Self {
            store,
            records,
            ground: land.ground,
            idents: idents(),
            history: History::new(time.clone()),
            oracle: Oracle::default(),
            chance,
            tasks: Vec::new(),
            crashed_at: Hits::new(),
            slowest_settle: Duration::ZERO,
            steps: 0,
            janitor: true,
            store_clock,
            frozen_until: vec![time.now(); nodes.len()],
            down: vec![false; nodes.len()],
            nodes,
            commits,
            commit_armed: Arc::default(),
            shared,
            time,
        };
        town.pass(Duration::ZERO);
        town
    }

    /// Has the next commit go wrong.
    pub(crate) fn arm_commit(&self, fault: CommitFault) {
        self.commit_armed.store(true, Ordering::Relaxed);
        let armed = Arc::clone(&self.commit_armed);
        self.decide_commits(move || if armed.swap(false, Ordering::Relaxed) { fault } else { CommitFault::None });
    }

    /// Whether that commit is still to come.
    pub(crate) fn commit_is_armed(&self) -> bool {
        self.commit_armed.load(Ordering::Relaxed)
    }

    /// Decides about every commit from now on.
    pub(crate) fn decide_commits(&self, hook: impl FnMut() -> CommitFault + Send + 'static) {
        *self.commits.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(hook);
    }

    /// What is wrong so far, checked again where something was written.
    pub(crate) fn broken(&mut self) -> Vec<String> {
        let mut oracle = std::mem::take(&mut self.oracle);
        let broken = oracle.check(self);
        self.oracle = oracle;
        broken
    }
}

/// What can happen.
impl Town {
    /// Lets time pass everywhere.
    pub(crate) fn pass(&mut self, span: Duration) {
        self.time.pass(span);
        self.ground.advance(self.time.now());
        self.shared.billing.advance(self.time.now());
        for instance in self.shared.far_records.advance(self.time.now()) {
            self.shared.watch.wrote(instance);
        }
    }

    /// A node dies and comes back.
    pub(crate) fn crash(&mut self, node: usize) {
        self.end(node);
        let name = self.nodes[node].holder.node.to_string();
        self.nodes[node] = Node::start(&self.shared, &name, self.nodes[node].clock.clone());
        self.frozen_until[node] = self.time.now();
        let world = self.nodes[node].world().clone();
        self.begin(node, "return", async move { format!("{:?}", due::returned(&world).await) });
    }

    /// A node dies and does not come back.
    pub(crate) fn lose(&mut self, node: usize) {
        self.end(node);
        self.down[node] = true;
    }

    fn end(&mut self, node: usize) {
        let lost = self.tasks.iter().filter(|task| task.node == node);
        for place in lost.clone().filter_map(|task| task.at) {
            *self.crashed_at.entry(place.to_string()).or_default() += 1;
        }
        let under_way = lost.count();
        self.history.tell(format!("{} dies with {under_way} things under way", self.nodes[node].holder.node));
        self.shared.watch.count("crash");
        self.tasks.retain(|task| task.node != node);
    }

    /// A node pauses for so many tenths of a lease.
    pub(crate) fn freeze(&mut self, node: usize, tenths: u32) {
        self.frozen_until[node] = self.time.now().plus(LEASE * tenths / 10);
        self.history.tell(format!("{} freezes for {tenths} tenths of a lease", self.nodes[node].holder.node));
        self.shared.watch.count(if tenths < 10 { "pause within the lease" } else { "pause past the lease" });
    }

    /// A node's wall clock jumps.
    pub(crate) fn jump_node(&mut self, node: usize, by_micros: i64) {
        self.nodes[node].clock.jump(by_micros);
        self.history.tell(format!("{}'s clock jumps by {by_micros} µs", self.nodes[node].holder.node));
        self.shared.watch.count(if by_micros < 0 { "clock jumps back" } else { "clock jumps forward" });
    }

    /// The store's clock jumps forward: it never runs backwards. Where absence is proven by waiting, the wait is not what
    /// it seems.
    pub(crate) fn jump_store(&mut self, by_micros: i64) {
        self.store_clock.jump(by_micros);
        self.history.tell(format!("the store's clock jumps by {by_micros} µs"));
        self.shared.watch.count("store's clock jumps forward");
        for instance in self.history.promise(|promises| promises.admitted.clone()) {
            self.shared.watch.may_be_late(instance);
        }
    }

    /// The time by the store's clock.
    pub(crate) fn store_now(&self) -> Timestamp {
        self.store_clock.now()
    }

    /// Somebody takes a lease that is held, in the name of another life of its holder, and does nothing with it.
    pub(crate) fn steal(&mut self, operation: OperationId) {
        let view = at_once(self.store.operation_describe(operation)).ok().flatten();
        let Some(holder) = view.and_then(|view| view.operation.holder) else { return };
        let thief = Holder { incarnation: self.chance.draw(), ..holder };
        let stolen = at_once(self.store.claim(operation, &thief));
        self.history.tell(format!("the lease of {operation} is stolen: {}", matches!(stolen, Ok(Ok(_)))));
        if let Ok(Ok((run, _))) = stolen {
            self.shared.watch.count("lease stolen");
            self.shared.watch.wrote(run.reservation.instance);
        }
    }

    pub(crate) fn begin(&mut self, node: usize, name: &str, future: impl Future<Output = String> + 'static) {
        self.tasks.push(Task::new(node, name, future));
    }

    /// A node looks at the timers.
    pub(crate) fn tick(&mut self, node: usize) {
        let executor = self.nodes[node].executor.clone();
        let world = self.nodes[node].world().clone();
        self.begin(node, "timers", async move {
            let Ok(due) = due::pass(&world, 16, Share::ALL).await else { return "timers unread".to_owned() };
            let mut told = Vec::new();
            for operation in due.operations {
                told.push(format!("{operation}: {:?}", executor.work_once(operation).await));
            }
            told.join(", ")
        });
    }

    /// A node renews its leases.
    pub(crate) fn renew(&mut self, node: usize) {
        let executor = self.nodes[node].executor.clone();
        self.begin(node, "renew", async move {
            executor.renew().await;
            String::new()
        });
    }

    /// A node's janitor goes through what is there.
    pub(crate) fn sweep(&mut self, node: usize) {
        let task = self.janitors_pass(node);
        self.tasks.push(task);
    }

    /// One pass of a node's janitor.
    pub(crate) fn janitors_pass(&self, node: usize) -> Task {
        let world = self.nodes[node].world().clone();
        let kept = self.nodes[node].janitor.clone();
        Task::new(node, "sweep", async move {
            let lock = || kept.lock().unwrap_or_else(PoisonError::into_inner);
            // A second pass at the same time begins with nothing seen.
            let mut seen = std::mem::take(&mut lock().0);
            let tally = janitor::pass(&world, &mut seen).await;
            *lock() = (seen, tally.clone().ok());
            format!("{tally:?}")
        })
    }

    /// A node looks after runtimes.
    pub(crate) fn look_after(&mut self, node: usize) {
        let world = self.nodes[node].world().clone();
        self.begin(node, "watch", async move { format!("{:?}", drift::pass(&world, 16).await) });
    }
}

/// How it goes on.
impl Town {
    /// Whether a node is neither down nor frozen.
    pub(crate) fn is_awake(&self, node: usize) -> bool {
        !self.down[node] && self.frozen_until[node] <= self.time.now()
    }

    /// Whether a task's node is awake and its call is not stuck.
    pub(crate) fn may_go_on(&self, position: usize) -> bool {
        let task = &self.tasks[position];
        self.is_awake(task.node) && task.stuck_until.is_none_or(|until| until <= self.time.now())
    }

    /// The nodes that can do something.
    pub(crate) fn awake(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|node| self.is_awake(*node)).collect()
    }

    /// Lets the task at a position go on until its next call. Answers where its executor was last, if it passed a place.
    pub(crate) fn poll(&mut self, position: usize) -> Option<Place> {
        self.steps += 1;
        let node = self.tasks[position].node;
        let told = self.tasks[position].go_on();
        let last = self.shared.places.take_last();
        if let Some(place) = last {
            self.tasks[position].at = Some(place);
        }
        if let Some(told) = told {
            let task = self.tasks.swap_remove(position);
            if told.contains("Corrupt(") {
                self.shared.watch.broken(format!("{} heard that the store is damaged: {told}", task.name));
            }
            self.history.tell(format!("{} {}: {told}", self.nodes[node].holder.node, task.name));
        }
        for node in 0..self.nodes.len() {
            for claimed in self.nodes[node].hints.take() {
                let executor = self.nodes[node].executor.clone();
                let operation = claimed.lease.operation;
                let work = async move { format!("{:?}", executor.work(claimed).await) };
                let mut task = Task::new(node, format!("run {operation}"), work);
                task.operation = Some(operation);
                self.tasks.push(task);
            }
        }
        last
    }

    /// One round: every node that is awake does its rounds, and everything under way goes on, task by task, until it
    /// waits or is done. What is broken ends it, and what `look` says after a poll of a task of the node.
    pub(crate) fn round<T>(
        &mut self,
        mut look: impl FnMut(&mut Self, usize) -> Option<T>,
    ) -> Result<Option<T>, Vec<String>> {
        for node in self.awake() {
            self.renew(node);
            self.tick(node);
            self.look_after(node);
        }
        let mut polls = 0;
        let mut next = 0;
        loop {
            let Some(position) = (0..self.tasks.len())
                .map(|step| (next + step) % self.tasks.len())
                .find(|position| self.may_go_on(*position))
            else {
                return Ok(None);
            };
            let node = self.tasks[position].node;
            let before = self.tasks.len();
            self.poll(position);
            // A task that is done gives its place to another; one that waits lets the next one go.
            next = if self.tasks.len() < before { position } else { position + 1 };
            let broken = self.broken();
            if !broken.is_empty() {
                return Err(broken);
            }
            if let Some(seen) = look(self, node) {
                return Ok(Some(seen));
            }
            polls += 1;
            if polls > POLLS_MAX {
                return Err(vec!["BoundedWait: something goes on and on without waiting".to_owned()]);
            }
        }
    }

    /// Whether nothing is left to do, and nothing is still to come.
    pub(crate) fn is_at_rest(&self) -> bool {
        let next = at_once(self.store.due_next()).ok().flatten();
        next.is_none()
            && !self.ground.has_late()
            && !self.shared.billing.has_late()
            && !self.shared.far_records.has_late()
    }

    /// Whether nobody is frozen, and nothing stuck.
    pub(crate) fn all_awake(&self) -> bool {
        let nodes = (0..self.nodes.len()).all(|node| self.down[node] || self.is_awake(node));
        nodes && (0..self.tasks.len()).all(|position| self.may_go_on(position))
    }

    /// Runs one task to its end while everybody else stands still.
    pub(crate) fn ask_alone(&mut self, task: Task) {
        let number = task.number;
        self.tasks.push(task);
        while let Some(position) = self.tasks.iter().position(|task| task.number == number) {
            self.poll(position);
        }
    }

    /// Lets time pass until the next timer of anybody, or until somebody goes on who could not, a minute at the most.
    pub(crate) fn pass_until_next(&mut self) {
        let next = at_once(self.store.due_next()).ok().flatten();
        let wait = next.map_or(HORIZON, |next| next.since(self.store_now()));
        let now = self.time.now();
        let goes_on = self.frozen_until.iter().copied().chain(self.tasks.iter().filter_map(|task| task.stuck_until));
        let wait = goes_on.filter(|until| *until > now).map(|until| until.since(now)).fold(wait, Duration::min);
        self.pass(wait.clamp(Duration::from_millis(10), Duration::from_secs(60)));
    }

    /// Nothing goes wrong any more, and time passes until nothing is left to do. Answers what is broken.
    pub(crate) fn calm(&mut self, stormy: Option<&AtomicBool>) -> Vec<String> {
        if let Some(stormy) = stormy {
            stormy.store(false, Ordering::Relaxed);
        }
        self.ground.heal();
        self.shared.billing.heal();
        self.shared.far_records.heal();
        self.commit_armed.store(false, Ordering::Relaxed);
        self.decide_commits(|| CommitFault::None);
        self.history.tell("calm");
        self.frozen_until.fill(self.time.now());
        for task in &mut self.tasks {
            task.stuck_until = None;
        }
        let mut rested = false;
        let mut unresolved = BTreeMap::new();
        for rounds in 0..CALM_ROUNDS_MAX {
            if let Err(broken) = self.round(|_, _| None::<()>) {
                return broken;
            }
            let broken = self.broken();
            if !broken.is_empty() {
                return broken;
            }
            if let Some(late) = self.time_settling(&mut unresolved) {
                return vec![late];
            }
            let rests = self.is_at_rest();
            if rests && !std::mem::replace(&mut rested, true) {
                // What a janitor saw while something was still to come says nothing.
                self.nodes.iter().for_each(Node::is_to_sweep);
            }
            rested &= rests;
            if rests {
                if self.janitor && self.is_to_sweep() {
                    continue;
                }
                self.history.tell(format!("at rest after {rounds} rounds"));
                return Oracle::check_rest(self);
            }
            self.pass_until_next();
        }
        vec![format!("Settles: not at rest after {CALM_ROUNDS_MAX} rounds of calm")]
    }

    /// Sends a janitor round, where the last one found something, or nobody went since everything came to rest. Answers
    /// whether one goes.
    fn is_to_sweep(&mut self) -> bool {
        let Some(node) = self.awake().into_iter().next().filter(|node| !self.nodes[*node].is_swept()) else {
            return false;
        };
        // What was seen once is seen again after the horizon.
        self.pass(HORIZON.max(LEASE) + Duration::from_secs(1));
        self.sweep(node);
        true
    }

    /// Measures how long what is unresolved stays so from the moment that nothing goes wrong any more.
    fn time_settling(&mut self, since: &mut BTreeMap<freehold_domain::ids::InstanceId, Duration>) -> Option<String> {
        let now = self.time.passed();
        let mut seen = BTreeMap::new();
        for instance in self.oracle.unresolved() {
            let began = since.get(instance).copied().unwrap_or(now);
            self.slowest_settle = self.slowest_settle.max(now - began);
            seen.insert(*instance, began);
        }
        *since = seen;
        (self.slowest_settle > SETTLES_WITHIN).then(|| {
            format!("Settles: unresolved for {:?} of calm, which is more than {SETTLES_WITHIN:?}", self.slowest_settle)
        })
    }
}
