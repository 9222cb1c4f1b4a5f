//! Reservations and operations on their way into rows. Every type is taken apart to its last field, so that a column that
//! is forgotten does not compile. How rows are read is the same for every store: `shared::rows`.

use std::borrow::Cow;

use freehold_domain::operation::Operation;
use freehold_domain::owner::Context;
use freehold_domain::reservation::{Intent, Reservation};
use freehold_domain::route::{Endpoint, Route};
use freehold_domain::time::Timestamp;
use freehold_engine::ports::{IdempotencyKey, StoreError};
use rusqlite::params;

use super::db::{Db, count, micros};
use crate::shared::corrupt;
use crate::shared::{json, names, parts};

fn intent_parts(intent: &Intent) -> (Option<i64>, Option<&str>) {
    match intent {
        Intent::Keep => (None, None),
        Intent::Destroy { at, reason } => (Some(at.as_micros()), reason.as_deref()),
    }
}

fn check_column(check_at: Timestamp) -> Option<i64> {
    (check_at != Timestamp::NEVER).then(|| check_at.as_micros())
}

const RESERVATION_INSERT: &str = "\
    INSERT INTO reservations (instance_id, context_id, provider, tier, price_version, regions, named, spec, status, \
        status_reason, epoch, destroy_at, destroy_reason, power, operation_id, unanswered, last_sent_at, resources, \
        sealed_at, lookups, runtime_state, runtime_detail, runtime_at, recoveries, check_at, started_at, updated_at, \
        completed_at, released_at) \
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

/// Puts down a reservation that was just taken.
pub(super) fn reservation_insert(db: Db<'_>, context_id: i64, reservation: &Reservation) -> Result<(), StoreError> {
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
    let (destroy_at, destroy_reason) = intent_parts(intent);
    let runtime = runtime.as_ref().map(|(state, at)| (names::runtime_parts(state), at));
    db.run(
        RESERVATION_INSERT,
        params![
            instance.as_bytes(),
            context_id,
            provider.as_str(),
            tier.as_str(),
            price_version.as_str(),
            json::regions(regions)?,
            named,
            &*spec.0,
            status.name(),
            names::status_reason(status),
            count(epoch.get()),
            destroy_at,
            destroy_reason,
            names::power(*power),
            operation.as_bytes(),
            unanswered,
            micros(*last_sent_at),
            json::resources(resources)?,
            micros(*sealed_at),
            json::lookups(lookups)?,
            runtime.map(|((name, _), _)| name),
            runtime.and_then(|((_, detail), _)| detail),
            runtime.map(|(_, at)| at.as_micros()),
            recoveries,
            check_column(*check_at),
            started_at.as_micros(),
            updated_at.as_micros(),
            micros(*completed_at),
            micros(*released_at),
        ],
    )?;
    Ok(())
}

/// What changes while an executor works. No index is on any of it.
const RESERVATION_UPDATE: &str = "\
    UPDATE reservations SET epoch = ?3, power = ?4, operation_id = ?5, unanswered = ?6, last_sent_at = ?7, \
        resources = ?8, sealed_at = ?9, lookups = ?10, runtime_state = ?11, runtime_detail = ?12, runtime_at = ?13, \
        recoveries = ?14, updated_at = ?15 \
    WHERE instance_id = ?1 AND epoch = ?2";

/// What changes at transitions only: indexes are kept on it.
const RESERVATION_UPDATE_STATUS: &str = "\
    UPDATE reservations SET status = ?2, status_reason = ?3, destroy_at = ?4, destroy_reason = ?5, check_at = ?6, \
        completed_at = ?7, released_at = ?8 \
    WHERE instance_id = ?1";

const RESERVATION_UPDATE_SPEC: &str = "UPDATE reservations SET spec = ?2 WHERE instance_id = ?1";

/// Writes what changed of a reservation, if its epoch is still the one it was loaded under. Answers whether it was.
pub(super) fn reservation_update(db: Db<'_>, before: &Reservation, after: &Reservation) -> Result<bool, StoreError> {
    let Reservation {
        instance,
        context: _,
        provider: _,
        tier: _,
        price_version: _,
        regions: _,
        named: _,
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
        started_at: _,
        updated_at,
        completed_at,
        released_at,
    } = after;
    let runtime = runtime.as_ref().map(|(state, at)| (names::runtime_parts(state), at));
    let written = db.run(
        RESERVATION_UPDATE,
        params![
            instance.as_bytes(),
            count(before.epoch.get()),
            count(epoch.get()),
            names::power(*power),
            operation.as_bytes(),
            unanswered,
            micros(*last_sent_at),
            json::resources(resources)?,
            micros(*sealed_at),
            json::lookups(lookups)?,
            runtime.map(|((name, _), _)| name),
            runtime.and_then(|((_, detail), _)| detail),
            runtime.map(|(_, at)| at.as_micros()),
            recoveries,
            updated_at.as_micros(),
        ],
    )?;
    if written != 1 {
        return Ok(false);
    }
    let transition = *status != before.status
        || *intent != before.intent
        || *check_at != before.check_at
        || *completed_at != before.completed_at
        || *released_at != before.released_at;
    if transition {
        let (destroy_at, destroy_reason) = intent_parts(intent);
        db.run(
            RESERVATION_UPDATE_STATUS,
            params![
                instance.as_bytes(),
                status.name(),
                names::status_reason(status),
                destroy_at,
                destroy_reason,
                check_column(*check_at),
                micros(*completed_at),
                micros(*released_at),
            ],
        )?;
    }
    if *spec != before.spec {
        db.run(RESERVATION_UPDATE_SPEC, params![instance.as_bytes(), &*spec.0])?;
    }
    Ok(true)
}

