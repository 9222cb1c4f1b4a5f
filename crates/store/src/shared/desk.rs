//! What is the same for every request to a store: how long leases last, and what was ever found broken.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use freehold_domain::invariants::{Invariant, check_change};
use freehold_domain::lease::LeaseTerm;
use freehold_domain::run::{Change, Run};
use freehold_domain::time::Timestamp;

/// The invariants that were seen violated, by how often.
#[derive(Default)]
pub(crate) struct Violations(Mutex<BTreeMap<Invariant, u64>>);

impl Violations {
    /// How many were seen, by invariant.
    pub(crate) fn seen(&self) -> Vec<(Invariant, u64)> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().map(|(invariant, times)| (*invariant, *times)).collect()
    }

    /// Counts what a change breaks. Nothing is refused for it: the check is a witness, not a judge.
    pub(crate) fn check(&self, before: &Run, change: &Change) {
        for violation in check_change(before, change) {
            tracing::error!(
                invariant = violation.invariant.name(),
                instance = %change.run.reservation.instance,
                operation = %change.run.operation.id,
                detail = violation.detail,
                "an invariant is violated"
            );
            let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            *seen.entry(violation.invariant).or_default() += 1;
        }
    }
}

/// The time of a request, by the store's clock: the same throughout.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) now: Timestamp,
    /// When a lease that this request gives lapses.
    pub(crate) lease_until: Timestamp,
}

impl Moment {
    pub(crate) fn at(now: Timestamp, term: LeaseTerm) -> Self {
        Self { now, lease_until: now.plus(term.0) }
    }
}
