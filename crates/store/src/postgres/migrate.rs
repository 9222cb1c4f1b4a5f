//! A schema's history in PostgreSQL: forward only, each step in one transaction with its line in
//! `freehold_schema_migrations`.
//!
//! - Who takes a step holds the row of step 0 `FOR UPDATE`: of two nodes that start at once one waits for the other. No
//!   advisory lock is used, for a pooler may change sessions.
//! - Steps that are out are never edited: a checksum that differs is an error.
//! - A program may go on with a schema that is newer, if every step beyond its own only adds: each step says from which
//!   program on it works (`works_from`), and that is on record for programs that do not know the step. So nodes of two
//!   versions share a database while one is rolled out: first a release that expands, later one that contracts.
//! - Where every step was taken already, nothing but a right to read is needed.

use deadpool_postgres::ClientWrapper;
use ring::digest::{SHA256, digest};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Error, IsolationLevel};

/// One step of the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migration {
    /// Its number, from 1 without gaps.
    pub version: u32,
    /// What it is about.
    pub name: &'static str,
    /// What it does.
    pub sql: &'static str,
    /// The oldest program, by the last step that it knows, that may go on working once this step is taken.
    pub works_from: u32,
}

/// A schema of the database and the steps that make it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schema {
    /// Its name. Not from outside: it stands in statements as it is.
    pub name: &'static str,
    /// Its steps.
    pub migrations: &'static [Migration],
}

/// Why a schema was not brought up to date. Nothing of the step at hand was written.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The database is newer than the program can work with.
    #[error("its schema is {database}, this program knows up to {program}: run the newer freehold that wrote it")]
    Newer {
        /// The database's schema.
        database: u32,
        /// The program's latest.
        program: u32,
    },
    /// A step was taken that is not the program's step of that number.
    #[error("schema step {version} ({name}) in it is not the one in this program: run the build that wrote it")]
    Drift {
        /// The step.
        version: u32,
        /// Its name in the database.
        name: String,
    },
    /// PostgreSQL refused.
    #[error("cannot bring its schema to step {version}: {}", super::error::words(source))]
    Failed {
        /// The step; 0 for reading where it is.
        version: u32,
        /// What PostgreSQL said.
        source: Error,
    },
}

/// Where a schema is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Which steps were taken, by number and name, and when: microseconds since the Unix epoch.
    pub applied: Vec<(u32, String, i64)>,
    /// Which were not.
    pub pending: Vec<Migration>,
    /// The program's last step.
    pub program: u32,
}

/// Looks where a schema is, and changes nothing.
pub(super) async fn status(client: &ClientWrapper, schema: &Schema) -> Result<Status, MigrateError> {
    let there = client.query_typed(IS_THERE, &[(&schema.name, Type::TEXT)]).await.map_err(failed(0))?;
    let is_there = there.first().map(|row| row.try_get::<_, bool>(0)).transpose().map_err(failed(0))?;
    let taken = match is_there {
        Some(true) => {
            applied(client.query_typed(&read(schema.name), &[]).await.map_err(failed(0))?).map_err(failed(0))?
        }
        Some(false) | None => Vec::new(),
    };
    let pending = pending(schema.migrations, &taken)?.into_iter().copied().collect();
    let applied = taken.into_iter().map(|step| (step.version, step.name, step.applied_at)).collect();
    Ok(Status { applied, pending, program: latest(schema.migrations) })
}

/// How often it is looked again where two nodes make the ledger at once.
const LEDGER_TRIES: u32 = 5;

/// One implicit transaction. A schema that somebody else made, with rights for us, will do.
fn ledger(schema: &str) -> String {
    format!(
        "DO $$ BEGIN \
            IF to_regnamespace('{schema}') IS NULL THEN CREATE SCHEMA {schema}; END IF; \
        END $$; \
        CREATE TABLE IF NOT EXISTS {schema}.freehold_schema_migrations ( \
            version    integer     PRIMARY KEY, \
            name       text        NOT NULL, \
            checksum   text        NOT NULL, \
            applied_at timestamptz NOT NULL DEFAULT clock_timestamp() \
        ); \
        ALTER TABLE {schema}.freehold_schema_migrations ADD COLUMN IF NOT EXISTS works_from integer; \
        COMMENT ON TABLE {schema}.freehold_schema_migrations IS \
            'The steps that this schema has taken. Step 0 is the lock of whoever takes one.'; \
        INSERT INTO {schema}.freehold_schema_migrations (version, name, checksum) VALUES (0, 'lock', '') \
        ON CONFLICT (version) DO NOTHING"
    )
}

const IS_THERE: &str = "\
    SELECT EXISTS (SELECT 1 FROM information_schema.columns WHERE table_schema = $1 \
        AND table_name = 'freehold_schema_migrations' AND column_name = 'works_from')";

/// A step without a word of its own works from itself on.
fn read(schema: &str) -> String {
    format!(
        "SELECT version, name, checksum, COALESCE(works_from, version), \
            (extract(epoch FROM applied_at) * 1000000)::bigint \
         FROM {schema}.freehold_schema_migrations WHERE version > 0 ORDER BY version"
    )
}

