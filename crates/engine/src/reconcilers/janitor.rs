//! Resources that carry our tags and that nothing refers to: found here, judged by the domain, removed by an operation.
//!
//! - A pass only reads and, at most, begins sweeps; no resource is touched from here. Seals that no late call can need any
//!   more are the provider's own to remove, and it is asked to.
//! - It begins with a look at the provider; the look at the registry comes after it, and the judgement holds for the
//!   epoch it was made under: an instance that changed hands since is left to the next pass.
//! - What a node has seen lives in its memory. Losing it costs time: the first pass of a process never sweeps.
//! - A provider that does not answer holds up no other.
//! - Until [`Policy::janitor_looks_until`](crate::world::Policy) it looks, remembers and tells, and removes nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use freehold_domain::ids::InstanceId;
use freehold_domain::lease::{Epoch, ProviderName};
use freehold_domain::resource::{Custody, Found, Resource, ResourceKind};
use freehold_domain::sweep::{Sighting, Verdict, judge};

use crate::ports::{Claimed, OwnedPage, OwnedResource, Provider, StoreError};
use crate::world::World;

/// How many pages of one provider a pass reads: a million resources at a hundred a page. A list that is longer never
/// ends.
const PAGES_MAX: u32 = 10_000;

/// How many resources without anything that refers to them are remembered: more than any honest provider has. The others
/// wait until those are gone.
const SIGHTS_MAX: usize = 10_000;

/// How many resources one sweep takes on: few enough for one row. The others have the next sweep.
const SWEPT_AT_ONCE_MAX: usize = 32;

/// One thing at one provider.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Thing {
    provider: ProviderName,
    kind: ResourceKind,
    id: String,
}

#[derive(Clone, Copy, Debug)]
struct Sight {
    /// When it was first seen without anything that refers to it, by the monotonic clock.
    first: Duration,
    /// In how many passes it was.
    passes: u32,
    /// The last of them.
    last_pass: u64,
}

/// What this node has seen that nothing refers to, in unbroken series of passes.
#[derive(Debug, Default)]
pub struct Seen {
    pass: u64,
    sights: BTreeMap<Thing, Sight>,
}

impl Seen {
    /// What is known of a thing, with the pass at hand, whose look began at `asked_at`.
    fn sighting(&self, thing: &Thing, asked_at: Duration) -> Sighting {
        match self.sights.get(thing) {
            None => Sighting::FIRST,
            Some(sight) => Sighting {
                passes: sight.passes + u32::from(sight.last_pass != self.pass),
                age: asked_at.saturating_sub(sight.first),
            },
        }
    }

    fn remember(&mut self, thing: Thing, sighting: Sighting, now: Duration) {
        let pass = self.pass;
        if let Some(sight) = self.sights.get_mut(&thing) {
            sight.passes = sighting.passes;
            sight.last_pass = pass;
        } else if self.sights.len() < SIGHTS_MAX {
            self.sights.insert(thing, Sight { first: now, passes: sighting.passes, last_pass: pass });
        }
    }

    /// Forgets what a whole pass over a provider did not see.
    fn forget_unseen(&mut self, provider: &ProviderName) {
        let pass = self.pass;
        self.sights.retain(|thing, sight| thing.provider != *provider || sight.last_pass == pass);
    }
}

/// What a pass saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Resources that are their instance's own.
    pub referenced: u64,
    /// Resources of instances that are not settled.
    pub busy: u64,
    /// Resources that name our installation and are not ours. Never touched.
    pub foreign: u64,
    /// Resources of ours that the registry does not know. Never touched.
    pub unknown: u64,
    /// Resources that nothing refers to, and that were not seen often or long enough.
    pub young: u64,
    /// Resources that nothing refers to and that are removed from now on.
    pub swept: u64,
    /// Resources that nothing refers to and that would be removed from now on, but for the dry run.
    pub would_sweep: u64,
    /// Providers that did not answer, or not to the end, and things that could not be looked into.
    pub unanswered: u64,
}

