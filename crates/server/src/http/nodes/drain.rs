//! `POST /v1/nodes/{name}/drain`: a node is to go away, or to stay after all.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use freehold_api::Code;
use freehold_api::v1::nodes::{DrainNode, Node};
use freehold_domain::lease::NodeId;
use http::StatusCode;

use crate::convert;
use crate::detach::finishing;
use crate::http::extract::{At, Caller, OptionalBody, json};
use crate::http::state::App;
use crate::problems::{self, Refusal};

/// Asks a node to be drained: it takes no new work, gives back what it runs between two steps, and is not ready any
/// more; what it serves it goes on serving. It hears of it with its next beat, within seconds. A restart ends it.
#[utoipa::path(
    post, path = "/v1/nodes/{name}/drain", tag = "nodes", operation_id = "drainNode",
    request_body(content = Option<DrainNode>),
    params(("name" = String, Path, description = "The node")),
    responses(
        (status = 200, description = "The node, as it was asked to be", body = Node),
        (status = 400, description = "`invalid_request`, `malformed_json`"),
        (status = 404, description = "`node_not_found`"),
        (status = 408, description = "`request_timeout`"),
        (status = 413, description = "`payload_too_large`"),
        (status = 415, description = "`unsupported_media_type`"),
    ),
    security(("key" = ["operator"])),
)]
pub(crate) async fn drain(
    State(app): State<Arc<App>>,
    At(node): At<NodeId>,
    caller: Caller,
    OptionalBody(body): OptionalBody<DrainNode>,
) -> Result<Response, Refusal> {
    let DrainNode { draining } = body.unwrap_or_default();
    let world = Arc::clone(app.control_plane.world());
    let request_id = caller.engine.request_id;
    let asking = async move {
        let asked = world.store.node_drain(&node, draining).await;
        if asked.is_ok() {
            tracing::info!(%node, draining, request_id, "a node was asked to be drained, or not to be");
        }
        asked
    };
    let record = finishing(asking).await.map_err(|error| Refusal::from(problems::store(&error, Code::NodeNotFound)))?;
    Ok(json(StatusCode::OK, &convert::node(&record)))
}
