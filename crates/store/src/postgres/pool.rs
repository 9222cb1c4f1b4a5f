//! Connections, and calls over them that end in time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool_postgres::{
    HookError, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime, TimeoutType, Timeouts,
};
use freehold_engine::ports::RecordsError;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_postgres::Row;

use super::args::Args;
use super::error::{self, Meaning, meaning, of_records, words};
use super::migrate::{self, MigrateError, Schema};
use super::url::{ConnectError, Url};
use super::{session, tls};

/// How long a connection may take to be there: less than a call, so that a place that is away is said to be.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);

/// How long the schema may take to be brought up to date. It is not bounded by the call that came first.
const MIGRATE_WITHIN: Duration = Duration::from_secs(300);

/// How long a statement that nobody waits for keeps its connection from others. Waiting for a lock ends before.
const ABANDONED_FOR: Duration = Duration::from_secs(10);

/// How often transactions that crossed are tried, within the time of their call.
const TRIES: u32 = 10;

/// How long it is waited before another try; longer each time.
const BACKOFF: Duration = Duration::from_millis(5);

/// What is up to the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How many connections there may be at once.
    pub connections: usize,
    /// How long a call may take, waiting for a connection included.
    pub call_within: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { connections: 8, call_within: Duration::from_secs(5) }
    }
}

/// Whether a call changes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
}

/// A place, the connections to it, and whether its schema is known to be ours.
pub(super) struct Database {
    pool: Pool,
    /// Where it is, in words.
    place: String,
    options: Options,
    schema: Schema,
    known: Arc<Known>,
}

/// What is known of the schema.
#[derive(Default)]
struct Known {
    is_ours: AtomicBool,
    /// Held while somebody brings it up to date.
    at_it: Arc<Mutex<()>>,
}

