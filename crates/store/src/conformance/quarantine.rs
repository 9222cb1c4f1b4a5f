//! A registry that went back in time.

use std::sync::Arc;
use std::time::Duration;

use freehold_domain::event::EventKind;
use freehold_domain::evidence::NothingSent;
use freehold_domain::lease::Fenced;
use freehold_domain::run::{Refused, Run, Then};
use freehold_engine::ports::{AuditQuery, AuditRecord, InstanceQuery, Share, StoreError};

use super::{Bench, node, user};

/// More than an epoch rises in these tests.
const RAISE: u64 = 1 << 20;

/// Every line behind a position, page by page.
async fn trail_behind(bench: &Bench, mut after: u64) -> Vec<AuditRecord> {
    let mut lines = Vec::new();
    loop {
        let page = bench.store.audit_read(&AuditQuery { after, instance: None, limit: 100 }).await.expect("answers");
        lines.extend(page.items);
        match page.next {
            Some(next) => after = next,
            None => return lines,
        }
    }
}

/// It begins, keeps its first reason, ends, and can begin again.
pub async fn a_quarantine_begins_and_ends(bench: Arc<Bench>) {
    let store = &bench.store;
    assert_eq!(store.quarantine().await, Ok(None));
    assert_eq!(store.quarantine_over().await, Ok(None));
    assert_eq!(store.quarantine_end(RAISE).await, Ok(0), "there is nothing to end");
    let begun = store.quarantine_begin("a file was copied back").await.expect("it begins");
    assert_eq!((begun.why.as_str(), begun.since), ("a file was copied back", bench.now()));
    bench.clock.advance(Duration::from_secs(1));
    assert_eq!(store.quarantine_begin("another reason").await, Ok(begun.clone()), "the first reason stays");
    assert_eq!(store.quarantine().await, Ok(Some(begun)));
    assert_eq!(store.quarantine_end(RAISE).await, Ok(0));
    assert_eq!(store.quarantine().await, Ok(None));
    assert_eq!(store.quarantine_over().await, Ok(Some(bench.now())));
    let again = store.quarantine_begin("another reason").await.expect("it begins");
    assert_eq!((again.why.as_str(), again.since), ("another reason", bench.now()));
    assert_eq!(store.quarantine_over().await, Ok(None), "it is on again");
}

/// Whoever held something holds nothing, and everything is looked at again.
pub async fn the_end_of_a_quarantine_fences_and_rings(bench: Arc<Bench>) {
    let made = bench.taken(&user("alice")).await;
    let complete = bench.completed(&user("bob")).await;
    let gone = bench.taken(&user("carol")).await;
    let gone = bench.release_untouched(&gone).await;
    let dying = bench.completed(&user("dave")).await;
    bench.store.destroy_intent_set(dying.reservation.instance, None, bench.asked()).await.expect("accepted");
    bench.clock.advance(Duration::from_secs(3_600));
    bench.store.quarantine_begin("test").await.expect("it begins");
    assert_eq!(bench.store.quarantine_end(RAISE).await, Ok(3));

    bench.check(&gone).await;
    let after = bench.described(&made).await;
    let epoch = made.reservation.epoch.get() + RAISE;
    assert_eq!(after.reservation.epoch.get(), epoch);
    assert_eq!((after.operation.holder, after.operation.due_at), (None, Some(bench.now())));
    assert!(NothingSent::establish(&after.reservation).is_none(), "who knows what was sent since");
    let late = bench.note(&made, None, Then::Rest(bench.now())).await;
    let fenced = Fenced { held: made.reservation.epoch, current: after.reservation.epoch };
    assert_eq!(late, Err(StoreError::Refused(Refused::Fenced(fenced))));
    let lease = made.lease().expect("it was held");
    assert_eq!(bench.store.renew(&[lease]).await, Ok(vec![false]));

    let due = bench.store.due_list(10, Share::ALL, &[]).await.expect("answers");
    assert_eq!(due.len(), 2, "what is not over is due");
    let checks = bench.store.checks_due(10, &[]).await.expect("answers");
    assert_eq!(checks, [complete.reservation.instance], "what is complete is looked at");
    let (run, _) = bench.store.claim(made.operation.id, &node("b")).await.expect("answers").expect("anybody's");
    assert_eq!(run.reservation.epoch.get(), epoch + 1);
    let route = bench.store.route_lookup(complete.reservation.instance).await.expect("answers");
    assert!(route.and_then(|entry| entry.route).is_some_and(|route| route.is_live()), "traffic goes on");

    let trail = trail_behind(&bench, 0).await;
    super::audit::verify(&trail);
    let raised = trail.iter().filter(|record| record.event.kind == EventKind::EpochRaised);
    assert_eq!(raised.count(), 3, "each has its event");
}

