//! A server for one test: everything real but the provider, in a folder that goes with it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use freehold_billing::lab::{BillingLab, SECRET};
use freehold_billing::{HttpBilling, HttpBillingOptions};
use freehold_domain::ids::{InstanceId, OperationId};
use freehold_domain::lease::{Holder, LeaseTerm, PriceVersion, ProviderName, TierName};
use freehold_domain::route::Endpoint;
use freehold_domain::time::Timestamp;
use freehold_engine::control_plane::ControlPlane;
use freehold_engine::duty::Duty;
use freehold_engine::executor::{Executor, Worked};
use freehold_engine::ident::Idents;
use freehold_engine::local_billing::LocalBilling;
use freehold_engine::ports::{
    Billing, Claimed, Clock, Driver, Entropy, KeyRecord, KeyRole, NoGaps, Provider, Records, Render, Share, Store,
};
use freehold_engine::reconcilers::due;
use freehold_engine::spec::Vault;
use freehold_engine::standing::Standing;
use freehold_engine::world::{Policy, Template, Tier, World};
use freehold_providers::fake::{FakeCloud, FakeProvider};
use freehold_server::{AnswerRenderer, Bounds, Hub, Keys, Metrics, Probe, ServerParts, Settings, router, serve};
use freehold_store::{SqliteOptions, SqliteStore};
use http::Method;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::billing::{Mood, MoodyBilling};
use crate::client::{Answer, Call, PATIENCE};
use crate::tokens;

pub(crate) const OPERATOR: &str = "operator-key-of-the-test";
pub(crate) const PLATFORM: &str = "platform-key-of-the-test";
pub(crate) const VIEWER: &str = "viewer-key-of-the-test";

struct TestClock(Instant);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap())
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

struct TestEntropy(SystemRandom);

impl Entropy for TestEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.fill(bytes).unwrap();
    }
}

struct TestDriver {
    hints: mpsc::UnboundedSender<Claimed>,
    hub: Arc<Hub>,
}

impl Driver for TestDriver {
    fn run(&self, claimed: Claimed) {
        let _ = self.hints.send(claimed);
    }

    fn changed(&self, instance: InstanceId, operation: OperationId) {
        self.hub.changed(instance, operation);
    }
}

/// How a test's server differs from the usual one.
pub(crate) struct Options {
    /// Whether operations run at once.
    pub(crate) running: bool,
    /// How long going forward may take.
    pub(crate) deadline: Duration,
    pub(crate) settings: Settings,
    pub(crate) bounds: Bounds,
    pub(crate) probe: Probe,
    /// Another billing than the configuration's own.
    pub(crate) billing: Option<Arc<dyn Billing>>,
    /// Whether the configuration stands in for it.
    pub(crate) falls_back: bool,
    /// Whether end users' tokens are taken.
    pub(crate) users: bool,
    /// Words the answers to provisions with a key.
    pub(crate) render: Arc<dyn Render>,
    /// A provider and records that are there already; else its own, with the records in the registry's database.
    pub(crate) land: Option<Land>,
}

/// What outlives a registry: a provider's account, and records in a database of their own.
#[derive(Clone)]
pub(crate) struct Land {
    pub(crate) cloud: FakeCloud,
    pub(crate) records: Arc<SqliteStore>,
}

impl Land {
    pub(crate) fn new() -> Self {
        let clock: Arc<dyn Clock> = Arc::new(TestClock(Instant::now()));
        let records = SqliteStore::open(SqliteOptions::memory(clock, LeaseTerm(policy().lease))).unwrap();
        Self { cloud: FakeCloud::default(), records: Arc::new(records) }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            running: true,
            deadline: policy().deadline,
            settings: Settings {
                default_wait: Duration::from_secs(10),
                requests_per_second_per_caller: 10_000,
                ..Settings::default()
            },
            bounds: Bounds { drain: Duration::from_secs(5), ..Bounds::default() },
            probe: Arc::new(|| Ok("alive".to_owned())),
            billing: None,
            falls_back: false,
            users: true,
            land: None,
            render: Arc::new(AnswerRenderer),
        }
    }
}

/// A server that runs.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) cloud: FakeCloud,
    pub(crate) billing: Arc<watch::Sender<Mood>>,
    pub(crate) world: Arc<World>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) serving: JoinHandle<std::io::Result<()>>,
    running: watch::Sender<bool>,
    _folder: tempfile::TempDir,
}

fn policy() -> Policy {
    let seconds = Duration::from_secs;
    let template = Template { command: vec!["hello".into()], ..Template::default() };
    Policy {
        instances_per_context: 1,
        default_provider: "local".parse().unwrap(),
        max_attempts: 3,
        deadline: seconds(60),
        lease: seconds(10),
        send_margin: seconds(1),
        retry_min: Duration::from_millis(10),
        retry_max: Duration::from_millis(50),
        ready_grace: seconds(1),
        running_check: seconds(300),
        stopped_check: seconds(1800),
        starting_timeout: seconds(300),
        destroy_stuck_after: seconds(900),
        janitor_looks_until: Duration::ZERO,
        idempotency_kept: seconds(86_400),
        billing_falls_back: false,
        price_version: "2026-01-01".parse().unwrap(),
        records_pause: seconds(1),
        tiers: tiers().into_iter().map(|(name, rank)| (name, tier(rank))).collect(),
        templates: BTreeMap::from([("hello".to_owned(), template)]),
    }
}

