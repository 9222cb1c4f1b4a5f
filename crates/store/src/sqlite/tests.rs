//! What is SQLite's own: batches, lost commits, kills, a full disk, a growing log, and how statements find their rows.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use freehold_domain::event::Actor;
use freehold_domain::lease::Epoch;
use freehold_domain::reservation::FrozenSpec;
use freehold_domain::run::{self, Bid, Refused, Run};
use freehold_domain::time::Timestamp;
use freehold_engine::audit::{GENESIS, hash};
use freehold_engine::ports::{Admission, AdmitRefused, Admitted, Asked, AuditQuery, Records, Store, UnresolvedSummary};
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::*;
use crate::conformance::{TERM, TestClock, user};

/// How long a test waits for something that must happen.
const PATIENCE: Duration = Duration::from_secs(30);

fn clock() -> Arc<dyn Clock> {
    Arc::new(TestClock::default())
}

fn on_disk(dir: &Path) -> SqliteOptions {
    SqliteOptions::file(dir.join("registry.db"), clock(), TERM)
}

fn core(fault: Option<FaultHook>) -> Core {
    let mut conn = connect::memory().expect("it opens");
    migrate::apply(&mut conn, migrate::MIGRATIONS, Timestamp::default()).expect("it migrates");
    Core::new(conn, Place::Memory, Arc::new(Desk::new(clock(), TERM)), fault, None)
}

fn id(number: u64) -> [u8; 10] {
    let mut chance = [0; 10];
    chance[3..].copy_from_slice(&number.to_be_bytes()[1..]);
    chance
}

fn admission(number: u64, owner: &str) -> Admission {
    let at = TestClock::default().now();
    Admission {
        bid: Bid {
            instance: freehold_domain::ids::InstanceId::mint(at.as_millis(), id(number)),
            context: user(owner),
            provider: "process".parse().expect("a name"),
            tier: "small".parse().expect("a name"),
            price_version: "1".parse().expect("a name"),
            regions: Vec::new(),
            named: None,
            spec: FrozenSpec(Arc::from(vec![b'x'; 200])),
        },
        asked: Asked {
            operation: freehold_domain::ids::OperationId::mint(at.as_millis(), id(number)),
            actor: Actor::Platform,
            request_id: "req".to_owned(),
            deadline_in: Duration::from_secs(120),
            holder: None,
        },
        limit: 1,
        idempotency: None,
    }
}

type Waiting<T> = oneshot::Receiver<Result<T, StoreError>>;

fn put<T: Send + 'static>(
    batch: &mut Vec<Box<dyn batch::Request>>,
    work: impl FnMut(Tx<'_>) -> Result<T, StoreError> + Send + 'static,
) -> Waiting<T> {
    let (request, answer) = Pending::new(work);
    batch.push(Box::new(request));
    answer
}

fn admit_in(
    batch: &mut Vec<Box<dyn batch::Request>>,
    number: u64,
    owner: &str,
) -> Waiting<Result<Admitted, AdmitRefused>> {
    let admission = admission(number, owner);
    put(batch, move |tx| admit::admit(tx, &admission))
}

fn count(conn: &Connection, table: &str) -> i64 {
    conn.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).expect("it counts")
}

fn is_taken(answer: &mut Waiting<Result<Admitted, AdmitRefused>>) -> bool {
    matches!(answer.try_recv().expect("answered"), Ok(Ok(Admitted::Taken(_))))
}

#[test]
fn a_request_that_fails_or_panics_harms_nobody_in_its_batch() {
    let mut core = core(None);
    let mut batch = Vec::new();
    let mut first = admit_in(&mut batch, 1, "alice");
    let mut refused = admit_in(&mut batch, 2, "alice");
    let mut failed: Waiting<()> = put(&mut batch, |tx| {
        admit::admit(tx, &admission(3, "half"))?.map_err(|_| crate::shared::corrupt("refused"))?;
        Err(crate::shared::corrupt("on second thoughts"))
    });
    let mut panicked: Waiting<()> = put(&mut batch, |tx| {
        admit::admit(tx, &admission(4, "half"))?.map_err(|_| crate::shared::corrupt("refused"))?;
        panic!("a request that breaks, on purpose")
    });
    let mut last = admit_in(&mut batch, 5, "bob");
    core.run(&mut batch);
    assert!(is_taken(&mut first) && is_taken(&mut last));
    assert!(matches!(refused.try_recv().expect("answered"), Ok(Err(AdmitRefused::Conflict(_)))));
    assert_eq!(failed.try_recv().expect("answered"), Err(crate::shared::corrupt("on second thoughts")));
    assert!(matches!(panicked.try_recv().expect("answered"), Err(StoreError::Unavailable(_))));
    assert_eq!((count(&core.conn, "contexts"), count(&core.conn, "reservations")), (2, 2));
    assert_eq!(core.counters.stats(), Stats { requests: 5, batches: 1, commits: 1 });
}

