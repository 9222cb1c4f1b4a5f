//! `key`: who may call, beside the keys that the configuration names.
//!
//! These commands work on the registry's database itself, while a server runs or not: whoever can write it needs no key.

use clap::{Args, Subcommand, ValueEnum};
use freehold_domain::time::Timestamp;
use freehold_engine::ports::{Clock as _, KeyRecord, KeyRole, StoreError};
use serde::Serialize;

use super::Context;
use super::confirm::Confirm;
use crate::api_key::ApiKey;
use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::output::{maybe, say, table};
use crate::serve::{SystemClock, registry};

/// The longest label, in characters: it is a reminder, not a document.
const LABEL_CHARS_MAX: usize = 100;

/// Make, list and revoke API keys, on the machine of the registry.
#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Make a key and print it: this is the only time it can be seen
    #[command(after_help = "\
Examples:
  freehold key create --role platform --label backend
  freehold key create --role viewer --label dashboard --json")]
    Create(Create),
    /// List the keys of the registry, revoked ones included; the keys themselves are not known
    List,
    /// Revoke a key; a running server refuses it within seconds
    #[command(after_help = "Examples:\n  freehold key revoke abcd2345 --yes")]
    Revoke(Revoke),
}

/// The arguments of `create`.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// What its bearer may do
    #[arg(long, value_enum)]
    role: Role,
    /// What it is for, for whoever reads the list
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    label: String,
}

/// The arguments of `revoke`.
#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// The key's id: what is between its first two underscores
    id: String,
    #[command(flatten)]
    confirm: Confirm,
}

/// What a key's bearer may do.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Role {
    /// Any context: your backend
    Platform,
    /// Platform, and the operators' routes
    Operator,
    /// Reads
    Viewer,
}

impl Role {
    fn get(self) -> KeyRole {
        match self {
            Self::Platform => KeyRole::Platform,
            Self::Operator => KeyRole::Operator,
            Self::Viewer => KeyRole::Viewer,
        }
    }
}

#[derive(Serialize)]
struct Shown {
    id: String,
    role: &'static str,
    label: String,
    created_at: Option<jiff::Timestamp>,
    revoked_at: Option<jiff::Timestamp>,
    /// The key itself; only where it was just made.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

impl Shown {
    fn of(record: KeyRecord) -> Self {
        let KeyRecord { id, label, role, hash: _, created_at, revoked_at } = record;
        let time = |at: Timestamp| jiff::Timestamp::from_microsecond(at.as_micros()).ok();
        Self {
            id,
            role: role.name(),
            label,
            created_at: time(created_at),
            revoked_at: revoked_at.and_then(time),
            key: None,
        }
    }
}

#[derive(Serialize)]
struct List {
    keys: Vec<Shown>,
}

impl Key {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let config = Config::load(&context.sources())?;
        let store = registry::place(&config, &config.data_dir)?.open_beside(&config).await?;
        match self {
            Self::Create(Create { role, label }) => {
                if label.chars().count() > LABEL_CHARS_MAX || label.chars().any(char::is_control) {
                    let message = format!("a label has at most {LABEL_CHARS_MAX} characters, and none to control");
                    return Err(Failure::usage(message));
                }
                let key = ApiKey::mint(None)?;
                let record = KeyRecord {
                    id: key.id.clone(),
                    label,
                    role: role.get(),
                    hash: key.hash(),
                    created_at: SystemClock::new().now(),
                    revoked_at: None,
                };
                store.key_create(record.clone()).await.map_err(told)?;
                let text = key.text.expose().to_owned();
                if !context.output.json {
                    say(&format!("key {} ({}): keep it now, it cannot be shown again", key.id, record.role.name()));
                }
                let shown = Shown { key: Some(text.clone()), ..Shown::of(record) };
                context.output.show(&shown, |_| text)
            }
            Self::List => {
                let keys = store.key_list().await.map_err(told)?;
                context.output.show(&List { keys: keys.into_iter().map(Shown::of).collect() }, people)
            }
            Self::Revoke(Revoke { id, confirm }) => {
                if confirm.is_needed("revoking a key")? {
                    Confirm::ask(&format!("Whoever uses key {id} will be refused."))?;
                }
                let record = store.key_revoke(&id, SystemClock::new().now()).await.map_err(|error| match error {
                    StoreError::Missing(_) => Failure::new(Exit::NotFound, format!("there is no key {id}"))
                        .hint("see `freehold key list`; keys of the configuration and operator.key are not in it"),
                    other => told(other),
                })?;
                context.output.show(&Shown::of(record), |shown| {
                    format!("key {} is revoked since {}", shown.id, maybe(shown.revoked_at))
                })
            }
        }
    }
}

fn told(error: StoreError) -> Failure {
    let exit = if matches!(error, StoreError::Unavailable(_)) { Exit::Unavailable } else { Exit::Failed };
    Failure::new(exit, error.to_string())
}

fn people(list: &List) -> String {
    let rows = list.keys.iter().map(|key| {
        [
            key.id.clone(),
            key.role.to_owned(),
            maybe(key.created_at),
            key.revoked_at.map_or_else(|| "-".to_owned(), |at| at.to_string()),
            key.label.clone(),
        ]
    });
    table(["id", "role", "created", "revoked", "label"], rows)
}
