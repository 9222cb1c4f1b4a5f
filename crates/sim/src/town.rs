//! A town of a few servers over one store and one provider, in which anything may go wrong at any moment, and in which
//! everything must be well once nothing goes wrong any more.
//!
//! A storm comes first: requests, crashes, freezes, faults of the provider, commits that are refused or whose answers are
//! lost. Invariants are checked after every event. Then a calm: no fault any more, time passes, and everything must come to
//! rest by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use freehold_domain::lease::LeaseTerm;
use freehold_domain::plan::Capabilities;
use freehold_domain::resource::RejectionClass;
use freehold_domain::route::Endpoint;
use freehold_domain::time::Timestamp;
use freehold_engine::ident::Idents;
use freehold_engine::ports::{Installation, Store};
use freehold_engine::reconcilers::{drift, due};
use freehold_providers::fake::{Call, CallKind, FakeCloud, FakeProvider, Fault, Sight};
use freehold_store::{CommitFault, SqliteOptions, SqliteStore};

use crate::chance::Chance;
use crate::history::History;
use crate::node::{LEASE, Node, Shared};
use crate::oracle;
use crate::requests;
use crate::tasks::Task;
use crate::time::{SkewedClock, VirtualTime};

/// How likely things are to go wrong, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// How many events the storm has.
    pub events: usize,
    /// Of an event: that a node dies.
    pub crash: u32,
    /// Of an event: that a node freezes.
    pub freeze: u32,
    /// Of a provider's call: that it goes wrong.
    pub provider: u32,
    /// Of a commit: that it is refused or its answer is lost.
    pub commit: u32,
    /// Whether looks may find nothing and swear to it, whatever is there. No honest provider does this: the oracle has to
    /// notice what comes of it.
    pub lies: bool,
}

impl Profile {
    /// Nothing goes wrong.
    pub const FAIR: Self = Self { events: 400, crash: 0, freeze: 0, provider: 0, commit: 0, lies: false };

    /// Everything does, often.
    pub const STORM: Self = Self { events: 900, crash: 2, freeze: 1, provider: 25, commit: 4, lies: false };
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// Its history, line by line.
    pub trace: Vec<String>,
    /// What was broken; empty if all is well.
    pub broken: Vec<String>,
}

/// How many contexts there are: few, so that they are fought over.
pub(crate) const OWNERS: usize = 3;

/// How long the longest late effect is, and so the settle horizon.
const HORIZON: Duration = Duration::from_secs(5);

/// How many rounds the calm may take: each lets at most a minute pass.
const CALM_ROUNDS_MAX: usize = 2_000;

/// How many things are under way at once at the most.
const TASKS_MAX: usize = 24;

pub(crate) struct Town {
    pub(crate) shared: Shared,
    pub(crate) store: Arc<SqliteStore>,
    pub(crate) cloud: FakeCloud,
    pub(crate) idents: Idents,
    pub(crate) history: History,
    profile: Profile,
    chance: Chance,
    nodes: Vec<Node>,
    frozen_until: Vec<Timestamp>,
    tasks: Vec<Task>,
    stormy: Arc<AtomicBool>,
}

/// Runs one seed.
///
/// # Panics
/// When the store cannot be opened in memory.
#[must_use]
pub fn run(seed: u64, profile: &Profile) -> Report {
    let mut town = Town::found(seed, *profile);
    let mut broken = town.storm();
    if broken.is_empty() {
        broken = town.calm();
    }
    Report { seed, trace: town.history.lines(), broken }
}

/// The value of a future that waits for nobody.
pub(crate) fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut future = Box::pin(future);
    match future.as_mut().poll(&mut TaskContext::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("the inline store waits for nobody"),
    }
}

