//! Rows on their way in and out. Every type is taken apart to its last field, so that a column that is forgotten does not
//! compile.

use std::fmt::Display;

use freehold_domain::operation::Operation;
use freehold_domain::reservation::{Intent, Reservation};
use freehold_domain::route::{Endpoint, Route};
use freehold_domain::time::Timestamp;
use freehold_engine::ports::{Answer, IdempotencyKey, StoreError};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::columns::columns;
use crate::postgres::args::Id;
use crate::shared::chain::Link;
use crate::shared::fields::Fields;
use crate::shared::{corrupt, json, names};

/// A row that is read from left to right.
pub(super) struct Columns<'r> {
    row: &'r Row,
    next: usize,
}

impl<'r> Columns<'r> {
    pub(super) fn of(row: &'r Row) -> Self {
        Self { row, next: 0 }
    }

    fn take(&mut self) -> usize {
        self.next += 1;
        self.next - 1
    }

    /// Whether the next column is null. It stays the next one.
    pub(super) fn next_is_null(&self) -> Result<bool, StoreError> {
        struct Anything;
        impl tokio_postgres::types::FromSql<'_> for Anything {
            fn from_sql(_: &Type, _: &[u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
                Ok(Self)
            }
            fn accepts(_: &Type) -> bool {
                true
            }
        }
        let anything: Option<Anything> = self.row.try_get(self.next).map_err(|error| corrupt(error.to_string()))?;
        Ok(anything.is_none())
    }

    /// Leaves columns out.
    pub(super) fn skip(&mut self, columns: usize) {
        self.next += columns;
    }
}

impl<'r> Fields<'r> for Columns<'r> {
    fn text_or_null(&mut self) -> Result<Option<&'r str>, StoreError> {
        let column = self.take();
        self.row.try_get(column).map_err(|error| self.wrong(error))
    }

    fn number_or_null(&mut self) -> Result<Option<i64>, StoreError> {
        let column = self.take();
        let of = self.row.columns().get(column).map(|column| column.type_().clone());
        let number = match of {
            Some(Type::INT4) => self.row.try_get::<_, Option<i32>>(column).map(|number| number.map(i64::from)),
            Some(Type::INT2) => self.row.try_get::<_, Option<i16>>(column).map(|number| number.map(i64::from)),
            Some(_) | None => self.row.try_get(column),
        };
        number.map_err(|error| self.wrong(error))
    }

    fn blob_or_null(&mut self) -> Result<Option<&'r [u8]>, StoreError> {
        let column = self.take();
        self.row.try_get(column).map_err(|error| self.wrong(error))
    }

    fn id_bytes(&mut self) -> Result<[u8; 16], StoreError> {
        let column = self.take();
        self.row.try_get::<_, Id>(column).map(|id| id.0).map_err(|error| self.wrong(error))
    }

    fn wrong(&self, what: impl Display) -> StoreError {
        let name = self.next.checked_sub(1).and_then(|column| self.row.columns().get(column));
        corrupt(format!("column {}: {what}", name.map_or("?", |column| column.name())))
    }
}

columns! {
    /// A reservation and its route.
    ReservationRow in ReservationRows {
        context_id: Id = "uuid",
        instance_id: Id = "uuid",
        provider: String = "text",
        tier: String = "text",
        price_version: String = "text",
        regions: String = "text",
        named: Option<String> = "text",
        status: String = "text",
        status_reason: Option<String> = "text",
        epoch: i64 = "bigint",
        destroy_at: Option<i64> = "bigint",
        destroy_reason: Option<String> = "text",
        power: String = "text",
        operation_id: Id = "uuid",
        unanswered: i32 = "integer",
        last_sent_at: Option<i64> = "bigint",
        resources: String = "text",
        sealed_at: Option<i64> = "bigint",
        lookups: String = "text",
        runtime_state: Option<String> = "text",
        runtime_detail: Option<String> = "text",
        runtime_at: Option<i64> = "bigint",
        recoveries: i32 = "integer",
        check_at: Option<i64> = "bigint",
        started_at: i64 = "bigint",
        updated_at: i64 = "bigint",
        completed_at: Option<i64> = "bigint",
        released_at: Option<i64> = "bigint",
        route_endpoint: Option<String> = "text",
        route_epoch: Option<i64> = "bigint",
        route_tombstone_at: Option<i64> = "bigint",
        spec: Option<Vec<u8>> = "bytea",
    }
}