fn lock(schema: &str) -> String {
    format!("SELECT 1 FROM {schema}.freehold_schema_migrations WHERE version = 0 FOR UPDATE")
}

fn taken(schema: &str) -> String {
    format!(
        "INSERT INTO {schema}.freehold_schema_migrations (version, name, checksum, works_from) VALUES ($1, $2, $3, $4)"
    )
}

struct Applied {
    version: u32,
    name: String,
    checksum: String,
    works_from: u32,
    applied_at: i64,
}

fn failed(version: u32) -> impl Fn(Error) -> MigrateError {
    move |source| MigrateError::Failed { version, source }
}

/// Brings a schema to its last step. Answers which one that is.
pub(super) async fn up(client: &mut ClientWrapper, schema: &Schema) -> Result<u32, MigrateError> {
    make_ledger(client, schema.name).await.map_err(failed(0))?;
    let applied = applied(client.query_typed(&read(schema.name), &[]).await.map_err(failed(0))?).map_err(failed(0))?;
    for migration in pending(schema.migrations, &applied)? {
        step(client, schema, migration).await?;
    }
    Ok(latest(schema.migrations))
}

fn latest(migrations: &[Migration]) -> u32 {
    migrations.last().map_or(0, |migration| migration.version)
}

async fn make_ledger(client: &ClientWrapper, schema: &str) -> Result<(), Error> {
    let mut tries = 0;
    loop {
        let is_there = client.query_typed(IS_THERE, &[(&schema, Type::TEXT)]).await?;
        if is_there.first().map(|row| row.try_get::<_, bool>(0)).transpose()?.unwrap_or(false) {
            return Ok(());
        }
        tries += 1;
        let at_once = [SqlState::UNIQUE_VIOLATION, SqlState::DUPLICATE_SCHEMA, SqlState::DUPLICATE_TABLE];
        match client.batch_execute(&ledger(schema)).await {
            // Another node made it in the same moment.
            Err(error) if tries < LEDGER_TRIES && error.code().is_some_and(|code| at_once.contains(code)) => {}
            other => return other,
        }
    }
}

async fn step(client: &mut ClientWrapper, schema: &Schema, migration: &Migration) -> Result<(), MigrateError> {
    let Migration { version, name, sql, works_from } = *migration;
    let tx = client
        .build_transaction()
        .isolation_level(IsolationLevel::ReadCommitted)
        .start()
        .await
        .map_err(failed(version))?;
    tx.query_typed(&lock(schema.name), &[]).await.map_err(failed(version))?;
    // Another node may have taken the step while this one waited.
    let applied =
        applied(tx.query_typed(&read(schema.name), &[]).await.map_err(failed(version))?).map_err(failed(version))?;
    if !pending(schema.migrations, &applied)?.contains(&migration) {
        return tx.rollback().await.map_err(failed(version));
    }
    tx.batch_execute(sql).await.map_err(failed(version))?;
    let number = i32::try_from(version).unwrap_or(i32::MAX);
    let works_from = i32::try_from(works_from).unwrap_or(i32::MAX);
    let checksum = checksum(sql);
    let line: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 4] =
        [(&number, Type::INT4), (&name, Type::TEXT), (&checksum, Type::TEXT), (&works_from, Type::INT4)];
    tx.query_typed(&taken(schema.name), &line).await.map_err(failed(version))?;
    tx.commit().await.map_err(failed(version))
}

fn applied(rows: Vec<tokio_postgres::Row>) -> Result<Vec<Applied>, Error> {
    rows.iter()
        .map(|row| {
            let number = |column| Ok::<_, Error>(u32::try_from(row.try_get::<_, i32>(column)?).unwrap_or(u32::MAX));
            Ok(Applied {
                version: number(0)?,
                name: row.try_get(1)?,
                checksum: row.try_get(2)?,
                works_from: number(3)?,
                applied_at: row.try_get(4)?,
            })
        })
        .collect()
}

fn pending(migrations: &'static [Migration], applied: &[Applied]) -> Result<Vec<&'static Migration>, MigrateError> {
    let program = latest(migrations);
    let database = applied.last().map_or(0, |applied| applied.version);
    for Applied { version, name, checksum: taken, works_from, applied_at: _ } in applied {
        let known = migrations.iter().find(|migration| migration.version == *version);
        match known {
            None if *version > program && *works_from <= program => {}
            None if *version > program => return Err(MigrateError::Newer { database, program }),
            Some(migration) if checksum(migration.sql) == *taken => {}
            None | Some(_) => return Err(MigrateError::Drift { version: *version, name: name.clone() }),
        }
    }
    let taken = |migration: &&Migration| applied.iter().any(|applied| applied.version == migration.version);
    Ok(migrations.iter().filter(|migration| !taken(migration)).collect())
}

/// SHA-256 of a step's SQL, in hexadecimal.
fn checksum(sql: &str) -> String {
    digest(&SHA256, sql.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
