//! What no single key can know: how the settings must fit together, and which of them this build can honour.
//!
//! Every check says which setting, what is wrong, and what would be right. All checks run, so that one look shows all.

use std::net::SocketAddr;

use super::de::dotted;
use super::duration::Period;
use super::error::{Finding, nearest};
use super::model::{Auth, Billing, BillingFallback, BillingKind, Config, Limits, Provision, Timing};
use super::provider::ProviderConfig;

/// The longest name of a node, provider, template, tier or price version, in characters.
const NAME_CHARS_MAX: usize = 63;

/// The longest name of an installation, in characters: it is part of names at providers, which are short.
const INSTALL_CHARS_MAX: usize = 32;

/// A finding, and the keys that lead to the setting.
pub(super) type Found = (Vec<String>, Finding);

/// Collects findings.
struct Findings(Vec<Found>);

impl Findings {
    fn add(&mut self, path: &[&str], message: impl Into<String>, hint: Option<String>) {
        let keys = path.iter().map(|key| (*key).to_owned()).collect();
        self.0.push((keys, Finding { hint, ..Finding::new(dotted(path), message) }));
    }
}

/// Everything about a configuration that does not fit together.
pub(super) fn relations(config: &Config) -> Vec<Found> {
    let mut found = Findings(Vec::new());
    let Config {
        listen,
        data_dir,
        node_id,
        install_id,
        keys: _,
        registry,
        records,
        limits,
        provision,
        timing,
        janitor: _,
        proxy: _,
        providers,
        templates,
        tiers: _,
        price_versions: _,
        billing,
        auth,
    } = config;

    if listen.parse::<SocketAddr>().is_err() {
        let hint = "write ADDRESS:PORT, such as 127.0.0.1:7788; port 0 takes a free one".to_owned();
        found.add(&["listen"], format!("`{listen}` is not an address to listen on"), Some(hint));
    }
    if data_dir.as_os_str().is_empty() {
        found.add(&["data_dir"], "this is empty", Some("name a folder, such as ./freehold-data".to_owned()));
    }
    if let Some(name) = node_id {
        check_name(&mut found, &["node_id"], name, NAME_CHARS_MAX);
    }
    if let Some(name) = install_id {
        check_name(&mut found, &["install_id"], name, INSTALL_CHARS_MAX);
    }
    for (name, provider) in providers {
        if let ProviderConfig::Docker(docker) = provider {
            for (key, message, hint) in docker.wrong() {
                found.add(&["providers", name, key], message, Some(hint.to_owned()));
            }
        }
    }
    let url = registry.url.expose();
    if url.strip_prefix("sqlite:").is_none_or(str::is_empty) && !is_postgres(url) {
        let hint = "write sqlite:FILE or postgres://…".to_owned();
        found.add(&["registry", "url"], format!("`{}` names no database", registry.url), Some(hint));
    }
    if !records.url.is_empty() && !is_postgres(records.url.expose()) {
        let hint = "leave it empty to use the registry's database, or write postgres://…".to_owned();
        found.add(&["records", "url"], format!("`{}` names no database", records.url), Some(hint));
    }
    check_limits(&mut found, limits);
    check_provision(&mut found, config, provision);
    check_timing(&mut found, timing);
    check_names(&mut found, config);
    for (name, template) in templates {
        if template.command.is_empty() && template.image.as_deref().is_none_or(str::is_empty) {
            let hint = "give it a `command`, an `image`, or both".to_owned();
            found.add(&["templates", name], "there is nothing to run", Some(hint));
        }
    }
    check_tiers(&mut found, config);
    check_billing(&mut found, config, billing);
    check_auth(&mut found, auth);
    for source in config.secrets() {
        if source.is_ambiguous() {
            let file: Vec<&str> = source.path.split('.').collect();
            let setting = format!("{}_file", file[file.len() - 1]);
            let path: Vec<&str> = file[..file.len() - 1].iter().copied().chain([setting.as_str()]).collect();
            found.add(
                &path,
                format!("`{}` is named by a variable and by a file", source.path),
                Some("keep one".to_owned()),
            );
        }
    }
    found.0
}

