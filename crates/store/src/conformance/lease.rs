//! Who may write, and until when.

use std::sync::Arc;
use std::time::Duration;

use freehold_domain::event::EventKind;
use freehold_domain::ids::OperationId;
use freehold_domain::lease::{Epoch, Fenced, Holder, Lease};
use freehold_domain::operation::{OperationStatus, Step, StepStatus};
use freehold_domain::owner::Context;
use freehold_domain::resource::RuntimeState;
use freehold_domain::run::{Refused, Run, Settlement, Then, Unclaimable};
use freehold_engine::ports::{Admission, AuditQuery, Share, StoreError};
use tokio::task::JoinSet;

use super::{Bench, TERM, failure, lease, member, node, user};

async fn claim(bench: &Bench, operation: OperationId, holder: &Holder) -> Result<(Run, Lease), Unclaimable> {
    bench.store.claim(operation, holder).await.expect("the store answers")
}

async fn stolen(bench: &Bench, run: &Run) -> Run {
    bench.clock.advance(TERM.0);
    claim(bench, run.operation.id, &node("b")).await.expect("the lease lapsed").0
}

/// Before the lease ends nobody else gets the operation.
pub async fn a_held_operation_is_not_for_others(bench: Arc<Bench>) {
    let run = bench.taken(&user("alice")).await;
    let at = lease(&run).expires_at;
    assert_eq!(claim(&bench, run.operation.id, &node("b")).await, Err(Unclaimable::NotDue { at }));
    bench.clock.advance(TERM.0 - Duration::from_micros(1));
    assert_eq!(claim(&bench, run.operation.id, &node("b")).await, Err(Unclaimable::NotDue { at }));
    bench.check(&run).await;
}

/// The epoch rises by one, a call in flight is in doubt, and the trail says from whom.
pub async fn a_lapsed_lease_is_claimed_under_the_next_epoch(bench: Arc<Bench>) {
    let run = bench.taken(&user("alice")).await;
    let run = bench.note(&run, None, Then::Intend(Step::Runtime)).await.expect("it may send");
    let taken = stolen(&bench, &run).await;
    assert_eq!(taken.reservation.epoch, Epoch::new(2));
    assert_eq!(taken.operation.attempt, 2);
    assert_eq!(lease(&taken).expires_at, bench.now().plus(TERM.0));
    assert_eq!(taken.operation.step(Step::Runtime).expect("noted").status, StepStatus::Unknown);
    bench.check(&taken).await;
    let trail = bench.store.audit_read(&AuditQuery { after: 0, instance: None, limit: 10 }).await.expect("answers");
    let last = &trail.items.last().expect("there are events").event;
    assert_eq!((last.kind, last.detail.as_str()), (EventKind::ExecutorTakenOver, "from a"));
}

/// A restarted node does not wait for its own leases to lapse.
pub async fn a_node_takes_its_earlier_lifes_work_at_once(bench: Arc<Bench>) {
    let run = bench.taken(&user("alice")).await;
    let reborn = Holder { incarnation: u64::MAX, ..node("a") };
    let (taken, lease) = claim(&bench, run.operation.id, &reborn).await.expect("its own");
    assert_eq!((lease.epoch, lease.holder), (Epoch::new(2), reborn));
    bench.check(&taken).await;
}

/// A finished operation, a replaced one, and one that never was.
pub async fn what_is_over_is_not_claimed(bench: Arc<Bench>) {
    let run = bench.taken(&user("alice")).await;
    bench.store.destroy_intent_set(run.reservation.instance, None, bench.asked()).await.expect("accepted");
    assert_eq!(claim(&bench, run.operation.id, &node("b")).await, Err(Unclaimable::Over), "it was replaced");
    let over = bench.completed(&user("bob")).await;
    bench.clock.advance(TERM.0 * 2);
    assert_eq!(claim(&bench, over.operation.id, &node("b")).await, Err(Unclaimable::Over), "it is finished");
    let none = bench.store.claim(bench.operation(), &node("b")).await;
    assert_eq!(none, Err(StoreError::Missing("operation")));
}

/// Of many nodes that see a lapsed lease one gets it.
pub async fn racing_claims_have_one_winner(bench: Arc<Bench>) {
    let run = bench.taken(&user("alice")).await;
    bench.clock.advance(TERM.0);
    let mut racers = JoinSet::new();
    for racer in 0..20 {
        let (bench, operation) = (Arc::clone(&bench), run.operation.id);
        racers.spawn(async move { claim(&bench, operation, &node(&format!("n{racer}"))).await.is_ok() });
    }
    let won = racers.join_all().await.into_iter().filter(|won| *won).count();
    assert_eq!(won, 1);
    assert_eq!(bench.described(&run).await.reservation.epoch, Epoch::new(2));
}

