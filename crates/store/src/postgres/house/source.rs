//! The registry in SQLite, row by row, as values of the target.

use std::path::Path;

use freehold_domain::owner::{Context, Owner};
use freehold_domain::time::Timestamp;
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row, params};

use super::MoveError;
use super::tables::{Column, KeyKind, Kind, Table};
use crate::postgres::registry::{context_id, shard};
use crate::sqlite::migrate;

/// How many rows are read, written and compared at a time: small enough for one statement, large enough for its way.
pub(super) const ROWS_AT_ONCE: usize = 500;

/// A value of the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    Null,
    Uuid([u8; 16]),
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
    Bool(bool),
}

impl Cell {
    /// An encoding in which no two rows look alike: what it is, how long, and then itself.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let (tag, bytes): (u8, &[u8]) = match self {
            Self::Null => (0, &[]),
            Self::Uuid(id) => (1, id),
            Self::Int(number) => (2, &number.to_be_bytes()),
            Self::Text(text) => (3, text.as_bytes()),
            Self::Bytes(bytes) => (4, bytes),
            Self::Bool(yes) => (5, &[u8::from(*yes)]),
        };
        out.push(tag);
        out.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        out.extend_from_slice(bytes);
    }
}

/// A key of the source.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Key(Value);

impl Key {
    /// Before every other.
    pub(super) fn least(kind: KeyKind) -> Self {
        Self(match kind {
            KeyKind::Number => Value::Integer(i64::MIN),
            KeyKind::Bytes => Value::Blob(Vec::new()),
            KeyKind::Text => Value::Text(String::new()),
        })
    }

    /// As the target keeps it.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        match &self.0 {
            Value::Integer(number) => number.to_be_bytes().to_vec(),
            Value::Blob(bytes) => bytes.clone(),
            Value::Text(text) => text.clone().into_bytes(),
            Value::Null | Value::Real(_) => Vec::new(),
        }
    }

    /// What [`Key::to_bytes`] made.
    pub(super) fn from_bytes(kind: KeyKind, bytes: &[u8]) -> Option<Self> {
        Some(Self(match kind {
            KeyKind::Number => Value::Integer(i64::from_be_bytes(bytes.try_into().ok()?)),
            KeyKind::Bytes => Value::Blob(bytes.to_vec()),
            KeyKind::Text => Value::Text(String::from_utf8(bytes.to_vec()).ok()?),
        }))
    }

    /// For people.
    pub(super) fn shown(&self) -> String {
        match &self.0 {
            Value::Integer(number) => number.to_string(),
            Value::Blob(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
            Value::Text(text) => text.clone(),
            Value::Null | Value::Real(_) => "?".to_owned(),
        }
    }
}

/// Rows of one table, in the order of their keys.
pub(super) struct Rows {
    pub(super) keys: Vec<Key>,
    pub(super) rows: Vec<Vec<Cell>>,
}

/// The registry that moves.
pub(super) struct Source {
    conn: Connection,
    path: std::path::PathBuf,
    pub(super) install: String,
    /// How far its audit trail is.
    pub(super) position: u64,
}

impl Source {
    /// Opens a registry of this program's schema, to read it.
    pub(super) fn open(path: &Path) -> Result<Self, MoveError> {
        let status = migrate::status(path)?;
        if status.database == 0 {
            return Err(MoveError::NoSource(format!("{} has none", path.display())));
        }
        if !status.pending.is_empty() {
            return Err(MoveError::OldSource { database: status.database, program: status.program });
        }
        let conn =
            Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        // One moment of it, even if somebody got past its lock.
        conn.execute_batch("BEGIN")?;
        let install = conn.query_row("SELECT install FROM installation", [], |row| row.get(0)).optional()?;
        let install = install.ok_or_else(|| MoveError::NoSource("no server ever began it".to_owned()))?;
        let reached = "SELECT max(coalesce((SELECT max(position) FROM audit), 0), \
                       coalesce((SELECT reached FROM quarantine), 0))";
        let position: i64 = conn.query_row(reached, [], |row| row.get(0))?;
        Ok(Self { conn, path: path.to_owned(), install, position: position.cast_unsigned() })
    }

    /// Where it is, for people.
    pub(super) fn shown(&self) -> String {
        self.path.display().to_string()
    }

