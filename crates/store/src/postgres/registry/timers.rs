//! What is due. The timers are in parts by owner: each part is read from its front, and the parts take turns, so that one
//! owner's flood delays the owners of its own part only.

use freehold_domain::ids::{InstanceId, OperationId};
use freehold_domain::lease::ProviderName;
use freehold_domain::time::Timestamp;
use freehold_engine::ports::{Share, StoreError, Stuck, UnresolvedSummary};
use tokio_postgres::types::Type;

use super::PostgresStore;
use super::guard::SHARDS;
use super::loaded::{all, first};
use super::time::now_or_given;
use crate::postgres::args::Args;
use crate::shared::fields::Fields as _;
use crate::shared::json;

/// How much more of each part is read where what was read of some is all due, and too little in all: where few parts have
/// much.
const DEEPER: i64 = 8;

/// How long nodes leave to each other what is due in the parts that the other begins with, in microseconds.
const LEFT_FOR: i64 = 1_000_000;

/// How many operations of one part a look goes through at the most to find those that are not left to other nodes: where
/// those have a backlog, it is not read through again and again. What is behind so many waits until they get on.
const PASSED_BY: i64 = 1_000;

/// Of so many that a node is told of one is of what others begin with, where it has enough of its own: what two nodes are both
/// told of only one of them gets, and what nobody begins with still has its turn in every look that is full.
const OTHERS_TURN: i64 = 32;

/// How long a check that one node was told of is not told to another, in microseconds.
const CHECK_LEFT_FOR: i64 = 15_000_000;

/// The first of what is due in each of some parts, with the turn that each has in its part, and how many more would have been
/// read of it.
macro_rules! fronts {
    ($parts:literal, $until:literal, $most:literal, $through:literal) => {
        concat!(
            "SELECT d.id, d.due_at, d.turn, ",
            $most,
            "::bigint - d.turn AS more, row_number() OVER (ORDER BY d.turn, d.due_at) AS place FROM unnest(",
            $parts,
            "::smallint[]) AS p(shard) CROSS JOIN LATERAL ( \
                SELECT o.id, o.due_at, row_number() OVER (ORDER BY o.due_at) AS turn FROM ( \
                    SELECT x.id, x.due_at FROM ( \
                        SELECT y.context_id, y.id, y.instance_id, y.due_at FROM freehold_registry.operations y \
                        WHERE y.shard = p.shard AND y.due_at IS NOT NULL AND y.due_at <= ",
            $until,
            " ORDER BY y.due_at LIMIT ",
            $through,
            "::bigint) x \
                    WHERE cardinality($8::text[]) = 0 OR NOT EXISTS ( \
                        SELECT 1 FROM freehold_registry.reservations r WHERE r.context_id = x.context_id \
                            AND r.instance_id = x.instance_id AND r.provider = ANY ($8::text[])) \
                    ORDER BY x.due_at LIMIT ",
            $most,
            "::bigint) o) d"
        )
    };
}

pub(super) const DUE: &str = concat!(
    "WITH t AS MATERIALIZED (SELECT ",
    now_or_given!(),
    " AS now) SELECT f.id, f.more FROM (SELECT m.*, 1 AS seldomer FROM (",
    fronts!("$3", "(SELECT now FROM t)", "$5", "$9"),
    ") m UNION ALL SELECT l.*, $7::bigint FROM (",
    fronts!("$4", "(SELECT now - $2::bigint FROM t)", "$10", "$11"),
    ") l) f ORDER BY f.place * f.seldomer, f.due_at LIMIT $6::bigint"
);

pub(super) const DUE_NEXT: &str = "\
    SELECT min(d.due_at) FROM unnest($1::smallint[]) AS p(shard) CROSS JOIN LATERAL ( \
        SELECT x.due_at FROM freehold_registry.operations x \
        WHERE x.shard = p.shard AND x.due_at IS NOT NULL ORDER BY x.due_at LIMIT 1) d";

/// Lists and puts off at once: nodes that look at the same time are told of different ones.
pub(super) const CHECKS: &str = concat!(
    "WITH t AS MATERIALIZED (SELECT ",
    now_or_given!(),
    " AS now), due AS MATERIALIZED ( \
        SELECT r.context_id, r.instance_id, r.check_at FROM freehold_registry.reservations r \
        WHERE r.check_at IS NOT NULL AND r.check_at <= (SELECT now FROM t) \
            AND NOT r.provider = ANY ($4::text[]) ORDER BY r.check_at LIMIT $2::bigint \
        FOR UPDATE SKIP LOCKED), \
     put_off AS ( \
        UPDATE freehold_registry.reservations r SET check_at = (SELECT now FROM t) + $3::bigint FROM due d \
        WHERE r.context_id = d.context_id AND r.instance_id = d.instance_id AND $3::bigint > 0) \
     SELECT instance_id FROM due ORDER BY check_at"
);

pub(super) const STUCK: &str = "\
    SELECT r.instance_id, r.destroy_at, o.steps, o.failure FROM freehold_registry.reservations r \
    JOIN freehold_registry.operations o ON o.context_id = r.context_id AND o.id = r.operation_id \
    WHERE r.destroy_at < $1 AND r.destroy_at IS NOT NULL AND r.released_at IS NULL ORDER BY r.destroy_at LIMIT $2";

pub(super) const SUMMARY: &str = concat!(
    "SELECT count(*) FILTER (WHERE status = 'in_progress'), \
        count(*) FILTER (WHERE status = 'failed_requires_reconciliation'), min(started_at), \
        (SELECT count(*) FROM freehold_registry.operations WHERE due_at IS NOT NULL AND due_at <= ",
    now_or_given!(),
    "), (SELECT count(*) FROM freehold_registry.leaks WHERE resolved_at IS NULL) \
     FROM freehold_registry.reservations WHERE status IN ('in_progress', 'failed_requires_reconciliation')"
);

