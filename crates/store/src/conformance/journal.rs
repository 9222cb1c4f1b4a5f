//! What an executor commits.

use std::sync::Arc;
use std::time::Duration;

use freehold_domain::evidence::{NothingSent, Release, Sealed};
use freehold_domain::lease::Lease;
use freehold_domain::operation::{OperationStatus, Step};
use freehold_domain::reservation::{Resolution, Status};
use freehold_domain::resource::{Custody, Found, Observation, Rejection, RejectionClass, ResourceKind, RuntimeState};
use freehold_domain::route::Route;
use freehold_domain::run::{Effect, Finding, Note, Refused, Run, Settlement, Then};
use freehold_domain::time::Timestamp;
use freehold_engine::ports::{Admission, StoreError};

use super::{Bench, answer, failure, key, lease, resource, user};

/// Every sort of finding, committed and read back.
pub async fn a_journal_reads_back_as_it_was_written(bench: Arc<Bench>) {
    let run = bench.taken(&user("alice")).await;
    let seen = |runtime, found| {
        Finding::Done(Effect::Seen {
            asked_at: bench.now(),
            observation: Observation { conclusive: true, found, runtime, reference: String::new() },
        })
    };
    let ours = |kind, id| Found { resource: resource(kind, id), custody: Custody::Ours };
    let foreign = Found { resource: resource(ResourceKind::Storage, "v-9"), custody: Custody::Foreign };
    let full = RejectionClass::Capacity { region: Some("ams".to_owned()) };
    let base = Effect::Made { resource: resource(ResourceKind::Base, "app"), runtime: None };
    let removed = Effect::Removed(resource(ResourceKind::Base, "app"));
    let steps: Vec<(Option<(Step, Finding)>, Then)> = vec![
        (None, Then::Intend(Step::CheckActive)),
        (Some((Step::CheckActive, Finding::Done(Effect::Nothing))), Then::Intend(Step::Base)),
        (Some((Step::Base, Finding::NotSent("no route to host".to_owned()))), Then::Intend(Step::Base)),
        (Some((Step::Base, Finding::Done(base))), Then::Intend(Step::Runtime)),
        (Some((Step::Runtime, Finding::Unknown("it said nothing \"at all\"".to_owned()))), Then::Look),
        (Some((Step::Runtime, seen(RuntimeState::Missing, vec![]))), Then::Intend(Step::Runtime)),
        (
            Some((Step::Runtime, Finding::Rejected(Rejection { class: full, detail: "ams is full".to_owned() }))),
            Then::Intend(Step::Runtime),
        ),
        (
            Some((
                Step::Runtime,
                seen(
                    RuntimeState::Exited("exit status 1".to_owned()),
                    vec![ours(ResourceKind::Runtime, "m-1"), ours(ResourceKind::Runtime, "m-2"), foreign],
                ),
            )),
            Then::Intend(Step::Remove),
        ),
        (Some((Step::Remove, Finding::Done(removed))), Then::Rest(bench.now().plus(Duration::from_secs(1)))),
    ];
    let mut current = run;
    for (finding, then) in steps {
        let rests = matches!(then, Then::Rest(_));
        current = bench.note(&current, finding, then).await.expect("it is committed");
        bench.check(&current).await;
        bench.clock.advance(Duration::from_millis(1));
        assert_eq!(current.operation.holder.is_none(), rests);
    }
    let kinds: Vec<_> = current.reservation.resources.iter().map(|resource| resource.id.as_str()).collect();
    assert_eq!(kinds, ["m-1", "m-2"], "the first of a kind is the instance's own");
    assert_eq!(current.operation.regions_full, 1);
}

/// One commit: completed, routable, answered.
pub async fn a_completion_publishes_and_answers(bench: Arc<Bench>) {
    let run = bench.take(Admission { idempotency: Some(key(1, 1)), ..bench.admission(&user("alice")) }).await;
    let said = answer(201, "{\"id\":\"x\"} \u{fc}\n");
    let done = bench.complete(&run, Some(said.clone())).await;
    bench.check(&done).await;
    assert_eq!((done.reservation.status, done.operation.status), (Status::Completed, OperationStatus::Succeeded));
    let entry = bench.store.route_lookup(done.reservation.instance).await.expect("answers").expect("is there");
    assert!(entry.route.as_ref().is_some_and(Route::is_live), "{entry:?}");
    assert_eq!(bench.described(&done).await.route, entry.route);
    let view = bench.store.operation_describe(done.operation.id).await.expect("answers").expect("is there");
    assert_eq!(view.answer, Some(said), "byte for byte");
    assert_eq!(bench.store.due_next().await, Ok(None), "nothing is left to do");
}

