//! How fast the store is beside the same rows written by bare SQLite in batches of 64, with the same settings.
//!
//! `cargo run --release -p freehold-store --example raw -- [ADMISSIONS [FOLDER]]` prints a table. The folder should be on
//! the disk that is meant; the default is the working directory.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use freehold_domain::event::Actor;
use freehold_domain::ids::{InstanceId, OperationId, SubscriptionId};
use freehold_domain::lease::{Holder, LeaseTerm};
use freehold_domain::operation::Step;
use freehold_domain::owner::Context;
use freehold_domain::records::{CanonicalSuccess, InstanceRow, Subscription, SubscriptionStatus};
use freehold_domain::reservation::FrozenSpec;
use freehold_domain::resource::{Resource, ResourceKind, RuntimeState};
use freehold_domain::route::Endpoint;
use freehold_domain::run::{Bid, Effect, Finding, Note, Run, Settle, Settlement, Then};
use freehold_domain::time::Timestamp;
use freehold_engine::ports::{
    Admission, Admitted, Answer, Asked, Clock, IdempotencyKey, InstanceQuery, Records, Store,
};
use freehold_store::{SqliteOptions, SqliteStore};
use rusqlite::{Connection, params};

/// Requests in one transaction of bare SQLite.
const RAW_BATCH: u64 = 64;

/// Distinct owners to admit, where the caller names no number.
const ADMISSIONS: u64 = 100_000;

struct SystemClock(Instant);

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

static MINTED: AtomicU64 = AtomicU64::new(0);

