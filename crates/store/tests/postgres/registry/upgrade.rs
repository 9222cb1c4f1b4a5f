//! A schema that goes ahead of a program, with operations in flight.

use std::sync::Arc;
use std::time::Duration;

use freehold_domain::operation::Step;
use freehold_domain::run::Then;
use freehold_engine::ports::{Store, StoreError};
use freehold_store::conformance::{TERM, user};
use freehold_store::postgres::registry::SCHEMA;

use super::{Place, bench, block_on, node, trail};

/// What a later program does that only adds: a column, and a table.
const EXPANDS: &str = "\
    ALTER TABLE freehold_registry.operations ADD COLUMN later text; \
    CREATE TABLE freehold_registry.later (id bigint PRIMARY KEY); \
    INSERT INTO freehold_registry.freehold_schema_migrations (version, name, checksum, works_from) \
    SELECT max(version) + 1, 'later', 'x', 1 FROM freehold_registry.freehold_schema_migrations";

/// What it does once no node of this program is left.
const CONTRACTS: &str = "\
    INSERT INTO freehold_registry.freehold_schema_migrations (version, name, checksum, works_from) \
    SELECT max(version) + 1, 'latest', 'x', max(version) + 1 FROM freehold_registry.freehold_schema_migrations";

#[test]
fn nodes_go_on_while_a_later_program_adds_and_are_refused_once_it_takes_away() {
    let place = Place::new();
    block_on(async {
        let bench = bench(&place.url);
        // In flight: one that is being made, and one whose executor is gone.
        let going = bench.taken(&user("alice")).await;
        let left = bench.taken(&user("bob")).await;
        let noted = bench.note(&going, None, Then::Intend(Step::Base)).await.expect("noted");
        place.sql(EXPANDS).expect("a later program comes");
        // The node that runs, and one that is started beside the later ones.
        bench.release_untouched(&bench.taken(&user("carol")).await).await;
        let started = node(&place.url, &bench.clock, TERM);
        started.probe().await.expect("it may work with what only adds");
        bench.clock.advance(Duration::from_secs(60));
        let holder = freehold_store::conformance::node("b");
        started.claim(left.operation.id, &holder).await.expect("answers").expect("it takes over");
        let taken_over = started.claim(noted.operation.id, &holder).await.expect("answers").expect("it takes over");
        let late = bench.note(&noted, None, Then::Intend(Step::Runtime)).await;
        assert!(matches!(late, Err(StoreError::Refused(_))), "{late:?}");
        assert_eq!(taken_over.0.reservation.epoch.get(), 2);
        trail(started.as_ref()).await;
        place.sql(CONTRACTS).expect("the later program takes away");
        let refused = node(&place.url, &bench.clock, TERM).probe().await;
        let Err(StoreError::Unavailable(why)) = refused else { panic!("{refused:?}") };
        let program = SCHEMA.migrations.len();
        let says = format!("its schema is {}, this program knows up to {program}", program + 2);
        assert!(why.contains(&says), "{why}");
    });
}

/// Of nodes that start at once one makes the schema, and the others wait for it.
#[test]
fn nodes_that_start_at_once_on_nothing_all_work() {
    let place = Place::new();
    block_on(async {
        let bench = bench(&place.url);
        let start = Arc::new(tokio::sync::Barrier::new(8));
        let nodes: Vec<_> = (0..8)
            .map(|number| {
                let (start, node) = (Arc::clone(&start), node(&place.url, &bench.clock, TERM));
                let admission = bench.admission(&user(&format!("u{number}")));
                tokio::spawn(async move {
                    start.wait().await;
                    node.admit(admission).await
                })
            })
            .collect();
        for node in nodes {
            node.await.expect("no panic").expect("admitted");
        }
        assert_eq!(trail(bench.store.as_ref()).await.len(), 8);
    });
}
