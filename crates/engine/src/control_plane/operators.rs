//! Operators' tools: complete what is done, prove what is gone, and, with open eyes, release without proof.

use freehold_domain::event::EventKind;
use freehold_domain::evidence::OperatorOverride;
use freehold_domain::ids::{InstanceId, OperationId};
use freehold_domain::reservation::Status;

use super::{Caller, ControlPlane};
use crate::ports::{Registered, StoreError};

/// Why a reservation was not completed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RepairRefused {
    /// There is no such reservation.
    #[error("there is no such reservation")]
    NotFound,
    /// Canonical success is not on record, or was undone.
    #[error("{0}")]
    Unavailable(String),
    /// The store did not answer.
    #[error(transparent)]
    Store(StoreError),
}

/// What a release amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseStarted {
    /// It is released.
    Released {
        /// The status it had.
        previous: &'static str,
    },
    /// The proof of absence is being made by this operation.
    Proving {
        /// The operation.
        operation: OperationId,
        /// The status it had.
        previous: &'static str,
    },
}

/// Why a reservation was not released.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseRefused {
    /// There is no such reservation.
    #[error("there is no such reservation")]
    NotFound,
    /// Its instance is being made, or is there.
    #[error("{0}")]
    Active(String),
    /// It is released already.
    #[error("it is released already")]
    NotReleasable,
    /// It changed under the operator's eyes.
    #[error("its status is {current} by now")]
    StatusChanged {
        /// What it is.
        current: &'static str,
    },
    /// An override needs a reason.
    #[error("an override needs a reason of 1 to 1000 bytes")]
    ReasonMissing,
    /// The store did not answer.
    #[error(transparent)]
    Store(StoreError),
}

impl ControlPlane {
    /// Completes a reservation whose canonical success is on record.
    ///
    /// # Errors
    /// [`RepairRefused`]; nothing was changed then.
    pub async fn repair(&self, caller: &Caller, instance: InstanceId) -> Result<Registered, RepairRefused> {
        self.world.standing.check().map_err(RepairRefused::Store)?;
        let store = &self.world.store;
        let registered = self.registered(instance).await.map_err(RepairRefused::Store)?;
        let before = registered.ok_or(RepairRefused::NotFound)?;
        if before.reservation.status != Status::Completed && !self.complete_if_proven(instance, caller.actor).await {
            return Err(RepairRefused::Unavailable(
                "there is no active canonical row with an active subscription for it, or it is being removed"
                    .to_owned(),
            ));
        }
        store.instance_describe(instance).await.map_err(RepairRefused::Store)?.ok_or(RepairRefused::NotFound)
    }

    async fn registered(&self, instance: InstanceId) -> Result<Option<Registered>, StoreError> {
        self.world.store.instance_describe(instance).await
    }

    /// Releases a reservation: by proof, which cleaning up establishes, or on the operator's word.
    ///
    /// # Errors
    /// [`ReleaseRefused`]; nothing was changed then.
    pub async fn release(
        &self,
        caller: &Caller,
        instance: InstanceId,
        expected: &str,
        reason: &str,
        without_proof: bool,
    ) -> Result<ReleaseStarted, ReleaseRefused> {
        self.world.standing.check().map_err(ReleaseRefused::Store)?;
        let registered = self.registered(instance).await.map_err(ReleaseRefused::Store)?;
        let Registered { reservation, operation, .. } = registered.ok_or(ReleaseRefused::NotFound)?;
        let previous = reservation.status.name();
        if previous != expected {
            return Err(ReleaseRefused::StatusChanged { current: previous });
        }
        match reservation.status {
            Status::Released { .. } => Err(ReleaseRefused::NotReleasable),
            Status::Completed => {
                Err(ReleaseRefused::Active("its instance exists; destroy the instance instead".to_owned()))
            }
            Status::InProgress | Status::NeedsReconciliation { .. } if without_proof => {
                self.override_release(caller, instance, previous, reason).await
            }
            Status::InProgress => Err(ReleaseRefused::Active(
                "its instance is being made; destroy the instance, and it is released once nothing is left".to_owned(),
            )),
            Status::NeedsReconciliation { .. } => {
                let (kind, at) = (EventKind::ReleaseAsked, self.world.clock.now());
                let store = &self.world.store;
                let told = store.witness(instance, kind, caller.actor, at, reason.to_owned()).await;
                told.map_err(ReleaseRefused::Store)?;
                store.hurry(operation.id).await.map_err(ReleaseRefused::Store)?;
                self.world.driver.changed(instance, operation.id);
                Ok(ReleaseStarted::Proving { operation: operation.id, previous })
            }
        }
    }

    async fn override_release(
        &self,
        caller: &Caller,
        instance: InstanceId,
        expected: &'static str,
        reason: &str,
    ) -> Result<ReleaseStarted, ReleaseRefused> {
        let world = &self.world;
        let said = OperatorOverride::establish(reason, world.mint_leak()).ok_or(ReleaseRefused::ReasonMissing)?;
        let asked_at = world.clock.monotonic();
        let asked = self.asked(caller, world.mint_operation());
        match world.store.release_override(instance, expected, said, asked).await.map_err(ReleaseRefused::Store)? {
            Ok(run) => {
                self.start(run, asked_at, None);
                Ok(ReleaseStarted::Released { previous: expected })
            }
            Err(illegal) => Err(ReleaseRefused::StatusChanged { current: illegal.from }),
        }
    }
}