/// A renewal counts from when it was asked for.
pub async fn a_renewed_lease_lasts(bench: Arc<Bench>) {
    let (first, second) = (bench.taken(&user("alice")).await, bench.taken(&user("bob")).await);
    bench.clock.advance(TERM.0 / 2);
    assert_eq!(bench.store.renew(&[lease(&first), lease(&second)]).await, Ok(vec![true, true]));
    bench.clock.advance(TERM.0 / 2 + Duration::from_secs(1));
    for run in [first, second] {
        let refused = claim(&bench, run.operation.id, &node("b")).await;
        assert!(matches!(refused, Err(Unclaimable::NotDue { .. })), "{refused:?}");
    }
    assert_eq!(bench.store.renew(&[]).await, Ok(vec![]));
}

/// Expiry alone fences nobody.
pub async fn a_lapsed_lease_that_nobody_claimed_is_renewed(bench: Arc<Bench>) {
    let run = bench.taken(&user("alice")).await;
    bench.clock.advance(TERM.0 * 3);
    assert_eq!(bench.store.due_list(10, Share::ALL, &[]).await, Ok(vec![run.operation.id]));
    assert_eq!(bench.store.renew(&[lease(&run)]).await, Ok(vec![true]));
    assert_eq!(bench.store.due_list(10, Share::ALL, &[]).await, Ok(vec![]));
    bench.note(&run, None, Then::Look).await.expect("its epoch is still the instance's");
}

/// Answers come in the order asked.
pub async fn a_lost_lease_is_not_renewed(bench: Arc<Bench>) {
    let lost = bench.taken(&user("alice")).await;
    let taken = stolen(&bench, &lost).await;
    let kept = bench.taken(&user("bob")).await;
    let over = bench.completed(&user("carol")).await;
    let ended = Lease { expires_at: bench.now(), holder: node("a"), ..lease_of_ended(&over) };
    let answers = bench.store.renew(&[lease(&lost), lease(&kept), ended]).await;
    assert_eq!(answers, Ok(vec![false, true, false]));
    bench.check(&taken).await;
}

fn lease_of_ended(run: &Run) -> Lease {
    Lease {
        instance: run.reservation.instance,
        operation: run.operation.id,
        epoch: run.reservation.epoch,
        holder: node("a"),
        expires_at: run.operation.started_at,
    }
}

/// The next executor that looks takes it, without waiting for a lease to end.
pub async fn what_is_given_back_is_for_anybody(bench: Arc<Bench>) {
    let run = bench.taken(&user("alice")).await;
    bench.store.give_back(&[lease(&run)]).await.expect("answers");
    assert_eq!(bench.store.due_list(10, Share::ALL, &[]).await, Ok(vec![run.operation.id]));
    let described = bench.described(&run).await;
    assert_eq!((described.operation.status, described.operation.holder), (OperationStatus::Waiting, None));
    assert_eq!(bench.store.renew(&[lease(&run)]).await, Ok(vec![false]), "what was given back is gone");
    let (taken, _) = claim(&bench, run.operation.id, &node("b")).await.expect("nobody has it");
    assert_eq!(taken.reservation.epoch, Epoch::new(2));
}

/// Who lost a lease does not disturb the next holder by giving it back.
pub async fn a_lost_lease_cannot_be_given_back(bench: Arc<Bench>) {
    let run = bench.taken(&user("alice")).await;
    let taken = stolen(&bench, &run).await;
    bench.store.give_back(&[lease(&run)]).await.expect("answers");
    bench.check(&taken).await;
}

/// Only earlier lives of that node; others keep their leases.
pub async fn a_returned_node_rings_what_its_earlier_lives_held(bench: Arc<Bench>) {
    let orphan = bench.taken(&user("alice")).await;
    let mut other = bench.admission(&user("bob"));
    other.asked.holder = Some(node("b"));
    bench.take(other).await;
    let mut own = bench.admission(&user("carol"));
    own.asked.holder = Some(Holder { incarnation: 2, ..node("a") });
    bench.take(own).await;
    let resting = bench.taken(&user("dave")).await;
    bench.note(&resting, None, Then::Rest(bench.now().plus(TERM.0))).await.expect("it rests");
    assert_eq!(bench.store.node_returned(&node("a").node, 2).await, Ok(1));
    assert_eq!(bench.store.due_list(10, Share::ALL, &[]).await, Ok(vec![orphan.operation.id]));
    claim(&bench, orphan.operation.id, &node("c")).await.expect("its timer rang");
}

