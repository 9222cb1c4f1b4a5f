//! Which adapter is behind which port. The only file that names every adapter.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use freehold_api::webhook::Secrets;
use freehold_billing::{HttpBilling, HttpBillingOptions};
use freehold_domain::lease::{Holder, InvalidName, PriceVersion, ProviderName, TierName};
use freehold_domain::plan::Capabilities;
use freehold_domain::route::Endpoint;
use freehold_engine::control_plane::ControlPlane;
use freehold_engine::duty::Duty;
use freehold_engine::ident::Idents;
use freehold_engine::local_billing::LocalBilling;
use freehold_engine::ports::{Billing, Claimed, Installation, KeyRole, Provider, Records, Store};
use freehold_engine::spec::Vault;
use freehold_engine::standing::Standing;
use freehold_engine::world::{Policy, Template, Tier, World};
use freehold_providers::docker::DockerProvider;
use freehold_providers::fake::{FakeCloud, FakeProvider};
use freehold_providers::fly::{self, FlyOptions, FlyProvider};
use freehold_providers::process::{ProcessOptions, ProcessProvider};
use freehold_server::{
    AnswerRenderer, Hub, JwksTiming, Keys, Metrics, Probe, ServerParts, Settings, UserKeys, UserTokens,
};
use freehold_store::postgres::{Options as RecordsOptions, PostgresRecords};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::clock::{SystemClock, SystemEntropy};
use super::drivers::{HINTS_MAX, Hints};
use super::folder::{DataFolder, unusable};
use super::gaps;
use super::registry::Registry;
use crate::config::{BillingKind, Config, FakeConfig, FlyConfig, Jwt, ProviderConfig, Roles, SecretSource, UsersRun};
use crate::exit::Failure;

/// How long a new program is watched before its instance is published while it still starts: long enough for most to be
/// up, short enough for a caller that waits.
const READY_GRACE: Duration = Duration::from_secs(5);

/// How long idempotency records are kept after their operation is over: longer than any caller repeats itself.
const IDEMPOTENCY_KEPT: Duration = Duration::from_secs(24 * 3600);

/// The most of a lease that must be left for a call to leave: far more than the way from the check to the wire takes.
const SEND_MARGIN_MAX: Duration = Duration::from_secs(2);

/// A lease this many times as long as its margin leaves room for renewals, which come before half of it is over.
const LEASE_PER_MARGIN: u32 = 5;

/// How long records that did not answer for an owner are left alone.
const RECORDS_PAUSE: Duration = Duration::from_secs(10);

/// Where fake instances say that they answer: the discard service, which nobody runs.
const NOWHERE: &str = "http://127.0.0.1:9";

/// The template word that stands for this very program.
const THIS_PROGRAM: &str = "freehold";

/// Everything that a node is made of, before anything runs.
pub(super) struct Wired {
    pub(super) world: Arc<World>,
    pub(super) store: Arc<dyn Store>,
    pub(super) hub: Arc<Hub>,
    pub(super) metrics: Arc<Metrics>,
    /// Operations that this node admitted and is to run.
    pub(super) admitted: mpsc::Receiver<Claimed>,
    /// Wakes whoever watches the timers.
    pub(super) timers: Arc<Notify>,
}

/// Who this node is, and what it shares with others.
pub(super) struct Identity {
    pub(super) installation: Installation,
    pub(super) holder: Holder,
    /// Until when the janitor only looks, by this node's monotonic clock.
    pub(super) janitor_looks_until: Duration,
    /// Whether it may act.
    pub(super) standing: Arc<Standing>,
}

