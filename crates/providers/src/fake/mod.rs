//! A provider that makes nothing, for tests, simulation and benchmarks: everything it has is in memory, and it fails
//! exactly as its script says.
//!
//! It needs no runtime and reads no clock: its futures are ready at once, unless [`FakeProvider::with_pause`] says
//! otherwise, and time passes when [`FakeCloud::advance`] is told so. The same calls give the same world.

mod cloud;
mod fault;
mod world;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use freehold_domain::plan::{Capabilities, Names};
use freehold_domain::resource::{Observation, Outcome, Resource, ResourceKind, RuntimeState};
use freehold_domain::route::Endpoint;
use freehold_engine::ident::Idents;
use freehold_engine::ports::{
    Blueprint, Ident, LogQuery, LogReader, LogsUnavailable, Made, Order, OwnedPage, Provider, Unanswered,
};

pub use cloud::FakeCloud;
pub use fault::{Call, CallKind, Fault, Sight};
pub use world::FakeResource;

/// What a [`FakeProvider`] waits for before each call.
pub type Pause = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// A provider over a [`FakeCloud`].
#[derive(Clone)]
pub struct FakeProvider {
    cloud: FakeCloud,
    idents: Idents,
    capabilities: Capabilities,
    pause: Option<Pause>,
}

impl std::fmt::Debug for FakeProvider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FakeProvider").field("capabilities", &self.capabilities).finish_non_exhaustive()
    }
}

impl FakeProvider {
    /// A provider over `cloud` that promises `capabilities`, and keeps them but for what the script says.
    #[must_use]
    pub fn new(cloud: FakeCloud, idents: Idents, capabilities: Capabilities) -> Self {
        Self { cloud, idents, capabilities, pause: None }
    }

    /// A provider for benchmarks: it keeps every promise, never fails, and does not remember its calls. Whatever is
    /// made answers at `endpoint`.
    #[must_use]
    pub fn instant(idents: Idents, endpoint: Endpoint) -> Self {
        let cloud = FakeCloud::default();
        cloud.forget_calls();
        cloud.answer_at(endpoint);
        Self::new(cloud, idents, Self::BEST)
    }

    /// What the process provider promises too.
    pub const BEST: Capabilities = Capabilities {
        names: Names::Unique,
        seals: true,
        storage: true,
        logs: false,
        settle_horizon: std::time::Duration::ZERO,
    };

    /// The same provider, with `pause` awaited before each call.
    #[must_use]
    pub fn with_pause(mut self, pause: Pause) -> Self {
        self.pause = Some(pause);
        self
    }

    /// What it makes things in.
    #[must_use]
    pub fn cloud(&self) -> &FakeCloud {
        &self.cloud
    }

    async fn pause(&self) {
        if let Some(pause) = &self.pause {
            pause().await;
        }
    }

    async fn ensure(&self, kind: ResourceKind, order: &Order<'_>) -> Outcome<Made> {
        self.pause().await;
        self.cloud.ensure(&self.idents, self.capabilities, kind, order.ident, order.blueprint.region.as_deref())
    }

    async fn power(&self, call: CallKind, order: &Order<'_>, to: RuntimeState) -> Outcome<Made> {
        self.pause().await;
        let known = order.resources.iter().find(|resource| resource.kind == ResourceKind::Runtime);
        self.cloud.power(&self.idents, call, order.ident, known, to)
    }
}

#[async_trait]
impl Provider for FakeProvider {
    fn kind(&self) -> &'static str {
        "fake"
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn accepts(&self, _blueprint: &Blueprint) -> Result<(), String> {
        Ok(())
    }

    async fn ensure_base(&self, order: &Order<'_>) -> Outcome<Made> {
        self.ensure(ResourceKind::Base, order).await
    }

    async fn ensure_storage(&self, order: &Order<'_>) -> Outcome<Made> {
        self.ensure(ResourceKind::Storage, order).await
    }

    async fn ensure_runtime(&self, order: &Order<'_>) -> Outcome<Made> {
        self.ensure(ResourceKind::Runtime, order).await
    }

    async fn start(&self, order: &Order<'_>) -> Outcome<Made> {
        self.power(CallKind::Start, order, RuntimeState::Running).await
    }

    async fn stop(&self, order: &Order<'_>) -> Outcome<Made> {
        self.power(CallKind::Stop, order, RuntimeState::Stopped).await
    }

    async fn restart(&self, order: &Order<'_>) -> Outcome<Made> {
        self.power(CallKind::Restart, order, RuntimeState::Running).await
    }

    async fn update(&self, order: &Order<'_>, running: bool) -> Outcome<Made> {
        let to = if running { RuntimeState::Running } else { RuntimeState::Stopped };
        self.power(CallKind::Update, order, to).await
    }

    async fn observe(&self, ident: &Ident) -> Result<Observation, Unanswered> {
        self.pause().await;
        self.cloud.observe(&self.idents, ident)
    }

    async fn seal(&self, ident: &Ident) -> Outcome<()> {
        self.pause().await;
        self.cloud.seal(self.capabilities, ident)
    }

    async fn destroy(&self, ident: &Ident, resource: &Resource) -> Outcome<()> {
        self.pause().await;
        self.cloud.destroy(&self.idents, ident, resource)
    }

    async fn list_owned(&self, install: &str, page: Option<&str>) -> Result<OwnedPage, Unanswered> {
        self.pause().await;
        self.cloud.list_owned(install, page)
    }

    fn endpoint(&self, resources: &[Resource]) -> Option<Endpoint> {
        let runtime = resources.iter().find(|resource| resource.kind == ResourceKind::Runtime)?;
        Some(self.cloud.endpoint_of(runtime))
    }

    async fn logs(&self, _ident: &Ident, _query: LogQuery) -> Result<Box<dyn LogReader>, LogsUnavailable> {
        Err(LogsUnavailable::Unsupported)
    }
}
