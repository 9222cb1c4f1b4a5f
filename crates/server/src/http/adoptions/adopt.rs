//! `POST /v1/adoptions`: makes an instance of what an older system made, or says what that would do.
//!
//! It is safe to repeat: the same thing for the same context is the same instance, however far it got.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use freehold_api::v1::adoptions::{Adopt, Adoption, Found};
use freehold_api::{Code, FieldError, Problem};
use freehold_domain::resource::RuntimeState;
use freehold_engine::control_plane::{AdoptRefused, AdoptRequest, AdoptionPlan, Taken};
use freehold_engine::ports::{Survey, Unfit};
use http::StatusCode;

use crate::convert::{self, uuid};
use crate::detach::finishing;
use crate::http::extract::{Caller, JsonBody, Wait, json};
use crate::http::instances::create::context_of;
use crate::http::instances::{goes_on, shown, worked};
use crate::http::state::App;
use crate::problems::{self, Refusal};

/// Makes an instance of something that an older system made at a provider. It is tagged and goes on record, and runs on
/// untouched. With `dry_run` it only says what it found and what it would do.
#[utoipa::path(
    post, path = "/v1/adoptions", tag = "instances", operation_id = "adoptInstance",
    request_body = Adopt,
    params(("Prefer" = Option<String>, Header, description = "`wait=N` or `respond-async`")),
    responses(
        (status = 200, description = "What would be done, or what was done before", body = Adoption),
        (status = 201, description = "The instance, complete and routable", body = Adoption),
        (status = 202, description = "It is tagged and on record, and being completed", body = Adoption,
            headers(("Location" = String, description = "The operation"),
                    ("Retry-After" = u64, description = "When to look again, in seconds"))),
        (status = 400, description = "`invalid_request`, `malformed_json`, `tier_not_offered`, \
            `tier_exceeds_entitlement`, `provider_unknown`"),
        (status = 403, description = "`entitlement_denied`"),
        (status = 408, description = "`request_timeout`"),
        (status = 409, description = "`provider_resources_present`: it is not what can be adopted; \
            `instance_already_active`, `provision_in_progress`, `instance_destroyed`"),
        (status = 413, description = "`payload_too_large`"),
        (status = 415, description = "`unsupported_media_type`"),
        (status = 501, description = "`not_supported`: this provider takes nothing over"),
        (status = 502, description = "`provider_rejected`, `provision_failed`"),
        (status = 503, description = "`provider_unavailable`, `billing_unavailable`, `store_unavailable`"),
    ),
    security(("key" = ["operator"])),
)]
pub(crate) async fn adopt(
    State(app): State<Arc<App>>,
    caller: Caller,
    wait: Wait,
    JsonBody(body): JsonBody<Adopt>,
) -> Result<Response, Refusal> {
    let deadline = wait.deadline(&app);
    let (request, is_dry) = request(caller, &body)?;
    let control_plane = Arc::clone(&app.control_plane);
    let base = request.base.clone();
    if is_dry {
        let (context, provider) = (request.context.clone(), request.provider.to_string());
        let planned = async move { control_plane.plan_adoption(&request).await };
        let plan = finishing(planned).await.map_err(|refused| refuse(refused, &base))?;
        let instance = match plan.instance {
            Some(instance) => Some(shown(&app, instance).await?),
            None => None,
        };
        return Ok(json(StatusCode::OK, &Adoption { instance, ..adoption(&context, provider, base, plan) }));
    }
    let (context, provider) = (request.context.clone(), request.provider.to_string());
    let adopting = async move { control_plane.adopt(request).await };
    let Taken { plan, instance, operation } = finishing(adopting).await.map_err(|refused| refuse(refused, &base))?;
    let under_way = match operation {
        Some(operation) => worked(&app, operation, deadline).await?,
        None => None,
    };
    let answer = adoption(&context, provider, base, plan);
    let answer = Adoption { instance: Some(shown(&app, instance).await?), ..answer };
    Ok(match under_way {
        Some(view) => goes_on(view.operation.id, json(StatusCode::ACCEPTED, &answer)),
        None if answer.already => json(StatusCode::OK, &answer),
        None => json(StatusCode::CREATED, &answer),
    })
}

