//! Moving house: a registry in SQLite that was filled through its port, and what is at the other end.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use freehold_domain::evidence::OperatorOverride;
use freehold_domain::operation::Step;
use freehold_domain::owner::Owner;
use freehold_domain::resource::{Rejection, RejectionClass, ResourceKind};
use freehold_domain::run::{Finding, Settlement, Then, Work};
use freehold_engine::ports::{
    Admission, AuditQuery, Installation, InstanceQuery, KeyRecord, KeyRole, Quarantine as _, Records as _, Share, Store,
};
use freehold_store::conformance::{Bench, TERM, TestClock, answer, failure, key, member, node, resource, user};
use freehold_store::postgres::house::{Move, MoveError, Outcome, Progress, move_house};
use freehold_store::postgres::{Options, Url};
use freehold_store::{PostgresOptions, PostgresRecords, PostgresStore, SqliteOptions, SqliteStore, migrate};

use super::{Place, block_on};

/// The installation that moves.
fn ours() -> Installation {
    Installation { install: "prod".parse().expect("a name"), mac_key: [1; 32], secret_key: [2; 32] }
}

/// A file with every kind of thing in it.
struct House {
    _folder: tempfile::TempDir,
    file: PathBuf,
    clock: Arc<TestClock>,
}

impl House {
    fn opened(file: &Path, clock: &Arc<TestClock>) -> Arc<SqliteStore> {
        Arc::new(SqliteStore::open(SqliteOptions::file(file, clock.clone(), TERM)).expect("it opens"))
    }

    async fn furnished() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, clock) = (folder.path().join("registry.db"), Arc::<TestClock>::default());
        let store = Self::opened(&file, &clock);
        let bench = Bench::over(store.clone(), store.clone(), Arc::clone(&clock));
        furnish(&bench).await;
        store.close().await;
        Self { _folder: folder, file, clock }
    }

    fn sqlite(&self) -> Arc<SqliteStore> {
        Self::opened(&self.file, &self.clock)
    }

    fn postgres(&self, url: &Url) -> PostgresStore {
        let options = PostgresOptions { clock: Some(self.clock.clone()), ..PostgresOptions::new(TERM) };
        PostgresStore::to(url, options).expect("a place")
    }

    fn wanted<'a>(&'a self, target: &'a Url) -> Move<'a> {
        let now = freehold_domain::time::Timestamp::from_micros(1);
        Move { source: &self.file, target, with_records: true, anew: false, now }
    }
}

