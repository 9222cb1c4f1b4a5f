//! What the program says while it works: to stderr, as text or JSON, as much as `RUST_LOG` asks for.

use std::io::{self, IsTerminal as _};

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs: one JSON object a line.
    Json,
}

/// Begins to log. `usual` is what is said when `RUST_LOG` does not decide: `info` for a server, nothing for a
/// simulation, `warn` for the rest.
///
/// A `RUST_LOG` that cannot be read is reported in the log, and `usual` holds.
pub(crate) fn start(format: LogFormat, usual: &str) {
    let asked = std::env::var("RUST_LOG").ok().filter(|text| !text.trim().is_empty());
    let (filter, mistake) = match asked.as_deref().map(EnvFilter::try_new) {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (EnvFilter::new(usual), Some(error)),
        None => (EnvFilter::new(usual), None),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let started = match format {
        LogFormat::Text => {
            let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            builder.with_ansi(colours).try_init()
        }
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    if let Err(error) = started {
        tracing::warn!(%error, "the log was started already");
    }
    if let Some(error) = mistake {
        tracing::warn!(%error, "RUST_LOG cannot be read; using `{usual}`");
    }
}
