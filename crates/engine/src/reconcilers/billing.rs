//! Subscriptions that were started without billing: billing is told of each until it has heard.
//!
//! One that billing does not take is asked about again with doubling waits and holds up no other. The waits are this
//! node's own: losing them asks once more, and billing is idempotent by instance.

use std::collections::HashMap;
use std::time::Duration;

use freehold_domain::event::{Actor, EventKind};
use freehold_domain::ids::InstanceId;
use freehold_domain::records::{InstanceRow, Subscription};
use freehold_domain::resource::Outcome;

use crate::ports::{Because, RecordsError, SubscriptionTerms};
use crate::world::World;

/// The first wait after a failure.
const WAIT_MIN: Duration = Duration::from_secs(60);

/// The longest one: whoever mends billing waits no longer for what is owed.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// How many waits are kept; beyond it those that are over are forgotten, and failing that all.
const WAITS_MAX: usize = 10_000;

#[derive(Clone, Copy, Debug)]
struct Wait {
    /// By this node's monotonic clock.
    until: Duration,
    span: Duration,
}

/// What this node has asked in vain.
#[derive(Debug, Default)]
pub struct Waits(HashMap<InstanceId, Wait>);

impl Waits {
    fn holds(&self, instance: InstanceId, now: Duration) -> bool {
        self.0.get(&instance).is_some_and(|wait| now < wait.until)
    }

    fn failed(&mut self, instance: InstanceId, now: Duration) {
        if self.0.len() >= WAITS_MAX {
            self.0.retain(|_, wait| now < wait.until);
            if self.0.len() >= WAITS_MAX {
                self.0.clear();
            }
        }
        let span = self.0.get(&instance).map_or(WAIT_MIN, |wait| wait.span.saturating_mul(2).min(WAIT_MAX));
        self.0.insert(instance, Wait { until: now + span, span });
    }
}

/// Tells billing of what it has not heard of, at most `limit`. Answers how many it has heard of since.
///
/// # Errors
/// [`RecordsError`] if they cannot be listed. What cannot be put on record is told again.
pub async fn pass(world: &World, waits: &mut Waits, limit: usize) -> Result<usize, RecordsError> {
    if !world.standing.may_act() {
        return Ok(0);
    }
    // Those that wait are on the list as well.
    let unreported = world.records.unreported(limit.saturating_add(waits.0.len())).await?;
    let mut heard = 0;
    let mut asked = 0;
    for view in unreported {
        let (Some(row), Some(subscription)) = (view.row, view.subscription) else { continue };
        let instance = row.instance;
        if asked == limit || waits.holds(instance, world.clock.monotonic()) {
            continue;
        }
        asked += 1;
        let (kind, detail) = match report(world, &row, subscription).await {
            Ok(()) => {
                waits.0.remove(&instance);
                heard += 1;
                (EventKind::SubscriptionReported, String::new())
            }
            Err(why) => {
                waits.failed(instance, world.clock.monotonic());
                tracing::warn!(%instance, %why, "billing could not be told of a subscription");
                (EventKind::SubscriptionReportFailed, why)
            }
        };
        if let Err(error) = world.store.witness(instance, kind, Actor::System, world.clock.now(), detail).await {
            tracing::warn!(%instance, %error, "what billing heard is not on the audit trail");
        }
    }
    Ok(heard)
}

async fn report(world: &World, row: &InstanceRow, subscription: Subscription) -> Result<(), String> {
    let Subscription { id, plan, price_version, ended_at, .. } = subscription;
    let (terms, why) = if ended_at.is_some() {
        // Whoever ended it told billing of its start first.
        (SubscriptionTerms { id, plan, price_version }, "billing heard of it when it ended")
    } else {
        let terms = match world.billing.start(row.instance, &row.context, &price_version, id).await {
            Outcome::Done(terms) => terms,
            Outcome::NotSent(why) | Outcome::Unknown(why) => return Err(why),
            Outcome::Rejected(rejection) => return Err(rejection.detail),
        };
        (terms, "billing has heard of it")
    };
    let because = Because { actor: Actor::System, operation: None, reason: why.to_owned() };
    let written = world.records.subscription_reported(row.instance, terms, &because).await;
    written.map(|_| ()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_an_hour_and_are_each_ones_own() {
        let (one, other) = (InstanceId::mint(1, [1; 10]), InstanceId::mint(1, [2; 10]));
        let mut waits = Waits::default();
        let mut now = Duration::ZERO;
        let mut spans = Vec::new();
        for _ in 0..8 {
            waits.failed(one, now);
            let span = waits.0[&one].span;
            assert!(waits.holds(one, now + span - Duration::from_millis(1)) && !waits.holds(one, now + span));
            spans.push(span.as_secs());
            now += span;
        }
        assert_eq!(spans, [60, 120, 240, 480, 960, 1920, 3600, 3600]);
        assert!(!waits.holds(other, Duration::ZERO));
    }
}