impl Town {
    fn found(seed: u64, profile: Profile) -> Self {
        let chance = Chance::of(seed);
        let time = VirtualTime::default();
        let stormy = Arc::new(AtomicBool::new(true));
        let clock = Arc::new(SkewedClock::new(time.clone(), 0));
        let hook = commit_faults(profile.commit, chance.clone(), stormy.clone());
        let options = SqliteOptions::memory(clock, LeaseTerm(LEASE)).fault(hook);
        let store = Arc::new(SqliteStore::open(options).expect("a store in memory opens"));
        let installation =
            Installation { install: "sim".parse().expect("a valid name"), mac_key: [7; 32], secret_key: [8; 32] };
        let idents = Idents::new(installation.install.clone(), &installation.mac_key);
        let capabilities = Capabilities { settle_horizon: HORIZON, ..*chance.pick(&PROMISES) };
        let cloud = FakeCloud::default();
        cloud.answer_at(Endpoint("http://127.0.0.1:1".to_owned()));
        cloud.starting_for(Duration::from_millis(500));
        cloud.set_chance(provider_faults(profile.provider, chance.clone(), capabilities));
        let provider = Arc::new(FakeProvider::new(cloud.clone(), idents.clone(), capabilities));
        let shared = Shared {
            store: store.clone(),
            records: store.clone(),
            provider,
            time,
            chance: chance.clone(),
            installation,
        };
        let history = History::default();
        history.tell(format!("seed {seed}, provider {capabilities:?}"));
        // Two servers whose clocks disagree by five minutes.
        let nodes = vec![Node::start(&shared, "node-a", 0), Node::start(&shared, "node-b", 300_000_000)];
        let frozen_until = vec![shared.time.now(); nodes.len()];
        Self { shared, store, cloud, idents, history, profile, chance, nodes, frozen_until, tasks: Vec::new(), stormy }
    }

    fn storm(&mut self) -> Vec<String> {
        let mut commits = 0;
        for event in 0..self.profile.events {
            self.happen();
            // What nobody wrote nobody broke.
            if std::mem::replace(&mut commits, self.store.stats().commits) == self.store.stats().commits {
                continue;
            }
            let broken = oracle::check(self);
            if !broken.is_empty() {
                self.history.tell(format!("broken at event {event}"));
                return broken;
            }
        }
        Vec::new()
    }

    fn happen(&mut self) {
        self.pass(Duration::from_micros(self.chance.below(20_000) as u64));
        let node = self.chance.below(self.nodes.len());
        match self.chance.below(100) as u32 {
            dice if dice < self.profile.crash => self.crash(node),
            dice if dice < self.profile.crash + self.profile.freeze => self.freeze(node),
            dice if dice < 10 => self.ask(node),
            dice if dice < 14 => self.tick(node),
            dice if dice < 17 => self.renew(node),
            dice if dice < 18 => self.watch(node),
            dice if dice < 20 => self.pass(Duration::from_millis(self.chance.below(3_000) as u64)),
            dice if dice < 21 => self.impair(),
            _ => self.go_on(),
        }
    }

    fn pass(&mut self, span: Duration) {
        self.shared.time.pass(span);
        self.cloud.advance(self.shared.time.now());
    }

    fn crash(&mut self, node: usize) {
        let lost = self.tasks.iter().filter(|task| task.node == node).count();
        self.history.tell(format!("{} dies with {lost} things under way", self.nodes[node].holder.node));
        self.tasks.retain(|task| task.node != node);
        let name = self.nodes[node].holder.node.to_string();
        self.nodes[node] = Node::start(&self.shared, &name, self.nodes[node].skew_micros);
        self.frozen_until[node] = self.shared.time.now();
        let world = self.nodes[node].world().clone();
        self.begin(node, "return", async move { format!("{:?}", due::returned(&world).await) });
    }

    fn freeze(&mut self, node: usize) {
        let tenths = 1 + self.chance.below(100) as u32;
        self.frozen_until[node] = self.shared.time.now().plus(LEASE * tenths / 10);
        self.history.tell(format!("{} freezes for {} tenths of a lease", self.nodes[node].holder.node, tenths));
    }

    fn impair(&mut self) {
        let honest = [Sight::Unanswered, Sight::Inconclusive, Sight::Flapping, Sight::Stale];
        let sight = if self.profile.lies { Sight::Lying } else { *self.chance.pick(&honest) };
        let until = self.shared.time.now().plus(Duration::from_millis(self.chance.below(4_000) as u64));
        self.history.tell(format!("looks are {sight:?}"));
        self.cloud.impair(sight, until);
    }

    fn ask(&mut self, node: usize) {
        if self.tasks.len() < TASKS_MAX {
            let control = self.nodes[node].control.clone();
            let (name, request) = requests::any(&self.chance, control, self.history.clone());
            self.tasks.push(Task::new(node, name, request));
        }
    }

    fn begin(&mut self, node: usize, name: &str, future: impl Future<Output = String> + 'static) {
        self.tasks.push(Task::new(node, name, future));
    }

    fn tick(&mut self, node: usize) {
        let executor = self.nodes[node].executor.clone();
        let world = self.nodes[node].world().clone();
        self.begin(node, "timers", async move {
            let Ok(due) = due::pass(&world, 16).await else { return "timers unread".to_owned() };
            let mut told = Vec::new();
            for operation in due.operations {
                told.push(format!("{operation}: {:?}", executor.work_once(operation).await));
            }
            told.join(", ")
        });
    }

