//! Statements and rows. Rows are read once, column by column, into types that cannot be wrong.

use std::str::FromStr;

use freehold_domain::ids::{InstanceId, LeakId, OperationId, SubscriptionId};
use freehold_domain::owner::Context;
use freehold_domain::time::Timestamp;
use freehold_engine::ports::StoreError;
use rusqlite::types::{FromSql, ValueRef};
use rusqlite::{Connection, Params, Row};

use super::error::before_commit;
use crate::shared::corrupt;
use crate::shared::names::Named;

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

/// Ids in rows.
pub(super) trait Id: Sized {
    /// Reads an id's sixteen bytes.
    fn read(bytes: [u8; 16]) -> Result<Self, impl std::fmt::Display>;
}

macro_rules! ids {
    ($($id:ident),*) => {$(
        impl Id for $id {
            fn read(bytes: [u8; 16]) -> Result<Self, impl std::fmt::Display> {
                Self::from_bytes(bytes)
            }
        }
    )*};
}

ids!(InstanceId, OperationId, LeakId, SubscriptionId);

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

    fn wrong(&self, what: impl std::fmt::Display) -> StoreError {
        let column = self.next.saturating_sub(1);
        let name = self.row.as_ref().column_name(column).unwrap_or("?").to_owned();
        corrupt(format!("column {name}: {what}"))
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

    /// A text.
    pub(super) fn text(&mut self) -> Result<&'r str, StoreError> {
        let raw = self.raw()?;
        raw.as_str().map_err(|error| self.wrong(error))
    }

    /// A text, or null.
    pub(super) fn text_or_null(&mut self) -> Result<Option<&'r str>, StoreError> {
        let raw = self.raw()?;
        raw.as_str_or_null().map_err(|error| self.wrong(error))
    }

    /// Bytes of any number, or null.
    pub(super) fn blob_or_null(&mut self) -> Result<Option<&'r [u8]>, StoreError> {
        let raw = self.raw()?;
        raw.as_blob_or_null().map_err(|error| self.wrong(error))
    }

    /// So many bytes.
    pub(super) fn bytes<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        let raw = self.raw()?;
        let bytes = raw.as_blob().map_err(|error| self.wrong(error))?;
        bytes.try_into().map_err(|_| self.wrong(format!("{} bytes where {N} belong", bytes.len())))
    }

    /// An id.
    pub(super) fn id<I: Id>(&mut self) -> Result<I, StoreError> {
        let bytes = self.bytes()?;
        I::read(bytes).map_err(|error| self.wrong(error))
    }

    /// A count.
    pub(super) fn count<N: TryFrom<i64>>(&mut self) -> Result<N, StoreError> {
        let number: i64 = self.get()?;
        N::try_from(number).map_err(|_| self.wrong(format!("{number} is out of range")))
    }

    /// A time.
    pub(super) fn time(&mut self) -> Result<Timestamp, StoreError> {
        self.get().map(Timestamp::from_micros)
    }

    /// A time, or null.
    pub(super) fn time_or_null(&mut self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.get::<Option<i64>>()?.map(Timestamp::from_micros))
    }

    /// Something with a name.
    pub(super) fn named<T: Named>(&mut self) -> Result<T, StoreError> {
        let name = self.text()?;
        T::from_name(name).ok_or_else(|| self.wrong(format!("{name:?} is no {}", T::WHAT)))
    }

    /// Something that parses from its text.
    pub(super) fn parsed<T: FromStr<Err: std::fmt::Display>>(&mut self) -> Result<T, StoreError> {
        let text = self.text()?;
        text.parse().map_err(|error| self.wrong(error))
    }

    /// A context, from its two columns.
    pub(super) fn context(&mut self) -> Result<Context, StoreError> {
        let owner = self.parsed()?;
        let assigned_user = self.parsed()?;
        Context::new(owner, Some(assigned_user)).map_err(|error| self.wrong(error))
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
