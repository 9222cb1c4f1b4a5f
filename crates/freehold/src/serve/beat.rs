//! The heartbeat: this node tells the registry that it is there, and hears what it is to do.
//!
//! - It is on record before it does anything, and its first orders are in effect.
//! - What it says it does, it does: the beat that says that it is no executor goes out once it takes on nothing any more,
//!   and goes out at once.
//! - A registry that does not answer changes nothing: the last orders stand. Leases say who may do what.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use freehold_domain::lease::{Holder, ProviderName};
use freehold_engine::duty::LaidDown;
use freehold_engine::ports::{Clock as _, Elsewhere, NodeBeat, NodeOrders, Share, Store, StoreError};
use freehold_engine::world::World;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::clock::SystemClock;
use crate::config::Roles;

/// The longest time between two beats: a third of what a node may be silent before the others take its share.
const EVERY_MAX: Duration = Duration::from_secs(5);

/// How long the registry may take to hear that this node ends.
const FAREWELL_MAX: Duration = Duration::from_secs(1);

/// Where this node begins, for whoever looks at the timers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Orders(Arc<Mutex<Share>>);

impl Orders {
    /// With which part of the timers to begin.
    pub(crate) fn share(&self) -> Share {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, share: Share) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = share;
    }
}

/// What a node tells of itself, and how often.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) holder: Holder,
    pub(crate) roles: Roles,
    pub(crate) address: String,
    pub(crate) providers: Vec<ProviderName>,
    pub(crate) every: Duration,
}

impl Told {
    fn beat(&self, roles: String) -> NodeBeat {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let Self { holder, roles: _, address, providers, every: _ } = self.clone();
        NodeBeat { holder, roles, version, address, providers }
    }
}

/// A node that is on record, and not at work yet.
pub(crate) struct Started {
    told: Told,
    /// The store's clock is followed by this one; `None` where the store has none of its own.
    follower: Option<Arc<SystemClock>>,
    first: NodeOrders,
}

/// Puts the node on record. `follower` follows the store's clock from then on.
///
/// # Errors
/// [`StoreError`] if the store does not answer.
pub(crate) async fn start(
    store: &dyn Store,
    told: Told,
    follower: Option<Arc<SystemClock>>,
) -> Result<Started, StoreError> {
    let asked_at = follower.as_ref().map(|clock| clock.monotonic());
    let first = store.node_start(told.beat(told.roles.to_string())).await?;
    if let (Some(clock), Some(asked_at)) = (&follower, asked_at) {
        clock.follow(first.now, asked_at, clock.monotonic());
    }
    Ok(Started { told, follower, first })
}

impl Started {
    /// Says that this node does nothing after all.
    pub(crate) async fn leave(&self, store: &dyn Store) {
        farewell(store, &self.told).await;
    }

    /// The heart of a node over a world that took up its duty.
    pub(crate) fn over(self, world: Arc<World>) -> Heart {
        let Self { told, follower, first } = self;
        let heart = Heart { told, follower, world, orders: Orders::default(), lately: Arc::default() };
        heart.obey(first);
        heart
    }
}

async fn farewell(store: &dyn Store, told: &Told) {
    let farewell = store.node_beat(told.beat(String::new()));
    if !matches!(timeout(FAREWELL_MAX, farewell).await, Ok(Ok(_))) {
        tracing::info!("the registry did not hear that this node ends; it will see that it is silent");
    }
}

/// What beats.
#[derive(Clone)]
pub(crate) struct Heart {
    told: Told,
    follower: Option<Arc<SystemClock>>,
    world: Arc<World>,
    orders: Orders,
    lately: Arc<Mutex<Lately>>,
}

/// What others had lately. A node that is restarted is back in a moment, and its operations wait for it so long.
#[derive(Debug, Default)]
struct Lately {
    executed: BTreeMap<ProviderName, Instant>,
    watched: BTreeMap<ProviderName, Instant>,
}

/// How long operations wait for the last node that had their provider.
const WAITS_FOR: Duration = Duration::from_secs(60);

