//! Leases of many operations at once. The fence is in the statement: holder and epoch are the lease's.

use std::sync::LazyLock;

use freehold_domain::ids::OperationId;
use freehold_domain::lease::{Lease, NodeId};
use freehold_engine::ports::StoreError;

use super::PostgresStore;
use super::columns::{columns, source};
use super::loaded::{all, first};
use super::rows::count;
use super::time::{now_or_given, patience};
use crate::postgres::args::{Args, Id};
use crate::shared::fields::Fields as _;

columns! {
    /// What a lease is known by.
    LeaseRow in LeaseRows {
        n: i64 = "bigint",
        id: Id = "uuid",
        node: String = "text",
        incarnation: i64 = "bigint",
        epoch: i64 = "bigint",
    }
}

/// Writes timers of operations and raises their guards. The guards are locked first and in order, so that two of these
/// never wait for each other; whether an operation is still what it was is looked at again once its row is reached.
macro_rules! timers {
    ($which:expr, $set:literal, $fence:literal, $out:literal) => {
        format!(
            concat!(
                "WITH which AS MATERIALIZED ({}), guards AS MATERIALIZED ( \
                    SELECT c.context_id FROM freehold_registry.contexts c \
                    WHERE c.context_id IN (SELECT w.context_id FROM which w) ORDER BY c.context_id FOR UPDATE), \
                 rung AS ( \
                    UPDATE freehold_registry.operations o SET due_at = ",
                $set,
                " FROM which w JOIN guards g ON g.context_id = w.context_id \
                    WHERE o.context_id = w.context_id AND o.id = w.id AND ",
                $fence,
                " RETURNING o.context_id, w.n), \
                 raised AS ( \
                    UPDATE freehold_registry.contexts c SET version = c.version + 1 \
                    WHERE c.context_id IN (SELECT r.context_id FROM rung r)) \
                 ",
                $out
            ),
            $which
        )
    };
}

/// A lease that lapsed and that nobody claimed is prolonged like any other.
static RENEW: LazyLock<String> = LazyLock::new(|| {
    let leases = source("l", LeaseRows::COLUMNS, &mut 3);
    timers!(
        format!(
            "SELECT o.context_id, o.id, l.n, l.node, l.incarnation, l.epoch, {} AS patience FROM {leases} \
             JOIN freehold_registry.operations o ON o.id = l.id",
            patience!()
        ),
        "$2 + COALESCE($1::bigint, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)",
        "o.due_at IS NOT NULL AND o.holder_node = w.node AND o.holder_incarnation = w.incarnation \
            AND o.epoch = w.epoch",
        "SELECT n FROM rung"
    )
});

static HURRY: LazyLock<String> = LazyLock::new(|| {
    timers!(
        concat!(
            "SELECT o.context_id, o.id, 0 AS n, ",
            patience!(),
            " AS patience FROM freehold_registry.operations o WHERE o.id = $2"
        ),
        "COALESCE($1::bigint, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)",
        "o.holder_node IS NULL AND o.due_at > COALESCE($1::bigint, \
            (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)",
        "SELECT count(*) FROM which"
    )
});

/// Timers that one statement rings for a node that returned: few enough that nobody waits long behind it.
const RETURNED_BATCH: i64 = 500;

/// What rang already is behind, so each batch goes on where the one before it ended.
static RETURNED: LazyLock<String> = LazyLock::new(|| {
    timers!(
        concat!(
            "SELECT o.context_id, o.id, 0 AS n, ",
            patience!(),
            " AS patience FROM freehold_registry.operations o \
             WHERE o.holder_node = $2 AND o.holder_incarnation <> $3 AND o.due_at IS NOT NULL AND o.due_at > ",
            now_or_given!(),
            " LIMIT $4"
        ),
        "COALESCE($1::bigint, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)",
        "o.holder_node = $2 AND o.holder_incarnation <> $3 AND o.due_at IS NOT NULL",
        "SELECT (SELECT count(*) FROM which), (SELECT count(*) FROM rung)"
    )
});

impl PostgresStore {
    /// Prolongs leases. A renewal whose answer is lost is asked for again: doing it twice is doing it once.
    pub(super) async fn renewed(&self, leases: &[Lease]) -> Result<Vec<bool>, StoreError> {
        let mut rows = LeaseRows::default();
        for (n, lease) in leases.iter().enumerate() {
            let Lease { instance: _, operation, epoch, holder, expires_at: _ } = lease;
            rows.push(LeaseRow {
                n: count(n as u64),
                id: Id(*operation.as_bytes()),
                node: holder.node.to_string(),
                incarnation: holder.incarnation.cast_signed(),
                epoch: count(epoch.get()),
            });
        }
        let term = i64::try_from(self.desk.options.lease_term.0.as_micros()).unwrap_or(i64::MAX);
        let args = rows.args(Args::default().number_or_null(self.desk.time.given()).number(term));
        let renewed = self.desk.write_again(&RENEW, &args).await?;
        let mut holds = vec![false; leases.len()];
        for n in all(&renewed, |columns| columns.count::<usize>())? {
            if let Some(holds) = holds.get_mut(n) {
                *holds = true;
            }
        }
        Ok(holds)
    }

    /// Rings an operation's timer, unless somebody holds it.
    pub(super) async fn hurried(&self, operation: OperationId) -> Result<(), StoreError> {
        let args = Args::default().number_or_null(self.desk.time.given()).id(operation.as_bytes());
        let rows = self.desk.write_again(&HURRY, &args).await?;
        match first(&rows, |columns| columns.number())? {
            Some(0) | None => Err(StoreError::Missing("operation")),
            Some(_) => Ok(()),
        }
    }

    /// Rings the timers of what earlier lives of a node held. Holders stay on record, so that whoever claims says from
    /// whom.
    pub(super) async fn returned(&self, node: &NodeId, incarnation: u64) -> Result<u64, StoreError> {
        let mut rung = 0;
        loop {
            let args = Args::default()
                .number_or_null(self.desk.time.given())
                .text(node.as_str())
                .number(incarnation.cast_signed())
                .number(RETURNED_BATCH);
            let rows = self.desk.write_again(&RETURNED, &args).await?;
            // Of those that were found somebody may have claimed one meanwhile.
            let counted = first(&rows, |columns| Ok((columns.number()?, columns.count::<u64>()?)))?;
            let (found, some) = counted.unwrap_or_default();
            rung += some;
            if found < RETURNED_BATCH {
                return Ok(rung);
            }
        }
    }
}
