//! `GET /v1/owners/{owner}`: the registry of one owner, tombstones included.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use freehold_api::Code;
use freehold_api::v1::owners::Owner as Answer;
use freehold_domain::owner::Owner;
use http::StatusCode;

use crate::convert;
use crate::http::extract::{At, Caller, json};
use crate::http::state::App;
use crate::problems::{self, Refusal};

/// Shows the registry of an owner.
#[utoipa::path(
    get, path = "/v1/owners/{owner}", tag = "owners", operation_id = "showOwner",
    params(("owner" = String, Path, description = "`user:ID` or `org:ID`")),
    responses(
        (status = 200, description = "Its entries and reservations", body = Answer),
        (status = 400, description = "`invalid_request`"),
        (status = 404, description = "`owner_not_found`"),
    ),
    security(("key" = ["viewer"]), ("user" = [])),
)]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    At(owner): At<Owner>,
    caller: Caller,
) -> Result<Response, Refusal> {
    let view = app.control_plane.owner(&owner).await.map_err(|error| problems::read(&error, Code::OwnerNotFound))?;
    // An organisation has contexts of others too.
    let seen: Vec<_> = view.registered.iter().filter(|one| caller.scope.has(&one.reservation.context)).collect();
    if seen.is_empty() {
        return Err(problems::not_found(Code::OwnerNotFound).into());
    }
    let answer = Answer {
        owner: owner.to_string(),
        entries: seen.iter().copied().filter_map(convert::entry).collect(),
        reservations: seen.iter().copied().map(convert::reservation).collect(),
        backfilled: view.backfilled,
    };
    Ok(json(StatusCode::OK, &answer))
}
