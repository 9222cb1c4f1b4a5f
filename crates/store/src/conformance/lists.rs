//! What readers are shown.

use std::sync::Arc;
use std::time::Duration;

use freehold_domain::ids::InstanceId;
use freehold_domain::operation::Step;
use freehold_domain::run::{Finding, Settlement, Then};
use freehold_engine::ports::{InstanceQuery, UnresolvedSummary};

use super::{Bench, TERM, failure, member, user};

async fn listed(bench: &Bench, query: InstanceQuery) -> Vec<InstanceId> {
    let page = bench.store.instance_list(&query).await.expect("the store answers");
    page.items.iter().map(|registered| registered.reservation.instance).collect()
}

/// In the order of their ids, however small the pages are.
pub async fn pages_of_instances_have_each_once(bench: Arc<Bench>) {
    let mut made = Vec::new();
    for number in 0..7 {
        made.push(bench.taken(&user(&format!("u{number}"))).await.reservation.instance);
    }
    for limit in 1..=8 {
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let page = bench.store.instance_list(&InstanceQuery { after, limit, ..InstanceQuery::default() }).await;
            let page = page.expect("answers");
            seen.extend(page.items.iter().map(|registered| registered.reservation.instance));
            let Some(next) = page.next else { break };
            after = Some(next);
        }
        assert_eq!(seen, made, "pages of {limit}");
    }
}

/// Each filter alone, and some together.
pub async fn filters_agree_with_what_they_say(bench: Arc<Bench>) {
    let released = bench.release_untouched(&bench.taken(&user("alice")).await).await.reservation.instance;
    let complete = bench.completed(&user("alice")).await.reservation.instance;
    bench.clock.advance(Duration::from_secs(1));
    let later = bench.now();
    let young = bench.taken(&member("acme", "alice")).await.reservation.instance;
    let failed = bench.made(&bench.taken(&member("acme", "bob")).await).await;
    bench.settle(&failed, Settlement::GiveUp(failure()), None).await.expect("it gives up");
    let failed = failed.reservation.instance;

    let all = || InstanceQuery { limit: 100, ..InstanceQuery::default() };
    let owner = |text: &str| Some(text.parse().expect("an owner"));
    let person = |text: &str| Some(text.parse().expect("a person"));
    for (query, expected) in [
        (all(), vec![released, complete, young, failed]),
        (InstanceQuery { owner: owner("user:alice"), ..all() }, vec![released, complete]),
        (InstanceQuery { owner: owner("org:acme"), ..all() }, vec![young, failed]),
        (InstanceQuery { owner: owner("org:acme"), assigned_user: person("bob"), ..all() }, vec![failed]),
        (InstanceQuery { assigned_user: person("alice"), ..all() }, vec![released, complete, young]),
        (InstanceQuery { owner: owner("user:nobody"), ..all() }, vec![]),
        (InstanceQuery { status: Some("released"), ..all() }, vec![released]),
        (InstanceQuery { status: Some("completed"), ..all() }, vec![complete]),
        (InstanceQuery { status: Some("in_progress"), ..all() }, vec![young]),
        (InstanceQuery { status: Some("failed_requires_reconciliation"), ..all() }, vec![failed]),
        (InstanceQuery { status: Some("in_progress"), owner: owner("user:alice"), ..all() }, vec![]),
        (InstanceQuery { released: Some(true), ..all() }, vec![released]),
        (InstanceQuery { released: Some(false), ..all() }, vec![complete, young, failed]),
        (InstanceQuery { started_before: Some(later), ..all() }, vec![released, complete]),
        (InstanceQuery { after: Some(complete), ..all() }, vec![young, failed]),
        (InstanceQuery { limit: 0, ..all() }, vec![]),
    ] {
        assert_eq!(listed(&bench, query.clone()).await, expected, "{query:?}");
    }
}

/// Tombstones included, in the order of admission, and nobody else's.
pub async fn an_owner_sees_everything_of_its_own(bench: Arc<Bench>) {
    let first = bench.release_untouched(&bench.taken(&member("acme", "bob")).await).await;
    let second = bench.taken(&member("acme", "alice")).await;
    let third = bench.completed(&member("acme", "bob")).await;
    bench.taken(&user("acme")).await;
    let acme = "org:acme".parse().expect("an owner");
    let own = bench.store.owner_describe(&acme).await.expect("answers");
    let runs: Vec<_> = own.iter().map(|one| (one.reservation.clone(), one.operation.clone())).collect();
    assert_eq!(runs, [first, second, third].map(|run| (run.reservation, run.operation)));
    assert_eq!(bench.store.owner_describe(&"org:none".parse().expect("an owner")).await, Ok(vec![]));
}

/// With what went wrong last.
pub async fn stuck_destroys_are_found(bench: Arc<Bench>) {
    let run = bench.completed(&user("alice")).await;
    let instance = run.reservation.instance;
    let since = bench.now();
    let accepted = bench.store.destroy_intent_set(instance, None, bench.asked()).await.expect("answers");
    let freehold_engine::ports::DestroyAccepted::Accepted { run, .. } = accepted else { panic!("not accepted") };
    assert_eq!(bench.store.stuck_list(since, 10).await, Ok(vec![]), "it was accepted just then");
    bench.clock.advance(Duration::from_secs(1));
    let stuck = bench.store.stuck_list(bench.now(), 10).await.expect("answers");
    assert_eq!((stuck[0].instance, stuck[0].since, stuck[0].last_error.as_deref()), (instance, since, None));
    let run = bench.note(&run, None, Then::Intend(Step::Seal)).await.expect("it may seal");
    let finding = Some((Step::Seal, Finding::Unknown("no answer".to_owned())));
    bench.note(&run, finding, Then::Rest(bench.now())).await.expect("it rests");
    let stuck = bench.store.stuck_list(bench.now(), 10).await.expect("answers");
    assert_eq!((stuck.len(), stuck[0].last_error.as_deref()), (1, Some("no answer")));
}

/// Unresolved reservations, timers and leaks.
pub async fn the_summary_counts(bench: Arc<Bench>) {
    let summary = async || bench.store.unresolved_summary().await.expect("answers");
    assert_eq!(summary().await, UnresolvedSummary::default());
    let oldest = Some(bench.now());
    let failed = bench.made(&bench.taken(&user("alice")).await).await;
    bench.settle(&failed, Settlement::GiveUp(failure()), None).await.expect("it gives up");
    bench.clock.advance(Duration::from_secs(1));
    bench.taken(&user("bob")).await;
    bench.completed(&user("carol")).await;
    let young = UnresolvedSummary { in_progress: 1, needs_reconciliation: 1, oldest, timers_due: 0, leaks_open: 0 };
    assert_eq!(summary().await, young);
    bench.clock.advance(TERM.0);
    assert_eq!(summary().await, UnresolvedSummary { timers_due: 2, ..young });
}

/// Nothing is `None`, not an error.
pub async fn what_is_not_there_is_said(bench: Arc<Bench>) {
    assert_eq!(bench.store.instance_describe(bench.instance()).await, Ok(None));
    assert_eq!(bench.store.operation_describe(bench.operation()).await, Ok(None));
    assert_eq!(bench.store.route_lookup(bench.instance()).await, Ok(None));
    assert_eq!(listed(&bench, InstanceQuery { limit: 10, ..InstanceQuery::default() }).await, []);
}
