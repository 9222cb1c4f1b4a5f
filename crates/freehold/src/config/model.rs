//! Every section and key of the configuration, typed. The values where nothing is said are in `defaults.toml`.
//!
//! Nothing here is optional by accident: an `Option` is a setting that may be absent, an empty text is one that is
//! switched off.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::duration::Period;
use super::provider::ProviderConfig;
use super::secret::{GuardedUrl, SecretSource};

/// The whole configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Where the server listens, `ADDRESS:PORT`. Port 0 takes a free one.
    pub(crate) listen: String,
    /// Where everything is kept.
    pub(crate) data_dir: PathBuf,
    /// This node's name; absent: minted at first start and kept in the data folder.
    pub(crate) node_id: Option<String>,
    /// This installation's name, in names and tags at providers; fixed at first start.
    pub(crate) install_id: Option<String>,
    /// The two keys of the installation.
    pub(crate) keys: Keys,
    /// Reservations and routes.
    pub(crate) registry: Registry,
    /// Instance rows and subscriptions.
    pub(crate) records: Records,
    /// How much anyone may have.
    pub(crate) limits: Limits,
    /// How a provision is run.
    pub(crate) provision: Provision,
    /// Leases, timers and time-outs.
    pub(crate) timing: Timing,
    /// What nothing refers to.
    pub(crate) janitor: Janitor,
    /// The way to the instances.
    pub(crate) proxy: Proxy,
    /// What makes resources, by name.
    pub(crate) providers: BTreeMap<String, ProviderConfig>,
    /// What an instance runs, by name.
    pub(crate) templates: BTreeMap<String, Template>,
    /// How large an instance is, by name.
    pub(crate) tiers: BTreeMap<String, Tier>,
    /// Which tier a plan reaches up to, by version.
    pub(crate) price_versions: BTreeMap<String, PriceVersion>,
    /// Who says what a context may have.
    pub(crate) billing: Billing,
    /// Who may call.
    pub(crate) auth: Auth,
}

/// `[keys]`. Empty: minted at first start and kept in the registry.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Keys {
    /// The variable with the key that signs tags at providers.
    pub(crate) mac_key_env: String,
    /// The file with it.
    pub(crate) mac_key_file: PathBuf,
    /// The variable with the key that encrypts secrets at rest.
    pub(crate) secret_key_env: String,
    /// The file with it.
    pub(crate) secret_key_file: PathBuf,
}

/// `[registry]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Registry {
    /// `sqlite:PATH`, relative to the data folder, or `postgres://…`.
    pub(crate) url: GuardedUrl,
}

/// `[records]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Records {
    /// Empty: the registry's database. Otherwise `postgres://…`.
    pub(crate) url: GuardedUrl,
}

/// `[limits]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limits {
    /// How many instances a context may have.
    pub(crate) instances_per_context: u32,
    /// Requests per second and caller.
    pub(crate) requests_per_second_per_caller: u32,
}

/// `[provision]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Provision {
    /// The provider of a request that names none.
    pub(crate) default_provider: String,
    /// How often a step is tried.
    pub(crate) max_attempts: u32,
    /// When a provision that is not done is given up.
    pub(crate) deadline: Period,
    /// How long a request waits before it is answered 202.
    pub(crate) default_wait: Period,
}

/// `[timing]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Timing {
    /// How long an executor holds an operation without renewing.
    pub(crate) lease: Period,
    /// How often it renews.
    pub(crate) renew: Period,
    /// How often a running instance is looked at.
    pub(crate) running_check: Period,
    /// When an instance that is still starting is given up.
    pub(crate) starting_timeout: Period,
    /// How often a stopped instance is looked at.
    pub(crate) stopped_check: Period,
    /// The first wait before something is tried again.
    pub(crate) retry_min: Period,
    /// The longest such wait.
    pub(crate) retry_max: Period,
    /// How often the janitor sweeps.
    pub(crate) janitor_interval: Period,
    /// When a destroy that is not done is called stuck.
    pub(crate) destroy_stuck_after: Period,
}

/// `[janitor]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Janitor {
    /// When the janitor only looks and tells.
    pub(crate) dry_run: DryRun,
}

/// When the janitor only looks and tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DryRun {
    /// While the registry is young.
    FirstStart,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// `[proxy]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Proxy {
    /// Whether instances are reached without a key of ours.
    pub(crate) public: bool,
}

/// `[templates.NAME]`: what an instance runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Template {
    /// The program and its arguments. Empty: the image's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) command: Vec<String>,
    /// The image, for providers that run images.
    pub(crate) image: Option<String>,
}

/// `[tiers.NAME]`: how large an instance is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tier {
    /// Tiers are ordered by rank; a plan allows up to its tier.
    pub(crate) rank: u32,
    /// Memory, in MiB.
    #[serde(default = "Tier::usual_memory_mb")]
    pub(crate) memory_mb: u32,
    /// Processors; parts of one are allowed.
    #[serde(default = "Tier::usual_cpus")]
    pub(crate) cpus: f64,
    /// The volume, in GiB; 0 for none.
    #[serde(default = "Tier::usual_volume_gb")]
    pub(crate) volume_gb: u32,
}