/// In more than one transaction, and twice.
pub async fn a_quarantine_of_many_ends(bench: Arc<Bench>) {
    const MANY: usize = 450;
    let mut runs: Vec<Run> = Vec::new();
    for number in 0..MANY {
        runs.push(bench.taken(&user(&format!("u{number}"))).await);
    }
    for round in 1..=2 {
        bench.store.quarantine_begin("test").await.expect("it begins");
        assert_eq!(bench.store.quarantine_end(RAISE).await, Ok(MANY as u64));
        let page = bench.store.instance_list(&InstanceQuery { limit: MANY, ..InstanceQuery::default() }).await;
        let items = page.expect("answers").items;
        assert_eq!(items.len(), MANY);
        assert!(items.iter().all(|one| one.reservation.epoch.get() == 1 + round * RAISE), "each rose once");
    }
}

/// It grows with what happens, and jumps over what may have been given after the backup.
pub async fn the_high_water_only_grows(bench: Arc<Bench>) {
    let store = &bench.store;
    assert_eq!(store.high_water().await, Ok(0));
    bench.taken(&user("alice")).await;
    let before = store.high_water().await.expect("answers");
    let trail = store.audit_read(&AuditQuery { after: 0, instance: None, limit: 10 }).await.expect("answers");
    assert_eq!(Some(before), trail.items.last().map(|record| record.position));
    store.quarantine_begin("test").await.expect("it begins");
    assert_eq!(store.high_water().await, Ok(before));
    store.quarantine_end(RAISE).await.expect("it ends");
    let after = store.high_water().await.expect("answers");
    assert!(after > before + (1 << 32), "far beyond: {after}");
    bench.taken(&user("bob")).await;
    assert!(store.high_water().await.expect("answers") > after);
    let on = trail_behind(&bench, before + 1_000).await;
    assert_eq!(on.len(), 2, "who had read on since the backup misses nothing");
}

/// A registry in which nothing is left to raise has moved on as well.
pub async fn the_high_water_jumps_without_anything_to_raise(bench: Arc<Bench>) {
    let run = bench.taken(&user("alice")).await;
    bench.release_untouched(&run).await;
    let before = bench.store.high_water().await.expect("answers");
    bench.store.quarantine_begin("test").await.expect("it begins");
    assert_eq!(bench.store.quarantine_end(RAISE).await, Ok(0));
    let after = bench.store.high_water().await.expect("answers");
    assert!(after > before + (1 << 32), "{after}");
}

/// What the records know beyond the backup is asked for again.
pub async fn owners_are_asked_for_again(bench: Arc<Bench>) {
    let context = user("alice");
    bench.store.owner_backfilled_set(context.owner()).await.expect("answers");
    bench.store.quarantine_begin("test").await.expect("it begins");
    assert_eq!(bench.store.owner_is_backfilled(context.owner()).await, Ok(true));
    bench.store.quarantine_end(RAISE).await.expect("it ends");
    assert_eq!(bench.store.owner_is_backfilled(context.owner()).await, Ok(false));
}