    /// Where it is by now, if it was moved.
    pub(super) fn moved_to(&self) -> Result<Option<String>, MoveError> {
        Ok(self.conn.query_row("SELECT place FROM moved", [], |row| row.get(0)).optional()?)
    }

    /// Marks it as moved: nobody serves it any more.
    pub(super) fn mark_moved(&self, place: &str, now: Timestamp) -> Result<(), MoveError> {
        let conn = Connection::open_with_flags(
            &self.path,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        conn.pragma_update(None, "synchronous", "FULL")?;
        conn.execute(
            "INSERT INTO moved (only_row, place, at) VALUES (1, ?1, ?2) ON CONFLICT (only_row) DO NOTHING",
            params![place, now.as_micros()],
        )?;
        Ok(())
    }

    /// The next rows of a table behind `after`.
    pub(super) fn rows(&self, table: &Table, after: &Key) -> Result<Rows, MoveError> {
        let from: Vec<&str> = table.columns.iter().map(|column| column.from).collect();
        let sql = format!(
            "SELECT {key}, {} FROM {} WHERE {key} > ?1 ORDER BY {key} LIMIT {ROWS_AT_ONCE}",
            from.join(", "),
            table.from,
            key = table.key,
        );
        let mut statement = self.conn.prepare_cached(&sql)?;
        let mut found = statement.query(params![after.0])?;
        let mut rows = Rows { keys: Vec::new(), rows: Vec::new() };
        while let Some(row) = found.next()? {
            let key = Key(row.get(0)?);
            let unfit = |what: String| MoveError::Unfit { table: table.name, key: key.shown(), what };
            let mut at = 1;
            let mut cells = Vec::with_capacity(table.columns.len());
            for column in table.columns {
                cells.push(cell(row, &mut at, column).map_err(|what| unfit(format!("{}: {what}", column.name)))?);
            }
            rows.keys.push(key);
            rows.rows.push(cells);
        }
        Ok(rows)
    }
}

fn cell(row: &Row<'_>, at: &mut usize, column: &Column) -> Result<Cell, String> {
    let mut next = || {
        *at += 1;
        row.get_ref(*at - 1).map_err(|error| error.to_string())
    };
    let value = next()?;
    if value == ValueRef::Null {
        return Ok(Cell::Null);
    }
    let text = |value: ValueRef<'_>| value.as_str().map(str::to_owned).map_err(|error| error.to_string());
    Ok(match column.kind {
        Kind::Uuid => {
            let bytes = value.as_blob().map_err(|error| error.to_string())?;
            Cell::Uuid(bytes.try_into().map_err(|_| format!("{} bytes where 16 belong", bytes.len()))?)
        }
        Kind::Context => {
            let owner: Owner = text(value)?.parse().map_err(|_| "it is no owner".to_owned())?;
            let user = text(next()?)?.parse().map_err(|_| "it is nobody".to_owned())?;
            let context = Context::new(owner, Some(user)).map_err(|error| error.to_string())?;
            Cell::Uuid(context_id(&context))
        }
        Kind::Shard => {
            let owner: Owner = text(value)?.parse().map_err(|_| "it is no owner".to_owned())?;
            Cell::Int(i64::from(shard(&owner)))
        }
        Kind::Text => Cell::Text(text(value)?.replace('\0', "\u{fffd}")),
        Kind::Exact => {
            let text = text(value)?;
            if text.contains('\0') {
                return Err("it has a character that PostgreSQL's texts do not have".to_owned());
            }
            Cell::Text(text)
        }
        Kind::Json => Cell::Text(same_json(&text(value)?)?),
        Kind::Int | Kind::At => Cell::Int(value.as_i64().map_err(|error| error.to_string())?),
        Kind::Int4 => {
            let number = value.as_i64().map_err(|error| error.to_string())?;
            Cell::Int(i32::try_from(number).map_err(|_| format!("{number} is too large"))?.into())
        }
        Kind::Bytes => Cell::Bytes(value.as_blob().map_err(|error| error.to_string())?.to_vec()),
        Kind::Bool => Cell::Bool(value.as_i64().map_err(|error| error.to_string())? != 0),
    })
}

/// JSON in one spelling.
pub(super) fn same_json(text: &str) -> Result<String, String> {
    let value: serde_json::Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    Ok(value.to_string())
}
