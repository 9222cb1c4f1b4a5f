//! A server whose instances are machines of a simulated Fly.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use freehold_api::client::{Client, Token};
use freehold_api::v1::operations::{Operation, StepStatus};
use freehold_flysim::{FlySim, Options};
use uuid::Uuid;

use crate::support::{Home, Server};

/// How long an unanswered call may still take effect here.
pub(crate) const HORIZON: Duration = Duration::from_secs(5);

/// How often to look at an operation.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How long an operation may take, clean-up included, before the test gives up.
const OPERATION_MAX: Duration = Duration::from_secs(300);

/// The server, the provider and a client.
pub(crate) struct Town {
    pub(crate) fly: FlySim,
    /// Runs as long as this.
    _server: Server,
    pub(crate) client: Client,
    /// Kept for what the server leaves behind.
    pub(crate) home: Home,
}

impl Town {
    pub(crate) async fn found(options: Options) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let fly = FlySim::start(options).await.unwrap();
        let mut home = Home::new();
        let config = home.path().join("freehold.toml");
        let text = format!(
            "[provision]\ndefault_provider = \"fly\"\ndeadline = \"90s\"\n\
             [janitor]\ndry_run = \"never\"\n\
             [timing]\njanitor_interval = \"5s\"\nretry_max = \"10s\"\n\
             [providers.fly]\nkind = \"fly\"\napi_url = \"{}\"\ntoken_env = \"FLY_TOKEN\"\nregions = [\"ams\", \"fra\"]\n\
             request_timeout = \"2s\"\nsettle_horizon = \"{}s\"\n\
             [templates.hello]\nimage = \"registry.example/hello:1\"\n",
            fly.api_url(),
            HORIZON.as_secs(),
        );
        std::fs::write(&config, text).unwrap();
        home.set("LIMITS__REQUESTS_PER_SECOND_PER_CALLER", "100000");
        let mut serving = home.serving();
        serving.arg("--config").arg(&config).env("FLY_TOKEN", "flysim");
        let server = home.serve_with(serving);
        let client = Client::new(&server.url(), Some(Token::new(&home.key()).unwrap())).unwrap();
        Self { fly, _server: server, client, home }
    }

    /// Waits until an operation is over, and says how long each doubt of it lasted: from the moment when a try of a step
    /// is unknown to the one when its outcome is known, or nothing stands in the way of another try.
    pub(crate) async fn until_over(&self, id: Uuid) -> (Operation, Vec<Duration>) {
        let began = Instant::now();
        let (mut open, mut settled) = (BTreeMap::new(), Vec::new());
        loop {
            let operation = self.client.operation(id).await.unwrap();
            let over = operation.status.is_over();
            let in_doubt = operation.steps.iter().filter(|step| step.status == StepStatus::Unknown && !over);
            let in_doubt: Vec<_> = in_doubt.map(|step| (step.name.clone(), step.attempts)).collect();
            let ended: Vec<_> = open.keys().filter(|doubt| !in_doubt.contains(doubt)).cloned().collect();
            settled.extend(ended.iter().filter_map(|doubt| open.remove(doubt)).map(|since: Instant| since.elapsed()));
            for doubt in in_doubt {
                open.entry(doubt).or_insert_with(Instant::now);
            }
            if over {
                return (operation, settled);
            }
            assert!(began.elapsed() < OPERATION_MAX, "{operation:#?}\n{}", self.home.log());
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Waits until something holds.
    pub(crate) async fn until(&self, patience: Duration, holds: impl Fn(&Self) -> Result<(), String>) {
        let began = Instant::now();
        loop {
            match holds(self) {
                Ok(()) => return,
                Err(why) => assert!(began.elapsed() < patience, "after {patience:?}: {why}"),
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Every app at the provider, without its prefix: the instances.
    pub(crate) fn instances_there(&self) -> Vec<Uuid> {
        let name = |name: &String| name.strip_prefix("fh-").and_then(|id| Uuid::parse_str(id).ok());
        self.fly.world().apps.keys().filter_map(name).collect()
    }
}
