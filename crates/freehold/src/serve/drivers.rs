//! The loops that drive the engine: the only places that spawn, sleep and select on its behalf.
//!
//! - A hint runs an operation at once; without the hint its timer runs it. Both take the same path.
//! - While the node's duty is laid down nothing due is taken; what runs gives itself back between two steps.
//! - Leases are renewed by a loop of its own, so that a call in flight never costs its lease.
//! - At shutdown nothing new begins, what runs gets a moment, and every lease is given back.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::beat::{Heart, Orders};
use freehold_domain::ids::{InstanceId, OperationId};
use freehold_engine::executor::{Executor, Worked};
use freehold_engine::ports::{Claimed, Driver};
use freehold_engine::reconcilers::{billing, drift, due, expiry, janitor, records, stuck};
use freehold_engine::world::World;
use freehold_server::{Hub, Probe};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How many operations run at once on one node: enough to hide slow providers, few enough for their connections.
const RUNNING_MAX: usize = 256;

/// The longest time between two looks at the timers: other nodes set timers that this one is not told of.
const LOOK_AT_LEAST: Duration = Duration::from_secs(1);

/// How many due operations one look takes.
const DUE_AT_ONCE: usize = 256;

/// How many of them are claimed together: they share statements, and the more do, the less each costs, and the longer whoever
/// comes in between waits for a processor.
const CLAIMED_TOGETHER: usize = 32;

/// The time from some that are claimed together to the next: the pace at which a node works off a backlog, 2,700 operations a
/// second at the most. In between requests find the database free.
const CLAIM_PACE: Duration = Duration::from_micros(11_700);

/// How often complete instances are gone through for those to be looked at.
const DRIFT_EVERY: Duration = Duration::from_secs(1);

/// How many of them one pass looks at.
const DRIFT_AT_ONCE: usize = 64;

/// How often stuck destroys and old idempotency records are gone through.
const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(60);

/// How often billing is told of subscriptions that were started without it.
const REPORT_EVERY: Duration = Duration::from_secs(60);

/// How many of them one pass tells of.
const REPORT_AT_ONCE: usize = 64;

/// How long runs in flight may go on at shutdown before their leases are given back under them.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// How many admitted operations may wait for a place: more would lapse before they get one, and are taken by their timers.
pub(crate) const HINTS_MAX: usize = 4096;

/// Passes the engine's hints on.
pub(crate) struct Hints {
    pub(crate) admitted: mpsc::Sender<Claimed>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) timers: Arc<Notify>,
}

impl Driver for Hints {
    fn run(&self, claimed: Claimed) {
        // Where too many wait the lease lapses. At shutdown nobody listens any more: it lapses, or the next start takes it.
        let _ = self.admitted.try_send(claimed);
    }

    fn changed(&self, instance: InstanceId, operation: OperationId) {
        self.hub.changed(instance, operation);
        self.timers.notify_one();
    }
}

/// How long the loop that watches the timers may say nothing before this node counts as not running operations: a
/// hundred times what a look takes on a bad day.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Shows that somebody watches the timers.
#[derive(Clone, Debug)]
pub(crate) struct Pulse {
    began: Instant,
    /// When the timers were last looked at, in milliseconds since `began`.
    last_look: Arc<AtomicU64>,
    executes: bool,
}

impl Pulse {
    /// Of loops that are about to start.
    pub(crate) fn new(duties: Duties) -> Self {
        Self { began: Instant::now(), last_look: Arc::default(), executes: duties.executes }
    }

    fn beat(&self) {
        self.last_look.store(self.millis(), Ordering::Relaxed);
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether operations are run here, for a readiness check.
    pub(crate) fn probe(&self) -> Probe {
        let pulse = self.clone();
        Arc::new(move || {
            if !pulse.executes {
                return Ok("this node runs no operations".to_owned());
            }
            let silence =
                Duration::from_millis(pulse.millis() - pulse.last_look.load(Ordering::Relaxed).min(pulse.millis()));
            if silence <= SILENCE_MAX {
                Ok("runs operations".to_owned())
            } else {
                Err(format!("nobody looked at the timers for {} s", silence.as_secs()))
            }
        })
    }
}

/// The loops, running.
pub(crate) struct Drivers {
    executor: Executor,
    stop: CancellationToken,
    loops: TaskTracker,
    runs: TaskTracker,
}

/// Which loops this node has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Duties {
    pub(crate) executes: bool,
    pub(crate) reconciles: bool,
    pub(crate) renew_every: Duration,
    pub(crate) sweep_every: Duration,
}

