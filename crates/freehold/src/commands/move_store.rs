//! `migrate store`: a registry moves from SQLite to PostgreSQL, with everything that is in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use freehold_engine::ports::Clock as _;
use freehold_store::postgres::Url;
use freehold_store::postgres::house::{Move, MoveError, Moved, Outcome, Part, Progress, move_house};
use serde::Serialize;

use super::Context;
use crate::config::{Config, Secret};
use crate::exit::{Exit, Failure};
use crate::output::{say, table};
use crate::serve::registry::{self, Place};
use crate::serve::{SystemClock, lock_database};

/// How many rows of a table are told of at a time.
const TELL_EVERY: u64 = 10_000;

/// Move the registry from SQLite to PostgreSQL, while no server has it.
#[derive(Debug, Args)]
#[command(after_help = "\
Everything is copied and compared, row by row; then the file is marked, and no server takes it any
more. Ended anywhere, it goes on where it was when it is run again. A URL with a password comes
from the environment: --to-env names the variable.

Examples:
  freehold migrate store --from sqlite:registry.db --to-env FREEHOLD_NEW_REGISTRY
  freehold migrate store --from sqlite:/var/lib/freehold/registry.db --to postgres://freehold@db/freehold")]
pub(crate) struct MoveStore {
    /// The registry to move: sqlite: and a file, relative to the data folder [default: registry.url]
    #[arg(long, value_name = "URL")]
    from: Option<String>,
    /// Where to: a PostgreSQL database, without a password
    #[arg(long, value_name = "URL", required_unless_present = "to_env", conflicts_with = "to_env")]
    to: Option<String>,
    /// The variable that holds the URL of the PostgreSQL database
    #[arg(long, value_name = "NAME")]
    to_env: Option<String>,
    /// Throw away what an earlier move of this registry brought there, and begin anew
    #[arg(long)]
    anew: bool,
}

#[derive(Serialize)]
struct Report {
    install: String,
    from: String,
    to: String,
    /// Whether an earlier run brought it to its end. It is served from there, and there is nothing to compare any more.
    moved_before: bool,
    #[serde(flatten)]
    compared: Option<Compared>,
}

#[derive(Serialize)]
struct Compared {
    /// What this run copied; what an earlier one did is not among it.
    rows_copied: u64,
    tables: Vec<Table>,
    audit_chains: u64,
    audit_lines: u64,
    audit_position: u64,
}

#[derive(Serialize)]
struct Table {
    table: &'static str,
    rows: u64,
    sha256: String,
}

impl MoveStore {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let config = Config::load_unchecked(&context.sources())?;
        let source = self.source(&config)?;
        let target = self.target()?;
        if !source.exists() {
            return Err(Failure::new(Exit::NotFound, format!("there is no registry at {}", source.display()))
                .hint("name the file with --from sqlite:FILE, or the server's data folder with --data-dir"));
        }
        let _lock = lock_database(&source)?;
        let wanted = Move {
            source: &source,
            target: &target,
            with_records: config.records.url.is_empty(),
            anew: self.anew,
            now: SystemClock::new().now(),
        };
        let mut told = Told::default();
        let moved = move_house(wanted, |progress| told.tell(progress)).await;
        let moved = moved.map_err(|error| refused(&source, error))?;
        context.output.show(&report(&source, moved), people)
    }

    fn source(&self, config: &Config) -> Result<PathBuf, Failure> {
        match self.from.as_deref() {
            None => match registry::place(config, &config.data_dir)? {
                Place::Sqlite(path) => Ok(path),
                Place::Postgres(_) => Err(Failure::usage("registry.url is in PostgreSQL already")
                    .hint("name the file that is to be moved with --from sqlite:FILE")),
            },
            Some(url) => match url.strip_prefix("sqlite:") {
                Some(path) if !path.is_empty() => Ok(config.data_dir.join(path)),
                Some(_) | None => Err(Failure::usage("--from: a registry moves from SQLite")
                    .hint("write --from sqlite:FILE; the file is relative to the data folder")),
            },
        }
    }

    fn target(&self) -> Result<Url, Failure> {
        let (what, url) = match (&self.to, &self.to_env) {
            (_, Some(name)) => {
                let url = std::env::var(name).ok().filter(|url| !url.trim().is_empty()).ok_or_else(|| {
                    Failure::usage(format!("--to-env: the variable {name} is not set"))
                        .hint("set it to postgres://USER:PASSWORD@HOST/DATABASE")
                })?;
                (format!("the URL in {name}"), Secret::new(url))
            }
            (Some(url), None) => ("--to".to_owned(), Secret::new(url.clone())),
            (None, None) => return Err(Failure::usage("say where to, with --to or --to-env")),
        };
        let parsed: Url = url.expose().trim().parse().map_err(|error| Failure::usage(format!("{what}: {error}")))?;
        if self.to.is_some() && parsed.has_password() {
            return Err(Failure::usage("--to: a password on the command line is seen by everybody on this machine")
                .hint("put the URL into a variable, and name that with --to-env"));
        }
        Ok(parsed)
    }
}

