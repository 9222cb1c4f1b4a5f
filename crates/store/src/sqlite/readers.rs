//! Connections that only read. Each sees what was committed when it began to read, and waits for no writer.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rusqlite::Connection;

use super::connect;
use super::db::Db;

/// Connections for lists: so many may be read at once; they wait for each other, and nothing waits for them.
const LIST_READERS: usize = 2;

/// A few connections, each behind its own lock.
struct Pool {
    connections: Vec<Mutex<Connection>>,
    turn: AtomicUsize,
}

impl Pool {
    fn open(path: &Path, size: usize) -> rusqlite::Result<Self> {
        let connections = (0..size).map(|_| connect::reader(path).map(Mutex::new)).collect::<Result<_, _>>()?;
        Ok(Self { connections, turn: AtomicUsize::new(0) })
    }

    fn read<T>(&self, f: impl FnOnce(Db<'_>) -> T) -> T {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let size = self.connections.len();
        for offset in 0..size {
            if let Ok(conn) = self.connections[(turn + offset) % size].try_lock() {
                return f(Db(&conn));
            }
        }
        let conn = self.connections[turn % size].lock().unwrap_or_else(PoisonError::into_inner);
        f(Db(&conn))
    }
}

/// The readers: some for what takes microseconds, some for what may take longer.
pub(super) struct Readers {
    points: Pool,
    lists: Pool,
}

impl Readers {
    /// Opens `points` connections for quick looks, and the ones for lists.
    pub(super) fn open(path: &Path, points: usize) -> rusqlite::Result<Self> {
        Ok(Self { points: Pool::open(path, points.max(1))?, lists: Pool::open(path, LIST_READERS)? })
    }

    /// Reads by key, on the calling thread.
    pub(super) fn point<T>(&self, f: impl FnOnce(Db<'_>) -> T) -> T {
        self.points.read(f)
    }

    /// Reads a list, on the calling thread, which may wait.
    pub(super) fn list<T>(&self, f: impl FnOnce(Db<'_>) -> T) -> T {
        self.lists.read(f)
    }
}
