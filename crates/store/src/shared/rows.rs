//! Reservations, operations and routes, as every store's rows have them: what is read here has the same columns in the
//! same order wherever it comes from.

use std::sync::Arc;

use freehold_domain::lease::{Epoch, Holder};
use freehold_domain::operation::Operation;
use freehold_domain::reservation::{FrozenSpec, Intent, Reservation};
use freehold_domain::route::{Endpoint, Route};
use freehold_domain::run::Run;
use freehold_domain::time::Timestamp;
use freehold_engine::ports::{Answer, Registered, StoreError};

use super::fields::Fields;
use super::{corrupt, json, names};

/// The columns of a reservation `r` in its context `c`.
macro_rules! reservation_columns {
    () => {
        "r.instance_id, c.owner, c.assigned_user, r.provider, r.tier, r.price_version, r.regions, r.named, r.spec, r.status, \
         r.status_reason, r.epoch, r.destroy_at, r.destroy_reason, r.power, r.operation_id, r.unanswered, \
         r.last_sent_at, r.resources, r.sealed_at, r.lookups, r.runtime_state, r.runtime_detail, r.runtime_at, \
         r.recoveries, r.check_at, r.started_at, r.updated_at, r.completed_at, r.released_at"
    };
}

/// The columns of an operation `o`.
macro_rules! operation_columns {
    () => {
        "o.id, o.instance_id, o.kind, o.status, o.attempt, o.holder_node, o.holder_incarnation, o.due_at, o.deadline, \
         o.steps, o.regions_full, o.failure, o.spec, o.request_id, o.started_at, o.finished_at"
    };
}

/// The columns of a run.
macro_rules! run_columns {
    () => {
        concat!($crate::shared::rows::reservation_columns!(), ", ", $crate::shared::rows::operation_columns!())
    };
}

/// The columns of a route.
macro_rules! route_columns {
    () => {
        "r.route_endpoint, r.route_epoch, r.route_tombstone_at"
    };
}

pub(crate) use {operation_columns, reservation_columns, route_columns, run_columns};

fn frozen(bytes: &[u8]) -> FrozenSpec {
    FrozenSpec(Arc::from(bytes))
}

fn owned<'r>(row: &mut impl Fields<'r>) -> Result<Option<String>, StoreError> {
    Ok(row.text_or_null()?.map(str::to_owned))
}

/// Reads the columns of a reservation and its context.
pub(crate) fn reservation<'r>(row: &mut impl Fields<'r>) -> Result<Reservation, StoreError> {
    Ok(Reservation {
        instance: row.id()?,
        context: row.context()?,
        provider: row.parsed()?,
        tier: row.parsed()?,
        price_version: row.parsed()?,
        regions: json::read_regions(row.text()?)?,
        named: owned(row)?,
        spec: frozen(row.blob_or_null()?.unwrap_or_default()),
        status: status(row)?,
        epoch: Epoch::new(row.count()?),
        intent: {
            let (at, reason) = (row.time_or_null()?, owned(row)?);
            at.map_or(Intent::Keep, |at| Intent::Destroy { at, reason })
        },
        power: row.named()?,
        operation: row.id()?,
        unanswered: row.count()?,
        last_sent_at: row.time_or_null()?,
        resources: json::read_resources(row.text()?)?,
        sealed_at: row.time_or_null()?,
        lookups: json::read_lookups(row.text()?)?,
        runtime: {
            let (state, detail, at) = (row.text_or_null()?, owned(row)?, row.time_or_null()?);
            match (state, at) {
                (None, _) | (_, None) => None,
                (Some(name), Some(at)) => {
                    let state = names::runtime(name, detail);
                    Some((state.ok_or_else(|| corrupt(format!("{name:?} is no state of a runtime")))?, at))
                }
            }
        },
        recoveries: row.count()?,
        check_at: row.time_or_null()?.unwrap_or(Timestamp::NEVER),
        started_at: row.time()?,
        updated_at: row.time()?,
        completed_at: row.time_or_null()?,
        released_at: row.time_or_null()?,
    })
}

/// Reads a status and its reason.
pub(crate) fn status<'r>(row: &mut impl Fields<'r>) -> Result<freehold_domain::reservation::Status, StoreError> {
    let (name, reason) = (row.text()?, row.text_or_null()?);
    names::status(name, reason).ok_or_else(|| corrupt(format!("{name:?} with reason {reason:?} is no status")))
}

/// Reads the columns of an operation.
pub(crate) fn operation<'r>(row: &mut impl Fields<'r>) -> Result<Operation, StoreError> {
    Ok(Operation {
        id: row.id()?,
        instance: row.id()?,
        kind: row.named()?,
        status: row.named()?,
        attempt: row.count()?,
        holder: {
            let (node, incarnation) = (row.text_or_null()?, row.number_or_null()?);
            match (node, incarnation) {
                (None, _) | (_, None) => None,
                (Some(node), Some(incarnation)) => Some(Holder {
                    node: node.parse().map_err(|error| corrupt(format!("a holder {node:?}: {error}")))?,
                    incarnation: incarnation.cast_unsigned(),
                }),
            }
        },
        due_at: row.time_or_null()?,
        deadline: row.time()?,
        steps: json::read_steps(row.text()?)?,
        regions_full: row.count()?,
        failure: row.text_or_null()?.map(json::read_failure).transpose()?,
        spec: row.blob_or_null()?.map(frozen),
        request_id: row.text()?.to_owned(),
        started_at: row.time()?,
        finished_at: row.time_or_null()?,
    })
}

/// Reads the columns of a run.
pub(crate) fn run<'r>(row: &mut impl Fields<'r>) -> Result<Run, StoreError> {
    Ok(Run { reservation: reservation(row)?, operation: operation(row)? })
}

/// Reads the columns of a route.
pub(crate) fn route<'r>(row: &mut impl Fields<'r>) -> Result<Option<Route>, StoreError> {
    let (endpoint, epoch, buried) = (owned(row)?, row.number_or_null()?, row.time_or_null()?);
    match (endpoint, epoch, buried) {
        (_, _, Some(at)) => Ok(Some(Route::Tombstone { at })),
        (Some(endpoint), Some(epoch), None) => {
            let epoch = u64::try_from(epoch).map_err(|_| corrupt("a route under a negative epoch"))?;
            Ok(Some(Route::Live { endpoint: Endpoint(endpoint), epoch: Epoch::new(epoch) }))
        }
        (None, None, None) => Ok(None),
        (Some(_), None, None) | (None, Some(_), None) => Err(corrupt("half a route")),
    }
}

/// Reads the columns of a run and of its route.
pub(crate) fn registered<'r>(row: &mut impl Fields<'r>) -> Result<Registered, StoreError> {
    Ok(Registered { reservation: reservation(row)?, operation: operation(row)?, route: route(row)? })
}

/// Reads the two columns of an answer.
pub(crate) fn answer<'r>(row: &mut impl Fields<'r>) -> Result<Option<Answer>, StoreError> {
    let (status, body) = (row.number_or_null()?, row.blob_or_null()?);
    let Some((status, body)) = status.zip(body) else { return Ok(None) };
    let status = u16::try_from(status).map_err(|_| corrupt(format!("{status} is no status of an answer")))?;
    Ok(Some(Answer { status, body: body.to_vec() }))
}
