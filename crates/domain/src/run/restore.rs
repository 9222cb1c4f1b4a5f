//! What becomes of an instance whose registry came from a backup.
//!
//! What the registry says was true once. What was sent, made or given to an executor after that nobody here knows, so
//! everything that may have happened since is in doubt, and nobody holds anything.

use crate::event::{Actor, EventKind};
use crate::lease::Epoch;
use crate::operation::{OperationStatus, Step, StepStatus};
use crate::protection::{Protection, stands};
use crate::reservation::Status;
use crate::resource::ResourceKind;
use crate::time::Timestamp;

use super::journal::record_of;
use super::{Change, Run};

/// Takes an instance on again behind a backup: its epoch rises by `by`, more than it can have risen since the backup.
///
/// - Whoever held its operation holds it no more, and the operation is due at once. It gets as long to go forward as it
///   had: its deadline passed while nobody asked, and what was made meanwhile is not to be undone for that.
/// - A call may have left that is not on record: what is still to be made may be there. Nothing that was looked up before
///   proves anything any more.
#[must_use]
pub fn raised(run: &Run, by: u64, now: Timestamp) -> Change {
    let mut run = run.clone();
    let at = now.max(run.reservation.updated_at);
    let reservation = &mut run.reservation;
    let before = reservation.epoch;
    if stands(Protection::RestoreRaisesEpoch) {
        // No store keeps more than this.
        const HIGHEST: u64 = i64::MAX.cast_unsigned();
        reservation.epoch = Epoch::new(before.get().saturating_add(by).min(HIGHEST)).max(before);
    }
    reservation.updated_at = at;
    match reservation.status {
        Status::InProgress | Status::NeedsReconciliation { .. } | Status::Completed => {
            if stands(Protection::RestoreLeavesDoubt) {
                reservation.unanswered = reservation.unanswered.saturating_add(1);
                reservation.last_sent_at = reservation.last_sent_at.max(Some(at));
                reservation.lookups.clear();
                if reservation.status == Status::InProgress {
                    doubt(&mut run, at);
                }
            }
            let reservation = &mut run.reservation;
            if reservation.is_active() {
                reservation.check_at = at;
            }
        }
        // Nothing was to be made any more, then as little as now.
        Status::Released { .. } => {}
    }
    let operation = &mut run.operation;
    if !operation.status.is_over() {
        let had = operation.deadline.since(operation.started_at);
        operation.holder = None;
        operation.due_at = Some(at);
        operation.deadline = operation.deadline.max(at.plus(had));
        if operation.status == OperationStatus::Running {
            operation.status = OperationStatus::Waiting;
        }
    }
    let mut change = Change::of(run);
    let detail = format!("the registry comes from a backup; the epoch was {before}");
    change.tell(EventKind::EpochRaised, Actor::Operator, at, detail);
    change
}

/// Of what an instance lacks each may be made by now: it is looked for before it is made.
fn doubt(run: &mut Run, at: Timestamp) {
    for kind in ResourceKind::ALL {
        if run.reservation.resource(kind).is_none() && !run.operation.status.is_over() {
            let record = record_of(&mut run.operation, Step::making(kind), at);
            record.status = StepStatus::Unknown;
            record.finished_at = None;
            record.last_error = Some("it may have been made after the backup".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::evidence::NothingSent;
    use crate::ids::{InstanceId, OperationId};
    use crate::invariants::check_change;
    use crate::lease::Holder;
    use crate::owner::Context;
    use crate::reservation::FrozenSpec;
    use crate::run::{Bid, Commission, Hold, admitted};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn being_made() -> Run {
        let name = "x";
        let bid = Bid {
            instance: InstanceId::mint(1, [1; 10]),
            context: Context::new("user:alice".parse().unwrap(), None).unwrap(),
            provider: name.parse().unwrap(),
            tier: name.parse().unwrap(),
            price_version: name.parse().unwrap(),
            regions: Vec::new(),
            named: None,
            spec: FrozenSpec(Arc::from(&b"{}"[..])),
        };
        let holder = Holder { node: "a".parse().unwrap(), incarnation: 1 };
        let commission = Commission {
            operation: OperationId::mint(1, [2; 10]),
            actor: Actor::Platform,
            request_id: String::new(),
            deadline: at(120),
            hold: Some(Hold { holder, until: at(10) }),
        };
        admitted(bid, &commission, at(0)).run
    }

    #[test]
    fn nobody_holds_it_and_it_goes_on_at_once() {
        let before = being_made();
        let change = raised(&before, 1 << 20, at(90_000));
        assert_eq!(check_change(&before, &change), []);
        let Run { reservation, operation } = &change.run;
        assert_eq!(reservation.epoch, Epoch::new(1 + (1 << 20)));
        assert_eq!((operation.holder.as_ref(), operation.due_at), (None, Some(at(90_000))));
        assert_eq!(operation.deadline, at(90_120), "as long as it had");
        assert_eq!(operation.status, OperationStatus::Waiting);
    }

    #[test]
    fn what_may_have_been_sent_since_is_in_doubt() {
        let before = being_made();
        assert!(NothingSent::establish(&before.reservation).is_some());
        let after = raised(&before, 1, at(90_000)).run.reservation;
        assert!(NothingSent::establish(&after).is_none());
        assert_eq!(after.last_sent_at, Some(at(90_000)));
        let steps = raised(&before, 1, at(90_000)).run.operation.steps;
        assert_eq!(steps.len(), ResourceKind::ALL.len());
        assert!(steps.iter().all(|record| record.status == StepStatus::Unknown));
    }

    #[test]
    fn an_epoch_that_cannot_rise_further_stays() {
        let mut before = being_made();
        before.reservation.epoch = Epoch::new(u64::MAX);
        assert_eq!(raised(&before, 1, at(1)).run.reservation.epoch, before.reservation.epoch);
    }
}