fn is_postgres(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
}

fn is_http(url: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| url.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()))
}

fn check_name(found: &mut Findings, path: &[&str], name: &str, longest: usize) {
    let fits = (1..=longest).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if !fits {
        let hint = format!("use up to {longest} letters, digits, `-`, `_` and `.`, beginning with a letter or digit");
        found.add(path, format!("{name:?} is not a name"), Some(hint));
    }
}

fn check_limits(found: &mut Findings, limits: &Limits) {
    let Limits { instances_per_context, requests_per_second_per_caller } = limits;
    for (key, limit) in [
        ("instances_per_context", *instances_per_context),
        ("requests_per_second_per_caller", *requests_per_second_per_caller),
    ] {
        if limit == 0 {
            found.add(&["limits", key], "a limit of 0 allows nothing", Some("use 1 or more".to_owned()));
        }
    }
}

fn check_provision(found: &mut Findings, config: &Config, provision: &Provision) {
    let Provision { default_provider, max_attempts, deadline, default_wait: _ } = provision;
    if config.providers.is_empty() {
        let hint = "add one: [providers.local] with kind = \"process\"".to_owned();
        found.add(&["providers"], "there is no provider", Some(hint));
    } else if !config.providers.contains_key(default_provider) {
        let known: Vec<&str> = config.providers.keys().map(String::as_str).collect();
        let hint = format!("use one of {}, or add [providers.{default_provider}]", known.join(", "));
        found.add(&["provision", "default_provider"], format!("there is no provider `{default_provider}`"), Some(hint));
    }
    if *max_attempts == 0 {
        let hint = "use 1 or more".to_owned();
        found.add(&["provision", "max_attempts"], "a step that is tried 0 times is never done", Some(hint));
    }
    positive(found, &["provision", "deadline"], *deadline);
}

fn positive(found: &mut Findings, path: &[&str], period: Period) {
    if period.is_zero() {
        found.add(path, "this must be longer than 0s", None);
    }
}

fn check_timing(found: &mut Findings, timing: &Timing) {
    let Timing {
        lease,
        renew,
        running_check,
        starting_timeout,
        stopped_check,
        retry_min,
        retry_max,
        janitor_interval,
        destroy_stuck_after,
    } = timing;
    for (key, period) in [
        ("lease", *lease),
        ("renew", *renew),
        ("running_check", *running_check),
        ("starting_timeout", *starting_timeout),
        ("stopped_check", *stopped_check),
        ("retry_min", *retry_min),
        ("retry_max", *retry_max),
        ("janitor_interval", *janitor_interval),
        ("destroy_stuck_after", *destroy_stuck_after),
    ] {
        positive(found, &["timing", key], period);
    }
    // Two renewals must fit into a lease, or one slow commit loses it.
    if renew.get() * 2 >= lease.get() {
        let hint = format!("use less than half of timing.lease ({lease})");
        found.add(&["timing", "renew"], format!("{renew} is too long to keep a lease of {lease}"), Some(hint));
    }
    if retry_min > retry_max {
        let hint = "use the shorter one as retry_min".to_owned();
        found.add(&["timing", "retry_min"], format!("{retry_min} is longer than retry_max ({retry_max})"), Some(hint));
    }
}

fn check_names(found: &mut Findings, config: &Config) {
    let sections: [(&str, Vec<&String>); 4] = [
        ("providers", config.providers.keys().collect()),
        ("templates", config.templates.keys().collect()),
        ("tiers", config.tiers.keys().collect()),
        ("price_versions", config.price_versions.keys().collect()),
    ];
    for (section, names) in sections {
        for name in names {
            check_name(found, &[section, name], name, NAME_CHARS_MAX);
        }
    }
}

