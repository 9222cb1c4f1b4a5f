//! Connections, and what each is allowed to do.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Result, ffi};

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

/// How much of a log is written again at a time, in bytes.
const LOG_PIECE: usize = 1 << 20;

/// The first connection that writes: what it found committed, and what it commits, survives a power cut.
pub(super) fn writer(path: &Path) -> Result<Connection> {
    let conn = further_writer(path)?;
    make_last(&conn, path)?;
    Ok(conn)
}

/// Makes what is in the log last.
///
/// After a sync that failed, the kernel takes the pages for clean: they are read as they were written, no later sync
/// brings them to the disk, and a power cut takes them away. SQLite undoes the commit and writes over its pages, so a
/// process that lives on is safe. One that was killed is not: the next finds the commit in the log, takes it for good and
/// builds on it, and all of that is lost with it. Pages that are written again are dirty again, and the sync that follows
/// says the truth. Nobody else writes to the log meanwhile, because the transaction has SQLite's lock for that.
fn make_last(conn: &Connection, path: &Path) -> Result<()> {
    let log = log_of(path);
    conn.execute_batch("BEGIN IMMEDIATE")?;
    let written = write_again(&log).map_err(|error| {
        let code = if error.kind() == io::ErrorKind::StorageFull { ffi::SQLITE_FULL } else { ffi::SQLITE_IOERR_FSYNC };
        let what = format!("{}: {} cannot be made to last: {error}", ffi::code_to_str(code), log.display());
        rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some(what))
    });
    let ended = conn.execute_batch("ROLLBACK");
    written.and(ended)
}

/// SQLite's name for the log of a database.
fn log_of(path: &Path) -> PathBuf {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    log.into()
}

/// Writes a file's bytes over themselves and syncs it. One that is not there has none.
fn write_again(path: &Path) -> io::Result<()> {
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    let (mut piece, mut at) = (vec![0; LOG_PIECE], 0);
    loop {
        let length = file.read_at(&mut piece, at)?;
        if length == 0 {
            return file.sync_all();
        }
        file.write_all_at(&piece[..length], at)?;
        at += length as u64;
    }
}

/// A connection that writes, for a process that has had one: what it commits survives a power cut.
pub(super) fn further_writer(path: &Path) -> Result<Connection> {
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
