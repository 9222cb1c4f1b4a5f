//! The suite that all records pass, straight and through a pooler that changes the session under every statement.

use freehold_store::conformance::records::{OpenedRecords, crossings};
use freehold_store::records_conformance;
use freehold_store::{conformance::records::Book, postgres::Options};

use super::{Place, block_on, connect};

fn direct() -> OpenedRecords {
    let place = Place::new();
    (place.records(), Box::new(place))
}

fn through_pgbouncer() -> OpenedRecords {
    let place = Place::new();
    (connect(&place.bounced()), Box::new(place))
}

records_conformance!(straight => direct);
records_conformance!(pgbouncer => through_pgbouncer);

/// Thousands of times, and over more connections than there are writers.
#[test]
fn rows_and_their_ends_cross_thousands_of_times() {
    let place = Place::new();
    block_on(crossings(place.book(), 2_000));
}

/// At the isolation of the database's choice: the functions do not count on what a later statement sees.
#[test]
fn rows_and_their_ends_cross_at_any_isolation() {
    for isolation in ["repeatable read", "serializable"] {
        let place = Place::new();
        let set = format!("ALTER DATABASE db0 SET default_transaction_isolation = '{isolation}'");
        place.sql(&set).expect("it is set");
        let options = Options { connections: 3, ..Options::default() };
        let records = freehold_store::PostgresRecords::connect(&place.url, options).expect("a place");
        block_on(crossings(std::sync::Arc::new(Book::of(std::sync::Arc::new(records))), 200));
    }
}

/// The twin: with a guard that guards nothing the crossings are noticed.
#[test]
fn without_the_guard_something_is_left_behind() {
    let place = Place::new();
    let noticed = block_on(async {
        place.records().probe().await.expect("ready");
        place
            .sql(
                "CREATE OR REPLACE FUNCTION freehold.freehold_guard(p_instance uuid) RETURNS void LANGUAGE sql AS $$ \
                 INSERT INTO freehold.freehold_instance_guards (instance_id) VALUES (p_instance) \
                 ON CONFLICT (instance_id) DO NOTHING $$",
            )
            .expect("replaced");
        tokio::spawn(crossings(place.book(), 20_000)).await
    });
    assert!(noticed.expect_err("nobody noticed").is_panic());
}
