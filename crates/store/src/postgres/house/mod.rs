//! Moving house: a registry in SQLite, and the records that are in it, become a registry in PostgreSQL.
//!
//! - Nobody serves the source meanwhile, and nobody can serve the target: it says that it is on its way until everything
//!   is there and compared.
//! - Rows are copied in the order of their keys, and how far that is stands in the same transaction as the rows. Whatever
//!   ends in the middle is run again and goes on there; nothing is there twice.
//! - Every row is read back and compared, and every chain of the audit trail is recomputed, before anything is said to be
//!   moved.
//! - Then the source is marked, and then the target is opened: at no moment could both be served.

mod copy;
mod source;
mod tables;
mod target;
mod verify;

use std::path::Path;

use freehold_domain::time::Timestamp;

use super::url::{ConnectError, Url};
use crate::sqlite::migrate::MigrateError as SourceError;
use source::Source;
use target::{State, Target};

pub(super) use target::{MOVING, is_moving};

/// What to move, and where to.
#[derive(Clone, Copy)]
pub struct Move<'a> {
    /// The SQLite file. Whoever calls has its lock.
    pub source: &'a Path,
    /// The PostgreSQL database.
    pub target: &'a Url,
    /// Whether the records are in the source, and move along.
    pub with_records: bool,
    /// Whether to throw away what an earlier move brought there and begin anew.
    pub anew: bool,
    /// The time, for people.
    pub now: Timestamp,
}

/// How far a move is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// So many rows of this table are there, counted from where this run went on.
    Copied(&'static str, u64),
    /// So many rows of this table are compared.
    Compared(&'static str, u64),
    /// So many lines of the audit trail are recomputed.
    Chained(u64),
}

/// What became of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name.
    pub table: &'static str,
    /// How many rows it has, on both sides.
    pub rows: u64,
    /// SHA-256 over all of them in the order of their keys: the same on both sides.
    pub sha256: [u8; 32],
}

/// A registry that was moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Whose it is.
    pub install: String,
    /// Where it is by now, without secrets.
    pub place: String,
    /// How many rows this run brought there; what earlier ones brought is not among them.
    pub copied: u64,
    /// Each table.
    pub parts: Vec<Part>,
    /// How many chains of the audit trail were recomputed.
    pub chains: u64,
    /// How many lines they have.
    pub lines: u64,
    /// How far the audit trail is.
    pub position: u64,
}

/// How a move ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// This run brought it to its end.
    Moved(Moved),
    /// An earlier run did, and may not have come to say so. It is served from there, so there is nothing to compare any
    /// more.
    Before {
        /// Whose it is.
        install: String,
        /// Where it is by now, without secrets.
        place: String,
    },
}

/// Why a registry is not moved. The source is as it was, and nobody can serve what is at the target.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// There is no registry to move.
    #[error("there is no registry to move: {0}")]
    NoSource(String),
    /// The source is of another schema.
    #[error("the source is at schema {database}, this program is at {program}")]
    OldSource {
        /// The source's.
        database: u32,
        /// The program's.
        program: u32,
    },
    /// The source cannot be read.
    #[error(transparent)]
    Schema(#[from] SourceError),
    /// The source was moved before, to another place than was asked for.
    #[error("the registry was moved to {place} before")]
    AlreadyMoved {
        /// Where it is.
        place: String,
    },
    /// SQLite refused.
    #[error("the source cannot be read: {0}")]
    Source(#[from] rusqlite::Error),
    /// The target cannot be reached, or refused.
    #[error("{0}")]
    Target(String),
    /// The place is none.
    #[error(transparent)]
    Place(#[from] ConnectError),
    /// Somebody else is there.
    #[error("the target holds {what} already")]
    Taken {
        /// What it holds.
        what: String,
    },
    /// The source was served since the move began.
    #[error("the source was changed since this move began: what is at the target is not of one moment")]
    Changed,
    /// A value that PostgreSQL cannot have.
    #[error("{table} {key}: {what}")]
    Unfit {
        /// In which table.
        table: &'static str,
        /// In which row.
        key: String,
        /// What is wrong with it.
        what: String,
    },
    /// What was read back is not what was written.
    #[error("{table} {key} is not at the target as it is in the source")]
    Different {
        /// In which table.
        table: &'static str,
        /// In which row.
        key: String,
    },
    /// A chain of the audit trail does not verify at the target.
    #[error("the audit chain of {context} does not verify at the target: {why}")]
    Chain {
        /// Whose.
        context: String,
        /// Where it breaks.
        why: String,
    },
}

/// Moves a registry. Run again after any end, it goes on, or says that it is done.
///
/// # Errors
/// [`MoveError`].
pub async fn move_house(wanted: Move<'_>, mut tell: impl FnMut(Progress)) -> Result<Outcome, MoveError> {
    let source = Source::open(wanted.source)?;
    let mut target = Target::connect(wanted.target, wanted.with_records).await?;
    let state = target.state().await?;
    if let Some(place) = source.moved_to()? {
        if place == target.place() && state.is_there(&source.install) {
            return Ok(Outcome::Before { install: source.install, place });
        }
        if place != target.place() || !state.is_coming(&source.install) {
            return Err(MoveError::AlreadyMoved { place });
        }
    }
    let state = match state {
        State::Coming { .. } if wanted.anew && state.is_coming(&source.install) => {
            target.clear().await?;
            State::Empty
        }
        state => state,
    };
    let at = target.begin(state, &source, wanted.now).await?;
    let copied = copy::all(&source, &mut target, at, &mut tell).await?;
    let parts = verify::rows(&source, &target, &mut tell).await?;
    let (chains, lines) = verify::chains(wanted.target, &target, &mut tell).await?;
    source.mark_moved(target.place(), wanted.now)?;
    target.open().await?;
    let position = source.position;
    let (install, place) = (source.install, target.place().to_owned());
    Ok(Outcome::Moved(Moved { install, place, copied, parts, chains, lines, position }))
}