columns! {
    /// An operation.
    OperationRow in OperationRows {
        context_id: Id = "uuid",
        id: Id = "uuid",
        instance_id: Id = "uuid",
        shard: i16 = "smallint",
        epoch: i64 = "bigint",
        kind: String = "text",
        status: String = "text",
        attempt: i32 = "integer",
        holder_node: Option<String> = "text",
        holder_incarnation: Option<i64> = "bigint",
        due_at: Option<i64> = "bigint",
        deadline: i64 = "bigint",
        steps: String = "text",
        regions_full: i32 = "integer",
        failure: Option<String> = "text",
        spec: Option<Vec<u8>> = "bytea",
        request_id: String = "text",
        started_at: i64 = "bigint",
        finished_at: Option<i64> = "bigint",
        key_scope: Option<Vec<u8>> = "bytea",
        key_fingerprint: Option<Vec<u8>> = "bytea",
        answer_status: Option<i32> = "integer",
        answer_body: Option<Vec<u8>> = "bytea",
    }
}

columns! {
    /// A line of the audit trail.
    AuditRow in AuditRows {
        context_id: Id = "uuid",
        seq: i64 = "bigint",
        kind: String = "text",
        instance_id: Id = "uuid",
        operation_id: Id = "uuid",
        epoch: i64 = "bigint",
        status: String = "text",
        actor: String = "text",
        at: i64 = "bigint",
        detail: String = "text",
        prev_hash: Vec<u8> = "bytea",
        hash: Vec<u8> = "bytea",
    }
}

columns! {
    /// A leak.
    LeakRow in LeakRows {
        context_id: Id = "uuid",
        id: Id = "uuid",
        instance_id: Id = "uuid",
        reason: String = "text",
        opened_at: i64 = "bigint",
    }
}

columns! {
    /// That every open leak of an instance is resolved.
    ResolvedRow in ResolvedRows {
        context_id: Id = "uuid",
        instance_id: Id = "uuid",
        resolved_at: i64 = "bigint",
    }
}

/// A text that somebody wrote, without the one character that PostgreSQL's texts do not have.
pub(super) fn text(written: &str) -> String {
    written.replace('\0', "\u{fffd}")
}

fn micros(at: Option<Timestamp>) -> Option<i64> {
    at.map(Timestamp::as_micros)
}

