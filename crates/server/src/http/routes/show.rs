//! `GET /v1/routes/{instance_id}`: where to send traffic for an instance. The proxy asks the same, and answers the same.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use freehold_api::v1::routes::Route as Answer;
use freehold_api::{Code, Problem};
use freehold_domain::ids::InstanceId;
use freehold_domain::lease::Epoch;
use freehold_domain::route::{Endpoint, Route};
use http::StatusCode;

use crate::convert::uuid;
use crate::http::extract::{At, Caller, json};
use crate::http::state::App;
use crate::problems::{self, Refusal};
use crate::users::Scope;

/// Looks a route up.
#[utoipa::path(
    get, path = "/v1/routes/{instance_id}", tag = "routes", operation_id = "showRoute",
    params(("instance_id" = Uuid, Path, description = "The instance")),
    responses(
        (status = 200, description = "Where it answers", body = Answer),
        (status = 400, description = "`invalid_request`"),
        (status = 404, description = "`instance_not_found`"),
        (status = 409, description = "`not_routable_yet`"),
        (status = 410, description = "`gone`"),
    ),
    security(("key" = ["viewer"]), ("user" = [])),
)]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    At(id): At<InstanceId>,
    caller: Caller,
) -> Result<Response, Refusal> {
    let (Endpoint(endpoint), epoch) = live(&app, id, &caller.scope).await?;
    Ok(json(StatusCode::OK, &Answer { instance_id: uuid(id.as_bytes()), endpoint, epoch: epoch.get() }))
}

/// The live route of an instance within a scope, or why there is none.
pub(crate) async fn live(app: &App, id: InstanceId, scope: &Scope) -> Result<(Endpoint, Epoch), Refusal> {
    let entry = app
        .control_plane
        .world()
        .store
        .route_lookup(id)
        .await
        .map_err(|error| Refusal::from(problems::store(&error, Code::InstanceNotFound)))?;
    match entry.filter(|entry| scope.has(&entry.context)).map(|entry| entry.route) {
        Some(Some(Route::Live { endpoint, epoch })) => Ok((endpoint, epoch)),
        Some(Some(Route::Tombstone { .. })) => {
            Err(Problem::new(Code::Gone, "the instance is gone for ever").instance(uuid(id.as_bytes())).into())
        }
        Some(None) => {
            let detail = "the instance is still being made; look again";
            Err(Problem::new(Code::NotRoutableYet, detail).instance(uuid(id.as_bytes())).into())
        }
        None => Err(problems::not_found(Code::InstanceNotFound).into()),
    }
}
