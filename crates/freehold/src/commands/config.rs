//! `config`: what the configuration is, and whether it holds.

use clap::Subcommand;
use serde::Serialize;

use super::Context;
use crate::config::{Config, Finding, Shown};
use crate::exit::{Exit, Failure};

/// Check and show the configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check the configuration: every mistake with its line and column; exit code 2 if there is one
    #[command(after_help = "Examples:\n  freehold config check --config /etc/freehold.toml")]
    Check,
    /// Show what the defaults, the file, the environment and the flags make together, without secrets
    #[command(
        after_help = "Examples:\n  freehold config show\n  freehold config show --config /etc/freehold.toml --json"
    )]
    Show,
}

/// What `config check --json` prints.
#[derive(Serialize)]
struct Checked {
    ok: bool,
    findings: Vec<CheckedFinding>,
}

#[derive(Serialize)]
struct CheckedFinding {
    place: Option<String>,
    setting: String,
    message: String,
    hint: Option<String>,
}

impl CheckedFinding {
    fn of(finding: &Finding) -> Self {
        let Finding { origin, path, message, hint } = finding;
        Self {
            place: origin.as_ref().map(ToString::to_string),
            setting: path.clone(),
            message: message.clone(),
            hint: hint.clone(),
        }
    }
}

impl ConfigCommand {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let env = |name: &str| std::env::var(name).ok();
        match self {
            Self::Check => {
                let loaded = Config::load(&context.sources());
                if context.output.json {
                    let findings = match &loaded {
                        Ok(_) => Vec::new(),
                        Err(error) => error.findings().iter().map(CheckedFinding::of).collect(),
                    };
                    context.output.json(&Checked { ok: loaded.is_ok(), findings })?;
                }
                let config = loaded?;
                check_secrets(&config, &env)?;
                if context.output.json {
                    return Ok(());
                }
                match &context.globals.config {
                    Some(path) => context.output.text(&format!("{} is a good configuration", path.display())),
                    None => context.output.text("the configuration is good (no file; defaults and environment)"),
                }
            }
            Self::Show => {
                let config = Config::load_unchecked(&context.sources())?;
                let shown = Shown::of(&config, &env);
                if context.output.json {
                    return context.output.json(&shown);
                }
                let text = shown.to_toml().map_err(|error| Failure::failed(error.to_string()))?;
                context.output.text(&text)
            }
        }
    }
}

/// Whether every secret that the configuration names is there.
fn check_secrets(config: &Config, env: &dyn Fn(&str) -> Option<String>) -> Result<(), Failure> {
    let missing: Vec<String> = config
        .secrets()
        .iter()
        .filter_map(|source| source.read(env).err().map(|error| format!("{}: {error}", source.path)))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let failure = Failure::new(Exit::Usage, "").hint("a secret that the configuration names must be there");
    Err(Failure { lines: missing, ..failure })
}
