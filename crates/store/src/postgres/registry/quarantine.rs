//! A registry that went back in time: the mark of it, and the way out.
//!
//! The way out begins with the positions of the audit trail, goes through every instance, and ends with the mark. Until
//! then the quarantine holds, so whatever ends in the middle is begun anew, and an epoch that rises twice harms nobody.

use async_trait::async_trait;
use freehold_domain::ids::InstanceId;
use freehold_domain::run;
use freehold_domain::time::Timestamp;
use freehold_engine::ports::{Quarantine, Quarantined, StoreError};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::audit::NOBODY;
use super::loaded::{all, first};
use super::rows::count;
use super::time::now_or_given;
use super::{Of, PostgresStore, behind_a_write};
use crate::postgres::args::Args;
use crate::shared::corrupt;
use crate::shared::fields::Fields as _;
use crate::shared::house::{RAISED_AT_ONCE, next_positions};
use crate::shared::sentences::Said;

/// How many instances are raised at the same time: they share statements.
const RAISED_TOGETHER: usize = 64;

/// How many positions may be given by others between the look at the sequence and its jump. What is beyond the look by
/// more than that is skipped for good; up to there every position is waited for as usual.
const GIVEN_MEANWHILE: i64 = 100;

const TO_RAISE: &str = "\
    SELECT r.instance_id FROM freehold_registry.reservations r \
    JOIN freehold_registry.operations o ON o.context_id = r.context_id AND o.id = r.operation_id \
    WHERE r.instance_id > $1 AND (r.released_at IS NULL OR o.due_at IS NOT NULL) ORDER BY r.instance_id LIMIT $2";

impl PostgresStore {
    /// Moves the positions of the trail on. The line that says nothing stands for everything that is skipped.
    async fn positions_jump(&self) -> Result<(), StoreError> {
        let look = "SELECT last_value FROM freehold_registry.audit_position";
        let given: i64 = first(&self.rows(look, Args::default()).await?, |columns| columns.number())?
            .ok_or_else(|| corrupt("a sequence without a value"))?;
        let (given, reached) = (given.cast_unsigned(), self.high_water().await?);
        // An end that broke off here before moved the sequence and left no line: this one begins where the lines end.
        let last_line = given.min(reached);
        let from = count(next_positions(given.max(reached)));
        let jump = "SELECT setval('freehold_registry.audit_position', GREATEST($1::bigint, last_value)) \
                    FROM freehold_registry.audit_position";
        self.desk.write_again(jump, &Args::default().number(from)).await?;
        let line = format!(
            "INSERT INTO freehold_registry.audit (context_id, seq, position, kind, instance_id, operation_id, epoch, \
                status, actor, at, detail, prev_hash, hash) \
             VALUES ({NOBODY}::uuid, $1, $2, '', {NOBODY}::uuid, {NOBODY}::uuid, 0, '', '', 0, '', ''::bytea, ''::bytea) \
             ON CONFLICT DO NOTHING"
        );
        let args = Args::default().number(count(last_line).saturating_add(GIVEN_MEANWHILE + 1)).number(from);
        self.desk.write_again(&line, &args).await.map(drop)
    }

    async fn raised(&self, instance: InstanceId, by: u64) -> Result<(), StoreError> {
        self.say(Of::Instance(instance), |loaded, moment| {
            Ok(Said::changed(run::raised(&loaded.run, by, moment.now), ()))
        })
        .await
    }
}

#[async_trait]
impl Quarantine for PostgresStore {
    async fn quarantine(&self) -> Result<Option<Quarantined>, StoreError> {
        let sql = "SELECT why, since FROM freehold_registry.quarantine WHERE ended_at IS NULL";
        first(&self.rows(sql, Args::default()).await?, |columns| {
            Ok(Quarantined { why: columns.text()?.to_owned(), since: columns.time()? })
        })
    }

    async fn quarantine_begin(&self, why: &str) -> Result<Quarantined, StoreError> {
        let sql = concat!(
            "INSERT INTO freehold_registry.quarantine AS q (only_row, why, since) VALUES (1, $2, ",
            now_or_given!(),
            ") ON CONFLICT (only_row) DO UPDATE SET why = EXCLUDED.why, since = EXCLUDED.since, ended_at = NULL \
             WHERE q.ended_at IS NOT NULL"
        );
        let args = Args::default().number_or_null(self.desk.time.given()).text(super::rows::text(why));
        self.desk.write_again(sql, &args).await?;
        self.quarantine()
            .await
            .map_err(behind_a_write)?
            .ok_or_else(|| corrupt("a quarantine that was begun is not there"))
    }

    async fn quarantine_end(&self, raise: u64) -> Result<u64, StoreError> {
        if self.quarantine().await?.is_none() {
            return Ok(0);
        }
        self.positions_jump().await?;
        let (mut raised, mut after) = (0, [0; 16]);
        loop {
            let args = Args::default().id(&after).limit(RAISED_AT_ONCE);
            let instances: Vec<InstanceId> = all(&self.rows(TO_RAISE, args).await?, |columns| columns.id())?;
            let Some(last) = instances.last() else { break };
            after = *last.as_bytes();
            raised += instances.len() as u64;
            let each = stream::iter(instances).map(|instance| self.raised(instance, raise));
            each.buffer_unordered(RAISED_TOGETHER).try_collect::<()>().await?;
        }
        // Owners are asked for again in records that are elsewhere, which may know what the backup does not.
        let lift = concat!(
            "WITH forgotten AS (DELETE FROM freehold_registry.owners_backfilled) \
             UPDATE freehold_registry.quarantine SET ended_at = ",
            now_or_given!(),
            " WHERE ended_at IS NULL"
        );
        self.desk.write_again(lift, &Args::default().number_or_null(self.desk.time.given())).await?;
        Ok(raised)
    }

    async fn quarantine_over(&self) -> Result<Option<Timestamp>, StoreError> {
        let sql = "SELECT ended_at FROM freehold_registry.quarantine";
        Ok(first(&self.rows(sql, Args::default()).await?, |columns| columns.time_or_null())?.flatten())
    }

    async fn high_water(&self) -> Result<u64, StoreError> {
        let sql = "SELECT COALESCE(max(position), 0) FROM freehold_registry.audit";
        Ok(first(&self.rows(sql, Args::default()).await?, |columns| columns.count())?.unwrap_or(0))
    }
}
