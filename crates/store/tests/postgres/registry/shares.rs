//! Nodes that look at the timers at the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use freehold_domain::ids::OperationId;
use freehold_domain::lease::ProviderName;
use freehold_engine::ports::{Admission, Share};
use freehold_store::conformance::{member, user};
use freehold_store::postgres::registry::shard;

use super::{Place, bench, block_on};

/// How many operations wait: several for each part of the timers.
const WAITING: usize = 400;

/// How many one look takes.
const LOOK: usize = 64;

#[test]
fn where_everything_waits_for_long_nodes_are_told_of_different_operations_and_nobody_is_forgotten() {
    let place = Place::new();
    block_on(async {
        let bench = bench(&place.url);
        let mut parts = BTreeMap::new();
        for number in 0..WAITING {
            let context = user(&format!("u{number}"));
            let admission = Admission { asked: bench.asked_of_others(), ..bench.admission(&context) };
            let run = bench.take(admission).await;
            parts.insert(run.operation.id, shard(context.owner()));
        }
        // Longer than nodes leave to each other what the other begins with.
        bench.clock.advance(Duration::from_secs(60));
        let look = async |index| -> BTreeSet<OperationId> {
            let due = bench.store.due_list(LOOK, Share { index, of: 2 }, &[]).await.expect("the store answers");
            due.into_iter().collect()
        };
        let (one, other) = (look(0).await, look(1).await);
        assert_eq!((one.len(), other.len()), (LOOK, LOOK), "a look is full where enough is due");
        // Each has more of its own than a look takes, and takes some that the other begins with all the same.
        for (look, index) in [(&one, 0), (&other, 1)] {
            let share = Share { index, of: 2 };
            let own = parts.values().filter(|part| share.has(part.unsigned_abs().into())).count();
            let others = look.iter().filter(|operation| !share.has(parts[operation].unsigned_abs().into())).count();
            assert!(
                own > LOOK && others > 0,
                "of {own} of its own and {} of the other {others} are told",
                WAITING - own
            );
        }
        let both = one.intersection(&other).count();
        assert!(both <= LOOK / 8, "of {LOOK} operations {both} are told to both");
        // A node that never comes back leaves nothing behind: looked at for long enough, every operation is listed.
        let mut listed = BTreeSet::new();
        for _ in 0..WAITING {
            let due = look(0).await;
            if due.is_empty() {
                break;
            }
            for operation in due {
                let claim = bench.store.claim(operation, &freehold_store::conformance::node("one")).await;
                claim.expect("the store answers").expect("it is due");
                listed.insert(operation);
            }
        }
        assert_eq!(listed.len(), WAITING, "one node takes everything in the end");
    });
}

/// Behind more of another node's than a look takes, a node's own is listed all the same.
#[test]
fn what_only_other_nodes_can_go_on_with_is_not_listed() {
    let place = Place::new();
    block_on(async {
        let bench = bench(&place.url);
        let theirs = "docker".parse().expect("a name");
        let mut own = None;
        for number in 0..=LOOK * 2 {
            let mut admission = Admission { asked: bench.asked_of_others(), ..bench.admission(&user("alice")) };
            admission.limit = 1_000;
            // The last one is this node's.
            if number < LOOK * 2 {
                admission.bid.provider = ProviderName::clone(&theirs);
            }
            admission.bid.context = member("acme", &format!("u{number}"));
            own = Some(bench.take(admission).await.operation.id);
            bench.clock.advance(Duration::from_millis(10));
        }
        bench.clock.advance(Duration::from_secs(60));
        for index in 0..2 {
            let share = Share { index, of: 2 };
            let all = bench.store.due_list(LOOK, share, &[]).await.expect("answers");
            assert!(all.len() == LOOK && !all.contains(&own.expect("taken")), "it has to wait");
            let listed = bench.store.due_list(LOOK, share, std::slice::from_ref(&theirs)).await;
            assert_eq!(listed, Ok(own.into_iter().collect()));
        }
    });
}

#[test]
fn a_runtime_that_only_other_nodes_can_look_at_is_left_to_them() {
    let place = Place::new();
    block_on(async {
        let bench = bench(&place.url);
        let run = bench.completed(&user("alice")).await;
        bench.clock.advance(Duration::from_secs(3600));
        let instance = run.reservation.instance;
        let provider = run.reservation.provider;
        assert_eq!(bench.store.checks_due(10, &[provider]).await, Ok(vec![]));
        let others = "docker".parse().expect("a name");
        assert_eq!(bench.store.checks_due(10, &[others]).await, Ok(vec![instance]));
    });
}
