//! Registries of any size: one admission of the store's own, copied as often as wanted.
//!
//! A copy differs from the admission in its ids, its owner, and how far it came; everything else is as the store wrote it.
//! Hashes of the audit chains are those of the admission and prove nothing. Indexes are taken away while rows are put in
//! and made again behind them.

use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, anyhow};

use super::load;
use super::place::{Database, TABLES};
use super::store;

/// How far the copies came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Every second one is complete, the others are released.
    Over,
    /// Every one is being made, rests, and its timer has rung.
    Due,
}

/// How many contexts one statement makes.
const BATCH: u64 = 500_000;

/// Who is copied.
const TEMPLATE: &str = "template";

/// The id of a copy's instance: a UUIDv7 of long ago, as those of later copies are of a later time.
const INSTANCE: &str =
    "(lpad(to_hex(g), 12, '0') || '7' || substr(md5('i' || g), 1, 3) || '8' || substr(md5('i' || g), 4, 15))::uuid";

/// The id of its operation.
const OPERATION: &str =
    "(lpad(to_hex(g), 12, '0') || '7' || substr(md5('o' || g), 1, 3) || '8' || substr(md5('o' || g), 4, 15))::uuid";

/// What a copy has instead, by table and column: `g` is its number.
fn instead(table: &str, column: &str, state: State) -> Option<&'static str> {
    let ids = match column {
        "context_id" => Some("md5('context' || g)::uuid"),
        "instance_id" => Some(INSTANCE),
        "operation_id" => Some(OPERATION),
        "owner" => Some("'user:filled-' || g"),
        "assigned_user" => Some("'filled-' || g"),
        "commit_id" => Some("md5('commit' || g)::uuid"),
        "shard" => Some("(g % 64)::smallint"),
        "id" if table == "operations" => Some(OPERATION),
        // Keys are forgotten a day after their operation is over.
        "key_scope" | "key_fingerprint" | "holder_node" | "holder_incarnation" => Some("NULL"),
        _ => None,
    };
    let over = |column: &str| match (table, column) {
        ("reservations", "status") => Some("CASE WHEN g % 2 = 0 THEN 'completed' ELSE 'released' END"),
        ("reservations", "status_reason") => Some("CASE WHEN g % 2 = 0 THEN NULL ELSE 'sealed' END"),
        ("reservations", "completed_at") => Some("t.started_at + 1000000"),
        ("reservations", "released_at") => Some("CASE WHEN g % 2 = 0 THEN NULL ELSE t.started_at + 2000000 END"),
        ("reservations", "destroy_at") => Some("CASE WHEN g % 2 = 0 THEN NULL ELSE t.started_at + 1500000 END"),
        // Spread over the day to come.
        ("reservations", "check_at") => Some("CASE WHEN g % 2 = 0 THEN t.started_at + 3600000000 + g * 8640 END"),
        ("reservations", "route_endpoint") => Some("CASE WHEN g % 2 = 0 THEN 'http://127.0.0.1:40000' END"),
        ("reservations", "route_epoch") => Some("CASE WHEN g % 2 = 0 THEN 1 END"),
        ("reservations", "route_tombstone_at") => Some("CASE WHEN g % 2 = 0 THEN NULL ELSE t.started_at + 1500000 END"),
        ("contexts", "audit_seq") => Some("2"),
        ("operations", "status") => Some("'succeeded'"),
        ("operations", "due_at") => Some("NULL"),
        ("operations", "finished_at") => Some("t.started_at + 1000000"),
        _ => None,
    };
    let due = |column: &str| match (table, column) {
        ("operations", "status") => Some("'waiting'"),
        ("operations", "due_at") => Some("t.started_at - g"),
        ("operations", "deadline") => Some("t.started_at + 86400000000"),
        _ => None,
    };
    ids.or_else(|| if state == State::Over { over(column) } else { due(column) })
}

