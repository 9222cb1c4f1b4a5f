//! `GET /api/platform/status`: what an instance does, and where to follow what is being done to it.
//!
//! It answers with `status: null` where there is none, and where there is one that is not the caller's.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use freehold_api::Code;
use http::StatusCode;
use serde_json::{Value, json};

use super::ask::{Names, Which};
use super::find;
use crate::convert;
use crate::http::App;
use crate::http::extract::{Params, json as answer};
use crate::problems::Refusal;

pub(super) async fn status(State(app): State<Arc<App>>, Params(names): Params<Names>) -> Result<Response, Refusal> {
    let (whose, which) = names.checked()?;
    let found = match which {
        Which::Unsaid => find::only(&app, &whose).await?,
        Which::NoneOfOurs => None,
        Which::This(id) => match find::named(&app, &whose, id, Code::InstanceNotFound).await {
            Ok(view) => Some(view),
            Err(refusal) if refusal.0.code == Code::InstanceNotFound => None,
            Err(refusal) => return Err(refusal),
        },
    };
    let user = whose.context.assigned_user().as_str();
    let Some(view) = found else {
        return Ok(answer(StatusCode::OK, &json!({"userId": user, "status": Value::Null})));
    };
    let shown = convert::instance(&view.registered, &view.records, &view.spec);
    let body = json!({
        "userId": user,
        "owner": shown.owner,
        "instanceId": shown.id,
        "sandboxId": find::sandbox_id(view.registered.reservation.instance),
        "status": shown.status,
        "routable": shown.routable,
        "provider": shown.provider,
        "instanceType": shown.tier,
        "region": shown.region,
        "url": shown.url,
        "operationId": shown.operation_id,
        "createdAt": shown.created_at,
        "readyAt": shown.ready_at,
        "destroyedAt": shown.destroyed_at,
    });
    Ok(answer(StatusCode::OK, &body))
}