/// Ten bytes that are spread as chance is, and never the same twice.
fn chance() -> [u8; 10] {
    let number = MINTED.fetch_add(1, Ordering::Relaxed);
    let mut chance = [0; 10];
    chance[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    chance
}

fn spread(number: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (position, chunk) in bytes.chunks_exact_mut(8).enumerate() {
        chunk.copy_from_slice(&(number ^ position as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    }
    bytes
}

fn context(number: u64) -> Context {
    Context::new(format!("user:customer-{number:08}").parse().expect("an owner"), None).expect("a context")
}

fn admission(clock: &dyn Clock, number: u64, with_key: bool) -> Admission {
    let now = clock.now();
    Admission {
        bid: Bid {
            instance: InstanceId::mint(now.as_millis(), chance()),
            context: context(number),
            provider: "process".parse().expect("a name"),
            tier: "small".parse().expect("a name"),
            price_version: "2026-01".parse().expect("a name"),
            regions: Vec::new(),
            named: None,
            spec: FrozenSpec(Arc::from(SPEC)),
        },
        asked: Asked {
            operation: OperationId::mint(now.as_millis(), chance()),
            actor: Actor::Platform,
            request_id: "0190a7c8-0000-7000-8000-000000000000".to_owned(),
            deadline_in: Duration::from_secs(120),
            holder: Some(Holder { node: "node-1".parse().expect("a name"), incarnation: 1 }),
        },
        limit: 1,
        idempotency: with_key.then(|| IdempotencyKey { scope: spread(number), fingerprint: [7; 32] }),
    }
}

const SPEC: &[u8] = br#"{"template":"sleeper","tier":"small","image":null,"command":["/bin/sleep","infinity"],"env":{"PORT":"8080"},"secrets":{},"memory_mb":256,"cpu_millis":500,"volume_gb":0}"#;

struct Figure {
    name: &'static str,
    tasks: u64,
    per_second: f64,
    p50: Duration,
    p99: Duration,
    /// Processor time of the whole process, both sides of the call.
    cpu: Duration,
    syncs: f64,
}

impl Figure {
    fn print(&self) {
        let Self { name, tasks, per_second, p50, p99, cpu, syncs } = self;
        println!(
            "{name:<28} {tasks:>5} tasks {per_second:>10.0}/s  p50 {p50:>9.1?}  p99 {p99:>9.1?}  {cpu:>8.1?} cpu and {syncs:.3} syncs each"
        );
    }
}

/// Runs `total` calls of `work` on so many tasks.
async fn measure<F, W>(store: &Arc<SqliteStore>, name: &'static str, tasks: u64, total: u64, work: W) -> Figure
where
    W: Fn(Arc<SqliteStore>, u64) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let before = store.stats().commits;
    let next = Arc::new(AtomicU64::new(0));
    let work = Arc::new(work);
    let mut busy = tokio::task::JoinSet::new();
    let cpu = cpu_time();
    let start = Instant::now();
    for _ in 0..tasks {
        let (store, next, work) = (Arc::clone(store), Arc::clone(&next), Arc::clone(&work));
        busy.spawn(async move {
            let mut took = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= total {
                    return took;
                }
                let start = Instant::now();
                work(Arc::clone(&store), number).await;
                took.push(start.elapsed());
            }
        });
    }
    let mut took: Vec<Duration> = busy.join_all().await.into_iter().flatten().collect();
    let elapsed = start.elapsed().as_secs_f64();
    let cpu = (cpu_time() - cpu) / u32::try_from(total).unwrap_or(u32::MAX);
    took.sort_unstable();
    let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize];
    let syncs = (store.stats().commits - before) as f64 / total as f64;
    Figure { name, tasks, per_second: total as f64 / elapsed, p50: at(0.5), p99: at(0.99), cpu, syncs }
}

/// The rows of an admission and nothing else.
fn raw(dir: &Path, clock: &Arc<dyn Clock>, total: u64, with_key: bool) -> f64 {
    let path = dir.join("raw.db");
    drop(SqliteStore::open(SqliteOptions::file(&path, Arc::clone(clock), TERM).inline()).expect("it opens"));
    let conn = Connection::open(&path).expect("it opens");
    conn.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 20000; \
         PRAGMA cache_size = -16384; PRAGMA temp_store = MEMORY",
    )
    .expect("it is set");
    let mut statement = [
        "INSERT INTO contexts (owner, assigned_user, audit_seq, audit_head) VALUES (?1, ?2, 1, ?3)",
        "INSERT INTO reservations (instance_id, context_id, provider, tier, price_version, regions, spec, status, epoch, \
         power, operation_id, unanswered, resources, lookups, recoveries, started_at, updated_at) \
         VALUES (?1, ?2, 'process', 'small', '2026-01', '[]', ?3, 'in_progress', 1, 'on', ?4, 0, '[]', '[]', 0, ?5, ?5)",
        "INSERT INTO operations (id, instance_id, kind, status, attempt, holder_node, holder_incarnation, due_at, \
         deadline, steps, regions_full, request_id, started_at, key_scope, \
         key_fingerprint) VALUES (?1, ?2, 'provision', 'running', 1, 'node-1', 1, ?3, ?3, '[]', 0, \
         '0190a7c8-0000-7000-8000-000000000000', ?3, ?4, ?5)",
        "INSERT INTO audit (context_id, seq, kind, instance_id, operation_id, epoch, status, actor, at, detail, \
         prev_hash, hash) VALUES (?1, 1, 'instance.provision_reservation_started', ?2, ?3, 1, 'in_progress', \
         'platform', ?4, '', ?5, ?5)",
    ]
    .map(|sql| conn.prepare(sql).expect("it prepares"));
    let start = Instant::now();
    for number in 0..total {
        if number % RAW_BATCH == 0 {
            conn.execute_batch("BEGIN IMMEDIATE").expect("it begins");
        }
        let now = clock.now();
        let at = now.as_micros();
        let instance = InstanceId::mint(now.as_millis(), chance());
        let operation = OperationId::mint(now.as_millis(), chance());
        let (instance, operation) = (instance.as_bytes(), operation.as_bytes());
        let owner = format!("user:customer-{number:08}");
        let key = with_key.then(|| spread(number));
        let [contexts, reservations, operations, audit] = &mut statement;
        let context = contexts.insert(params![owner, &owner[5..], [1_u8; 32]]).expect("a row");
        reservations.execute(params![instance, context, SPEC, operation, at]).expect("a row");
        operations.execute(params![operation, instance, at, key, key.map(|_| [7_u8; 32])]).expect("a row");
        audit.execute(params![context, instance, operation, at, [1_u8; 32]]).expect("a row");
        if number % RAW_BATCH == RAW_BATCH - 1 {
            conn.execute_batch("COMMIT").expect("it commits");
        }
    }
    total as f64 / start.elapsed().as_secs_f64()
}

const TERM: LeaseTerm = LeaseTerm(Duration::from_secs(10));

