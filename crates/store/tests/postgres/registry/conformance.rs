//! The suite that every store passes, straight and through a pooler that changes the session under every statement.

use std::sync::Arc;

use freehold_domain::lease::LeaseTerm;
use freehold_store::conformance::{Opened, TestClock};
use freehold_store::store_conformance;

use super::{Place, opened};

fn straight_to(clock: Arc<TestClock>, term: LeaseTerm) -> Opened {
    let place = Place::new();
    let url = place.url.clone();
    opened(place, &url, clock, term)
}

fn through_pgbouncer(clock: Arc<TestClock>, term: LeaseTerm) -> Opened {
    let place = Place::new();
    let url = place.bounced();
    opened(place, &url, clock, term)
}

store_conformance!(straight => straight_to);
store_conformance!(pgbouncer => through_pgbouncer);
