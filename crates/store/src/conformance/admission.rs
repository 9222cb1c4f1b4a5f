//! Who may create.

use std::sync::Arc;
use std::time::Duration;

use freehold_domain::event::EventKind;
use freehold_domain::lease::Epoch;
use freehold_domain::ledger::Refusal;
use freehold_domain::operation::OperationStatus;
use freehold_domain::reservation::Status;
use freehold_domain::run::Then;
use freehold_engine::ports::{AdmitRefused, Admitted, AuditQuery, ContextPeek, Share};
use tokio::task::JoinSet;

use super::{Bench, TERM, failure, key, lease, member, node, user};

/// Racers in a stampede.
const RACERS: usize = 50;

/// Reservation, operation, lease, timer and event come in one commit.
pub async fn an_admission_is_on_record_whole(bench: Arc<Bench>) {
    let run = bench.taken(&user("alice")).await;
    assert_eq!(run.reservation.status, Status::InProgress);
    assert_eq!(run.reservation.epoch, Epoch::FIRST);
    assert_eq!(lease(&run).expires_at, bench.now().plus(TERM.0), "the first lease counts from the store's clock");
    bench.check(&run).await;
    let view = bench.store.operation_describe(run.operation.id).await.expect("answers").expect("is there");
    assert_eq!((view.operation, view.reservation, view.answer), (run.operation.clone(), run.reservation.clone(), None));
    let entry = bench.store.route_lookup(run.reservation.instance).await.expect("answers").expect("is there");
    assert_eq!((entry.context, entry.route), (user("alice"), None));
    assert_eq!(bench.store.due_next().await.expect("answers"), run.operation.due_at);
    let trail = bench.store.audit_read(&AuditQuery { after: 0, instance: None, limit: 10 }).await.expect("answers");
    let kinds: Vec<_> = trail.items.iter().map(|record| record.event.kind).collect();
    assert_eq!(kinds, [EventKind::ReservationStarted]);
}

/// The refusal names the instance and its operation, and changes nothing.
pub async fn a_taken_context_refuses_and_names_what_is_there(bench: Arc<Bench>) {
    let first = bench.taken(&user("alice")).await;
    let Err(AdmitRefused::Conflict(Refusal::InProgress { instance, operation, status, cleaning_up })) =
        bench.store.admit(bench.admission(&user("alice"))).await
    else {
        panic!("an unresolved reservation holds its context");
    };
    assert_eq!((instance, operation), (first.reservation.instance, first.operation.id));
    assert_eq!((status, cleaning_up), (Status::InProgress, false));
    bench.check(&first).await;
    let complete = bench.complete(&first, None).await;
    let refused = bench.store.admit(bench.admission(&user("alice"))).await;
    let (instance, operation) = (complete.reservation.instance, complete.operation.id);
    assert_eq!(refused, Err(AdmitRefused::Conflict(Refusal::AlreadyActive { instance, operation })));
}

/// Fifty at once: one reservation.
pub async fn fifty_racing_admissions_have_one_winner(bench: Arc<Bench>) {
    let mut racers = JoinSet::new();
    for _ in 0..RACERS {
        let bench = Arc::clone(&bench);
        racers.spawn(async move { bench.store.admit(bench.admission(&user("alice"))).await });
    }
    let (mut taken, mut refused) = (Vec::new(), Vec::new());
    for outcome in racers.join_all().await {
        match outcome {
            Ok(Admitted::Taken(run)) => taken.push(run.reservation.instance),
            Err(AdmitRefused::Conflict(Refusal::InProgress { instance, .. })) => refused.push(instance),
            other => panic!("neither taken nor a conflict: {other:?}"),
        }
    }
    assert_eq!((taken.len(), refused.len()), (1, RACERS - 1));
    assert!(refused.iter().all(|instance| *instance == taken[0]), "every loser is told of the winner");
}

/// Owners, and people of one organisation, are contexts of their own.
pub async fn contexts_do_not_share(bench: Arc<Bench>) {
    for context in
        [user("alice"), user("bob"), member("acme", "alice"), member("acme", "bob"), member("alice", "alice")]
    {
        bench.taken(&context).await;
    }
    assert_eq!(bench.store.unresolved_summary().await.expect("answers").in_progress, 5);
}

/// With room for two, two complete ones fill the context, and one unresolved one blocks it.
pub async fn a_limit_above_one_counts_complete_instances(bench: Arc<Bench>) {
    let two = |bench: &Bench| freehold_engine::ports::Admission { limit: 2, ..bench.admission(&user("alice")) };
    let first = bench.take(two(&bench)).await;
    let refused = bench.store.admit(two(&bench)).await;
    assert!(matches!(refused, Err(AdmitRefused::Conflict(Refusal::InProgress { .. }))), "{refused:?}");
    bench.complete(&first, None).await;
    let second = bench.take(two(&bench)).await;
    bench.complete(&second, None).await;
    let refused = bench.store.admit(two(&bench)).await;
    assert!(matches!(refused, Err(AdmitRefused::Conflict(Refusal::AlreadyActive { .. }))), "{refused:?}");
}

/// A tombstone does not count.
pub async fn a_released_context_is_free(bench: Arc<Bench>) {
    for _ in 0..3 {
        let run = bench.taken(&user("alice")).await;
        bench.release_untouched(&run).await;
    }
    bench.taken(&user("alice")).await;
}

