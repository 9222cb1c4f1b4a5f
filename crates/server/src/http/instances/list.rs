//! `GET /v1/instances`: instances in the order of their ids, which is the order of their admission.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use freehold_api::Code;
use freehold_api::v1::instances::{InstanceList, ListInstances};
use freehold_domain::ids::InstanceId;
use freehold_domain::status::InstanceStatus;
use freehold_engine::control_plane::{InstanceView, ReadError};
use freehold_engine::ports::{InstanceQuery, Listed};
use http::StatusCode;

use crate::convert;
use crate::http::extract::{Caller, Params, json, page, param};
use crate::http::state::App;
use crate::problems::{self, Refusal};
use crate::users::{Scope, User};

type Page = Listed<InstanceView, InstanceId>;

/// Lists instances.
///
/// Destroyed ones are listed only with `status=destroyed`.
#[utoipa::path(
    get, path = "/v1/instances", tag = "instances", operation_id = "listInstances",
    params(ListInstances),
    responses(
        (status = 200, description = "A page of instances", body = InstanceList),
        (status = 400, description = "`invalid_request`"),
    ),
    security(("key" = ["viewer"]), ("user" = [])),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Params(query): Params<ListInstances>,
    caller: Caller,
) -> Result<Response, Refusal> {
    Ok(json(StatusCode::OK, &listed(&app, &caller.scope, query).await?))
}

/// A page of what a caller sees.
pub(crate) async fn listed(app: &App, scope: &Scope, query: ListInstances) -> Result<InstanceList, Refusal> {
    let ListInstances { owner, assigned_user, status, limit, cursor } = query;
    let query = InstanceQuery {
        owner: param("owner", owner.as_deref())?,
        assigned_user: param("assigned_user", assigned_user.as_deref())?,
        after: param("cursor", cursor.as_deref())?,
        limit: page(limit)?,
        ..InstanceQuery::default()
    };
    let status = status.map(convert::wanted_status);
    let listed = match scope {
        Scope::Everything => app.control_plane.instances(query, status).await,
        Scope::Of(user) => own(app, user, query, status).await,
    };
    let listed = listed.map_err(|error| problems::read(&error, Code::InstanceNotFound))?;
    let instances =
        listed.items.iter().map(|view| convert::instance(&view.registered, &view.records, &view.spec)).collect();
    Ok(InstanceList { instances, next_cursor: listed.next.map(|id| id.to_string()) })
}

/// A page of a user's own: a page of each of its contexts, and of these the first. Whoever asks for somebody else's gets
/// what nobody has.
async fn own(app: &App, user: &User, query: InstanceQuery, status: Option<InstanceStatus>) -> Result<Page, ReadError> {
    let mut owners = user.owners();
    if let Some(wanted) = &query.owner {
        owners.retain(|owner| owner == wanted);
    }
    if query.assigned_user.as_ref().is_some_and(|wanted| wanted != user.sub()) {
        owners.clear();
    }
    let (mut items, mut more) = (Vec::new(), false);
    for owner in owners {
        let assigned_user = Some(user.sub().clone());
        let query = InstanceQuery { owner: Some(owner), assigned_user, ..query.clone() };
        let page = app.control_plane.instances(query, status).await?;
        items.extend(page.items);
        more |= page.next.is_some();
    }
    items.sort_unstable_by_key(id_of);
    more |= items.len() > query.limit;
    items.truncate(query.limit);
    // No context ends its page before it has given so many, so what follows is behind the last one here.
    let next = items.last().map(id_of).filter(|_| more);
    Ok(Listed { items, next })
}

fn id_of(view: &InstanceView) -> InstanceId {
    view.registered.reservation.instance
}
