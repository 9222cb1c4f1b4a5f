//! What people and the janitor ask for.

use std::sync::Arc;
use std::time::Duration;

use freehold_domain::event::Actor;
use freehold_domain::event::EventKind;
use freehold_domain::evidence::{OperatorOverride, Release, Sealed};
use freehold_domain::lease::Epoch;
use freehold_domain::operation::{OperationKind, OperationStatus, Step};
use freehold_domain::reservation::{FrozenSpec, Power, Resolution, Status};
use freehold_domain::resource::{Resource, ResourceKind};
use freehold_domain::route::{Endpoint, Route};
use freehold_domain::run::{Effect, Finding, Refused, Run, Settlement, Then, Work, WorkRefused};
use freehold_engine::ports::{Admission, AuditQuery, DestroyAccepted, StoreError, WorkAccepted};

use super::{Bench, answer, failure, journal::cleaned, key, resource, user};

async fn destroy(bench: &Bench, run: &Run) -> DestroyAccepted {
    let reason = Some("no longer wanted".to_owned());
    bench.store.destroy_intent_set(run.reservation.instance, reason, bench.asked()).await.expect("the store answers")
}

async fn destroying(bench: &Bench, run: &Run) -> Run {
    match destroy(bench, run).await {
        DestroyAccepted::Accepted { run, .. } => *run,
        other => panic!("not accepted: {other:?}"),
    }
}

async fn destroyed(bench: &Bench, run: &Run) -> Run {
    let run = cleaned(bench, run).await;
    let evidence = Release::Sealed(Sealed::establish(&run.reservation).expect("sealed and looked"));
    bench.settle(&run, Settlement::Release { evidence, failure: None }, None).await.expect("it is released")
}

/// The executor is fenced, the context stays taken until nothing is left.
pub async fn destroy_is_accepted_while_it_is_being_made(bench: Arc<Bench>) {
    let run = bench.made(&bench.taken(&user("alice")).await).await;
    let DestroyAccepted::Accepted { run: accepted, replaced } = destroy(&bench, &run).await else {
        panic!("destroy is accepted in every state");
    };
    bench.check(&accepted).await;
    assert_eq!(replaced, Some(run.operation.id));
    assert!(accepted.reservation.intent.is_destroy());
    assert_eq!(accepted.operation.kind, OperationKind::Destroy);
    let old = bench.store.operation_describe(run.operation.id).await.expect("answers").expect("is there").operation;
    assert_eq!((old.status, old.holder, old.due_at), (OperationStatus::Cancelled, None, None));
    let late = bench.note(&run, None, Then::Look).await;
    assert!(matches!(late, Err(StoreError::Refused(_))), "{late:?}");
    assert_eq!(destroy(&bench, &run).await, DestroyAccepted::Underway(accepted.operation.id));
    assert!(bench.store.admit(bench.admission(&user("alice"))).await.is_err(), "something may still be there");
    let over = destroyed(&bench, &accepted).await;
    bench.check(&over).await;
    assert_eq!(over.reservation.status, Status::Released { because: Resolution::InstanceDestroyed });
    bench.taken(&user("alice")).await;
}

/// A new instance may be made while the old one goes away.
pub async fn destroy_of_a_complete_one_frees_the_context(bench: Arc<Bench>) {
    let old = bench.completed(&user("alice")).await;
    let accepted = destroying(&bench, &old).await;
    assert_eq!(accepted.reservation.status, Status::Completed);
    let new = bench.completed(&user("alice")).await;
    let over = destroyed(&bench, &accepted).await;
    bench.check(&over).await;
    bench.check(&new).await;
    let unknown = bench.store.destroy_intent_set(bench.instance(), None, bench.asked()).await;
    assert_eq!(unknown, Err(StoreError::Missing("instance")));
}

/// Cleaning up after a failure becomes a destroy.
pub async fn destroy_is_accepted_while_cleaning_up(bench: Arc<Bench>) {
    let run = bench.made(&bench.taken(&user("alice")).await).await;
    let run = bench.settle(&run, Settlement::GiveUp(failure()), None).await.expect("it gives up");
    let accepted = destroying(&bench, &run).await;
    bench.check(&accepted).await;
    assert!(matches!(accepted.reservation.status, Status::NeedsReconciliation { .. }));
    let over = destroyed(&bench, &accepted).await;
    assert_eq!(over.reservation.status, Status::Released { because: Resolution::InstanceDestroyed });
}