const OPERATION_INSERT: &str = "\
    INSERT INTO operations (id, instance_id, kind, status, attempt, holder_node, holder_incarnation, due_at, deadline, \
        shard, steps, regions_full, failure, spec, request_id, started_at, finished_at, key_scope, key_fingerprint) \
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

/// Puts down an operation of a context, and the key that leads to it.
pub(super) fn operation_insert(
    db: Db<'_>,
    context: &Context,
    operation: &Operation,
    key: Option<&IdempotencyKey>,
) -> Result<(), StoreError> {
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
    db.run(
        OPERATION_INSERT,
        params![
            id.as_bytes(),
            instance.as_bytes(),
            kind.name(),
            status.name(),
            attempt,
            holder.as_ref().map(|holder| holder.node.as_str()),
            holder.as_ref().map(|holder| holder.incarnation.cast_signed()),
            micros(*due_at),
            deadline.as_micros(),
            parts::shard(context.owner()),
            json::steps(steps)?,
            regions_full,
            failure.as_ref().map(json::failure).transpose()?,
            spec.as_ref().map(|spec| &*spec.0),
            request_id,
            started_at.as_micros(),
            micros(*finished_at),
            key.map(|key| key.scope),
            key.map(|key| key.fingerprint),
        ],
    )?;
    Ok(())
}

/// What changes while an executor works. No index is on any of it.
const OPERATION_UPDATE: &str = "\
    UPDATE operations SET status = ?2, attempt = ?3, steps = ?4, regions_full = ?5, failure = ?6 WHERE id = ?1";

/// What changes when an operation changes hands, rests or ends: indexes are kept on it.
const OPERATION_UPDATE_TIMER: &str = "\
    UPDATE operations SET holder_node = ?2, holder_incarnation = ?3, due_at = ?4, finished_at = ?5 WHERE id = ?1";

/// Writes what changed of an operation.
pub(super) fn operation_update(db: Db<'_>, before: &Operation, after: &Operation) -> Result<(), StoreError> {
    let Operation {
        id,
        instance: _,
        kind: _,
        status,
        attempt,
        holder,
        due_at,
        deadline: _,
        steps,
        regions_full,
        failure,
        spec: _,
        request_id: _,
        started_at: _,
        finished_at,
    } = after;
    let steps: Cow<'_, str> = json::steps(steps)?;
    let failure = failure.as_ref().map(json::failure).transpose()?;
    let written =
        db.run(OPERATION_UPDATE, params![id.as_bytes(), status.name(), attempt, steps, regions_full, failure])?;
    if written != 1 {
        return Err(corrupt(format!("operation {id} has no row")));
    }
    if *holder != before.holder || *due_at != before.due_at || *finished_at != before.finished_at {
        db.run(
            OPERATION_UPDATE_TIMER,
            params![
                id.as_bytes(),
                holder.as_ref().map(|holder| holder.node.as_str()),
                holder.as_ref().map(|holder| holder.incarnation.cast_signed()),
                micros(*due_at),
                micros(*finished_at),
            ],
        )?;
    }
    Ok(())
}

/// Publishes a route, or buries it; what is buried stays as it is.
const ROUTE_UPDATE: &str = "\
    UPDATE reservations SET route_endpoint = ?2, route_epoch = ?3, route_tombstone_at = ?4 \
    WHERE instance_id = ?1 AND route_tombstone_at IS NULL";

/// Writes a route.
pub(super) fn route_update(db: Db<'_>, reservation: &Reservation, route: &Route) -> Result<(), StoreError> {
    let (endpoint, epoch, buried) = match route {
        Route::Live { endpoint: Endpoint(endpoint), epoch } => (Some(endpoint), Some(count(epoch.get())), None),
        Route::Tombstone { at } => (None, None, Some(at.as_micros())),
    };
    let written = db.run(ROUTE_UPDATE, params![reservation.instance.as_bytes(), endpoint, epoch, buried])?;
    if written != 1 && route.is_live() {
        return Err(corrupt(format!("instance {} is buried and was to be published", reservation.instance)));
    }
    Ok(())
}
