//! The registry's database: where it is, and what keeps it from being opened, in an operator's words.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use freehold_domain::lease::LeaseTerm;
use freehold_engine::ports::{Records, Store, StoreError};
use freehold_server::Metrics;
use freehold_store::postgres::registry::CommitWatch;
use freehold_store::postgres::{Options as RecordsOptions, Url};
use freehold_store::{
    MigrateError, OpenError, PostgresOptions, PostgresRecords, PostgresStore, SqliteOptions, SqliteStore, migrate,
};

use super::clock::SystemClock;
use crate::config::Config;
use crate::exit::Failure;

/// The registry, and the records that are in the same database.
pub(crate) struct Registry {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) records: Arc<dyn Records>,
    /// Whether the store has a clock of its own, which is every node's: else it reads the one that it was opened with.
    pub(crate) keeps_time: bool,
}

impl From<SqliteStore> for Registry {
    fn from(store: SqliteStore) -> Self {
        let store = Arc::new(store);
        Self { store: store.clone(), records: store, keeps_time: false }
    }
}

/// Where the registry is.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// In a file of this machine.
    Sqlite(PathBuf),
    /// In a PostgreSQL database, that other nodes use too.
    Postgres(Url),
}

/// Where the database is.
///
/// # Errors
/// A URL that is none.
pub(crate) fn place(config: &Config, data_dir: &Path) -> Result<Place, Failure> {
    let url = config.registry.url.expose();
    match url.strip_prefix("sqlite:") {
        Some(path) => Ok(Place::Sqlite(data_dir.join(path))),
        None => {
            let url = url.parse::<Url>().map_err(|error| Failure::usage(format!("registry.url: {error}")))?;
            Ok(Place::Postgres(url))
        }
    }
}

impl Place {
    /// Opens the registry for a server: brings its schema up to date, and makes it if it is missing. Its commits are
    /// timed.
    ///
    /// # Errors
    /// A database that cannot be opened, is damaged, or is newer than this program; a PostgreSQL that does not answer or
    /// cannot be used.
    pub(crate) async fn open(
        &self,
        clock: Arc<SystemClock>,
        config: &Config,
        metrics: &Arc<Metrics>,
    ) -> Result<Registry, Failure> {
        let term = LeaseTerm(config.timing.lease.get());
        let metrics = metrics.clone();
        match self {
            Self::Sqlite(path) => {
                let options =
                    SqliteOptions::file(path, clock, term).watch_commits(move |took| metrics.store_commit(took));
                Ok(SqliteStore::open(options).map_err(|error| refused(path, error))?.into())
            }
            Self::Postgres(url) => {
                let watch: CommitWatch = Arc::new(move |took| metrics.store_commit(took));
                let options = PostgresOptions { watch_commits: Some(watch), ..PostgresOptions::new(term) };
                let store = postgres(url, options)?;
                let records = PostgresRecords::to(url, RecordsOptions::default());
                let records = records.map_err(|error| Failure::usage(format!("registry.url: {error}")))?;
                let engine = store.probe().await.map_err(|error| away(&error))?;
                tracing::info!(registry = store.place(), %engine, "the registry is shared");
                Ok(Registry { store: Arc::new(store), records: Arc::new(records), keeps_time: true })
            }
        }
    }

    /// Gets ready to look at a registry in PostgreSQL.
    ///
    /// # Errors
    /// A registry that is elsewhere, and certificates that cannot be read.
    pub(crate) fn postgres(&self, config: &Config) -> Result<PostgresStore, Failure> {
        match self {
            Self::Sqlite(path) => Err(Failure::usage(format!("{} is a SQLite registry", path.display()))),
            Self::Postgres(url) => postgres(url, PostgresOptions::new(LeaseTerm(config.timing.lease.get()))),
        }
    }

    /// Opens an existing registry for one command, beside a server or without one.
    ///
    /// # Errors
    /// As [`Place::open`], and a database that is missing or whose schema is older than this program's.
    pub(crate) async fn open_beside(&self, config: &Config) -> Result<Arc<dyn Store>, Failure> {
        match self {
            Self::Sqlite(path) => Ok(Arc::new(open_beside(path, config)?)),
            Self::Postgres(url) => {
                let store = postgres(url, PostgresOptions::new(LeaseTerm(config.timing.lease.get())))?;
                store.probe().await.map_err(|error| away(&error))?;
                Ok(Arc::new(store))
            }
        }
    }
}

