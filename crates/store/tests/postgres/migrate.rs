//! The schema, brought up to date by whoever comes first.

use std::sync::Arc;

use freehold_engine::ports::RecordsError;
use freehold_postgres_lab::Lab;
use freehold_store::postgres::records::SCHEMA;

use super::{Place, block_on, connect};

fn steps(place: &Place) -> Result<String, String> {
    place.sql("SELECT count(*), max(version) FROM freehold.freehold_schema_migrations WHERE version > 0")
}

/// Eight nodes at once, straight and through the pooler: each finds the schema as it wants it.
#[test]
fn nodes_that_start_at_once_wait_for_each_other() {
    let lab = Lab::start().expect("a cluster");
    for round in 0..6 {
        let direct = lab.database().expect("a database");
        let url = if round % 2 == 0 { direct } else { lab.bouncer(&direct).expect("a bouncer") };
        block_on(async {
            let start = Arc::new(tokio::sync::Barrier::new(8));
            let nodes: Vec<_> = (0..8)
                .map(|_| {
                    let (start, records) = (Arc::clone(&start), connect(&url));
                    tokio::spawn(async move {
                        start.wait().await;
                        records.probe().await
                    })
                })
                .collect();
            for node in nodes {
                assert_eq!(node.await.expect("it answers"), Ok(()), "round {round}");
            }
        });
        let steps = lab.sql(
            &format!("db{round}"),
            "SELECT count(*), max(version) FROM freehold.freehold_schema_migrations WHERE version > 0",
        );
        assert_eq!(steps.expect("it answers"), format!("{}|{}", SCHEMA.migrations.len(), SCHEMA.migrations.len()));
    }
}

fn refused(place: &Place) -> String {
    match block_on(async { place.records().probe().await }) {
        Err(RecordsError::Unavailable(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_newer_schema_and_an_altered_one_are_refused() {
    let place = Place::new();
    block_on(async { place.records().probe().await.expect("ready") });
    place.sql("INSERT INTO freehold.freehold_schema_migrations VALUES (99, 'later', '')").expect("a later step");
    let newer = refused(&place);
    assert!(newer.contains("its schema is 99, this program knows up to 1"), "{newer}");
    let place = Place::new();
    block_on(async { place.records().probe().await.expect("ready") });
    place.sql("UPDATE freehold.freehold_schema_migrations SET checksum = 'other' WHERE version = 1").expect("altered");
    let drift = refused(&place);
    assert!(drift.contains("schema step 1 (records)"), "{drift}");
    // Once it is mended the same records are used: nothing has to be started again.
    assert_eq!(steps(&place).as_deref(), Ok("1|1"));
}

/// Who may not make a schema uses one that was made for it.
#[test]
fn a_role_that_may_make_nothing_uses_what_is_there() {
    let place = Place::new();
    place
        .sql(
            "ALTER DATABASE db0 OWNER TO postgres; REVOKE ALL ON DATABASE db0 FROM PUBLIC; \
               GRANT CONNECT, TEMPORARY ON DATABASE db0 TO freehold",
        )
        .expect("less rights");
    let said = refused(&place);
    assert!(said.contains("permission denied") && said.contains("42501"), "{said}");
    place.sql("CREATE SCHEMA freehold AUTHORIZATION freehold").expect("a schema");
    block_on(async { place.records().probe().await.expect("ready") });
    // And what was made by somebody else, with rights on it.
    place.sql("ALTER SCHEMA freehold OWNER TO postgres; GRANT USAGE ON SCHEMA freehold TO freehold").expect("others'");
    block_on(async { place.records().probe().await.expect("ready") });
}
