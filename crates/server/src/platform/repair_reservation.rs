//! `POST /api/platform/provision/repair-reservation`: completes a reservation whose instance is on record and paid for.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use freehold_api::Code;
use http::StatusCode;
use serde_json::json;

use super::ask::Names;
use super::find;
use crate::detach::finishing;
use crate::http::App;
use crate::http::extract::{Caller, JsonBody, json as answer};
use crate::problems::Refusal;

pub(super) async fn repair(
    State(app): State<Arc<App>>,
    caller: Caller,
    JsonBody(names): JsonBody<Names>,
) -> Result<Response, Refusal> {
    let (whose, id) = names.checked_with_instance(Code::ReservationNotFound)?;
    find::named(&app, &whose, id, Code::ReservationNotFound).await?;
    let control_plane = Arc::clone(&app.control_plane);
    finishing(async move { control_plane.repair(&caller.engine, id).await }).await?;
    Ok(answer(StatusCode::OK, &json!({"ok": true})))
}
