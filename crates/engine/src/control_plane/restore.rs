//! The way out of a quarantine: what the registry says is compared with what the providers show, somebody looks at the
//! difference, and then everything that was promised after the backup is worth nothing.
//!
//! Comparing changes nothing, and nothing that it finds is removed by it. What the registry does not know stays where it
//! is for ever; what it does not refer to is the janitor's, who only tells of it for an hour.

use std::collections::{BTreeSet, HashSet};

use freehold_domain::ids::InstanceId;
use freehold_domain::lease::ProviderName;
use freehold_domain::owner::Context;
use freehold_domain::reservation::Status;
use freehold_domain::resource::ResourceKind;
use freehold_domain::time::Timestamp;

use super::ControlPlane;
use crate::ports::{InstanceQuery, OwnedPage, OwnedResource, Provider, Quarantined, StoreError};
use crate::world::World;

/// By how much every epoch rises behind a backup: by more than an instance can have changed hands since. A change of hands
/// takes a lease to lapse, or somebody who asks for something; a million of them are one each second for twelve days on one
/// instance, and the number leaves room for eight billion restores.
const RAISE: u64 = 1 << 20;

/// How many things a comparison names of each sort. All are counted.
const NAMED_MAX: usize = 1_000;

/// How many pages of one provider are read: as many as the janitor reads.
const PAGES_MAX: u32 = 10_000;

/// How many instances are read at once.
const INSTANCES_AT_ONCE: usize = 500;

/// Where a registry stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreStatus {
    /// Why nothing is changed, where that is so.
    pub quarantine: Option<Quarantined>,
    /// When the last quarantine was over.
    pub over_at: Option<Timestamp>,
    /// How far the audit trail is.
    pub position: u64,
    /// What the providers show, where they were asked.
    pub comparison: Option<Comparison>,
}

/// Named up to a number, counted to the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named<T> {
    /// The first ones.
    pub named: Vec<T>,
    /// How many there are.
    pub count: u64,
}

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self { named: Vec::new(), count: 0 }
    }
}

impl<T> Named<T> {
    fn add(&mut self, one: T) {
        self.count += 1;
        if self.named.len() < NAMED_MAX {
            self.named.push(one);
        }
    }
}

/// What one provider answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looked {
    /// Which.
    pub provider: ProviderName,
    /// How many resources of this installation it showed.
    pub resources: u64,
    /// Why that is not all, where it is not.
    pub unanswered: Option<String>,
}

/// A resource of this installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Where it is.
    pub provider: ProviderName,
    /// What it is.
    pub kind: ResourceKind,
    /// Its id there.
    pub id: String,
    /// Whose it is, by its name or its tags.
    pub instance: InstanceId,
}

/// An instance of which no provider shows anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotShown {
    /// Which.
    pub instance: InstanceId,
    /// Whose.
    pub context: Context,
    /// Where it was to be.
    pub provider: ProviderName,
    /// Its reservation's status.
    pub status: &'static str,
}

/// What registry and providers say of one another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Each provider of the configuration.
    pub providers: Vec<Looked>,
    /// What the registry does not know. Nobody here touches it.
    pub unknown: Named<Shown>,
    /// What the registry says is over. The janitor removes it, an hour after the quarantine.
    pub unreferenced: Named<Shown>,
    /// What the registry has on record, and no provider shows.
    pub missing: Named<NotShown>,
    /// Resources that carry this installation's name, and are not its own.
    pub foreign: u64,
}

/// What confirming came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// How many instances were taken on again.
    pub raised: u64,
    /// What the providers showed before it.
    pub comparison: Comparison,
}

