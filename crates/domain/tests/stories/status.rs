//! A reservation's status has exactly the changes that its picture in the design has.

use freehold_domain::evidence::{NothingSent, Release};
use freehold_domain::operation::FailureCode;
use freehold_domain::records::{CanonicalSuccess, RecordsView};
use freehold_domain::reservation::{Resolution, Status, StatusChange};
use freehold_domain::run::admitted;

use crate::common::{START, bid, commission, instance, row, subscription};

fn every_status() -> Vec<Status> {
    let given_up = FailureCode::ALL.map(|code| Status::NeedsReconciliation { code });
    let released = Resolution::ALL.map(|because| Status::Released { because });
    [Status::InProgress, Status::Completed].into_iter().chain(given_up).chain(released).collect()
}

#[test]
fn every_pair_of_status_and_change_is_as_drawn() {
    let fresh = admitted(bid(1), &commission(1, START), START).run.reservation;
    let records = RecordsView {
        row: Some(row(instance(1), START)),
        subscription: Some(subscription(instance(1), START)),
        closed: false,
    };
    let proof = CanonicalSuccess::establish(&records).expect("canonical success");
    let nothing_sent = || Release::NothingSent(NothingSent::establish(&fresh).expect("untouched"));
    for status in every_status() {
        let complete = status.apply(&StatusChange::Complete(&proof));
        match status {
            Status::InProgress | Status::NeedsReconciliation { .. } => assert_eq!(complete, Ok(Status::Completed)),
            Status::Completed | Status::Released { .. } => {
                assert_eq!(complete.expect_err("refused").from, status.name());
            }
        }
        for code in FailureCode::ALL {
            let given_up = status.apply(&StatusChange::GiveUp(code));
            match status {
                Status::InProgress => assert_eq!(given_up, Ok(Status::NeedsReconciliation { code })),
                Status::NeedsReconciliation { .. } | Status::Completed | Status::Released { .. } => {
                    assert_eq!(given_up.expect_err("refused").from, status.name());
                }
            }
        }
        for because in Resolution::ALL {
            let released = status.apply(&StatusChange::Release(&nothing_sent(), because));
            match status {
                Status::InProgress | Status::NeedsReconciliation { .. } | Status::Completed => {
                    assert_eq!(released, Ok(Status::Released { because }));
                }
                Status::Released { .. } => assert_eq!(released.expect_err("released is terminal").from, "released"),
            }
        }
    }
}

#[test]
fn exactly_the_statuses_in_between_hold_their_context() {
    for status in every_status() {
        let between = matches!(status, Status::InProgress | Status::NeedsReconciliation { .. });
        assert_eq!(status.is_unresolved(), between, "{}", status.name());
    }
}