/// From admission to route, as an executor with an instant provider commits it.
async fn cycle(store: Arc<SqliteStore>, clock: Arc<dyn Clock>, number: u64) {
    let Ok(Admitted::Taken(run)) = store.admit(admission(&*clock, number, true)).await else { panic!("not taken") };
    let lease = run.lease().expect("held");
    let note = |finding, then| Note { at: clock.now(), finding, then };
    let run: Run = store.note(&lease, note(None, Then::Intend(Step::Runtime))).await.expect("noted");
    let id = format!("r-{number}");
    let resource = Resource { kind: ResourceKind::Runtime, id, region: None, handle: "{\"pid\":1234}".to_owned() };
    let made = Finding::Done(Effect::Made { resource, runtime: Some(RuntimeState::Running) });
    store.note(&lease, note(Some((Step::Runtime, made)), Then::Intend(Step::Record))).await.expect("noted");
    let reservation = run.reservation;
    let row = InstanceRow {
        instance: reservation.instance,
        context: reservation.context,
        provider: reservation.provider,
        tier: reservation.tier,
        created_at: clock.now(),
        destroyed_at: None,
    };
    let because = freehold_engine::ports::Because::of(lease.operation, "as an executor does");
    store.insert(row, &because).await.expect("a row");
    let recorded = Finding::Done(Effect::Nothing);
    store.note(&lease, note(Some((Step::Record, recorded)), Then::Intend(Step::Subscribe))).await.expect("noted");
    let subscription = Subscription {
        id: SubscriptionId::mint(clock.now().as_millis(), chance()),
        instance: reservation.instance,
        status: SubscriptionStatus::Active,
        plan: "small".to_owned(),
        price_version: reservation.price_version,
        started_at: clock.now(),
        ended_at: None,
        reported: true,
    };
    let view = store.subscription_put(subscription, &because).await.expect("a subscription");
    let settle = Settle {
        at: clock.now(),
        finding: Some((Step::Subscribe, Finding::Done(Effect::Nothing))),
        settlement: Settlement::Complete {
            proof: CanonicalSuccess::establish(&view).expect("both are active"),
            endpoint: Endpoint("http://127.0.0.1:40000".to_owned()),
        },
        check_at: clock.now().plus(Duration::from_secs(300)),
    };
    let answer = Answer { status: 201, body: vec![b'x'; 600] };
    store.settle(&lease, settle, Some(answer)).await.expect("complete");
}

/// Processor time of this process so far, to 10 ms.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let behind_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 =
        behind_name.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0) / 1024.0
}

/// The length of the log's file, in MiB: the most it ever was.
fn log_mib(dir: &Path) -> f64 {
    dir.join("registry.db-wal").metadata().map_or(0.0, |log| log.len() as f64 / 1024.0 / 1024.0)
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let total = arguments.next().and_then(|number| number.parse().ok()).unwrap_or(ADMISSIONS);
    let place = arguments.next().unwrap_or_else(|| ".".to_owned());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock(Instant::now()));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    for with_key in [false, true] {
        println!("{}", if with_key { "with an idempotency key" } else { "without an idempotency key" });
        let dir = tempfile::tempdir_in(&place).expect("a folder");
        println!("{:<28} {:>5} {:>16.0}/s", "bare SQLite", "", raw(dir.path(), &clock, total, with_key));
        let open = || SqliteStore::open(SqliteOptions::file(dir.path().join("registry.db"), Arc::clone(&clock), TERM));
        let store = Arc::new(open().expect("it opens"));
        runtime.block_on(async {
            let mut first = 0;
            for (tasks, total) in [(1, total.min(2_000)), (16, total.min(20_000)), (64, total)] {
                let clock = Arc::clone(&clock);
                let begin = first;
                let admit = move |store: Arc<SqliteStore>, number: u64| {
                    let admission = admission(&*clock, begin + number, with_key);
                    async move { drop(store.admit(admission).await.expect("taken")) }
                };
                measure(&store, "admissions", tasks, total, admit).await.print();
                first += total;
            }
            println!("log: {} pages; resident: {:.1} MiB", store.log_pages(), resident_mib());
            let peek = |store: Arc<SqliteStore>, _: u64| async move {
                store.context_peek(&context(1), 1, None).await.expect("a conflict");
            };
            measure(&store, "conflicts", 64, 200_000, peek).await.print();
            let replay = |store: Arc<SqliteStore>, number: u64| async move {
                let key = IdempotencyKey { scope: spread(number % 1000), fingerprint: [7; 32] };
                store.context_peek(&context(number % 1000), 1, Some(key)).await.expect("an answer");
            };
            measure(&store, "replays", 64, 100_000, replay).await.print();
            let thousand = InstanceQuery { limit: 1000, ..InstanceQuery::default() };
            let page = store.instance_list(&thousand).await.expect("answers");
            let instances: Arc<[InstanceId]> = page.items.iter().map(|one| one.reservation.instance).collect();
            let lookup = move |store: Arc<SqliteStore>, number: u64| {
                let instance = instances[number as usize % instances.len()];
                async move { drop(store.route_lookup(instance).await.expect("an answer")) }
            };
            measure(&store, "lookups", 64, 200_000, lookup).await.print();
            let cycles = Arc::clone(&clock);
            let work = move |store, number| cycle(store, Arc::clone(&cycles), 10_000_000 + number);
            measure(&store, "cycles", 64, total.min(10_000), work).await.print();
            println!(
                "log: {} pages in {:.0} MiB; resident: {:.1} MiB; violations: {:?}",
                store.log_pages(),
                log_mib(dir.path()),
                resident_mib(),
                store.violations()
            );
        });
        drop(store);
        let start = Instant::now();
        let store = open().expect("it opens");
        println!("opened again in {:.1?}", start.elapsed());
        let start = Instant::now();
        let node = "node-1".parse().expect("a name");
        let rung = runtime.block_on(store.node_returned(&node, 2)).expect("answers");
        println!("{rung} timers of an earlier life rung in {:.1?}", start.elapsed());
    }
}
