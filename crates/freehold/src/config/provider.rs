//! `[providers.NAME]`: which adapter, and its settings.
//!
//! The kind decides which keys there are; a key of another kind is an unknown key.

use serde::{Deserialize, Deserializer, Serialize};

use super::docker::{self, DockerConfig};
use super::duration::Period;
use super::secret::{GuardedUrl, SecretSource};

/// A provider's settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum ProviderConfig {
    /// Programs on this machine. There is nothing to set: a look at the machine is always conclusive.
    Process,
    /// Nothing real, with scripted faults: for tests, rehearsals and benchmarks.
    Fake(FakeConfig),
    /// Containers of a Docker Engine.
    Docker(DockerConfig),
    /// Fly Machines.
    Fly(FlyConfig),
}

/// The word that names an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ProviderKind {
    /// Programs on this machine.
    Process,
    /// Nothing real.
    Fake,
    /// Containers.
    Docker,
    /// Fly Machines.
    Fly,
}

impl ProviderKind {
    /// The word.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Fake => "fake",
            Self::Docker => "docker",
            Self::Fly => "fly",
        }
    }

    /// The keys that a provider of this kind has.
    const fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Process => &["kind"],
            Self::Fake => &["kind", "latency", "settle_horizon"],
            Self::Docker => docker::KEYS,
            Self::Fly => &[
                "kind",
                "api_url",
                "token_env",
                "token_file",
                "org_slug",
                "app_prefix",
                "regions",
                "request_timeout",
                "settle_horizon",
                "port",
                "volume_path",
            ],
        }
    }
}

/// `kind = "fake"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct FakeConfig {
    /// How long each call takes.
    pub(crate) latency: Period,
    /// The longest time after which an unanswered call may still take effect.
    pub(crate) settle_horizon: Period,
}

/// `kind = "fly"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct FlyConfig {
    /// The Machines API.
    pub(crate) api_url: GuardedUrl,
    /// The variable with the token.
    pub(crate) token_env: String,
    /// The file with it.
    pub(crate) token_file: std::path::PathBuf,
    /// The organisation that pays.
    pub(crate) org_slug: String,
    /// What the names of apps begin with.
    pub(crate) app_prefix: String,
    /// Where to try, in order.
    pub(crate) regions: Vec<String>,
    /// When a call counts as unanswered.
    pub(crate) request_timeout: Period,
    /// The longest time after which an unanswered call may still take effect.
    pub(crate) settle_horizon: Period,
    /// The port that instances answer at.
    pub(crate) port: u16,
    /// Where instances find their volume.
    pub(crate) volume_path: String,
}

impl FlyConfig {
    /// Where the token comes from.
    pub(crate) fn token(&self) -> SecretSource<'_> {
        SecretSource { path: "token", env: &self.token_env, file: &self.token_file, usual_env: "" }
    }
}

impl ProviderConfig {
    /// Which adapter it is.
    pub(crate) const fn kind(&self) -> ProviderKind {
        match self {
            Self::Process => ProviderKind::Process,
            Self::Fake(_) => ProviderKind::Fake,
            Self::Docker(_) => ProviderKind::Docker,
            Self::Fly(_) => ProviderKind::Fly,
        }
    }

    /// The longest time after which an unanswered call may still take effect.
    pub(crate) const fn settle_horizon(&self) -> Period {
        match self {
            Self::Process => Period::from_millis(0),
            Self::Fake(FakeConfig { settle_horizon, .. })
            | Self::Docker(DockerConfig { settle_horizon, .. })
            | Self::Fly(FlyConfig { settle_horizon, .. }) => *settle_horizon,
        }
    }
}

/// The horizon of Fly until it is measured, in milliseconds.
const FLY_HORIZON_MS: u64 = 60_000;

/// When a call counts as unanswered, in milliseconds: longer than any healthy one takes.
const REQUEST_TIMEOUT_MS: u64 = 20_000;

/// The port that instances answer at, where nothing is said.
const PORT: u16 = 8080;

/// Where instances find their volume, where nothing is said.
const VOLUME_PATH: &str = "/data";

/// All keys of all kinds, as they are read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AllKeys {
    kind: ProviderKind,
    latency: Option<Period>,
    host: Option<String>,
    tls_ca: Option<std::path::PathBuf>,
    tls_cert: Option<std::path::PathBuf>,
    tls_key: Option<std::path::PathBuf>,
    pull_timeout: Option<Period>,
    stop_grace: Option<Period>,
    port: Option<u16>,
    volume_path: Option<String>,
    network: Option<String>,
    publish_address: Option<String>,
    init: Option<bool>,
    api_url: Option<GuardedUrl>,
    token_env: Option<String>,
    token_file: Option<std::path::PathBuf>,
    org_slug: Option<String>,
    app_prefix: Option<String>,
    regions: Option<Vec<String>>,
    request_timeout: Option<Period>,
    settle_horizon: Option<Period>,
}

