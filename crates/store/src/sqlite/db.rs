//! Statements and rows. Rows are read once, column by column, into types that cannot be wrong.

use freehold_domain::time::Timestamp;
use freehold_engine::ports::StoreError;
use rusqlite::types::{FromSql, ValueRef};
use rusqlite::{Connection, Params, Row};

use super::error::before_commit;
use crate::shared::corrupt;
use crate::shared::fields::Fields;

/// A connection to read from, or to write to inside a transaction. Statements are prepared once.
#[derive(Clone, Copy)]
pub(super) struct Db<'c>(pub(super) &'c Connection);

impl Db<'_> {
    /// Runs a statement. Answers how many rows it changed.
    pub(super) fn run(self, sql: &str, params: impl Params) -> Result<usize, StoreError> {
        self.0.prepare_cached(sql).and_then(|mut statement| statement.execute(params)).map_err(|e| before_commit(&e))
    }

    /// Reads the first row, if there is one.
    pub(super) fn first<T>(
        self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&mut Columns<'_>) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let mut statement = self.0.prepare_cached(sql).map_err(|e| before_commit(&e))?;
        let mut rows = statement.query(params).map_err(|e| before_commit(&e))?;
        match rows.next().map_err(|e| before_commit(&e))? {
            Some(row) => read(&mut Columns { row, next: 0 }).map(Some),
            None => Ok(None),
        }
    }

    /// Reads every row.
    pub(super) fn all<T>(
        self,
        sql: &str,
        params: impl Params,
        mut read: impl FnMut(&mut Columns<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let mut statement = self.0.prepare_cached(sql).map_err(|e| before_commit(&e))?;
        let mut rows = statement.query(params).map_err(|e| before_commit(&e))?;
        let mut all = Vec::new();
        while let Some(row) = rows.next().map_err(|e| before_commit(&e))? {
            all.push(read(&mut Columns { row, next: 0 })?);
        }
        Ok(all)
    }
}

/// A row, read from left to right in the order of its statement.
pub(super) struct Columns<'r> {
    row: &'r Row<'r>,
    next: usize,
}

impl<'r> Columns<'r> {
    fn raw(&mut self) -> Result<ValueRef<'r>, StoreError> {
        let column = self.next;
        self.next += 1;
        self.row.get_ref(column).map_err(|e| before_commit(&e))
    }

    /// The next column as it is.
    pub(super) fn get<T: FromSql>(&mut self) -> Result<T, StoreError> {
        let raw = self.raw()?;
        T::column_result(raw).map_err(|error| self.wrong(error))
    }

    /// Whether the next column is null. It stays the next one.
    pub(super) fn next_is_null(&self) -> Result<bool, StoreError> {
        let raw = self.row.get_ref(self.next).map_err(|e| before_commit(&e))?;
        Ok(matches!(raw, ValueRef::Null))
    }
}

impl<'r> Fields<'r> for Columns<'r> {
    fn text_or_null(&mut self) -> Result<Option<&'r str>, StoreError> {
        let raw = self.raw()?;
        raw.as_str_or_null().map_err(|error| self.wrong(error))
    }

    fn number_or_null(&mut self) -> Result<Option<i64>, StoreError> {
        self.get()
    }

    fn blob_or_null(&mut self) -> Result<Option<&'r [u8]>, StoreError> {
        let raw = self.raw()?;
        raw.as_blob_or_null().map_err(|error| self.wrong(error))
    }

    fn id_bytes(&mut self) -> Result<[u8; 16], StoreError> {
        self.bytes()
    }

    fn wrong(&self, what: impl std::fmt::Display) -> StoreError {
        let column = self.next.saturating_sub(1);
        let name = self.row.as_ref().column_name(column).unwrap_or("?").to_owned();
        corrupt(format!("column {name}: {what}"))
    }
}

/// A time's column.
pub(super) fn micros(at: Option<Timestamp>) -> Option<i64> {
    at.map(Timestamp::as_micros)
}

/// A count's column. Counts beyond what SQLite can hold do not occur; they stay at the largest that it can.
pub(super) fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The column of a list's limit.
pub(super) fn limit(limit: usize) -> i64 {
    i64::try_from(limit.min(LIST_MAX)).unwrap_or(i64::MAX)
}

/// The longest list that is read at once, in rows: an answer's memory stays bounded whatever is asked for.
pub(super) const LIST_MAX: usize = 10_000;
