//! What is really there, and how it is made to fail: the provider's side of a world, which nothing between a node and it
//! can hide.

use std::collections::BTreeSet;
use std::time::Duration;

use freehold_domain::ids::InstanceId;
use freehold_domain::resource::{Resource, ResourceKind};
use freehold_domain::time::Timestamp;
use freehold_engine::ports::Ident;
use freehold_providers::fake::{CallKind, FakeCloud, Fault, Sight};

/// The provider's side of a world.
pub trait Ground {
    /// What is there of an instance and carries its tags.
    fn live_of(&self, ident: &Ident) -> Vec<Resource>;

    /// Has the next call of a kind go wrong.
    fn script_next(&self, call: CallKind, fault: Fault);

    /// Whether a scripted fault has not happened yet.
    fn has_script(&self) -> bool;

    /// Impairs looks until then.
    fn impair(&self, sight: Sight, until: Timestamp);

    /// From now on nothing goes wrong any more; what is late still comes.
    fn heal(&self);

    /// Whether anything is still to come.
    fn has_late(&self) -> bool;

    /// The instances to which something late happened since this was asked last.
    fn take_landed(&self) -> BTreeSet<InstanceId>;

    /// The ids of somebody else's resources that were removed.
    fn harmed(&self) -> Vec<String>;

    /// Lets time pass until then.
    fn advance(&self, now: Timestamp);

    /// Removes resources behind everybody's back.
    fn vanish(&self, instance: InstanceId, kind: ResourceKind);
}

impl Ground for FakeCloud {
    fn live_of(&self, ident: &Ident) -> Vec<Resource> {
        Self::live_of(self, ident)
    }

    fn script_next(&self, call: CallKind, fault: Fault) {
        Self::script_next(self, call, fault);
    }

    fn has_script(&self) -> bool {
        Self::has_script(self)
    }

    fn impair(&self, sight: Sight, until: Timestamp) {
        Self::impair(self, sight, until);
    }

    fn heal(&self) {
        Self::heal(self);
    }

    fn has_late(&self) -> bool {
        Self::has_late(self)
    }

    fn take_landed(&self) -> BTreeSet<InstanceId> {
        Self::take_landed(self)
    }

    fn harmed(&self) -> Vec<String> {
        Self::harmed(self)
    }

    fn advance(&self, now: Timestamp) {
        Self::advance(self, now);
    }

    fn vanish(&self, instance: InstanceId, kind: ResourceKind) {
        Self::vanish(self, instance, kind);
    }
}

/// The settle horizon of simulated providers: the longest time after which they say that a call may still take effect.
pub const HORIZON: Duration = Duration::from_secs(5);
