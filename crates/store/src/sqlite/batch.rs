//! Group commit: many requests, one transaction, one sync.
//!
//! - A request that fails leaves nothing behind and harms nobody else. Most that fail have written nothing. One that has
//!   spoils its batch: the batch is rolled back and run again, each request inside a savepoint of its own. Savepoints for
//!   all would cost a fifth of the writer's time, for what happens next to never.
//! - Nobody is answered before COMMIT succeeded.
//! - A COMMIT whose outcome is open answers its whole batch [`StoreError::Unknown`]: even a refusal may rest on what a
//!   neighbour wrote.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use freehold_domain::protection::{Protection, stands};
use freehold_engine::ports::StoreError;
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::Place;
use super::connect;
use super::db::Db;
use super::error::{at_commit, before_commit};
use super::tx::{Desk, Tx};
use crate::shared::corrupt;

/// What a test lets happen to a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitFault {
    /// Nothing.
    None,
    /// It is refused: surely nothing is written.
    Refuse,
    /// Its answer is lost, whether or not it happened.
    Lose {
        /// Whether it happened.
        applied: bool,
    },
}

/// Asked before each commit.
pub(super) type FaultHook = Box<dyn FnMut() -> CommitFault + Send>;

/// Told how long each commit took.
pub(super) type CommitWatch = Arc<dyn Fn(Duration) + Send + Sync>;

/// A request on its way through a batch.
pub(super) trait Request: Send {
    /// Does its work. Answers whether to keep what it wrote. May be called again, after a rollback; the last call counts.
    fn run(&mut self, tx: Tx<'_>) -> bool;

    /// Answers its asker: with what the work came to, or with what became of the batch.
    fn answer(self: Box<Self>, batch: Result<(), StoreError>);
}

/// A request and the one who waits for it.
pub(super) struct Pending<T, F> {
    work: F,
    outcome: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Pending<T, F> {
    /// A request, and where its answer comes.
    pub(super) fn new(work: F) -> (Self, oneshot::Receiver<Result<T, StoreError>>) {
        let (reply, answer) = oneshot::channel();
        (Self { work, outcome: None, reply }, answer)
    }
}

impl<T: Send, F: FnMut(Tx<'_>) -> Result<T, StoreError> + Send> Request for Pending<T, F> {
    fn run(&mut self, tx: Tx<'_>) -> bool {
        self.outcome = None;
        let outcome = (self.work)(tx);
        let keep = outcome.is_ok();
        self.outcome = Some(outcome);
        keep
    }

    fn answer(self: Box<Self>, batch: Result<(), StoreError>) {
        let panicked = || Err(StoreError::Unavailable("the request broke off; the log says where".to_owned()));
        let answer = match batch {
            Ok(()) => self.outcome.unwrap_or_else(panicked),
            Err(error) => Err(error),
        };
        // Whoever asked may have gone away; what was committed stays committed.
        let _ = self.reply.send(answer);
    }
}

/// What the store has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Requests that went through a transaction.
    pub requests: u64,
    /// Transactions.
    pub batches: u64,
    /// Transactions that wrote something: each is one sync of the log.
    pub commits: u64,
}

/// The counters behind [`Stats`].
#[derive(Default)]
pub(super) struct Counters {
    requests: AtomicU64,
    batches: AtomicU64,
    commits: AtomicU64,
}

impl Counters {
    pub(super) fn stats(&self) -> Stats {
        Stats {
            requests: self.requests.load(Ordering::Relaxed),
            batches: self.batches.load(Ordering::Relaxed),
            commits: self.commits.load(Ordering::Relaxed),
        }
    }
}

/// What a request left in its transaction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Left {
    /// Nothing: it refused, or only read.
    Nothing,
    /// What it was for.
    Work,
    /// Parts of what it failed to do.
    Debris,
}

/// What running a batch came to.
enum Attempt {
    /// Everybody is done; whether anything is there to commit.
    Done { wrote: bool },
    /// A request failed after it wrote.
    Spoiled,
}

/// The one that writes: a connection, and what its requests share.
pub(super) struct Core {
    pub(super) conn: Connection,
    place: Place,
    pub(super) desk: Arc<Desk>,
    pub(super) counters: Arc<Counters>,
    fault: Option<FaultHook>,
    watch: Option<CommitWatch>,
}

impl Core {
    pub(super) fn new(
        conn: Connection,
        place: Place,
        desk: Arc<Desk>,
        fault: Option<FaultHook>,
        watch: Option<CommitWatch>,
    ) -> Self {
        Self { conn, place, desk, counters: Arc::default(), fault, watch }
    }

    fn execute(&self, sql: &'static str) -> rusqlite::Result<()> {
        self.conn.prepare_cached(sql)?.execute([]).map(|_| ())
    }

