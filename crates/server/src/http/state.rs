//! What every endpoint works with.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use freehold_api::webhook::Secrets;
use freehold_engine::control_plane::ControlPlane;
use tokio_util::sync::CancellationToken;

use super::access::Table;
use crate::auth::Keys;
use crate::hub::Hub;
use crate::limits::Limiter;
use crate::metrics::Metrics;
use crate::proxy::Upstream;

/// Says whether something that the server depends on is alive, with what was seen either way, for people.
pub type Probe = Arc<dyn Fn() -> Result<String, String> + Send + Sync>;

/// What the configuration decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long a request waits for its operation where the caller does not say.
    pub default_wait: Duration,
    /// Requests per second and caller, for readers; platform and operator keys are not counted.
    pub requests_per_second_per_caller: u32,
    /// Whether end users say what their instances run; else they name a template.
    pub users_run_anything: bool,
    /// Whether instances are reached through the proxy without a key of ours.
    pub proxy_public: bool,
    /// Whether this node answers the API.
    pub api: bool,
    /// Whether this node passes traffic to the instances.
    pub proxy: bool,
}

impl Default for Settings {
    /// As the configuration has it where nothing is said.
    fn default() -> Self {
        Self {
            default_wait: Duration::from_secs(25),
            requests_per_second_per_caller: 50,
            users_run_anything: false,
            proxy_public: false,
            api: true,
            proxy: true,
        }
    }
}

/// What a server is made of.
pub struct ServerParts {
    /// What does everything.
    pub control_plane: Arc<ControlPlane>,
    /// Where requests wait; the driver in the control plane's world calls its `changed`.
    pub hub: Arc<Hub>,
    /// Who may call.
    pub keys: Keys,
    /// What the billing service signs its events with; `None` where there is no such service.
    pub billing: Option<Secrets>,
    /// What is counted; the meter in the control plane's world.
    pub metrics: Arc<Metrics>,
    /// Whether somebody runs operations here.
    pub executor: Probe,
    /// What the configuration decides.
    pub settings: Settings,
    /// Cancelled when the server stops: streams end, and it is not ready any more. The one that `serve` gets.
    pub shutdown: CancellationToken,
}

/// What every endpoint works with.
pub(crate) struct App {
    pub(crate) control_plane: Arc<ControlPlane>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) keys: Keys,
    pub(crate) billing: Option<Secrets>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) executor: Probe,
    pub(crate) settings: Settings,
    pub(crate) shutdown: CancellationToken,
    pub(crate) limiter: Limiter,
    pub(crate) access: Table,
    pub(crate) upstream: Upstream,
    /// The OpenAPI document, as it is served.
    pub(crate) document: Bytes,
}

impl App {
    pub(crate) fn new(parts: ServerParts, access: Table, document: Bytes) -> Arc<Self> {
        let ServerParts { control_plane, hub, keys, billing, metrics, executor, settings, shutdown } = parts;
        Arc::new(Self {
            limiter: Limiter::new(settings.requests_per_second_per_caller),
            upstream: Upstream::new(),
            control_plane,
            hub,
            keys,
            billing,
            metrics,
            executor,
            settings,
            shutdown,
            access,
            document,
        })
    }
}