/// A rest is cut short; a holder is left alone.
pub async fn a_hurried_operation_is_due_unless_held(bench: Arc<Bench>) {
    let held = bench.taken(&user("alice")).await;
    bench.store.hurry(held.operation.id).await.expect("answers");
    bench.check(&held).await;
    let rested = bench.note(&held, None, Then::Rest(bench.now().plus(Duration::from_secs(60)))).await.expect("rests");
    assert_eq!(rested.operation.status, OperationStatus::Waiting);
    assert_eq!(bench.store.due_list(10, Share::ALL, &[]).await, Ok(vec![]));
    bench.store.hurry(held.operation.id).await.expect("answers");
    assert_eq!(bench.store.due_list(10, Share::ALL, &[]).await, Ok(vec![held.operation.id]));
    let over = bench.completed(&user("bob")).await;
    bench.store.hurry(over.operation.id).await.expect("what is over stays over");
    bench.check(&over).await;
    assert_eq!(bench.store.hurry(bench.operation()).await, Err(StoreError::Missing("operation")));
}

/// Every way to write under a lease, tried with one that was lost.
pub async fn every_writer_with_an_old_epoch_is_fenced(bench: Arc<Bench>) {
    let old = bench.taken(&user("alice")).await;
    let current = stolen(&bench, &old).await;
    let fenced = Refused::Fenced(Fenced { held: Epoch::new(1), current: Epoch::new(2) });
    let refused = Err(StoreError::Refused(fenced));
    assert_eq!(bench.note(&old, None, Then::Look).await, refused);
    assert_eq!(bench.note(&old, None, Then::Intend(Step::Runtime)).await, refused);
    assert_eq!(bench.note(&old, None, Then::Rest(bench.now())).await, refused);
    assert_eq!(bench.settle(&old, Settlement::GiveUp(failure()), None).await, refused);
    assert_eq!(bench.settle(&old, Settlement::Fail(failure()), None).await, refused);
    let (instance, at) = (old.reservation.instance, bench.now());
    let watched = bench.store.watched(instance, Epoch::new(1), RuntimeState::Running, at, at, Duration::ZERO).await;
    assert_eq!(watched, Err(StoreError::Refused(fenced)));
    assert_eq!(bench.store.renew(&[lease(&old)]).await, Ok(vec![false]));
    bench.store.give_back(&[lease(&old)]).await.expect("answers");
    bench.check(&current).await;
    bench.note(&current, None, Then::Look).await.expect("the holder writes");
}

/// Whoever waited longest comes first, and what has not rung is not listed.
pub async fn timers_ring_longest_first(bench: Arc<Bench>) {
    assert_eq!(bench.store.due_next().await, Ok(None));
    let mut operations = Vec::new();
    for (name, seconds) in [("alice", 30), ("bob", 10), ("carol", 20)] {
        let run = bench.taken(&user(name)).await;
        let until = bench.now().plus(Duration::from_secs(seconds));
        bench.note(&run, None, Then::Rest(until)).await.expect("it rests");
        operations.push(run.operation.id);
    }
    assert_eq!(bench.store.due_list(10, Share::ALL, &[]).await, Ok(vec![]));
    assert_eq!(bench.store.due_next().await, Ok(Some(bench.now().plus(Duration::from_secs(10)))));
    bench.clock.advance(Duration::from_secs(20));
    assert_eq!(bench.store.due_list(10, Share::ALL, &[]).await, Ok(vec![operations[1], operations[2]]));
    assert_eq!(bench.store.due_list(1, Share::ALL, &[]).await, Ok(vec![operations[1]]));
    bench.clock.advance(Duration::from_secs(10));
    assert_eq!(bench.store.due_list(10, Share::ALL, &[]).await, Ok(vec![operations[1], operations[2], operations[0]]));
}

/// Whoever has little that is due has its turn soon, however much somebody else has that was due before.
pub async fn one_owners_flood_does_not_keep_another_waiting(bench: Arc<Bench>) {
    const FLOOD: usize = 300;
    const LOOK: usize = 64;
    let (flooding, patient) = (member("flood", "p0"), user("patient"));
    let part = |context: &Context| crate::shared::parts::shard(context.owner());
    assert_ne!(part(&flooding), part(&patient), "owners of one part wait for each other");
    let due = async |context: &Context| {
        let admission = bench.admission(context);
        bench.take(Admission { asked: bench.asked_of_others(), ..admission }).await.operation.id
    };
    for person in 0..FLOOD {
        due(&member("flood", &format!("p{person}"))).await;
    }
    bench.clock.advance(Duration::from_secs(5));
    let waiting = due(&patient).await;
    bench.clock.advance(Duration::from_secs(5));
    let look = bench.store.due_list(LOOK, Share::ALL, &[]).await.expect("the store answers");
    assert_eq!(look.len(), LOOK, "a look is full where enough is due");
    assert!(look.contains(&waiting), "it is not among the first {LOOK} of {}", FLOOD + 1);
    let mut once = look.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), LOOK, "and each is in it once");
}