fn check_tiers(found: &mut Findings, config: &Config) {
    if config.tiers.is_empty() {
        let hint = "add one: [tiers.small] with rank = 1".to_owned();
        found.add(&["tiers"], "there is no tier", Some(hint));
    }
    for (name, tier) in &config.tiers {
        if tier.memory_mb == 0 {
            found.add(&["tiers", name, "memory_mb"], "an instance needs memory", Some("use 1 or more".to_owned()));
        }
        if !(tier.cpus.is_finite() && tier.cpus > 0.0) {
            found.add(&["tiers", name, "cpus"], "an instance needs a processor", Some("use more than 0".to_owned()));
        }
    }
    for (name, version) in &config.price_versions {
        if !config.tiers.contains_key(&version.tier) {
            let known: Vec<&str> = config.tiers.keys().map(String::as_str).collect();
            let hint = match nearest(&version.tier, known.iter().copied()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("use one of {}, or add [tiers.{}]", known.join(", "), version.tier),
            };
            found.add(&["price_versions", name, "tier"], format!("there is no tier `{}`", version.tier), Some(hint));
        }
    }
}

fn check_billing(found: &mut Findings, config: &Config, billing: &Billing) {
    let Billing { kind, url, secret_env, secret_file, fallback, price_version, request_timeout } = billing;
    positive(found, &["billing", "request_timeout"], *request_timeout);
    let local_subscriptions = match (kind, fallback) {
        (BillingKind::Local, BillingFallback::None | BillingFallback::Local) => true,
        (BillingKind::Http, BillingFallback::Local) => true,
        (BillingKind::Http, BillingFallback::None) => false,
    };
    if local_subscriptions && !config.price_versions.contains_key(price_version) {
        let known: Vec<String> = config.price_versions.keys().map(|name| format!("\"{name}\"")).collect();
        let hint = match known.as_slice() {
            [] => format!("add [price_versions.\"{price_version}\"] with a tier"),
            known => format!("use one of {}", known.join(", ")),
        };
        let message = format!("there is no price version `{price_version}`");
        found.add(&["billing", "price_version"], message, Some(hint));
    }
    match kind {
        BillingKind::Local => {}
        BillingKind::Http => {
            if !is_http(url.expose()) {
                let hint = "write the address of your billing service, https://…".to_owned();
                found.add(&["billing", "url"], "kind \"http\" needs an address", Some(hint));
            }
            if secret_env.is_empty() && secret_file.as_os_str().is_empty() {
                let hint = "name the variable or the file that holds it: secret_env, secret_file".to_owned();
                found.add(&["billing", "secret_env"], "kind \"http\" needs a secret to sign with", Some(hint));
            }
        }
    }
}

fn check_auth(found: &mut Findings, auth: &Auth) {
    let Some(jwt) = &auth.jwt else { return };
    for (key, text) in [("issuer", &jwt.issuer), ("audience", &jwt.audience)] {
        if text.is_empty() {
            let hint = "without it a token meant for someone else would be accepted".to_owned();
            found.add(&["auth", "jwt", key], "this is empty", Some(hint));
        }
    }
    let shared = !jwt.hs256_secret_env.is_empty() || !jwt.hs256_secret_file.as_os_str().is_empty();
    match (&jwt.jwks_url, shared) {
        (Some(url), false) if is_http(url.expose()) => {}
        (Some(url), false) => {
            found.add(
                &["auth", "jwt", "jwks_url"],
                format!("`{url}` is not an address"),
                Some("write https://…".to_owned()),
            );
        }
        (None, true) => {}
        (Some(_), true) => {
            let hint = "keep jwks_url or hs256_secret_env".to_owned();
            found.add(&["auth", "jwt"], "there are two ways to check a token", Some(hint));
        }
        (None, false) => {
            let hint = "add jwks_url or hs256_secret_env".to_owned();
            found.add(&["auth", "jwt"], "there is no way to check a token", Some(hint));
        }
    }
}