impl AllKeys {
    /// The first key that is set and that the kind does not have.
    fn stranger(&self) -> Option<&'static str> {
        let Self {
            kind,
            latency,
            host,
            tls_ca,
            tls_cert,
            tls_key,
            pull_timeout,
            stop_grace,
            port,
            volume_path,
            network,
            publish_address,
            init,
            api_url,
            token_env,
            token_file,
            org_slug,
            app_prefix,
            regions,
            request_timeout,
            settle_horizon,
        } = self;
        [
            ("latency", latency.is_some()),
            ("host", host.is_some()),
            ("tls_ca", tls_ca.is_some()),
            ("tls_cert", tls_cert.is_some()),
            ("tls_key", tls_key.is_some()),
            ("pull_timeout", pull_timeout.is_some()),
            ("stop_grace", stop_grace.is_some()),
            ("port", port.is_some()),
            ("volume_path", volume_path.is_some()),
            ("network", network.is_some()),
            ("publish_address", publish_address.is_some()),
            ("init", init.is_some()),
            ("api_url", api_url.is_some()),
            ("token_env", token_env.is_some()),
            ("token_file", token_file.is_some()),
            ("org_slug", org_slug.is_some()),
            ("app_prefix", app_prefix.is_some()),
            ("regions", regions.is_some()),
            ("request_timeout", request_timeout.is_some()),
            ("settle_horizon", settle_horizon.is_some()),
        ]
        .into_iter()
        .find_map(|(key, set)| (set && !kind.keys().contains(&key)).then_some(key))
    }
}

impl<'de> Deserialize<'de> for ProviderConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let keys = AllKeys::deserialize(deserializer)?;
        if let Some(key) = keys.stranger() {
            return Err(serde::de::Error::unknown_field(key, keys.kind.keys()));
        }
        let timeout = keys.request_timeout.unwrap_or(Period::from_millis(REQUEST_TIMEOUT_MS));
        let horizon = |usual_ms| keys.settle_horizon.unwrap_or(Period::from_millis(usual_ms));
        Ok(match keys.kind {
            ProviderKind::Process => Self::Process,
            ProviderKind::Fake => {
                Self::Fake(FakeConfig { latency: keys.latency.unwrap_or_default(), settle_horizon: horizon(0) })
            }
            ProviderKind::Docker => {
                let usual = DockerConfig::default();
                Self::Docker(DockerConfig {
                    host: keys.host.unwrap_or(usual.host),
                    tls_ca: keys.tls_ca.unwrap_or(usual.tls_ca),
                    tls_cert: keys.tls_cert.unwrap_or(usual.tls_cert),
                    tls_key: keys.tls_key.unwrap_or(usual.tls_key),
                    request_timeout: keys.request_timeout.unwrap_or(usual.request_timeout),
                    pull_timeout: keys.pull_timeout.unwrap_or(usual.pull_timeout),
                    stop_grace: keys.stop_grace.unwrap_or(usual.stop_grace),
                    settle_horizon: keys.settle_horizon.unwrap_or(usual.settle_horizon),
                    port: keys.port.unwrap_or(usual.port),
                    volume_path: keys.volume_path.unwrap_or(usual.volume_path),
                    network: keys.network.unwrap_or(usual.network),
                    publish_address: keys.publish_address.unwrap_or(usual.publish_address),
                    init: keys.init.unwrap_or(usual.init),
                })
            }
            ProviderKind::Fly => Self::Fly(FlyConfig {
                api_url: keys.api_url.unwrap_or_else(|| GuardedUrl::new("https://api.machines.dev/v1")),
                token_env: keys.token_env.unwrap_or_else(|| "FLY_API_TOKEN".to_owned()),
                token_file: keys.token_file.unwrap_or_default(),
                org_slug: keys.org_slug.unwrap_or_else(|| "personal".to_owned()),
                app_prefix: keys.app_prefix.unwrap_or_else(|| "fh".to_owned()),
                regions: keys.regions.unwrap_or_default(),
                request_timeout: timeout,
                settle_horizon: horizon(FLY_HORIZON_MS),
                port: keys.port.unwrap_or(PORT),
                volume_path: keys.volume_path.unwrap_or_else(|| VOLUME_PATH.to_owned()),
            }),
        })
    }
}