#[test]
fn a_commit_without_an_answer_is_unknown_to_its_whole_batch() {
    for (fault, written) in [
        (CommitFault::Lose { applied: true }, 1),
        (CommitFault::Lose { applied: false }, 0),
        (CommitFault::Refuse, 0),
        // The twin: without the fault the same batch is answered.
        (CommitFault::None, 1),
    ] {
        let mut faults = vec![fault];
        let mut core = core(Some(Box::new(move || faults.pop().unwrap_or(CommitFault::None))));
        let mut batch = Vec::new();
        let mut first = admit_in(&mut batch, 1, "alice");
        let mut refused = admit_in(&mut batch, 2, "alice");
        core.run(&mut batch);
        for answer in [&mut first, &mut refused] {
            let answer = answer.try_recv().expect("answered");
            match fault {
                CommitFault::Lose { .. } => assert!(matches!(answer, Err(StoreError::Unknown(_))), "{answer:?}"),
                CommitFault::Refuse => assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}"),
                CommitFault::None => assert!(answer.is_ok(), "{answer:?}"),
            }
        }
        assert_eq!(count(&core.conn, "reservations"), written, "{fault:?}");
        let mut next = admit_in(&mut batch, 3, "bob");
        core.run(&mut batch);
        assert!(is_taken(&mut next), "the store goes on after {fault:?}");
    }
}

#[test]
fn a_full_disk_refuses_and_writes_nothing() {
    let mut core = core(None);
    let pages: u32 = core.conn.query_row("PRAGMA page_count", [], |row| row.get(0)).expect("a number");
    let limit = |core: &Core, pages: u32| {
        core.conn
            .pragma_update_and_check(None, "max_page_count", pages, |row| row.get::<_, u32>(0))
            .expect("it is limited")
    };
    limit(&core, pages);
    let mut batch = Vec::new();
    let mut refused = Vec::new();
    for number in 0..200 {
        let mut large = admission(number, &format!("u{number}"));
        large.bid.spec = FrozenSpec(Arc::from(vec![b'x'; 10_000]));
        refused.push(put(&mut batch, move |tx| admit::admit(tx, &large)));
    }
    core.run(&mut batch);
    for mut answer in refused {
        let answer = answer.try_recv().expect("answered");
        assert!(matches!(&answer, Err(StoreError::Unavailable(why)) if why.contains("disk")), "{answer:?}");
    }
    assert_eq!((count(&core.conn, "contexts"), count(&core.conn, "audit")), (0, 0), "nothing half done");
    limit(&core, u32::MAX - 1);
    let mut next = admit_in(&mut batch, 300, "alice");
    core.run(&mut batch);
    assert!(is_taken(&mut next), "there is room again");
}

#[test]
fn the_fence_is_in_the_statement_that_writes() {
    let mut core = core(None);
    let mut batch = Vec::new();
    let mut taken = admit_in(&mut batch, 1, "alice");
    core.run(&mut batch);
    let Ok(Ok(Admitted::Taken(taken))) = taken.try_recv().expect("answered") else { panic!("not taken") };
    let mut fenced = put(&mut batch, move |tx| {
        let mut loaded = tx.run_of(taken.reservation.instance)?;
        // Somebody else's change of hands, between the load and the write.
        tx.run("UPDATE reservations SET epoch = 2", [])?;
        let hold = run::Hold { holder: crate::conformance::node("b"), until: tx.lease_until() };
        let change = run::claimed(&loaded.run, &hold, tx.now()).expect("it is due");
        let refused = tx.write(&loaded, &change, None);
        // The twin: under the epoch that is there it is written.
        loaded.run.reservation.epoch = Epoch::new(2);
        let change = run::claimed(&loaded.run, &hold, tx.now()).expect("it is due");
        tx.write(&loaded, &change, None)?;
        Ok(refused)
    });
    core.run(&mut batch);
    let refused = fenced.try_recv().expect("answered").expect("the twin is written");
    let fence = freehold_domain::lease::Fenced { held: Epoch::new(1), current: Epoch::new(2) };
    assert_eq!(refused, Err(StoreError::Refused(Refused::Fenced(fence))));
}