fn tiers() -> [(TierName, u32); 3] {
    [("small", 1), ("large", 2), ("huge", 3)].map(|(name, rank)| (name.parse().unwrap(), rank))
}

fn tier(rank: u32) -> Tier {
    Tier { rank, memory_mb: 64 * rank, cpu_millis: 500, volume_gb: 1 }
}

fn billing() -> LocalBilling {
    let price_version: PriceVersion = "2026-01-01".parse().unwrap();
    LocalBilling {
        price_versions: BTreeMap::from([(price_version.clone(), "large".parse().unwrap())]),
        price_version,
        ranks: tiers().into_iter().collect(),
    }
}

/// The billing of a lab, in the way of the binary.
pub(crate) fn billing_at(lab: &BillingLab, falls_back: bool) -> Arc<dyn Billing> {
    // A second test of the same process finds it installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let options = HttpBillingOptions {
        url: lab.url(),
        secrets: SECRET.parse().unwrap(),
        timeout: Duration::from_secs(2),
        plans: billing(),
        falls_back,
    };
    let (clock, entropy) = (Arc::new(TestClock(Instant::now())), Arc::new(TestEntropy(SystemRandom::new())));
    Arc::new(HttpBilling::new(options, clock, entropy).unwrap())
}

impl Server {
    /// The usual one.
    pub(crate) async fn start() -> Self {
        Self::with(Options::default()).await
    }

