//! A database that is killed, frozen, locked or slow.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use freehold_domain::records::InstanceRow;
use freehold_engine::ports::{Records, RecordsError};
use freehold_store::PostgresRecords;
use freehold_store::conformance::records::{Book, because};
use freehold_store::conformance::user;
use freehold_store::postgres::Options;

use super::{Place, block_on, connect};

/// How long a call may take in these tests.
const CALL_WITHIN: Duration = Duration::from_secs(2);

/// What a call may take longer than it is bounded to, on a machine that does other things too.
const SLACK: Duration = Duration::from_millis(1_500);

/// How long a database may take to be used again.
const BACK_WITHIN: Duration = Duration::from_secs(30);

fn impatient(url: &str) -> Arc<PostgresRecords> {
    let options = Options { call_within: CALL_WITHIN, ..Options::default() };
    Arc::new(PostgresRecords::connect(url, options).expect("a place"))
}

async fn until_ready(records: &PostgresRecords) {
    let deadline = Instant::now() + BACK_WITHIN;
    while let Err(error) = records.probe().await {
        assert!(Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Writers go on while the database is killed again and again. Whatever was answered is on record afterwards, with its
/// line in the log; whatever was not is there whole or not at all, and writing it again makes it whole.
async fn killed_in_the_middle_of_writes(place: &Place, url: &str) {
    const KILLS: usize = 4;
    const WRITERS: usize = 6;
    let records = connect(url);
    records.probe().await.expect("ready");
    let book = Arc::new(Book::of(records.clone()));
    let over = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let (book, over) = (Arc::clone(&book), Arc::clone(&over));
            tokio::spawn(async move {
                let (mut answered, mut unknown): (Vec<InstanceRow>, Vec<InstanceRow>) = Default::default();
                while !over.load(Ordering::SeqCst) {
                    let row = book.row(&user("alice"));
                    match book.records.insert(row.clone(), &because()).await {
                        Ok(_) => answered.push(row),
                        Err(RecordsError::Unavailable(_)) => {
                            unknown.push(row);
                            tokio::time::sleep(Duration::from_millis(10)).await;
                        }
                        Err(RecordsError::Refused(why)) => panic!("refused: {why}"),
                    }
                }
                (answered, unknown)
            })
        })
        .collect();
    for _ in 0..KILLS {
        let before = place.sql("SELECT count(*) FROM freehold.freehold_instances").expect("it answers");
        let deadline = Instant::now() + BACK_WITHIN;
        // In the middle of them: some have been written since.
        while place.sql("SELECT count(*) FROM freehold.freehold_instances").as_deref() == Ok(before.as_str()) {
            assert!(Instant::now() < deadline, "nothing is written");
        }
        place.lab.kill().expect("it ran");
        place.lab.restart().expect("it starts again");
        until_ready(&records).await;
    }
    over.store(true, Ordering::SeqCst);
    let (mut answered, mut unknown) = (Vec::new(), Vec::new());
    for writer in writers {
        let (known, lost) = writer.await.expect("it ends");
        answered.extend(known);
        unknown.extend(lost);
    }
    for row in &answered {
        let view = records.describe(row.instance).await.expect("answers");
        assert_eq!(view.row.as_ref(), Some(row), "what was answered is lost");
    }
    for row in &unknown {
        let view = records.insert(row.clone(), &because()).await.expect("written");
        assert_eq!(view.row.as_ref(), Some(row));
    }
    for row in answered.iter().chain(&unknown) {
        assert_eq!(records.changes(row.instance, 10).await.expect("a log").len(), 1, "each has one line");
    }
    println!("{KILLS} kills: {} writes were answered, {} were not", answered.len(), unknown.len());
    assert!(answered.len() > KILLS && !unknown.is_empty());
}

#[test]
fn a_killed_database_keeps_what_it_answered() {
    let place = Place::new();
    block_on(killed_in_the_middle_of_writes(&place, &place.url));
}

#[test]
fn a_killed_database_keeps_what_it_answered_through_pgbouncer() {
    let place = Place::new();
    block_on(killed_in_the_middle_of_writes(&place, &place.bounced()));
}

fn is_in_time(began: Instant, answer: &Result<impl std::fmt::Debug, RecordsError>) {
    assert!(matches!(answer, Err(RecordsError::Unavailable(_))), "{answer:?}");
    let took = began.elapsed();
    assert!(took < CALL_WITHIN + SLACK, "it took {took:?}");
}

/// Somebody else has the table: every call ends in time, nothing of it goes on in the database, and all is well later.
#[test]
fn a_lock_of_somebody_else_is_not_waited_for_for_ever() {
    let place = Place::new();
    for url in [place.url.clone(), place.bounced()] {
        block_on(async {
            let records = impatient(&url);
            records.probe().await.expect("ready");
            let book = Book::of(records.clone());
            let row = book.inserted(&user("alice")).await;
            let lock = "BEGIN; LOCK TABLE freehold.freehold_instances IN ACCESS EXCLUSIVE MODE";
            let held = place.lab.hold("db0", lock).expect("locked");
            let began = Instant::now();
            let late = records.insert(book.row(&user("alice")), &because()).await;
            is_in_time(began, &late);
            // More calls than there are connections: none is kept from the others for longer than its time.
            let began = Instant::now();
            let many: Vec<_> = (0..20)
                .map(|_| {
                    let (records, instance) = (Arc::clone(&records), row.instance);
                    tokio::spawn(async move { records.describe(instance).await })
                })
                .collect();
            for one in many {
                is_in_time(began, &one.await.expect("it answers"));
            }
            let waiting =
                "SELECT count(*) FROM pg_stat_activity WHERE usename = 'freehold' AND wait_event_type = 'Lock'";
            let deadline = Instant::now() + BACK_WITHIN;
            while place.lab.sql("postgres", waiting).expect("it answers") != "0" {
                assert!(Instant::now() < deadline, "what nobody waits for goes on");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            drop(held);
            until_ready(&records).await;
            assert!(records.describe(row.instance).await.expect("answers").row_is_active());
        });
    }
}

/// Somebody else has one instance: others go on.
#[test]
fn one_locked_instance_stops_no_other() {
    let place = Place::new();
    block_on(async {
        let records = place.records();
        let book = Book::of(records.clone());
        let row = book.inserted(&user("alice")).await;
        let lock = "BEGIN; UPDATE freehold.freehold_instance_guards SET writes = writes";
        let held = place.lab.hold("db0", lock).expect("locked");
        let began = Instant::now();
        let late = records.mark_destroyed(row.instance, book.now(), &because()).await;
        // The database gave up before the call did, and says why.
        assert!(matches!(&late, Err(RecordsError::Unavailable(why)) if why.contains("55P03")), "{late:?}");
        assert!(began.elapsed() < Options::default().call_within, "{:?}", began.elapsed());
        assert!(book.records.insert(book.row(&user("bob")), &because()).await.expect("written").row_is_active());
        drop(held);
        assert!(book.closed(row.instance).await.closed);
    });
}

/// Connections that stay open and say nothing.
#[test]
fn a_frozen_database_is_given_up_in_time_and_used_again() {
    let place = Place::new();
    for url in [place.url.clone(), place.bounced()] {
        block_on(async {
            let records = impatient(&url);
            records.probe().await.expect("ready");
            let book = Book::of(records.clone());
            let row = book.row(&user("alice"));
            place.lab.freeze().expect("it runs");
            for _ in 0..2 {
                let began = Instant::now();
                let late = records.insert(row.clone(), &because()).await;
                is_in_time(began, &late);
            }
            place.lab.thaw().expect("it runs");
            until_ready(&records).await;
            let view = records.insert(row.clone(), &because()).await.expect("written");
            assert_eq!(view.row, Some(row));
        });
    }
}

/// Connections that the server closed while nobody used them are no reason to fail.
#[test]
fn idle_connections_that_died_are_not_noticed() {
    let place = Place::new();
    block_on(async {
        let records = place.records();
        let book = Book::of(records.clone());
        let row = book.inserted(&user("alice")).await;
        place.lab.stop().expect("it ran");
        place.lab.restart().expect("it starts again");
        assert!(records.describe(row.instance).await.expect("the first call").row_is_active());
        assert!(book.closed(row.instance).await.closed, "and the first write");
    });
}

/// Through a pooler that went away and came back elsewhere only a new URL helps; at the same place nothing has to be done.
#[test]
fn a_pooler_that_dies_is_said_to() {
    let place = Place::new();
    block_on(async {
        let records = impatient(&place.bounced());
        records.probe().await.expect("ready");
        place.lab.kill_bouncer();
        let began = Instant::now();
        is_in_time(began, &records.probe().await);
        connect(&place.bounced()).probe().await.expect("the next one");
    });
}