fn postgres(url: &Url, options: PostgresOptions) -> Result<PostgresStore, Failure> {
    PostgresStore::to(url, options).map_err(|error| Failure::usage(format!("registry.url: {error}")))
}

/// A registry in PostgreSQL that cannot be used now.
pub(crate) fn away(error: &StoreError) -> Failure {
    let said = match error {
        StoreError::Unavailable(said) => said.clone(),
        other => other.to_string(),
    };
    Failure::failed(format!("the registry cannot be used: {said}"))
        .hint("registry.url must name a PostgreSQL database that this machine reaches and its user may make schemas in")
}

/// Opens an existing database for one command, beside a server or without one.
///
/// # Errors
/// As [`Place::open`], and a database that is missing or whose schema is older than this program's.
fn open_beside(path: &Path, config: &Config) -> Result<SqliteStore, Failure> {
    let status = migrate::status(path).map_err(|error| unmigratable(path, error))?;
    if !status.pending.is_empty() {
        let failure = match status.database {
            0 => Failure::failed(format!("there is no registry at {} yet", path.display())),
            older => {
                Failure::failed(format!("the registry is at schema {older}, this program is at {}", status.program))
            }
        };
        return Err(failure.hint("start the server with this program, or run `freehold migrate up`"));
    }
    let term = LeaseTerm(config.timing.lease.get());
    let options = SqliteOptions::file(path, Arc::new(SystemClock::new()), term).inline();
    SqliteStore::open(options).map_err(|error| refused(path, error))
}

fn refused(path: &Path, error: OpenError) -> Failure {
    match error {
        OpenError::Open { path: _, source } => unreadable(path, &source.to_string()),
        OpenError::Migrate(error) => unmigratable(path, error),
        OpenError::Moved { path, place } => {
            Failure::usage(format!("the registry in {} was moved to {place}", path.display()))
                .hint("set registry.url to where it is by now; this file stays as it was when it was moved")
        }
        OpenError::Thread(error) => Failure::failed(format!("a thread for the store could not be started: {error}"))
            .hint("let this user have more processes (`ulimit -u`)"),
    }
}

/// A schema that is not this program's, or cannot be made so.
pub(crate) fn unmigratable(path: &Path, error: MigrateError) -> Failure {
    match error {
        MigrateError::Newer { database, program } => Failure::failed(format!(
            "the database {} is newer than this program (schema {database}, this program knows {program})",
            path.display()
        ))
        .hint("run the freehold that wrote it, or restore a backup from before its upgrade"),
        MigrateError::Drift { version, name } => Failure::failed(format!(
            "step {version} ({name}) of the schema of {} is not the one of this program",
            path.display()
        ))
        .hint("run the build that wrote it, or restore a backup"),
        MigrateError::Foreign => Failure::failed(format!("the database {} is not Freehold's", path.display()))
            .hint("name another file with registry.url"),
        MigrateError::Failed { version: _, source } => unreadable(path, &source.to_string()),
    }
}

/// What SQLite says, and what to do about it. Its words are stable; they have been the same for twenty years.
pub(crate) fn unreadable(path: &Path, said: &str) -> Failure {
    let damaged = ["malformed", "not a database"].iter().any(|word| said.contains(word));
    let what = if damaged { "is damaged, or is no database" } else { "cannot be opened" };
    let failure = Failure::failed(format!("the database {} {what}: {said}", path.display()));
    if damaged {
        failure.hint("restore a backup; moving the file away begins an empty registry, which knows no instance")
    } else if said.contains("full") {
        failure.hint("make room on the disk")
    } else if said.contains("I/O") {
        failure.hint("see whether the disk is full or failing; the system's log has more")
    } else if said.contains("locked") {
        failure.hint("another program has it open; stop that first")
    } else {
        failure.hint("it and its folder must be writable for this user")
    }
}
