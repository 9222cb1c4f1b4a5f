//! What the registry says: instances, owners, operations, routes.

use freehold_domain::ids::{InstanceId, OperationId};
use freehold_domain::owner::Owner;
use freehold_engine::ports::{InstancePage, InstanceQuery, OperationView, Registered, RouteEntry, StoreError};
use rusqlite::ToSql;
use rusqlite::params;

use super::audit::page;
use super::db::{Db, limit};
use crate::shared::fields::Fields as _;
use crate::shared::rows::{self, operation_columns, reservation_columns, route_columns, run_columns};

macro_rules! registered {
    ($from:literal) => {
        concat!("SELECT ", run_columns!(), ", ", route_columns!(), " ", $from)
    };
}

pub(super) const INSTANCE: &str = registered!(
    "FROM reservations r JOIN contexts c ON c.id = r.context_id JOIN operations o ON o.id = r.operation_id \
     WHERE r.instance_id = ?1"
);

pub(super) const OWNER: &str = registered!(
    "FROM contexts c CROSS JOIN reservations r ON r.context_id = c.id CROSS JOIN operations o ON o.id = r.operation_id \
     WHERE c.owner = ?1 ORDER BY r.instance_id"
);

/// Everything of an instance.
pub(super) fn instance(db: Db<'_>, instance: InstanceId) -> Result<Option<Registered>, StoreError> {
    db.first(INSTANCE, params![instance.as_bytes()], |row| rows::registered(row))
}

/// Everything of an owner, tombstones included.
pub(super) fn owner(db: Db<'_>, owner: &Owner) -> Result<Vec<Registered>, StoreError> {
    db.all(OWNER, params![owner.to_string()], |row| rows::registered(row))
}

/// Instances in the order of their ids. Each filter is a condition; which table is read first follows from the filters,
/// and is said with CROSS JOIN, because what the planner would guess depends on what it knows of the data.
pub(super) fn list(db: Db<'_>, query: &InstanceQuery) -> Result<InstancePage, StoreError> {
    let InstanceQuery { owner, assigned_user, status, released, started_before, after, limit: wanted } = query;
    let from = match (owner, status) {
        (Some(_), _) => "contexts c CROSS JOIN reservations r ON r.context_id = c.id",
        (None, Some("in_progress" | "failed_requires_reconciliation")) => {
            "reservations r INDEXED BY reservations_one_unresolved CROSS JOIN contexts c ON c.id = r.context_id"
        }
        (None, Some(_) | None) => "reservations r CROSS JOIN contexts c ON c.id = r.context_id",
    };
    let mut sql = format!(
        "SELECT {}, {} FROM {from} CROSS JOIN operations o ON o.id = r.operation_id WHERE r.instance_id > ?",
        run_columns!(),
        route_columns!()
    );
    let mut values: Vec<Box<dyn ToSql>> = Vec::new();
    values.push(Box::new(after.map_or_else(Vec::new, |after| after.as_bytes().to_vec())));
    let mut only = |condition: &str, value: Option<Box<dyn ToSql>>| {
        sql.push_str(condition);
        values.extend(value);
    };
    if let Some(owner) = owner {
        only(" AND c.owner = ?", Some(Box::new(owner.to_string())));
    }
    if let Some(user) = assigned_user {
        only(" AND c.assigned_user = ?", Some(Box::new(user.to_string())));
    }
    if let Some(status) = status {
        only(" AND r.status = ?", Some(Box::new(*status)));
        if matches!(*status, "in_progress" | "failed_requires_reconciliation") {
            // What the index's own condition says, word for word, so that it may be used.
            only(" AND r.status IN ('in_progress', 'failed_requires_reconciliation')", None);
        }
    }
    match released {
        Some(true) => only(" AND r.status = 'released'", None),
        Some(false) => only(" AND r.status <> 'released'", None),
        None => {}
    }
    if let Some(before) = started_before {
        only(" AND r.started_at < ?", Some(Box::new(before.as_micros())));
    }
    only(" ORDER BY r.instance_id LIMIT ?", Some(Box::new(limit(*wanted) + 1)));
    let items = db.all(&sql, rusqlite::params_from_iter(values), |row| rows::registered(row))?;
    Ok(page(items, *wanted, |registered| registered.reservation.instance))
}

pub(super) const OPERATION: &str = concat!(
    "SELECT ",
    operation_columns!(),
    ", ",
    reservation_columns!(),
    ", o.answer_status, o.answer_body FROM operations o JOIN reservations r ON r.instance_id = o.instance_id \
     JOIN contexts c ON c.id = r.context_id WHERE o.id = ?1"
);

/// An operation, over or not.
pub(super) fn operation(db: Db<'_>, operation: OperationId) -> Result<Option<OperationView>, StoreError> {
    db.first(OPERATION, params![operation.as_bytes()], |row| {
        Ok(OperationView {
            operation: rows::operation(row)?,
            reservation: rows::reservation(row)?,
            answer: rows::answer(row)?,
        })
    })
}

pub(super) const ROUTE: &str = concat!(
    "SELECT c.owner, c.assigned_user, ",
    route_columns!(),
    " FROM reservations r JOIN contexts c ON c.id = r.context_id WHERE r.instance_id = ?1"
);

/// A route, and whose it is.
pub(super) fn route(db: Db<'_>, instance: InstanceId) -> Result<Option<RouteEntry>, StoreError> {
    db.first(ROUTE, params![instance.as_bytes()], |row| {
        Ok(RouteEntry { context: row.context()?, route: rows::route(row)? })
    })
}