/// There is nothing left to do.
pub async fn destroy_of_what_is_released_is_finished(bench: Arc<Bench>) {
    let run = bench.taken(&user("alice")).await;
    let over = bench.release_untouched(&run).await;
    assert_eq!(destroy(&bench, &over).await, DestroyAccepted::Finished);
    bench.check(&over).await;
}

/// The first tombstone stays as it is.
pub async fn a_route_is_buried_for_good(bench: Arc<Bench>) {
    let run = bench.completed(&user("alice")).await;
    let buried_at = bench.now();
    let accepted = destroying(&bench, &run).await;
    bench.clock.advance(Duration::from_secs(1));
    let late = bench.settle(&run_under(&accepted, &run), Settlement::Succeed { endpoint: None }, None).await;
    assert!(matches!(late, Err(StoreError::Refused(_))), "{late:?}");
    destroyed(&bench, &accepted).await;
    let entry = bench.store.route_lookup(run.reservation.instance).await.expect("answers").expect("is there");
    assert_eq!(entry.route, Some(Route::Tombstone { at: buried_at }));
}

/// What the holder of `new` would write, had it the epoch of `old`.
fn run_under(new: &Run, old: &Run) -> Run {
    let mut run = new.clone();
    run.reservation.epoch = old.reservation.epoch;
    run
}

/// Asking twice is asking once; asking for something else replaces.
pub async fn work_is_begun_joined_and_replaced(bench: Arc<Bench>) {
    let run = bench.completed(&user("alice")).await;
    let instance = run.reservation.instance;
    let begin = |work| bench.store.work_begin(instance, work, bench.asked());
    assert_eq!(begin(Work::Start).await, Ok(WorkAccepted::NothingToDo), "it is up");
    let Ok(WorkAccepted::Accepted { run: stopping, replaced: None }) = begin(Work::Stop).await else {
        panic!("a stop is accepted");
    };
    bench.check(&stopping).await;
    assert_eq!((stopping.operation.kind, stopping.reservation.power), (OperationKind::Stop, Power::Off));
    assert_eq!(begin(Work::Stop).await, Ok(WorkAccepted::Underway(stopping.operation.id)));
    let Ok(WorkAccepted::Accepted { run: restarting, replaced }) = begin(Work::Restart).await else {
        panic!("a restart replaces a stop");
    };
    assert_eq!(replaced, Some(stopping.operation.id));
    bench.check(&restarting).await;
    let noted = bench.note(&restarting, None, Then::Intend(Step::Power)).await.expect("it may restart");
    let endpoint = Some(Endpoint("http://127.0.0.1:4001".to_owned()));
    let over = bench.settle(&noted, Settlement::Succeed { endpoint }, None).await.expect("it is up again");
    bench.check(&over).await;
    let route = bench.described(&over).await.route;
    assert!(matches!(route, Some(Route::Live { ref endpoint, .. }) if endpoint.0.ends_with("4001")), "{route:?}");
}

/// Too early, too late, and for nobody.
pub async fn work_is_refused_where_it_makes_no_sense(bench: Arc<Bench>) {
    let young = bench.taken(&user("alice")).await;
    let begin = |run: &Run, work| bench.store.work_begin(run.reservation.instance, work, bench.asked());
    assert_eq!(begin(&young, Work::Stop).await, Ok(WorkAccepted::Refused(WorkRefused::InProgress)));
    bench.check(&young).await;
    let old = destroying(&bench, &bench.completed(&user("bob")).await).await;
    assert_eq!(begin(&old, Work::Start).await, Ok(WorkAccepted::Refused(WorkRefused::Destroyed)));
    bench.check(&old).await;
    let none = bench.store.work_begin(bench.instance(), Work::Start, bench.asked()).await;
    assert_eq!(none, Err(StoreError::Missing("instance")));
}

