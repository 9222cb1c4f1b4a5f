//! The writer's thread, and the one that keeps its log short.
//!
//! The log grows with every commit and starts over once all of it is in the database and no reader is inside. Moving
//! pages takes long and is done beside the writer; only the last few, and starting over, are done between two batches.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc as signals;
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::batch::{Core, Request};

/// Requests that may wait for the writer. Beyond that the store says that it is busy, which is better than to let
/// callers wait for longer than they will.
pub(super) const QUEUE_MAX: usize = 4096;

/// Requests in one transaction: enough to share a sync, few enough that the first does not wait for the last.
const BATCH_MAX: usize = 256;

/// The log's length, in pages of 4 KiB, at which its pages are moved: 80 MB, so that a page that is written often is
/// moved seldom.
pub(super) const CHECKPOINT_PAGES: u64 = 20_000;

/// Pages that may be left for the writer to move itself: a few milliseconds.
const FINISH_PAGES: u64 = 1_000;

/// Passes over a log that grows meanwhile. Each has less to do than the one before.
const PASSES_MAX: u32 = 6;

/// Further pages after which starting over is tried again, where readers were inside.
const RETRY_PAGES: u64 = 2_000;

/// How long whoever starts the log over waits for readers to leave it. The writer waits meanwhile.
pub(super) const READERS_WAIT: Duration = Duration::from_millis(5);

/// How long nothing must have been written before a log is emptied that is longer than [`IDLE_PART`] of its limit: a start
/// after a kill replays what is in it, 80 MB in some 100 ms, and writes it again.
const IDLE_LOOK: Duration = Duration::from_secs(1);

/// The part of the log's limit that an idle store may leave for the next start to replay.
const IDLE_PART: u64 = 5;

/// What the writer is sent.
pub(super) enum Message {
    /// Work.
    Request(Box<dyn Request>),
    /// Take no more work, finish what is there, and say so.
    Close(oneshot::Sender<()>),
}

/// What the writer and the one that keeps its log short tell each other.
pub(super) struct Log {
    /// The length at which its pages are moved.
    limit: u64,
    /// The log's length after the last commit, in pages.
    pages: AtomicU64,
    /// Nearly all of it is moved: the writer may finish and start over.
    finish: AtomicBool,
}

impl Log {
    /// An empty log whose pages are moved when there are `limit`.
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, pages: AtomicU64::new(0), finish: AtomicBool::new(false) }
    }

    /// The log's length, in pages.
    pub(super) fn pages(&self) -> u64 {
        self.pages.load(Ordering::Relaxed)
    }

    /// Watches a connection's commits.
    pub(super) fn watch(self: &Arc<Self>, conn: &mut Connection) -> rusqlite::Result<()> {
        let log = Arc::clone(self);
        conn.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages: std::ffi::c_int| {
            log.pages.store(u64::try_from(pages).unwrap_or(0), Ordering::Relaxed);
            Ok(())
        }))
    }
}

/// Starts both threads.
pub(super) fn start(
    core: Core,
    queue: mpsc::Receiver<Message>,
    checkpointer: Connection,
    log: Arc<Log>,
) -> std::io::Result<Vec<JoinHandle<()>>> {
    let (signal, signalled) = signals::sync_channel(1);
    let beside = Arc::clone(&log);
    let spawn =
        |name: &str, body: Box<dyn FnOnce() + Send>| std::thread::Builder::new().name(name.to_owned()).spawn(body);
    Ok(vec![
        spawn("store-writer", Box::new(move || write(core, queue, &log, &signal)))?,
        spawn("store-log", Box::new(move || shorten(&checkpointer, &signalled, &beside)))?,
    ])
}

fn write(mut core: Core, mut queue: mpsc::Receiver<Message>, log: &Log, signal: &signals::SyncSender<()>) {
    let mut messages = Vec::with_capacity(BATCH_MAX);
    let mut batch = Vec::with_capacity(BATCH_MAX);
    let mut closed = Vec::new();
    let mut shorten_at = log.limit;
    while queue.blocking_recv_many(&mut messages, BATCH_MAX) > 0 {
        for message in messages.drain(..) {
            match message {
                Message::Request(request) => batch.push(request),
                Message::Close(done) => {
                    queue.close();
                    closed.push(done);
                }
            }
        }
        if !batch.is_empty() {
            core.run(&mut batch);
        }
        if log.finish.swap(false, Ordering::Acquire) {
            let restarted = restart(&core.conn, READERS_WAIT);
            shorten_at = if restarted { log.limit } else { log.pages() + RETRY_PAGES };
        } else if log.pages() >= shorten_at {
            // If it is at work already, it need not be told again.
            let _ = signal.try_send(());
        }
    }
    // Leave a database behind that opens without anything to replay.
    empty(&core.conn);
    drop(core);
    for done in closed {
        let _ = done.send(());
    }
}

/// Moves everything and cuts the log to nothing. Answers whether it did.
fn empty(conn: &Connection) -> bool {
    let emptied = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0));
    match emptied {
        Ok(busy) => !busy,
        Err(error) => {
            tracing::warn!(%error, "the log could not be emptied; the next start replays it");
            false
        }
    }
}

/// Moves what is left and lets the next commit start the log over. Answers whether it will.
fn restart(conn: &Connection, wait: Duration) -> bool {
    let restarted =
        with_wait(conn, wait, || conn.query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| row.get::<_, bool>(0)));
    match restarted {
        Ok(busy) => !busy,
        Err(error) => {
            tracing::warn!(%error, "the log could not be started over; it grows until it can");
            false
        }
    }
}

fn with_wait<T>(conn: &Connection, wait: Duration, f: impl FnOnce() -> rusqlite::Result<T>) -> rusqlite::Result<T> {
    conn.busy_timeout(wait)?;
    let outcome = f();
    conn.busy_timeout(super::connect::BUSY_WAIT)?;
    outcome
}

fn shorten(conn: &Connection, signalled: &signals::Receiver<()>, log: &Log) {
    let mut seen = 0;
    loop {
        match signalled.recv_timeout(IDLE_LOOK) {
            Ok(()) => {
                for _ in 0..PASSES_MAX {
                    let (length, done) = pass(conn);
                    if length.saturating_sub(done) <= FINISH_PAGES {
                        log.finish.store(true, Ordering::Release);
                        break;
                    }
                }
            }
            Err(signals::RecvTimeoutError::Timeout) => {
                if log.pages() == seen && seen > log.limit / IDLE_PART && empty(conn) {
                    log.pages.store(0, Ordering::Relaxed);
                }
                seen = log.pages();
            }
            Err(signals::RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Moves what can be moved without anybody waiting. Answers the log's length and how much of it is moved, in pages.
fn pass(conn: &Connection) -> (u64, u64) {
    let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?));
    match conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], read) {
        Ok((length, done)) => (u64::try_from(length).unwrap_or(0), u64::try_from(done).unwrap_or(0)),
        Err(error) => {
            tracing::warn!(%error, "the log's pages could not be moved; it grows until they can");
            (0, 0)
        }
    }
}
