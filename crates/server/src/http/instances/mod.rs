//! Instances: create, list, show, update, start, stop, restart, destroy, and what they wrote.

pub(crate) mod create;
pub(crate) mod destroy;
pub(crate) mod list;
pub(crate) mod logs;
mod power;
pub(crate) mod restart;
pub(crate) mod show;
pub(crate) mod start;
pub(crate) mod stop;
pub(crate) mod update;

use std::sync::Arc;

use axum::response::{IntoResponse as _, Response};
use freehold_api::problem::RETRY_AFTER_DEFAULT;
use freehold_api::v1::instances::{Accepted, Instance};
use freehold_api::{Code, v1};
use freehold_domain::ids::{InstanceId, OperationId};
use freehold_domain::operation::OperationStatus;
use freehold_engine::control_plane::SpecRequest;
use freehold_engine::ports::OperationView;
use http::header::{LOCATION, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use tokio::time::Instant;

use super::extract::json;
use super::state::App;
use crate::problems::{self, Refusal};
use crate::{answer, convert, hub};

/// The path of an operation.
pub(crate) fn operation_path(operation: OperationId) -> HeaderValue {
    path(format!("/v1/operations/{operation}"))
}

fn path(text: String) -> HeaderValue {
    HeaderValue::from_maybe_shared(bytes::Bytes::from(text)).unwrap_or(HeaderValue::from_static("/"))
}

/// 202: the work goes on, and this is where to look.
pub(crate) fn accepted(view: &OperationView) -> Response {
    goes_on(view.operation.id, json(StatusCode::ACCEPTED, &Accepted { operation: convert::operation(view) }))
}

/// Puts on an answer where to look for the outcome, and when.
pub(crate) fn goes_on(operation: OperationId, mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(LOCATION, operation_path(operation));
    headers.insert(RETRY_AFTER, HeaderValue::from(RETRY_AFTER_DEFAULT.as_secs().max(1)));
    response
}

/// The instance as it is.
pub(crate) async fn shown(app: &App, instance: InstanceId) -> Result<Instance, Refusal> {
    let view =
        app.control_plane.instance(instance).await.map_err(|error| problems::read(&error, Code::InstanceNotFound))?;
    Ok(convert::instance(&view.registered, &view.records, &view.spec))
}

/// Waits for work on an instance. What a later request put in its place is waited for instead.
///
/// `Ok(Some)` is where it got to while it goes on; `Ok(None)` is done.
pub(crate) async fn worked(
    app: &Arc<App>,
    mut operation: OperationId,
    deadline: Instant,
) -> Result<Option<OperationView>, Refusal> {
    loop {
        let view = app
            .hub
            .wait_until(&app.control_plane, operation, deadline, hub::is_over)
            .await
            .map_err(|error| problems::read(&error, Code::OperationNotFound))?;
        if !hub::is_over(&view) {
            return Ok(Some(view));
        }
        if let Some(problem) = answer::failure(&view.reservation, &view.operation) {
            return Err(problem.into());
        }
        let replaced = view.operation.status == OperationStatus::Cancelled && view.reservation.operation != operation;
        if !replaced {
            return Ok(None);
        }
        operation = view.reservation.operation;
    }
}

/// What to run, in the engine's words.
pub(crate) fn spec_request(spec: Option<v1::spec::Spec>) -> SpecRequest {
    let v1::spec::Spec { template, image, command, env, secrets } = spec.unwrap_or_default();
    SpecRequest {
        template,
        image,
        command,
        env: env.map(freehold_api::names::Env::into_inner).unwrap_or_default(),
        secrets: secrets.map(freehold_api::names::Secrets::into_inner).unwrap_or_default(),
    }
}

/// An answer from its stored or rendered bytes, with the headers that follow from it.
pub(crate) fn answered(answer: freehold_engine::ports::Answer, instance: InstanceId) -> Response {
    let freehold_engine::ports::Answer { status, body } = answer;
    let Ok(status) = StatusCode::from_u16(status) else {
        return Refusal::broken(&"a stored answer has no HTTP status").into_response();
    };
    if status.is_success() {
        let media_type = HeaderValue::from_static("application/json");
        let mut response = super::extract::bytes_as(status, media_type, body.into());
        response.headers_mut().insert(LOCATION, path(format!("/v1/instances/{instance}")));
        return response;
    }
    let wait = serde_json::from_slice::<freehold_api::Problem>(&body).ok().and_then(|it| it.retry_after_seconds());
    let media_type = HeaderValue::from_static(freehold_api::problem::MEDIA_TYPE);
    let mut response = super::extract::bytes_as(status, media_type, body.into());
    if let Some(seconds) = wait {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
