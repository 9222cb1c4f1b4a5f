//! `GET /openapi.json`: the document that this server's routes were built from.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::{HeaderValue, StatusCode};

use crate::http::extract::bytes_as;
use crate::http::state::App;

/// The OpenAPI 3.1 document.
#[utoipa::path(
    get, path = "/openapi.json", tag = "server", operation_id = "openapi",
    responses((status = 200, description = "This document", body = serde_json::Value,
        content_type = "application/json")),
    security(()),
)]
pub(crate) async fn openapi(State(app): State<Arc<App>>) -> Response {
    bytes_as(StatusCode::OK, HeaderValue::from_static("application/json"), app.document.clone().into())
}
