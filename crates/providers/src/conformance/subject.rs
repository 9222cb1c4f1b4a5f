//! What is checked, and the steps that checks are made of.

use std::any::Any;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use freehold_domain::ids::InstanceId;
use freehold_domain::owner::Context;
use freehold_domain::resource::{Custody, Observation, Outcome, Resource, ResourceKind, RuntimeState};
use freehold_engine::ident::Idents;
use freehold_engine::ports::{Blueprint, Claim, Ident, Made, Order, OwnedPage, OwnedResource, Provider};

/// How long to wait before looking again, the first time. The wait doubles, because a provider counts the looks.
const POLL_MIN: Duration = Duration::from_millis(10);

/// The longest wait before looking again.
const POLL_MAX: Duration = Duration::from_secs(1);

/// The most pages that a list of what checks made can have.
pub(super) const LIST_PAGES_MAX: usize = 1_000;

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// A provider over a world, and how to check it.
pub struct Subject {
    /// The provider.
    pub provider: Arc<dyn Provider>,
    /// Its idents.
    pub idents: Idents,
    /// Opens another provider value over the same world, as a restarted server does.
    pub reopen: Box<dyn Fn() -> Arc<dyn Provider> + Send + Sync>,
    /// A provider over the same world that has another key, and so is a stranger.
    pub stranger: Arc<dyn Provider>,
    /// The stranger's idents.
    pub stranger_idents: Idents,
    /// Something that runs until it is stopped.
    pub blueprint: Blueprint,
    /// How many bases it takes to fill more than one page of the list; 0 where that is not known or costs too much, and
    /// then a few are made and the pages are not counted.
    pub more_than_a_page: usize,
    /// Whether a base carries no tags: a stranger's is told by what is in it, and an empty one may be made anew behind
    /// a seal, where it runs nothing, routes nothing, and is swept.
    pub untagged_base: bool,
    /// How long any state may take to come about.
    pub patience: Duration,
    /// What must live as long as this: a temporary folder.
    pub keep: Box<dyn Any + Send + Sync>,
    /// The idents that were made up so far, and what was measured: begins empty.
    pub made_up: Mutex<MadeUp>,
}

/// What the checks of a subject made up and measured so far.
#[derive(Debug, Default)]
pub struct MadeUp {
    /// Idents under which something may be there, and whether they are the stranger's.
    in_use: Vec<(Ident, bool)>,
    /// All idents that were ever made up.
    ever: Vec<(Ident, bool)>,
    /// How long looks lagged behind what was done, and effects behind the end of the wait for them.
    lags: Vec<Duration>,
}

/// What could not be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// The name that it is found under at the provider.
    pub name: String,
    /// What is there, or why nobody knows.
    pub why: String,
}

impl std::fmt::Debug for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subject").field("kind", &self.provider.kind()).finish_non_exhaustive()
    }
}

/// When a state that was waited for came about.
pub type Settled = Duration;

fn new_id() -> InstanceId {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut chance = [0; 10];
    chance[..4].copy_from_slice(&std::process::id().to_be_bytes());
    chance[4..6].copy_from_slice(&since_epoch.subsec_micros().to_be_bytes()[2..]);
    chance[6..].copy_from_slice(&COUNTER.fetch_add(1, Ordering::Relaxed).to_be_bytes()[4..]);
    InstanceId::mint(u64::try_from(since_epoch.as_millis()).unwrap_or(0), chance)
}

/// The value of a success.
pub(super) fn done<T>(what: &str, outcome: Outcome<T>) -> Result<T, String> {
    match outcome {
        Outcome::Done(value) => Ok(value),
        Outcome::Rejected(rejection) => {
            Err(format!("{what} was refused ({}): {}", rejection.class.name(), rejection.detail))
        }
        Outcome::NotSent(why) => Err(format!("{what} was not sent: {why}")),
        Outcome::Unknown(why) => Err(format!("what came of {what} is unknown: {why}")),
    }
}

pub(super) fn must(holds: bool, otherwise: impl Into<String>) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise.into()) }
}

pub(super) fn kinds_of_ours(seen: &Observation) -> Vec<ResourceKind> {
    let ours = seen.found.iter().filter(|found| found.custody == Custody::Ours);
    let mut kinds: Vec<_> = ours.map(|found| found.resource.kind).collect();
    kinds.sort();
    kinds
}

