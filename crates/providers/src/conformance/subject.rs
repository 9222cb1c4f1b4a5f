//! What is checked, and the steps that checks are made of.

use std::any::Any;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use freehold_domain::ids::InstanceId;
use freehold_domain::owner::Context;
use freehold_domain::resource::{Custody, Observation, Outcome, Resource, ResourceKind, RuntimeState};
use freehold_engine::ident::Idents;
use freehold_engine::ports::{Blueprint, Ident, Made, Order, Provider};

/// How long to wait before looking again.
const POLL: Duration = Duration::from_millis(10);

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
    /// How many bases it takes to fill more than one page of the list.
    pub more_than_a_page: usize,
    /// Whether an empty base may be made anew behind a seal: it runs nothing, routes nothing, and is swept.
    pub empty_base_after_seal: bool,
    /// How long any state may take to come about.
    pub patience: Duration,
    /// What must live as long as this: a temporary folder.
    pub keep: Box<dyn Any + Send + Sync>,
    /// The idents that were made up so far and whether they are the stranger's: begins empty.
    pub made_up: Mutex<Vec<(Ident, bool)>>,
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

impl Subject {
    fn make_up(&self, idents: &Idents, strange: bool) -> Ident {
        let context = Context::new("user:conformance".parse().expect("a valid owner"), None).expect("a valid context");
        let ident = idents.of(new_id(), &context);
        self.made_up.lock().unwrap_or_else(PoisonError::into_inner).push((ident.clone(), strange));
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

    /// Looks until what is seen is as it should be. Says how long that took.
    pub(super) async fn until(
        &self,
        provider: &dyn Provider,
        ident: &Ident,
        what: &str,
        holds: impl Fn(&Observation) -> bool,
    ) -> Result<Settled, String> {
        let began = Instant::now();
        loop {
            let seen = provider.observe(ident).await;
            if seen.as_ref().is_ok_and(&holds) {
                return Ok(began.elapsed());
            }
            if began.elapsed() >= self.patience {
                return Err(format!("waited {:?} for {what}; last seen: {seen:?}", self.patience));
            }
            tokio::time::sleep(POLL).await;
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
        let began = Instant::now();
        loop {
            let last = match sweep_once(provider, ident).await {
                Ok(()) => return Ok(()),
                Err(last) => last,
            };
            if began.elapsed() >= self.patience {
                return Err(last);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    pub(super) async fn sweep_all(&self) -> Result<(), String> {
        let made_up = std::mem::take(&mut *self.made_up.lock().unwrap_or_else(PoisonError::into_inner));
        let mut result = Ok(());
        for (ident, strange) in made_up {
            let provider = if strange { &self.stranger } else { &self.provider };
            result = result.and(self.sweep(provider.as_ref(), &ident).await);
        }
        result
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
