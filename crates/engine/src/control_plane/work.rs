//! Work on an instance that exists: destroy, start, stop, restart, update. Accepted in one commit each; destroy in every
//! state.

use freehold_domain::ids::{InstanceId, OperationId};
use freehold_domain::run::{Work, WorkRefused};

use super::provision::ProvisionRefused;
use super::{Caller, ControlPlane, SpecRequest, UpdateRequest};
use crate::ports::{DestroyAccepted, EntitlementRefused, RecordsError, StoreError, WorkAccepted};
use crate::spec::{Spec, SpecError};
use crate::world::Template;

/// What asking for a destroy came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// There was nothing left to destroy.
    Finished,
    /// This operation does it.
    By(OperationId),
}

/// What asking for work came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// It was as asked already.
    NothingToDo,
    /// This operation does it.
    By(OperationId),
}

/// Why work was not accepted. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkError {
    /// There is no such instance.
    #[error("there is no such instance")]
    NotFound,
    /// It is still being made, by this operation.
    #[error("the instance is still being made")]
    InProgress(OperationId),
    /// It is destroyed, or will be.
    #[error("the instance is destroyed")]
    Destroyed,
    /// The spec cannot work.
    #[error("{detail}")]
    InvalidSpec {
        /// Which field.
        pointer: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// The context may not have it.
    #[error(transparent)]
    Entitlement(#[from] EntitlementRefused),
    /// The spec on record cannot be read.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The store did not answer.
    #[error(transparent)]
    Store(StoreError),
    /// The records did not answer.
    #[error(transparent)]
    Records(#[from] RecordsError),
}

impl From<StoreError> for WorkError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Missing(_) => Self::NotFound,
            StoreError::Unavailable(_)
            | StoreError::Unknown(_)
            | StoreError::Corrupt(_)
            | StoreError::Refused(_)
            | StoreError::Quarantined(_) => Self::Store(error),
        }
    }
}

impl From<ProvisionRefused> for WorkError {
    fn from(refused: ProvisionRefused) -> Self {
        match refused {
            ProvisionRefused::InvalidSpec { pointer, detail } => Self::InvalidSpec { pointer, detail },
            ProvisionRefused::Entitlement(refused) => Self::Entitlement(refused),
            ProvisionRefused::ProviderUnknown(name) => {
                Self::InvalidSpec { pointer: "/provider", detail: format!("there is no provider `{name}`") }
            }
            ProvisionRefused::Conflict(_) | ProvisionRefused::KeyReused => Self::Destroyed,
            ProvisionRefused::Store(error) => error.into(),
        }
    }
}

impl ControlPlane {
    /// Accepts the destroy of an instance, whatever state it is in. Repeating it is success. While the registry is in
    /// quarantine it is accepted as well, and carried out behind it.
    ///
    /// # Errors
    /// [`WorkError::NotFound`] and [`WorkError::Store`].
    pub async fn destroy(
        &self,
        caller: &Caller,
        instance: InstanceId,
        reason: Option<String>,
    ) -> Result<Accepted, WorkError> {
        let asked_at = self.world.clock.monotonic();
        let asked = self.asked(caller, self.world.mint_operation());
        match self.world.store.destroy_intent_set(instance, reason, asked).await? {
            DestroyAccepted::Finished => Ok(Accepted::Finished),
            DestroyAccepted::Underway(operation) => Ok(Accepted::By(operation)),
            DestroyAccepted::Accepted { run, replaced } => {
                let operation = run.operation.id;
                self.start(*run, asked_at, replaced);
                Ok(Accepted::By(operation))
            }
        }
    }

    /// Starts an instance's runtime, unless nobody pays for it at the moment.
    ///
    /// # Errors
    /// [`WorkError`]; nothing was changed then.
    pub async fn start_instance(&self, caller: &Caller, instance: InstanceId) -> Result<Changed, WorkError> {
        self.paid_work(caller, instance, Work::Start).await
    }

