//! `GET /metrics`: OpenMetrics text.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use freehold_api::Code;
use http::{HeaderValue, StatusCode};

use crate::http::extract::bytes_as;
use crate::http::state::App;
use crate::metrics::MEDIA_TYPE;
use crate::problems::{self, Refusal};

/// What operators watch, for Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "server", operation_id = "metrics",
    responses((status = 200, description = "OpenMetrics text", body = String,
        content_type = "application/openmetrics-text")),
    security(("key" = ["viewer"])),
)]
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Result<Response, Refusal> {
    let world = app.control_plane.world();
    let text = app
        .metrics
        .text(world.store.as_ref(), world.clock.now())
        .await
        .map_err(|error| Refusal::from(problems::store(&error, Code::NotFound)))?;
    Ok(bytes_as(StatusCode::OK, HeaderValue::from_static(MEDIA_TYPE), text.into()))
}
