//! What registry and records say of one another, brought together again: after the records were restored from a backup,
//! after somebody wrote in them, after a row arrived too late.
//!
//! | the registry says | the records say | what is done |
//! |---|---|---|
//! | nothing | active | taken in: published once it is found and paid for |
//! | released | active | its subscription is ended and its row is marked: a released instance never lives again |
//! | complete | no row, or no subscription | written again, with the subscription that billing has |
//! | complete | destroyed | destroyed: a tombstone is stronger than a route |
//! | complete | the subscription has ended | stopped: nobody pays |
//! | being made or being destroyed | anything | nothing: its operation reads the records itself |
//!
//! Each is safe twice, late, and on two nodes at once: what it does is refused where it is not true any more.

use freehold_domain::event::{Actor, EventKind};
use freehold_domain::ids::InstanceId;
use freehold_domain::records::{RecordsView, SubscriptionStatus};
use freehold_domain::reservation::{Power, Reservation, Status};
use freehold_domain::resource::Outcome;
use freehold_domain::run::Work;

use crate::control_plane::take_in;
use crate::ports::{Because, Claimed, DestroyAccepted, RecordsError, Registered, StoreError, WorkAccepted};
use crate::world::World;

/// Why a pass ended early. What it did not reach comes next time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Interrupted {
    /// The records did not answer.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// The registry did not.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Billing did not, or refused.
    #[error("billing did not end a subscription: {0}")]
    Billing(String),
}

/// A walk through the active rows, some at a time.
#[derive(Debug, Default)]
pub struct Walk {
    after: Option<InstanceId>,
}

impl Walk {
    /// Looks at the next rows, at most `limit`, and begins anew behind the last. Answers how many it looked at.
    ///
    /// # Errors
    /// The first [`Interrupted`], once all had their turn.
    pub async fn pass(&mut self, world: &World, limit: usize) -> Result<usize, Interrupted> {
        if !world.standing.may_act() {
            // From the first row, once it is over.
            self.after = None;
            return Ok(0);
        }
        let rows = world.records.active_after(self.after, limit).await?;
        self.after = rows.last().filter(|_| rows.len() == limit).and_then(|view| view.row.as_ref()).map(|r| r.instance);
        let mut outcome = Ok(rows.len());
        for view in &rows {
            if let Err(error) = compare(world, view).await {
                tracing::warn!(%error, "a row could not be compared with the registry");
                outcome = outcome.and(Err(error));
            }
        }
        outcome
    }
}

async fn compare(world: &World, view: &RecordsView) -> Result<(), Interrupted> {
    let Some(row) = &view.row else { return Ok(()) };
    let Some(registered) = world.store.instance_describe(row.instance).await? else {
        if world.records_elsewhere && take_in(world, view).await?.is_some() {
            tracing::info!(instance = %row.instance, "an instance that only the records knew was taken in");
        }
        return Ok(());
    };
    let Registered { reservation, operation, .. } = &registered;
    match reservation.status {
        Status::Released { .. } if operation.status.is_over() => bury(world, reservation).await,
        Status::Completed if reservation.is_active() => agree(world, &registered, view).await,
        Status::InProgress | Status::NeedsReconciliation { .. } | Status::Completed | Status::Released { .. } => Ok(()),
    }
}

/// A row that lives although its instance is gone.
async fn bury(world: &World, reservation: &Reservation) -> Result<(), Interrupted> {
    let instance = reservation.instance;
    // What was read is from before: a row that an operation has just marked is no row that came too late.
    let view = world.records.describe(instance).await?;
    if !view.row_is_active() {
        return Ok(());
    }
    tracing::warn!(%instance, "the records show an instance as active that is gone; marking it");
    let because = Because::of(reservation.operation, "it is released, and its row came back");
    let at = world.clock.now();
    if view.subscription_is_active() {
        match world.billing.end(instance, "instance_destroyed").await {
            Outcome::Done(()) => {}
            // Also a refusal may mean that somebody goes on paying: nothing is marked as ended that billing has not ended.
            Outcome::Rejected(rejection) => return Err(Interrupted::Billing(rejection.detail)),
            Outcome::NotSent(why) | Outcome::Unknown(why) => return Err(Interrupted::Billing(why)),
        }
        world.records.subscription_end(instance, at, &because).await?;
    }
    world.records.mark_destroyed(instance, at, &because).await?;
    Ok(())
}

/// Makes the records of a complete instance agree with the registry, or the registry with them.
///
/// # Errors
/// [`Interrupted`]; nothing of it is lost, the next look begins anew.
pub(super) async fn agree(world: &World, registered: &Registered, view: &RecordsView) -> Result<(), Interrupted> {
    let Registered { reservation, .. } = registered;
    let instance = reservation.instance;
    if !reservation.is_active() || reservation.completed_at.is_none() {
        return Ok(());
    }
    if view.closed {
        return destroy(world, instance).await;
    }
    match view.subscription.as_ref().map(|subscription| subscription.status) {
        Some(SubscriptionStatus::Active | SubscriptionStatus::Suspended) if view.row_is_active() => Ok(()),
        Some(SubscriptionStatus::Ended) if view.row_is_active() => stop(world, reservation).await,
        Some(_) | None => work(world, instance, Work::Mend).await.map(|_| ()),
    }
}

async fn destroy(world: &World, instance: InstanceId) -> Result<(), Interrupted> {
    let asked_at = world.clock.monotonic();
    let asked = world.asked_by_itself("records");
    let reason = Some("the records say that it is destroyed".to_owned());
    match world.store.destroy_intent_set(instance, reason, asked).await? {
        DestroyAccepted::Finished | DestroyAccepted::Underway(_) => {}
        DestroyAccepted::Accepted { run, .. } => {
            tracing::warn!(%instance, "the records say that a complete instance is destroyed; destroying it");
            world.driver.changed(instance, run.operation.id);
            if let Some(lease) = run.lease() {
                world.driver.run(Claimed { run: *run, lease, asked_at });
            }
        }
    }
    Ok(())
}

async fn stop(world: &World, reservation: &Reservation) -> Result<(), Interrupted> {
    if reservation.power == Power::Off {
        return Ok(());
    }
    if work(world, reservation.instance, Work::Stop).await? {
        let detail = "the records say that its subscription has ended".to_owned();
        let (kind, at) = (EventKind::Suspended, world.clock.now());
        world.store.witness(reservation.instance, kind, Actor::System, at, detail).await?;
    }
    Ok(())
}

/// Begins work. Answers whether it did.
async fn work(world: &World, instance: InstanceId, work: Work) -> Result<bool, Interrupted> {
    let asked_at = world.clock.monotonic();
    match world.store.work_begin(instance, work, world.asked_by_itself("records")).await {
        Ok(WorkAccepted::Accepted { run, .. }) => {
            world.driver.changed(instance, run.operation.id);
            if let Some(lease) = run.lease() {
                world.driver.run(Claimed { run: *run, lease, asked_at });
            }
            Ok(true)
        }
        Ok(WorkAccepted::NothingToDo | WorkAccepted::Underway(_) | WorkAccepted::Refused(_)) => Ok(false),
        Err(StoreError::Missing(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
