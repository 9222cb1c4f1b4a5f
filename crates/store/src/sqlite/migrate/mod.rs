//! The schema's history. Each step is one exclusive transaction that also writes down its checksum and the schema's
//! number, so a database is at one step or at the next, whenever its migration is killed.
//!
//! Steps that are out are never edited: a checksum that differs is an error. A database that knows more steps than the
//! program is refused, for the program cannot know what they mean.

#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Duration;

use freehold_domain::time::Timestamp;
use ring::digest::{SHA256, digest};
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior, params};

use super::connect;

/// One step of the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migration {
    /// Its number, from 1 without gaps.
    pub version: u32,
    /// What it is about.
    pub name: &'static str,
    /// What it does.
    pub(super) sql: &'static str,
}

/// Every step that this program knows.
pub const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "registry", sql: include_str!("../migrations/0001_registry.sql") },
    Migration { version: 2, name: "records", sql: include_str!("../migrations/0002_records.sql") },
    Migration { version: 3, name: "nodes", sql: include_str!("../migrations/0003_nodes.sql") },
    Migration { version: 4, name: "house", sql: include_str!("../migrations/0004_house.sql") },
    Migration { version: 5, name: "providers", sql: include_str!("../migrations/0005_providers.sql") },
];

/// "Freehold database" in the file's header (`application_id`): the letters FRHD.
const APPLICATION_ID: i64 = 0x4652_4844;

/// How long a migration waits for another process that has the database.
const LOCK_WAIT: Duration = Duration::from_secs(5);

const LEDGER: &str = "\
    CREATE TABLE IF NOT EXISTS schema_migrations ( \
        version    INTEGER PRIMARY KEY, \
        name       TEXT    NOT NULL, \
        checksum   TEXT    NOT NULL, \
        applied_at INTEGER NOT NULL \
    ) STRICT";

/// Why a schema was not brought up to date. Nothing of the step at hand was written.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The database is newer than the program.
    #[error(
        "the database is at schema {database}, this program knows up to {program}: run the newer freehold that wrote \
         it, or restore a backup from before"
    )]
    Newer {
        /// The database's schema.
        database: u32,
        /// The program's latest.
        program: u32,
    },
    /// A step was applied that is not the program's step of that number.
    #[error(
        "schema step {version} ({name}) in the database is not the one in this program: run the build that wrote it, \
         or restore a backup"
    )]
    Drift {
        /// The step.
        version: u32,
        /// Its name in the database.
        name: String,
    },
    /// The file is some other program's.
    #[error("the database has tables and is not freehold's: name another file")]
    Foreign,
    /// SQLite refused.
    #[error("cannot bring the database to schema {version}: {source}")]
    Failed {
        /// The step; 0 for reading where it is.
        version: u32,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

impl MigrateError {
    fn reading(source: rusqlite::Error) -> Self {
        Self::Failed { version: 0, source }
    }
}

/// A step that a database has taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Its number.
    pub version: u32,
    /// Its name.
    pub name: String,
    /// SHA-256 of its SQL, in hexadecimal.
    pub checksum: String,
    /// When it was taken.
    pub applied_at: Timestamp,
}

/// Where a database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The schema of the database; 0 for an empty or missing one.
    pub database: u32,
    /// The latest schema that this program knows.
    pub program: u32,
    /// The steps that the database has taken.
    pub applied: Vec<Applied>,
    /// The steps that it has not.
    pub pending: Vec<Migration>,
}

/// Where the database in a file is. Writes nothing; a missing file is an empty database.
///
/// # Errors
/// As [`up`].
pub fn status(path: &Path) -> Result<Status, MigrateError> {
    if !path.exists() {
        return examine(MIGRATIONS, 0, Vec::new());
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).map_err(MigrateError::reading)?;
    conn.busy_timeout(LOCK_WAIT).map_err(MigrateError::reading)?;
    read(&conn, MIGRATIONS)
}

