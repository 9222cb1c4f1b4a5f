//! What goes wrong, in an order that a seed decides. Each server has somebody who does things to it, the database has one
//! too, and the provider fails by its own dice. Each goes through a shuffled deck of faults, so that none is left out.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use freehold_flysim::{Endpoint, Fault, Rule};
use freehold_postgres_lab::{Pair, Patroni, Rejoined};

use crate::chance::Chance;
use crate::proxy::Way;
use crate::town::{LEASE, Town};

/// How far a clock is turned, in seconds.
const CLOCK_STEP: i64 = 3_600;

/// How likely it is that a call to the provider goes wrong.
const PROVIDER_WRONG: f64 = 0.12;

/// How long Patroni may take to promote: the time that a lost leader's key lives, and a margin.
const PATRONI_WITHIN: Duration = Duration::from_secs(90);

/// How often it is looked whom Patroni calls the primary.
const FOLLOW_EVERY: Duration = Duration::from_millis(200);

/// What is done to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OfNode {
    Killed,
    FrozenPastItsLease,
    CutFromTheDatabase,
    DatabaseSilent,
    ClockForward,
    ClockBack,
}

impl OfNode {
    const ALL: [Self; 6] = [
        Self::Killed,
        Self::FrozenPastItsLease,
        Self::CutFromTheDatabase,
        Self::DatabaseSilent,
        Self::ClockForward,
        Self::ClockBack,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Killed => "server: killed (kill -9) and started again",
            Self::FrozenPastItsLease => "server: frozen (SIGSTOP) past its leases, then let go on",
            Self::CutFromTheDatabase => "server: cut from the database",
            Self::DatabaseSilent => "server: database silent both ways",
            Self::ClockForward => "server: clock an hour ahead",
            Self::ClockBack => "server: clock an hour behind",
        }
    }
}

/// What is done to the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OfDatabase {
    BouncerKilled,
    Restarted,
    Killed,
    Frozen,
    FailedOver,
}

/// What Patroni does.
const PATRONI: [&str; 2] =
    ["database: primary and its Patroni killed, the other one promoted", "database: old primary back as standby"];

impl OfDatabase {
    const ALL: [Self; 5] = [Self::FailedOver, Self::BouncerKilled, Self::Restarted, Self::Killed, Self::Frozen];

    fn name(self) -> &'static str {
        match self {
            Self::BouncerKilled => "database: PgBouncer killed",
            Self::Restarted => "database: restarted",
            Self::Killed => "database: killed and started again",
            Self::Frozen => "database: frozen",
            Self::FailedOver => "database: primary killed, standby promoted",
        }
    }
}

/// How often each fault was injected.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    counts: Mutex<BTreeMap<&'static str, u64>>,
    stopped: AtomicBool,
}

impl Counts {
    fn add(&self, what: &'static str) {
        *self.counts.lock().unwrap().entry(what).or_default() += 1;
    }

    /// No fault begins from here on that has happened before; the ones under way end.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Everything that was done to servers and the database. What the provider did and what got lost is counted there.
    pub(crate) fn all(&self) -> BTreeMap<&'static str, u64> {
        self.counts.lock().unwrap().clone()
    }

    /// What was to be done, and was not.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let done = self.all();
        let names = OfNode::ALL.map(OfNode::name).into_iter().chain(OfDatabase::ALL.map(OfDatabase::name));
        names.filter(|name| !done.contains_key(name)).collect()
    }
}

/// Puts a deck in the order that chance wants.
fn shuffled<T: Copy>(deck: &[T], chance: &mut Chance) -> Vec<T> {
    let mut deck = deck.to_vec();
    for at in (1..deck.len()).rev() {
        deck.swap(at, chance.below(at as u64 + 1) as usize);
    }
    deck
}

async fn pause(chance: &mut Chance, from_ms: u64, span_ms: u64) {
    tokio::time::sleep(Duration::from_millis(from_ms + chance.below(span_ms))).await;
}