/// A retry finds what the first one began, also once it is over.
pub async fn one_key_and_body_have_one_operation(bench: Arc<Bench>) {
    let mut admission = bench.admission(&user("alice"));
    admission.idempotency = Some(key(1, 1));
    let run = bench.take(admission).await;
    let replayed = Admitted::Replayed { operation: run.operation.id, instance: run.reservation.instance };
    let retry = |bench: &Bench| freehold_engine::ports::Admission {
        idempotency: Some(key(1, 1)),
        ..bench.admission(&user("alice"))
    };
    assert_eq!(bench.store.admit(retry(&bench)).await, Ok(replayed.clone()));
    bench.release_untouched(&run).await;
    assert_eq!(bench.store.admit(retry(&bench)).await, Ok(replayed));
}

/// Another body under a known key is refused before anything else is looked at.
pub async fn one_key_with_another_body_has_no_effect(bench: Arc<Bench>) {
    let mut admission = bench.admission(&user("alice"));
    admission.idempotency = Some(key(1, 1));
    let run = bench.take(admission).await;
    let mut other = bench.admission(&user("bob"));
    other.idempotency = Some(key(1, 2));
    let instance = other.bid.instance;
    assert_eq!(bench.store.admit(other).await, Err(AdmitRefused::KeyReused));
    assert_eq!(bench.store.instance_describe(instance).await, Ok(None));
    bench.check(&run).await;
}

/// Fifty retries at once: one operation, and all are led to it.
pub async fn fifty_racing_retries_have_one_operation(bench: Arc<Bench>) {
    let mut racers = JoinSet::new();
    for _ in 0..RACERS {
        let bench = Arc::clone(&bench);
        racers.spawn(async move {
            let mut admission = bench.admission(&user("alice"));
            admission.idempotency = Some(key(7, 7));
            bench.store.admit(admission).await
        });
    }
    let mut taken = 0;
    let mut operations = Vec::new();
    for outcome in racers.join_all().await {
        match outcome.expect("nobody is refused") {
            Admitted::Taken(run) => {
                taken += 1;
                operations.push(run.operation.id);
            }
            Admitted::Replayed { operation, .. } => operations.push(operation),
        }
    }
    operations.dedup();
    assert_eq!((taken, operations.len()), (1, 1));
}

/// A look without a transaction says what an admission would, at that moment.
pub async fn a_look_says_what_an_admission_would(bench: Arc<Bench>) {
    let alice = user("alice");
    assert_eq!(bench.store.context_peek(&alice, 1, Some(key(1, 1))).await, Ok(ContextPeek::Free));
    let mut admission = bench.admission(&alice);
    admission.idempotency = Some(key(1, 1));
    let run = bench.take(admission).await;
    let (operation, instance) = (run.operation.id, run.reservation.instance);
    let peek = |key| bench.store.context_peek(&alice, 1, key);
    assert_eq!(peek(Some(key(1, 1))).await, Ok(ContextPeek::Replayed { operation, instance }));
    assert_eq!(peek(Some(key(1, 2))).await, Ok(ContextPeek::KeyReused));
    let refusal = Refusal::InProgress { instance, operation, status: Status::InProgress, cleaning_up: false };
    assert_eq!(peek(Some(key(2, 2))).await, Ok(ContextPeek::Taken { refusal, unattended: false }));
    assert_eq!(peek(None).await, Ok(ContextPeek::Taken { refusal, unattended: false }));
    bench.complete(&run, None).await;
    let refusal = Refusal::AlreadyActive { instance, operation };
    assert_eq!(peek(None).await, Ok(ContextPeek::Taken { refusal, unattended: false }));
    assert_eq!(bench.store.context_peek(&alice, 2, None).await, Ok(ContextPeek::Free));
    assert_eq!(bench.store.context_peek(&user("bob"), 1, None).await, Ok(ContextPeek::Free));
}

/// A lease that lapsed, or a reservation that is being cleaned up, may be worth a look by whoever comes by.
pub async fn a_look_sees_who_is_unattended(bench: Arc<Bench>) {
    let alice = user("alice");
    let run = bench.taken(&alice).await;
    let unattended = async || match bench.store.context_peek(&alice, 1, None).await {
        Ok(ContextPeek::Taken { unattended, .. }) => unattended,
        other => panic!("not taken: {other:?}"),
    };
    bench.clock.advance(TERM.0 - Duration::from_micros(1));
    assert!(!unattended().await, "the lease runs");
    bench.clock.advance(Duration::from_micros(1));
    assert!(unattended().await, "the lease lapsed");
    assert_eq!(bench.store.renew(&[lease(&run)]).await, Ok(vec![true]));
    assert!(!unattended().await, "the lease runs again");
    let run = bench.made(&run).await;
    let given_up = freehold_domain::run::Settlement::GiveUp(failure());
    bench.settle(&run, given_up, None).await.expect("it gives up");
    assert!(unattended().await, "it is being cleaned up");
}

/// An operation without a holder waits for the first executor that looks.
pub async fn work_that_nobody_holds_is_due_at_once(bench: Arc<Bench>) {
    let mut admission = bench.admission(&user("alice"));
    admission.asked = bench.asked_of_others();
    let run = bench.take(admission).await;
    assert_eq!((run.operation.status, run.operation.holder.as_ref()), (OperationStatus::Waiting, None));
    assert_eq!(bench.store.due_list(10, Share::ALL, &[]).await, Ok(vec![run.operation.id]));
    let (run, lease) = bench.store.claim(run.operation.id, &node("b")).await.expect("answers").expect("it is due");
    assert_eq!((lease.epoch, &lease.holder), (Epoch::new(2), &node("b")));
    assert_eq!(run.operation.status, OperationStatus::Running);
    bench.check(&run).await;
    bench.note(&run, None, Then::Look).await.expect("the holder writes");
}
