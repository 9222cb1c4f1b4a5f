//! `POST /api/platform/provision/release-reservation`: frees a context, on proof of absence.
//!
//! The caller says that it looked. That is needed and not enough: absence is proven here all the same, and without the
//! proof nothing is released. Releasing on somebody's word alone is an operator's, in version 1.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use freehold_api::{Code, FieldError, Problem};
use freehold_engine::control_plane::ReleaseStarted;
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::ask::Names;
use super::find;
use crate::detach::finishing;
use crate::http::App;
use crate::http::extract::{Caller, JsonBody, json as answer};
use crate::http::reservations::release::{is_decided, unproven};
use crate::problems::{self, Refusal};

/// What the audit trail says.
const REASON: &str = "the web application acknowledged that the cleanup is verified";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Body {
    user_id: Option<String>,
    org_id: Option<String>,
    instance_id: Option<String>,
    acknowledge_cleanup_verified: Option<bool>,
}

pub(super) async fn release(
    State(app): State<Arc<App>>,
    caller: Caller,
    JsonBody(body): JsonBody<Body>,
) -> Result<Response, Refusal> {
    let deadline = Instant::now() + app.settings.default_wait;
    let Body { user_id, org_id, instance_id, acknowledge_cleanup_verified } = body;
    if acknowledge_cleanup_verified != Some(true) {
        let error = FieldError::new("#/acknowledgeCleanupVerified", "must be true: look at the provider first");
        return Err(Problem::invalid(vec![error]).into());
    }
    let missing = Code::ReservationNotFound;
    let (whose, id) = Names { user_id, org_id, instance_id }.checked_with_instance(missing)?;
    let seen = find::named(&app, &whose, id, missing).await?.registered.reservation.status.name();
    let control_plane = Arc::clone(&app.control_plane);
    let releasing = async move { control_plane.release(&caller.engine, id, seen, REASON, false).await };
    let previous = match finishing(releasing).await? {
        ReleaseStarted::Released { previous } => previous,
        ReleaseStarted::Proving { operation, previous } => {
            let view = app.hub.wait_until(&app.control_plane, operation, deadline, is_decided).await;
            unproven(id, &view.map_err(|error| problems::read(&error, missing))?)?;
            previous
        }
    };
    Ok(answer(StatusCode::OK, &json!({"ok": true, "previousStatus": previous})))
}
