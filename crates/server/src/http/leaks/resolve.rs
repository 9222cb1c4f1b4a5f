//! `POST /v1/leaks/{id}/resolve`: somebody looked after what was leaked, and says how.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use freehold_api::Code;
use freehold_api::v1::instances::REASON_BYTES_MAX;
use freehold_api::v1::leaks::{Leak, ResolveLeak};
use freehold_domain::event::EventKind;
use freehold_domain::ids::LeakId;
use freehold_engine::ports::StoreError;
use http::StatusCode;

use super::shown;
use crate::detach::finishing;
use crate::http::extract::{At, Caller, JsonBody, json};
use crate::http::state::App;
use crate::problems::{self, Refusal};

/// Closes a leak. What was done about it goes on the audit trail.
#[utoipa::path(
    post, path = "/v1/leaks/{id}/resolve", tag = "leaks", operation_id = "resolveLeak",
    request_body = ResolveLeak,
    params(("id" = Uuid, Path, description = "The leak")),
    responses(
        (status = 200, description = "The leak, closed", body = Leak),
        (status = 400, description = "`invalid_request`, `malformed_json`"),
        (status = 404, description = "`not_found`"),
        (status = 408, description = "`request_timeout`"),
        (status = 413, description = "`payload_too_large`"),
        (status = 415, description = "`unsupported_media_type`"),
    ),
    security(("key" = ["operator"])),
)]
pub(crate) async fn resolve(
    State(app): State<Arc<App>>,
    At(id): At<LeakId>,
    caller: Caller,
    JsonBody(ResolveLeak { reason }): JsonBody<ResolveLeak>,
) -> Result<Response, Refusal> {
    if reason.trim().is_empty() || reason.len() > REASON_BYTES_MAX {
        return Err(Refusal::at("#/reason", format!("say what was done about it, in 1 to {REASON_BYTES_MAX} bytes")));
    }
    let world = Arc::clone(app.control_plane.world());
    let actor = caller.engine.actor;
    let said = reason.clone();
    let resolving = async move {
        let at = world.clock.now();
        let record = world.store.leak_resolve(id, at).await?;
        let detail = format!("leak {id} was resolved: {said}");
        world.store.witness(record.instance, EventKind::ResourceLeaked, actor, at, detail).await?;
        Ok::<_, StoreError>(record)
    };
    let refuse = |error| Refusal::from(problems::store(&error, Code::NotFound));
    let record = finishing(resolving).await.map_err(refuse)?;
    Ok(json(StatusCode::OK, &shown(&app, &record, Some(reason)).await.map_err(refuse)?))
}