/// One key has one answer, whatever becomes of the instance later.
pub async fn the_first_answer_stays(bench: Arc<Bench>) {
    let run = bench.take(Admission { idempotency: Some(key(1, 1)), ..bench.admission(&user("alice")) }).await;
    let run = bench.made(&run).await;
    let first = answer(502, "it failed");
    let run = bench.settle(&run, Settlement::GiveUp(failure()), Some(first.clone())).await.expect("it gives up");
    let run = cleaned(&bench, &run).await;
    let evidence = Release::Sealed(Sealed::establish(&run.reservation).expect("sealed and looked"));
    let release = Settlement::Release { evidence, failure: None };
    let run = bench.settle(&run, release, Some(answer(200, "or did it"))).await.expect("it is released");
    let view = bench.store.operation_describe(run.operation.id).await.expect("answers").expect("is there");
    assert_eq!(view.answer, Some(first));
}

/// Nobody can ask for it again.
pub async fn an_answer_without_a_key_is_not_kept(bench: Arc<Bench>) {
    let run = bench.taken(&user("alice")).await;
    let done = bench.complete(&run, Some(answer(201, "{}"))).await;
    let view = bench.store.operation_describe(done.operation.id).await.expect("answers").expect("is there");
    assert_eq!(view.answer, None);
}

/// A sure refusal before anything was made frees the context at once.
pub async fn a_rejection_and_its_release_are_on_record(bench: Arc<Bench>) {
    let run = bench.taken(&user("alice")).await;
    let run = bench.note(&run, None, Then::Intend(Step::Runtime)).await.expect("it may send");
    let rejection = Rejection { class: RejectionClass::Invalid, detail: "no such command".to_owned() };
    let finding = Some((Step::Runtime, Finding::Rejected(rejection.clone())));
    let run = bench.note(&run, finding, Then::Look).await.expect("it is noted");
    let evidence = Release::NothingSent(NothingSent::establish(&run.reservation).expect("surely nothing"));
    let mut failed = failure();
    failed.rejection = Some(rejection);
    let settlement = Settlement::Release { evidence, failure: Some(failed.clone()) };
    let run = bench.settle(&run, settlement, None).await.expect("it is released");
    bench.check(&run).await;
    assert_eq!(run.reservation.status, Status::Released { because: Resolution::ProviderRejected });
    assert_eq!((run.operation.status, run.operation.failure), (OperationStatus::Failed, Some(failed)));
    bench.taken(&user("alice")).await;
}

/// Seals, removes what there is, and looks.
pub(super) async fn cleaned(bench: &Bench, run: &Run) -> Run {
    let mut run = bench.note(run, None, Then::Intend(Step::Seal)).await.expect("it may seal");
    let mut finding = (Step::Seal, Finding::Done(Effect::Sealed));
    while let Some(resource) = run.reservation.resources.first().cloned() {
        run = bench.note(&run, Some(finding), Then::Intend(Step::Remove)).await.expect("it may remove");
        let removed = Finding::Done(Effect::Removed(resource.clone()));
        run = bench.note(&run, Some((Step::Remove, removed)), Then::Look).await.expect("it is removed");
        finding = (Step::Absence, Finding::Done(Effect::Nothing));
        assert!(!run.reservation.resources.contains(&resource));
    }
    let nothing =
        Observation { conclusive: true, found: vec![], runtime: RuntimeState::Missing, reference: String::new() };
    let absent = Finding::Done(Effect::Seen { asked_at: bench.now(), observation: nothing });
    let run = bench.note(&run, Some(finding), Then::Look).await.expect("it is noted");
    bench.note(&run, Some((Step::Absence, absent)), Then::Look).await.expect("it looks")
}