/// The waits between looks.
pub(super) struct Pace(Duration);

impl Pace {
    pub(super) fn new() -> Self {
        Self(POLL_MIN)
    }

    pub(super) async fn wait(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(POLL_MAX);
    }
}

impl Subject {
    fn so_far(&self) -> MutexGuard<'_, MadeUp> {
        self.made_up.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts down how long the world lagged behind.
    pub(super) fn measured(&self, lag: Duration) {
        self.so_far().lags.push(lag);
    }

    /// How long looks lagged behind what was done, and effects behind the end of the wait for them: as often as the
    /// checks that were run so far measured it.
    #[must_use]
    pub fn lags(&self) -> Vec<Duration> {
        self.so_far().lags.clone()
    }

    fn make_up(&self, idents: &Idents, strange: bool) -> Ident {
        let context = Context::new("user:conformance".parse().expect("a valid owner"), None).expect("a valid context");
        let ident = idents.of(new_id(), &context);
        let mut so_far = self.so_far();
        so_far.in_use.push((ident.clone(), strange));
        so_far.ever.push((ident.clone(), strange));
        drop(so_far);
        ident
    }

    /// An ident that was never used.
    pub(super) fn ident(&self) -> Ident {
        self.make_up(&self.idents, false)
    }

    /// The same ident as ours and as the stranger would have it.
    pub(super) fn two_idents(&self) -> (Ident, Ident) {
        let theirs = self.make_up(&self.stranger_idents, true);
        let context = Context::new("user:conformance".parse().expect("a valid owner"), None).expect("a valid context");
        (self.idents.of(theirs.instance, &context), theirs)
    }

    /// What can be made here, in order.
    pub(super) fn kinds(&self) -> Vec<ResourceKind> {
        let storage = self.provider.capabilities().storage;
        ResourceKind::ALL.into_iter().filter(|kind| storage || *kind != ResourceKind::Storage).collect()
    }

    pub(super) async fn ensure(&self, kind: ResourceKind, ident: &Ident, known: &[Resource]) -> Outcome<Made> {
        ensure(self.provider.as_ref(), kind, &Order { ident, blueprint: &self.blueprint, resources: known }).await
    }

    /// Makes everything, in order.
    pub(super) async fn ensure_all(&self, ident: &Ident) -> Result<Vec<Resource>, String> {
        let mut resources = Vec::new();
        for kind in self.kinds() {
            let made = done(&format!("making the {kind}"), self.ensure(kind, ident, &resources).await)?;
            must(made.resource.kind == kind, format!("asked for {kind}, got {:?}", made.resource))?;
            resources.push(made.resource);
        }
        Ok(resources)
    }

    pub(super) async fn observe(&self, ident: &Ident) -> Result<Observation, String> {
        self.provider.observe(ident).await.map_err(|error| error.to_string())
    }

    /// Looks until what is seen is as it should be. Says how long after the first look the question was asked that had
    /// this answer.
    pub(super) async fn until(
        &self,
        provider: &dyn Provider,
        ident: &Ident,
        what: &str,
        holds: impl Fn(&Observation) -> bool,
    ) -> Result<Settled, String> {
        let (began, mut pace, mut lag) = (Instant::now(), Pace::new(), Duration::ZERO);
        loop {
            let seen = provider.observe(ident).await;
            if seen.as_ref().is_ok_and(&holds) {
                return Ok(lag);
            }
            if began.elapsed() >= self.patience {
                return Err(format!("waited {:?} for {what}; last seen: {seen:?}", self.patience));
            }
            pace.wait().await;
            lag = began.elapsed();
        }
    }

    pub(super) async fn until_runtime(&self, ident: &Ident, state: &RuntimeState) -> Result<Settled, String> {
        let what = format!("the runtime to be {state:?}");
        self.until(self.provider.as_ref(), ident, &what, |seen| seen.runtime == *state).await
    }

    pub(super) async fn until_absent(&self, ident: &Ident) -> Result<Settled, String> {
        self.until(self.provider.as_ref(), ident, "nothing to be there", Observation::proves_absence).await
    }

    /// Seals an ident, removes whatever is found under it, until a look proves that nothing is there.
    pub(super) async fn sweep(&self, provider: &dyn Provider, ident: &Ident) -> Result<(), String> {
        let (began, mut pace) = (Instant::now(), Pace::new());
        loop {
            let last = match sweep_once(provider, ident).await {
                Ok(()) => return Ok(()),
                Err(last) => last,
            };
            if began.elapsed() >= self.patience {
                return Err(last);
            }
            pace.wait().await;
        }
    }

