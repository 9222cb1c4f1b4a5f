//! The Docker provider: a container per instance, at a Docker Engine or at Podman's service that speaks like one.
//!
//! An engine gives each name once, to a container and to a volume, and that is what everything leans on: a second create
//! meets the first, and a seal is a name that is taken. An instance's base is an empty volume, its storage another one, its
//! runtime a container. All carry the instance's tags as labels; nothing without a valid MAC is touched. What there is, the
//! engine knows, so a look that it answers is conclusive. Why it is built like this: `docs/decisions/0016`.

mod engine;
mod host;
mod logs;
mod look;
mod names;
mod place;
mod runtime;
mod seal;
mod stopped;
mod table;
mod wire;

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use freehold_domain::plan::{Capabilities, Names};
use freehold_domain::resource::{Observation, Outcome, RejectionClass, Resource, ResourceKind};
use freehold_domain::route::Endpoint;
use freehold_engine::ident::Idents;
use freehold_engine::ports::{
    Blueprint, Ident, LogQuery, LogReader, LogsUnavailable, Made, Order, OwnedPage, Provider, Unanswered,
};

pub use host::{DockerHost, DockerTls, InvalidHost};

use engine::Engine;
use host::Secured;
use names::{Standing, name_of};
use place::{Place, outcome, rejected};
use runtime::Handle;
use wire::{Trouble, Wire};

/// When a call gives its answer at the latest, unless told otherwise, without the time that an image takes.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// How long an image may take to be fetched, unless told otherwise: within the deadline of a provision.
pub const PULL_TIMEOUT: Duration = Duration::from_secs(100);

/// How long a program may take to end when asked, unless told otherwise: as long as Docker gives it.
pub const STOP_GRACE: Duration = Duration::from_secs(10);

/// The longest time after which an unanswered call may still take effect, unless told otherwise.
pub const SETTLE_HORIZON: Duration = Duration::from_secs(10);

/// How long a seal is kept up at the least, unless told otherwise: a server that was away for a shorter while, with a call
/// half sent, finds it still there.
pub const SEAL_KEPT_MIN: Duration = Duration::from_secs(3600);

/// The port that programs are told to listen on, unless told otherwise.
pub const PORT: u16 = 8080;

/// Where a container has its volume, unless told otherwise.
pub const VOLUME_PATH: &str = "/data";

/// The least memory of a container, in MiB: Docker refuses less.
const MEMORY_MB_MIN: u32 = 6;

/// The longest reference to an image, in bytes: a name of 255, a tag of 128 and a digest fit (distribution reference).
const IMAGE_BYTES_MAX: usize = 512;

/// Settings of the Docker provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerOptions {
    /// Where the engine is.
    pub host: DockerHost,
    /// The files of an engine that is spoken to under TLS.
    pub tls: DockerTls,
    /// When a call gives its answer at the latest, without the time that an image takes.
    pub request_timeout: Duration,
    /// How long an image may take to be fetched.
    pub pull_timeout: Duration,
    /// How long a program may take to end when asked, in whole seconds and at most half of a call.
    pub stop_grace: Duration,
    /// The longest time after which an unanswered call may still take effect.
    pub settle_horizon: Duration,
    /// How long a seal is kept up at the least, whatever the horizon.
    pub seal_kept_min: Duration,
    /// The port that programs are told to listen on.
    pub port: u16,
    /// Where a container has its volume.
    pub volume_path: String,
    /// The engine's network that containers are in, and reached in; `None`: the engine's usual one, with a port of
    /// [`publish_address`](Self::publish_address) that the engine chooses.
    pub network: Option<String>,
    /// The address of the engine's machine at which ports are published.
    pub publish_address: IpAddr,
    /// Whether a small first process passes signals on and reaps what is left of others.
    pub init: bool,
}

impl DockerOptions {
    /// The usual settings.
    #[must_use]
    pub fn new(host: DockerHost) -> Self {
        Self {
            host,
            tls: DockerTls::default(),
            request_timeout: REQUEST_TIMEOUT,
            pull_timeout: PULL_TIMEOUT,
            stop_grace: STOP_GRACE,
            settle_horizon: SETTLE_HORIZON,
            seal_kept_min: SEAL_KEPT_MIN,
            port: PORT,
            volume_path: VOLUME_PATH.to_owned(),
            network: None,
            publish_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            init: true,
        }
    }
}

/// Runs instances as containers.
#[derive(Debug)]
pub struct DockerProvider {
    engine: Engine,
    options: DockerOptions,
    idents: Idents,
}

impl DockerProvider {
    /// A provider over an engine, which need not be there yet.
    ///
    /// # Errors
    /// Where the files for TLS are missing or wrong.
    pub fn open(options: DockerOptions, idents: Idents) -> io::Result<Self> {
        let secured = Secured::load(&options.host, &options.tls)?;
        let engine = Engine::new(Wire { host: options.host.clone(), secured });
        Ok(Self { engine, options, idents })
    }

    fn place<'a>(&'a self, ident: &'a Ident) -> Place<'a> {
        Place::new(&self.engine, &self.options, &self.idents, ident)
    }

    fn until(&self) -> Instant {
        Instant::now() + self.options.request_timeout
    }

