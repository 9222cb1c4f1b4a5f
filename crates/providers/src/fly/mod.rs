//! The Fly adapter: a Fly Machine per instance, in an app of its own.
//!
//! The app is the seal. Its name is in a namespace that everybody shares, so a second create of it is refused; with it
//! goes everything in it, and a create that arrives later finds nothing to be made in. Machines are unique by name and
//! carry the tags; volumes are not unique, and are looked up before one is made.
//!
//! - Each call changes one thing. What came of it is read from one table, `outcome.rs`.
//! - What is in our app and not ours is reported, and an app that holds such a thing is not deleted.
//! - Secrets go to the app's vault before the machine is made, and never into its configuration.
//! - An app that was made elsewhere keeps its name. Nothing is made in it, and what is in it is removed piece by piece;
//!   `given.rs` says why that is safe.

mod api;
mod given;
mod look;
mod make;
mod names;
mod outcome;
mod remove;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freehold_domain::plan::{Capabilities, Names};
use freehold_domain::resource::{Observation, Outcome, Rejection, RejectionClass, Resource, ResourceKind};
use freehold_domain::route::Endpoint;
use freehold_engine::ident::Idents;
use freehold_engine::ports::{
    Blueprint, Ident, LogQuery, LogReader, LogsUnavailable, Made, Order, OwnedPage, Provider, Survey, Unanswered, Unfit,
};

use api::{Answer, Api, Trouble};
use outcome::Meaning;

/// The public Machines API.
pub const API_URL: &str = "https://api.machines.dev/v1";

/// How many changes of one sort a second Fly takes for one app or machine.
pub const CHANGES_PER_SECOND: u32 = 1;

/// The port that instances answer at, unless told otherwise. They see it as `PORT`.
pub const PORT: u16 = 8080;

/// Where instances find their volume, unless told otherwise.
pub const VOLUME_PATH: &str = "/data";

/// Settings of the Fly adapter.
#[derive(Clone)]
pub struct FlyOptions {
    /// The Machines API, with its version: `https://api.machines.dev/v1`.
    pub api_url: String,
    /// What lets us in. Never shown.
    pub token: String,
    /// The organisation that pays, and whose apps are ours.
    pub org_slug: String,
    /// What the names of apps begin with.
    pub app_prefix: String,
    /// Where to try when a request names no region, in order.
    pub regions: Vec<String>,
    /// When a call counts as unanswered.
    pub request_timeout: Duration,
    /// The longest time after which an unanswered call may still take effect.
    pub settle_horizon: Duration,
    /// How many changes of one sort a second the API takes for one app or machine; it takes three times as many at once.
    pub changes_per_second: u32,
    /// The port that instances answer at.
    pub port: u16,
    /// Where instances find their volume.
    pub volume_path: String,
}

impl FlyOptions {
    /// The usual settings for a token.
    #[must_use]
    pub fn new(token: String) -> Self {
        Self {
            api_url: API_URL.to_owned(),
            token,
            org_slug: "personal".to_owned(),
            app_prefix: "fh".to_owned(),
            regions: Vec::new(),
            request_timeout: Duration::from_secs(20),
            settle_horizon: Duration::from_secs(60),
            changes_per_second: CHANGES_PER_SECOND,
            port: PORT,
            volume_path: VOLUME_PATH.to_owned(),
        }
    }
}

impl std::fmt::Debug for FlyOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FlyOptions").field("api_url", &self.api_url).finish_non_exhaustive()
    }
}

/// Runs instances as Fly Machines.
#[derive(Debug)]
pub struct FlyProvider {
    api: Api,
    last_list: tokio::sync::Mutex<Option<Arc<look::AppList>>>,
    idents: Idents,
    org_slug: String,
    app_prefix: String,
    regions: Vec<String>,
    settle_horizon: Duration,
    port: u16,
    volume_path: String,
}

impl FlyProvider {
    /// An adapter for an account. It calls nobody yet.
    ///
    /// # Errors
    /// Settings that no call can be made with, in words.
    pub fn new(options: FlyOptions, idents: Idents) -> Result<Self, String> {
        let FlyOptions { api_url, token, org_slug, app_prefix, regions, .. } = options;
        let FlyOptions { request_timeout, settle_horizon, changes_per_second, port, volume_path, .. } = options;
        let api = Api::new(&api_url, &token, request_timeout, changes_per_second)?;
        let last_list = tokio::sync::Mutex::default();
        Ok(Self { api, last_list, idents, org_slug, app_prefix, regions, settle_horizon, port, volume_path })
    }
}