/// Puts something of everything into a registry.
async fn furnish(bench: &Bench) {
    let store = &bench.store;
    store.installation(ours()).await.expect("answers");
    // In progress: untouched, with something noted, held by a node, waiting, with a key.
    bench.taken(&user("untouched")).await;
    let noted = bench.taken(&user("noted")).await;
    bench.note(&noted, None, Then::Intend(Step::Base)).await.expect("noted");
    let waiting = bench.taken(&member("acme", "waiting")).await;
    bench.note(&waiting, None, Then::Rest(bench.now().plus(Duration::from_secs(60)))).await.expect("rests");
    let keyed = Admission { idempotency: Some(key(1, 1)), ..bench.admission(&user("keyed")) };
    let keyed = bench.take(keyed).await;
    bench.complete(&keyed, Some(answer(201, "{\"id\":\"x\"}"))).await;
    // Refused by the provider, given up, cleaning up.
    let refused = bench.taken(&user("refused")).await;
    let refused = bench.note(&refused, None, Then::Intend(Step::Runtime)).await.expect("noted");
    let rejection =
        Rejection { class: RejectionClass::Capacity { region: Some("ams".to_owned()) }, detail: "full".to_owned() };
    bench.note(&refused, Some((Step::Runtime, Finding::Rejected(rejection))), Then::Look).await.expect("noted");
    let doubtful = bench.taken(&user("doubtful")).await;
    let doubtful = bench.note(&doubtful, None, Then::Intend(Step::Runtime)).await.expect("noted");
    let silent = Some((Step::Runtime, Finding::Unknown("no answer; \u{1f600} \"quoted\"".to_owned())));
    let doubtful = bench.note(&doubtful, silent, Then::Look).await.expect("noted");
    bench.settle(&doubtful, Settlement::GiveUp(failure()), None).await.expect("given up");
    // Complete, stopped, updated, being destroyed, gone, overridden, swept.
    bench.completed(&user("complete")).await;
    let stopping = bench.completed(&user("stopping")).await;
    store.work_begin(stopping.reservation.instance, Work::Stop, bench.asked()).await.expect("accepted");
    let dying = bench.completed(&member("acme", "dying")).await;
    let why = Some("it is not wanted".to_owned());
    store.destroy_intent_set(dying.reservation.instance, why, bench.asked()).await.expect("accepted");
    let gone = bench.taken(&user("gone")).await;
    bench.release_untouched(&gone).await;
    let again = bench.taken(&user("gone")).await;
    bench.complete(&again, None).await;
    let override_of = bench.taken(&user("overridden")).await;
    let said = OperatorOverride::establish("looked myself", bench.leak()).expect("a reason");
    let released = store.release_override(override_of.reservation.instance, "in_progress", said, bench.asked()).await;
    released.expect("answers").expect("released");
    let swept = bench.taken(&user("swept")).await;
    let swept = bench.release_untouched(&swept).await;
    let found = vec![resource(ResourceKind::Storage, "v-1")];
    let (instance, epoch) = (swept.reservation.instance, swept.reservation.epoch);
    store.sweep_begin(instance, epoch, found, bench.leak(), bench.asked()).await.expect("begun");
    // What came from elsewhere, under a name of its own.
    let mut bid = bench.admission(&user("adopted")).bid;
    bid.named = Some("legacy-app".to_owned());
    store.take_in(bid, vec![resource(ResourceKind::Base, "app-1")], bench.asked()).await.expect("taken in");
    store.delivery_put("msg_1", bench.now().plus(Duration::from_secs(600))).await.expect("answers");
    store
        .key_create(KeyRecord {
            id: "k1".to_owned(),
            label: "for the backend".to_owned(),
            role: KeyRole::Platform,
            hash: [7; 32],
            created_at: bench.now(),
            revoked_at: None,
        })
        .await
        .expect("made");
    // The way back from a backup leaves a jump in the positions behind.
    store.quarantine_begin("test").await.expect("begun");
    store.quarantine_end(1 << 20).await.expect("over");
    store.owner_backfilled_set(user("adopted").owner()).await.expect("answers");
    bench.clock.advance(Duration::from_secs(5));
    bench.completed(&user("later")).await;
    for number in 0..700 {
        bench.taken(&user(&format!("crowd-{number}"))).await;
    }
}

