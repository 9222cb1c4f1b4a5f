//! Connections, and what each is allowed to do.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Result};

/// Prepared statements that a connection keeps: more than there are.
const STATEMENTS_KEPT: usize = 128;

/// The writer's page cache, in KiB: the right edges of every tree, with room to spare.
const WRITER_CACHE_KIB: i64 = 16 * 1024;

/// A reader's page cache, in KiB. It starts cold after most commits, so more would be memory for nothing.
const READER_CACHE_KIB: i64 = 2 * 1024;

/// How long a connection waits for another process, such as a backup tool.
pub(super) const BUSY_WAIT: Duration = Duration::from_secs(2);

/// A log file larger than this, in bytes, is cut back when it is reused: what an overload left behind does not stay.
const WAL_BYTES_KEPT: i64 = 128 * 1024 * 1024;

fn flags() -> OpenFlags {
    // Each connection has one user at a time: its thread, or the holder of its lock.
    OpenFlags::SQLITE_OPEN_NO_MUTEX
}

fn tuned(conn: Connection, cache_kib: i64) -> Result<Connection> {
    conn.busy_timeout(BUSY_WAIT)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    conn.pragma_update(None, "cache_size", -cache_kib)?;
    // A plan may not depend on what is bound: otherwise most statements are compiled anew at every use.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // Savepoints' journals stay in memory.
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(conn)
}

/// The connection that writes: what it committed survives a power cut.
pub(super) fn writer(path: &Path) -> Result<Connection> {
    let flags = flags() | OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let conn = tuned(Connection::open_with_flags(path, flags)?, WRITER_CACHE_KIB)?;
    conn.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update_and_check(None, "journal_size_limit", WAL_BYTES_KEPT, |row| row.get::<_, i64>(0))?;
    Ok(conn)
}

/// A database that is gone with its connection.
pub(super) fn memory() -> Result<Connection> {
    tuned(Connection::open_in_memory_with_flags(flags() | OpenFlags::SQLITE_OPEN_READ_WRITE)?, WRITER_CACHE_KIB)
}

/// A connection that cannot write.
pub(super) fn reader(path: &Path) -> Result<Connection> {
    let conn = Connection::open_with_flags(path, flags() | OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let conn = tuned(conn, READER_CACHE_KIB)?;
    conn.pragma_update(None, "query_only", true)?;
    Ok(conn)
}

/// The connection that moves pages from the log into the database.
pub(super) fn checkpointer(path: &Path) -> Result<Connection> {
    let conn = Connection::open_with_flags(path, flags() | OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let conn = tuned(conn, READER_CACHE_KIB)?;
    conn.busy_timeout(super::writer::READERS_WAIT)?;
    Ok(conn)
}
