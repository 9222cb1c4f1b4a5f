//! Every list is read from an index of its own, however many rows there are.

use freehold_engine::ports::Records;

use super::{Place, block_on};

/// What a list may read: some pages of the disk for each row of it, and a few beside. The tables have hundreds.
const PAGES_PER_ROW: u64 = 14;
const PAGES_BESIDE: u64 = 40;

fn pages(place: &Place, statement: &str) -> u64 {
    // The second time in a session: the first one reads what the database knows of itself.
    let before = format!("DO $$ BEGIN PERFORM * FROM {statement}; END $$");
    let plan = place.sql(&format!(
        "{before}; EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF, FORMAT JSON) SELECT * FROM {statement}"
    ));
    let plan: serde_json::Value = serde_json::from_str(&plan.expect("a plan")).expect("JSON");
    let top = &plan[0]["Plan"];
    let count = |name: &str| top[name].as_u64().expect("a count");
    count("Shared Hit Blocks") + count("Shared Read Blocks")
}

#[test]
fn lists_do_not_read_what_they_do_not_say() {
    let place = Place::new();
    block_on(async { place.records().probe().await.expect("ready") });
    // 20,000 instances of 2,000 owners; one in ten is active, one in a thousand not reported.
    place
        .sql(
            "INSERT INTO freehold.freehold_instances \
             SELECT ('019b76da-a800-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'user:u' || n % 2000, \
             'u' || n % 2000, 'p', 't', now(), CASE WHEN n % 10 > 0 THEN now() END FROM generate_series(1, 20000) n; \
             INSERT INTO freehold.freehold_subscriptions \
             SELECT instance_id, instance_id, 'active', 't', 'p', now(), NULL, \
             row_number() OVER (ORDER BY instance_id) % 100 > 0 FROM freehold.freehold_instances \
             WHERE destroyed_at IS NULL; ANALYZE",
        )
        .expect("filled");
    for (statement, rows) in [
        ("freehold.records_active_in('user:u10', 'u10')", 10),
        ("freehold.records_active_of('user:u10', 100)", 10),
        ("freehold.records_active_after('019b76da-a800-7000-8000-000000002000', 100)", 100),
        ("freehold.records_unreported(100)", 20),
        ("freehold.records_describe('019b76da-a800-7000-8000-00000000000a')", 1),
        ("freehold.records_changes('019b76da-a800-7000-8000-00000000000a', 100)", 0),
    ] {
        let pages = pages(&place, statement);
        println!("{pages} pages: {statement}");
        assert!(pages < PAGES_PER_ROW * rows + PAGES_BESIDE, "{pages} pages: {statement}");
    }
    let active = block_on(async { place.records().active_after(None, 5_000).await.expect("a page") });
    assert_eq!(active.len(), 2_000);
}
