//! `POST /v1/restore/confirm`: somebody has looked, and the registry is the truth again.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use freehold_api::Code;
use freehold_api::v1::restore::{ConfirmRestore, RestoreConfirmed};
use freehold_engine::control_plane::restore::RestoreRefused;
use http::StatusCode;

use super::shown;
use crate::detach::finishing;
use crate::http::extract::{JsonBody, json};
use crate::http::state::App;
use crate::problems::{self, Refusal};

/// Compares the registry with the providers once more, and ends its quarantine: no lease that was given after the backup
/// means anything any more, and everything is looked at again. For an hour the janitor only tells what it would remove.
/// Where there is no quarantine nothing happens.
#[utoipa::path(
    post, path = "/v1/restore/confirm", tag = "restore", operation_id = "confirmRestore",
    request_body = ConfirmRestore,
    responses(
        (status = 200, description = "The quarantine is over", body = RestoreConfirmed),
        (status = 400, description = "`invalid_request`, `malformed_json`"),
        (status = 408, description = "`request_timeout`"),
        (status = 413, description = "`payload_too_large`"),
        (status = 415, description = "`unsupported_media_type`"),
        (status = 503, description = "`provider_check_unavailable`: a provider did not show everything; \
            `store_unavailable`: ask again, it goes on"),
    ),
    security(("key" = ["operator"])),
)]
pub(crate) async fn confirm(
    State(app): State<Arc<App>>,
    JsonBody(ConfirmRestore { incomplete }): JsonBody<ConfirmRestore>,
) -> Result<Response, Refusal> {
    let control_plane = Arc::clone(&app.control_plane);
    let confirmed = finishing(async move { control_plane.restore_confirm(incomplete).await }).await.map_err(refuse)?;
    let answer = RestoreConfirmed { raised: confirmed.raised, comparison: shown(confirmed.comparison) };
    Ok(json(StatusCode::OK, &answer))
}

fn refuse(error: RestoreRefused) -> Refusal {
    match error {
        RestoreRefused::Unanswered { .. } => Refusal::new(
            Code::ProviderCheckUnavailable,
            format!("{error}; the quarantine goes on. Ask again, or go on without it with `incomplete`"),
        ),
        RestoreRefused::Store(error) => problems::store(&error, Code::NotFound).into(),
    }
}