/// Goes through everything that carries our tags, at every provider, and has removed what nothing refers to. Not while the
/// registry is in quarantine: what refers to a resource is not known then.
///
/// # Errors
/// The first [`StoreError`], once all had their turn; what was not judged has its turn in the next pass.
pub async fn pass(world: &World, seen: &mut Seen) -> Result<Tally, StoreError> {
    if !world.standing.may_act() {
        *seen = Seen::default();
        return Ok(Tally::default());
    }
    seen.pass += 1;
    let mut tally = Tally::default();
    let mut outcome = Ok(());
    for (name, provider) in &world.providers {
        let mut walk = Walk { world, name, provider: provider.as_ref(), seen, tally: &mut tally };
        outcome = outcome.and(walk.go().await);
        if world.clock.monotonic() >= world.janitor_looks_until() && provider.capabilities().seals {
            forget_seals(world, name, provider.as_ref()).await;
        }
    }
    let Tally { referenced, busy, foreign, unknown, young, swept, would_sweep, unanswered } = tally;
    world.meter.janitor("unanswered", unanswered);
    // What was not seen is not gone: the other gauges stay as they are.
    let states = [
        ("referenced", referenced),
        ("busy", busy),
        ("foreign", foreign),
        ("unknown", unknown),
        ("young", young),
        ("swept", swept),
        ("would_sweep", would_sweep),
    ];
    for (state, count) in states.into_iter().filter(|_| unanswered == 0) {
        world.meter.janitor(state, count);
    }
    if foreign + unknown > 0 {
        tracing::warn!(foreign, unknown, "resources that are not this registry's carry its name; they are left alone");
    }
    if would_sweep > 0 {
        tracing::warn!(would_sweep, "a dry run of the janitor leaves what nothing refers to where it is");
    }
    outcome.map(|()| tally)
}

/// Has a provider remove what keeps up seals that nobody needs any more. What it cannot remove it removes another time.
async fn forget_seals(world: &World, name: &ProviderName, provider: &dyn Provider) {
    let forgotten = provider.forget_seals().await;
    let answered = if forgotten.is_ok() { "answered" } else { "unanswered" };
    world.meter.provider_request(name.as_str(), "forget_seals", answered);
    match forgotten {
        Ok(0) => {}
        Ok(count) => tracing::info!(provider = %name, count, "old seals are not needed any more; removed"),
        Err(unanswered) => tracing::warn!(provider = %name, %unanswered, "old seals cannot be removed"),
    }
}

/// One pass over one provider.
struct Walk<'a> {
    world: &'a World,
    name: &'a ProviderName,
    provider: &'a dyn Provider,
    seen: &'a mut Seen,
    tally: &'a mut Tally,
}

