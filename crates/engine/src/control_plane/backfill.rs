//! An owner that the registry has never seen, and that the records may know: its instances are taken in before anything
//! new is made for it.
//!
//! - The records are asked once per owner. While they do not answer the owner does not count as asked for, and nobody
//!   waits for them more often than once in a while.
//! - What is taken in takes its context's place at once. It is published by its operation, once it is found at its
//!   provider and the records show that somebody pays.

use freehold_domain::ids::InstanceId;
use freehold_domain::owner::Owner;
use freehold_domain::records::{InstanceRow, RecordsView};
use freehold_domain::run::Bid;

use super::{ControlPlane, SpecRequest};
use crate::ports::{RecordsError, StoreError};
use crate::spec::Spec;
use crate::world::World;

/// The most rows of one owner that are taken in.
const INSTANCES_PER_OWNER_MAX: usize = 1_000;

/// Why an owner's instances could not all be taken in. What was not is tried again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BackfillFailed {
    /// The records did not answer.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// The registry did not.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ControlPlane {
    /// Asks the records for an owner that was never asked for. Answers whether it is asked for since, or was before.
    pub(super) async fn backfill(&self, owner: &Owner) -> bool {
        let world = &self.world;
        if !world.records_elsewhere {
            return true;
        }
        if matches!(world.store.owner_is_backfilled(owner).await, Ok(true)) {
            return true;
        }
        let now = world.clock.monotonic();
        if !world.standing.may_act() {
            return false;
        }
        if self.records_silent.was_recent(owner, now, world.policy.records_pause) {
            return false;
        }
        match backfill(world, owner).await {
            Ok(taken_in) => {
                if taken_in > 0 {
                    tracing::info!(taken_in, "an owner seen for the first time has instances on record");
                }
                true
            }
            Err(error) => {
                self.records_silent.is_recent(owner.clone(), now, world.policy.records_pause);
                tracing::warn!(%error, "the records could not be asked for an owner seen for the first time");
                false
            }
        }
    }
}

async fn backfill(world: &World, owner: &Owner) -> Result<usize, BackfillFailed> {
    let mut taken_in = 0;
    for view in world.records.active_of(owner, INSTANCES_PER_OWNER_MAX).await? {
        taken_in += usize::from(take_in(world, &view).await?.is_some());
    }
    world.store.owner_backfilled_set(owner).await?;
    Ok(taken_in)
}

/// Takes in the instance of an active row, unless the registry knows it.
///
/// # Errors
/// [`StoreError`]; nothing was written then.
pub(crate) async fn take_in(world: &World, view: &RecordsView) -> Result<Option<InstanceId>, StoreError> {
    let Some(row) = view.row.as_ref().filter(|_| view.row_is_active()) else { return Ok(None) };
    let InstanceRow { instance, context, provider, tier, created_at: _, destroyed_at: _ } = row;
    let price_version = view.subscription.as_ref().map(|subscription| subscription.price_version.clone());
    let bid = Bid {
        instance: *instance,
        context: context.clone(),
        provider: provider.clone(),
        tier: tier.clone(),
        price_version: price_version.unwrap_or_else(|| world.policy.price_version.clone()),
        regions: Vec::new(),
        named: None,
        spec: spec_of(world, row).freeze(),
    };
    let asked = world.asked_by_itself("backfill");
    let asked_at = world.clock.monotonic();
    let Some(run) = world.store.take_in(bid, Vec::new(), asked).await? else { return Ok(None) };
    world.driver.changed(*instance, run.operation.id);
    if let Some(lease) = run.lease() {
        world.driver.run(crate::ports::Claimed { run, lease, asked_at });
    }
    Ok(Some(*instance))
}

/// What an instance runs that nobody here made: what it would run if it were asked for without a word. Its next update
/// says what it is to be.
fn spec_of(world: &World, row: &InstanceRow) -> Spec {
    let request = SpecRequest::default();
    let template = super::provision::template(&world.policy, &request).unwrap_or_default();
    let tier = world.policy.tiers.get(&row.tier);
    Spec {
        template: None,
        tier: row.tier.to_string(),
        image: template.image,
        command: template.command,
        env: template.env,
        secrets: std::collections::BTreeMap::new(),
        memory_mb: tier.map_or(0, |tier| tier.memory_mb),
        cpu_millis: tier.map_or(0, |tier| tier.cpu_millis),
        volume_gb: tier.map_or(0, |tier| tier.volume_gb),
    }
}
