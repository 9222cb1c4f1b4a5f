//! `POST /v1/instances/{id}/stop`: down, and kept.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use freehold_api::v1::instances::Changed;
use freehold_domain::ids::InstanceId;

use super::power;
use crate::http::extract::{At, Caller, Wait};
use crate::http::state::App;
use crate::problems::Refusal;

/// Stops an instance's program. One that is down already is success.
#[utoipa::path(
    post, path = "/v1/instances/{id}/stop", tag = "instances", operation_id = "stopInstance",
    params(
        ("id" = Uuid, Path, description = "The instance"),
        ("Prefer" = Option<String>, Header, description = "`wait=N` or `respond-async`"),
    ),
    responses(
        (status = 200, description = "It is done, or there was nothing to do", body = Changed),
        (status = 202, description = "The work goes on", body = Changed,
            headers(("Location" = String, description = "The operation"), ("Retry-After" = u64))),
        (status = 400, description = "`invalid_request`"),
        (status = 404, description = "`instance_not_found`"),
        (status = 409, description = "`instance_destroyed`, `provision_in_progress`"),
        (status = 502, description = "`provider_rejected`"),
        (status = 503, description = "`provider_unavailable`, `store_unavailable`"),
    ),
    security(("key" = ["platform"]), ("user" = [])),
)]
pub(crate) async fn stop(
    State(app): State<Arc<App>>,
    At(id): At<InstanceId>,
    caller: Caller,
    wait: Wait,
) -> Result<Response, Refusal> {
    let control_plane = Arc::clone(&app.control_plane);
    let asking = async move { control_plane.stop_instance(&caller.engine, id).await };
    power::answer(&app, id, wait.deadline(&app), asking).await
}