fn rejected<T>(class: RejectionClass, detail: impl Into<String>) -> Outcome<T> {
    Outcome::Rejected(Rejection { class, detail: detail.into() })
}

fn somebody_elses<T>(app: &str) -> Outcome<T> {
    rejected(RejectionClass::ConflictForeign, format!("the app {app} is somebody else's"))
}

/// What a changing call without an answer came to.
fn unheard<T>(trouble: Trouble) -> Outcome<T> {
    match trouble {
        Trouble::NotSent(why) => Outcome::NotSent(why),
        Trouble::Lost(why) => Outcome::Unknown(why),
    }
}

/// What a look came to that a changing call needed first: nothing was changed.
fn unseen<T>(unanswered: Unanswered) -> Outcome<T> {
    Outcome::NotSent(format!("what is there cannot be seen: {}", unanswered.0))
}

/// What an answer came to that is neither success nor one that its caller knows what to do with.
fn other<T>(meaning: Meaning, answer: &Answer, region: Option<&str>) -> Outcome<T> {
    match meaning.rejection(region) {
        Some(class) => rejected(class, answer.in_words()),
        None if meaning == Meaning::NotNow => Outcome::NotSent(answer.in_words()),
        None => Outcome::Unknown(answer.in_words()),
    }
}

#[async_trait]
impl Provider for FlyProvider {
    fn kind(&self) -> &'static str {
        "fly"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            names: Names::UniqueButStorage,
            seals: true,
            storage: true,
            // The Machines API has none: they leave through NATS or a log shipper.
            logs: false,
            settle_horizon: self.settle_horizon,
        }
    }

    fn regions(&self) -> &[String] {
        &self.regions
    }

    fn accepts(&self, blueprint: &Blueprint) -> Result<(), String> {
        match &blueprint.image {
            Some(image) if !image.trim().is_empty() => Ok(()),
            Some(_) | None => Err("a Fly Machine runs an image: name one in `image` or in the template".to_owned()),
        }
    }

    async fn ensure_base(&self, order: &Order<'_>) -> Outcome<Made> {
        self.make_app(order.ident).await
    }

    async fn ensure_storage(&self, order: &Order<'_>) -> Outcome<Made> {
        self.make_volume(order).await
    }

    async fn ensure_runtime(&self, order: &Order<'_>) -> Outcome<Made> {
        self.make_machine(order).await
    }

    async fn start(&self, order: &Order<'_>) -> Outcome<Made> {
        self.start_machine(order).await
    }

    async fn stop(&self, order: &Order<'_>) -> Outcome<Made> {
        self.stop_machine(order).await
    }

    async fn restart(&self, order: &Order<'_>) -> Outcome<Made> {
        self.restart_machine(order).await
    }

    async fn update(&self, order: &Order<'_>, running: bool) -> Outcome<Made> {
        self.update_machine(order, running).await
    }

    async fn observe(&self, ident: &Ident) -> Result<Observation, Unanswered> {
        self.look(ident).await
    }

    async fn seal(&self, ident: &Ident) -> Outcome<()> {
        // Nothing is ever made in an app that was made elsewhere.
        if ident.given.is_some() {
            return Outcome::Done(());
        }
        self.remove_app(&names::app(&self.app_prefix, ident), ident).await
    }

    async fn destroy(&self, ident: &Ident, resource: &Resource) -> Outcome<()> {
        self.remove(ident, resource).await
    }

    async fn list_owned(&self, install: &str, page: Option<&str>) -> Result<OwnedPage, Unanswered> {
        self.list(install, page).await
    }

    async fn survey(&self, name: &str) -> Result<Survey, Unfit> {
        self.look_over(name).await
    }

    async fn tag(&self, ident: &Ident, resources: &[Resource]) -> Outcome<()> {
        self.tag_machine(ident, resources).await
    }

    fn endpoint(&self, resources: &[Resource]) -> Option<Endpoint> {
        let runtime = resources.iter().find(|resource| resource.kind == ResourceKind::Runtime)?;
        let handle: wire::Handle = serde_json::from_str(&runtime.handle).ok()?;
        let ip: std::net::IpAddr = handle.ip.parse().ok()?;
        Some(Endpoint(format!("http://{}", std::net::SocketAddr::new(ip, handle.port.unwrap_or(self.port)))))
    }

    async fn logs(&self, _ident: &Ident, _query: LogQuery) -> Result<Box<dyn LogReader>, LogsUnavailable> {
        Err(LogsUnavailable::Unsupported)
    }
}
