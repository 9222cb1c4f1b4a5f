//! `POST /v1/reservations/{instance_id}/repair`: completes a reservation whose instance is on record and paid for.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use freehold_api::v1::reservations::Reservation;
use http::StatusCode;

use super::show::Of;
use crate::convert;
use crate::detach::finishing;
use crate::http::extract::{At, Caller, json};
use crate::http::state::App;
use crate::problems::Refusal;

/// Completes a reservation whose canonical success is on record. One that is complete already is success.
#[utoipa::path(
    post, path = "/v1/reservations/{instance_id}/repair", tag = "reservations", operation_id = "repairReservation",
    params(("instance_id" = Uuid, Path, description = "The instance it is for")),
    responses(
        (status = 200, description = "The reservation, complete", body = Reservation),
        (status = 400, description = "`invalid_request`"),
        (status = 404, description = "`reservation_not_found`"),
        (status = 409, description = "`provision_repair_unavailable`"),
    ),
    security(("key" = ["operator"])),
)]
pub(crate) async fn repair(
    State(app): State<Arc<App>>,
    At(Of(id)): At<Of>,
    caller: Caller,
) -> Result<Response, Refusal> {
    let control_plane = Arc::clone(&app.control_plane);
    let registered = finishing(async move { control_plane.repair(&caller.engine, id).await }).await?;
    Ok(json(StatusCode::OK, &convert::reservation(&registered)))
}