impl Wired {
    /// Puts a node together.
    ///
    /// # Errors
    /// A provider that cannot be opened, or a name that is none.
    pub(super) fn new(
        config: &Config,
        roles: Roles,
        folder: &DataFolder,
        clock: Arc<SystemClock>,
        registry: Registry,
        metrics: Arc<Metrics>,
        identity: Identity,
    ) -> Result<Self, Failure> {
        let Identity { installation, holder, janitor_looks_until, standing } = identity;
        let Installation { install, mac_key, secret_key } = installation;
        let entropy = Arc::new(SystemEntropy::new());
        let idents = Idents::new(install, &mac_key);
        let (sender, admitted) = mpsc::channel(HINTS_MAX);
        let (hub, timers) = (Hub::new(), Arc::new(Notify::new()));
        let Registry { store, records, keeps_time: _ } = registry;
        let elsewhere = records_elsewhere(config)?;
        let world = World {
            store: store.clone(),
            records: elsewhere.unwrap_or(records),
            records_elsewhere: !config.records.url.is_empty(),
            billing: billing(config, &clock, &entropy)?,
            providers: providers(config, folder.path(), &idents)?,
            clock,
            entropy: entropy.clone(),
            driver: Arc::new(Hints { admitted: sender, hub: hub.clone(), timers: timers.clone() }),
            gaps: gaps::asked_for()?,
            meter: metrics.clone(),
            render: Arc::new(AnswerRenderer),
            idents,
            vault: Vault::new(&secret_key, entropy),
            policy: policy(config, janitor_looks_until)?,
            holder,
            duty: Duty::new(roles.executor),
            standing,
        };
        Ok(Self { world: Arc::new(world), store, hub, metrics, admitted, timers })
    }
}

/// The records, where they are in a database of their own. It need not answer yet: a server starts while it is away.
fn records_elsewhere(config: &Config) -> Result<Option<Arc<dyn Records>>, Failure> {
    if config.records.url.is_empty() {
        return Ok(None);
    }
    let records = PostgresRecords::connect(config.records.url.expose(), RecordsOptions::default());
    let records = records.map_err(|error| Failure::usage(format!("records.url: {error}")))?;
    tracing::info!(records = records.place(), "the records are elsewhere");
    Ok(Some(Arc::new(records)))
}

/// What the HTTP side is made of.
///
/// # Errors
/// A key that the configuration names and that is not there.
pub(super) fn server_parts(
    config: &Config,
    roles: Roles,
    folder: &DataFolder,
    wired: &Wired,
    executor: Probe,
    shutdown: CancellationToken,
) -> Result<ServerParts, Failure> {
    let mut keys = Keys::new(wired.store.clone());
    if let Some(key) = read(&config.auth.platform_key())? {
        keys = keys.with("platform", KeyRole::Platform, key.expose());
    }
    let operator = match read(&config.auth.operator_key())? {
        Some(key) => key,
        None => folder.operator_key()?,
    };
    keys = keys.with("operator", KeyRole::Operator, operator.expose());
    if let Some(jwt) = &config.auth.jwt {
        keys = keys.with_users(user_tokens(jwt)?).map_err(|error| {
            Failure::usage(format!("auth.jwt: {error}"))
                .hint("a good secret is 32 bytes of chance, written in hexadecimal")
        })?;
    }
    let settings = Settings {
        default_wait: config.provision.default_wait.get(),
        requests_per_second_per_caller: config.limits.requests_per_second_per_caller,
        users_run_anything: config.auth.jwt.as_ref().is_some_and(|jwt| jwt.users_run == UsersRun::Anything),
        proxy_public: config.proxy.public,
        api: roles.http,
        proxy: roles.proxy,
    };
    Ok(ServerParts {
        control_plane: Arc::new(ControlPlane::new(wired.world.clone())),
        hub: wired.hub.clone(),
        keys,
        billing: billing_secrets(config)?,
        metrics: wired.metrics.clone(),
        executor,
        settings,
        shutdown,
    })
}