/// Every read of both ports, on both sides.
async fn is_the_same(house: &House, url: &Url) {
    let (old, new) = (house.sqlite(), house.postgres(url));
    let records = PostgresRecords::to(url, Options::default()).expect("a place");
    let query = InstanceQuery { limit: 5_000, ..InstanceQuery::default() };
    let instances = old.instance_list(&query).await.expect("answers").items;
    assert!(instances.len() > 700);
    assert_eq!(new.instance_list(&query).await.expect("answers").items, instances);
    let mut owners: BTreeSet<Owner> = BTreeSet::new();
    for one in &instances {
        let (instance, operation) = (one.reservation.instance, one.operation.id);
        owners.insert(one.reservation.context.owner().clone());
        if !one.reservation.context.owner().to_string().contains("crowd") {
            assert_eq!(new.operation_describe(operation).await, old.operation_describe(operation).await);
            assert_eq!(new.route_lookup(instance).await, old.route_lookup(instance).await);
            assert_eq!(records.describe(instance).await, old.describe(instance).await, "{instance}");
            let (changes, were) = (records.changes(instance, 100).await, old.changes(instance, 100).await);
            let (changes, were) = (changes.expect("answers"), were.expect("answers"));
            assert_eq!(changes.len(), were.len());
            for (is, was) in changes.iter().zip(&were) {
                let json = |text: &Option<String>| {
                    text.as_ref().map(|text| serde_json::from_str::<serde_json::Value>(text).expect("JSON"))
                };
                assert_eq!((json(&is.before), json(&is.after)), (json(&was.before), json(&was.after)));
                assert_eq!((&is.action, &is.because, is.at), (&was.action, &was.because, was.at));
            }
            let context = &one.reservation.context;
            assert_eq!(new.context_peek(context, 1, None).await, old.context_peek(context, 1, None).await);
        }
    }
    for owner in &owners {
        assert_eq!(new.owner_describe(owner).await, old.owner_describe(owner).await);
        assert_eq!(new.owner_is_backfilled(owner).await, old.owner_is_backfilled(owner).await);
    }
    let mut after = 0;
    let mut lines = 0;
    loop {
        // Pages differ, for one side has lines that say nothing; what is said does not.
        let page = old.audit_read(&AuditQuery { after, instance: None, limit: 500 }).await.expect("answers");
        let Some(last) = page.items.last().map(|record| record.position) else { break };
        let mut there = Vec::new();
        let mut at = after;
        while at < last {
            let page = new.audit_read(&AuditQuery { after: at, instance: None, limit: 500 }).await.expect("answers");
            at = page.next.unwrap_or(u64::MAX);
            there.extend(page.items.into_iter().filter(|record| record.position <= last));
        }
        assert_eq!(there, page.items);
        lines += there.len();
        after = last;
    }
    assert!(lines > 700, "{lines}");
    assert_eq!(new.high_water().await, old.high_water().await);
    assert_eq!(new.leak_list(false, None, 100).await, old.leak_list(false, None, 100).await);
    assert_eq!(new.key_list().await, old.key_list().await);
    assert_eq!(new.installation(Installation { mac_key: [9; 32], ..ours() }).await, Ok(ours()));
    assert_eq!(new.delivery_is_known("msg_1").await, Ok(true));
    assert_eq!(new.quarantine_over().await, old.quarantine_over().await);
    assert_eq!(new.unresolved_summary().await, old.unresolved_summary().await);
    assert_eq!(new.due_next().await, old.due_next().await);
    assert_eq!(new.latest_at().await, old.latest_at().await);
    assert_eq!(new.checks_due(5_000, &[]).await.map(sorted), old.checks_due(5_000, &[]).await.map(sorted));
    let named = ("process".parse().expect("a name"), "legacy-app");
    assert_eq!(new.instance_named(&named.0, named.1).await, old.instance_named(&named.0, named.1).await);
    let keyed = user("keyed");
    for body in [1, 2] {
        let key = Some(key(1, body));
        assert_eq!(new.context_peek(&keyed, 1, key).await, old.context_peek(&keyed, 1, key).await);
    }
}

fn sorted<T: Ord>(mut list: Vec<T>) -> Vec<T> {
    list.sort();
    list
}

/// Operations that were in flight go on, and new ones begin behind the old ones.
async fn goes_on(house: &House, url: &Url) {
    let new = house.postgres(url);
    house.clock.advance(Duration::from_secs(600));
    let due = new.due_list(5_000, Share::ALL, &[]).await.expect("answers");
    assert!(due.len() > 700, "{}", due.len());
    for operation in due.iter().take(20) {
        let (run, lease) = new.claim(*operation, &node("b")).await.expect("answers").expect("anybody's");
        new.note(&lease, freehold_domain::run::Note { at: house.clock_now(), finding: None, then: Then::Look })
            .await
            .unwrap_or_else(|error| panic!("{error}: {run:?}"));
    }
    let before = new.high_water().await.expect("answers");
    let store: Arc<dyn Store> = Arc::new(new);
    let records = Arc::new(PostgresRecords::to(url, Options::default()).expect("a place"));
    let bench = Bench::over(store.clone(), records, house.clock.clone()).behind(1 << 21);
    bench.completed(&user("new-here")).await;
    assert!(store.high_water().await.expect("answers") > before);
}

impl House {
    fn clock_now(&self) -> freehold_domain::time::Timestamp {
        freehold_engine::ports::Clock::now(self.clock.as_ref())
    }
}

