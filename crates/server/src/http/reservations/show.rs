//! `GET /v1/reservations/{instance_id}`: one reservation, with the evidence so far.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use freehold_api::Code;
use freehold_api::v1::reservations::Reservation;
use freehold_domain::ids::InstanceId;
use http::StatusCode;

use crate::convert;
use crate::http::extract::{At, json};
use crate::http::state::App;
use crate::problems::{self, Refusal};
use crate::users::User;

/// Shows a reservation.
#[utoipa::path(
    get, path = "/v1/reservations/{instance_id}", tag = "reservations", operation_id = "showReservation",
    params(("instance_id" = Uuid, Path, description = "The instance it is for")),
    responses(
        (status = 200, description = "The reservation", body = Reservation),
        (status = 400, description = "`invalid_request`"),
        (status = 404, description = "`reservation_not_found`"),
    ),
    security(("key" = ["operator"])),
)]
pub(crate) async fn show(State(app): State<Arc<App>>, At(Of(id)): At<Of>) -> Result<Response, Refusal> {
    let described = app.control_plane.world().store.instance_describe(id).await;
    let registered = described.map_err(|error| Refusal::from(problems::store(&error, Code::ReservationNotFound)))?;
    let registered = registered.ok_or_else(|| problems::not_found(Code::ReservationNotFound))?;
    Ok(json(StatusCode::OK, &convert::reservation(&registered)))
}

/// The instance that a reservation is for.
pub(crate) struct Of(pub(crate) InstanceId);

impl crate::http::extract::Named for Of {
    fn read(text: &str) -> Result<Self, Refusal> {
        InstanceId::read(text).map(Self).map_err(|refusal| match refusal.0.code {
            Code::InstanceNotFound => problems::not_found(Code::ReservationNotFound).into(),
            _ => refusal,
        })
    }

    async fn is_own(&self, _: &App, _: &User) -> Result<(), Refusal> {
        Err(problems::not_found(Code::ReservationNotFound).into())
    }
}