/// Does things to one server until it is told to stop, each of them once at the least, and leaves it running.
pub(crate) async fn trouble_node(town: Arc<Town>, number: usize, counts: Arc<Counts>, mut chance: Chance) {
    for round in 0_u64.. {
        for fault in shuffled(&OfNode::ALL, &mut chance) {
            pause(&mut chance, 1_000, 3_000).await;
            if counts.is_stopped() && round > 0 {
                return;
            }
            match fault {
                OfNode::Killed => {
                    town.balancer.set(number, None);
                    town.nodes[number].lock().unwrap().kill();
                    pause(&mut chance, 0, 1_500).await;
                    let town = town.clone();
                    tokio::task::spawn_blocking(move || town.start(number)).await.unwrap();
                }
                OfNode::FrozenPastItsLease => {
                    town.nodes[number].lock().unwrap().freeze();
                    tokio::time::sleep(LEASE).await;
                    pause(&mut chance, 500, 2_000).await;
                    town.nodes[number].lock().unwrap().thaw();
                }
                OfNode::CutFromTheDatabase => {
                    town.set_road(number, Way::Cut);
                    pause(&mut chance, 500, 3_000).await;
                    town.set_road(number, Way::Open);
                }
                OfNode::DatabaseSilent => {
                    town.set_road(number, Way::Silent);
                    pause(&mut chance, 500, 4_000).await;
                    town.set_road(number, Way::Open);
                }
                OfNode::ClockForward => town.nodes[number].lock().unwrap().turn_clock(CLOCK_STEP),
                OfNode::ClockBack => town.nodes[number].lock().unwrap().turn_clock(-CLOCK_STEP),
            }
            counts.add(fault.name());
        }
    }
}

/// Does things to the database until it is told to stop, each of them once at the least, and leaves it with a standby.
pub(crate) async fn trouble_database(town: Arc<Town>, pair: Arc<Pair>, counts: Arc<Counts>, mut chance: Chance) {
    for round in 0_u64.. {
        for fault in shuffled(&OfDatabase::ALL, &mut chance) {
            pause(&mut chance, 1_500, 2_500).await;
            if counts.is_stopped() && round > 0 {
                return;
            }
            match fault {
                OfDatabase::BouncerKilled => {
                    town.bouncer.lock().unwrap().kill();
                    pause(&mut chance, 0, 1_000).await;
                    town.bouncer.lock().unwrap().restart().unwrap();
                }
                OfDatabase::Restarted => {
                    pair.primary().stop().unwrap();
                    pause(&mut chance, 0, 500).await;
                    pair.primary().restart().unwrap();
                }
                OfDatabase::Killed => {
                    pair.primary().kill().unwrap();
                    pause(&mut chance, 0, 1_000).await;
                    pair.primary().restart().unwrap();
                }
                OfDatabase::Frozen => {
                    pair.primary().freeze().unwrap();
                    pause(&mut chance, 500, 2_500).await;
                    pair.primary().thaw().unwrap();
                }
                OfDatabase::FailedOver => {
                    fail_over(&town, &pair, &counts, &mut chance).await;
                    continue;
                }
            }
            counts.add(fault.name());
        }
    }
}

/// Kills the primary, promotes the standby, and makes the old primary the standby.
pub(crate) async fn fail_over(town: &Arc<Town>, pair: &Arc<Pair>, counts: &Counts, chance: &mut Chance) {
    let (here, both) = (town.clone(), pair.clone());
    tokio::task::spawn_blocking(move || {
        // One loss at a time: whoever fails over by hand or by Patroni looks at this first.
        both.until_in_sync().unwrap();
        both.primary().kill().unwrap();
        both.promote().unwrap();
        here.bouncer.lock().unwrap().repoint(both.primary().port()).unwrap();
    })
    .await
    .unwrap();
    counts.add(OfDatabase::FailedOver.name());
    pause(chance, 200, 1_500).await;
    let both = pair.clone();
    let rejoined = tokio::task::spawn_blocking(move || both.rejoin().unwrap()).await.unwrap();
    counts.add(match rejoined {
        Rejoined::Rewound => "database: old primary rewound, and standby again",
        Rejoined::Copied(_) => "database: old primary copied anew, and standby again",
    });
}

