//! Commits whose answer is lost, and databases that die in the middle of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use freehold_domain::ids::InstanceId;
use freehold_engine::ports::{AdmitRefused, DestroyAccepted, Store, StoreError};
use freehold_store::conformance::{TERM, TestClock, user};

use super::lossy::Wire;
use super::{Place, bench, block_on, node, trail};

/// Every write whose answer is lost is settled: whoever asked hears what happened, and it happened once.
#[test]
fn a_lost_answer_is_settled_by_what_is_on_record() {
    let place = Place::new();
    block_on(async {
        bench(&place.url).store.made_at().await.expect("ready");
        let wire = Wire::to(place.lab.port()).await;
        let bench = bench(&wire.url(&place.url, place.lab.port()));
        let mut events = 0;
        for number in 0..40_u32 {
            let context = user(&format!("u{number}"));
            if number % 2 == 0 {
                wire.lose_an_answer()
            } else {
                wire.lose_a_question()
            }
            let run = bench.taken(&context).await;
            if number % 4 < 2 {
                wire.lose_an_answer()
            } else {
                wire.lose_a_question()
            }
            let instance = run.reservation.instance;
            let destroy = bench.store.destroy_intent_set(instance, None, bench.asked()).await.expect("accepted");
            assert!(matches!(destroy, DestroyAccepted::Accepted { .. }), "{destroy:?}");
            let again = bench.store.destroy_intent_set(instance, None, bench.asked()).await.expect("accepted");
            assert!(matches!(again, DestroyAccepted::Underway(_)), "{again:?}");
            events += 2;
        }
        assert_eq!(wire.lost(), 80);
        assert_eq!(trail(bench.store.as_ref()).await.len(), events);
    });
}

/// A write that is still under way when its answer counts as lost cannot happen any more once it is settled as undone.
#[test]
fn what_was_settled_as_undone_does_not_happen_later() {
    let place = Place::new();
    block_on(async {
        let store = bench(&place.url);
        let run = store.taken(&user("alice")).await;
        let raise = "UPDATE freehold_registry.contexts SET version = version + 1";
        // Somebody reads; the guard is raised; the one who read writes.
        let held = place.lab.hold("db0", &format!("BEGIN; {raise}")).expect("held");
        let (instance, asked) = (run.reservation.instance, store.asked());
        let writing = {
            let store = Arc::clone(&store.store);
            tokio::spawn(async move { store.destroy_intent_set(instance, None, asked).await })
        };
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!writing.is_finished(), "it waits for the guard");
        drop(held);
        // The raise was rolled back with its session: the write goes through, once.
        assert!(matches!(writing.await.expect("no panic"), Ok(DestroyAccepted::Accepted { .. })));
        assert_eq!(trail(store.store.as_ref()).await.len(), 2);
    });
}

/// A guard that somebody holds and does not give back holds up its own context, and no other: what is in one statement
/// with it goes by itself, and leases of others are prolonged.
#[test]
fn a_guard_that_is_stuck_holds_up_its_own_context_only() {
    let place = Place::new();
    block_on(async {
        let bench = bench(&place.url);
        let stuck = bench.taken(&user("stuck")).await;
        let stuck_guard = "BEGIN; SELECT 1 FROM freehold_registry.contexts WHERE owner = 'user:stuck' FOR UPDATE";
        let held = place.lab.hold("db0", stuck_guard).expect("held");
        let asking = |name: String| {
            let bench = Arc::clone(&bench);
            tokio::spawn(async move { bench.store.admit(bench.admission(&user(&name))).await })
        };
        let destroying = {
            let (store, asked) = (Arc::clone(&bench.store), bench.asked());
            tokio::spawn(async move { store.destroy_intent_set(stuck.reservation.instance, None, asked).await })
        };
        let others: Vec<_> = (0..50).map(|number| asking(format!("u{number}"))).collect();
        for other in others {
            let taken = other.await.expect("no panic").expect("admitted");
            let freehold_engine::ports::Admitted::Taken(run) = taken else { panic!("{taken:?}") };
            let lease = run.lease().expect("held");
            assert_eq!(bench.store.renew(&[lease]).await, Ok(vec![true]));
        }
        let blocked = destroying.await.expect("no panic");
        assert!(matches!(blocked, Err(StoreError::Unavailable(_))), "{blocked:?}");
        drop(held);
        // Nothing is left that waits, and what was blocked is done now.
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        assert_eq!(place.sql(waiting).as_deref(), Ok("0"));
        let instance = bench.store.due_list(10, freehold_engine::ports::Share::ALL, &[]).await.expect("answers");
        assert!(instance.is_empty());
        trail(bench.store.as_ref()).await;
    });
}

/// Admissions go on while the database is killed again and again: what was answered is there, and nothing is there twice.
#[test]
fn what_was_answered_survives_the_death_of_the_database() {
    const KILLS: usize = 4;
    const WRITERS: usize = 8;
    let place = Place::new();
    block_on(async {
        let bench = bench(&place.url);
        bench.store.made_at().await.expect("ready");
        let over = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (bench, over) = (Arc::clone(&bench), Arc::clone(&over));
                tokio::spawn(async move {
                    let (mut answered, mut unknown) = (Vec::<InstanceId>::new(), 0);
                    let mut number = 0_u32;
                    while !over.load(Ordering::SeqCst) {
                        number += 1;
                        let admission = bench.admission(&user(&format!("w{writer}-{number}")));
                        let instance = admission.bid.instance;
                        match bench.store.admit(admission).await {
                            Ok(_) => answered.push(instance),
                            Err(AdmitRefused::Store(StoreError::Unknown(_))) => unknown += 1,
                            Err(AdmitRefused::Store(StoreError::Unavailable(_))) => {
                                tokio::time::sleep(Duration::from_millis(20)).await;
                            }
                            Err(other) => panic!("{other:?}"),
                        }
                    }
                    (answered, unknown)
                })
            })
            .collect();
        for _ in 0..KILLS {
            tokio::time::sleep(Duration::from_millis(700)).await;
            place.lab.kill().expect("it ran");
            place.lab.restart().expect("it starts again");
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        over.store(true, Ordering::SeqCst);
        let (mut answered, mut unknown) = (Vec::new(), 0);
        for writer in writers {
            let (some, open) = writer.await.expect("no panic");
            answered.extend(some);
            unknown += open;
        }
        let reader = node(&place.url, &Arc::new(TestClock::default()), TERM);
        for instance in &answered {
            assert!(reader.instance_describe(*instance).await.expect("answers").is_some(), "{instance} is lost");
        }
        let lines = trail(reader.as_ref()).await;
        println!("{} answered, {unknown} unknown, {} lines, {KILLS} kills", answered.len(), lines.len());
        assert!(answered.len() > 100 && lines.len() >= answered.len() && lines.len() <= answered.len() + unknown);
    });
}
