//! `GET /v1/restore`: whether the registry is in quarantine, and what the providers show of it.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use freehold_api::Code;
use freehold_api::v1::restore::RestoreStatus;
use freehold_engine::control_plane::restore;
use http::StatusCode;
use serde::Deserialize;

use super::shown;
use crate::convert::timestamp;
use crate::http::extract::{Params, json};
use crate::http::state::App;
use crate::problems::{self, Refusal};

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Query {
    /// Whether to ask every provider what is there: it takes as long as they take.
    #[serde(default)]
    compare: bool,
}

/// Whether the registry comes from a backup and nobody has confirmed it yet. Nothing is changed by looking.
#[utoipa::path(
    get, path = "/v1/restore", tag = "restore", operation_id = "showRestore",
    params(Query),
    responses((status = 200, description = "Where it stands", body = RestoreStatus)),
    security(("key" = ["operator"])),
)]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    Params(Query { compare }): Params<Query>,
) -> Result<Response, Refusal> {
    let status = app.control_plane.restore_status(compare).await;
    let restore::RestoreStatus { quarantine, over_at, position, comparison } =
        status.map_err(|error| Refusal::from(problems::store(&error, Code::NotFound)))?;
    let answer = RestoreStatus {
        quarantined: quarantine.is_some(),
        since: quarantine.as_ref().map(|quarantined| timestamp(quarantined.since)),
        why: quarantine.map(|quarantined| quarantined.why),
        over_at: over_at.map(timestamp),
        position,
        comparison: comparison.map(shown),
    };
    Ok(json(StatusCode::OK, &answer))
}
