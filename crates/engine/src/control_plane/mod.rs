//! What callers ask for. Each method decides policy, then lets one store transaction decide the rest; none waits for
//! another request's work. Whoever wants to wait for an operation looks at it again when the driver says it changed.

mod adopt;
mod backfill;
mod billing;
mod forget;
mod operators;
mod provision;
mod read;
mod recently;
mod request;
pub mod restore;
mod work;

pub use adopt::{AdoptRefused, AdoptionPlan, Taken};
pub(crate) use backfill::take_in;
pub use forget::{ForgetError, Forgotten};
pub use operators::{ReleaseRefused, ReleaseStarted, RepairRefused};
pub use provision::{Conflict, ProvisionRefused, Provisioned};
pub use read::{InstanceView, OwnerView, ReadError};
pub use request::{AdoptRequest, Caller, Provision, SpecChange, SpecRequest, UpdateRequest};
pub use work::{Accepted, Changed, WorkError};

use std::sync::Arc;
use std::time::Duration;

use freehold_domain::ids::{InstanceId, OperationId};
use freehold_domain::owner::Owner;
use freehold_domain::run::Run;

use self::recently::Recently;
use crate::ports::{Asked, Claimed};
use crate::world::World;

/// The one service that every way in calls.
pub struct ControlPlane {
    world: Arc<World>,
    /// When each context's conflict was last put on the audit trail, by instance.
    conflicts_told: Recently<InstanceId>,
    /// When quarantined instances were last hurried because somebody looked at them.
    hurried: Recently<InstanceId>,
    /// When the records did not answer for an owner.
    records_silent: Recently<Owner>,
}

impl ControlPlane {
    /// Over a world.
    #[must_use]
    pub fn new(world: Arc<World>) -> Self {
        Self {
            world,
            conflicts_told: Recently::default(),
            hurried: Recently::default(),
            records_silent: Recently::default(),
        }
    }

    /// What it works with.
    #[must_use]
    pub fn world(&self) -> &Arc<World> {
        &self.world
    }

    fn asked(&self, caller: &Caller, operation: OperationId) -> Asked {
        let world = &self.world;
        Asked {
            operation,
            actor: caller.actor,
            request_id: caller.request_id.clone(),
            deadline_in: world.policy.deadline,
            holder: world.runs().then(|| world.holder.clone()),
        }
    }

    /// Hands what was just accepted to this node's executor, and wakes whoever waits.
    fn start(&self, run: Run, asked_at: Duration, replaced: Option<OperationId>) {
        let instance = run.reservation.instance;
        let operation = run.operation.id;
        if let Some(replaced) = replaced {
            self.world.driver.changed(instance, replaced);
        }
        self.world.driver.changed(instance, operation);
        if let Some(lease) = run.lease() {
            self.world.driver.run(Claimed { run, lease, asked_at });
        }
    }
}