impl Walk<'_> {
    async fn go(&mut self) -> Result<(), StoreError> {
        let mut outcome = Ok(());
        let (mut page, mut all_seen) = (None, true);
        for _ in 0..PAGES_MAX {
            let asked_at = self.world.clock.monotonic();
            let listed = self.provider.list_owned(self.world.idents.install().as_str(), page.as_deref()).await;
            let answered = if listed.is_ok() { "answered" } else { "unanswered" };
            self.world.meter.provider_request(self.name.as_str(), "list_owned", answered);
            let OwnedPage { resources, unseen, next } = match listed {
                Ok(page) => page,
                Err(unanswered) => {
                    tracing::warn!(provider = %self.name, %unanswered, "the janitor cannot see what is there");
                    self.tally.unanswered += 1;
                    return outcome;
                }
            };
            outcome = outcome.and(self.judge_page(resources, asked_at).await);
            self.tally.unanswered += unseen;
            all_seen &= unseen == 0;
            page = next;
            if page.is_none() {
                if outcome.is_ok() && all_seen {
                    self.seen.forget_unseen(self.name);
                }
                return outcome;
            }
        }
        tracing::warn!(provider = %self.name, pages = PAGES_MAX, "the list of what is there does not end");
        self.tally.unanswered += 1;
        outcome
    }

    /// Judges a page, instance by instance. One that cannot be judged holds up none behind it.
    async fn judge_page(&mut self, resources: Vec<OwnedResource>, asked_at: Duration) -> Result<(), StoreError> {
        let mut by_instance: BTreeMap<InstanceId, Vec<Found>> = BTreeMap::new();
        for OwnedResource { resource, claim } in resources {
            let Some(instance) = self.world.idents.whose(&claim) else {
                tracing::info!(provider = %self.name, kind = %resource.kind, id = resource.id, "it is somebody else's");
                self.tally.foreign += 1;
                continue;
            };
            by_instance.entry(instance).or_default().push(Found { resource, custody: Custody::Ours });
        }
        let mut outcome = Ok(());
        for (instance, found) in by_instance {
            if let Err(error) = self.judge_instance(instance, found, asked_at).await {
                tracing::warn!(%instance, %error, "what is there of an instance could not be judged");
                outcome = outcome.and(Err(error));
            }
        }
        outcome
    }

    async fn judge_instance(
        &mut self,
        instance: InstanceId,
        found: Vec<Found>,
        asked_at: Duration,
    ) -> Result<(), StoreError> {
        let registered = self.world.store.instance_describe(instance).await?;
        let known = registered.as_ref().map(|registered| (&registered.reservation, &registered.operation));
        let horizon = self.provider.capabilities().settle_horizon.max(self.world.policy.lease);
        let now = self.world.clock.monotonic();
        let mut orphans = Vec::new();
        for found in found {
            let Resource { kind, id, region: _, handle: _ } = &found.resource;
            let thing = Thing { provider: self.name.clone(), kind: *kind, id: id.clone() };
            let sighting = self.seen.sighting(&thing, asked_at);
            let verdict = judge(&found, self.name, known, sighting, horizon);
            if verdict.is_unreferenced() {
                self.seen.remember(thing, sighting, now);
            } else {
                self.seen.sights.remove(&thing);
            }
            match verdict {
                Verdict::Referenced => self.tally.referenced += 1,
                Verdict::Busy => self.tally.busy += 1,
                Verdict::Foreign => self.tally.foreign += 1,
                Verdict::Unknown => {
                    tracing::info!(provider = %self.name, %instance, kind = %kind, id, "nobody here knows it");
                    self.tally.unknown += 1;
                }
                Verdict::SeenOnce | Verdict::TooYoung => self.tally.young += 1,
                Verdict::Sweep => orphans.push(found.resource),
            }
        }
        match registered {
            Some(registered) if !orphans.is_empty() => {
                self.sweep(instance, registered.reservation.epoch, orphans).await
            }
            Some(_) | None => Ok(()),
        }
    }

    async fn sweep(&mut self, instance: InstanceId, held: Epoch, mut orphans: Vec<Resource>) -> Result<(), StoreError> {
        let world = self.world;
        orphans.truncate(SWEPT_AT_ONCE_MAX);
        let count = orphans.len() as u64;
        let asked_at = world.clock.monotonic();
        if asked_at < world.janitor_looks_until() {
            for Resource { kind, id, region: _, handle: _ } in &orphans {
                tracing::warn!(provider = %self.name, %instance, %kind, id, "would remove it: nothing refers to it");
            }
            self.tally.would_sweep += count;
            return Ok(());
        }
        let asked = world.asked_by_itself("janitor");
        match world.store.sweep_begin(instance, held, orphans, world.mint_leak(), asked).await {
            Ok(run) => {
                tracing::info!(%instance, resources = count, "nothing refers to them; removing them");
                self.tally.swept += count;
                world.driver.changed(instance, run.operation.id);
                if let Some(lease) = run.lease() {
                    world.driver.run(Claimed { run, lease, asked_at });
                }
                Ok(())
            }
            // It changed hands since it was judged.
            Err(StoreError::Refused(_) | StoreError::Missing(_)) => {
                self.tally.busy += count;
                Ok(())
            }
            Err(
                error @ (StoreError::Unavailable(_)
                | StoreError::Unknown(_)
                | StoreError::Corrupt(_)
                | StoreError::Quarantined(_)),
            ) => Err(error),
        }
    }
}
