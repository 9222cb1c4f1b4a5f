//! The real server with its records in a real PostgreSQL behind a real PgBouncer, and a billing service, all of which
//! fail: many provisions, and at the end registry, records and billing say the same.
//!
//! `FREEHOLD_RECORDS_PROVISIONS` says how many; the numbers are printed.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../serve/support.rs"]
#[expect(dead_code, reason = "the other tests use the rest of it")]
mod support;

mod campaign;
#[expect(dead_code, reason = "the chaos closes the way too")]
mod proxy;