/// Going forward is over, the context stays taken until the evidence is in.
pub async fn giving_up_cleans_up_and_releases_on_evidence(bench: Arc<Bench>) {
    let run = bench.taken(&user("alice")).await;
    let run = bench.made(&run).await;
    let run = bench.settle(&run, Settlement::GiveUp(failure()), None).await.expect("it gives up");
    bench.check(&run).await;
    assert_eq!(run.reservation.status, Status::NeedsReconciliation { code: failure().code });
    assert_eq!(run.operation.status, OperationStatus::Reconciling);
    assert!(bench.store.admit(bench.admission(&user("alice"))).await.is_err(), "the context is still taken");
    let run = cleaned(&bench, &run).await;
    bench.check(&run).await;
    let evidence = Release::Sealed(Sealed::establish(&run.reservation).expect("sealed and looked"));
    let run = bench.settle(&run, Settlement::Release { evidence, failure: None }, None).await.expect("it is released");
    bench.check(&run).await;
    assert_eq!(run.reservation.status, Status::Released { because: Resolution::AbsenceProven });
    let described = bench.described(&run).await;
    assert_eq!(described.route, Some(Route::Tombstone { at: bench.now() }));
    bench.taken(&user("alice")).await;
}

/// Nothing is undone while it is wanted, nothing is created once it is not, and what is over is over.
pub async fn what_may_not_be_sent_is_refused_and_not_written(bench: Arc<Bench>) {
    let illegal = async |run: &Run, then: Then| {
        let refused = bench.note(run, None, then).await;
        assert!(matches!(refused, Err(StoreError::Refused(Refused::Illegal(_)))), "{refused:?}");
        bench.check(run).await;
    };
    let run = bench.made(&bench.taken(&user("alice")).await).await;
    illegal(&run, Then::Intend(Step::Seal)).await;
    let run = bench.settle(&run, Settlement::GiveUp(failure()), None).await.expect("it gives up");
    illegal(&run, Then::Intend(Step::Runtime)).await;
    let missing = Lease { instance: bench.instance(), ..lease(&run) };
    let note = |then| Note { at: bench.now(), finding: None, then };
    assert_eq!(bench.store.note(&missing, note(Then::Look)).await, Err(StoreError::Missing("instance")));
    let run = bench.taken(&user("bob")).await;
    let held = lease(&run);
    let over = bench.release_untouched(&run).await;
    let late = bench.store.note(&held, note(Then::Rest(bench.now()))).await;
    assert!(matches!(late, Err(StoreError::Refused(Refused::Illegal(_)))), "{late:?}");
    bench.check(&over).await;
}

/// Between operations; longest overdue first.
pub async fn a_look_at_a_runtime_sets_the_next(bench: Arc<Bench>) {
    let (first, second) = (bench.completed(&user("alice")).await, bench.completed(&user("bob")).await);
    bench.taken(&user("carol")).await;
    assert_eq!(bench.store.checks_due(10, &[]).await, Ok(vec![]));
    let watched = async |run: &Run, state: RuntimeState, check_at: Timestamp| {
        let Run { reservation, .. } = run;
        let (instance, epoch, at) = (reservation.instance, reservation.epoch, bench.now());
        bench.store.watched(instance, epoch, state, at, check_at, Duration::from_secs(60)).await.expect("answers");
    };
    let exited = RuntimeState::Exited("signal 9".to_owned());
    watched(&first, exited.clone(), bench.now().plus(Duration::from_secs(2))).await;
    watched(&second, RuntimeState::Running, bench.now().plus(Duration::from_secs(1))).await;
    assert_eq!(bench.described(&first).await.reservation.runtime, Some((exited, bench.now())));
    bench.clock.advance(Duration::from_secs(3));
    let (first, second) = (first.reservation.instance, second.reservation.instance);
    assert_eq!(bench.store.checks_due(10, &[]).await, Ok(vec![second, first]));
    assert_eq!(bench.store.checks_due(1, &[]).await, Ok(vec![second]));
    bench.store.destroy_intent_set(second, None, bench.asked()).await.expect("accepted");
    assert_eq!(bench.store.checks_due(10, &[]).await, Ok(vec![first]), "what goes away is not looked at");
}
