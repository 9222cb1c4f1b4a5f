//! The leases this node holds, and until when it may send under each.
//!
//! "Until when" is counted on this process's own monotonic clock, from the moment the lease was asked for: the store's
//! clock started later, so the store's lease always outlives ours. An executor that was frozen wakes up to a lease that
//! is over by its own clock, and does not send.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use freehold_domain::ids::OperationId;
use freehold_domain::lease::Lease;
use freehold_domain::protection::{Protection, stands};

use crate::ports::Claimed;

struct Hold {
    lease: Lease,
    valid_until: Duration,
}

/// The leases of this node. At most one executor runs an operation at a time.
#[derive(Clone, Default)]
pub(crate) struct Held(Arc<Mutex<BTreeMap<OperationId, Hold>>>);

/// One operation that this node runs. Dropping it lets go of the operation, however its executor ended.
pub(crate) struct Hand {
    held: Held,
    lease: Lease,
}

impl Drop for Hand {
    fn drop(&mut self) {
        self.held.with(|holds| {
            if holds.get(&self.lease.operation).is_some_and(|hold| hold.lease.epoch == self.lease.epoch) {
                holds.remove(&self.lease.operation);
            }
        });
    }
}

impl Held {
    fn with<T>(&self, f: impl FnOnce(&mut BTreeMap<OperationId, Hold>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes an operation in hand, unless this node has an executor on it already.
    pub(crate) fn take(&self, claimed: &Claimed, term: Duration) -> Option<Hand> {
        let operation = claimed.lease.operation;
        self.with(|holds| {
            if holds.get(&operation).is_some_and(|hold| hold.lease.epoch >= claimed.lease.epoch) {
                return None;
            }
            holds.insert(operation, Hold { lease: claimed.lease.clone(), valid_until: claimed.asked_at + term });
            Some(Hand { held: self.clone(), lease: claimed.lease.clone() })
        })
    }

    /// Whether a call may leave: the lease has more than `margin` left.
    pub(crate) fn may_send(&self, lease: &Lease, now: Duration, margin: Duration) -> bool {
        if !stands(Protection::SendDeadline) {
            return true;
        }
        self.with(|holds| {
            holds
                .get(&lease.operation)
                .is_some_and(|hold| hold.lease.epoch == lease.epoch && hold.valid_until > now + margin)
        })
    }

    /// Every lease, in no order.
    pub(crate) fn leases(&self) -> Vec<Lease> {
        self.with(|holds| holds.values().map(|hold| hold.lease.clone()).collect())
    }

    /// A renewal was granted: the lease is good until then.
    pub(crate) fn prolong(&self, lease: &Lease, valid_until: Duration) {
        self.with(|holds| {
            if let Some(hold) = holds.get_mut(&lease.operation).filter(|hold| hold.lease.epoch == lease.epoch) {
                hold.valid_until = valid_until;
            }
        });
    }

    /// A renewal was refused: somebody else has the operation.
    pub(crate) fn lost(&self, lease: &Lease) {
        if stands(Protection::LostLeaseStops) {
            self.prolong(lease, Duration::ZERO);
        }
    }
}