/// Why the quarantine goes on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreRefused {
    /// A provider did not show everything.
    #[error("{provider} did not show everything that is there: {why}")]
    Unanswered {
        /// Which.
        provider: ProviderName,
        /// What it said.
        why: String,
    },
    /// The registry did not answer. What was done is done again.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ControlPlane {
    /// Where the registry stands; with `compare` the providers are asked as well, which takes as long as they take.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn restore_status(&self, compare: bool) -> Result<RestoreStatus, StoreError> {
        let world = &self.world;
        Ok(RestoreStatus {
            quarantine: world.standing.look(world.store.as_ref(), world.clock.as_ref()).await?,
            over_at: world.store.quarantine_over().await?,
            position: world.store.high_water().await?,
            comparison: if compare { Some(compared(world).await?) } else { None },
        })
    }

    /// Compares with the providers, and ends the quarantine. `incomplete`: also where one of them does not answer.
    /// Where there is no quarantine nothing is done.
    ///
    /// # Errors
    /// [`RestoreRefused`]; the quarantine goes on then.
    pub async fn restore_confirm(&self, incomplete: bool) -> Result<Confirmed, RestoreRefused> {
        let world = &self.world;
        if world.store.quarantine().await?.is_none() {
            world.standing.look(world.store.as_ref(), world.clock.as_ref()).await?;
            return Ok(Confirmed { raised: 0, comparison: Comparison::default() });
        }
        let comparison = compared(world).await?;
        let silent = comparison.providers.iter().find_map(|looked| Some((looked, looked.unanswered.as_ref()?)));
        if let Some((Looked { provider, .. }, why)) = silent.filter(|_| !incomplete) {
            return Err(RestoreRefused::Unanswered { provider: provider.clone(), why: why.clone() });
        }
        let raised = world.store.quarantine_end(RAISE).await?;
        tracing::warn!(raised, "the registry from a backup is confirmed; the quarantine is over");
        world.standing.look(world.store.as_ref(), world.clock.as_ref()).await?;
        Ok(Confirmed { raised, comparison })
    }
}

/// Asks every provider what is there, and the registry what it knows of it.
async fn compared(world: &World) -> Result<Comparison, StoreError> {
    let mut comparison = Comparison::default();
    let mut shown = HashSet::new();
    let mut answered = BTreeSet::new();
    for (name, provider) in &world.providers {
        let looked = look(world, name, provider.as_ref(), &mut comparison, &mut shown).await?;
        if looked.unanswered.is_none() {
            answered.insert(name);
        }
        comparison.providers.push(looked);
    }
    let mut query = InstanceQuery { released: Some(false), limit: INSTANCES_AT_ONCE, ..InstanceQuery::default() };
    loop {
        let page = world.store.instance_list(&query).await?;
        for registered in page.items {
            let reservation = registered.reservation;
            // Of a provider that did not answer nothing is known, and of what has no resources nothing is to be shown.
            let is_told = answered.contains(&reservation.provider) && !reservation.resources.is_empty();
            if is_told && !shown.contains(&reservation.instance) {
                comparison.missing.add(NotShown {
                    instance: reservation.instance,
                    status: reservation.status.name(),
                    context: reservation.context,
                    provider: reservation.provider,
                });
            }
        }
        match page.next {
            Some(after) => query.after = Some(after),
            None => return Ok(comparison),
        }
    }
}

/// Goes through one provider.
async fn look(
    world: &World,
    name: &ProviderName,
    provider: &dyn Provider,
    comparison: &mut Comparison,
    shown: &mut HashSet<InstanceId>,
) -> Result<Looked, StoreError> {
    let mut looked = Looked { provider: name.clone(), resources: 0, unanswered: None };
    let mut page = None;
    for _ in 0..PAGES_MAX {
        let listed = provider.list_owned(world.idents.install().as_str(), page.as_deref()).await;
        world.meter.provider_request(
            name.as_str(),
            "list_owned",
            if listed.is_ok() { "answered" } else { "unanswered" },
        );
        let OwnedPage { resources, unseen, next } = match listed {
            Ok(page) => page,
            Err(unanswered) => {
                looked.unanswered = Some(unanswered.to_string());
                return Ok(looked);
            }
        };
        if unseen > 0 {
            looked.unanswered = Some(format!("{unseen} things could not be looked into"));
        }
        for OwnedResource { resource, claim } in resources {
            looked.resources += 1;
            let Some(instance) = world.idents.whose(&claim) else {
                comparison.foreign += 1;
                continue;
            };
            let one = Shown { provider: name.clone(), kind: resource.kind, id: resource.id, instance };
            let registered = world.store.instance_describe(instance).await?;
            match registered.map(|registered| registered.reservation).filter(|known| known.provider == *name) {
                None => comparison.unknown.add(one),
                Some(known) => match known.status {
                    Status::Released { .. } => comparison.unreferenced.add(one),
                    Status::InProgress | Status::NeedsReconciliation { .. } | Status::Completed => {
                        shown.insert(instance);
                    }
                },
            }
        }
        page = next;
        if page.is_none() {
            return Ok(looked);
        }
    }
    looked.unanswered = Some(format!("its list does not end within {PAGES_MAX} pages"));
    Ok(looked)
}
