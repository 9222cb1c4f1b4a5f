//! The canonical records in PostgreSQL: possibly the application's own database, behind its own pooler, and away when it
//! likes.
//!
//! The rules are in the database (`0001_records.sql`), so that they hold for whoever else writes there. A write is one
//! call of one function: the change, its line in the log, and what is on record afterwards.

mod port;
mod rows;

use freehold_engine::ports::RecordsError;

use super::args::Args;
use super::migrate::{Migration, Schema};
use super::pool::{Database, Kind, Options};
use super::url::{ConnectError, Url};

/// Every step of the records' schema that this program knows.
pub const SCHEMA: Schema = Schema {
    name: "freehold",
    migrations: &[Migration { version: 1, name: "records", sql: include_str!("0001_records.sql"), works_from: 1 }],
};

/// The records, in a PostgreSQL database.
pub struct PostgresRecords {
    database: Database,
}

impl PostgresRecords {
    /// Gets ready to use the records at a place. Nothing is connected yet: a server may start while they are away.
    ///
    /// # Errors
    /// For a URL that is none, and where the certificates for its TLS cannot be read.
    pub fn connect(url: &str, options: Options) -> Result<Self, ConnectError> {
        Self::to(&url.parse()?, options)
    }

    /// The same, for a URL that was parsed before.
    ///
    /// # Errors
    /// Where the certificates for its TLS cannot be read.
    pub fn to(url: &Url, options: Options) -> Result<Self, ConnectError> {
        Ok(Self { database: Database::new(url, options, SCHEMA)? })
    }

    /// Where they are, in words without secrets.
    #[must_use]
    pub fn place(&self) -> &str {
        self.database.place()
    }

    /// Whether they can be written right now: reached, with this program's schema, on a server that takes writes.
    /// Brings the schema up to date.
    ///
    /// # Errors
    /// [`RecordsError::Unavailable`] says what is in the way.
    pub async fn probe(&self) -> Result<(), RecordsError> {
        let sql = "SELECT current_setting('transaction_read_only')::bool";
        let rows = self.database.call(Kind::Read, sql, &Args::default()).await?;
        let is_read_only = rows.first().and_then(|row| row.try_get::<_, bool>(0).ok());
        match is_read_only {
            Some(false) => Ok(()),
            Some(true) | None => {
                Err(RecordsError::Unavailable(format!("{} takes no writes: is it a standby?", self.place())))
            }
        }
    }
}

impl std::fmt::Debug for PostgresRecords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PostgresRecords").field(&self.place()).finish()
    }
}
