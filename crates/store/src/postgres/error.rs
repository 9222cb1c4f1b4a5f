//! What PostgreSQL's errors mean: whether anything may have been written, and whether asking again may help.

use std::error::Error as _;

use freehold_engine::ports::RecordsError;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

/// What our own rules raise in the database.
const OUR_RULE: &str = "FH001";

/// What is to be done about a failed statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Surely nothing was written, and it will be the same again.
    Refused,
    /// Surely nothing was written, and at once it may be otherwise: two transactions stood in each other's way.
    Crossed,
    /// Nothing more is known.
    Unavailable,
}

/// What an error means.
pub(super) fn meaning(error: &Error) -> Meaning {
    let Some(code) = error.code() else { return Meaning::Unavailable };
    if *code == SqlState::T_R_SERIALIZATION_FAILURE || *code == SqlState::T_R_DEADLOCK_DETECTED {
        return Meaning::Crossed;
    }
    // 22 data, 23 constraints, 3F schemas, 42 what is not there or not permitted, 0A what it cannot do, P0 raised.
    let refusing = ["22", "23", "3F", "42", "0A", "P0"].iter().any(|class| code.code().starts_with(class));
    if refusing || code.code() == OUR_RULE { Meaning::Refused } else { Meaning::Unavailable }
}

/// Whether a statement that is not refused for good surely wrote nothing: it was cancelled, or came to a server that takes
/// no writes, no more clients, or has no room.
pub(super) fn is_undone(error: &Error) -> bool {
    let undone = [
        SqlState::QUERY_CANCELED,
        SqlState::READ_ONLY_SQL_TRANSACTION,
        SqlState::TOO_MANY_CONNECTIONS,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::DISK_FULL,
        SqlState::OUT_OF_MEMORY,
    ];
    // 54: a limit of the program.
    error.code().is_some_and(|code| undone.contains(code) || code.code().starts_with("54"))
}

/// Whether it waited for a lock for too long, and surely wrote nothing.
pub(super) fn is_blocked(error: &Error) -> bool {
    error.code().is_some_and(|code| *code == SqlState::LOCK_NOT_AVAILABLE)
}

/// Whether the session has prepared the statement for what is not there any more, in another shape. Nothing was done.
pub(super) fn is_stale(error: &Error) -> bool {
    error.code().is_some_and(|code| *code == SqlState::FEATURE_NOT_SUPPORTED)
}

/// Whether the statement named something that is not there: a schema, a table or a function.
pub(super) fn is_missing(error: &Error) -> bool {
    let missing = [SqlState::INVALID_SCHEMA_NAME, SqlState::UNDEFINED_TABLE, SqlState::UNDEFINED_FUNCTION];
    error.code().is_some_and(|code| missing.contains(code))
}

/// An error in words, with the links of its chain. Nothing in it was in a URL but names.
pub(super) fn words(error: &Error) -> String {
    if let Some(said) = error.as_db_error() {
        return if said.code().code() == OUR_RULE {
            said.message().to_owned()
        } else {
            format!("{} ({})", said.message(), said.code().code())
        };
    }
    let mut words = error.to_string();
    let mut link = error.source();
    while let Some(source) = link {
        // Some links repeat what is below them.
        let below = source.to_string();
        if !words.contains(&below) {
            words.push_str(": ");
            words.push_str(&below);
        }
        link = source.source();
    }
    words
}

/// An error as the records' callers know it.
pub(super) fn of_records(place: &str, error: &Error) -> RecordsError {
    match meaning(error) {
        Meaning::Refused => RecordsError::Refused(words(error)),
        Meaning::Crossed | Meaning::Unavailable => RecordsError::Unavailable(format!("{place}: {}", words(error))),
    }
}