#[test]
fn everything_is_there_and_goes_on() {
    let place = Place::new();
    let url: Url = place.url.parse().expect("a URL");
    block_on(async {
        let house = House::furnished().await;
        let mut seen = BTreeSet::new();
        let moved = move_house(house.wanted(&url), |progress| {
            if let Progress::Copied(table, _) = progress {
                seen.insert(table);
            }
        });
        let Outcome::Moved(moved) = moved.await.expect("it moves") else { panic!("it was not there before") };
        assert_eq!(moved.install, "prod");
        assert!(moved.copied > 2_000 && moved.lines > 700 && moved.chains > 700, "{moved:?}");
        assert_eq!(seen.len(), moved.parts.iter().filter(|part| part.rows > 0).count());
        // Each kind of thing was there to be moved.
        let empty: Vec<_> = moved.parts.iter().filter(|part| part.rows == 0).map(|part| part.table).collect();
        assert_eq!(empty, Vec::<&str>::new());

        // The source is served by nobody any more. For the comparison the mark is taken off.
        let refused = SqliteStore::open(SqliteOptions::file(&house.file, house.clock.clone(), TERM));
        assert!(refused.err().is_some_and(|error| error.to_string().contains("was moved to")));
        let again = move_house(house.wanted(&url), |_| ()).await;
        assert!(matches!(&again, Ok(Outcome::Before { install, .. }) if install == "prod"), "{again:?}");
        let elsewhere = Place::new();
        let elsewhere: Url = elsewhere.url.parse().expect("a URL");
        let again = move_house(house.wanted(&elsewhere), |_| ()).await;
        assert!(matches!(again, Err(MoveError::AlreadyMoved { .. })), "{again:?}");
        rusqlite::Connection::open(&house.file).expect("opens").execute("DELETE FROM moved", []).expect("unmarked");
        let taken = move_house(house.wanted(&url), |_| ()).await;
        assert!(matches!(taken, Err(MoveError::Taken { .. })), "{taken:?}");
        is_the_same(&house, &url).await;
        goes_on(&house, &url).await;
    });
}

/// Ends a move wherever it is, again and again, until one comes through.
#[test]
fn a_move_that_is_ended_anywhere_goes_on() {
    let place = Place::new();
    let url: Url = place.url.parse().expect("a URL");
    block_on(async {
        let house = House::furnished().await;
        let mut ended = 0;
        let mut patience = Duration::from_millis(1);
        let outcome = loop {
            match tokio::time::timeout(patience, move_house(house.wanted(&url), |_| ())).await {
                // What the one before sent on its way may arrive behind it: that is seen, and run again.
                Ok(Err(MoveError::Target(said))) => assert!(said.contains("at the same time"), "{said}"),
                Ok(outcome) => break outcome.expect("it moves"),
                Err(_) => {
                    ended += 1;
                    let file = SqliteOptions::file(&house.file, house.clock.clone(), TERM);
                    let old_opens = SqliteStore::open(file).is_ok();
                    let new = house.postgres(&url);
                    let new_opens = new.probe().await.is_ok();
                    let query = InstanceQuery { limit: 1, ..InstanceQuery::default() };
                    let something_is_there = !new.instance_list(&query).await.expect("answers").items.is_empty();
                    assert!(!(old_opens && new_opens && something_is_there), "both could be served");
                }
            }
            patience += Duration::from_millis(7);
        };
        assert!(ended > 5, "{ended}");
        // The last one may have been ended when all was done, and before it came to say so.
        if let Outcome::Moved(moved) = outcome {
            assert_eq!(moved.parts.iter().filter(|part| part.rows == 0).count(), 0);
        }
        rusqlite::Connection::open(&house.file).expect("opens").execute("DELETE FROM moved", []).expect("unmarked");
        is_the_same(&house, &url).await;
    });
}

