//! What was given up on, on record until it is resolved. Leaks are opened and closed with the change that does it; here
//! people read them, and close one by hand.

use freehold_domain::ids::LeakId;
use freehold_domain::time::Timestamp;
use freehold_engine::ports::{LeakPage, LeakRecord, StoreError};

use super::lists::{one_more, page};
use super::loaded::{all, first};
use super::rows::Columns;
use super::{PostgresStore, behind_a_write};
use crate::postgres::args::Args;
use crate::shared::fields::Fields as _;

pub(super) const LEAKS: &str = "\
    SELECT id, instance_id, reason, opened_at, resolved_at FROM freehold_registry.leaks \
    WHERE id > $1 AND (resolved_at IS NULL OR NOT $2) ORDER BY id LIMIT $3";

const RESOLVE: &str = "UPDATE freehold_registry.leaks SET resolved_at = $2 WHERE id = $1 AND resolved_at IS NULL";

const LEAK: &str = "SELECT id, instance_id, reason, opened_at, resolved_at FROM freehold_registry.leaks WHERE id = $1";

fn record(columns: &mut Columns<'_>) -> Result<LeakRecord, StoreError> {
    Ok(LeakRecord {
        id: columns.id()?,
        instance: columns.id()?,
        reason: columns.text()?.to_owned(),
        opened_at: columns.time()?,
        resolved_at: columns.time_or_null()?,
    })
}

impl PostgresStore {
    /// Leaks in the order of their ids, which is that of time.
    pub(super) async fn leaks(
        &self,
        open_only: bool,
        after: Option<LeakId>,
        limit: usize,
    ) -> Result<LeakPage, StoreError> {
        let after = after.map_or([0; 16], |after| *after.as_bytes());
        let args = Args::default().id(&after).flag(open_only).limit(one_more(limit));
        Ok(page(all(&self.rows(LEAKS, args).await?, record)?, limit, |leak| leak.id))
    }

    /// Closes one leak. Closing it again changes nothing.
    pub(super) async fn leak_closed(&self, leak: LeakId, at: Timestamp) -> Result<LeakRecord, StoreError> {
        self.desk.write_again(RESOLVE, &Args::default().id(leak.as_bytes()).number(at.as_micros())).await?;
        let rows = self.rows(LEAK, Args::default().id(leak.as_bytes())).await.map_err(behind_a_write)?;
        first(&rows, record)?.ok_or(StoreError::Missing("leak"))
    }
}