#[test]
fn the_index_asserts_one_unresolved_a_second_time() {
    let mut core = core(None);
    let mut batch = Vec::new();
    // Two admissions that the ledger was not asked about.
    let smuggle = |number: u64| {
        move |tx: Tx<'_>| {
            let Admission { bid, asked, .. } = admission(number, "alice");
            let Run { reservation, .. } =
                run::admitted(bid, &asked.commission(tx.now(), tx.lease_until()), tx.now()).run;
            rows::reservation_insert(*tx, 1, &reservation)
        }
    };
    let (mut first, mut second) = (put(&mut batch, smuggle(1)), put(&mut batch, smuggle(2)));
    core.run(&mut batch);
    assert_eq!(first.try_recv().expect("answered"), Ok(()));
    let refused = second.try_recv().expect("answered");
    assert!(matches!(&refused, Err(StoreError::Corrupt(why)) if why.contains("UNIQUE")), "{refused:?}");
}

/// Starts admissions of distinct owners until told to stop. Answers every owner that was acknowledged.
async fn admit_until(store: Arc<SqliteStore>, writers: u64, stop: Arc<AtomicBool>) -> Vec<String> {
    let mut busy = tokio::task::JoinSet::new();
    for writer in 0..writers {
        let (store, stop) = (Arc::clone(&store), Arc::clone(&stop));
        busy.spawn(async move {
            let mut acknowledged = Vec::new();
            for round in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let owner = format!("u{writer}-{round}");
                let taken = store.admit(admission(writer << 32 | round, &owner)).await;
                assert!(matches!(taken, Ok(Admitted::Taken(_))), "{taken:?}");
                acknowledged.push(owner);
            }
            acknowledged
        });
    }
    busy.join_all().await.into_iter().flatten().collect()
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited for {what} for {PATIENCE:?}");
        tokio::task::yield_now().await;
    }
}

/// How many of these owners have no instance.
async fn missing(store: &SqliteStore, owners: &[String]) -> usize {
    let mut missing = 0;
    for owner in owners {
        let owner = format!("user:{owner}").parse().expect("an owner");
        missing += usize::from(store.owner_describe(&owner).await.expect("answers").is_empty());
    }
    missing
}