impl Lately {
    /// What others have, and had a moment ago.
    fn with(&mut self, elsewhere: Elsewhere, now: Instant) -> Elsewhere {
        let keep = |lately: &mut BTreeMap<ProviderName, Instant>, there: Vec<ProviderName>| {
            lately.extend(there.into_iter().map(|provider| (provider, now)));
            lately.retain(|_, heard| now.saturating_duration_since(*heard) < WAITS_FOR);
            lately.keys().cloned().collect()
        };
        let Elsewhere { executed, watched } = elsewhere;
        Elsewhere { executed: keep(&mut self.executed, executed), watched: keep(&mut self.watched, watched) }
    }
}

impl Heart {
    /// What it hears.
    pub(crate) fn orders(&self) -> Orders {
        self.orders.clone()
    }

    /// Beats until the end, and says then that this node does nothing any more.
    pub(crate) async fn beat(self, stop: CancellationToken) {
        let mut rest = self.told.every.min(EVERY_MAX);
        let mut silent = false;
        while stop.run_until_cancelled(sleep(rest)).await.is_some() {
            rest = self.told.every.min(EVERY_MAX);
            match self.beat_once().await {
                Ok(changed) => {
                    if silent {
                        tracing::info!("the registry hears this node again");
                    }
                    silent = false;
                    if changed {
                        rest = Duration::ZERO;
                    }
                }
                Err(error) if silent => tracing::debug!(%error, "the registry does not hear this node"),
                Err(error) => {
                    tracing::warn!(%error, "the registry does not hear this node; its last orders stand");
                    silent = true;
                }
            }
        }
        farewell(self.world.store.as_ref(), &self.told).await;
    }

    /// Tells the registry what this node does, and does what it hears. Answers whether that changed what it does.
    async fn beat_once(&self) -> Result<bool, StoreError> {
        let takes = self.world.duty.takes();
        let roles = Roles { executor: takes, ..self.told.roles };
        let asked_at = self.world.clock.monotonic();
        let orders = self.world.store.node_beat(self.told.beat(roles.to_string())).await?;
        if let Some(clock) = &self.follower {
            clock.follow(orders.now, asked_at, clock.monotonic());
        }
        self.obey(orders);
        Ok(self.world.duty.takes() != takes)
    }

    fn obey(&self, orders: NodeOrders) {
        let NodeOrders { draining, superseded, share, elsewhere, now: _ } = orders;
        let laid_down = match (superseded, draining) {
            (true, _) => Some(LaidDown::Superseded),
            (false, true) => Some(LaidDown::Draining),
            (false, false) => None,
        };
        let before = self.world.duty.set(laid_down);
        match laid_down {
            _ if laid_down == before => {}
            Some(LaidDown::Draining) => tracing::info!("draining: taking on nothing, giving back what runs"),
            Some(LaidDown::Superseded) => tracing::error!(
                node = %self.told.holder.node,
                "another process serves this registry by this node's name, and started later: taking on nothing. \
                 End one of them, or give each a node_id of its own"
            ),
            None => tracing::info!("taking on work again"),
        }
        let elsewhere = self.lately.lock().unwrap_or_else(PoisonError::into_inner).with(elsewhere, Instant::now());
        if *self.world.duty.elsewhere() != elsewhere {
            let names: Vec<&str> = elsewhere.executed.iter().map(ProviderName::as_str).collect();
            match names.is_empty() {
                true => tracing::info!("taking on operations of all providers"),
                false => tracing::info!(
                    providers = names.join(","),
                    "leaving operations to the nodes that have their provider"
                ),
            }
            self.world.duty.leave(elsewhere);
        }
        if self.orders.share() != share {
            tracing::info!(index = share.index, of = share.of, "this node's part of the timers");
            self.orders.set(share);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_had_is_left_to_them_for_a_while() {
        let named = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect::<Vec<ProviderName>>();
        let there = |names: &[&str]| Elsewhere { executed: named(names), watched: Vec::new() };
        let (mut lately, began) = (Lately::default(), Instant::now());
        assert_eq!(lately.with(there(&["fly"]), began), there(&["fly"]));
        assert_eq!(lately.with(there(&["docker"]), began + WAITS_FOR / 2), there(&["docker", "fly"]));
        assert_eq!(lately.with(there(&[]), began + WAITS_FOR), there(&["docker"]), "fly is gone for good");
        assert_eq!(lately.with(there(&[]), began + WAITS_FOR * 2), there(&[]));
    }
}