/// Puts `contexts` of them in.
pub(super) async fn fill(database: &Database, contexts: u64, state: State) -> Result<()> {
    let opened = store::open(database, 2).await?;
    opened.admit(load::admission(TEMPLATE)?).await.context("admitting what is copied")?;
    opened.close().await;
    let (away, back) = indexes(database)?;
    database.sql(&away)?;
    // Apart, where they are found without an index.
    database.sql("CREATE SCHEMA template")?;
    for table in TABLES {
        database.sql(&format!("CREATE TABLE template.{table} AS SELECT * FROM freehold_registry.{table}"))?;
    }
    // Each fills tables while there are any: there is a processor for each.
    let tables = Mutex::new(TABLES.into_iter());
    let next = || tables.lock().unwrap_or_else(PoisonError::into_inner).next();
    std::thread::scope(|scope| {
        let fill_some = || -> Result<()> {
            while let Some(table) = next() {
                copy(database, table, contexts, state)?;
            }
            Ok(())
        };
        let both = [scope.spawn(fill_some), scope.spawn(fill_some)];
        both.into_iter().try_for_each(|one| one.join().map_err(|_| anyhow!("a thread that fills panicked"))?)
    })?;
    for statement in back.lines() {
        database.sql(statement)?;
    }
    // VACUUM is not for transactions: one statement each.
    for table in TABLES {
        database.sql(&format!("VACUUM (ANALYZE) freehold_registry.{table}"))?;
    }
    database.checkpoint()
}

/// Puts the copies of one table in.
fn copy(database: &Database, table: &str, contexts: u64, state: State) -> Result<()> {
    let columns = database.sql(&format!(
        "SELECT column_name FROM information_schema.columns WHERE table_schema = 'freehold_registry' \
         AND table_name = '{table}' AND column_name <> 'position' ORDER BY ordinal_position"
    ))?;
    let columns: Vec<&str> = columns.lines().collect();
    let values = columns.iter().map(|column| match instead(table, column, state) {
        Some(value) => value.to_owned(),
        None => format!("t.{column}"),
    });
    let (values, columns) = (values.collect::<Vec<_>>().join(", "), columns.join(", "));
    // The lines of the audit trail differ in their numbers.
    let lines = if table == "audit" && state == State::Over { 2 } else { 1 };
    for begin in (0..contexts).step_by(usize::try_from(BATCH)?) {
        let end = contexts.min(begin + BATCH);
        for line in 0..lines {
            let values = values.replace("t.seq", &format!("t.seq + {line}"));
            database.sql(&format!(
                "INSERT INTO freehold_registry.{table} ({columns}) SELECT {values} \
                 FROM generate_series({} :: bigint, {end}) g, template.{table} t",
                begin + 1
            ))?;
        }
    }
    eprintln!("  {table}: {contexts} contexts are in");
    Ok(())
}

/// Statements that take the indexes of the tables away, and those that make them again.
fn indexes(database: &Database) -> Result<(String, String)> {
    let ours = TABLES.map(|table| format!("'freehold_registry.{table}'::regclass")).join(", ");
    let constraints = format!("FROM pg_constraint WHERE contype = 'p' AND conrelid IN ({ours})");
    let plain = format!(
        "FROM pg_index i WHERE indrelid IN ({ours}) AND NOT EXISTS \
         (SELECT 1 FROM pg_constraint WHERE conindid = i.indexrelid)"
    );
    let away = database.sql(&format!(
        "SELECT 'DROP INDEX ' || indexrelid::regclass || ';' {plain}; \
         SELECT 'ALTER TABLE ' || conrelid::regclass || ' DROP CONSTRAINT ' || conname || ';' {constraints}"
    ))?;
    let back = database.sql(&format!(
        "SELECT 'ALTER TABLE ' || conrelid::regclass || ' ADD CONSTRAINT ' || conname || ' ' \
             || pg_get_constraintdef(oid) {constraints}; \
         SELECT pg_get_indexdef(indexrelid) {plain}"
    ))?;
    Ok((away, back))
}
