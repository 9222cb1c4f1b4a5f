//! `backup`: a copy of the registry that is whole, while a server runs on it.

use std::path::PathBuf;

use clap::Args;
use freehold_engine::ports::Clock as _;
use freehold_store::{BackupError, backup};
use serde::Serialize;

use super::Context;
use crate::config::{Config, plain};
use crate::exit::{Exit, Failure};
use crate::output::{fields, say};
use crate::serve::SystemClock;
use crate::serve::registry::{self, Place};

/// Copy the registry while a server runs on it, on the machine of the registry.
#[derive(Debug, Args)]
#[command(after_help = "\
The copy is one moment of the registry, whole and synced. It holds the installation's keys: keep it
as you keep those. It is in quarantine from the start: a server on it reads and routes, and changes
nothing until `freehold restore confirm`. A registry in PostgreSQL is copied with PostgreSQL's tools.

Examples:
  freehold backup --to /var/backups/freehold-$(date +%F).db
  freehold backup --to /var/backups/freehold.db --force --json")]
pub(crate) struct BackupCommand {
    /// The file to make
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Put it in the place of a file that is there
    #[arg(long)]
    force: bool,
}

#[derive(Serialize)]
struct Report {
    from: String,
    to: String,
    bytes: u64,
    position: u64,
    instances: u64,
    quarantined: bool,
}

impl BackupCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let config = Config::load_unchecked(&context.sources())?;
        let from = match registry::place(&config, &config.data_dir)? {
            Place::Sqlite(path) => path,
            Place::Postgres(_) => {
                return Err(Failure::usage("the registry is in PostgreSQL, and this copies SQLite registries")
                    .hint("use pg_dump or a base backup; a server notices by itself when it is on an older registry"));
            }
        };
        let (source, to, force) = (from.clone(), self.to.clone(), self.force);
        let made = tokio::task::spawn_blocking(move || {
            let now = SystemClock::new().now();
            let at = jiff::Timestamp::from_microsecond(now.as_micros()).unwrap_or_default();
            backup::backup(&source, &to, &format!("made by `freehold backup` at {at:.0}"), now, force)
        });
        let made = made.await.map_err(|error| Failure::failed(format!("the copy broke off: {error}")))?;
        let made = made.map_err(|error| refused(&from, error))?;
        if !made.marked {
            say("note: this registry is of a schema that knows no quarantine, so the copy is not marked as one");
        }
        let report = Report {
            from: from.display().to_string(),
            to: self.to.display().to_string(),
            bytes: made.bytes,
            position: made.position,
            instances: made.instances,
            quarantined: made.marked,
        };
        context.output.show(&report, |report| {
            fields([
                ("copy", report.to.clone()),
                ("of", report.from.clone()),
                ("bytes", report.bytes.to_string()),
                ("instances", report.instances.to_string()),
                ("audit position", report.position.to_string()),
            ])
        })
    }
}

fn refused(from: &std::path::Path, error: BackupError) -> Failure {
    match error {
        BackupError::Missing(_) => {
            Failure::new(Exit::NotFound, error.to_string()).hint("name the server's data folder with --data-dir")
        }
        BackupError::There(_) => {
            Failure::new(Exit::Conflict, error.to_string()).hint("name another file, or replace it with --force")
        }
        BackupError::Schema(error) => registry::unmigratable(from, error),
        BackupError::Damaged(why) => Failure::failed(format!("the copy of {} is not good: {why}", from.display()))
            .hint("the registry itself may be damaged; keep every earlier backup"),
        BackupError::Sqlite(error) => registry::unreadable(from, &error.to_string()),
        BackupError::Io { path, source } => {
            Failure::failed(format!("cannot write {}: {}", path.display(), plain(&source)))
                .hint("choose a folder that this user may write, on a disk with room for it")
        }
    }
}