/// Brings the database in a file to the program's schema, making it if it is missing. Answers where it was before.
///
/// # Errors
/// [`MigrateError`] for a database that is newer, altered or foreign, and whatever SQLite refuses.
pub fn up(path: &Path, now: Timestamp) -> Result<Status, MigrateError> {
    let mut conn = connect::writer(path).map_err(MigrateError::reading)?;
    apply(&mut conn, MIGRATIONS, now)
}

/// Brings an open database to the last of `migrations`.
pub(super) fn apply(conn: &mut Connection, migrations: &[Migration], now: Timestamp) -> Result<Status, MigrateError> {
    conn.busy_timeout(LOCK_WAIT).map_err(MigrateError::reading)?;
    let before = read(conn, migrations)?;
    for migration in &before.pending {
        step(conn, migrations, *migration, now)?;
    }
    Ok(before)
}

fn step(
    conn: &mut Connection,
    migrations: &[Migration],
    migration: Migration,
    now: Timestamp,
) -> Result<(), MigrateError> {
    let Migration { version, name, sql } = migration;
    let failed = |source| MigrateError::Failed { version, source };
    let tx = conn.transaction_with_behavior(TransactionBehavior::Exclusive).map_err(failed)?;
    // Another process may have taken the step while this one waited for the lock.
    if !read(&tx, migrations)?.pending.contains(&migration) {
        return Ok(());
    }
    tx.execute_batch(LEDGER).map_err(failed)?;
    tx.execute_batch(sql).map_err(failed)?;
    tx.execute(
        "INSERT INTO schema_migrations (version, name, checksum, applied_at) VALUES (?1, ?2, ?3, ?4)",
        params![version, name, checksum(sql), now.as_micros()],
    )
    .map_err(failed)?;
    tx.pragma_update(None, "application_id", APPLICATION_ID).map_err(failed)?;
    tx.pragma_update(None, "user_version", version).map_err(failed)?;
    tx.commit().map_err(failed)
}

fn read(conn: &Connection, migrations: &[Migration]) -> Result<Status, MigrateError> {
    let number = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, u32>(0)).map_err(MigrateError::reading);
    let database = number("PRAGMA user_version")?;
    let has_ledger = conn
        .query_row("SELECT 1 FROM sqlite_schema WHERE name = 'schema_migrations'", [], |_| Ok(()))
        .optional()
        .map_err(MigrateError::reading)?
        .is_some();
    if !has_ledger {
        let empty = database == 0 && number("SELECT count(*) FROM sqlite_schema")? == 0;
        return if empty { examine(migrations, 0, Vec::new()) } else { Err(MigrateError::Foreign) };
    }
    let mut statement = conn
        .prepare("SELECT version, name, checksum, applied_at FROM schema_migrations ORDER BY version")
        .map_err(MigrateError::reading)?;
    let applied = statement
        .query_map([], |row| {
            Ok(Applied {
                version: row.get(0)?,
                name: row.get(1)?,
                checksum: row.get(2)?,
                applied_at: Timestamp::from_micros(row.get(3)?),
            })
        })
        .and_then(Iterator::collect)
        .map_err(MigrateError::reading)?;
    examine(migrations, database, applied)
}

fn examine(migrations: &[Migration], database: u32, applied: Vec<Applied>) -> Result<Status, MigrateError> {
    let program = migrations.last().map_or(0, |migration| migration.version);
    let latest = applied.last().map_or(0, |applied| applied.version).max(database);
    if latest > program {
        return Err(MigrateError::Newer { database: latest, program });
    }
    for Applied { version, name, checksum: taken, applied_at: _ } in &applied {
        let known = migrations.iter().find(|migration| migration.version == *version);
        if known.is_none_or(|migration| checksum(migration.sql) != *taken) {
            return Err(MigrateError::Drift { version: *version, name: name.clone() });
        }
    }
    let taken = |migration: &&Migration| applied.iter().any(|applied| applied.version == migration.version);
    let pending = migrations.iter().filter(|migration| !taken(migration)).copied().collect();
    Ok(Status { database, program, applied, pending })
}

fn checksum(sql: &str) -> String {
    digest(&SHA256, sql.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