fn copy(from: &Path, to: &Path) {
    for name in ["registry.db", "registry.db-wal"] {
        std::fs::copy(from.join(name), to.join(name)).expect("a copy");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_kill() {
    let (dir, killed) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let store = Arc::new(SqliteStore::open(on_disk(dir.path())).expect("it opens"));
    let stop = Arc::new(AtomicBool::new(false));
    let before = tokio::spawn(admit_until(Arc::clone(&store), 8, Arc::clone(&stop)));
    until("some admissions", || store.stats().commits > 20).await;
    stop.store(true, Ordering::Relaxed);
    let acknowledged = before.await.expect("it ends");
    let stop = Arc::new(AtomicBool::new(false));
    let again = Arc::clone(&store);
    let goes_on = Arc::clone(&stop);
    let after = tokio::spawn(async move {
        for round in 0.. {
            if goes_on.load(Ordering::Relaxed) {
                break;
            }
            again.admit(admission(99 << 32 | round, &format!("late-{round}"))).await.expect("taken");
        }
    });
    let so_far = store.stats().commits;
    until("the next commits", || store.stats().commits > so_far + 5).await;
    // While others write: the copy ends in the middle of whatever is being written.
    copy(dir.path(), killed.path());
    stop.store(true, Ordering::Relaxed);
    after.await.expect("it ends");

    let store = SqliteStore::open(on_disk(killed.path())).expect("it opens after a kill");
    assert_eq!(missing(&store, &acknowledged).await, 0, "what was acknowledged is there");
    // The twin: without the log nothing is, and the look would have said so.
    let lost = tempfile::tempdir().expect("a folder");
    std::fs::copy(dir.path().join("registry.db"), lost.path().join("registry.db")).expect("a copy");
    let lossy = SqliteStore::open(on_disk(lost.path())).expect("it opens");
    assert_eq!(missing(&lossy, &acknowledged).await, acknowledged.len());
    let trail = store.audit_read(&AuditQuery { after: 0, instance: None, limit: 10_000 }).await.expect("answers");
    for record in &trail.items {
        assert_eq!(record.hash, hash(&GENESIS, &record.context, 1, &record.event), "each context has one line");
    }
    let UnresolvedSummary { in_progress, .. } = store.unresolved_summary().await.expect("answers");
    assert_eq!(in_progress, trail.items.len() as u64, "each reservation has its event");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_found_in_the_log_is_written_again_before_anything_is_built_on_it() {
    let (dir, killed) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let store = SqliteStore::open(on_disk(dir.path())).expect("it opens");
    store.admit(admission(1, "alice")).await.expect("taken");
    copy(dir.path(), killed.path());
    let log = std::fs::File::options().write(true).open(killed.path().join("registry.db-wal")).expect("a log");
    // A sync that failed leaves pages that are not on the disk and never get there, unless they are written again.
    let long_ago = std::time::SystemTime::UNIX_EPOCH;
    let written = || log.metadata().and_then(|log| log.modified()).expect("a time") != long_ago;
    let content = || std::fs::read(killed.path().join("registry.db-wal")).expect("a log");
    let before = content();
    log.set_modified(long_ago).expect("it is set");
    // The twin: SQLite alone reads the log and leaves it as it is.
    let alone = connect::further_writer(&killed.path().join("registry.db")).expect("it opens");
    assert_eq!((count(&alone, "reservations"), written()), (1, false));
    let opened = SqliteStore::open(on_disk(killed.path())).expect("it opens after a kill");
    assert!(written());
    assert_eq!(content(), before, "and it is the same log");
    drop((alone, opened));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_does_not_grow_without_bound_under_load() {
    const LIMIT: u64 = 300;
    let dir = tempfile::tempdir().expect("a folder");
    let mut options = on_disk(dir.path());
    options.checkpoint_pages = LIMIT;
    let store = Arc::new(SqliteStore::open(options).expect("it opens"));
    let stop = Arc::new(AtomicBool::new(false));
    let writers = tokio::spawn(admit_until(Arc::clone(&store), 8, Arc::clone(&stop)));
    let (reader, reading) = (Arc::clone(&store), Arc::clone(&stop));
    let readers = tokio::spawn(async move {
        while !reading.load(Ordering::Relaxed) {
            reader.context_peek(&user("u0-0"), 1, None).await.expect("answers");
            tokio::task::yield_now().await;
        }
    });
    let longest = std::cell::Cell::new(0);
    let restarts = std::cell::Cell::new(0);
    let last = std::cell::Cell::new(0);
    until("the log to start over three times", || {
        let pages = store.log_pages();
        longest.set(longest.get().max(pages));
        restarts.set(restarts.get() + u32::from(pages < last.get()));
        last.set(pages);
        restarts.get() >= 3
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    let acknowledged = writers.await.expect("it ends").len() as u64;
    readers.await.expect("it ends");
    assert!(longest.get() < LIMIT * 50, "the log grew to {} pages", longest.get());
    assert_eq!(store.unresolved_summary().await.expect("answers").in_progress, acknowledged);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_store_leaves_little_to_replay() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut options = on_disk(dir.path());
    options.checkpoint_pages = 1_000;
    let store = SqliteStore::open(options).expect("it opens");
    for number in 0.. {
        if store.log_pages() > 400 {
            break;
        }
        store.admit(admission(number, &format!("u{number}"))).await.expect("taken");
    }
    let log = dir.path().join("registry.db-wal");
    until("the log to be emptied", || log.metadata().is_ok_and(|log| log.len() == 0)).await;
    store.admit(admission(1 << 32, "alice")).await.expect("it goes on");
}

#[tokio::test]
async fn a_returned_node_rings_more_timers_than_fit_one_batch() {
    let store = SqliteStore::open(SqliteOptions::memory(clock(), TERM)).expect("it opens");
    let held = lease::RETURNED_BATCH * 2 + 1;
    for number in 0..held {
        let mut admission = admission(number, &format!("u{number}"));
        admission.asked.holder = Some(crate::conformance::node("a"));
        store.admit(admission).await.expect("taken");
    }
    let node = crate::conformance::node("a").node;
    assert_eq!(store.node_returned(&node, 2).await, Ok(held));
    assert_eq!(
        store.due_list(10_000, freehold_engine::ports::Share::ALL, &[]).await.expect("answers").len() as u64,
        held
    );
    assert_eq!(store.node_returned(&node, 2).await, Ok(0), "they rang already");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_and_a_closed_store_say_so() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Arc::new(SqliteStore::open(on_disk(dir.path())).expect("it opens"));
    let (hold, held) = mpsc::channel::<()>();
    let (begun, begins) = mpsc::channel();
    let blocking = Arc::clone(&store);
    let blocked = tokio::spawn(async move {
        blocking
            .write(move |_| {
                let _ = begun.send(());
                let _ = held.recv();
                Ok(())
            })
            .await
    });
    until("the writer to be busy", || begins.try_recv().is_ok()).await;
    let mut waiting = Vec::new();
    let Mode::Threads { queue: Some(queue), .. } = &store.mode else { panic!("it has threads") };
    while queue.capacity() > 0 {
        let store = Arc::clone(&store);
        let mut write = Box::pin(async move { store.write(|_| Ok(())).await });
        assert!(futures_poll(&mut write).is_none(), "it waits");
        waiting.push(write);
    }
    let full = store.admit(admission(1, "alice")).await;
    assert!(
        matches!(&full, Err(AdmitRefused::Store(StoreError::Unavailable(why))) if why.contains("waiting")),
        "{full:?}"
    );
    drop(hold);
    blocked.await.expect("it ends").expect("it is answered");
    for write in waiting {
        write.await.expect("everybody who waited is answered");
    }
    store.close().await;
    let closed = store.admit(admission(2, "alice")).await;
    assert_eq!(closed, Err(AdmitRefused::Store(StoreError::Unavailable("it is closing".to_owned()))));
    assert_eq!(store.due_next().await, Ok(None), "reads go on");
    let log = dir.path().join("registry.db-wal");
    assert_eq!(log.metadata().map_or(0, |log| log.len()), 0, "nothing is left to replay");
}

/// Polls once.
fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::Pin::new(future).poll(&mut context) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}

#[test]
fn a_place_that_cannot_be_written_is_a_clear_error() {
    let dir = tempfile::tempdir().expect("a folder");
    for path in [Path::new("/proc/registry.db"), &dir.path().join("missing/registry.db"), dir.path()] {
        let Err(refused) = SqliteStore::open(SqliteOptions::file(path, clock(), TERM)) else {
            panic!("{} cannot be a database", path.display());
        };
        let refused = refused.to_string();
        assert!(refused.contains(&*path.to_string_lossy()), "{refused}");
        assert!(refused.contains("must exist and be writable"), "{refused}");
    }
    let garbage = dir.path().join("garbage.db");
    std::fs::write(&garbage, "no database at all, but long enough to be looked at".repeat(100)).expect("a file");
    let Err(refused) = SqliteStore::open(SqliteOptions::file(garbage, clock(), TERM)) else { panic!("garbage opened") };
    assert!(refused.to_string().contains("no SQLite database"), "{refused}");
}

#[tokio::test]
async fn nothing_reads_a_whole_table_to_find_a_row() {
    let core = core(None);
    let statements = [
        tx::RUN_OF_INSTANCE,
        admit::CONTEXT_ID,
        admit::KNOWN,
        admit::LEDGER,
        take_in::NAMED,
        admit::PEEK,
        lease::RENEW,
        lease::RETURNED,
        nodes::HELD,
        timers::DUE,
        timers::DUE_OF_PART,
        timers::DUE_NEXT,
        timers::TO_CHECK,
        timers::STUCK,
        describe::INSTANCE,
        describe::OWNER,
        describe::OPERATION,
        describe::ROUTE,
        audit::OF_INSTANCE,
        keys::TO_FORGET,
        records::DESCRIBE,
        records::ACTIVE,
    ];
    for sql in statements {
        let mut plan = core.conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("it prepares");
        let parameters = vec![rusqlite::types::Null; plan.parameter_count()];
        let lines: Vec<String> = plan
            .query_map(rusqlite::params_from_iter(parameters), |row| row.get::<_, String>(3))
            .and_then(Iterator::collect)
            .expect("a plan");
        for line in lines {
            // An index may be read from its front when the limit ends it.
            let scans = line.starts_with("SCAN") && !line.contains("USING COVERING INDEX");
            assert!(!scans && !line.contains("AUTOMATIC"), "{line}\n{sql}");
        }
    }
    let store = SqliteStore::open(SqliteOptions::memory(clock(), TERM)).expect("it opens");
    assert_eq!(store.active_in(&user("alice")).await, Ok(vec![]));
}
