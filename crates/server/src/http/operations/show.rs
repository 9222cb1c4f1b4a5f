//! `GET /v1/operations/{id}`: an operation with its journal. The outcome of a request never needs its connection.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use freehold_api::Code;
use freehold_api::v1::operations::Operation;
use freehold_domain::ids::OperationId;
use http::StatusCode;

use crate::convert;
use crate::http::extract::{At, json};
use crate::http::state::App;
use crate::problems::{self, Refusal};

/// Shows an operation.
#[utoipa::path(
    get, path = "/v1/operations/{id}", tag = "operations", operation_id = "showOperation",
    params(("id" = Uuid, Path, description = "The operation")),
    responses(
        (status = 200, description = "The operation", body = Operation),
        (status = 400, description = "`invalid_request`"),
        (status = 404, description = "`operation_not_found`"),
    ),
    security(("key" = ["viewer"]), ("user" = [])),
)]
pub(crate) async fn show(State(app): State<Arc<App>>, At(id): At<OperationId>) -> Result<Response, Refusal> {
    let view =
        app.control_plane.operation(id).await.map_err(|error| problems::read(&error, Code::OperationNotFound))?;
    Ok(json(StatusCode::OK, &convert::operation(&view)))
}
