//! What SQLite's errors mean to callers: whether anything may have been written, and what to do next.

use std::path::PathBuf;

use crate::shared::corrupt;
use freehold_engine::ports::{RecordsError, StoreError};
use rusqlite::ErrorCode;

use super::migrate::MigrateError;

/// Why a database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file cannot be opened or written.
    #[error("cannot open the database {}: {}", path.display(), advice(source))]
    Open {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// Its schema is not this program's.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    /// Everything in it was copied elsewhere.
    #[error("the registry in {} was moved to {place}: serve that one", path.display())]
    Moved {
        /// The file.
        path: PathBuf,
        /// Where it is by now.
        place: String,
    },
    /// The writer's thread could not be started.
    #[error("cannot start a thread for the store")]
    Thread(#[source] std::io::Error),
}

fn advice(error: &rusqlite::Error) -> &'static str {
    match error.sqlite_error_code() {
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => {
            "its folder must exist and be writable for this user"
        }
        Some(ErrorCode::DiskFull) => "the disk is full; free some space",
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => "another process has it locked; stop that first",
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            "the file is damaged or no SQLite database; restore a backup or name another file"
        }
        Some(_) | None => "SQLite refused",
    }
}

/// An error before the commit: surely nothing was written.
pub(super) fn before_commit(error: &rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::OutOfMemory
            | ErrorCode::ReadOnly
            | ErrorCode::PermissionDenied
            | ErrorCode::OperationInterrupted
            | ErrorCode::OperationAborted
            | ErrorCode::SystemIoFailure
            | ErrorCode::DiskFull
            | ErrorCode::CannotOpen
            | ErrorCode::FileLockingProtocolFailed,
        ) => StoreError::Unavailable(format!("{} ({error})", advice(error))),
        // Everything else is a row, a schema or a statement that is not what this program takes it for.
        Some(_) | None => corrupt(error.to_string()),
    }
}

/// An error of the commit itself: unknown, except where SQLite surely wrote no commit mark.
pub(super) fn at_commit(error: &rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        // The mark is the last thing that is written, so a disk without room for it does not have it.
        Some(ErrorCode::DiskFull | ErrorCode::ReadOnly | ErrorCode::DatabaseBusy) => before_commit(error),
        Some(_) | None => StoreError::Unknown(error.to_string()),
    }
}

/// The same, as the records' callers know it.
pub(super) fn of_records(error: StoreError) -> RecordsError {
    match error {
        StoreError::Unavailable(why) | StoreError::Unknown(why) => RecordsError::Unavailable(why),
        StoreError::Corrupt(_) | StoreError::Refused(_) | StoreError::Missing(_) | StoreError::Quarantined(_) => {
            RecordsError::Refused(error.to_string())
        }
    }
}
