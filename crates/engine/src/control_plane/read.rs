//! What readers are told. Reading never changes anything and never waits for anybody's work.

use std::time::Duration;

use freehold_domain::ids::{InstanceId, OperationId};
use freehold_domain::owner::Owner;
use freehold_domain::records::RecordsView;
use freehold_domain::status::InstanceStatus;

use super::ControlPlane;
use crate::ports::{
    InstanceQuery, Listed, LogQuery, LogReader, LogsUnavailable, OperationView, RecordsError, Registered, StoreError,
};
use crate::spec::{Spec, SpecError};

/// How often an instance in quarantine is looked at again because somebody asks for it.
const LOOKED_AGAIN_EVERY: Duration = Duration::from_secs(2);

/// An instance, as registry and records have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceView {
    /// What the registry says.
    pub registered: Registered,
    /// What the records say.
    pub records: RecordsView,
    /// What it runs.
    pub spec: Spec,
}

impl InstanceView {
    /// What it is doing.
    #[must_use]
    pub fn status(&self) -> InstanceStatus {
        InstanceStatus::of(&self.registered.reservation, &self.registered.operation, &self.records)
    }

    /// Whether traffic may go to it.
    #[must_use]
    pub fn routable(&self) -> bool {
        self.registered.route.as_ref().is_some_and(freehold_domain::route::Route::is_live)
    }
}

/// What there is of an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerView {
    /// Everything ever admitted, tombstones included, in that order.
    pub registered: Vec<Registered>,
    /// Whether the records were asked for what the registry had never seen.
    pub backfilled: bool,
}

/// Nothing could be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// There is no such thing.
    #[error("there is no such thing")]
    NotFound,
    /// The registry did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The records did not answer.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// The spec on record cannot be read.
    #[error(transparent)]
    Spec(#[from] SpecError),
}

impl ControlPlane {
    async fn view(&self, registered: Registered) -> Result<InstanceView, ReadError> {
        let records = self.world.records.describe(registered.reservation.instance).await?;
        let spec = Spec::thaw(&registered.reservation.spec)?;
        Ok(InstanceView { registered, records, spec })
    }

    /// An instance, destroyed ones included.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn instance(&self, instance: InstanceId) -> Result<InstanceView, ReadError> {
        let registered = self.world.store.instance_describe(instance).await?.ok_or(ReadError::NotFound)?;
        self.look_again(&registered).await;
        self.view(registered).await
    }

    /// Has an instance that waits for its records looked at again, because somebody asks for it: at most once in a while.
    async fn look_again(&self, registered: &Registered) {
        let Registered { reservation, operation, .. } = registered;
        let waits = reservation.is_active() && reservation.completed_at.is_none() && !operation.status.is_over();
        let now = self.world.clock.monotonic();
        if !waits
            || !self.world.standing.may_act()
            || self.hurried.is_recent(reservation.instance, now, LOOKED_AGAIN_EVERY)
        {
            return;
        }
        match self.world.store.hurry(operation.id).await {
            Ok(()) => self.world.driver.changed(reservation.instance, operation.id),
            Err(error) => tracing::warn!(instance = %reservation.instance, %error, "could not be looked at again"),
        }
    }

    /// Instances in the order of their ids; only those with `status`, if it is given, else those that are not released.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn instances(
        &self,
        query: InstanceQuery,
        status: Option<InstanceStatus>,
    ) -> Result<Listed<InstanceView, InstanceId>, ReadError> {
        let limit = query.limit;
        let mut query = query;
        query.released = Some(matches!(status, Some(InstanceStatus::Destroyed | InstanceStatus::Failed)));
        if status == Some(InstanceStatus::Failed) {
            // Failed ones are on both sides: cleaning up, and cleaned up.
            query.released = None;
        }
        let mut items = Vec::new();
        loop {
            let page = self.world.store.instance_list(&query).await?;
            let next = page.next;
            for registered in page.items {
                let last = registered.reservation.instance;
                let view = self.view(registered).await?;
                if status.is_none_or(|wanted| view.status() == wanted) {
                    items.push(view);
                }
                if items.len() == limit {
                    return Ok(Listed { items, next: Some(last) });
                }
            }
            match next {
                Some(after) => query.after = Some(after),
                None => return Ok(Listed { items, next: None }),
            }
        }
    }

    /// Everything of an owner.
    ///
    /// # Errors
    /// [`ReadError::NotFound`] for an owner that never had anything, and others.
    pub async fn owner(&self, owner: &Owner) -> Result<OwnerView, ReadError> {
        let backfilled = self.backfill(owner).await;
        let registered = self.world.store.owner_describe(owner).await?;
        if registered.is_empty() {
            return Err(ReadError::NotFound);
        }
        for one in &registered {
            self.look_again(one).await;
        }
        Ok(OwnerView { registered, backfilled })
    }

    /// An operation.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn operation(&self, operation: OperationId) -> Result<OperationView, ReadError> {
        self.world.store.operation_describe(operation).await?.ok_or(ReadError::NotFound)
    }

    /// What an instance wrote.
    ///
    /// # Errors
    /// [`LogsUnavailable`] inside, [`ReadError`] outside.
    pub async fn logs(
        &self,
        instance: InstanceId,
        query: LogQuery,
    ) -> Result<Result<Box<dyn LogReader>, LogsUnavailable>, ReadError> {
        let registered = self.world.store.instance_describe(instance).await?.ok_or(ReadError::NotFound)?;
        let reservation = &registered.reservation;
        let Some(provider) = self.world.provider(&reservation.provider) else {
            let gone = format!("provider `{}` is not configured", reservation.provider);
            return Ok(Err(LogsUnavailable::Unreadable(gone)));
        };
        if !provider.capabilities().logs {
            return Ok(Err(LogsUnavailable::Unsupported));
        }
        Ok(provider.logs(&self.world.idents.of_reservation(reservation), query).await)
    }
}
