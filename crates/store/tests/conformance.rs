//! The suites, over SQLite on disk with its threads, on disk without, and in memory.

use std::sync::Arc;

use freehold_domain::lease::LeaseTerm;
use freehold_store::conformance::records::OpenedRecords;
use freehold_store::conformance::{Opened, TERM, TestClock};
use freehold_store::{SqliteOptions, SqliteStore, records_conformance, store_conformance};

fn open(options: SqliteOptions, keep: Option<tempfile::TempDir>) -> Opened {
    let store = Arc::new(SqliteStore::open(options).expect("it opens"));
    Opened { store: store.clone(), records: store, keep: Box::new(keep) }
}

fn on_disk(clock: Arc<TestClock>, term: LeaseTerm) -> Opened {
    let dir = tempfile::tempdir().expect("a folder");
    open(SqliteOptions::file(dir.path().join("registry.db"), clock, term), Some(dir))
}

fn on_disk_inline(clock: Arc<TestClock>, term: LeaseTerm) -> Opened {
    let dir = tempfile::tempdir().expect("a folder");
    open(SqliteOptions::file(dir.path().join("registry.db"), clock, term).inline(), Some(dir))
}

fn in_memory(clock: Arc<TestClock>, term: LeaseTerm) -> Opened {
    open(SqliteOptions::memory(clock, term), None)
}

store_conformance!(sqlite_on_disk => on_disk);
store_conformance!(sqlite_inline => on_disk_inline);
store_conformance!(sqlite_in_memory => in_memory);

/// What a store promises that has the records in its own database.
mod sqlite_has_both {
    use super::*;
    freehold_store::conformance_cases! { on_disk; late: nothing_is_written_for_what_is_not_being_made; }
}

fn records(open: fn(Arc<TestClock>, LeaseTerm) -> Opened) -> OpenedRecords {
    let Opened { store, records, keep } = open(Arc::default(), TERM);
    (records, Box::new((store, keep)))
}

records_conformance!(records_on_disk => || records(on_disk));
records_conformance!(records_in_memory => || records(in_memory));
