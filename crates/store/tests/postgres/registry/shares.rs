//! Nodes that look at the timers at the same time.

use std::collections::BTreeSet;
use std::time::Duration;

use freehold_domain::ids::OperationId;
use freehold_engine::ports::{Admission, Share};
use freehold_store::conformance::user;

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
        for number in 0..WAITING {
            let admission = bench.admission(&user(&format!("u{number}")));
            bench.take(Admission { asked: bench.asked_of_others(), ..admission }).await;
        }
        // Longer than nodes leave to each other what the other begins with.
        bench.clock.advance(Duration::from_secs(60));
        let look = async |index| -> BTreeSet<OperationId> {
            let due = bench.store.due_list(LOOK, Share { index, of: 2 }).await.expect("the store answers");
            due.into_iter().collect()
        };
        let (one, other) = (look(0).await, look(1).await);
        assert_eq!((one.len(), other.len()), (LOOK, LOOK), "a look is full where enough is due");
        let both = one.intersection(&other).count();
        assert!(both <= LOOK / 2, "of {LOOK} operations {both} are told to both");
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