fn user_tokens(jwt: &Jwt) -> Result<UserTokens, Failure> {
    let keys = match (&jwt.jwks_url, read(&jwt.hs256_secret())?) {
        (Some(url), _) => UserKeys::Published(url.expose().to_owned(), JwksTiming::default()),
        (None, secret) => UserKeys::Shared(secret.map(|secret| secret.expose().to_owned()).unwrap_or_default()),
    };
    Ok(UserTokens { issuer: jwt.issuer.clone(), audience: jwt.audience.clone(), keys })
}

fn read(source: &SecretSource<'_>) -> Result<Option<crate::config::Secret>, Failure> {
    let env = |name: &str| std::env::var(name).ok();
    source.read(&env).map_err(|error| {
        Failure::usage(format!("{}: {error}", source.path)).hint("a secret that the configuration names must be there")
    })
}

fn providers(
    config: &Config,
    data_dir: &Path,
    idents: &Idents,
) -> Result<BTreeMap<ProviderName, Arc<dyn Provider>>, Failure> {
    let mut providers: BTreeMap<ProviderName, Arc<dyn Provider>> = BTreeMap::new();
    for (name, settings) in &config.providers {
        providers.insert(parsed("providers", name)?, opener(name, settings, data_dir)?(idents)?);
    }
    Ok(providers)
}

/// Opens providers over one world (a folder, an engine, an account), for whoever's idents it is given.
pub(crate) type Opener = Box<dyn Fn(&Idents) -> Result<Arc<dyn Provider>, Failure> + Send + Sync>;

/// What opens the provider of that name.
///
/// # Errors
/// A kind that this build has no adapter for.
pub(crate) fn opener(name: &str, settings: &ProviderConfig, data_dir: &Path) -> Result<Opener, Failure> {
    match settings {
        ProviderConfig::Process => {
            let (name, data_dir) = (name.to_owned(), data_dir.to_owned());
            Ok(Box::new(move |idents| {
                let options = ProcessOptions::new(data_dir.clone());
                let provider =
                    ProcessProvider::open(options, idents.clone()).map_err(|error| unusable(&data_dir, &error))?;
                tracing::info!(provider = name, "{}", provider.limits());
                Ok(Arc::new(provider))
            }))
        }
        ProviderConfig::Fake(settings) => {
            let (cloud, settings) = (FakeCloud::default(), settings.clone());
            cloud.forget_calls();
            cloud.answer_at(Endpoint(NOWHERE.to_owned()));
            Ok(Box::new(move |idents| Ok(Arc::new(fake(cloud.clone(), &settings, idents.clone())))))
        }
        ProviderConfig::Fly(settings) => {
            let options = fly_options(name, settings)?;
            let name = name.to_owned();
            Ok(Box::new(move |idents| {
                let provider = FlyProvider::new(options.clone(), idents.clone());
                Ok(Arc::new(provider.map_err(|why| Failure::usage(format!("providers.{name}: {why}")))?))
            }))
        }
        ProviderConfig::Docker(settings) => {
            let wrong =
                |name: &str, error: &dyn std::fmt::Display| Failure::usage(format!("providers.{name}: {error}"));
            let options = settings.options().map_err(|error| wrong(name, &error))?;
            let name = name.to_owned();
            Ok(Box::new(move |idents| {
                let provider = DockerProvider::open(options.clone(), idents.clone());
                Ok(Arc::new(provider.map_err(|error| wrong(&name, &error))?))
            }))
        }
    }
}

fn fly_options(name: &str, settings: &FlyConfig) -> Result<FlyOptions, Failure> {
    let env = |name: &str| std::env::var(name).ok();
    let unusable = |why: String| {
        Failure::usage(format!("providers.{name}.token: {why}"))
            .hint("put an organisation's token into the variable of token_env, or the file of token_file")
    };
    let token = settings.token().read(&env).map_err(|error| unusable(error.to_string()))?;
    let token = token.ok_or_else(|| unusable("no place for it is named".to_owned()))?;
    Ok(FlyOptions {
        api_url: settings.api_url.expose().to_owned(),
        token: token.expose().to_owned(),
        org_slug: settings.org_slug.clone(),
        app_prefix: settings.app_prefix.clone(),
        regions: settings.regions.clone(),
        request_timeout: settings.request_timeout.get(),
        settle_horizon: settings.settle_horizon.get(),
        changes_per_second: fly::CHANGES_PER_SECOND,
        port: settings.port,
        volume_path: settings.volume_path.clone(),
    })
}