impl Drivers {
    /// Starts the loops.
    pub(crate) fn start(
        world: &Arc<World>,
        admitted: mpsc::Receiver<Claimed>,
        timers: Arc<Notify>,
        duties: Duties,
        pulse: Pulse,
        heart: Heart,
    ) -> Self {
        let executor = Executor::new(world.clone());
        let drivers =
            Self { executor, stop: CancellationToken::new(), loops: TaskTracker::new(), runs: TaskTracker::new() };
        if duties.executes {
            let running = Running {
                executor: drivers.executor.clone(),
                world: world.clone(),
                places: Arc::new(Semaphore::new(RUNNING_MAX)),
                runs: drivers.runs.clone(),
                claiming: Claiming::default(),
                interrupted: Arc::default(),
                stop: drivers.stop.clone(),
                pulse,
                orders: heart.orders(),
            };
            drivers.loops.spawn(running.clone().take_hints(admitted));
            drivers.loops.spawn(running.watch_timers(timers));
            drivers.loops.spawn(renew(drivers.executor.clone(), duties.renew_every, drivers.stop.clone()));
        }
        drivers.loops.spawn(heart.beat(drivers.stop.clone()));
        if duties.reconciles {
            drivers.loops.spawn(look_after_runtimes(world.clone(), drivers.stop.clone()));
            drivers.loops.spawn(keep_house(world.clone(), drivers.stop.clone()));
            drivers.loops.spawn(report_subscriptions(world.clone(), drivers.stop.clone()));
            drivers.loops.spawn(sweep(world.clone(), duties.sweep_every, drivers.stop.clone()));
            drivers.loops.spawn(compare_records(world.clone(), duties.sweep_every, drivers.stop.clone()));
        }
        drivers
    }

    /// Ends the loops, waits a moment for what runs, and gives every lease back.
    pub(crate) async fn shut_down(self) {
        self.stop.cancel();
        self.loops.close();
        self.runs.close();
        if timeout(SHUTDOWN_GRACE, self.runs.wait()).await.is_err() {
            tracing::info!(runs = self.runs.len(), "giving back what still runs");
        }
        self.executor.give_back().await;
        if timeout(LOOPS_GRACE, self.loops.wait()).await.is_err() {
            tracing::info!(loops = self.loops.len(), "not waiting for a look at a provider");
        }
    }
}

/// How long the loops may take to notice the end: one may be in the middle of a look at a provider, which loses nothing.
const LOOPS_GRACE: Duration = Duration::from_secs(1);

#[derive(Clone)]
struct Running {
    executor: Executor,
    world: Arc<World>,
    places: Arc<Semaphore>,
    runs: TaskTracker,
    /// What is being claimed: it is still listed as due, and is not asked for twice.
    claiming: Claiming,
    /// Whether the store broke off a run since the last look at the timers.
    interrupted: Arc<AtomicBool>,
    stop: CancellationToken,
    pulse: Pulse,
    orders: Orders,
}

impl Running {
    async fn take_hints(self, mut admitted: mpsc::Receiver<Claimed>) {
        let mut waiting = None;
        while let Some(Some(claimed)) = self.stop.run_until_cancelled(admitted.recv()).await {
            let Some(place) = self.place().await else {
                waiting = Some(claimed);
                break;
            };
            let operation = claimed.lease.operation;
            let running = self.clone();
            self.runs.spawn(async move {
                let worked = running.executor.work(claimed).await;
                running.go_on(operation, worked).await;
                drop(place);
            });
        }
        self.give_back(waiting, admitted).await;
    }