impl Database {
    /// Connects to nothing yet.
    pub(super) fn new(url: &Url, options: Options, schema: Schema) -> Result<Self, ConnectError> {
        let tls = tls::connector(url)?;
        let mut config = url.config.clone();
        config.connect_timeout(CONNECT_WITHIN).tcp_user_timeout(options.call_within);
        // Whether a connection is still open is looked at without asking the server: a call is one round trip.
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let timeouts =
            Timeouts { wait: Some(options.call_within), create: Some(CONNECT_WITHIN), recycle: Some(CONNECT_WITHIN) };
        let pool = Pool::builder(Manager::from_config(config, tls, recycling))
            .max_size(options.connections.max(1))
            .timeouts(timeouts)
            .post_create(session::look(CONNECT_WITHIN))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| ConnectError::Tls(error.to_string()))?;
        Ok(Self { pool, place: url.to_string(), options, schema, known: Arc::default() })
    }

    /// Where it is, in words without secrets.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// Runs one statement, which is a transaction by itself.
    pub(super) async fn call(&self, kind: Kind, sql: &str, args: &Args) -> Result<Vec<Row>, RecordsError> {
        let deadline = Instant::now() + self.options.call_within;
        let mut tries = 0;
        loop {
            tries += 1;
            timeout_at(deadline, self.schema_is_ours()).await.map_err(|_| self.late())??;
            let tried = timeout_at(deadline, self.once(sql, args)).await.map_err(|_| self.late())?;
            let again = match &tried {
                Ok(_) => return tried.map_err(|error| self.failed(&error)),
                Err(Failed::Statement(error)) => match meaning(error) {
                    Meaning::Crossed => true,
                    // A connection that was lost: what a read would have answered can be asked again.
                    Meaning::Unavailable => kind == Kind::Read && error.code().is_none() && tries == 1,
                    // The database was replaced by another one, which is to be brought up to date first.
                    Meaning::Refused if tries == 1 && error::is_missing(error) => {
                        self.known.is_ours.store(false, Ordering::Release);
                        true
                    }
                    Meaning::Refused => false,
                },
                Err(Failed::Connection(_)) => false,
            };
            if !again || tries == TRIES {
                return tried.map_err(|error| self.failed(&error));
            }
            tokio::time::sleep(BACKOFF * tries).await;
        }
    }

    /// Runs one statement once, which is a transaction by itself, and says what is known of it.
    pub(super) async fn attempt(&self, within: Duration, sql: &str, args: &Args) -> Result<Vec<Row>, Trouble> {
        let deadline = Instant::now() + within;
        match timeout_at(deadline, self.schema_is_ours()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(Trouble::Away(bare(error))),
            Err(_) => return Err(Trouble::Away(bare(self.late()))),
        }
        let lent = match timeout_at(deadline, self.lend()).await {
            Ok(Ok(lent)) => lent,
            Ok(Err(failed)) => return Err(Trouble::Away(bare(self.failed(&failed)))),
            Err(_) => return Err(Trouble::Away(bare(self.late()))),
        };
        match timeout_at(deadline, lent.query(sql, args)).await {
            Err(_) => Err(Trouble::Unknown(bare(self.late()))),
            Ok(Ok(rows)) => {
                lent.back(true);
                Ok(rows)
            }
            Ok(Err(error)) => {
                let trouble = self.trouble(&error);
                if let Trouble::Refused { .. } = trouble
                    && error::is_missing(&error)
                {
                    // The database was replaced by another one, which is to be brought up to date first.
                    self.known.is_ours.store(false, Ordering::Release);
                }
                let in_order = matches!(trouble, Trouble::Crossed(_) | Trouble::Blocked(_) | Trouble::Refused { .. });
                lent.back(in_order && !error::is_stale(&error));
                Err(trouble)
            }
        }
    }

    fn trouble(&self, error: &tokio_postgres::Error) -> Trouble {
        let said = format!("{}: {}", self.place, words(error));
        match meaning(error) {
            Meaning::Crossed => Trouble::Crossed(said),
            Meaning::Refused => {
                let constraint = error.as_db_error().and_then(|said| said.constraint()).map(str::to_owned);
                Trouble::Refused { said, constraint }
            }
            Meaning::Unavailable if error::is_blocked(error) => Trouble::Blocked(said),
            Meaning::Unavailable if error::is_undone(error) => Trouble::Away(said),
            Meaning::Unavailable => Trouble::Unknown(said),
        }
    }

    /// A connection for a transaction of several statements, and its place among the pool's.
    pub(super) async fn lend_for_transaction(&self) -> Result<Object, Trouble> {
        self.schema_is_ours().await.map_err(|error| Trouble::Away(bare(error)))?;
        let mut lent = self.lend().await.map_err(|failed| Trouble::Away(bare(self.failed(&failed))))?;
        lent.object.take().ok_or_else(|| Trouble::Away("no connection was lent".to_owned()))
    }

    /// What an error inside such a transaction says of it.
    pub(super) fn trouble_within(&self, error: &tokio_postgres::Error) -> Trouble {
        self.trouble(error)
    }

    async fn once(&self, sql: &str, args: &Args) -> Result<Vec<Row>, Failed> {
        let lent = self.lend().await?;
        let answered = lent.query(sql, args).await;
        let in_order = |error| meaning(error) != Meaning::Unavailable && !error::is_stale(error);
        lent.back(answered.as_ref().err().is_none_or(in_order));
        answered.map_err(Failed::Statement)
    }

    async fn lend(&self) -> Result<Lent, Failed> {
        loop {
            let object = self.pool.get().await.map_err(Failed::Connection)?;
            // It may have died since the pool looked. Nothing was sent.
            if !object.is_closed() {
                return Ok(Lent { object: Some(object) });
            }
        }
    }

    fn late(&self) -> RecordsError {
        RecordsError::Unavailable(format!("{} did not answer within {:?}", self.place, self.options.call_within))
    }

    fn failed(&self, failed: &Failed) -> RecordsError {
        match failed {
            Failed::Statement(error) => of_records(&self.place, error),
            // Whatever refuses a connection refuses no statement: an operator mends it, and the same call succeeds.
            Failed::Connection(PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error))) => {
                let is_none = if error.code().is_none() { "; does PostgreSQL listen there?" } else { "" };
                RecordsError::Unavailable(format!("{}: {}{is_none}", self.place, words(error)))
            }
            Failed::Connection(PoolError::Timeout(TimeoutType::Wait)) => RecordsError::Unavailable(format!(
                "{}: all {} connections are in use",
                self.place, self.options.connections
            )),
            Failed::Connection(PoolError::Timeout(TimeoutType::Create | TimeoutType::Recycle)) => {
                RecordsError::Unavailable(format!(
                    "{} gave no connection within {CONNECT_WITHIN:?}; does PostgreSQL listen there?",
                    self.place
                ))
            }
            Failed::Connection(error) => RecordsError::Unavailable(format!("{}: {error}", self.place)),
        }
    }

    /// Looks where the schema is, and changes nothing.
    pub(super) async fn schema_status(&self) -> Result<migrate::Status, String> {
        let object = timeout(self.options.call_within, self.lend()).await;
        let lent = object.map_err(|_| bare(self.late()))?.map_err(|failed| bare(self.failed(&failed)))?;
        let Some(object) = &lent.object else { return Err("no connection was lent".to_owned()) };
        let status = timeout(self.options.call_within, migrate::status(object, &self.schema)).await;
        let status = status.map_err(|_| bare(self.late()))?;
        lent.back(status.is_ok());
        status.map_err(|error| format!("{}: {error}", self.place))
    }

    /// Brings the schema up to date, once. A caller that runs out of time leaves it to go on by itself.
    pub(super) async fn schema_is_ours(&self) -> Result<(), RecordsError> {
        if self.known.is_ours.load(Ordering::Acquire) {
            return Ok(());
        }
        let at_it = Arc::clone(&self.known.at_it).lock_owned().await;
        if self.known.is_ours.load(Ordering::Acquire) {
            return Ok(());
        }
        let (pool, known, schema) = (self.pool.clone(), Arc::clone(&self.known), self.schema);
        let migrating = tokio::spawn(async move {
            let _at_it = at_it;
            let mut object = pool.get().await.map_err(Failed::Connection)?;
            let brought = timeout(MIGRATE_WITHIN, migrate::up(&mut object, &schema)).await;
            if !matches!(brought, Ok(Ok(_))) {
                // Whatever state it is in.
                drop(Object::take(object));
            }
            if let Ok(Ok(_)) = brought {
                known.is_ours.store(true, Ordering::Release);
            }
            Ok::<_, Failed>(brought)
        });
        let brought = migrating.await.map_err(|_| RecordsError::Unavailable("the schema is not known".to_owned()))?;
        match brought.map_err(|failed| self.failed(&failed))? {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(MigrateError::Failed { source, .. })) if meaning(&source) != Meaning::Refused => {
                Err(of_records(&self.place, &source))
            }
            // An operator mends it, and then the same call succeeds.
            Ok(Err(error)) => Err(RecordsError::Unavailable(format!("{}: {error}", self.place))),
            Err(_) => Err(RecordsError::Unavailable(format!(
                "{}: the schema was not brought up to date within {MIGRATE_WITHIN:?}",
                self.place
            ))),
        }
    }
}