    fn renew(&mut self, node: usize) {
        let executor = self.nodes[node].executor.clone();
        self.begin(node, "renew", async move {
            executor.renew().await;
            String::new()
        });
    }

    fn watch(&mut self, node: usize) {
        let world = self.nodes[node].world().clone();
        self.begin(node, "watch", async move { format!("{:?}", drift::pass(&world, 16).await) });
    }

    /// Lets one thing that is under way on a node that is awake go on until its next call.
    fn go_on(&mut self) {
        let now = self.shared.time.now();
        let awake: Vec<usize> =
            (0..self.tasks.len()).filter(|&position| self.frozen_until[self.tasks[position].node] <= now).collect();
        if !awake.is_empty() {
            let position = *self.chance.pick(&awake);
            self.poll(position);
        }
    }

    fn poll(&mut self, position: usize) {
        if let Some(told) = self.tasks[position].go_on() {
            let task = self.tasks.swap_remove(position);
            self.history.tell(format!("{} {}: {told}", self.nodes[task.node].holder.node, task.name));
        }
        for node in 0..self.nodes.len() {
            for claimed in self.nodes[node].hints.take() {
                let executor = self.nodes[node].executor.clone();
                let name = format!("run {}", claimed.lease.operation);
                self.begin(node, &name, async move { format!("{:?}", executor.work(claimed).await) });
            }
        }
    }

    /// Nothing goes wrong any more, and time passes until nothing is left to do.
    fn calm(&mut self) -> Vec<String> {
        self.stormy.store(false, Ordering::Relaxed);
        self.cloud.heal();
        self.history.tell("calm");
        for round in 0..CALM_ROUNDS_MAX {
            self.frozen_until.fill(self.shared.time.now());
            for node in 0..self.nodes.len() {
                self.renew(node);
                self.tick(node);
                self.watch(node);
            }
            while !self.tasks.is_empty() {
                self.poll(0);
            }
            let broken = oracle::check(self);
            if !broken.is_empty() {
                return broken;
            }
            let next = at_once(self.store.due_next()).ok().flatten();
            if next.is_none() && !self.cloud.has_late() {
                self.history.tell(format!("at rest after {round} rounds"));
                return oracle::check_rest(self);
            }
            let wait = next.map_or(HORIZON, |next| next.since(self.shared.time.now()));
            self.pass(wait.clamp(Duration::from_millis(10), Duration::from_secs(60)));
        }
        vec![format!("Settles: not at rest after {CALM_ROUNDS_MAX} rounds of calm")]
    }
}

/// What the providers of different worlds promise.
const PROMISES: [Capabilities; 3] = [
    Capabilities { enforces_names: true, seals: true, storage: true, logs: false, settle_horizon: HORIZON },
    Capabilities { enforces_names: false, seals: true, storage: true, logs: false, settle_horizon: HORIZON },
    Capabilities { enforces_names: false, seals: false, storage: true, logs: false, settle_horizon: HORIZON },
];

fn commit_faults(percent: u32, chance: Chance, stormy: Arc<AtomicBool>) -> impl FnMut() -> CommitFault + Send {
    move || {
        if !stormy.load(Ordering::Relaxed) || !chance.percent(percent) {
            return CommitFault::None;
        }
        match chance.below(3) {
            0 => CommitFault::Refuse,
            1 => CommitFault::Lose { applied: true },
            _ => CommitFault::Lose { applied: false },
        }
    }
}

/// What goes wrong with calls. What only a janitor can mend is not among it: a second copy behind a first one's back,
/// and a resource that comes back after it was seen to be gone.
fn provider_faults(
    percent: u32,
    chance: Chance,
    capabilities: Capabilities,
) -> impl FnMut(&Call) -> Option<Fault> + Send {
    move |call| {
        if !chance.percent(percent) {
            return None;
        }
        let late = Fault::Late(Duration::from_millis(chance.below(5_000) as u64));
        let creates = matches!(call.kind, CallKind::Ensure(_));
        Some(match chance.below(8) {
            0 | 1 => Fault::AnswerLost,
            2 => Fault::NothingDone,
            3 | 4 => late,
            5 => Fault::NotSent,
            6 if creates => Fault::Refused(chance.pick(&refusals()).clone()),
            6 => Fault::AnswerLost,
            _ if creates && capabilities.enforces_names => Fault::Twice,
            _ => Fault::NothingDone,
        })
    }
}

fn refusals() -> [RejectionClass; 3] {
    [RejectionClass::Invalid, RejectionClass::Quota, RejectionClass::Unauthorized]
}
