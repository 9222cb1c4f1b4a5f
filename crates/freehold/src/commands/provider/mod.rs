//! `provider`: what makes resources.

mod check;

use clap::Subcommand;
use serde::Serialize;

use super::Context;
use crate::config::{Config, ProviderKind};
use crate::exit::Failure;
use crate::output::table;

/// See the providers of the configuration, and check what they promise.
#[derive(Debug, Subcommand)]
pub(crate) enum Provider {
    /// List the providers of the configuration
    #[command(after_help = "Examples:\n  freehold provider list --config /etc/freehold.toml")]
    List,
    /// Check a provider against the real thing, and measure how long it lags behind
    Check(check::Check),
}

#[derive(Serialize)]
struct Listed {
    providers: Vec<ListedProvider>,
}

#[derive(Serialize)]
struct ListedProvider {
    name: String,
    kind: ProviderKind,
    default: bool,
    settle_horizon: String,
}

impl Provider {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::List => {
                let config = Config::load_unchecked(&context.sources())?;
                let providers = config.providers.iter().map(|(name, provider)| ListedProvider {
                    name: name.clone(),
                    kind: provider.kind(),
                    default: *name == config.provision.default_provider,
                    settle_horizon: provider.settle_horizon().to_string(),
                });
                context.output.show(&Listed { providers: providers.collect() }, people)
            }
            Self::Check(check) => check.run(context).await,
        }
    }
}

fn people(listed: &Listed) -> String {
    let rows = listed.providers.iter().map(|provider| {
        let notes = if provider.default { "default".to_owned() } else { String::new() };
        let kind = provider.kind.as_str().to_owned();
        [provider.name.clone(), kind, provider.settle_horizon.clone(), notes]
    });
    table(["name", "kind", "horizon", "notes"], rows)
}
