//! The registry in PostgreSQL, at a real one and a real PgBouncer.

mod conformance;

use std::sync::Arc;

use freehold_domain::lease::LeaseTerm;
use freehold_store::conformance::{Opened, TestClock};
use freehold_store::{PostgresOptions, PostgresStore};

use super::{Place, connect};

/// A registry and records at one place, by a test's clock.
fn opened(place: Place, url: &str, clock: Arc<TestClock>, term: LeaseTerm) -> Opened {
    let options = PostgresOptions { clock: Some(clock), ..PostgresOptions::new(term) };
    let store = PostgresStore::to(&url.parse().expect("a URL"), options).expect("a place");
    Opened { store: Arc::new(store), records: connect(url), keep: Box::new(place) }
}