    /// Gives back what nobody has begun to run.
    async fn give_back(&self, waiting: Option<Claimed>, mut admitted: mpsc::Receiver<Claimed>) {
        admitted.close();
        let mut leases: Vec<_> = waiting.into_iter().map(|claimed| claimed.lease).collect();
        while let Ok(claimed) = admitted.try_recv() {
            leases.push(claimed.lease);
        }
        if !leases.is_empty()
            && let Err(error) = self.world.store.give_back(&leases).await
        {
            tracing::warn!(%error, leases = leases.len(), "leases could not be given back; they lapse");
        }
    }

    /// A place to run an operation in; `None` at shutdown.
    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        self.stop.run_until_cancelled(self.places.clone().acquire_owned()).await?.ok()
    }

    async fn watch_timers(self, timers: Arc<Notify>) {
        if let Err(error) = due::returned(&self.world).await {
            tracing::warn!(%error, "work of this node's earlier life waits for its leases to lapse");
        }
        let mut pace = interval(CLAIM_PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.stop.is_cancelled() {
            let Pause { least, most } = self.run_due(&mut pace).await;
            let woken = async { tokio::join!(sleep(least), timeout(most, timers.notified())) };
            if self.stop.run_until_cancelled(woken).await.is_none() {
                return;
            }
            // What a store that takes nothing broke off is due at once, and again, and again: a full disk would get a
            // full log as well.
            if self.interrupted.swap(false, Ordering::Relaxed)
                && self.stop.run_until_cancelled(sleep(LOOK_AT_LEAST)).await.is_none()
            {
                return;
            }
        }
    }

    /// Runs what is due, and answers how long to wait until the next look.
    async fn run_due(&self, pace: &mut Interval) -> Pause {
        self.pulse.beat();
        if !self.world.duty.takes() {
            return Pause::of(LOOK_AT_LEAST);
        }
        let looked_at = self.world.clock.now();
        let claiming = self.claiming.list().clone();
        let due = match due::pass(&self.world, DUE_AT_ONCE + claiming.len(), self.orders.share()).await {
            Ok(due) => due,
            Err(error) => {
                tracing::warn!(%error, "the timers could not be read");
                return Pause::of(LOOK_AT_LEAST);
            }
        };
        let is_full = due.operations.len() >= DUE_AT_ONCE;
        let operations = due.operations.into_iter().filter(|operation| !claiming.contains(operation));
        for (number, operation) in operations.take(DUE_AT_ONCE).enumerate() {
            if number % CLAIMED_TOGETHER == 0 && self.stop.run_until_cancelled(pace.tick()).await.is_none() {
                return Pause::of(LOOK_AT_LEAST);
            }
            let Some(place) = self.place().await.filter(|_| self.world.duty.takes()) else {
                return Pause::of(LOOK_AT_LEAST);
            };
            self.pulse.beat();
            let claim = self.claiming.begin(operation);
            let running = self.clone();
            self.runs.spawn(async move {
                let claimed = running.executor.claim(operation).await;
                drop(claim);
                let worked = match claimed {
                    Ok(claimed) => running.executor.work(claimed).await,
                    Err(worked) => worked,
                };
                running.go_on(operation, worked).await;
                drop(place);
            });
        }
        match due.next {
            None if is_full => Pause::of(CLAIM_PACE),
            None => Pause::of(SOONEST),
            // What was due before the look and is not on the list is left to others for a while.
            Some(next) if next.plus(SOONEST) < looked_at => Pause::of(LEFT_FOR),
            Some(next) => Pause::of(next.since(self.world.clock.now()).clamp(SOONEST, LOOK_AT_LEAST)),
        }
    }

    /// Goes on with an operation that rests for a moment only: a timer of its own is finer than the loop's.
    async fn go_on(&self, operation: OperationId, mut worked: Worked) {
        while let Worked::Resting(until) = worked {
            let rest = until.since(self.world.clock.now());
            if rest > LOOK_AT_LEAST {
                return;
            }
            let deadline = Instant::now() + rest;
            let rested = self.stop.run_until_cancelled(tokio::time::sleep_until(deadline)).await;
            if rested.is_none() || !self.world.duty.takes() {
                return;
            }
            worked = self.executor.work_once(operation).await;
        }
        if let Worked::Interrupted(_) = worked {
            self.interrupted.store(true, Ordering::Relaxed);
        }
    }
}

