//! `GET /v1/instances`: instances in the order of their ids, which is the order of their admission.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use freehold_api::Code;
use freehold_api::v1::instances::{InstanceList, ListInstances};
use freehold_engine::ports::InstanceQuery;
use http::StatusCode;

use crate::convert;
use crate::http::extract::{Params, json, page, param};
use crate::http::state::App;
use crate::problems::{self, Refusal};

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
    security(("key" = ["viewer"])),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Params(query): Params<ListInstances>,
) -> Result<Response, Refusal> {
    let ListInstances { owner, assigned_user, status, limit, cursor } = query;
    let query = InstanceQuery {
        owner: param("owner", owner.as_deref())?,
        assigned_user: param("assigned_user", assigned_user.as_deref())?,
        after: param("cursor", cursor.as_deref())?,
        limit: page(limit)?,
        ..InstanceQuery::default()
    };
    let listed = app
        .control_plane
        .instances(query, status.map(convert::wanted_status))
        .await
        .map_err(|error| problems::read(&error, Code::InstanceNotFound))?;
    let instances =
        listed.items.iter().map(|view| convert::instance(&view.registered, &view.records, &view.spec)).collect();
    let next_cursor = listed.next.map(|id| id.to_string());
    Ok(json(StatusCode::OK, &InstanceList { instances, next_cursor }))
}
