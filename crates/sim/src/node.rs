//! One simulated server: the real control plane and executor over ports that yield. Its death is the end of its tasks; its
//! next life has the same name and another incarnation.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use freehold_domain::ids::{InstanceId, OperationId};
use freehold_domain::lease::Holder;
use freehold_domain::records::RecordsView;
use freehold_engine::control_plane::ControlPlane;
use freehold_engine::duty::Duty;
use freehold_engine::executor::Executor;
use freehold_engine::ident::Idents;
use freehold_engine::local_billing::LocalBilling;
use freehold_engine::ports::{Answer, Claimed, Driver, Installation, NoMeter, Provider, Registered, Render, Store};
use freehold_engine::reconcilers::janitor::{Seen, Tally};
use freehold_engine::spec::Vault;
use freehold_engine::standing::Standing;
use freehold_engine::world::{Policy, Template, Tier, World};

use crate::billing::FarBilling;
use crate::chance::Chance;
use crate::places::Places;
use crate::records::FarRecords;
use crate::time::WrongClock;
use crate::watch::{Post, Watch};
use crate::wire::Wire;

/// How long simulated leases last.
pub const LEASE: Duration = Duration::from_secs(10);

/// How much of a lease must be left for a call to leave.
pub const SEND_MARGIN: Duration = Duration::from_secs(1);

/// The longest wait between tries.
pub const RETRY_MAX: Duration = Duration::from_secs(60);

/// How long a simulated provision goes forward.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// Takes the engine's hints to the scheduler.
#[derive(Clone, Debug, Default)]
pub struct Hints(Arc<Mutex<Vec<Claimed>>>);

impl Hints {
    /// What came since the last look.
    #[must_use]
    pub fn take(&self) -> Vec<Claimed> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Driver for Hints {
    fn run(&self, claimed: Claimed) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(claimed);
    }

    fn changed(&self, _: InstanceId, _: OperationId) {}
}

/// Words answers so that a test can compare them.
#[derive(Debug)]
struct Plain;

impl Render for Plain {
    fn provision(&self, registered: &Registered, records: &RecordsView) -> Answer {
        let Registered { reservation, operation, route } = registered;
        let status = if operation.failure.is_some() { 502 } else { 201 };
        let body = format!(
            "{} {} {} row={} live={}",
            reservation.instance,
            reservation.status.name(),
            operation.status.name(),
            records.row.is_some(),
            route.as_ref().is_some_and(freehold_domain::route::Route::is_live),
        );
        Answer { status, body: body.into_bytes() }
    }
}

/// What every node of a world shares.
#[derive(Clone)]
pub struct Shared {
    /// The registry.
    pub store: Arc<dyn Store>,
    /// The records.
    pub far_records: FarRecords,
    /// Whether they are in a database of their own.
    pub records_elsewhere: bool,
    /// What makes resources.
    pub provider: Arc<dyn Provider>,
    /// Who pays.
    pub billing: FarBilling,
    /// Where executors are.
    pub places: Places,
    /// What sees every call.
    pub watch: Watch,
    /// Where all chance comes from.
    pub chance: Chance,
    /// Names and keys.
    pub installation: Installation,
    /// What instances run.
    pub program: Template,
}

/// A server in one of its lives.
pub struct Node {
    /// Its name and life.
    pub holder: Holder,
    /// Its wall clock, which goes on through its lives.
    pub clock: WrongClock,
    /// What runs operations.
    pub executor: Executor,
    /// What requests ask.
    pub control: Arc<ControlPlane>,
    /// What the engine wants run.
    pub hints: Hints,
    /// What its janitor has seen, and what the last pass came to.
    pub janitor: Arc<Mutex<(Seen, Option<Tally>)>>,
}

impl Node {
    /// Starts a life of a node.
    ///
    /// # Panics
    /// Never: the names in it are valid.
    #[must_use]
    pub fn start(shared: &Shared, name: &str, clock: WrongClock) -> Self {
        let holder = Holder { node: name.parse().expect("a valid name"), incarnation: shared.chance.draw() };
        let hints = Hints::default();
        let chance = Arc::new(shared.chance.clone());
        let post = Post::new(shared.watch.clone());
        let world = Arc::new(World {
            store: Wire::to(shared.store.clone(), &post),
            records: Wire::to(Arc::new(shared.far_records.clone()), &post),
            records_elsewhere: shared.records_elsewhere,
            billing: Wire::to(Arc::new(shared.billing.clone()), &post),
            providers: BTreeMap::from([(
                "local".parse().expect("a valid name"),
                Wire::to(shared.provider.clone(), &post) as Arc<dyn Provider>,
            )]),
            clock: Arc::new(clock.clone()),
            entropy: chance.clone(),
            driver: Arc::new(hints.clone()),
            gaps: Arc::new(shared.places.clone()),
            meter: Arc::new(NoMeter),
            render: Arc::new(Plain),
            idents: Idents::new(shared.installation.install.clone(), &shared.installation.mac_key),
            vault: Vault::new(&shared.installation.secret_key, chance),
            policy: policy(shared.program.clone()),
            holder: holder.clone(),
            duty: Duty::new(true),
            standing: Standing::open(),
        });
        Self {
            holder,
            clock,
            executor: Executor::new(world.clone()),
            control: Arc::new(ControlPlane::new(world)),
            hints,
            janitor: Arc::default(),
        }
    }

    /// Whether its janitor's last pass saw everything, and nothing that is left to sweep.
    #[must_use]
    pub fn is_swept(&self) -> bool {
        let last = self.janitor.lock().unwrap_or_else(PoisonError::into_inner).1;
        last.is_some_and(|tally| tally.unanswered + tally.busy + tally.young + tally.swept == 0)
    }

    /// Has its janitor start over.
    pub fn is_to_sweep(&self) {
        self.janitor.lock().unwrap_or_else(PoisonError::into_inner).1 = None;
    }

    /// What it works with.
    #[must_use]
    pub fn world(&self) -> &Arc<World> {
        self.control.world()
    }
}

/// Who may have what, in every simulated world.
#[must_use]
pub fn plans() -> LocalBilling {
    LocalBilling {
        price_version: "2026-01-01".parse().expect("a valid name"),
        price_versions: BTreeMap::from([(
            "2026-01-01".parse().expect("a valid name"),
            "small".parse().expect("a valid name"),
        )]),
        ranks: BTreeMap::from([("small".parse().expect("a valid name"), 1)]),
    }
}

/// How patient every simulated node is, and what its instances run.
#[must_use]
pub fn policy(program: Template) -> Policy {
    Policy {
        instances_per_context: 1,
        default_provider: "local".parse().expect("a valid name"),
        max_attempts: 5,
        deadline: DEADLINE,
        lease: LEASE,
        send_margin: SEND_MARGIN,
        retry_min: Duration::from_secs(1),
        retry_max: RETRY_MAX,
        ready_grace: Duration::from_secs(2),
        running_check: Duration::from_secs(300),
        stopped_check: Duration::from_secs(1800),
        starting_timeout: Duration::from_secs(300),
        destroy_stuck_after: Duration::from_secs(900),
        janitor_looks_until: Duration::ZERO,
        idempotency_kept: Duration::from_secs(86_400),
        billing_falls_back: false,
        price_version: "2026-01-01".parse().expect("a valid name"),
        records_pause: Duration::from_secs(5),
        tiers: BTreeMap::from([(
            "small".parse().expect("a valid name"),
            Tier { rank: 1, memory_mb: 256, cpu_millis: 1_000, volume_gb: 1 },
        )]),
        templates: BTreeMap::from([("hello".to_owned(), program)]),
    }
}