    /// One whose operations wait until [`Server::run`].
    pub(crate) async fn paused() -> Self {
        Self::with(Options { running: false, ..Options::default() }).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(TestClock(Instant::now()));
        let entropy: Arc<dyn Entropy> = Arc::new(TestEntropy(SystemRandom::new()));
        let term = LeaseTerm(policy().lease);
        let store = SqliteStore::open(SqliteOptions::file(folder.path().join("r.db"), clock.clone(), term)).unwrap();
        let store = Arc::new(store);
        let idents = Idents::new("test".parse().unwrap(), &[1; 32]);
        let land = options.land.clone();
        let cloud = land.as_ref().map_or_else(FakeCloud::default, |land| land.cloud.clone());
        cloud.answer_at(Endpoint("http://127.0.0.1:9".into()));
        let provider = FakeProvider::new(cloud.clone(), idents.clone(), FakeProvider::BEST);
        let providers: BTreeMap<ProviderName, Arc<dyn Provider>> =
            BTreeMap::from([("local".parse().unwrap(), Arc::new(provider) as Arc<dyn Provider>)]);
        let mood = Arc::new(watch::Sender::new(Mood::Well));
        let (hub, metrics) = (Hub::new(), Metrics::new());
        let (hints, hinted) = mpsc::unbounded_channel();
        let world = Arc::new(World {
            store: Arc::clone(&store) as Arc<dyn Store>,
            records: land.as_ref().map_or(&store, |land| &land.records).clone() as Arc<dyn Records>,
            records_elsewhere: land.is_some(),
            billing: options
                .billing
                .unwrap_or_else(|| Arc::new(MoodyBilling { local: billing(), mood: Arc::clone(&mood) })),
            providers,
            clock,
            entropy: Arc::clone(&entropy),
            driver: Arc::new(TestDriver { hints, hub: Arc::clone(&hub) }),
            gaps: Arc::new(NoGaps),
            meter: metrics.clone(),
            render: options.render,
            idents,
            vault: Vault::new(&[2; 32], entropy),
            policy: Policy { deadline: options.deadline, billing_falls_back: options.falls_back, ..policy() },
            holder: Holder { node: "node-a".parse().unwrap(), incarnation: 1 },
            duty: Duty::new(true),
            standing: Standing::open(),
        });
        store.key_create(viewer()).await.unwrap();
        let shutdown = CancellationToken::new();
        let (running, may_run) = watch::channel(options.running);
        tokio::spawn(drive(Arc::clone(&world), hinted, may_run, shutdown.clone()));
        let mut keys = Keys::new(Arc::clone(&store) as Arc<dyn Store>)
            .with("platform", KeyRole::Platform, PLATFORM)
            .with("operator", KeyRole::Operator, OPERATOR);
        if options.users {
            keys = keys.with_users(tokens::taken()).unwrap();
        }
        let router = router(ServerParts {
            control_plane: Arc::new(ControlPlane::new(Arc::clone(&world))),
            hub,
            keys,
            billing: Some(SECRET.parse().unwrap()),
            metrics,
            executor: options.probe,
            settings: options.settings,
            shutdown: shutdown.clone(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(serve(listener, router, options.bounds, shutdown.clone()));
        Self { address, cloud, billing: mood, world, shutdown, serving, running, _folder: folder }
    }

    /// What the same server is after a start with a configuration that offers nothing any more.
    pub(crate) fn world_that_offers_nothing(&self) -> World {
        let policy = Policy { tiers: BTreeMap::new(), templates: BTreeMap::new(), ..policy() };
        self.world_with(BTreeMap::new(), policy)
    }

    /// The same server where a call is under way for no time at all, so that the janitor need not wait.
    /// Until `janitor_looks_until` it only looks.
    pub(crate) fn world_without_horizon(&self, janitor_looks_until: Duration) -> World {
        let policy = Policy { lease: Duration::ZERO, janitor_looks_until, ..policy() };
        self.world_with(self.world.providers.clone(), policy)
    }

    /// The same server with other records.
    pub(crate) fn world_over(&self, records: Arc<SqliteStore>) -> Arc<World> {
        let world = self.world_with(self.world.providers.clone(), policy());
        Arc::new(World { records, records_elsewhere: true, ..world })
    }

    fn world_with(&self, providers: BTreeMap<ProviderName, Arc<dyn Provider>>, policy: Policy) -> World {
        let World { store, records, billing, clock, entropy, driver, gaps, meter, render, idents, .. } = &*self.world;
        World {
            store: Arc::clone(store),
            records: Arc::clone(records),
            records_elsewhere: false,
            billing: Arc::clone(billing),
            providers,
            clock: Arc::clone(clock),
            entropy: Arc::clone(entropy),
            driver: Arc::clone(driver),
            gaps: Arc::clone(gaps),
            meter: Arc::clone(meter),
            render: Arc::clone(render),
            idents: idents.clone(),
            vault: Vault::new(&[2; 32], Arc::clone(entropy)),
            policy,
            holder: Holder { node: "node-a".parse().unwrap(), incarnation: 2 },
            duty: Duty::new(false),
            standing: Standing::open(),
        }
    }

    /// Lets operations run.
    pub(crate) fn run(&self) {
        self.running.send_replace(true);
    }

    /// Lets none begin.
    pub(crate) fn pause(&self) {
        self.running.send_replace(false);
    }

    /// Destroys an instance, and waits until it is gone.
    pub(crate) async fn destroyed(&self, id: &str) {
        self.delete(&format!("/v1/instances/{id}")).await;
        self.until(&format!("/v1/instances/{id}"), |shown| shown["status"] == "destroyed").await;
    }

    pub(crate) fn call(&self, method: Method, path: &str) -> Call {
        Call::new(self.address, method, path)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path).key(OPERATOR).send().await
    }

    pub(crate) fn post(&self, path: &str) -> Call {
        self.call(Method::POST, path).key(OPERATOR)
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path).key(OPERATOR).send().await
    }

    /// A create with nothing but an owner.
    pub(crate) fn create(&self, owner: &str) -> Call {
        self.call(Method::POST, "/v1/instances").key(PLATFORM).json(&json!({ "owner": owner }))
    }

    /// An instance that is complete.
    pub(crate) async fn made(&self, owner: &str) -> Value {
        self.create(owner).send().await.with(201).json()
    }

    /// Asks until the answer is as wanted.
    pub(crate) async fn until(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let seen = self.get(path).await.json();
            if wanted(&seen) {
                return seen;
            }
            assert!(begun.elapsed() < PATIENCE, "{path} stays {seen:#}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn viewer() -> KeyRecord {
    let mut hash = [0; 32];
    hash.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, VIEWER.as_bytes()).as_ref());
    let created_at = Timestamp::from_micros(1);
    KeyRecord {
        id: "viewer1".into(),
        label: "dashboard".into(),
        role: KeyRole::Viewer,
        hash,
        created_at,
        revoked_at: None,
    }
}

/// Runs what is hinted at, and what is due.
async fn drive(
    world: Arc<World>,
    mut hints: mpsc::UnboundedReceiver<Claimed>,
    mut may_run: watch::Receiver<bool>,
    shutdown: CancellationToken,
) {
    let executor = Executor::new(Arc::clone(&world));
    if may_run.wait_for(|running| *running).await.is_err() {
        return;
    }
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            Some(claimed) = hints.recv() => {
                let (executor, world) = (executor.clone(), Arc::clone(&world));
                tokio::spawn(async move {
                    let operation = claimed.lease.operation;
                    let mut worked = executor.work(claimed).await;
                    while let Worked::Resting(until) = worked {
                        tokio::time::sleep(until.since(world.clock.now())).await;
                        worked = executor.work_once(operation).await;
                    }
                });
            }
            _ = ticks.tick() => {
                let Ok(due) = due::pass(&world, 16, Share::ALL).await else { continue };
                for operation in due.operations {
                    let executor = executor.clone();
                    tokio::spawn(async move { executor.work_once(operation).await });
                }
            }
        }
    }
}
