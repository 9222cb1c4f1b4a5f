//! What the registry says: instances, owners, operations, routes.

use std::fmt::Write as _;

use freehold_domain::ids::{InstanceId, OperationId};
use freehold_domain::owner::Owner;
use freehold_engine::ports::{InstancePage, InstanceQuery, Listed, OperationView, Registered, RouteEntry, StoreError};

use super::loaded::{all, first};
use super::{Of, PostgresStore};
use crate::postgres::args::Args;
use crate::shared::fields::Fields as _;
use crate::shared::rows::{self, operation_columns, reservation_columns, route_columns, run_columns};

/// The longest list that is read at once, in rows: an answer's memory stays bounded whatever is asked for.
pub(super) const LIST_MAX: usize = 10_000;

/// What is registered of a reservation `r` that is [`JOINED`].
const REGISTERED: &str = concat!("SELECT ", run_columns!(), ", ", route_columns!());

macro_rules! joined {
    () => {
        "JOIN freehold_registry.contexts c ON c.context_id = r.context_id \
         JOIN freehold_registry.operations o ON o.context_id = r.context_id AND o.id = r.operation_id"
    };
}

/// A reservation's context, and the operation that works on it.
const JOINED: &str = joined!();

pub(super) const OWNER: &str = concat!(
    "SELECT ",
    run_columns!(),
    ", ",
    route_columns!(),
    " FROM freehold_registry.reservations r ",
    joined!(),
    " WHERE c.owner = $1 ORDER BY r.instance_id"
);

pub(super) const OPERATION: &str = concat!(
    "SELECT ",
    operation_columns!(),
    ", ",
    reservation_columns!(),
    ", o.answer_status, o.answer_body FROM freehold_registry.operations o \
     JOIN freehold_registry.reservations r ON r.context_id = o.context_id AND r.instance_id = o.instance_id \
     JOIN freehold_registry.contexts c ON c.context_id = o.context_id WHERE o.id = $1"
);

pub(super) const ROUTE: &str = concat!(
    "SELECT c.owner, c.assigned_user, ",
    route_columns!(),
    " FROM freehold_registry.reservations r JOIN freehold_registry.contexts c ON c.context_id = r.context_id \
     WHERE r.instance_id = $1"
);

/// A page of what was read with one row more than the page has.
pub(super) fn page<T, C>(mut items: Vec<T>, wanted: usize, place: impl Fn(&T) -> C) -> Listed<T, C> {
    let size = wanted.min(LIST_MAX);
    let more = items.len() > size;
    items.truncate(size);
    let next = items.last().filter(|_| more).map(place);
    Listed { items, next }
}

/// How many rows to read for a page.
pub(super) fn one_more(wanted: usize) -> usize {
    wanted.min(LIST_MAX) + 1
}

impl PostgresStore {
    /// Everything of an instance.
    pub(super) async fn registered(&self, instance: InstanceId) -> Result<Option<Registered>, StoreError> {
        let loaded = self.reads.load(Of::Instance(instance)).await?;
        Ok(loaded.map(|loaded| Registered {
            reservation: loaded.run.reservation,
            operation: loaded.run.operation,
            route: loaded.route,
        }))
    }

    /// Everything of an owner, tombstones included.
    pub(super) async fn of_owner(&self, owner: &Owner) -> Result<Vec<Registered>, StoreError> {
        all(&self.rows(OWNER, Args::default().text(owner.to_string())).await?, |columns| rows::registered(columns))
    }

    /// Instances in the order of their ids. Each filter is a condition; where none is on the context, the page is cut off
    /// before anything is joined to it, whatever the planner knows of the data.
    pub(super) async fn instances(&self, query: &InstanceQuery) -> Result<InstancePage, StoreError> {
        let InstanceQuery { owner, assigned_user, status, released, started_before, after, limit } = query;
        let (mut conditions, mut next) = ("r.instance_id > $1".to_owned(), 2);
        let mut args = Args::default().id(&after.map_or([0; 16], |after| *after.as_bytes()));
        let mut only = |condition: &str| {
            // Writing to a text does not fail.
            let _ = write!(conditions, " AND {condition} ${next}");
            next += 1;
        };
        if let Some(owner) = owner {
            only("c.owner =");
            args = args.text(owner.to_string());
        }
        if let Some(user) = assigned_user {
            only("c.assigned_user =");
            args = args.text(user.to_string());
        }
        if let Some(status) = status {
            only("r.status =");
            args = args.text(*status);
        }
        if let Some(before) = started_before {
            only("r.started_at <");
            args = args.number(before.as_micros());
        }
        if matches!(status, Some("in_progress" | "failed_requires_reconciliation")) {
            // What the index's own condition says, word for word, so that it may be used.
            conditions.push_str(" AND r.status IN ('in_progress', 'failed_requires_reconciliation')");
        }
        match released {
            Some(true) => conditions.push_str(" AND r.status = 'released'"),
            Some(false) => conditions.push_str(" AND r.status <> 'released'"),
            None => {}
        }
        let page_of = format!("ORDER BY r.instance_id LIMIT ${next}");
        let sql = if owner.is_some() || assigned_user.is_some() {
            format!("{REGISTERED} FROM freehold_registry.reservations r {JOINED} WHERE {conditions} {page_of}")
        } else {
            format!(
                "{REGISTERED} FROM (SELECT * FROM freehold_registry.reservations r WHERE {conditions} {page_of}) r \
                 {JOINED} ORDER BY r.instance_id"
            )
        };
        let rows = self.rows(&sql, args.limit(one_more(*limit))).await?;
        let items = all(&rows, |columns| rows::registered(columns))?;
        Ok(page(items, *limit, |registered| registered.reservation.instance))
    }

    /// An operation, over or not.
    pub(super) async fn operation(&self, operation: OperationId) -> Result<Option<OperationView>, StoreError> {
        first(&self.rows(OPERATION, Args::default().id(operation.as_bytes())).await?, |columns| {
            Ok(OperationView {
                operation: rows::operation(columns)?,
                reservation: rows::reservation(columns)?,
                answer: rows::answer(columns)?,
            })
        })
    }

    /// A route, and whose it is.
    pub(super) async fn route(&self, instance: InstanceId) -> Result<Option<RouteEntry>, StoreError> {
        first(&self.rows(ROUTE, Args::default().id(instance.as_bytes())).await?, |columns| {
            Ok(RouteEntry { context: columns.context()?, route: rows::route(columns)? })
        })
    }
}