#[test]
fn what_was_served_in_between_is_noticed_and_begun_anew() {
    let place = Place::new();
    let url: Url = place.url.parse().expect("a URL");
    block_on(async {
        let house = House::furnished().await;
        let begun = tokio::sync::Notify::new();
        tokio::select! {
            biased;
            () = begun.notified() => (),
            moved = move_house(house.wanted(&url), |_| begun.notify_one()) => panic!("it was not ended: {moved:?}"),
        }
        assert!(house.postgres(&url).probe().await.is_err(), "nobody serves what is on its way");
        let store = house.sqlite();
        let bench = Bench::over(store.clone(), store.clone(), house.clock.clone()).behind(1 << 20);
        bench.completed(&user("in-between")).await;
        store.close().await;
        drop(store);
        let changed = move_house(house.wanted(&url), |_| ()).await;
        assert!(matches!(changed, Err(MoveError::Changed)), "{changed:?}");
        let anew = Move { anew: true, ..house.wanted(&url) };
        move_house(anew, |_| ()).await.expect("it moves");
        rusqlite::Connection::open(&house.file).expect("opens").execute("DELETE FROM moved", []).expect("unmarked");
        is_the_same(&house, &url).await;
    });
}

/// The last commit of a run that was ended may arrive while the next one compares, and a server may have started since.
#[test]
fn what_is_served_already_keeps_its_sequences() {
    let place = Place::new();
    let url: Url = place.url.parse().expect("a URL");
    block_on(async {
        let house = House::furnished().await;
        let mut arrived = false;
        let sql = |statement: &str| place.sql(statement).expect("it is done");
        let moved = move_house(house.wanted(&url), |progress| {
            if matches!(progress, Progress::Chained(_)) && !arrived {
                arrived = true;
                sql("DELETE FROM freehold_registry.moving");
                sql("SELECT setval('freehold_registry.audit_position', 9000000)");
            }
        });
        moved.await.expect("it moves");
        assert!(arrived);
        assert_eq!(sql("SELECT last_value FROM freehold_registry.audit_position").trim(), "9000000");
    });
}

/// The comparison is what stands between a row that got lost and a registry that is served without it.
#[test]
fn a_row_that_is_not_as_it_was_stops_the_move() {
    let place = Place::new();
    let url: Url = place.url.parse().expect("a URL");
    block_on(async {
        let house = House::furnished().await;
        for (harm, table) in [
            (
                "UPDATE freehold_registry.reservations SET epoch = epoch + 1 WHERE route_endpoint IS NOT NULL",
                "reservations",
            ),
            ("UPDATE freehold_registry.audit SET detail = 'nothing' WHERE detail <> ''", "audit"),
            ("DELETE FROM freehold_registry.leaks", "leaks"),
        ] {
            let mut harmed = false;
            let sql = |statement: &str| place.sql(statement).expect("harmed");
            let moved = move_house(Move { anew: true, ..house.wanted(&url) }, |progress| {
                if matches!(progress, Progress::Compared("contexts", _)) && !harmed {
                    harmed = true;
                    sql(harm);
                }
            })
            .await;
            match moved {
                Err(MoveError::Different { table: found, .. }) => assert_eq!(found, table),
                other => panic!("{table}: {other:?}"),
            }
            assert!(SqliteStore::open(SqliteOptions::file(&house.file, house.clock.clone(), TERM)).is_ok(), "unmarked");
        }
    });
}

#[test]
fn what_cannot_be_moved_is_said() {
    let place = Place::new();
    let url: Url = place.url.parse().expect("a URL");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("registry.db");
    let now = freehold_domain::time::Timestamp::from_micros(1);
    let wanted = Move { source: &file, target: &url, with_records: true, anew: false, now };
    block_on(async {
        let missing = move_house(wanted, |_| ()).await;
        assert!(matches!(missing, Err(MoveError::NoSource(_))), "{missing:?}");
        migrate::up(&file, now).expect("made");
        let never_begun = move_house(wanted, |_| ()).await;
        assert!(matches!(never_begun, Err(MoveError::NoSource(_))), "{never_begun:?}");
        let nowhere: Url = "postgres://x@127.0.0.1:1/x?sslmode=disable".parse().expect("a URL");
        rusqlite::Connection::open(&file)
            .expect("opens")
            .execute("INSERT INTO installation VALUES (1, 'prod', zeroblob(32), zeroblob(32))", [])
            .expect("begun");
        let away = move_house(Move { target: &nowhere, ..wanted }, |_| ()).await;
        assert!(matches!(away, Err(MoveError::Target(_))), "{away:?}");
    });
}
