//! The registry in PostgreSQL: one for any number of nodes.
//!
//! Read in this order: `0001_registry.sql` (what there is), `loaded` (how a run is read), `writes` and `statement` (how a
//! change is written), `port` (which sentence each method is).
//!
//! - **Read, decide, write.** A sentence reads the rows of a context in one statement, lets the domain decide, and writes
//!   what follows in one statement that takes effect only if the context's guard is still at the version that was read.
//!   Nothing is locked in between; whoever was overtaken reads again.
//! - **Many share a statement.** Requests that wait at the same time go in one statement and one sync of the log, each
//!   under its own guard: one that is overtaken does not touch its neighbours.
//! - **A lost answer is settled.** Each change carries an id of its own. Where an answer is lost, the guard is raised, so
//!   that what was sent can take effect no more, and what is on record then says whether it has. Only where the database
//!   does not answer that either is a commit unknown.
//! - **Time is the database's.** Leases lapse and timers ring by its clock; an instance's time never runs backwards.

mod admit;
mod audit;
mod batcher;
mod columns;
mod erase;
mod guard;
mod keys;
mod leaks;
mod lease;
mod lists;
mod loaded;
mod nodes;
mod port;
mod probe;
mod quarantine;
mod rows;
mod statement;
mod time;
mod timers;
mod writes;

use std::sync::Arc;
use std::time::Duration;

use freehold_domain::ids::{InstanceId, OperationId};
use freehold_domain::lease::LeaseTerm;
use freehold_domain::run::Run;
use freehold_domain::time::Timestamp;
use freehold_engine::ports::{Clock, StoreError};
use tokio::time::{Instant, sleep};
use tokio_postgres::Row;

use super::args::Args;
use super::migrate::{Migration, Schema};
use super::pool::{Database, Options, Trouble};
use super::url::{ConnectError, Url};
use crate::shared::desk::{Moment, Violations};
use crate::shared::sentences::Said;
use admit::Looks;
use loaded::{Loaded, Reads};
use time::Time;
use writes::{Write, Writes, Written};

pub use guard::{context_id, shard};
pub use probe::Engine;

/// Every step of the registry's schema that this program knows.
pub const SCHEMA: Schema = Schema {
    name: "freehold_registry",
    migrations: &[
        Migration { version: 1, name: "registry", sql: include_str!("0001_registry.sql"), works_from: 1 },
        Migration { version: 2, name: "house", sql: include_str!("0002_house.sql"), works_from: 1 },
        Migration { version: 3, name: "providers", sql: include_str!("0003_providers.sql"), works_from: 1 },
    ],
};

/// The pause before another try; longer each time, up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(1);

/// The longest of them.
const PAUSE_MAX: Duration = Duration::from_millis(20);

/// How to use a registry.
#[derive(Clone)]
pub struct PostgresOptions {
    /// Connections, and how long a statement may take.
    pub pool: Options,
    /// How long a lease lasts.
    pub lease_term: LeaseTerm,
    /// A clock in the place of the database's, for tests.
    pub clock: Option<Arc<dyn Clock>>,
    /// Told how long each statement took that wrote something.
    pub watch_commits: Option<CommitWatch>,
}

/// Told how long each commit took.
pub type CommitWatch = Arc<dyn Fn(Duration) + Send + Sync>;

impl PostgresOptions {
    /// What is used where nobody says otherwise.
    #[must_use]
    pub fn new(lease_term: LeaseTerm) -> Self {
        Self { pool: Options::default(), lease_term, clock: None, watch_commits: None }
    }
}

/// The registry, in a PostgreSQL database. It is used inside a tokio runtime.
pub struct PostgresStore {
    desk: Arc<Desk>,
    reads: Reads,
    looks: Looks,
    writes: Writes,
}

/// What every part of the store shares.
struct Desk {
    database: Database,
    time: Time,
    violations: Violations,
    options: PostgresOptions,
}

impl PostgresStore {
    /// Gets ready to use the registry at a place. Nothing is connected yet.
    ///
    /// # Errors
    /// Where the certificates for its TLS cannot be read.
    pub fn to(url: &Url, options: PostgresOptions) -> Result<Self, ConnectError> {
        let database = Database::new(url, options.pool, SCHEMA)?;
        let desk = Arc::new(Desk {
            database,
            time: Time::of(options.clock.clone()),
            violations: Violations::default(),
            options,
        });
        let (reads, looks, writes) = (Reads::start(&desk), Looks::start(&desk), Writes::start(&desk));
        Ok(Self { desk, reads, looks, writes })
    }

    /// Where it is, in words without secrets.
    #[must_use]
    pub fn place(&self) -> &str {
        self.desk.database.place()
    }