/// How long to wait until the next look: less than `most` where a timer was set meanwhile.
struct Pause {
    least: Duration,
    most: Duration,
}

impl Pause {
    fn of(most: Duration) -> Self {
        Self { least: SOONEST.min(most), most }
    }
}

/// Operations that this node is claiming.
#[derive(Clone, Default)]
struct Claiming(Arc<Mutex<HashSet<OperationId>>>);

impl Claiming {
    fn list(&self) -> MutexGuard<'_, HashSet<OperationId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more, until what this answers is dropped.
    fn begin(&self, operation: OperationId) -> impl Drop + use<> {
        struct Claim(Claiming, OperationId);
        impl Drop for Claim {
            fn drop(&mut self) {
                self.0.list().remove(&self.1);
            }
        }
        self.list().insert(operation);
        Claim(self.clone(), operation)
    }
}

/// How many rows of the records are compared at once.
const RECORDS_AT_ONCE: usize = 200;

/// The pause behind them.
const RECORDS_PAUSE: Duration = Duration::from_millis(200);

/// The shortest time between two looks at the timers: a busy node must not do nothing but look.
const SOONEST: Duration = Duration::from_millis(20);

/// The pause where all that is due is left to others.
const LEFT_FOR: Duration = Duration::from_millis(200);

async fn renew(executor: Executor, every: Duration, stop: CancellationToken) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        executor.renew().await;
    }
}

async fn look_after_runtimes(world: Arc<World>, stop: CancellationToken) {
    let mut ticks = interval(DRIFT_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        if let Err(error) = drift::pass(&world, DRIFT_AT_ONCE).await {
            tracing::warn!(%error, "runtimes could not be looked after");
        }
    }
}

/// Walks through the records at a gentle pace: a page, a pause, and from the start once per `every`.
async fn compare_records(world: Arc<World>, every: Duration, stop: CancellationToken) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut walk = records::Walk::default();
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        loop {
            match walk.pass(&world, RECORDS_AT_ONCE).await {
                Ok(RECORDS_AT_ONCE) => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(%error, "the records could not be compared with the registry");
                    break;
                }
            }
            if stop.run_until_cancelled(sleep(RECORDS_PAUSE)).await.is_none() {
                return;
            }
        }
    }
}

async fn report_subscriptions(world: Arc<World>, stop: CancellationToken) {
    let mut waits = billing::Waits::default();
    let mut ticks = interval(REPORT_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        // Billing is slow where it is down: at shutdown nobody waits for it. What it heard meanwhile it hears again.
        match stop.run_until_cancelled(billing::pass(&world, &mut waits, REPORT_AT_ONCE)).await {
            Some(Ok(0)) => {}
            Some(Ok(heard)) => tracing::info!(heard, "billing has heard of subscriptions that were started without it"),
            Some(Err(error)) => tracing::warn!(%error, "subscriptions to report could not be listed"),
            None => return,
        }
    }
}

async fn keep_house(world: Arc<World>, stop: CancellationToken) {
    let mut told = stuck::Told::default();
    let mut ticks = interval(HOUSEKEEPING_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        if let Err(error) = stuck::pass(&world, &mut told).await {
            tracing::warn!(%error, "stuck destroys could not be listed");
        }
        loop {
            match expiry::pass(&world).await {
                Ok(true) if !stop.is_cancelled() => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(%error, "old idempotency records could not be forgotten");
                    break;
                }
            }
        }
    }
}

