//! The registry in PostgreSQL, at a real one and a real PgBouncer.

mod conformance;
mod gaps;
mod looks;
mod lossy;
mod lost;
mod plans;
mod races;
mod shares;
mod upgrade;

use std::sync::Arc;
use std::time::Duration;

use freehold_domain::lease::LeaseTerm;
use freehold_engine::audit::{GENESIS, hash};
use freehold_engine::ports::{AuditQuery, AuditRecord, Store};
use freehold_store::conformance::{Bench, Opened, TERM, TestClock};
use freehold_store::postgres::Options;
use freehold_store::{PostgresOptions, PostgresStore};

use super::{Place, block_on, connect};

/// A registry and records at one place, by a test's clock.
fn opened(place: Place, url: &str, clock: Arc<TestClock>, term: LeaseTerm) -> Opened {
    Opened { store: node(url, &clock, term), records: connect(url), keep: Box::new(place) }
}

/// One of the nodes that share a registry.
fn node(url: &str, clock: &Arc<TestClock>, term: LeaseTerm) -> Arc<PostgresStore> {
    let clock: Arc<dyn freehold_engine::ports::Clock> = clock.clone();
    let pool = Options { connections: 6, call_within: Duration::from_secs(20) };
    let options = PostgresOptions { clock: Some(clock), pool, ..PostgresOptions::new(term) };
    Arc::new(PostgresStore::to(&url.parse().expect("a URL"), options).expect("a place"))
}

/// Hands to use a registry with.
fn bench(url: &str) -> Arc<Bench> {
    let clock = Arc::new(TestClock::default());
    Arc::new(Bench::over(node(url, &clock, TERM), connect(url), clock))
}

/// Reads the whole trail, a page at a time, and checks every chain on it.
async fn trail(store: &dyn Store) -> Vec<AuditRecord> {
    let mut all: Vec<AuditRecord> = Vec::new();
    let mut after = 0;
    loop {
        let page = store.audit_read(&AuditQuery { after, instance: None, limit: 100 }).await.expect("a page");
        all.extend(page.items);
        match page.next {
            Some(next) => after = next,
            None => break,
        }
    }
    let mut heads = std::collections::BTreeMap::new();
    for AuditRecord { context, context_seq, event, prev_hash, hash: own, .. } in &all {
        let key = (context.owner().to_string(), context.assigned_user().to_string());
        let (seq, head) = heads.get(&key).copied().unwrap_or((0, GENESIS));
        assert_eq!((*context_seq, *prev_hash), (seq + 1, head), "{key:?} is whole");
        assert_eq!(*own, hash(prev_hash, context, *context_seq, event));
        heads.insert(key, (*context_seq, *own));
    }
    all
}