    /// Removes everything that checks made and did not remove: what was begun before and broken off goes on. Answers
    /// what is still there.
    pub async fn sweep_all(&self) -> Vec<Leftover> {
        let in_use = self.so_far().in_use.clone();
        self.sweep_these(in_use).await
    }

    /// The last clean-up: removes whatever carries any ident that was made up so far, once nothing can arrive late any
    /// more, and whatever is listed. Answers what is still there.
    pub async fn sweep_last(&self) -> Vec<Leftover> {
        let mut left = self.sweep_all().await;
        let ever = self.so_far().ever.clone();
        let capabilities = self.provider.capabilities();
        if !capabilities.seals && !ever.is_empty() {
            tokio::time::sleep(capabilities.settle_horizon).await;
            left = self.sweep_these(ever.clone()).await;
        }
        match self.listed().await {
            Err(why) => left.push(Leftover { name: self.idents.install().to_string(), why }),
            Ok(listed) => {
                for OwnedResource { resource, claim } in listed {
                    let owner = ever.iter().find(|(ident, _)| match &claim {
                        Claim::Tags(tags) => ident.tags.mac == tags.mac,
                        Claim::Name(instance) => ident.instance == *instance,
                    });
                    if owner.is_none() && matches!(claim, Claim::Name(_)) {
                        // A name says nothing about the install: it is of another one.
                        continue;
                    }
                    if let Err(why) = self.remove_listed(owner, &resource).await {
                        left.push(Leftover { name: format!("{} {}", resource.kind, resource.id), why });
                    }
                }
            }
        }
        left
    }

    async fn remove_listed(&self, owner: Option<&(Ident, bool)>, resource: &Resource) -> Result<(), String> {
        let (ident, strange) = owner.ok_or("it is listed, and no check made it")?;
        let provider = if *strange { &self.stranger } else { &self.provider };
        done("removing it", provider.destroy(ident, resource).await)
    }

    /// Everything that carries the install's name.
    async fn listed(&self) -> Result<Vec<OwnedResource>, String> {
        let (mut listed, mut next) = (Vec::new(), None);
        for _ in 0..LIST_PAGES_MAX {
            let page = self.provider.list_owned(self.idents.install().as_str(), next.as_deref()).await;
            let OwnedPage { resources, unseen: _, next: more } = page.map_err(|error| error.to_string())?;
            listed.extend(resources);
            next = more;
            if next.is_none() {
                return Ok(listed);
            }
        }
        Err("the list never ends".to_owned())
    }

    async fn sweep_these(&self, idents: Vec<(Ident, bool)>) -> Vec<Leftover> {
        let mut left = Vec::new();
        for (ident, strange) in idents {
            let provider = if strange { &self.stranger } else { &self.provider };
            match self.sweep(provider.as_ref(), &ident).await {
                Ok(()) => self.so_far().in_use.retain(|(one, _)| *one != ident),
                Err(why) => left.push(Leftover { name: ident.name, why }),
            }
        }
        left
    }
}

async fn sweep_once(provider: &dyn Provider, ident: &Ident) -> Result<(), String> {
    if provider.capabilities().seals {
        done("the seal", provider.seal(ident).await)?;
    }
    let seen = provider.observe(ident).await.map_err(|error| error.to_string())?;
    let mut ours: Vec<_> = seen.found.iter().filter(|found| found.custody == Custody::Ours).collect();
    ours.sort_by_key(|found| std::cmp::Reverse(found.resource.kind));
    for found in ours {
        let kind = found.resource.kind;
        done(&format!("removing the {kind}"), provider.destroy(ident, &found.resource).await)?;
    }
    let seen = provider.observe(ident).await.map_err(|error| error.to_string())?;
    must(seen.proves_absence(), format!("something is left: {seen:?}"))
}

/// Makes a resource of a kind.
pub(super) async fn ensure(provider: &dyn Provider, kind: ResourceKind, order: &Order<'_>) -> Outcome<Made> {
    match kind {
        ResourceKind::Base => provider.ensure_base(order).await,
        ResourceKind::Storage => provider.ensure_storage(order).await,
        ResourceKind::Runtime => provider.ensure_runtime(order).await,
    }
}
