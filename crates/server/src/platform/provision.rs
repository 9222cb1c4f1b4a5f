//! `POST /api/platform/provision`: an instance for a context, or, where `instanceId` names one, its update or recovery.
//!
//! It answers with the outcome and never with 202. What is not over when the time of a provision is up goes on behind
//! `provision_completion_pending`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use freehold_api::names::Env;
use freehold_api::v1::instances::CreateInstance;
use freehold_api::v1::spec::Spec;
use freehold_api::{Code, Problem};
use freehold_domain::ids::InstanceId;
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::ask::{Names, Which};
use super::{find, recover};
use crate::detach::finishing;
use crate::http::App;
use crate::http::extract::{Caller, JsonBody, json as answer};
use crate::http::instances::create;
use crate::problems::{self, Refusal};
use crate::{answer as outcome, hub};

/// The body. It has no `Debug`: environments may hold what nobody should read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Body {
    user_id: Option<String>,
    org_id: Option<String>,
    instance_id: Option<String>,
    /// Only a recovery needs it: a new instance gets its subscription anyway.
    bootstrap_subscription: Option<bool>,
    provider: Option<String>,
    env_vars: Option<Env>,
    instance_type: Option<String>,
    region: Option<String>,
}

pub(super) async fn provision(
    State(app): State<Arc<App>>,
    caller: Caller,
    JsonBody(body): JsonBody<Body>,
) -> Result<Response, Refusal> {
    let deadline = Instant::now() + app.control_plane.world().policy.deadline;
    let Body { user_id, org_id, instance_id, bootstrap_subscription, provider, env_vars, instance_type, region } = body;
    let mut errors = Vec::new();
    let read = Names { user_id, org_id, instance_id }.read(&mut errors);
    let wanted = CreateInstance {
        owner: read.as_ref().map(|(whose, _)| whose.context.owner().to_string()).unwrap_or_default(),
        assigned_user: read.as_ref().map(|(whose, _)| whose.context.assigned_user().to_string()),
        provider,
        tier: instance_type,
        region,
        spec: env_vars.map(|env| Spec { env: Some(env), ..Spec::default() }),
        instance_id: None,
    };
    errors.extend(wanted.validate());
    let (Some((whose, which)), true) = (read, errors.is_empty()) else {
        return Err(Problem::invalid(errors).into());
    };
    let id = match which {
        Which::Unsaid => made(&app, create::request(caller, wanted, None)?, deadline).await?,
        Which::This(_) | Which::NoneOfOurs => {
            let view = find::meant(&app, &whose, which).await?;
            let bootstrap = bootstrap_subscription.unwrap_or_default();
            recover::recovered(&app, caller, &view, wanted, bootstrap, deadline).await?
        }
    };
    Ok(answer(StatusCode::CREATED, &json!({"sandboxId": find::sandbox_id(id), "instanceId": id.to_string()})))
}

/// Makes one, and waits until it is made.
async fn made(
    app: &Arc<App>,
    request: freehold_engine::control_plane::Provision,
    deadline: Instant,
) -> Result<InstanceId, Refusal> {
    let control_plane = Arc::clone(&app.control_plane);
    let provisioned = finishing(async move { control_plane.provision(request).await }).await?;
    let waiting = app.hub.wait_for(&app.control_plane, provisioned.operation, deadline);
    let view = patiently(app, async { waiting.await.map_err(|error| problems::read(&error, Code::OperationNotFound)) });
    let view = view.await?;
    if let Some(problem) = outcome::failure(&view.reservation, &view.operation) {
        return Err(definite(problem.into()));
    }
    if hub::is_answered(&view) { Ok(provisioned.instance) } else { Err(pending()) }
}

/// Waits, unless the server is to stop: what goes on then goes on without anybody waiting.
pub(super) async fn patiently<T>(app: &App, waiting: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
    tokio::select! {
        biased;
        done = waiting => done,
        () = app.shutdown.cancelled() => Err(pending()),
    }
}

/// It goes on.
pub(super) fn pending() -> Refusal {
    Refusal::new(Code::ProvisionCompletionPending, "it goes on; ask for the status")
}

/// These routes have one word for everything that surely failed. What it was is in the log and on the operation.
pub(super) fn definite(refusal: Refusal) -> Refusal {
    match refusal.0.code {
        Code::ProviderRejected | Code::ProviderUnavailable | Code::ProvisionFailed => {
            tracing::warn!(code = %refusal.0.code, detail = refusal.0.detail, "a provision failed");
            Refusal::new(Code::ProvisionFailed, refusal.0.detail)
        }
        _ => refusal,
    }
}