/// A provider without anything behind it: it keeps every promise, in memory, and forgets it all at the end.
fn fake(cloud: FakeCloud, settings: &FakeConfig, idents: Idents) -> FakeProvider {
    let FakeConfig { latency, settle_horizon } = settings;
    let promises = Capabilities { settle_horizon: settle_horizon.get(), ..FakeProvider::BEST };
    let provider = FakeProvider::new(cloud, idents, promises);
    if latency.is_zero() {
        return provider;
    }
    let latency = latency.get();
    provider.with_pause(Arc::new(move || Box::pin(tokio::time::sleep(latency))))
}

/// Who says what a context may have.
fn billing(
    config: &Config,
    clock: &Arc<SystemClock>,
    entropy: &Arc<SystemEntropy>,
) -> Result<Arc<dyn Billing>, Failure> {
    let plans = local_billing(config)?;
    let Some(secrets) = billing_secrets(config)? else { return Ok(Arc::new(plans)) };
    let settings = &config.billing;
    let options = HttpBillingOptions {
        url: settings.url.expose().to_owned(),
        secrets,
        timeout: settings.request_timeout.get(),
        plans,
        falls_back: settings.falls_back(),
    };
    let billing = HttpBilling::new(options, clock.clone(), entropy.clone());
    Ok(Arc::new(billing.map_err(|error| Failure::usage(format!("billing.url: {error}")))?))
}

/// What messages to the billing service and from it are signed with; `None` where there is no service.
fn billing_secrets(config: &Config) -> Result<Option<Secrets>, Failure> {
    match config.billing.kind {
        BillingKind::Local => return Ok(None),
        BillingKind::Http => {}
    }
    let source = config.billing.secret();
    let hint =
        "write whsec_ and 24 to 64 bytes in base64, such as of `openssl rand -base64 32`; several parted by spaces";
    let secret = read(&source)?.ok_or_else(|| Failure::usage("billing.secret: no place for it is named").hint(hint))?;
    let secrets = secret.expose().parse::<Secrets>();
    secrets.map(Some).map_err(|error| Failure::usage(format!("billing.secret: {error}")).hint(hint))
}

fn local_billing(config: &Config) -> Result<LocalBilling, Failure> {
    let price_versions = config.price_versions.iter().map(|(name, version)| {
        Ok::<(PriceVersion, TierName), Failure>((
            parsed("price_versions", name)?,
            parsed("price_versions.tier", &version.tier)?,
        ))
    });
    let ranks = config.tiers.iter().map(|(name, tier)| Ok::<_, Failure>((parsed("tiers", name)?, tier.rank)));
    Ok(LocalBilling {
        price_version: parsed("billing.price_version", &config.billing.price_version)?,
        price_versions: price_versions.collect::<Result<_, _>>()?,
        ranks: ranks.collect::<Result<_, _>>()?,
    })
}