fn request(caller: Caller, body: &Adopt) -> Result<(AdoptRequest, bool), Refusal> {
    let mut errors = body.validate();
    let Adopt { owner, assigned_user, provider, base, tier, dry_run } = body;
    let context = context_of(owner, assigned_user.as_deref()).map_err(|error| errors.insert(0, error));
    let (Ok(context), true) = (context, errors.is_empty()) else {
        return Err(Problem::invalid(errors).into());
    };
    let unknown = |_| Refusal::new(Code::ProviderUnknown, format!("there is no provider `{provider}`"));
    let provider = provider.parse().map_err(unknown)?;
    let tier = tier.as_ref().map(|name| {
        name.parse().map_err(|_| Refusal::new(Code::TierNotOffered, format!("tier `{name}` is not offered")))
    });
    let (tier, base) = (tier.transpose()?, base.clone());
    Ok((AdoptRequest { caller: caller.engine, context, provider, base, tier }, *dry_run))
}

fn adoption(context: &freehold_domain::owner::Context, provider: String, base: String, plan: AdoptionPlan) -> Adoption {
    Adoption {
        owner: context.owner().to_string(),
        assigned_user: context.assigned_user().to_string(),
        provider,
        base,
        tier: plan.tier.to_string(),
        resources: plan.resources.iter().map(convert::resource).collect(),
        already: plan.is_complete,
        found: plan.survey.map(found),
        instance: None,
    }
}

fn found(survey: Survey) -> Found {
    let Survey { runtime, region, image, memory_mb, cpu_millis, volume_gb, .. } = survey;
    let state = match runtime {
        RuntimeState::Running => "running",
        RuntimeState::Starting => "starting",
        RuntimeState::Stopped => "stopped",
        RuntimeState::Exited(_) => "exited",
        RuntimeState::Missing => "missing",
    };
    Found { state: state.to_owned(), region, image, memory_mb, cpu_millis, volume_gb }
}

fn refuse(refused: AdoptRefused, base: &str) -> Refusal {
    let detail = refused.to_string();
    let problem = match refused {
        AdoptRefused::ProviderUnknown(_) => Problem::new(Code::ProviderUnknown, detail),
        AdoptRefused::Unfit(Unfit::Unsupported) => Problem::new(Code::NotSupported, detail),
        AdoptRefused::Unfit(Unfit::Missing(_)) => {
            Problem::invalid(vec![FieldError::new("#/base", format!("{detail}; nothing was changed"))])
        }
        AdoptRefused::Unfit(Unfit::Refused(_)) => {
            let detail = format!("{base} cannot be adopted: {detail}; nothing was changed");
            Problem::new(Code::ProviderResourcesPresent, detail)
        }
        AdoptRefused::Unfit(Unfit::Unanswered(_)) => {
            Problem::new(Code::ProviderUnavailable, format!("{detail}; nothing was changed, try again"))
        }
        AdoptRefused::Elsewhere(_) => {
            Problem::new(Code::ProviderResourcesPresent, format!("{base} cannot be adopted: {detail}"))
        }
        AdoptRefused::Destroyed(instance) => {
            Problem::new(Code::InstanceDestroyed, format!("{base}: {detail}")).instance(uuid(instance.as_bytes()))
        }
        AdoptRefused::Conflict(refusal) => return problems::taken(refusal),
        AdoptRefused::Entitlement(refused) => return problems::not_entitled(&refused),
        AdoptRefused::NotTagged { instance, foreign, detail: _ } => {
            let code = if foreign { Code::ProviderResourcesPresent } else { Code::ProviderRejected };
            Problem::new(code, detail).instance(uuid(instance.as_bytes()))
        }
        AdoptRefused::Interrupted { instance, detail: _ } => {
            let detail = format!("{detail}; ask again, it goes on");
            Problem::new(Code::ProviderUnavailable, detail).instance(uuid(instance.as_bytes()))
        }
        AdoptRefused::Store(error) => problems::store(&error, Code::InstanceNotFound),
    };
    problem.into()
}
