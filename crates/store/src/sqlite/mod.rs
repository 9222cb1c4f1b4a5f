//! The registry and the records in one SQLite file.
//!
//! Read in this order: `migrations/` (what there is), `batch` (how it is written), `tx` (how a change of the domain's
//! becomes rows), `admit`, `lease`, `take_in` and `shared::sentences` (the sentences), `port` (which sentence each method is).
//!
//! - One connection writes. Requests that wait at the same time share one transaction and one sync; see `batch`.
//! - What was answered is on disk: the log is synced at every commit.
//! - Readers see only what was committed, and neither wait nor are waited for.
//! - The domain decides inside the transaction; the fence is in the statement that writes.

mod admit;
mod audit;
pub mod backup;
mod batch;
mod change_log;
mod connect;
mod db;
mod describe;
mod erase;
mod error;
mod keys;
mod leaks;
mod lease;
pub mod migrate;
mod nodes;
mod port;
mod quarantine;
mod readers;
mod records;
mod rows;
mod take_in;
#[cfg(test)]
mod tests;
mod timers;
mod tx;
mod writer;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use freehold_domain::invariants::Invariant;
use freehold_domain::lease::LeaseTerm;
use freehold_engine::ports::{Clock, StoreError};
use rusqlite::OptionalExtension as _;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use batch::{CommitWatch, Core, Counters, FaultHook, Pending};
use db::Db;
use readers::Readers;
use tx::{Desk, Tx};
use writer::{Log, Message};

pub use batch::{CommitFault, Stats};
pub use error::OpenError;

/// Where a database is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// In a file.
    File(PathBuf),
    /// In this process only.
    Memory,
}

/// How to open a store.
pub struct SqliteOptions {
    place: Place,
    inline: bool,
    clock: Arc<dyn Clock>,
    lease_term: LeaseTerm,
    readers: usize,
    checkpoint_pages: u64,
    fault: Option<FaultHook>,
    watch: Option<CommitWatch>,
}

impl SqliteOptions {
    /// A store in a file, which is made if it is missing. Its folder must exist.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>, clock: Arc<dyn Clock>, lease_term: LeaseTerm) -> Self {
        Self {
            place: Place::File(path.into()),
            inline: false,
            clock,
            lease_term,
            readers: std::thread::available_parallelism().map_or(1, usize::from),
            checkpoint_pages: writer::CHECKPOINT_PAGES,
            fault: None,
            watch: None,
        }
    }

    /// A store that is gone when it is dropped, without threads: for simulations.
    #[must_use]
    pub fn memory(clock: Arc<dyn Clock>, lease_term: LeaseTerm) -> Self {
        Self { place: Place::Memory, inline: true, ..Self::file(PathBuf::new(), clock, lease_term) }
    }

    /// Without threads: every request runs on the thread that asks, in a transaction of its own.
    #[must_use]
    pub fn inline(mut self) -> Self {
        self.inline = true;
        self
    }

    /// Tells `watch` how long each commit took that wrote something: one synced write of the log.
    #[must_use]
    pub fn watch_commits(mut self, watch: impl Fn(Duration) + Send + Sync + 'static) -> Self {
        self.watch = Some(Arc::new(watch));
        self
    }

    /// Asks `fault` before every commit what is to happen to it.
    #[must_use]
    pub fn fault(mut self, fault: impl FnMut() -> CommitFault + Send + 'static) -> Self {
        self.fault = Some(Box::new(fault));
        self
    }
}

enum Mode {
    Inline(Box<Mutex<Core>>),
    Threads {
        /// `None` only while the store is dropped.
        queue: Option<mpsc::Sender<Message>>,
        readers: Arc<Readers>,
        threads: Vec<JoinHandle<()>>,
        log: Arc<Log>,
    },
}

/// The registry and the records, in SQLite. With threads it is used inside a tokio runtime.
pub struct SqliteStore {
    desk: Arc<Desk>,
    counters: Arc<Counters>,
    mode: Mode,
}

