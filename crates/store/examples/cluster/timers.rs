//! Timers that rang, drained by two nodes at the pace of the program's own loop, while a third one admits somebody all the
//! time.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use freehold_domain::ids::OperationId;
use freehold_domain::lease::Holder;
use freehold_engine::ports::{Share, Store};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::fill::{State, fill};
use super::load::{self, Seen};
use super::place::{Database, Place};
use super::report::Row;
use super::{Options, store};

/// How many a second are aimed at.
const GOAL: f64 = 5_000.0;

/// By how much admissions may take longer.
const DELAY: f64 = 1.5;

/// How many admissions a second there are meanwhile.
const ADMISSIONS_PER_SECOND: u32 = 200;

/// How many callers make them.
const ADMITTING: u32 = 16;

/// How many operations one look takes, as the program's own loop does.
const AT_ONCE: usize = 256;

/// How many of them are claimed together, as the program's own loop does.
const TOGETHER: usize = 32;

/// The time from some that are claimed together to the next, as the program's own loop has it.
const PACE: Duration = Duration::from_micros(11_700);

/// How many operations a node runs at once, as the program does.
const RUNNING: usize = 256;

/// How many nodes drain.
const NODES: u32 = 2;

pub(super) async fn measure(options: &Options, place: &Place) -> Result<Row> {
    let database = place.database()?;
    eprintln!("filling {} timers …", options.timers);
    fill(&database, options.timers, State::Due).await?;
    let due = "SELECT count(*) FROM freehold_registry.operations \
               WHERE due_at <= extract(epoch FROM clock_timestamp()) * 1000000";
    let before = database.number(due)?;
    let admitting = store::open(&database, options.connections).await?;
    let without = admissions(&admitting, options.span * 2, None).await?;
    let over = Arc::new(AtomicBool::new(false));
    let (claimed, too_late) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let began = Instant::now();
    let cpu = database.cpu_time()?;
    let mut nodes = JoinSet::new();
    for index in 0..NODES {
        let node = Node {
            database: database.clone(),
            connections: options.connections,
            holder: load::node(&format!("drainer-{index}"))?,
            share: Share { index, of: NODES },
            claiming: Arc::default(),
            places: Arc::new(Semaphore::new(RUNNING)),
            claimed: Arc::clone(&claimed),
            too_late: Arc::clone(&too_late),
            until: began + options.drain_for,
        };
        nodes.spawn_blocking(move || {
            let alone = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            alone.block_on(node.drain())
        });
    }
    let drained = async {
        let ended = nodes.join_all().await;
        // However they ended: whoever admits does so until then.
        over.store(true, Ordering::Relaxed);
        ended.into_iter().collect::<Result<Vec<()>>>()?;
        anyhow::Ok(began.elapsed())
    };
    let (took, with) = tokio::join!(drained, admissions(&admitting, Duration::MAX, Some(Arc::clone(&over))));
    let (took, with) = (took?, with?);
    let used = database.cpu_time()?;
    admitting.close().await;
    let claimed = claimed.load(Ordering::Relaxed);
    let left = database.number(due)?;
    ensure!(before - left == claimed as f64, "{before} were due, {left} are, and {claimed} were claimed");
    let rate = claimed as f64 / took.as_secs_f64();
    let slower = with.p99_ms / without.p99_ms;
    Ok(Row {
        figure: "timers",
        goal: "1 million due ones drained at 5,000 a second or more, without delaying admissions' p99 by more than half",
        measured: format!("{rate:.0}/s; admissions' p99 {:.1} ms", with.p99_ms),
        beside: format!("admissions' p99 {:.1} ms without", without.p99_ms),
        value: rate,
        unit: "/s",
        reached: rate >= GOAL && slower <= DELAY && options.timers >= 1_000_000 && left == 0.0,
        notes: vec![
            format!("{before:.0} were due; {claimed} were claimed in {:.0} s, {left:.0} were left", took.as_secs_f64()),
            format!(
                "{} times the other node had been quicker with what a look had listed",
                too_late.load(Ordering::Relaxed)
            ),
            format!(
                "{NODES} nodes, each a store of its own over at most {} connections, look for {AT_ONCE} and claim {TOGETHER} \
                 every {:.1} ms; nothing else is done with what is claimed, and a third one admits",
                options.connections,
                PACE.as_secs_f64() * 1_000.0
            ),
            format!(
                "meanwhile {ADMISSIONS_PER_SECOND} admissions a second were asked for, each counted from when it was to begin: \
                 p50 {:.1} ms and p99 {:.1} ms with, p50 {:.1} ms and p99 {:.1} ms without: {slower:.1} times",
                with.p50_ms, with.p99_ms, without.p50_ms, without.p99_ms
            ),
            format!("{:.0} a second were admitted meanwhile, {:.0} before", with.per_second, without.per_second),
            format!("processor time for each claim, the admissions meanwhile included: {}", used.each(cpu, claimed)),
        ],
    })
}

async fn admissions(store: &Arc<dyn Store>, span: Duration, over: Option<Arc<AtomicBool>>) -> Result<Seen> {
    let admit = {
        let store = Arc::clone(store);
        move || load::admit_somebody(Arc::clone(&store))
    };
    let is_over = over.clone().unwrap_or_default();
    let paced = load::paced(ADMITTING, ADMISSIONS_PER_SECOND, Arc::clone(&is_over), admit);
    if over.is_some() {
        return paced.await;
    }
    let ends = async {
        tokio::time::sleep(span).await;
        is_over.store(true, Ordering::Relaxed);
    };
    tokio::join!(paced, ends).0
}

/// One of those that drain.
#[derive(Clone)]
struct Node {
    database: Database,
    connections: usize,
    holder: Holder,
    share: Share,
    claiming: Arc<Mutex<HashSet<OperationId>>>,
    places: Arc<Semaphore>,
    claimed: Arc<AtomicU64>,
    too_late: Arc<AtomicU64>,
    until: Instant,
}

impl Node {
    async fn drain(self) -> Result<()> {
        let mut claims = JoinSet::new();
        let store = store::open(&self.database, self.connections).await?;
        let mut pace = tokio::time::interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while Instant::now() < self.until {
            let claiming = self.claiming().clone();
            let due = store.due_list(AT_ONCE + claiming.len(), self.share, &[]).await?;
            if due.is_empty() {
                break;
            }
            let operations = due.into_iter().filter(|operation| !claiming.contains(operation));
            for (number, operation) in operations.take(AT_ONCE).enumerate() {
                if number % TOGETHER == 0 {
                    pace.tick().await;
                }
                let place = Arc::clone(&self.places).acquire_owned().await?;
                self.claiming().insert(operation);
                let (node, store) = (self.clone(), Arc::clone(&store));
                claims.spawn(async move {
                    let claim = store.claim(operation, &node.holder).await;
                    node.claiming().remove(&operation);
                    drop(place);
                    let count = if claim?.is_ok() { &node.claimed } else { &node.too_late };
                    count.fetch_add(1, Ordering::Relaxed);
                    anyhow::Ok(())
                });
            }
            while let Some(claim) = claims.try_join_next() {
                claim??;
            }
            tokio::time::sleep(PACE).await;
        }
        claims.join_all().await.into_iter().collect()
    }

    fn claiming(&self) -> MutexGuard<'_, HashSet<OperationId>> {
        self.claiming.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
