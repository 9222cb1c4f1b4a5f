//! Idempotency records whose time is over.

use freehold_domain::time::Timestamp;

use crate::ports::StoreError;
use crate::world::World;

/// How many records one commit forgets: few enough not to hold anybody up.
const PURGED_AT_ONCE: usize = 500;

/// Forgets what is old, a bounded number. Answers whether there may be more.
///
/// # Errors
/// [`StoreError`] if the store does not answer.
pub async fn pass(world: &World) -> Result<bool, StoreError> {
    let kept = i64::try_from(world.policy.idempotency_kept.as_micros()).unwrap_or(i64::MAX);
    let before = Timestamp::from_micros(world.clock.now().as_micros().saturating_sub(kept));
    Ok(world.store.idempotency_purge(before, PURGED_AT_ONCE).await? >= PURGED_AT_ONCE as u64)
}
