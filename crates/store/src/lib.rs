//! Where Freehold remembers.
//!
//! [`sqlite`] is the registry, and the records, in one file: one writer that commits for many at once, and readers that
//! never wait for it. [`postgres`] has the registry for any number of nodes, and the records where they live in a
//! database of their own. [`lock`] keeps a second server out of a data folder. The feature `conformance` adds the suite
//! that any store must pass.

#[cfg(feature = "conformance")]
pub mod conformance;
pub mod lock;
pub mod postgres;
mod shared;
pub mod sqlite;

pub use lock::{DataDirLock, LockError};
pub use postgres::{PostgresOptions, PostgresRecords, PostgresStore};
pub use sqlite::backup::{self, Backup, BackupError};
pub use sqlite::migrate::{self, MigrateError};
pub use sqlite::{CommitFault, OpenError, SqliteOptions, SqliteStore, Stats};
