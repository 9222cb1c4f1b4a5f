//! Every statement reads from an index, however many rows there are.

use std::sync::Arc;
use std::time::Duration;

use freehold_engine::ports::{AuditQuery, InstanceQuery, Share};
use freehold_store::conformance::{Bench, TERM, TestClock, key, user};

use super::{Place, bench, block_on, connect, node};

/// Sequential reads of tables that grow, counted by the database itself, over a round of what nodes do all day: straight, where
/// statements are planned once, and behind a pooler, where they are planned each time.
#[test]
fn nothing_reads_a_whole_table_to_find_a_row() {
    let place = Place::new();
    block_on(async {
        let bench = bench(&place.url);
        for number in 0..200 {
            let run = bench.taken(&user(&format!("u{number}"))).await;
            if number % 2 == 0 {
                bench.release_untouched(&run).await;
            }
        }
        // As many again, by the database itself.
        place
            .sql(
                "CREATE FUNCTION minted(t text) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$ SELECT \
                    overlay(overlay(md5(t) placing '7' from 13 for 1) placing '8' from 17 for 1)::uuid $$; \
                 INSERT INTO freehold_registry.contexts SELECT md5('c' || n)::uuid, 'user:x' || n, 'x' || n, n % 64, 1, \
                 md5('c' || n)::uuid, 0, ''::bytea FROM generate_series(1, 20000) n; \
                 DO $$ DECLARE t text; BEGIN FOREACH t IN ARRAY ARRAY['reservations', 'operations'] LOOP \
                    EXECUTE format('INSERT INTO freehold_registry.%1$s SELECT %2$s FROM (SELECT * FROM \
                        freehold_registry.%1$s WHERE status IN (''released'', ''cancelled'', ''failed'') LIMIT 1) r, \
                        generate_series(1, 20000) n', t, ( \
                        SELECT string_agg(CASE column_name::text WHEN 'context_id' THEN 'md5(''c'' || n)::uuid' \
                            WHEN 'instance_id' THEN 'minted(''i'' || n)' WHEN 'id' THEN 'minted(''o'' || n)' \
                            WHEN 'operation_id' THEN 'minted(''o'' || n)' ELSE 'r.' || column_name END, ', ' \
                            ORDER BY ordinal_position) FROM information_schema.columns \
                        WHERE table_schema = 'freehold_registry' AND table_name = t)); \
                 END LOOP; END $$; ANALYZE",
            )
            .expect("filled");
        let scans = || {
            let sql = "SELECT pg_stat_clear_snapshot(); SELECT coalesce(sum(seq_scan), 0) FROM pg_stat_user_tables \
                       WHERE schemaname = 'freehold_registry' \
                       AND relname IN ('contexts', 'reservations', 'operations', 'audit')";
            place.sql(sql).expect("counted").trim().parse::<u64>().expect("a number")
        };
        // What a connection counted it tells at its end at the latest: those that filled small tables are over.
        drop(bench);
        let settled = async || {
            let (mut last, mut same) = (scans(), 0);
            while same < 10 {
                tokio::time::sleep(Duration::from_millis(100)).await;
                let now = scans();
                same = if now == last { same + 1 } else { 0 };
                last = now;
            }
            last
        };
        settled().await;
        place.sql("SELECT pg_stat_reset()").expect("reset");
        for (number, url) in [(1, place.url.clone()), (2, place.bounced())] {
            let before = settled().await;
            a_round(&url, number).await;
            let read = settled().await - before;
            let which = "SELECT relname, seq_scan, seq_tup_read FROM pg_stat_user_tables \
                         WHERE schemaname = 'freehold_registry' AND seq_scan > 0 ORDER BY relname";
            assert_eq!(read, 0, "somebody read a whole table at {url}:\n{}", place.sql(which).expect("counted"));
        }
    });
}

/// What nodes do all day, once each.
async fn a_round(url: &str, number: u8) {
    let clock = Arc::new(TestClock::default());
    // Behind the ids that were minted before.
    let bench = Bench::over(node(url, &clock, TERM), connect(url), clock).behind(1_000 * u64::from(number));
    let store = bench.store.as_ref();
    let new = format!("new-{number}");
    let mut admission = bench.admission(&user(&new));
    admission.idempotency = Some(key(number, number));
    let run = bench.take(admission.clone()).await;
    let instance = run.reservation.instance;
    store.context_peek(&user(&new), 1, admission.idempotency).await.expect("answers");
    store.renew(&[run.lease().expect("held")]).await.expect("answers");
    bench.release_untouched(&run).await;
    store.hurry(run.operation.id).await.expect("answers");
    store.due_list(64, Share::ALL, &[]).await.expect("answers");
    store.due_list(64, Share { index: 1, of: 3 }, &[]).await.expect("answers");
    let elsewhere = ["docker".parse().expect("a name")];
    store.due_list(64, Share::ALL, &elsewhere).await.expect("answers");
    store.checks_due(64, &elsewhere).await.expect("answers");
    store.due_next().await.expect("answers");
    store.checks_due(64, &[]).await.expect("answers");
    store.stuck_list(bench.now(), 10).await.expect("answers");
    store.instance_describe(instance).await.expect("answers");
    store.operation_describe(run.operation.id).await.expect("answers");
    store.route_lookup(instance).await.expect("answers");
    store.owner_describe(user("u1").owner()).await.expect("answers");
    store.unresolved_summary().await.expect("answers");
    store.idempotency_purge(bench.now(), 10).await.expect("answers");
    let name = "process".parse().expect("a name");
    store.instance_named(&name, "acme").await.expect("answers");
    store.node_returned(&"a".parse().expect("a name"), 7).await.expect("answers");
    store.audit_read(&AuditQuery { after: 0, instance: Some(instance), limit: 10 }).await.expect("answers");
    store.audit_read(&AuditQuery { after: 100, instance: None, limit: 10 }).await.expect("answers");
    let of_one = InstanceQuery { owner: Some(user("u1").owner().clone()), limit: 10, ..InstanceQuery::default() };
    store.instance_list(&of_one).await.expect("answers");
    store.instance_list(&InstanceQuery { limit: 10, ..InstanceQuery::default() }).await.expect("answers");
    let open = InstanceQuery { status: Some("in_progress"), limit: 10, ..InstanceQuery::default() };
    store.instance_list(&open).await.expect("answers");
}
