//! Destroys that do not get on: told once when they are late, and every hour after that. They are never dropped.

use std::collections::HashMap;
use std::time::Duration;

use freehold_domain::event::{Actor, EventKind};
use freehold_domain::ids::InstanceId;

use crate::ports::StoreError;
use crate::world::World;

/// How often a destroy that is stuck is told of again.
const TOLD_AGAIN_EVERY: Duration = Duration::from_secs(3600);

/// How many are told of in one pass.
const STUCK_MAX: usize = 200;

/// What this node has told of, by its monotonic clock. Losing it tells once more.
#[derive(Debug, Default)]
pub struct Told(HashMap<InstanceId, Duration>);

/// Tells of every destroy that is late. Answers how many are. One that cannot be told of holds up none behind it, and is
/// told of in the next pass.
///
/// # Errors
/// [`StoreError`] if the late ones cannot be listed.
pub async fn pass(world: &World, told: &mut Told) -> Result<usize, StoreError> {
    let now = world.clock.now();
    let span = i64::try_from(world.policy.destroy_stuck_after.as_micros()).unwrap_or(i64::MAX);
    let before = freehold_domain::time::Timestamp::from_micros(now.as_micros().saturating_sub(span));
    let stuck = world.store.stuck_list(before, STUCK_MAX).await?;
    let tick = world.clock.monotonic();
    told.0.retain(|instance, _| stuck.iter().any(|late| late.instance == *instance));
    for late in &stuck {
        if told.0.get(&late.instance).is_some_and(|last| tick < *last + TOLD_AGAIN_EVERY) {
            continue;
        }
        let why = late.last_error.clone().unwrap_or_else(|| "no error is on record".to_owned());
        tracing::warn!(instance = %late.instance, since = late.since.as_micros(), %why, "a destroy does not get on");
        match world.store.witness(late.instance, EventKind::DestroyStuck, Actor::System, now, why).await {
            Ok(()) => {
                told.0.insert(late.instance, tick);
            }
            Err(error) => tracing::warn!(instance = %late.instance, %error, "it is not on the audit trail"),
        }
    }
    Ok(stuck.len())
}
