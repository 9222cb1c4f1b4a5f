//! `GET /v1/nodes`: who serves this registry.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use freehold_api::Code;
use freehold_api::v1::nodes::NodeList;
use http::StatusCode;

use crate::convert;
use crate::http::extract::json;
use crate::http::state::App;
use crate::problems::{self, Refusal};

/// Lists the nodes that were heard of within a day, by name.
#[utoipa::path(
    get, path = "/v1/nodes", tag = "nodes", operation_id = "listNodes",
    responses((status = 200, description = "The nodes", body = NodeList)),
    security(("key" = ["operator"])),
)]
pub(crate) async fn list(State(app): State<Arc<App>>) -> Result<Response, Refusal> {
    let listed = app.control_plane.world().store.node_list().await;
    let listed = listed.map_err(|error| Refusal::from(problems::store(&error, Code::NodeNotFound)))?;
    Ok(json(StatusCode::OK, &NodeList { nodes: listed.iter().map(convert::node).collect() }))
}
