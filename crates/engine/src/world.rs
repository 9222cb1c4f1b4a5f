//! Everything the engine works with, put together once at start-up, and how patient it is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use freehold_domain::event::Actor;
use freehold_domain::ids::{InstanceId, LeakId, OperationId, SubscriptionId};
use freehold_domain::lease::{Holder, PriceVersion, ProviderName, TierName};
use freehold_domain::plan::{Capabilities, Names, Patience};
use freehold_domain::resource::RuntimeState;
use freehold_domain::time::Timestamp;

use crate::duty::Duty;
use crate::ident::Idents;
use crate::ports::{Asked, Billing, Clock, Driver, Entropy, Gaps, Meter, Provider, Records, Render, Store};
use crate::spec::Vault;
use crate::standing::Standing;

/// What a tier stands for. Tiers are ordered by rank; a plan allows up to its tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tier {
    /// Its place in the order, from small to large.
    pub rank: u32,
    /// Memory limit, in MiB.
    pub memory_mb: u32,
    /// CPU limit, in thousandths of a core.
    pub cpu_millis: u32,
    /// Size of the volume, in GB; 0 for none.
    pub volume_gb: u32,
}

/// What a template runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    /// The image, for providers that run images.
    pub image: Option<String>,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Its environment; what a caller sends comes on top.
    pub env: BTreeMap<String, String>,
}

/// The numbers and names that the configuration decides.
#[derive(Clone, Debug)]
pub struct Policy {
    /// How many instances a context may have.
    pub instances_per_context: u32,
    /// Where instances go whose caller names no provider.
    pub default_provider: ProviderName,
    /// How often a step may fail going forward.
    pub max_attempts: u32,
    /// How long going forward may take.
    pub deadline: Duration,
    /// How long a lease lasts.
    pub lease: Duration,
    /// How much of a lease must be left for a call to leave: longer than a call takes from the check to the wire.
    pub send_margin: Duration,
    /// The first wait after a failure.
    pub retry_min: Duration,
    /// The longest wait between tries.
    pub retry_max: Duration,
    /// How long to watch a runtime before publishing it while it still starts.
    pub ready_grace: Duration,
    /// How often a running instance is looked at.
    pub running_check: Duration,
    /// How often a stopped one is.
    pub stopped_check: Duration,
    /// How long a runtime may start before it counts as failed.
    pub starting_timeout: Duration,
    /// After how long a destroy counts as stuck.
    pub destroy_stuck_after: Duration,
    /// Until when the janitor only looks and tells, by this node's monotonic clock; zero where it never does.
    pub janitor_looks_until: Duration,
    /// How long idempotency records are kept after their operation is over.
    pub idempotency_kept: Duration,
    /// Whether a subscription may be started without billing when billing does not answer.
    pub billing_falls_back: bool,
    /// At which price an instance is taken in whose subscription does not say.
    pub price_version: PriceVersion,
    /// How long records that did not answer a question of many are left alone.
    pub records_pause: Duration,
    /// What can be asked for.
    pub tiers: BTreeMap<TierName, Tier>,
    /// What can be run by name.
    pub templates: BTreeMap<String, Template>,
}

impl Policy {
    pub(crate) fn patience(&self) -> Patience {
        Patience {
            max_attempts: self.max_attempts,
            retry_min: self.retry_min,
            retry_max: self.retry_max,
            ready_grace: self.ready_grace,
            lease: self.lease,
        }
    }

    /// When to look at a runtime next that is doing `state` now. `spread` keeps what was looked at together from being
    /// looked at together again.
    pub(crate) fn check_at(
        &self,
        now: Timestamp,
        state: Option<&RuntimeState>,
        since: Timestamp,
        spread: u8,
    ) -> Timestamp {
        let span = match state {
            Some(RuntimeState::Running) => self.running_check,
            Some(RuntimeState::Stopped) => self.stopped_check,
            Some(RuntimeState::Starting | RuntimeState::Exited(_) | RuntimeState::Missing) | None => {
                // Young trouble is looked at often, old trouble seldom.
                now.since(since).clamp(self.retry_min, self.retry_max)
            }
        };
        now.plus(span - span.mul_f64(f64::from(spread) / 1024.0))
    }
}

/// Everything the engine works with.
pub struct World {
    /// The registry.
    pub store: Arc<dyn Store>,
    /// The canonical records.
    pub records: Arc<dyn Records>,
    /// Whether the records are another database than the registry, which may know instances that the registry does not.
    pub records_elsewhere: bool,
    /// Who pays.
    pub billing: Arc<dyn Billing>,
    /// What makes instances.
    pub providers: BTreeMap<ProviderName, Arc<dyn Provider>>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub entropy: Arc<dyn Entropy>,
    /// What drives the engine.
    pub driver: Arc<dyn Driver>,
    /// What ends it in crash tests.
    pub gaps: Arc<dyn Gaps>,
    /// What counts.
    pub meter: Arc<dyn Meter>,
    /// What words the answers.
    pub render: Arc<dyn Render>,
    /// Names and tags.
    pub idents: Idents,
    /// Secrets.
    pub vault: Vault,
    /// Numbers and names.
    pub policy: Policy,
    /// This node, in this life.
    pub holder: Holder,
    /// Whether this node takes on operations, or leaves them to others.
    pub duty: Duty,
    /// Whether it may act.
    pub standing: Arc<Standing>,
}

/// A provider that nobody configured can promise nothing.
const NO_PROMISES: Capabilities = Capabilities {
    names: Names::Free,
    seals: false,
    storage: false,
    logs: false,
    settle_horizon: Duration::from_secs(60),
};

macro_rules! mint {
    ($($method:ident: $id:ident),*) => {
        impl World {$(
            pub(crate) fn $method(&self) -> $id {
                let mut chance = [0; 10];
                self.entropy.fill(&mut chance);
                $id::mint(self.clock.now().as_millis(), chance)
            }
        )*}
    };
}

mint!(mint_instance: InstanceId, mint_operation: OperationId, mint_subscription: SubscriptionId, mint_leak: LeakId);

impl World {
    /// What a reconciler asks for, by its name.
    pub(crate) fn asked_by_itself(&self, reconciler: &str) -> Asked {
        Asked {
            operation: self.mint_operation(),
            actor: Actor::System,
            request_id: reconciler.to_owned(),
            deadline_in: self.policy.deadline,
            holder: self.runs().then(|| self.holder.clone()),
        }
    }

    /// Whether this node runs what is accepted from the start.
    pub(crate) fn runs(&self) -> bool {
        self.duty.takes() && self.standing.may_act()
    }

    /// Until when the janitor only looks, by the monotonic clock.
    pub(crate) fn janitor_looks_until(&self) -> Duration {
        self.policy.janitor_looks_until.max(self.standing.careful_until())
    }

    pub(crate) fn provider(&self, name: &ProviderName) -> Option<&Arc<dyn Provider>> {
        self.providers.get(name)
    }

    pub(crate) fn capabilities(&self, name: &ProviderName) -> Capabilities {
        self.provider(name).map_or(NO_PROMISES, |provider| provider.capabilities())
    }
}
