//! What bare SQLite does with the rows that the program wrote: the same tables and indexes, the same settings, the same
//! rows in the order of their making, in batches of 64, each batch one synced transaction. No rule is checked and no
//! answer is made, so this is the most that any program over this schema could reach with such batches.

use anyhow::{Context, Result};
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, params_from_iter};
use std::path::Path;
use std::time::Instant;

/// How many operations share a transaction.
const BATCH: usize = 64;

/// How many operations are copied at the most: some seconds' worth.
const OPERATIONS_MAX: usize = 100_000;

struct Table {
    name: String,
    insert: String,
    rows: Vec<Vec<Value>>,
}

/// How many operations per second bare SQLite takes in, with the rows of `database`.
pub(super) fn per_second(database: &Path) -> Result<f64> {
    let source = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let operations = count(&source, "operations")?.min(OPERATIONS_MAX);
    let tables = tables(&source, operations)?;
    let folder = tempfile::tempdir_in(database.parent().context("a database without a folder")?)?;
    let target = Connection::open(folder.path().join("raw.db"))?;
    for pragma in ["page_size", "journal_mode", "synchronous"] {
        // The settings that the program writes under; `synchronous` is its connection's and not in the file.
        let value: String = match pragma {
            "synchronous" => "FULL".to_owned(),
            _ => source.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, Value>(0)).map(text)?,
        };
        target.pragma_update(None, pragma, value)?;
    }
    target.pragma_update(None, "wal_autocheckpoint", 20_000)?;
    target.execute_batch(&schema(&source)?)?;
    let began = Instant::now();
    let batches = operations.div_ceil(BATCH);
    for batch in 0..batches {
        target.execute_batch("BEGIN IMMEDIATE")?;
        for table in &tables {
            let share = |batch: usize| table.rows.len() * batch / batches;
            let mut insert = target.prepare_cached(&table.insert)?;
            for row in &table.rows[share(batch)..share(batch + 1)] {
                insert.execute(params_from_iter(row)).with_context(|| format!("copying a row of {}", table.name))?;
            }
        }
        target.execute_batch("COMMIT")?;
    }
    Ok(operations as f64 / began.elapsed().as_secs_f64())
}

fn text(value: Value) -> String {
    match value {
        Value::Text(text) => text,
        Value::Integer(number) => number.to_string(),
        Value::Real(number) => number.to_string(),
        Value::Null | Value::Blob(_) => String::new(),
    }
}

fn schema(source: &Connection) -> Result<String> {
    let mut statement = source.prepare(
        "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY type = 'index', rowid",
    )?;
    let parts = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    Ok(parts.join(";\n"))
}

/// Every table's rows, at most `operations` times as many as it has of each operation.
fn tables(source: &Connection, operations: usize) -> Result<Vec<Table>> {
    let mut names = source.prepare(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name <> 'schema_migrations'",
    )?;
    let names = names.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    let all = count(source, "operations")?;
    let mut tables = Vec::new();
    for name in names {
        let wanted = (count(source, &name)? * operations).checked_div(all).unwrap_or(0);
        let mut select = source.prepare(&format!("SELECT * FROM {name} LIMIT {wanted}"))?;
        let columns = select.column_count();
        let marks = vec!["?"; columns].join(",");
        let insert = format!("INSERT INTO {name} VALUES ({marks})");
        let rows = select
            .query_map([], |row| (0..columns).map(|column| row.get(column)).collect())?
            .collect::<Result<Vec<Vec<Value>>, _>>()?;
        tables.push(Table { name, insert, rows });
    }
    Ok(tables)
}

fn count(source: &Connection, table: &str) -> Result<usize> {
    let count: i64 = source.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))?;
    Ok(usize::try_from(count)?)
}