async fn sweep(world: Arc<World>, every: Duration, stop: CancellationToken) {
    let mut seen = janitor::Seen::default();
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        // A pass over many pages takes a while, and at shutdown nothing begins: it ends between two of them.
        match stop.run_until_cancelled(janitor::pass(&world, &mut seen)).await {
            Some(Ok(tally)) => tracing::debug!(?tally, "the janitor went through what is there"),
            Some(Err(error)) => tracing::warn!(%error, "the janitor could not judge everything that is there"),
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use freehold_domain::event::Actor;
    use freehold_domain::lease::{Holder, LeaseTerm};
    use freehold_domain::owner::Context;
    use freehold_engine::control_plane::{Caller, ControlPlane, Provision, SpecRequest};
    use freehold_engine::ports::Installation;
    use freehold_engine::standing::Standing;
    use freehold_server::Metrics;
    use freehold_store::{CommitFault, SqliteOptions, SqliteStore};

    use super::super::beat::{self, Told};
    use super::super::registry::Registry;
    use super::super::wiring::{Identity, Wired};
    use super::super::{DataFolder, SystemClock};
    use super::*;
    use crate::config::{Config, Roles, Sources};

    const PATIENCE: Duration = Duration::from_secs(30);

    /// A node over a store that refuses commits while `refuses`.
    fn wired(folder: &DataFolder, refuses: &Arc<AtomicBool>) -> (Wired, Arc<SqliteStore>) {
        let config = Config::load(&Sources::default()).unwrap();
        let clock = Arc::new(SystemClock::new());
        let asked = Arc::clone(refuses);
        let options =
            SqliteOptions::file(folder.path().join("r.db"), clock.clone(), LeaseTerm(Duration::from_secs(10)))
                .fault(move || if asked.load(Ordering::Relaxed) { CommitFault::Refuse } else { CommitFault::None });
        let identity = Identity {
            installation: Installation { install: "test".parse().unwrap(), mac_key: [1; 32], secret_key: [2; 32] },
            holder: Holder { node: "node-a".parse().unwrap(), incarnation: 1 },
            janitor_looks_until: Duration::ZERO,
            standing: Standing::open(),
        };
        let store = Arc::new(SqliteStore::open(options).unwrap());
        let registry = Registry { store: store.clone(), records: store.clone(), keeps_time: false };
        let wired = Wired::new(&config, Roles::ALL, folder, clock, registry, Metrics::new(), identity).unwrap();
        (wired, store)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_store_that_takes_nothing_is_not_asked_all_the_time() {
        let temp = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(temp.path()).unwrap();
        let refuses = Arc::new(AtomicBool::new(false));
        let (Wired { world, mut admitted, timers, .. }, store) = wired(&folder, &refuses);
        let request = Provision {
            caller: Caller { actor: Actor::Platform, request_id: "r".into() },
            context: Context::new("user:alice".parse().unwrap(), None).unwrap(),
            provider: None,
            tier: None,
            regions: Vec::new(),
            spec: SpecRequest { command: Some(vec!["true".into()]), ..SpecRequest::default() },
            idempotency: None,
        };
        ControlPlane::new(Arc::clone(&world)).provision(request).await.unwrap();
        world.store.give_back(&[admitted.try_recv().unwrap().lease]).await.unwrap();
        let told = Told {
            holder: world.holder.clone(),
            roles: Roles::ALL,
            address: String::new(),
            providers: Vec::new(),
            every: Duration::from_secs(3),
        };
        let heart = beat::start(store.as_ref(), told, None).await.unwrap().over(world.clone());

        // The disk is full: what is due stays due.
        refuses.store(true, Ordering::Relaxed);
        let duties = Duties {
            executes: true,
            reconciles: false,
            renew_every: Duration::from_secs(3),
            sweep_every: Duration::from_secs(600),
        };
        let (began, before) = (Instant::now(), store.stats().batches);
        let drivers = Drivers::start(&world, admitted, timers, duties, Pulse::new(duties), heart);
        while store.stats().batches < before + 3 {
            assert!(began.elapsed() < PATIENCE, "nobody asks");
            sleep(SOONEST).await;
        }
        assert!(began.elapsed() > LOOK_AT_LEAST, "3 times within {:?}", began.elapsed());
        drivers.shut_down().await;
    }
}