/// What must not be done: the primary goes on without its standby, `meanwhile` something happens, and then the standby takes
/// its place.
pub(crate) async fn lose_what_nobody_waited_for(
    town: &Arc<Town>,
    pair: &Arc<Pair>,
    meanwhile: impl Future<Output = ()>,
) {
    let both = pair.clone();
    tokio::task::spawn_blocking(move || {
        both.go_alone().unwrap();
        both.standby().kill().unwrap();
    })
    .await
    .unwrap();
    meanwhile.await;
    let (here, both) = (town.clone(), pair.clone());
    tokio::task::spawn_blocking(move || {
        both.primary().kill().unwrap();
        both.standby().restart().unwrap();
        both.promote().unwrap();
        here.bouncer.lock().unwrap().repoint(both.primary().port()).unwrap();
    })
    .await
    .unwrap();
}

/// Kills the primary and its Patroni, and waits until Patroni has put the other one in its place and made the old one the
/// standby. PgBouncer is pointed by whoever [`follows`](follow_patroni).
pub(crate) async fn patroni_fails_over(patroni: &Arc<Patroni>, counts: &Counts) {
    let here = patroni.clone();
    let (lost, before) = tokio::task::spawn_blocking(move || {
        here.until_in_sync().unwrap();
        let before = here.primary();
        (here.kill_primary().unwrap(), before)
    })
    .await
    .unwrap();
    let began = Instant::now();
    while primary(patroni).await.is_none_or(|primary| Some(primary) == before) {
        assert!(began.elapsed() < PATRONI_WITHIN, "Patroni promotes nobody");
        tokio::time::sleep(FOLLOW_EVERY).await;
    }
    println!("  another primary takes writes {:.1} s after the loss", began.elapsed().as_secs_f64());
    counts.add(PATRONI[0]);
    let here = patroni.clone();
    tokio::task::spawn_blocking(move || {
        here.launch(lost).unwrap();
        here.until_in_sync().unwrap();
    })
    .await
    .unwrap();
    counts.add(PATRONI[1]);
}

async fn primary(patroni: &Arc<Patroni>) -> Option<u16> {
    let patroni = patroni.clone();
    tokio::task::spawn_blocking(move || patroni.primary()).await.unwrap()
}

/// Points PgBouncer at whom Patroni calls the primary, as a health check of HAProxy would, until it is told to stop.
pub(crate) async fn follow_patroni(town: Arc<Town>, patroni: Arc<Patroni>, counts: Arc<Counts>) {
    let mut pointed = None;
    while !counts.is_stopped() {
        if let Some(port) = primary(&patroni).await.filter(|port| pointed != Some(*port)) {
            town.bouncer.lock().unwrap().repoint(port).unwrap();
            pointed = Some(port);
        }
        tokio::time::sleep(FOLLOW_EVERY).await;
    }
}

/// Rules by which a provider fails, each as likely as the others.
pub(crate) fn provider_storm(chance: &mut Chance) -> Vec<Rule> {
    let faults = [
        Fault::Timeout { effect: true, cap_ms: 3_000 },
        Fault::Timeout { effect: false, cap_ms: 3_000 },
        Fault::Cut { effect: true },
        Fault::Cut { effect: false },
        Fault::Late { ms: 2_000, hold: false },
        Fault::Late { ms: 1_000, hold: true },
        Fault::status(500, true),
        Fault::status(502, false),
        Fault::status(503, true),
        Fault::status(408, true),
        Fault::conflict(),
        Fault::rate_limited(1),
        Fault::TruncatedJson,
        Fault::Html { status: 200, effect: true },
        Fault::Delay { ms: 400 },
        Fault::Hidden { ms: 800 },
    ];
    // Of what decides the answer the first one wins, so that together they are a little rarer than their sum.
    let each = PROVIDER_WRONG / faults.len() as f64;
    let mut rules: Vec<Rule> =
        faults.into_iter().map(|fault| Rule::sometimes(Endpoint::Any, fault, each, chance.draw())).collect();
    rules.push(Rule::sometimes(Endpoint::ListMachines, Fault::Flap, each, chance.draw()));
    rules.push(Rule::sometimes(Endpoint::CreateMachine, Fault::capacity(), each, chance.draw()));
    rules
}