    /// Says a sentence about an instance: reads its run, lets it be decided, writes what follows; again, if somebody wrote
    /// first.
    async fn say<T>(
        &self,
        of: Of,
        mut sentence: impl FnMut(&Loaded, Moment) -> Result<Said<T>, StoreError>,
    ) -> Result<T, StoreError> {
        let mut tries = self.desk.tries();
        loop {
            let loaded = self.reads.load(of).await?.ok_or(StoreError::Missing(of.what()))?;
            let moment = self.desk.moment(loaded.read_at, &loaded.run);
            let Said { change, answer, out } = sentence(&loaded, moment)?;
            let Some(change) = change else { return Ok(out) };
            self.desk.violations.check(&loaded.run, &change);
            let write = Write::of_change(&loaded, &change, answer.as_ref())?;
            match self.writes.write(write).await? {
                Written::Done => return Ok(out),
                Written::Overtaken => tries.another().await?,
            }
        }
    }

    /// Reads, which can be asked again.
    async fn rows(&self, sql: &str, args: Args) -> Result<Vec<Row>, StoreError> {
        self.desk.read(sql, &args).await
    }
}

/// How often something is tried because somebody else wrote first.
struct Tries {
    tried: u32,
    deadline: Instant,
}

impl Tries {
    /// Waits for another try, if there is one.
    async fn another(&mut self) -> Result<(), StoreError> {
        if Instant::now() > self.deadline {
            return Err(StoreError::Unavailable("others were quicker every time; try again".to_owned()));
        }
        if self.tried > 0 {
            sleep((PAUSE * self.tried).min(PAUSE_MAX)).await;
        }
        self.tried += 1;
        Ok(())
    }
}

impl Desk {
    fn tries(&self) -> Tries {
        Tries { tried: 0, deadline: Instant::now() + self.within() }
    }

    fn within(&self) -> Duration {
        self.options.pool.call_within
    }

    /// The time of a request. An instance's time does not run backwards, whatever the clock does.
    fn moment(&self, read_at: Timestamp, run: &Run) -> Moment {
        Moment::at(read_at.max(run.reservation.updated_at), self.options.lease_term)
    }

    /// Runs a statement that only reads: a connection that was lost on the way is no answer, and it is asked once more.
    async fn read(&self, sql: &str, args: &Args) -> Result<Vec<Row>, StoreError> {
        let mut again = true;
        loop {
            match self.database.attempt(self.within(), sql, args).await {
                Err(Trouble::Unknown(_) | Trouble::Crossed(_) | Trouble::Refused { constraint: None, .. }) if again => {
                    again = false
                }
                other => return other.map_err(of_read),
            }
        }
    }

    /// Runs a statement that writes and does the same when it is run again: it is, where its answer was lost. If that does
    /// not come to an end, it may have happened.
    async fn write_again(&self, sql: &str, args: &Args) -> Result<Vec<Row>, StoreError> {
        let mut tries = self.tries();
        let mut lost = None;
        loop {
            let trouble = match self.database.attempt(self.within(), sql, args).await {
                Ok(rows) => return Ok(rows),
                Err(trouble) => trouble,
            };
            let again = match &trouble {
                Trouble::Crossed(_) => true,
                Trouble::Unknown(said) => lost.replace(said.clone()).is_none(),
                Trouble::Away(_) | Trouble::Blocked(_) | Trouble::Refused { .. } => false,
            };
            let failed = if again { tries.another().await.err() } else { Some(of_write(trouble)) };
            if let Some(failed) = failed {
                return Err(lost.map_or(failed, StoreError::Unknown));
            }
        }
    }
}

/// What is said where a write is done and what is on record since could not be read.
fn behind_a_write(error: StoreError) -> StoreError {
    match error {
        StoreError::Unavailable(said) => StoreError::Unknown(said),
        other => other,
    }
}

/// What to read a run by.
#[derive(Clone, Copy, Debug)]
enum Of {
    Instance(InstanceId),
    Operation(OperationId),
}

impl Of {
    fn what(self) -> &'static str {
        match self {
            Self::Instance(_) => "instance",
            Self::Operation(_) => "operation",
        }
    }
}

/// What is said of a read that failed.
fn of_read(trouble: Trouble) -> StoreError {
    match trouble {
        Trouble::Crossed(said) | Trouble::Away(said) | Trouble::Blocked(said) | Trouble::Unknown(said) => {
            StoreError::Unavailable(said)
        }
        Trouble::Refused { said, .. } => StoreError::Unavailable(said),
    }
}

/// What is said of a write that failed.
fn of_write(trouble: Trouble) -> StoreError {
    match trouble {
        Trouble::Crossed(said) | Trouble::Away(said) | Trouble::Blocked(said) | Trouble::Refused { said, .. } => {
            StoreError::Unavailable(said)
        }
        Trouble::Unknown(said) => StoreError::Unknown(said),
    }
}

impl std::fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PostgresStore").field(&self.place()).finish()
    }
}