/// What was told of, so that a large table is not silent and a small one not loud.
#[derive(Default)]
struct Told(BTreeMap<(&'static str, &'static str), u64>);

impl Told {
    fn tell(&mut self, progress: Progress) {
        let (doing, table, rows) = match progress {
            Progress::Copied(table, rows) => ("copied", table, rows),
            Progress::Compared(table, rows) => ("compared", table, rows),
            Progress::Chained(lines) => ("recomputed", "audit", lines),
        };
        let last = self.0.entry((doing, table)).or_default();
        if rows / TELL_EVERY > *last / TELL_EVERY || *last == 0 {
            say(&format!("{table}: {doing} {rows}"));
        }
        *last = rows.max(1);
    }
}

fn report(source: &Path, outcome: Outcome) -> Report {
    let from = source.display().to_string();
    match outcome {
        Outcome::Before { install, place } => Report { install, from, to: place, moved_before: true, compared: None },
        Outcome::Moved(Moved { install, place, copied, parts, chains, lines, position }) => {
            let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let table = |part: Part| Table { table: part.table, rows: part.rows, sha256: hex(&part.sha256) };
            let compared = Compared {
                rows_copied: copied,
                tables: parts.into_iter().map(table).collect(),
                audit_chains: chains,
                audit_lines: lines,
                audit_position: position,
            };
            Report { install, from, to: place, moved_before: false, compared: Some(compared) }
        }
    }
}

fn people(report: &Report) -> String {
    let Report { install, from, to, .. } = report;
    let then = "Set registry.url to the new place, and start the server.";
    let Some(compared) = &report.compared else {
        return format!("The registry of {install} was moved to {to} before; {from} is marked as moved.\n{then}");
    };
    let rows = compared.tables.iter().map(|part| [part.table.to_owned(), part.rows.to_string(), part.sha256.clone()]);
    format!(
        "{}\n\nThe registry of {install} is at {to}; every row is as it was, and {} audit chains of {} lines verify. \
         {from} is marked as moved.\n{then}",
        table(["table", "rows", "sha-256 of both sides"], rows),
        compared.audit_chains,
        compared.audit_lines,
    )
}

fn refused(source: &Path, error: MoveError) -> Failure {
    let again = "run it again: it goes on where it was";
    match error {
        MoveError::NoSource(_) => Failure::new(Exit::NotFound, error.to_string())
            .hint("name the file with --from sqlite:FILE, or the server's data folder with --data-dir"),
        MoveError::OldSource { .. } => {
            Failure::failed(error.to_string()).hint("run `freehold migrate up` first, with this program")
        }
        MoveError::Schema(error) => registry::unmigratable(source, error),
        MoveError::AlreadyMoved { .. } => {
            Failure::new(Exit::Conflict, error.to_string()).hint("set registry.url to that place, and start the server")
        }
        MoveError::Source(error) => registry::unreadable(source, &error.to_string()),
        MoveError::Target(_) => Failure::new(Exit::Unavailable, error.to_string()).hint(again),
        MoveError::Place(_) => Failure::usage(error.to_string()),
        MoveError::Taken { .. } => {
            Failure::new(Exit::Conflict, error.to_string()).hint("give the registry a database of its own")
        }
        MoveError::Changed => Failure::new(Exit::Conflict, error.to_string())
            .hint("stop the server, and begin anew with --anew: nobody was served from what is there"),
        MoveError::Unfit { .. } => Failure::failed(error.to_string())
            .hint("nothing was marked: the file can be served on. Please report this line"),
        MoveError::Different { .. } | MoveError::Chain { .. } => Failure::failed(error.to_string()).hint(
            "nothing was marked: the file can be served on. See who else writes to the target, and begin anew with --anew",
        ),
    }
}