    /// Runs a batch and answers everyone in it.
    pub(super) fn run(&mut self, batch: &mut Vec<Box<dyn Request>>) {
        self.counters.requests.fetch_add(batch.len() as u64, Ordering::Relaxed);
        self.counters.batches.fetch_add(1, Ordering::Relaxed);
        let outcome = self.transact(batch);
        if let Err(error) = &outcome {
            tracing::warn!(%error, requests = batch.len(), "a batch was not committed");
            self.recover();
        }
        for request in batch.drain(..) {
            request.answer(outcome.clone());
        }
    }

    fn transact(&mut self, batch: &mut [Box<dyn Request>]) -> Result<(), StoreError> {
        let wrote = match self.attempt(batch, Self::run_bare)? {
            Attempt::Done { wrote } => wrote,
            Attempt::Spoiled => {
                self.execute("ROLLBACK").map_err(|error| before_commit(&error))?;
                match self.attempt(batch, Self::run_guarded)? {
                    Attempt::Done { wrote } => wrote,
                    Attempt::Spoiled => return Err(corrupt("a request left something behind its savepoint")),
                }
            }
        };
        let fault = self.fault.as_mut().map_or(CommitFault::None, |fault| fault());
        match fault {
            CommitFault::None | CommitFault::Lose { applied: true } => {
                let began = self.desk.clock.monotonic();
                self.execute("COMMIT").map_err(|error| at_commit(&error))?;
                if let Some(watch) = self.watch.as_ref().filter(|_| wrote) {
                    watch(self.desk.clock.monotonic().saturating_sub(began));
                }
                self.counters.commits.fetch_add(u64::from(wrote), Ordering::Relaxed);
            }
            CommitFault::Refuse | CommitFault::Lose { applied: false } => {
                self.execute("ROLLBACK").map_err(|error| at_commit(&error))?;
            }
        }
        match fault {
            CommitFault::None => Ok(()),
            CommitFault::Refuse | CommitFault::Lose { .. } if !stands(Protection::AnswerAfterCommit) => Ok(()),
            CommitFault::Lose { .. } if !stands(Protection::LostCommitIsUnknown) => {
                Err(StoreError::Unavailable("a lost answer was taken for a refusal".to_owned()))
            }
            CommitFault::Refuse => Err(StoreError::Unavailable("the commit was refused by a test".to_owned())),
            CommitFault::Lose { .. } => Err(StoreError::Unknown("the answer was lost by a test".to_owned())),
        }
    }

    /// Runs every request of a batch in a transaction that is left open.
    fn attempt(
        &self,
        batch: &mut [Box<dyn Request>],
        run: impl Fn(&Self, &mut dyn Request) -> Result<Left, StoreError>,
    ) -> Result<Attempt, StoreError> {
        self.execute("BEGIN IMMEDIATE").map_err(|error| before_commit(&error))?;
        let mut wrote = false;
        for request in batch {
            let left = run(self, request.as_mut())?;
            if self.conn.is_autocommit() {
                // SQLite ends a whole transaction by itself when the disk fails it.
                let why = "a write failed and took its batch along; the disk may be full or broken";
                return Err(StoreError::Unavailable(why.to_owned()));
            }
            match left {
                Left::Nothing => {}
                Left::Work => wrote = true,
                Left::Debris => return Ok(Attempt::Spoiled),
            }
        }
        Ok(Attempt::Done { wrote })
    }

    /// Runs a request, and looks what it left.
    fn run_bare(&self, request: &mut dyn Request) -> Result<Left, StoreError> {
        let changes = self.conn.total_changes();
        let tx = Tx::new(Db(&self.conn), &self.desk);
        let keep = catch_unwind(AssertUnwindSafe(|| request.run(tx))).unwrap_or_else(|_| {
            tracing::error!("a request to the store panicked; what it wrote is rolled back");
            false
        });
        let wrote = self.conn.total_changes() != changes;
        Ok(match (wrote, keep) {
            (false, _) => Left::Nothing,
            (true, true) => Left::Work,
            (true, false) => Left::Debris,
        })
    }

    /// Runs a request, and clears away what it left if it failed.
    fn run_guarded(&self, request: &mut dyn Request) -> Result<Left, StoreError> {
        self.execute("SAVEPOINT request").map_err(|error| before_commit(&error))?;
        let mut left = self.run_bare(request)?;
        if self.conn.is_autocommit() {
            return Ok(left);
        }
        if left == Left::Debris {
            self.execute("ROLLBACK TO request").map_err(|error| before_commit(&error))?;
            left = Left::Nothing;
        }
        self.execute("RELEASE request").map_err(|error| before_commit(&error))?;
        Ok(left)
    }

    /// Leaves no transaction open behind a failure, on another connection if need be.
    fn recover(&mut self) {
        if self.conn.is_autocommit() {
            return;
        }
        let Err(error) = self.execute("ROLLBACK") else { return };
        tracing::error!(%error, "a transaction cannot be rolled back; the database is opened again");
        if let Place::File(path) = &self.place {
            match connect::further_writer(path) {
                // Nobody watches this one's log; SQLite's own limit keeps it short.
                Ok(conn) => self.conn = conn,
                Err(error) => tracing::error!(%error, "the database cannot be opened again"),
            }
        }
    }
}
