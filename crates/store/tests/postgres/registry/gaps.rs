//! Positions of the audit trail that are given before they are committed, or never.

use std::time::Duration;

use freehold_engine::ports::AuditQuery;
use freehold_store::conformance::user;

use super::{Place, bench, block_on, trail};

const TAKE_A_POSITION: &str = "\
    BEGIN; INSERT INTO freehold_registry.audit (context_id, seq, kind, instance_id, operation_id, epoch, status, actor, \
        at, detail, prev_hash, hash) \
    SELECT context_id, 1000, kind, instance_id, operation_id, epoch, status, actor, at, 'late', prev_hash, hash \
    FROM freehold_registry.audit ORDER BY position LIMIT 1";

fn all(after: u64) -> AuditQuery {
    AuditQuery { after, instance: None, limit: 100 }
}

/// A reader does not go past a line that is under way; and sees it once it is there.
#[test]
fn a_reader_waits_out_a_line_that_is_under_way() {
    let place = Place::new();
    block_on(async {
        let bench = bench(&place.url);
        bench.taken(&user("alice")).await;
        let under_way = place.lab.hold("db0", TAKE_A_POSITION).expect("held");
        bench.taken(&user("bob")).await;
        let reading = {
            let store = bench.store.clone();
            tokio::spawn(async move { store.audit_read(&all(0)).await })
        };
        tokio::time::sleep(Duration::from_millis(400)).await;
        assert!(!reading.is_finished(), "it waits for position 2");
        // It was never committed: the gap stays closed.
        drop(under_way);
        let page = reading.await.expect("no panic").expect("a page");
        let positions: Vec<u64> = page.items.iter().map(|line| line.position).collect();
        assert_eq!(positions, [1, 3]);
        assert_eq!(bench.store.audit_read(&all(1)).await.expect("a page").items.len(), 1);
        assert_eq!(trail(bench.store.as_ref()).await.len(), 2);
    });
}

/// An end of a quarantine that broke off between the jump of the positions and the line that stands for them leaves no
/// hole that readers would close one by one.
#[test]
fn a_jump_that_broke_off_is_covered_by_the_next_one() {
    let place = Place::new();
    block_on(async {
        let bench = bench(&place.url);
        bench.taken(&user("alice")).await;
        bench.store.quarantine_begin("a test").await.expect("begun");
        place.sql("SELECT setval('freehold_registry.audit_position', 1099511627786)").expect("it broke off here");
        bench.store.quarantine_end(1 << 20).await.expect("ended");
        bench.taken(&user("bob")).await;
        let lines = trail(bench.store.as_ref()).await;
        assert_eq!(lines.last().expect("a line").context, user("bob"));
        let fillers = "SELECT count(*) < 500 FROM freehold_registry.audit WHERE kind = ''";
        assert_eq!(place.sql(fillers).as_deref(), Ok("t"));
    });
}

/// A line that is committed while a reader waits for it is read.
#[test]
fn a_line_that_comes_late_is_not_skipped() {
    let place = Place::new();
    block_on(async {
        let bench = bench(&place.url);
        bench.taken(&user("alice")).await;
        let late = format!("{TAKE_A_POSITION}; SELECT pg_sleep(1); COMMIT");
        let held = {
            let lab = &place.lab;
            std::thread::scope(|scope| {
                let held = scope.spawn(|| lab.hold("db0", &late));
                std::thread::sleep(Duration::from_millis(300));
                tokio::task::block_in_place(|| {
                    tokio::runtime::Handle::current().block_on(async {
                        bench.taken(&user("bob")).await;
                        let page = bench.store.audit_read(&all(0)).await.expect("a page");
                        let positions: Vec<u64> = page.items.iter().map(|line| line.position).collect();
                        assert_eq!(positions, [1, 2, 3]);
                        assert_eq!(page.items[1].event.detail, "late");
                    });
                });
                held.join().expect("no panic")
            })
        };
        drop(held);
    });
}
