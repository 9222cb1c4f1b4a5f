//! The canonical records.

use std::sync::Arc;
use std::time::Duration;

use freehold_domain::event::Actor;
use freehold_domain::owner::Context;
use freehold_domain::records::{InstanceRow, RecordsView, Subscription, SubscriptionStatus};
use freehold_engine::ports::{Because, RecordsError};

use super::{Bench, member, user};

pub(super) fn because() -> Because {
    Because { actor: Actor::System, operation: None, reason: "a story".to_owned() }
}

fn row(bench: &Bench, context: &Context) -> InstanceRow {
    InstanceRow {
        instance: bench.instance(),
        context: context.clone(),
        provider: "process".parse().expect("a name"),
        tier: "small".parse().expect("a name"),
        created_at: bench.now(),
        destroyed_at: None,
    }
}

/// Again changes nothing, and both marks are for good.
pub async fn rows_are_written_once(bench: Arc<Bench>) {
    let row = row(&bench, &user("alice"));
    assert_eq!(bench.records.describe(row.instance).await, Ok(RecordsView::default()));
    let view = RecordsView { row: Some(row.clone()), ..RecordsView::default() };
    assert_eq!(bench.records.insert(row.clone(), &because()).await, Ok(view.clone()));
    let other = InstanceRow { tier: "large".parse().expect("a name"), ..row.clone() };
    assert_eq!(bench.records.insert(other, &because()).await, Ok(view.clone()), "the first row stays");
    assert_eq!(bench.records.describe(row.instance).await, Ok(view.clone()));
    let destroyed_at = Some(bench.now());
    let gone = RecordsView { row: Some(InstanceRow { destroyed_at, ..row.clone() }), subscription: None, closed: true };
    assert_eq!(bench.records.mark_destroyed(row.instance, bench.now(), &because()).await, Ok(gone.clone()));
    bench.clock.advance(Duration::from_secs(1));
    assert_eq!(bench.records.mark_destroyed(row.instance, bench.now(), &because()).await, Ok(gone.clone()));
    let last = row.clone();
    assert_eq!(bench.records.insert(row, &because()).await, Ok(gone), "what is destroyed stays so");
    // Closed before it came: it never comes.
    let late = InstanceRow { instance: bench.instance(), ..last };
    let closed = bench.records.mark_destroyed(late.instance, bench.now(), &because()).await;
    assert_eq!(closed, Ok(RecordsView { closed: true, ..RecordsView::default() }));
    let refused = bench.records.insert(late, &because()).await;
    assert!(matches!(refused, Err(RecordsError::Refused(_))), "{refused:?}");
}

/// At most one per instance, ever.
pub async fn a_subscription_starts_and_ends_once(bench: Arc<Bench>) {
    let run = bench.taken(&user("alice")).await;
    let row = InstanceRow { instance: run.reservation.instance, ..row(&bench, &user("alice")) };
    bench.records.insert(row.clone(), &because()).await.expect("answers");
    let subscription = bench.subscription(&run.reservation);
    let view = RecordsView { row: Some(row.clone()), subscription: Some(subscription.clone()), closed: false };
    assert_eq!(bench.records.subscription_put(subscription.clone(), &because()).await, Ok(view.clone()));
    let second = bench.subscription(&run.reservation);
    assert_eq!(bench.records.subscription_put(second.clone(), &because()).await, Ok(view), "the first one stays");
    let ended = Subscription { status: SubscriptionStatus::Ended, ended_at: Some(bench.now()), ..subscription };
    let view = RecordsView { row: Some(row.clone()), subscription: Some(ended), closed: false };
    assert_eq!(bench.records.subscription_end(row.instance, bench.now(), &because()).await, Ok(view.clone()));
    bench.clock.advance(Duration::from_secs(1));
    assert_eq!(bench.records.subscription_end(row.instance, bench.now(), &because()).await, Ok(view.clone()));
    assert_eq!(bench.records.subscription_put(second, &because()).await, Ok(view), "what ended stays so");
    assert_eq!(
        bench.records.subscription_end(bench.instance(), bench.now(), &because()).await,
        Ok(RecordsView::default())
    );
}

/// The row comes before the subscription.
pub async fn nothing_is_billed_without_a_row(bench: Arc<Bench>) {
    let run = bench.taken(&user("alice")).await;
    let refused = bench.records.subscription_put(bench.subscription(&run.reservation), &because()).await;
    assert!(matches!(refused, Err(RecordsError::Refused(_))), "{refused:?}");
    assert_eq!(bench.records.describe(run.reservation.instance).await, Ok(RecordsView::default()));
}

/// Of one context, without the destroyed ones.
pub async fn active_rows_are_oldest_first(bench: Arc<Bench>) {
    let context = member("acme", "alice");
    let mut rows = Vec::new();
    for _ in 0..3 {
        let row = row(&bench, &context);
        bench.records.insert(row.clone(), &because()).await.expect("answers");
        rows.push(row);
        bench.clock.advance(Duration::from_secs(1));
    }
    bench.records.insert(row(&bench, &member("acme", "bob")), &because()).await.expect("answers");
    bench.records.insert(row(&bench, &user("alice")), &because()).await.expect("answers");
    bench.records.mark_destroyed(rows[1].instance, bench.now(), &because()).await.expect("answers");
    let active = bench.records.active_in(&context).await.expect("answers");
    let active: Vec<_> = active.into_iter().map(|view| view.row).collect();
    assert_eq!(active, [Some(rows[0].clone()), Some(rows[2].clone())]);
    assert_eq!(bench.records.active_in(&user("nobody")).await, Ok(vec![]));
}

/// An executor that lost its right writes late: nothing of it stands.
pub async fn nothing_is_written_for_what_is_not_being_made(bench: Arc<Bench>) {
    let run = bench.taken(&user("alice")).await;
    let instance = run.reservation.instance;
    bench.store.destroy_intent_set(instance, None, bench.asked()).await.expect("accepted");
    let row = InstanceRow { instance, ..row(&bench, &user("alice")) };
    assert!(matches!(bench.records.insert(row, &because()).await, Err(RecordsError::Refused(_))));
    let subscription = bench.subscription(&run.reservation);
    assert!(matches!(bench.records.subscription_put(subscription, &because()).await, Err(RecordsError::Refused(_))));
    assert_eq!(bench.records.describe(instance).await, Ok(RecordsView { closed: true, ..RecordsView::default() }));
}