impl SqliteStore {
    /// Opens a store and brings its schema up to date.
    ///
    /// # Errors
    /// [`OpenError`] if the file cannot be written, or its schema is not this program's.
    pub fn open(options: SqliteOptions) -> Result<Self, OpenError> {
        let SqliteOptions { place, inline, clock, lease_term, readers, checkpoint_pages, fault, watch } = options;
        let path = match &place {
            Place::File(path) => path.clone(),
            Place::Memory => PathBuf::from(":memory:"),
        };
        let failed = |source| OpenError::Open { path: path.clone(), source };
        let mut conn = match &place {
            Place::File(path) => connect::writer(path),
            Place::Memory => connect::memory(),
        }
        .map_err(failed)?;
        migrate::apply(&mut conn, migrate::MIGRATIONS, clock.now())?;
        if let Some(place) = moved(&conn).map_err(failed)? {
            return Err(OpenError::Moved { path, place });
        }
        let desk = Arc::new(Desk::new(clock, lease_term));
        if inline {
            conn.pragma_update(None, "wal_autocheckpoint", checkpoint_pages.cast_signed()).map_err(failed)?;
            let core = Core::new(conn, place, Arc::clone(&desk), fault, watch);
            let counters = Arc::clone(&core.counters);
            return Ok(Self { desk, counters, mode: Mode::Inline(Box::new(Mutex::new(core))) });
        }
        conn.pragma_update(None, "wal_autocheckpoint", 0).map_err(failed)?;
        let log = Arc::new(Log::new(checkpoint_pages));
        log.watch(&mut conn).map_err(failed)?;
        let core = Core::new(conn, place, Arc::clone(&desk), fault, watch);
        let counters = Arc::clone(&core.counters);
        let checkpointer = connect::checkpointer(&path).map_err(failed)?;
        let readers = Arc::new(Readers::open(&path, readers).map_err(failed)?);
        let (queue, requests) = mpsc::channel(writer::QUEUE_MAX);
        let threads = writer::start(core, requests, checkpointer, Arc::clone(&log)).map_err(OpenError::Thread)?;
        Ok(Self { desk, counters, mode: Mode::Threads { queue: Some(queue), readers, threads, log } })
    }

    /// What the store has done since it was opened.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.counters.stats()
    }

    /// The length of the log, in pages of 4 KiB, after the last commit; 0 without threads.
    #[must_use]
    pub fn log_pages(&self) -> u64 {
        match &self.mode {
            Mode::Inline(_) => 0,
            Mode::Threads { log, .. } => log.pages(),
        }
    }

    /// How many violations of invariants were seen, by invariant.
    #[must_use]
    pub fn violations(&self) -> Vec<(Invariant, u64)> {
        self.desk.violations.seen()
    }

    /// Runs a request in a transaction, with whatever others wait at the same time. It may run more than once; see
    /// `batch`.
    async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        let (request, mut answer) = Pending::new(work);
        let gone = |_| Err(StoreError::Unknown("the store ended without an answer".to_owned()));
        match &self.mode {
            Mode::Inline(core) => {
                let mut core = core.lock().unwrap_or_else(PoisonError::into_inner);
                core.run(&mut vec![Box::new(request)]);
                answer.try_recv().unwrap_or_else(|_| gone(()))
            }
            Mode::Threads { queue, .. } => {
                let queue = queue.as_ref().ok_or_else(closing)?;
                queue.try_send(Message::Request(Box::new(request))).map_err(|refused| match refused {
                    TrySendError::Full(_) => {
                        let why = format!("{} requests are waiting already; try again", writer::QUEUE_MAX);
                        StoreError::Unavailable(why)
                    }
                    TrySendError::Closed(_) => closing(),
                })?;
                answer.await.unwrap_or_else(|_| gone(()))
            }
        }
    }

    /// Reads by key, on the calling thread: it takes microseconds.
    fn point<T>(&self, read: impl FnOnce(Db<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        match &self.mode {
            Mode::Inline(core) => read(Db(&core.lock().unwrap_or_else(PoisonError::into_inner).conn)),
            Mode::Threads { readers, .. } => readers.point(read),
        }
    }

    /// Reads a list, beside the runtime's threads: it may take longer.
    async fn list<T, F>(&self, read: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(Db<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        match &self.mode {
            Mode::Inline(_) => self.point(read),
            Mode::Threads { readers, .. } => {
                let readers = Arc::clone(readers);
                let listed = tokio::task::spawn_blocking(move || readers.list(read)).await;
                listed.unwrap_or_else(|error| Err(StoreError::Unavailable(format!("a read broke off: {error}"))))
            }
        }
    }
}

/// Where the registry is by now, if it was moved to another database.
fn moved(conn: &rusqlite::Connection) -> rusqlite::Result<Option<String>> {
    conn.query_row("SELECT place FROM moved", [], |row| row.get(0)).optional()
}

fn closing() -> StoreError {
    StoreError::Unavailable("it is closing".to_owned())
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        if let Mode::Threads { queue, threads, .. } = &mut self.mode {
            // Without a sender the writer finishes what waits, and ends.
            drop(queue.take());
            for thread in threads.drain(..) {
                if thread.join().is_err() {
                    tracing::error!("a thread of the store ended with a panic");
                }
            }
        }
    }
}