    /// Refuses what cannot be made, and what would be made without the volume that it had.
    async fn accepted<T>(&self, order: &Order<'_>, work: impl Future<Output = Result<T, place::Ended>>) -> Outcome<T> {
        match self.accepts(order.blueprint) {
            // On the heap: one state machine within another outgrows a thread's stack in a build without optimisation.
            Ok(()) => match Box::pin(self.place(order.ident).must_have_its_volume(order.resources)).await {
                Ok(()) => outcome(Box::pin(work).await),
                Err(refusal) => outcome(Err(refusal)),
            },
            Err(why) => rejected(RejectionClass::Invalid, why),
        }
    }
}

#[async_trait]
impl Provider for DockerProvider {
    fn kind(&self) -> &'static str {
        "docker"
    }

    fn capabilities(&self) -> Capabilities {
        let settle_horizon = self.options.settle_horizon;
        Capabilities { names: Names::Unique, seals: true, storage: true, logs: true, settle_horizon }
    }

    fn accepts(&self, blueprint: &Blueprint) -> Result<(), String> {
        let Blueprint { command, image, env, secrets: _, memory_mb, cpu_millis: _, volume_gb: _, region: _ } =
            blueprint;
        let Some(image) = image.as_deref().filter(|image| !image.is_empty()) else {
            return Err("the docker provider needs an image".to_owned());
        };
        if image.len() > IMAGE_BYTES_MAX || image.bytes().any(|byte| !byte.is_ascii_graphic()) {
            return Err(format!("an image is named by at most {IMAGE_BYTES_MAX} visible ASCII characters"));
        }
        if *memory_mb < MEMORY_MB_MIN {
            return Err(format!("a container has at least {MEMORY_MB_MIN} MB of memory"));
        }
        let pairs = env.iter().flat_map(|(name, value)| [name, value]);
        if command.iter().chain(pairs).any(|text| text.contains('\0')) {
            return Err("commands and variables contain no NUL character".to_owned());
        }
        if env.keys().any(|name| name.is_empty() || name.contains('=')) {
            return Err("names of variables are not empty and contain no `=`".to_owned());
        }
        Ok(())
    }

    async fn ensure_base(&self, order: &Order<'_>) -> Outcome<Made> {
        outcome(self.place(order.ident).ensure_volume(ResourceKind::Base).await)
    }

    async fn ensure_storage(&self, order: &Order<'_>) -> Outcome<Made> {
        outcome(self.place(order.ident).ensure_volume(ResourceKind::Storage).await)
    }

    async fn ensure_runtime(&self, order: &Order<'_>) -> Outcome<Made> {
        self.accepted(order, self.place(order.ident).up(order.blueprint)).await
    }

    async fn start(&self, order: &Order<'_>) -> Outcome<Made> {
        self.accepted(order, self.place(order.ident).up(order.blueprint)).await
    }

    async fn stop(&self, order: &Order<'_>) -> Outcome<Made> {
        outcome(self.place(order.ident).down().await)
    }

    async fn restart(&self, order: &Order<'_>) -> Outcome<Made> {
        self.accepted(order, self.place(order.ident).again(order.blueprint)).await
    }

    async fn update(&self, order: &Order<'_>, running: bool) -> Outcome<Made> {
        self.accepted(order, self.place(order.ident).replace(order.blueprint, running)).await
    }

    async fn observe(&self, ident: &Ident) -> Result<Observation, Unanswered> {
        self.place(ident).observe().await.map_err(|trouble| Unanswered(trouble.why()))
    }

    async fn seal(&self, ident: &Ident) -> Outcome<()> {
        outcome(self.place(ident).seal().await)
    }

    async fn destroy(&self, ident: &Ident, resource: &Resource) -> Outcome<()> {
        outcome(self.place(ident).destroy(resource).await)
    }

    async fn list_owned(&self, install: &str, page: Option<&str>) -> Result<OwnedPage, Unanswered> {
        let listed = look::list_owned(&self.engine, install, page, self.until()).await;
        listed.map_err(|trouble| Unanswered(trouble.why()))
    }

    fn endpoint(&self, resources: &[Resource]) -> Option<Endpoint> {
        let runtime = resources.iter().find(|resource| resource.kind == ResourceKind::Runtime)?;
        let handle: Handle = serde_json::from_str(&runtime.handle).ok()?;
        handle.address.map(|address| Endpoint(format!("http://{address}")))
    }

    async fn logs(&self, ident: &Ident, query: LogQuery) -> Result<Box<dyn LogReader>, LogsUnavailable> {
        let until = self.until();
        let container = self.engine.container(&name_of(ident, ResourceKind::Runtime), until).await;
        let container = container.map_err(|trouble| LogsUnavailable::Unreadable(trouble.why()))?;
        let ours = container
            .filter(|container| names::standing(container.labels(), &self.idents, ident.instance) == Standing::Ours);
        let container = ours.ok_or_else(|| LogsUnavailable::Unreadable("there is no container".to_owned()))?;
        let opened = self.engine.logs(&container.id, query.tail, query.follow, until).await;
        Ok(Box::new(logs::Reader::new(opened.map_err(LogsUnavailable::Unreadable)?)))
    }

    async fn forget_seals(&self) -> Result<u64, Unanswered> {
        let forgotten = seal::forget(&self.engine, &self.options, &self.idents).await;
        forgotten.map_err(|trouble: Trouble| Unanswered(trouble.why()))
    }
}