const LATEST: &str = "SELECT max(at) FROM (SELECT at FROM freehold_registry.audit ORDER BY position DESC LIMIT 1) l";

const MADE_AT: &str = "\
    SELECT (extract(epoch FROM applied_at) * 1000000)::bigint FROM freehold_registry.freehold_schema_migrations \
    WHERE version = 1";

fn names(providers: &[ProviderName]) -> Vec<String> {
    providers.iter().map(ToString::to_string).collect()
}

fn parts() -> impl Iterator<Item = i16> {
    (0..SHARDS).map(i16::from)
}

impl PostgresStore {
    /// Operations whose timer has rung: at once those of `share`, and those that others left; none of the providers that
    /// only others have.
    pub(super) async fn due(
        &self,
        limit: usize,
        share: Share,
        elsewhere: &[ProviderName],
    ) -> Result<Vec<OperationId>, StoreError> {
        let limit = limit.min(super::lists::LIST_MAX);
        let (mine, others): (Vec<i16>, Vec<i16>) = parts().partition(|part| share.has(u32::from(part.cast_unsigned())));
        let most = i64::try_from(limit).unwrap_or(i64::MAX);
        let through = |of_a_part: i64| if elsewhere.is_empty() { of_a_part } else { of_a_part.max(PASSED_BY) };
        // Of each part so many that it is enough where much is due everywhere.
        let each = |parts: &[i16], of: i64| (of / i64::try_from(parts.len()).unwrap_or(i64::MAX).max(1)).max(1);
        let (mut of_mine, mut of_others) = (each(&mine, most), each(&others, most / OTHERS_TURN));
        loop {
            let args = Args::default()
                .number_or_null(self.desk.time.given())
                .number(LEFT_FOR)
                .column(mine.clone(), Type::INT2_ARRAY)
                .column(others.clone(), Type::INT2_ARRAY)
                .number(of_mine)
                .limit(limit)
                .number(OTHERS_TURN)
                .column(names(elsewhere), Type::TEXT_ARRAY)
                .number(through(of_mine))
                .number(of_others)
                .number(through(of_others));
            let due = all(&self.rows(DUE, args).await?, |columns| Ok((columns.id()?, columns.number()?)))?;
            // Where few parts have much, they have more than was read of them; one that was read to its end fills the look.
            if due.len() >= limit || due.iter().all(|(_, more)| *more > 0) {
                return Ok(due.into_iter().map(|(operation, _)| operation).collect());
            }
            (of_mine, of_others) = ((of_mine * DEEPER).min(most), (of_others * DEEPER).min(most));
        }
    }

    /// When the next timer rings.
    pub(super) async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        let args = Args::default().column(parts().collect::<Vec<_>>(), Type::INT2_ARRAY);
        Ok(first(&self.rows(DUE_NEXT, args).await?, |columns| columns.time_or_null())?.flatten())
    }

    /// Complete instances to look at, longest overdue first. Nobody else is told of them for a while.
    pub(super) async fn checks(&self, limit: usize, elsewhere: &[ProviderName]) -> Result<Vec<InstanceId>, StoreError> {
        let given = self.desk.time.given();
        // By a test's clock a check is not put off: its time stands still.
        let put_off = if given.is_some() { 0 } else { CHECK_LEFT_FOR };
        let args = Args::default()
            .number_or_null(given)
            .limit(limit.min(super::lists::LIST_MAX))
            .number(put_off)
            .column(names(elsewhere), Type::TEXT_ARRAY);
        all(&self.desk.write_again(CHECKS, &args).await?, |columns| columns.id())
    }

    /// Destroys that were accepted before `before` and are not finished.
    pub(super) async fn stuck(&self, before: Timestamp, limit: usize) -> Result<Vec<Stuck>, StoreError> {
        let args = Args::default().number(before.as_micros()).limit(limit.min(super::lists::LIST_MAX));
        all(&self.rows(STUCK, args).await?, |columns| {
            let (instance, since) = (columns.id()?, columns.time()?);
            let steps = json::read_steps(columns.text()?)?;
            let failure = columns.text_or_null()?.map(json::read_failure).transpose()?;
            let last = steps.into_iter().filter(|step| step.last_error.is_some()).max_by_key(|step| step.finished_at);
            let last_error = last.and_then(|step| step.last_error).or(failure.map(|failure| failure.detail));
            Ok(Stuck { instance, since, last_error })
        })
    }

    /// How much is unresolved.
    pub(super) async fn summary(&self) -> Result<UnresolvedSummary, StoreError> {
        let rows = self.rows(SUMMARY, Args::default().number_or_null(self.desk.time.given())).await?;
        let summary = first(&rows, |columns| {
            Ok(UnresolvedSummary {
                in_progress: columns.count()?,
                needs_reconciliation: columns.count()?,
                oldest: columns.time_or_null()?,
                timers_due: columns.count()?,
                leaks_open: columns.count()?,
            })
        })?;
        Ok(summary.unwrap_or_default())
    }

    /// When the last event was.
    pub(super) async fn latest(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(first(&self.rows(LATEST, Args::default()).await?, |columns| columns.time_or_null())?.flatten())
    }

    /// When the schema took its first step.
    pub(super) async fn made(&self) -> Result<Timestamp, StoreError> {
        let made = first(&self.rows(MADE_AT, Args::default()).await?, |columns| columns.time())?;
        made.ok_or_else(|| crate::shared::corrupt("a database without a step of a schema"))
    }
}