impl Tier {
    const fn usual_memory_mb() -> u32 {
        256
    }

    const fn usual_cpus() -> f64 {
        1.0
    }

    const fn usual_volume_gb() -> u32 {
        1
    }
}

/// `[price_versions.NAME]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PriceVersion {
    /// The highest tier that a plan of this version allows.
    pub(crate) tier: String,
}

/// `[billing]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Billing {
    /// Who is asked.
    pub(crate) kind: BillingKind,
    /// The billing service.
    pub(crate) url: GuardedUrl,
    /// The variable with the secret that signs what is sent there.
    pub(crate) secret_env: String,
    /// The file with it.
    pub(crate) secret_file: PathBuf,
    /// What to do where a subscription cannot be started there in time.
    pub(crate) fallback: BillingFallback,
    /// What new local subscriptions get.
    pub(crate) price_version: String,
    /// When a message counts as unanswered.
    pub(crate) request_timeout: Period,
}

impl Billing {
    /// Where the secret comes from that messages are signed with; several, parted by spaces, while one takes another's
    /// place.
    pub(crate) fn secret(&self) -> SecretSource<'_> {
        source("billing.secret", &self.secret_env, &self.secret_file, "")
    }

    /// Whether a subscription may be started without the service.
    pub(crate) fn falls_back(&self) -> bool {
        self.kind == BillingKind::Http && self.fallback == BillingFallback::Local
    }
}

/// Who is asked what a context may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BillingKind {
    /// This configuration.
    Local,
    /// A service.
    Http,
}

/// What happens where the billing service does not start a subscription in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BillingFallback {
    /// The new instance is undone.
    None,
    /// The subscription is written here and reported later.
    Local,
}

/// `[auth]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Auth {
    /// The variable with the key of your backend.
    pub(crate) platform_key_env: String,
    /// The file with it.
    pub(crate) platform_key_file: PathBuf,
    /// The variable with the operators' key.
    pub(crate) operator_key_env: String,
    /// The file with it.
    pub(crate) operator_key_file: PathBuf,
    /// End users' tokens; absent: refused.
    pub(crate) jwt: Option<Jwt>,
}

/// `[auth.jwt]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Jwt {
    /// Who issues the tokens.
    pub(crate) issuer: String,
    /// Whom they are for.
    pub(crate) audience: String,
    /// Where the issuer's public keys are.
    pub(crate) jwks_url: Option<GuardedUrl>,
    /// The variable with a shared secret instead.
    #[serde(default)]
    pub(crate) hs256_secret_env: String,
    /// The file with it.
    #[serde(default)]
    pub(crate) hs256_secret_file: PathBuf,
    /// What end users' instances run.
    #[serde(default)]
    pub(crate) users_run: UsersRun,
}

/// What the instances of end users run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum UsersRun {
    /// A template of this configuration.
    #[default]
    Templates,
    /// Whatever they say.
    Anything,
}

/// The variable that holds the platform key when nothing else is said.
const PLATFORM_KEY_ENV: &str = "FREEHOLD_PLATFORM_KEY";

/// The variable that holds the operator key when nothing else is said.
const OPERATOR_KEY_ENV: &str = "FREEHOLD_OPERATOR_KEY";

fn source<'a>(path: &'static str, env: &'a str, file: &'a Path, usual_env: &'static str) -> SecretSource<'a> {
    SecretSource { path, env, file, usual_env }
}

impl Config {
    /// Where each secret comes from, in the order of the sections.
    pub(crate) fn secrets(&self) -> Vec<SecretSource<'_>> {
        let Self { keys, billing, auth, .. } = self;
        let mut sources =
            vec![keys.mac_key(), keys.secret_key(), billing.secret(), auth.platform_key(), auth.operator_key()];
        sources.extend(auth.jwt.as_ref().map(Jwt::hs256_secret));
        sources
    }
}

impl Keys {
    /// Where the key that signs tags comes from.
    pub(crate) fn mac_key(&self) -> SecretSource<'_> {
        source("keys.mac_key", &self.mac_key_env, &self.mac_key_file, "")
    }

    /// Where the key that encrypts secrets at rest comes from.
    pub(crate) fn secret_key(&self) -> SecretSource<'_> {
        source("keys.secret_key", &self.secret_key_env, &self.secret_key_file, "")
    }
}

impl Jwt {
    /// Where the secret comes from that the issuer shares with us.
    pub(crate) fn hs256_secret(&self) -> SecretSource<'_> {
        source("auth.jwt.hs256_secret", &self.hs256_secret_env, &self.hs256_secret_file, "")
    }
}

impl Auth {
    /// Where the platform key comes from.
    pub(crate) fn platform_key(&self) -> SecretSource<'_> {
        source("auth.platform_key", &self.platform_key_env, &self.platform_key_file, PLATFORM_KEY_ENV)
    }

    /// Where the operator key comes from.
    pub(crate) fn operator_key(&self) -> SecretSource<'_> {
        source("auth.operator_key", &self.operator_key_env, &self.operator_key_file, OPERATOR_KEY_ENV)
    }
}
