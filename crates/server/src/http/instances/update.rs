//! `PATCH /v1/instances/{id}`: another spec or tier for an instance. Never takes a reservation, and loses to a destroy.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use freehold_api::names::{Env, Secrets};
use freehold_api::v1::instances::{Accepted, Instance, UpdateInstance};
use freehold_api::v1::spec::Spec;
use freehold_api::{Code, Problem};
use freehold_domain::ids::InstanceId;
use freehold_engine::control_plane::{Changed, SpecChange, UpdateRequest};
use http::StatusCode;

use super::create::check_program;
use super::{accepted, shown, worked};
use crate::convert::uuid;
use crate::detach::finishing;
use crate::http::extract::{At, Caller, JsonBody, Wait, json};
use crate::http::state::App;
use crate::problems::{self, Refusal};

/// Changes what an instance runs, or how large it is.
///
/// What is left out stays as it is; a map or list that is given replaces the whole one.
#[utoipa::path(
    patch, path = "/v1/instances/{id}", tag = "instances", operation_id = "updateInstance",
    request_body = UpdateInstance,
    params(
        ("id" = Uuid, Path, description = "The instance"),
        ("Prefer" = Option<String>, Header, description = "`wait=N` or `respond-async`"),
    ),
    responses(
        (status = 200, description = "The instance, changed", body = Instance),
        (status = 202, description = "The work goes on", body = Accepted,
            headers(("Location" = String, description = "The operation"), ("Retry-After" = u64))),
        (status = 400, description = "`invalid_request`, `malformed_json`, `tier_not_offered`, \
            `tier_exceeds_entitlement`"),
        (status = 403, description = "`entitlement_denied`"),
        (status = 404, description = "`instance_not_found`"),
        (status = 408, description = "`request_timeout`"),
        (status = 409, description = "`instance_destroyed`, `provision_in_progress`"),
        (status = 413, description = "`payload_too_large`"),
        (status = 415, description = "`unsupported_media_type`"),
        (status = 502, description = "`provider_rejected`"),
        (status = 503, description = "`provider_unavailable`, `billing_unavailable`, `store_unavailable`"),
    ),
    security(("key" = ["platform"]), ("user" = [])),
)]
pub(crate) async fn update(
    State(app): State<Arc<App>>,
    At(id): At<InstanceId>,
    caller: Caller,
    wait: Wait,
    JsonBody(body): JsonBody<UpdateInstance>,
) -> Result<Response, Refusal> {
    let deadline = wait.deadline(&app);
    check_program(&app, &caller, body.spec.as_ref())?;
    let errors = body.validate();
    if !errors.is_empty() {
        return Err(Problem::invalid(errors).into());
    }
    let UpdateInstance { spec, tier } = body;
    let tier = tier.map(|name| {
        name.parse().map_err(|_| Refusal::new(Code::TierNotOffered, format!("tier `{name}` is not offered")))
    });
    let Spec { template, image, command, env, secrets } = spec.unwrap_or_default();
    let spec = SpecChange {
        template,
        image,
        command,
        env: env.map(Env::into_inner),
        secrets: secrets.map(Secrets::into_inner),
    };
    let request = UpdateRequest { spec, tier: tier.transpose()? };
    let control_plane = Arc::clone(&app.control_plane);
    let changed = finishing(async move { control_plane.update(&caller.engine, id, request).await })
        .await
        .map_err(|error| problems::work(&error, uuid(id.as_bytes())))?;
    if let Changed::By(operation) = changed
        && let Some(view) = worked(&app, operation, deadline).await?
    {
        return Ok(accepted(&view));
    }
    Ok(json(StatusCode::OK, &shown(&app, id).await?))
}
