//! Operations whose timer has rung: lapsed leases, rests that are over, clean-ups and destroys to try again. They are one
//! list, because a lapsed lease is nothing but a timer that rang.

use freehold_domain::ids::OperationId;
use freehold_domain::time::Timestamp;

use crate::ports::{Share, StoreError};
use crate::world::World;

/// What a pass found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// To be run now, most overdue first: see [`crate::executor::Executor::work_once`].
    pub operations: Vec<OperationId>,
    /// When to look again at the latest, if nothing is to be run.
    pub next: Option<Timestamp>,
}

/// Lists what is due, at most `limit`, that of `share` first, without what is left to other nodes; nothing while the
/// registry is in quarantine.
///
/// # Errors
/// [`StoreError`] if the store does not answer.
pub async fn pass(world: &World, limit: usize, share: Share) -> Result<Due, StoreError> {
    if !world.standing.may_act() {
        return Ok(Due { operations: Vec::new(), next: Some(Timestamp::NEVER) });
    }
    let operations = world.store.due_list(limit, share, &world.duty.elsewhere().executed).await?;
    let next = if operations.is_empty() { world.store.due_next().await? } else { None };
    Ok(Due { operations, next })
}

/// Rings the timers of what earlier lives of this node held. To be called once, at start-up.
///
/// # Errors
/// [`StoreError`] if the store does not answer; leases lapse all the same.
pub async fn returned(world: &World) -> Result<u64, StoreError> {
    world.store.node_returned(&world.holder.node, world.holder.incarnation).await
}