    /// Stops an instance's runtime.
    ///
    /// # Errors
    /// [`WorkError`]; nothing was changed then.
    pub async fn stop_instance(&self, caller: &Caller, instance: InstanceId) -> Result<Changed, WorkError> {
        self.work(caller, instance, Work::Stop).await
    }

    /// Writes again what the records lost of an instance, or what they never had of one that was taken in, and publishes
    /// it.
    ///
    /// # Errors
    /// [`WorkError`]; nothing was changed then.
    pub async fn mend(&self, caller: &Caller, instance: InstanceId) -> Result<Changed, WorkError> {
        self.work(caller, instance, Work::Mend).await
    }

    /// Stops an instance's runtime and starts it, unless nobody pays for it at the moment.
    ///
    /// # Errors
    /// [`WorkError`]; nothing was changed then.
    pub async fn restart_instance(&self, caller: &Caller, instance: InstanceId) -> Result<Changed, WorkError> {
        self.paid_work(caller, instance, Work::Restart).await
    }

    /// Makes an instance run another spec. Never takes a reservation.
    ///
    /// # Errors
    /// [`WorkError`]; nothing was changed then.
    pub async fn update(
        &self,
        caller: &Caller,
        instance: InstanceId,
        request: UpdateRequest,
    ) -> Result<Changed, WorkError> {
        let registered = self.world.store.instance_describe(instance).await?.ok_or(WorkError::NotFound)?;
        let reservation = &registered.reservation;
        let current = Spec::thaw(&reservation.spec)?;
        let tier = match &request.tier {
            Some(tier) => self.world.billing.entitlement(&reservation.context, Some(tier)).await?.tier,
            None => current.tier.parse().unwrap_or_else(|_| reservation.tier.clone()),
        };
        let spec = self.changed_spec(&current, &request, &tier)?;
        self.work(caller, instance, Work::Update(spec.freeze())).await
    }

    fn changed_spec(
        &self,
        current: &Spec,
        request: &UpdateRequest,
        tier: &freehold_domain::lease::TierName,
    ) -> Result<Spec, ProvisionRefused> {
        let change = &request.spec;
        let kept = match &change.template {
            Some(_) => self.template(&SpecRequest { template: change.template.clone(), ..SpecRequest::default() })?,
            None => {
                Template { image: current.image.clone(), command: current.command.clone(), env: current.env.clone() }
            }
        };
        let base = Template {
            env: if change.env.is_some() && change.template.is_none() {
                std::collections::BTreeMap::new()
            } else {
                kept.env
            },
            ..kept
        };
        let wanted = SpecRequest {
            template: change.template.clone().or_else(|| current.template.clone()),
            image: change.image.clone(),
            command: change.command.clone(),
            env: change.env.clone().unwrap_or_default(),
            secrets: change.secrets.clone().unwrap_or_default(),
        };
        let mut spec = self.spec(&wanted, base, tier)?;
        if change.secrets.is_none() {
            spec.secrets = current.secrets.clone();
        }
        Ok(spec)
    }

    pub(super) async fn work(&self, caller: &Caller, instance: InstanceId, work: Work) -> Result<Changed, WorkError> {
        self.world.standing.check()?;
        let asked_at = self.world.clock.monotonic();
        let asked = self.asked(caller, self.world.mint_operation());
        match self.world.store.work_begin(instance, work, asked).await? {
            WorkAccepted::NothingToDo => Ok(Changed::NothingToDo),
            WorkAccepted::Underway(operation) => Ok(Changed::By(operation)),
            WorkAccepted::Accepted { run, replaced } => {
                let operation = run.operation.id;
                self.start(*run, asked_at, replaced);
                Ok(Changed::By(operation))
            }
            WorkAccepted::Refused(WorkRefused::Destroyed) => Err(WorkError::Destroyed),
            WorkAccepted::Refused(WorkRefused::InProgress) => {
                let registered = self.world.store.instance_describe(instance).await?.ok_or(WorkError::NotFound)?;
                Err(WorkError::InProgress(registered.operation.id))
            }
        }
    }
}