/// A count's column. Counts beyond what the column holds do not occur; they stay at the largest that it can.
pub(super) fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn small(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// A reservation and its route, as a row. The spec is left out where it is the one on record.
pub(super) fn reservation(
    context_id: [u8; 16],
    reservation: &Reservation,
    route: Option<&Route>,
    with_spec: bool,
) -> Result<ReservationRow, StoreError> {
    let Reservation {
        instance,
        context: _,
        provider,
        tier,
        price_version,
        regions,
        named,
        spec,
        status,
        epoch,
        intent,
        power,
        operation,
        unanswered,
        last_sent_at,
        resources,
        sealed_at,
        lookups,
        runtime,
        recoveries,
        check_at,
        started_at,
        updated_at,
        completed_at,
        released_at,
    } = reservation;
    let (destroy_at, destroy_reason) = match intent {
        Intent::Keep => (None, None),
        Intent::Destroy { at, reason } => (Some(at.as_micros()), reason.as_deref().map(text)),
    };
    let (runtime_state, runtime_detail, runtime_at) = match runtime {
        None => (None, None, None),
        Some((state, at)) => {
            let (name, detail) = names::runtime_parts(state);
            (Some(name.to_owned()), detail.map(text), Some(at.as_micros()))
        }
    };
    let (route_endpoint, route_epoch, route_tombstone_at) = match route {
        None => (None, None, None),
        Some(Route::Live { endpoint: Endpoint(endpoint), epoch }) => {
            (Some(endpoint.clone()), Some(count(epoch.get())), None)
        }
        Some(Route::Tombstone { at }) => (None, None, Some(at.as_micros())),
    };
    Ok(ReservationRow {
        context_id: Id(context_id),
        instance_id: Id(*instance.as_bytes()),
        provider: provider.to_string(),
        tier: tier.to_string(),
        price_version: price_version.to_string(),
        regions: json::regions(regions)?.into_owned(),
        named: named.clone(),
        status: status.name().to_owned(),
        status_reason: names::status_reason(status).map(str::to_owned),
        epoch: count(epoch.get()),
        destroy_at,
        destroy_reason,
        power: names::power(*power).to_owned(),
        operation_id: Id(*operation.as_bytes()),
        unanswered: small(*unanswered),
        last_sent_at: micros(*last_sent_at),
        resources: json::resources(resources)?.into_owned(),
        sealed_at: micros(*sealed_at),
        lookups: json::lookups(lookups)?.into_owned(),
        runtime_state,
        runtime_detail,
        runtime_at,
        recoveries: small(*recoveries),
        check_at: (*check_at != Timestamp::NEVER).then(|| check_at.as_micros()),
        started_at: started_at.as_micros(),
        updated_at: updated_at.as_micros(),
        completed_at: micros(*completed_at),
        released_at: micros(*released_at),
        route_endpoint,
        route_epoch,
        route_tombstone_at,
        spec: with_spec.then(|| spec.0.to_vec()),
    })
}

/// An operation as a row, under its reservation's epoch. Key and answer are the ones to add, if any.
pub(super) fn operation(
    context_id: [u8; 16],
    shard: i16,
    epoch: u64,
    operation: &Operation,
    key: Option<&IdempotencyKey>,
    answer: Option<&Answer>,
) -> Result<OperationRow, StoreError> {
    let Operation {
        id,
        instance,
        kind,
        status,
        attempt,
        holder,
        due_at,
        deadline,
        steps,
        regions_full,
        failure,
        spec,
        request_id,
        started_at,
        finished_at,
    } = operation;
    Ok(OperationRow {
        context_id: Id(context_id),
        id: Id(*id.as_bytes()),
        instance_id: Id(*instance.as_bytes()),
        shard,
        epoch: count(epoch),
        kind: kind.name().to_owned(),
        status: status.name().to_owned(),
        attempt: small(*attempt),
        holder_node: holder.as_ref().map(|holder| holder.node.to_string()),
        holder_incarnation: holder.as_ref().map(|holder| holder.incarnation.cast_signed()),
        due_at: micros(*due_at),
        deadline: deadline.as_micros(),
        steps: json::steps(steps)?.into_owned(),
        regions_full: small(*regions_full),
        failure: failure.as_ref().map(json::failure).transpose()?,
        spec: spec.as_ref().map(|spec| spec.0.to_vec()),
        request_id: text(request_id),
        started_at: started_at.as_micros(),
        finished_at: micros(*finished_at),
        key_scope: key.map(|key| key.scope.to_vec()),
        key_fingerprint: key.map(|key| key.fingerprint.to_vec()),
        answer_status: answer.map(|answer| i32::from(answer.status)),
        answer_body: answer.map(|answer| answer.body.clone()),
    })
}

/// A line of the audit trail as a row.
pub(super) fn audit(context_id: [u8; 16], link: &Link) -> AuditRow {
    let Link { seq, prev, hash, event } = link;
    let freehold_domain::event::Event { kind, instance, operation, epoch, status, actor, at, detail } = event;
    AuditRow {
        context_id: Id(context_id),
        seq: count(*seq),
        kind: kind.name().to_owned(),
        instance_id: Id(*instance.as_bytes()),
        operation_id: Id(*operation.as_bytes()),
        epoch: count(epoch.get()),
        status: (*status).to_owned(),
        actor: actor.name().to_owned(),
        at: at.as_micros(),
        detail: detail.clone(),
        prev_hash: prev.to_vec(),
        hash: hash.to_vec(),
    }
}
