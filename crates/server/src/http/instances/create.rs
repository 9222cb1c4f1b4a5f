//! `POST /v1/instances`: one instance for a context, or an honest answer.
//!
//! The admission is finished even if the client goes away. Everything behind it is the executor's; this request only
//! waits, as long as the caller wishes, for an answer that is the same for everybody who asks with the same key.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use freehold_api::idempotency::{IdempotencyKey, REPLAYED_HEADER};
use freehold_api::v1::instances::{Accepted, CreateInstance, Instance};
use freehold_api::v1::spec::Spec;
use freehold_api::{Code, FieldError, Problem};
use freehold_domain::owner::{Context, Owner};
use freehold_engine::control_plane::{Provision, Provisioned};
use freehold_engine::ident::Idents;
use freehold_engine::ports::{self, OperationView, Registered, Render as _};
use http::HeaderValue;
use ring::digest;

use super::{accepted, answered, spec_request};
use crate::answer::AnswerRenderer;
use crate::auth::Role;
use crate::detach::finishing;
use crate::http::extract::{Caller, JsonBody, Key, Wait};
use crate::http::state::App;
use crate::hub;
use crate::problems::{self, Refusal};

/// Creates the instance of a context.
///
/// 201 means complete and routable; its program may still be starting. After the wait it answers 202 with the operation,
/// which goes on. Without a key a repeated create cannot double either: it gets 409 and the ids of what is in the way.
#[utoipa::path(
    post, path = "/v1/instances", tag = "instances", operation_id = "createInstance",
    request_body = CreateInstance,
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 printable ASCII characters, bare or as an \
            RFC 8941 string, scoped to caller and owner. The same key and body get the same answer."),
        ("Prefer" = Option<String>, Header, description = "`wait=N`: wait up to N seconds. `respond-async`: answer 202 \
            at once."),
    ),
    responses(
        (status = 201, description = "The instance, complete and routable", body = Instance,
            headers(("Location" = String, description = "The instance"),
                    ("Idempotency-Replayed" = String, description = "`true` if this answer was given before"))),
        (status = 202, description = "The work goes on", body = Accepted,
            headers(("Location" = String, description = "The operation"),
                    ("Retry-After" = u64, description = "When to look again, in seconds"))),
        (status = 400, description = "`invalid_request`, `malformed_json`, `tier_not_offered`, \
            `tier_exceeds_entitlement`, `provider_unknown`, `idempotency_key_invalid`"),
        (status = 403, description = "`entitlement_denied`, `forbidden`"),
        (status = 408, description = "`request_timeout`"),
        (status = 409, description = "`provision_in_progress`, `instance_already_active`, `instance_destroyed`"),
        (status = 413, description = "`payload_too_large`"),
        (status = 415, description = "`unsupported_media_type`"),
        (status = 422, description = "`idempotency_key_reused`"),
        (status = 502, description = "`provider_rejected`, `provision_failed`"),
        (status = 503, description = "`provider_unavailable`, `billing_unavailable`, `store_unavailable`"),
    ),
    security(("key" = ["platform"]), ("user" = [])),
)]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    wait: Wait,
    Key(key): Key,
    JsonBody(body): JsonBody<CreateInstance>,
) -> Result<Response, Refusal> {
    let deadline = wait.deadline(&app);
    check_program(&app, &caller, body.spec.as_ref())?;
    let idents = &app.control_plane.world().idents;
    let idempotency = key.map(|key| scoped(idents, &caller, &key, &body));
    let request = request(caller, body, idempotency)?;
    let control_plane = Arc::clone(&app.control_plane);
    let Provisioned { instance, operation, replayed } =
        finishing(async move { control_plane.provision(request).await }).await?;
    let view = app
        .hub
        .wait_for(&app.control_plane, operation, deadline)
        .await
        .map_err(|error| problems::read(&error, Code::OperationNotFound))?;
    let mut response =
        if hub::is_answered(&view) { answered(answer_of(&app, view).await?, instance) } else { accepted(&view) };
    if replayed {
        response.headers_mut().insert(REPLAYED_HEADER, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// The answer on record, or, for a provision without a key, the one that would be.
async fn answer_of(app: &App, view: OperationView) -> Result<ports::Answer, Refusal> {
    let OperationView { operation, reservation, answer } = view;
    if let Some(answer) = answer {
        return Ok(answer);
    }
    let instance = reservation.instance;
    let now =
        app.control_plane.instance(instance).await.map_err(|error| problems::read(&error, Code::InstanceNotFound))?;
    let registered = Registered { reservation, operation, route: now.registered.route };
    Ok(AnswerRenderer.provision(&registered, &now.records))
}

/// Whether a caller may run what a spec says. An end user names a template, unless the configuration lets it run anything:
/// what runs, runs on somebody else's machine and account.
pub(crate) fn check_program(app: &App, caller: &Caller, spec: Option<&Spec>) -> Result<(), Refusal> {
    let chosen = spec.is_some_and(|spec| spec.image.is_some() || spec.command.is_some());
    match caller.role {
        Role::User(_) if chosen && !app.settings.users_run_anything => {
            Err(Refusal::new(Code::Forbidden, "an end user names a `template`, and no `image` or `command`"))
        }
        Role::User(_) | Role::Key(_) => Ok(()),
    }
}

pub(crate) fn request(
    caller: Caller,
    body: CreateInstance,
    idempotency: Option<ports::IdempotencyKey>,
) -> Result<Provision, Refusal> {
    let mut errors = body.validate();
    let context = context_of(&body.owner, body.assigned_user.as_deref()).map_err(|error| errors.insert(0, error));
    let CreateInstance { owner: _, assigned_user: _, provider, tier, region, spec, instance_id: _ } = body;
    let (Ok(context), true) = (context, errors.is_empty()) else {
        return Err(Problem::invalid(errors).into());
    };
    if !caller.scope.has(&context) {
        let detail = "an end user creates in its own contexts only: `user:` with its own id, or `org:` with an \
                      organisation of its token and itself as `assigned_user`";
        return Err(Refusal::new(Code::Forbidden, detail));
    }
    let provider = provider.map(|name| {
        name.parse().map_err(|_| Refusal::new(Code::ProviderUnknown, format!("there is no provider `{name}`")))
    });
    let tier = tier.map(|name| {
        name.parse().map_err(|_| Refusal::new(Code::TierNotOffered, format!("tier `{name}` is not offered")))
    });
    let regions = region.iter().flat_map(|list| list.split(',')).filter(|one| !one.is_empty()).map(str::to_owned);
    Ok(Provision {
        caller: caller.engine,
        context,
        provider: provider.transpose()?,
        tier: tier.transpose()?,
        regions: regions.collect(),
        spec: spec_request(spec),
        idempotency,
    })
}

/// The context that a body names.
///
/// # Errors
/// The member that is wrong.
pub(crate) fn context_of(owner: &str, assigned_user: Option<&str>) -> Result<Context, FieldError> {
    let owner: Owner = owner.parse().map_err(|why| error("#/owner", why))?;
    let user = assigned_user.map(str::parse).transpose();
    let user = user.map_err(|why| error("#/assigned_user", why))?;
    Context::new(owner, user).map_err(|why| error("#/assigned_user", why))
}

fn error(pointer: &str, why: freehold_domain::owner::InvalidOwner) -> FieldError {
    FieldError::new(pointer, why.to_string())
}

/// The key as the store knows it. The body is hashed as it was understood: the order of its members, white space and
/// escapes make no difference, and names are sorted.
fn scoped(idents: &Idents, caller: &Caller, key: &IdempotencyKey, body: &CreateInstance) -> ports::IdempotencyKey {
    let mut scope = digest::Context::new(&digest::SHA256);
    for part in [caller.id.as_ref(), &body.owner, key.as_str()] {
        scope.update(&(part.len() as u64).to_be_bytes());
        scope.update(part.as_bytes());
    }
    let canonical = serde_json::to_vec(body).unwrap_or_default();
    let mut hashed = [0; 32];
    hashed.copy_from_slice(scope.finish().as_ref());
    ports::IdempotencyKey { scope: hashed, fingerprint: idents.fingerprint(&canonical) }
}

#[cfg(test)]
mod tests {
    use freehold_domain::event::Actor;

    use freehold_engine::ports::KeyRole;

    use super::*;
    use crate::auth::Role;
    use crate::users::Scope;

    fn caller(key_id: &str) -> Caller {
        let engine = freehold_engine::control_plane::Caller { actor: Actor::Platform, request_id: "r".into() };
        Caller { engine, id: key_id.into(), role: Role::Key(KeyRole::Platform), scope: Scope::Everything }
    }

    fn body(json: &str) -> CreateInstance {
        freehold_api::json::read(json.as_bytes()).unwrap()
    }

    fn refused(json: &str) -> Problem {
        *request(caller("k"), body(json), None).unwrap_err().0
    }

    #[test]
    fn owners_that_are_none_are_pointed_at() {
        let long = format!(r#"{{"owner":"user:{}"}}"#, "x".repeat(300));
        for (json, at) in [
            (r#"{"owner":"user:"}"#, "#/owner"),
            (r#"{"owner":"admin:x"}"#, "#/owner"),
            (r#"{"owner":"user:a\u0007b"}"#, "#/owner"),
            (long.as_str(), "#/owner"),
            (r#"{"owner":"org:acme"}"#, "#/assigned_user"),
            (r#"{"owner":"user:a","assigned_user":"b"}"#, "#/assigned_user"),
            (r#"{"owner":"user:a","assigned_user":"b c"}"#, "#/assigned_user"),
            (r#"{"owner":"user:a","instance_id":"01990000-0000-7000-8000-000000000001"}"#, "#/instance_id"),
            (r#"{"owner":"user:a","spec":{"env":{"FREEHOLD_X":"1"}}}"#, "#/spec/env/FREEHOLD_X"),
        ] {
            let problem = refused(json);
            assert_eq!((problem.code, problem.errors[0].pointer.as_str()), (Code::InvalidRequest, at), "{json}");
        }
        assert_eq!(refused(r#"{"owner":"user:a","provider":"a/b"}"#).code, Code::ProviderUnknown);
        assert_eq!(refused(r#"{"owner":"user:a","tier":"a/b"}"#).code, Code::TierNotOffered);
    }

    #[test]
    fn regions_are_a_list() {
        let request = request(caller("k"), body(r#"{"owner":"user:a","region":"eu,us,"}"#), None).unwrap();
        assert_eq!(request.regions, ["eu", "us"]);
    }

    #[test]
    fn a_key_is_its_callers_and_its_owners_and_a_body_is_what_it_means() {
        let key: IdempotencyKey = "k-1".parse().unwrap();
        let idents = Idents::new("test".parse().unwrap(), &[7; 32]);
        let one = scoped(&idents, &caller("a"), &key, &body(r#"{"owner":"user:a","spec":{"env":{"A":"1","B":"2"}}}"#));
        let same =
            scoped(&idents, &caller("a"), &key, &body(r#"{ "spec":{"env":{"\u0042":"2","A":"1"}},"owner":"user:a"}"#));
        assert_eq!(one, same);
        let other_body = scoped(&idents, &caller("a"), &key, &body(r#"{"owner":"user:a"}"#));
        assert_eq!(one.scope, other_body.scope);
        assert_ne!(one.fingerprint, other_body.fingerprint);
        assert_ne!(one.scope, scoped(&idents, &caller("b"), &key, &body(r#"{"owner":"user:a"}"#)).scope);
        assert_ne!(one.scope, scoped(&idents, &caller("a"), &key, &body(r#"{"owner":"user:b"}"#)).scope);
    }
}
