//! `GET /v1/instances/{id}`: one instance, destroyed ones included.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use freehold_api::v1::instances::Instance;
use freehold_domain::ids::InstanceId;
use http::StatusCode;

use super::shown;
use crate::http::extract::{At, json};
use crate::http::state::App;
use crate::problems::Refusal;

/// Shows an instance.
#[utoipa::path(
    get, path = "/v1/instances/{id}", tag = "instances", operation_id = "showInstance",
    params(("id" = Uuid, Path, description = "The instance")),
    responses(
        (status = 200, description = "The instance", body = Instance),
        (status = 400, description = "`invalid_request`"),
        (status = 404, description = "`instance_not_found`"),
    ),
    security(("key" = ["viewer"]), ("user" = [])),
)]
pub(crate) async fn show(State(app): State<Arc<App>>, At(id): At<InstanceId>) -> Result<Response, Refusal> {
    Ok(json(StatusCode::OK, &shown(&app, id).await?))
}
