//! `POST /api/platform/destroy`: accepted in every state, at once; the answer says whether anything is left to do.
//! Repeating it is success.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use freehold_api::v1::instances::REASON_BYTES_MAX;
use freehold_api::{Code, FieldError, Problem};
use freehold_engine::control_plane::Accepted;
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::ask::Names;
use super::find;
use crate::convert::{self, uuid};
use crate::detach::finishing;
use crate::http::App;
use crate::http::extract::{Caller, JsonBody, json as answer};
use crate::http::instances::destroy::is_settled;
use crate::problems::{self, Refusal};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Body {
    user_id: Option<String>,
    org_id: Option<String>,
    instance_id: Option<String>,
    reason: Option<String>,
}

pub(super) async fn destroy(
    State(app): State<Arc<App>>,
    caller: Caller,
    JsonBody(body): JsonBody<Body>,
) -> Result<Response, Refusal> {
    let deadline = Instant::now() + app.settings.default_wait;
    let Body { user_id, org_id, instance_id, reason } = body;
    if reason.as_ref().is_some_and(|reason| reason.len() > REASON_BYTES_MAX) {
        let error = FieldError::new("#/reason", format!("takes at most {REASON_BYTES_MAX} bytes"));
        return Err(Problem::invalid(vec![error]).into());
    }
    let (whose, which) = Names { user_id, org_id, instance_id }.checked()?;
    let id = find::ever(&app, &whose, which).await?;
    let control_plane = Arc::clone(&app.control_plane);
    let accepted = finishing(async move { control_plane.destroy(&caller.engine, id, reason).await })
        .await
        .map_err(|error| problems::work(&error, uuid(id.as_bytes())))?;
    let missing = |error| problems::read(&error, Code::InstanceNotFound);
    let (instance_id, sandbox_id) = (id.to_string(), find::sandbox_id(id));
    if let Accepted::By(operation) = accepted {
        let view = app.hub.wait_until(&app.control_plane, operation, deadline, is_settled).await.map_err(missing)?;
        if !is_settled(&view) {
            return Ok(answer(
                StatusCode::OK,
                &json!({"ok": true, "finalized": false, "instanceId": instance_id, "sandboxId": sandbox_id,
                        "operationId": operation.to_string()}),
            ));
        }
    }
    let reservation = app.control_plane.instance(id).await.map_err(missing)?.registered.reservation;
    let destroyed_at = reservation.released_at.map(convert::timestamp);
    Ok(answer(
        StatusCode::OK,
        &json!({"ok": true, "finalized": true, "instanceId": instance_id, "sandboxId": sandbox_id,
                "destroyedAt": destroyed_at}),
    ))
}
