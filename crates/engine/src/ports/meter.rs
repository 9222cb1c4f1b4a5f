//! What operators watch. Nothing depends on it; labels name no owner and no user.

use std::time::Duration;

use freehold_domain::operation::{OperationKind, OperationStatus, Step};

/// Counts what happens.
pub trait Meter: Send + Sync {
    /// Somebody asked for an instance: `taken`, `replayed`, `conflict`, `key_reused`, `refused` or `unavailable`.
    fn admission(&self, outcome: &'static str);

    /// A step's call came back.
    fn step(&self, step: Step, took: Duration);

    /// A provider answered: `op` is the port's method, `outcome` as [`freehold_domain::resource::Outcome::name`] or
    /// `answered`/`unanswered` for reads.
    fn provider_request(&self, provider: &str, op: &'static str, outcome: &'static str);

    /// An operation is over, or turned to cleaning up.
    fn operation(&self, kind: OperationKind, status: OperationStatus);

    /// An operation was taken over from a holder that went away in the middle of a step.
    fn takeover(&self);

    /// A reservation that had to be settled by look-up, seal or repair was: `completed`, `released`, `repaired`.
    fn reconciliation(&self, outcome: &'static str);

    /// An extra copy of a resource was found.
    fn duplicate_resource(&self);

    /// The janitor's last pass saw so many resources in a state: the fields of
    /// [`crate::reconcilers::janitor::Tally`] by name.
    fn janitor(&self, state: &'static str, count: u64);
}

/// Counts nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoMeter;

impl Meter for NoMeter {
    fn admission(&self, _: &'static str) {}
    fn step(&self, _: Step, _: Duration) {}
    fn provider_request(&self, _: &str, _: &'static str, _: &'static str) {}
    fn operation(&self, _: OperationKind, _: OperationStatus) {}
    fn takeover(&self) {}
    fn reconciliation(&self, _: &'static str) {}
    fn duplicate_resource(&self) {}
    fn janitor(&self, _: &'static str, _: u64) {}
}