/// The spec is the update's from its success on.
pub async fn an_update_changes_the_spec(bench: Arc<Bench>) {
    let run = bench.completed(&user("alice")).await;
    let spec = FrozenSpec(Arc::from(vec![0xff_u8; 20_000]));
    let asked = bench.asked();
    let work = Work::Update(spec.clone());
    let Ok(WorkAccepted::Accepted { run: updating, .. }) =
        bench.store.work_begin(run.reservation.instance, work, asked).await
    else {
        panic!("an update is accepted");
    };
    bench.check(&updating).await;
    assert_eq!(updating.reservation.spec, run.reservation.spec, "not yet");
    let noted = bench.note(&updating, None, Then::Intend(Step::Update)).await.expect("it may update");
    let over = bench.settle(&noted, Settlement::Succeed { endpoint: None }, None).await.expect("it is updated");
    assert_eq!(over.reservation.spec, spec);
    bench.check(&over).await;
}

/// Whoever held it, and whatever the provider said.
pub async fn a_repair_completes_what_is_proven(bench: Arc<Bench>) {
    let endpoint = Endpoint("http://127.0.0.1:4000".to_owned());
    for (name, scope, gives_up) in [("alice", 1, false), ("bob", 2, true)] {
        let admission = Admission { idempotency: Some(key(scope, 1)), ..bench.admission(&user(name)) };
        let mut run = bench.made(&bench.take(admission).await).await;
        // Both are on record, and the executor was never told.
        let proof = bench.proof(&run.reservation).await;
        if gives_up {
            run = bench.settle(&run, Settlement::GiveUp(failure()), None).await.expect("it gives up");
        }
        let check_at = bench.now().plus(Duration::from_secs(1));
        let said = Some(answer(201, name));
        let repaired =
            bench.store.repair(proof, endpoint.clone(), Actor::Operator, bench.now(), check_at, said.clone()).await;
        let repaired = repaired.expect("answers").expect("it is lawful");
        bench.check(&repaired).await;
        assert_eq!(repaired.reservation.status, Status::Completed);
        assert!(bench.described(&run).await.route.is_some_and(|route| route.is_live()));
        let view = bench.store.operation_describe(run.operation.id).await.expect("answers").expect("is there");
        assert_eq!(view.answer, said, "whoever asks with the key again is told");
        let late = bench.note(&run, None, Then::Look).await;
        assert!(matches!(late, Err(StoreError::Refused(_))), "the old executor is fenced: {late:?}");
    }
}

/// What is to go away, or gone, is never routable again.
pub async fn a_repair_of_the_dead_is_refused(bench: Arc<Bench>) {
    let endpoint = Endpoint("http://127.0.0.1:4000".to_owned());
    let run = bench.made(&bench.taken(&user("alice")).await).await;
    let proof = bench.proof(&run.reservation).await;
    let accepted = destroying(&bench, &run).await;
    let repair =
        async || bench.store.repair(proof, endpoint.clone(), Actor::System, bench.now(), bench.now(), None).await;
    assert!(repair().await.expect("answers").is_err(), "it is to be destroyed");
    bench.check(&accepted).await;
    let over = destroyed(&bench, &accepted).await;
    assert!(repair().await.expect("answers").is_err(), "it is released");
    bench.check(&over).await;
}

fn said(bench: &Bench) -> OperatorOverride {
    OperatorOverride::establish("the provider is gone", bench.leak()).expect("a reason")
}

/// The context is free, what may be left is on record, and cleaning up goes on.
pub async fn an_override_opens_a_leak_and_cleans_up_behind(bench: Arc<Bench>) {
    let run = bench.made(&bench.taken(&user("alice")).await).await;
    let said = said(&bench);
    let leak = said.leak();
    let instance = run.reservation.instance;
    let released = bench.store.release_override(instance, "in_progress", said, bench.asked()).await;
    let released = released.expect("answers").expect("it is unresolved");
    bench.check(&released).await;
    assert_eq!(released.reservation.status, Status::Released { because: Resolution::OperatorOverride });
    let open = bench.store.leak_list(true, None, 10).await.expect("answers").items;
    assert_eq!(open.iter().map(|open| (open.id, open.instance)).collect::<Vec<_>>(), [(leak, instance)]);
    assert_eq!(open[0].reason, "the provider is gone");
    bench.taken(&user("alice")).await;
    let clean = cleaned(&bench, &released).await;
    let over = bench.settle(&clean, Settlement::Succeed { endpoint: None }, None).await.expect("nothing is left");
    bench.check(&over).await;
    assert_eq!(bench.store.leak_list(true, None, 10).await.expect("answers").items, []);
    let all = bench.store.leak_list(false, None, 10).await.expect("answers").items;
    assert_eq!(all[0].resolved_at, Some(bench.now()));
}