fn policy(config: &Config, janitor_looks_until: Duration) -> Result<Policy, Failure> {
    let timing = &config.timing;
    let lease = timing.lease.get();
    let tiers = config
        .tiers
        .iter()
        .map(|(name, settings)| Ok::<(TierName, Tier), Failure>((parsed("tiers", name)?, tier(settings))));
    let templates = templates(config)?;
    Ok(Policy {
        instances_per_context: config.limits.instances_per_context,
        default_provider: parsed("provision.default_provider", &config.provision.default_provider)?,
        max_attempts: config.provision.max_attempts,
        deadline: config.provision.deadline.get(),
        lease,
        send_margin: (lease / LEASE_PER_MARGIN).min(SEND_MARGIN_MAX),
        retry_min: timing.retry_min.get(),
        retry_max: timing.retry_max.get(),
        ready_grace: READY_GRACE,
        running_check: timing.running_check.get(),
        stopped_check: timing.stopped_check.get(),
        starting_timeout: timing.starting_timeout.get(),
        destroy_stuck_after: timing.destroy_stuck_after.get(),
        janitor_looks_until,
        idempotency_kept: IDEMPOTENCY_KEPT,
        billing_falls_back: config.billing.falls_back(),
        price_version: parsed("billing.price_version", &config.billing.price_version)?,
        records_pause: RECORDS_PAUSE,
        tiers: tiers.collect::<Result<_, _>>()?,
        templates,
    })
}

/// What a tier of the configuration stands for.
pub(crate) fn tier(settings: &crate::config::Tier) -> Tier {
    let crate::config::Tier { rank, memory_mb, cpus, volume_gb } = *settings;
    #[expect(clippy::cast_possible_truncation, reason = "a float's cast stops at the ends of the integer")]
    #[expect(clippy::cast_sign_loss, reason = "the configuration takes no negative number of processors")]
    let cpu_millis = (cpus * 1000.0).round() as u32;
    Tier { rank, memory_mb, cpu_millis, volume_gb }
}

/// What the templates of the configuration run.
///
/// # Errors
/// If this program does not know where it is.
pub(crate) fn templates(config: &Config) -> Result<BTreeMap<String, Template>, Failure> {
    let program = std::env::current_exe()?.to_string_lossy().into_owned();
    let templates = config.templates.iter().map(|(name, template)| {
        let crate::config::Template { command, image } = template.clone();
        (name.clone(), Template { image, command: resolved(command, &program), env: BTreeMap::new() })
    });
    Ok(templates.collect())
}

/// A template that runs `freehold` runs this program, wherever it is.
fn resolved(mut command: Vec<String>, program: &str) -> Vec<String> {
    if let Some(first) = command.first_mut().filter(|first| *first == THIS_PROGRAM) {
        program.clone_into(first);
    }
    command
}

/// A name of the configuration as the domain has it. The configuration was checked, so this is a defect elsewhere.
fn parsed<T: std::str::FromStr<Err = InvalidName>>(setting: &str, name: &str) -> Result<T, Failure> {
    name.parse().map_err(|error| Failure::usage(format!("{setting}: {name:?}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    #[test]
    fn the_usual_configuration_makes_a_policy_and_a_bill() {
        let config = Config::load(&Sources::default()).unwrap();
        let policy = policy(&config, Duration::from_secs(7)).unwrap();
        assert_eq!(policy.janitor_looks_until, Duration::from_secs(7));
        let command = &policy.templates["hello"].command;
        assert_eq!(command[1..], ["hello-instance"]);
        assert!(Path::new(&command[0]).is_absolute(), "{command:?}");
        let small = policy.tiers[&"small".parse::<TierName>().unwrap()];
        assert_eq!(small, Tier { rank: 1, memory_mb: 256, cpu_millis: 1000, volume_gb: 1 });
        assert!(policy.send_margin + config.timing.renew.get() < policy.lease, "a renewed lease may send");
        let billing = local_billing(&config).unwrap();
        assert!(billing.price_versions.contains_key(&billing.price_version));
    }

    #[test]
    fn only_the_first_word_of_a_command_stands_for_this_program() {
        let command = |words: &[&str]| resolved(words.iter().map(|&word| word.to_owned()).collect(), "/bin/x");
        assert_eq!(command(&["freehold", "freehold"]), ["/bin/x", "freehold"]);
        assert_eq!(command(&["./freehold"]), ["./freehold"]);
        assert!(command(&[]).is_empty());
    }
}