/// What an error says, without whose it is.
fn bare(error: RecordsError) -> String {
    match error {
        RecordsError::Unavailable(said) | RecordsError::Refused(said) => said,
    }
}

/// What is known of a statement that did not succeed.
#[derive(Clone, Debug)]
pub(super) enum Trouble {
    /// Surely nothing was written, and at once it may be otherwise: two transactions stood in each other's way.
    Crossed(String),
    /// Surely nothing was written, and it will be the same again.
    Refused {
        said: String,
        /// The rule of the schema that refused it.
        constraint: Option<String>,
    },
    /// Surely nothing was written: there was no connection, or the database takes no writes.
    Away(String),
    /// Surely nothing was written: somebody held what it needed for too long.
    Blocked(String),
    /// It was sent, and nothing more is known.
    Unknown(String),
}

/// What did not work.
enum Failed {
    /// There is no connection: surely nothing was sent.
    Connection(PoolError),
    /// The statement did not succeed.
    Statement(tokio_postgres::Error),
}

/// A connection while it is used. Where the caller is gone before the answer came, it is nobody's until the statement is
/// over.
///
/// No request to cancel is ever sent. PgBouncer 1.18 may end, with everybody's connections, over one whose sender does not
/// stay for it (<https://github.com/pgbouncer/pgbouncer/pull/846>), and one that is late hits another statement. What our
/// functions wait for in the database is bounded there instead.
struct Lent {
    object: Option<Object>,
}

impl Lent {
    async fn query(&self, sql: &str, args: &Args) -> Result<Vec<Row>, tokio_postgres::Error> {
        match &self.object {
            Some(object) => session::query(object, sql, args).await,
            None => Ok(Vec::new()),
        }
    }

    /// The answer is there.
    fn back(mut self, in_order: bool) {
        if let Some(object) = self.object.take()
            && !in_order
        {
            drop(Object::take(object));
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(object) = self.object.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            // What is asked behind a statement is answered once the statement is over. Until then it stays one of the
            // pool's, so that there are never more than there may be.
            let is_over = timeout(ABANDONED_FOR, object.batch_execute("")).await;
            if !matches!(is_over, Ok(Ok(()))) {
                drop(Object::take(object));
            }
        });
    }
}