/// The operator saw something else than what is.
pub async fn an_override_of_what_changed_is_refused(bench: Arc<Bench>) {
    let run = bench.completed(&user("alice")).await;
    let instance = run.reservation.instance;
    for expected in ["in_progress", "failed_requires_reconciliation", "completed"] {
        let refused = bench.store.release_override(instance, expected, said(&bench), bench.asked()).await;
        assert!(refused.expect("answers").is_err(), "a complete one is not released as {expected}");
    }
    bench.check(&run).await;
    assert_eq!(bench.store.leak_list(false, None, 10).await.expect("answers").items, []);
}

/// Oldest first, page by page.
pub async fn leaks_are_listed_and_resolved(bench: Arc<Bench>) {
    let mut leaks = Vec::new();
    for name in ["alice", "bob", "carol"] {
        let run = bench.made(&bench.taken(&user(name)).await).await;
        let said = said(&bench);
        leaks.push(said.leak());
        let instance = run.reservation.instance;
        let released = bench.store.release_override(instance, "in_progress", said, bench.asked()).await;
        assert!(released.expect("answers").is_ok());
    }
    let page = bench.store.leak_list(false, None, 2).await.expect("answers");
    assert_eq!(page.items.iter().map(|leak| leak.id).collect::<Vec<_>>(), leaks[..2]);
    assert_eq!(page.next, Some(leaks[1]));
    let rest = bench.store.leak_list(false, page.next, 2).await.expect("answers");
    assert_eq!((rest.items[0].id, rest.items.len(), rest.next), (leaks[2], 1, None));
    let resolved = bench.store.leak_resolve(leaks[0], bench.now()).await.expect("it is there");
    assert_eq!(resolved.resolved_at, Some(bench.now()));
    bench.clock.advance(Duration::from_secs(1));
    assert_eq!(bench.store.leak_resolve(leaks[0], bench.now()).await, Ok(resolved), "again changes nothing");
    let open = bench.store.leak_list(true, None, 10).await.expect("answers").items;
    assert_eq!(open.iter().map(|leak| leak.id).collect::<Vec<_>>(), leaks[1..]);
    assert_eq!(bench.store.leak_resolve(bench.leak(), bench.now()).await, Err(StoreError::Missing("leak")));
    assert_eq!(bench.store.unresolved_summary().await.expect("answers").leaks_open, 2);
}

async fn sweep(bench: &Bench, run: &Run, held: Epoch, found: &[Resource]) -> Result<Run, StoreError> {
    bench.store.sweep_begin(run.reservation.instance, held, found.to_vec(), bench.leak(), bench.asked()).await
}

async fn told(bench: &Bench, of: &Run) -> Vec<EventKind> {
    let query = AuditQuery { after: 0, instance: Some(of.reservation.instance), limit: 1_000 };
    let page = bench.store.audit_read(&query).await.expect("answers");
    page.items.into_iter().filter(|line| line.event.operation == of.operation.id).map(|line| line.event.kind).collect()
}

/// What is found after a release is a leak until it is gone, as often as something is found.
pub async fn a_sweep_after_a_release_opens_a_leak_and_closes_it(bench: Arc<Bench>) {
    let accepted = destroying(&bench, &bench.completed(&user("alice")).await).await;
    let mut run = destroyed(&bench, &accepted).await;
    let status = run.reservation.status;
    for name in ["late-1", "late-2"] {
        let found = [resource(ResourceKind::Base, name)];
        let swept = sweep(&bench, &run, run.reservation.epoch, &found).await.expect("it may be swept");
        bench.check(&swept).await;
        assert_eq!((swept.operation.kind, &swept.reservation.resources[..]), (OperationKind::Sweep, &found[..]));
        let open = bench.store.leak_list(true, None, 10).await.expect("answers").items;
        assert_eq!(open.iter().map(|leak| leak.instance).collect::<Vec<_>>(), [run.reservation.instance]);
        assert!(open[0].reason.contains(name), "{}", open[0].reason);
        let clean = cleaned(&bench, &swept).await;
        let over = bench.settle(&clean, Settlement::Succeed { endpoint: None }, None).await.expect("nothing is left");
        bench.check(&over).await;
        assert_eq!(over.reservation.status, status, "released as it was");
        assert_eq!(bench.store.leak_list(true, None, 10).await.expect("answers").items, []);
        assert_eq!(told(&bench, &over).await, [EventKind::ResourceLeaked, EventKind::OrphanRemoved]);
        run = over;
    }
}

