//! `GET /healthz` and `GET /livez`: the process answers. A server that is alive and not ready must not be restarted for
//! it, so nothing else is looked at.

use axum::response::Response;
use freehold_api::v1::health::{Health, HealthStatus};
use http::StatusCode;

use crate::http::extract::json;

fn alive() -> Response {
    json(StatusCode::OK, &Health { status: HealthStatus::Ok, checks: Vec::new() })
}

/// Whether the server is alive.
#[utoipa::path(
    get, path = "/healthz", tag = "server", operation_id = "healthz",
    responses((status = 200, description = "It is", body = Health)),
    security(()),
)]
pub(crate) async fn healthz() -> Response {
    alive()
}

/// Whether the server is alive; the same as `/healthz`.
#[utoipa::path(
    get, path = "/livez", tag = "server", operation_id = "livez",
    responses((status = 200, description = "It is", body = Health)),
    security(()),
)]
pub(crate) async fn livez() -> Response {
    alive()
}
