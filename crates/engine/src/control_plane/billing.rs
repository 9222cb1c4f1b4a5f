//! What billing says of an instance that exists: nobody pays for it at the moment, or somebody does again.
//!
//! - The records come first, the runtime second. What is suspended in the records is not started: whoever starts looks
//!   at them before and behind its commit, and so does whoever stops: two that cross each other end as the records say.
//! - Every part is safe twice. Where one fails the whole is asked again, and nothing of it is skipped.
//! - That the records turned is in their change log, in the same commit. The audit trail is told behind it.

use freehold_domain::event::{Actor, EventKind};
use freehold_domain::ids::InstanceId;
use freehold_domain::records::SubscriptionStatus;
use freehold_domain::run::Work;

use super::work::{Changed, WorkError};
use super::{Caller, ControlPlane};
use crate::ports::{Because, EntitlementRefused};

impl ControlPlane {
    /// Nobody pays for an instance at the moment: it is stopped, and kept. Answers whether anything changed.
    ///
    /// # Errors
    /// [`WorkError`]; it is to be asked again then. [`WorkError::InProgress`] while the instance is being made.
    pub async fn suspend(&self, caller: &Caller, instance: InstanceId) -> Result<bool, WorkError> {
        let why = "billing suspended the subscription";
        let Some(turned) = self.turn(caller.actor, instance, SubscriptionStatus::Suspended, why).await? else {
            return Ok(false);
        };
        let changed = followed(self.work(caller, instance, Work::Stop).await, turned)?;
        let records = self.world.records.describe(instance).await?;
        if records.subscription_is_active() && !records.is_suspended() {
            // Resumed between the two: the stop came too late.
            followed(self.work(caller, instance, Work::Start).await, turned)?;
        }
        Ok(changed)
    }

    /// Somebody pays for an instance again: it is started. Answers whether anything changed.
    ///
    /// # Errors
    /// [`WorkError`]; it is to be asked again then. [`WorkError::InProgress`] while the instance is being made.
    pub async fn resume(&self, caller: &Caller, instance: InstanceId) -> Result<bool, WorkError> {
        let why = "billing resumed the subscription";
        let Some(turned) = self.turn(caller.actor, instance, SubscriptionStatus::Active, why).await? else {
            return Ok(false);
        };
        followed(self.start_instance(caller, instance).await, turned)
    }

    /// Turns the subscription. Answers whether it was otherwise before; `None` where it is over, and nothing follows.
    async fn turn(
        &self,
        actor: Actor,
        instance: InstanceId,
        to: SubscriptionStatus,
        why: &str,
    ) -> Result<Option<bool>, WorkError> {
        let world = &self.world;
        world.standing.check()?;
        let registered = world.store.instance_describe(instance).await?.ok_or(WorkError::NotFound)?;
        let before = world.records.describe(instance).await?.subscription.map(|subscription| subscription.status);
        match before {
            Some(SubscriptionStatus::Active | SubscriptionStatus::Suspended) => {}
            Some(SubscriptionStatus::Ended) => return Ok(None),
            None => {
                let reservation = &registered.reservation;
                let comes = reservation.status.is_unresolved() || reservation.is_active();
                // It may get its subscription yet, and what was said of it must not be lost.
                return if comes && !reservation.intent.is_destroy() {
                    Err(WorkError::InProgress(registered.operation.id))
                } else {
                    Ok(None)
                };
            }
        }
        let because = Because { actor, operation: None, reason: why.to_owned() };
        let after = world.records.subscription_turn(instance, to, &because).await?;
        if after.subscription.is_none_or(|subscription| subscription.status != to) {
            return Ok(None);
        }
        let turned = before != Some(to);
        if turned {
            let kind = match to {
                SubscriptionStatus::Suspended => EventKind::Suspended,
                SubscriptionStatus::Active | SubscriptionStatus::Ended => EventKind::Resumed,
            };
            if let Err(error) = world.store.witness(instance, kind, actor, world.clock.now(), why.to_owned()).await {
                tracing::warn!(%instance, %error, "that a subscription turned is not on the audit trail");
            }
        }
        Ok(Some(turned))
    }

    /// Work after which the runtime is up. Refused where nobody pays for it, and where that cannot be told.
    pub(super) async fn paid_work(
        &self,
        caller: &Caller,
        instance: InstanceId,
        work: Work,
    ) -> Result<Changed, WorkError> {
        let is_suspended = async || Ok::<_, WorkError>(self.world.records.describe(instance).await?.is_suspended());
        if is_suspended().await? {
            return Err(unpaid());
        }
        let changed = self.work(caller, instance, work).await?;
        // It may have been suspended, and stopped, between the look and the commit. Records that stopped answering since
        // are looked at again with the runtime.
        if is_suspended().await.unwrap_or(false) {
            self.work(caller, instance, Work::Stop).await?;
            return Err(unpaid());
        }
        Ok(changed)
    }
}

fn unpaid() -> WorkError {
    EntitlementRefused::Denied("the subscription is suspended; it starts again once billing resumes it".to_owned())
        .into()
}

/// What became of the whole.
fn followed(work: Result<Changed, WorkError>, turned: bool) -> Result<bool, WorkError> {
    match work {
        Ok(Changed::By(_)) => Ok(true),
        // What is destroyed needs no stop and gets no start.
        Ok(Changed::NothingToDo) | Err(WorkError::Destroyed) => Ok(turned),
        Err(error) => Err(error),
    }
}