/// Its own stays, its route stays, and nothing about it changes.
pub async fn a_sweep_removes_extra_copies_of_a_complete_one(bench: Arc<Bench>) {
    let run = bench.completed(&user("alice")).await;
    let route = bench.described(&run).await.route;
    let extra = resource(ResourceKind::Runtime, "extra");
    let swept = sweep(&bench, &run, run.reservation.epoch, std::slice::from_ref(&extra)).await.expect("it may be");
    bench.check(&swept).await;
    assert_eq!(swept.reservation.extra(), Some(&extra));
    let noted = bench.note(&swept, None, Then::Intend(Step::Remove)).await.expect("it may be removed");
    let gone = Some((Step::Remove, Finding::Done(Effect::Removed(extra))));
    let gone = bench.note(&noted, gone, Then::Look).await.expect("it is noted");
    let over = bench.settle(&gone, Settlement::Succeed { endpoint: None }, None).await.expect("it is gone");
    bench.check(&over).await;
    assert_eq!(over.reservation.resources, run.reservation.resources);
    assert_eq!((over.reservation.power, over.reservation.check_at), (Power::On, run.reservation.check_at));
    assert_eq!(bench.described(&over).await.route, route);
    assert_eq!(bench.store.leak_list(false, None, 10).await.expect("answers").items, []);
    assert_eq!(told(&bench, &over).await, [EventKind::ResourceAdopted, EventKind::OrphanRemoved]);
}

/// Judged under another epoch, while something is at work, before it is settled, of its own, of nothing, and of nobody.
pub async fn a_sweep_is_refused_wherever_it_could_do_harm(bench: Arc<Bench>) {
    let found = [resource(ResourceKind::Runtime, "extra")];
    let refused = async |run: &Run, held: Epoch, found: &[Resource]| {
        let answer = sweep(&bench, run, held, found).await;
        assert!(matches!(answer, Err(StoreError::Refused(_))), "{answer:?}");
        bench.check(run).await;
        answer.err()
    };
    let young = bench.taken(&user("alice")).await;
    refused(&young, young.reservation.epoch, &found).await;
    let run = bench.completed(&user("bob")).await;
    let epoch = run.reservation.epoch;
    for held in [Epoch::new(epoch.get() - 1), epoch.next()] {
        let fenced = refused(&run, held, &found).await;
        assert!(matches!(fenced, Some(StoreError::Refused(Refused::Fenced(_)))), "{fenced:?}");
    }
    refused(&run, epoch, &[]).await;
    refused(&run, epoch, &run.reservation.resources).await;
    let swept = sweep(&bench, &run, epoch, &found).await.expect("it may be swept");
    refused(&swept, swept.reservation.epoch, &found).await;
    let accepted = destroying(&bench, &swept).await;
    refused(&accepted, accepted.reservation.epoch, &found).await;
    assert_eq!(bench.store.leak_list(false, None, 10).await.expect("answers").items, []);
    let nobody = bench.store.sweep_begin(bench.instance(), epoch, found.to_vec(), bench.leak(), bench.asked()).await;
    assert_eq!(nobody, Err(StoreError::Missing("instance")));
}

/// The copy stays on record for the next sweep.
pub async fn work_takes_the_place_of_a_sweep(bench: Arc<Bench>) {
    let run = bench.completed(&user("alice")).await;
    let found = [resource(ResourceKind::Runtime, "extra")];
    let swept = sweep(&bench, &run, run.reservation.epoch, &found).await.expect("it may be swept");
    let begin = |work| bench.store.work_begin(run.reservation.instance, work, bench.asked());
    assert_eq!(begin(Work::Start).await, Ok(WorkAccepted::NothingToDo), "it is up");
    let Ok(WorkAccepted::Accepted { run: recovering, replaced }) = begin(Work::Recover).await else {
        panic!("a recovery does not wait for a sweep");
    };
    bench.check(&recovering).await;
    assert_eq!(replaced, Some(swept.operation.id));
    assert_eq!(recovering.reservation.extra(), Some(&found[0]));
    let late = bench.note(&swept, None, Then::Intend(Step::Remove)).await;
    assert!(matches!(late, Err(StoreError::Refused(_))), "{late:?}");
}
