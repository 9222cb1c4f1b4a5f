//! The trail.

use std::collections::BTreeMap;
use std::sync::Arc;

use freehold_domain::event::{Actor, EventKind};
use freehold_domain::owner::Context;
use freehold_engine::audit::{GENESIS, hash};
use freehold_engine::ports::{AuditQuery, AuditRecord, StoreError};
use tokio::task::JoinSet;

use super::{Bench, member, user};

async fn read(bench: &Bench, query: AuditQuery) -> Vec<AuditRecord> {
    bench.store.audit_read(&query).await.expect("the store answers").items
}

async fn all(bench: &Bench) -> Vec<AuditRecord> {
    read(bench, AuditQuery { after: 0, instance: None, limit: 10_000 }).await
}

pub(super) fn verify(trail: &[AuditRecord]) {
    let mut chains: BTreeMap<Context, (u64, [u8; 32])> = BTreeMap::new();
    let mut position = 0;
    for record in trail {
        assert!(record.position > position, "positions rise");
        position = record.position;
        let (seq, head) = chains.entry(record.context.clone()).or_insert((0, GENESIS));
        assert_eq!(record.context_seq, *seq + 1, "no number is left out");
        assert_eq!(record.prev_hash, *head, "each line names the one before");
        assert_eq!(record.hash, hash(head, &record.context, record.context_seq, &record.event), "nothing was changed");
        (*seq, *head) = (record.context_seq, record.hash);
    }
}

/// Recomputed from its beginning, over many contexts that were written at once.
pub async fn the_chain_verifies_from_its_beginning(bench: Arc<Bench>) {
    let mut busy = JoinSet::new();
    for number in 0..8 {
        let bench = Arc::clone(&bench);
        busy.spawn(async move {
            let context = member("acme", &format!("person-{}", number % 4));
            for _ in 0..3 {
                // Two share a context, so some are refused; what is refused leaves no line.
                if bench.store.context_peek(&context, 1, None).await == Ok(freehold_engine::ports::ContextPeek::Free)
                    && let Ok(freehold_engine::ports::Admitted::Taken(run)) =
                        bench.store.admit(bench.admission(&context)).await
                {
                    bench.release_untouched(&run).await;
                }
            }
        });
    }
    busy.join_all().await;
    bench.completed(&user("alice")).await;
    let trail = all(&bench).await;
    assert!(trail.len() >= 10, "something happened");
    verify(&trail);
}

/// Pages of one, while others write in between.
pub async fn reading_on_skips_nothing(bench: Arc<Bench>) {
    let mut seen = Vec::new();
    let mut after = 0;
    for round in 0..5 {
        let run = bench.taken(&user(&format!("u{round}"))).await;
        for _ in 0..3 {
            for record in read(&bench, AuditQuery { after, instance: None, limit: 1 }).await {
                after = record.position;
                seen.push(record);
            }
        }
        bench.release_untouched(&run).await;
    }
    seen.extend(read(&bench, AuditQuery { after, instance: None, limit: 100 }).await);
    assert_eq!(seen, all(&bench).await);
    let limit = seen.len();
    let page = bench.store.audit_read(&AuditQuery { after: 0, instance: None, limit: 2 }).await.expect("answers");
    assert_eq!(page.next, Some(page.items[1].position));
    let page = bench.store.audit_read(&AuditQuery { after: 0, instance: None, limit }).await.expect("answers");
    assert_eq!((page.items.len(), page.next), (limit, None));
}

/// Of two instances in one context.
pub async fn one_instances_trail(bench: Arc<Bench>) {
    let first = bench.taken(&user("alice")).await;
    bench.release_untouched(&first).await;
    let second = bench.taken(&user("alice")).await;
    bench.release_untouched(&second).await;
    let instance = Some(first.reservation.instance);
    let trail = read(&bench, AuditQuery { after: 0, instance, limit: 100 }).await;
    let kinds: Vec<_> = trail.iter().map(|record| record.event.kind).collect();
    assert_eq!(kinds, [EventKind::ReservationStarted, EventKind::ReservationReleased, EventKind::ProvisioningFailed]);
    let rest = read(&bench, AuditQuery { after: trail[0].position, instance, limit: 100 }).await;
    assert_eq!(rest, trail[1..]);
    let none = read(&bench, AuditQuery { after: 0, instance: Some(bench.instance()), limit: 100 }).await;
    assert_eq!(none, []);
}

/// An event without a transition has its place in the chain.
pub async fn a_witness_is_chained(bench: Arc<Bench>) {
    let run = bench.taken(&user("alice")).await;
    let instance = run.reservation.instance;
    let kind = EventKind::ReservationConflict;
    bench
        .store
        .witness(instance, kind, Actor::Platform, bench.now(), "somebody came".to_owned())
        .await
        .expect("answers");
    bench.check(&run).await;
    let trail = all(&bench).await;
    verify(&trail);
    let last = &trail.last().expect("there are events").event;
    assert_eq!((last.kind, last.actor, last.status), (kind, Actor::Platform, "in_progress"));
    assert_eq!((last.detail.as_str(), last.operation), ("somebody came", run.operation.id));
    let missing = bench.store.witness(bench.instance(), kind, Actor::System, bench.now(), String::new()).await;
    assert_eq!(missing, Err(StoreError::Missing("instance")));
}
