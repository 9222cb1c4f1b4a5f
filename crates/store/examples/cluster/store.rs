//! The store that is measured. The only file that names it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use freehold_domain::lease::LeaseTerm;
use freehold_engine::ports::Store;
use freehold_store::postgres::{Options, PostgresOptions, PostgresStore};

use super::place::Database;

/// How long leases last: longer than anything here, so that nothing is due twice.
const TERM: LeaseTerm = LeaseTerm(Duration::from_secs(3600));

/// How long a call may take: nobody gives up while a machine is busy with everything at once.
const CALL_WITHIN: Duration = Duration::from_secs(60);

/// Opens the registry of a database over so many connections, and makes its schema if there is none.
pub(super) async fn open(database: &Database, connections: usize) -> Result<Arc<dyn Store>> {
    let pool = Options { connections, call_within: CALL_WITHIN };
    let options = PostgresOptions { pool, ..PostgresOptions::new(TERM) };
    let store = PostgresStore::to(&database.url.parse().context("reading the lab's own URL")?, options)?;
    let engine = store.probe().await?;
    eprintln!("  {engine}");
    Ok(Arc::new(store))
}
