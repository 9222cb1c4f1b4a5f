//! `POST /v1/billing/events`: nobody pays for an instance at the moment, or somebody does again.
//!
//! - The signature is the credential. It is checked on the raw bytes before anything is made of them.
//! - The effect comes first, and the message's id is put on record behind it. The other way round, an effect that failed
//!   would be lost: the service would send the message again, and it would be taken for a repetition. Like this the worst
//!   is an effect that happens twice, and every part of it is safe twice.
//! - A message that is on record has no effect any more. So one that was overheard, or that comes late, does not undo what
//!   came after it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use freehold_api::Code;
use freehold_api::v1::billing::{BillingEvent, BillingEventTaken, RESUMED, SUSPENDED};
use freehold_domain::event::Actor;
use freehold_domain::ids::InstanceId;
use freehold_engine::control_plane::Caller;
use freehold_engine::ports::StoreError;
use http::{HeaderMap, StatusCode};

use crate::convert::uuid;
use crate::detach::finishing;
use crate::http::extract::{RawBody, json};
use crate::http::state::App;
use crate::problems::{self, Refusal};

/// How long the id of a message is kept: services send one again for some days, and five minutes would do against those
/// who only listen.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// How much of a message's id names it in operations and logs, in characters.
const SHOWN_MAX: usize = 64;

/// Takes an event of the billing service, signed as Standard Webhooks 1.0 says with the secret of `[billing]`. The same
/// event twice is one event. Anything but 200 is to be sent again.
#[utoipa::path(
    post, path = "/v1/billing/events", tag = "billing", operation_id = "takeBillingEvent",
    request_body = BillingEvent,
    params(
        ("webhook-id" = String, Header, description = "The same on every retry"),
        ("webhook-timestamp" = i64, Header, description = "The time of this attempt, in Unix seconds"),
        ("webhook-signature" = String, Header, description = "`v1,` and base64, for each secret"),
    ),
    responses(
        (status = 200, description = "It is taken, or of a type that is not known here", body = BillingEventTaken),
        (status = 400, description = "`invalid_request`, `malformed_json`"),
        (status = 401, description = "`unauthorized`"),
        (status = 404, description = "`instance_not_found`"),
        (status = 408, description = "`request_timeout`"),
        (status = 409, description = "`provision_in_progress`"),
        (status = 413, description = "`payload_too_large`"),
        (status = 503, description = "`store_unavailable`"),
    ),
    security(()),
)]
pub(crate) async fn events(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    RawBody(body): RawBody,
) -> Result<Response, Refusal> {
    let id = signed(&app, &headers, &body)?;
    let event: BillingEvent = freehold_api::json::read(&body)?;
    let suspends = match event.r#type.as_str() {
        SUSPENDED => true,
        RESUMED => false,
        _ => return Ok(json(StatusCode::OK, &BillingEventTaken::Other { ignored: true })),
    };
    let named = event.data.get("instance_id").and_then(serde_json::Value::as_str);
    let named = named.ok_or_else(|| Refusal::at("#/data/instance_id", "name the instance"))?;
    let instance: InstanceId = named.parse().map_err(|_| problems::not_found(Code::InstanceNotFound))?;

    let control_plane = Arc::clone(&app.control_plane);
    let taking = async move {
        let store = Arc::clone(&control_plane.world().store);
        let refuse = |error: StoreError| Refusal::from(problems::store(&error, Code::InstanceNotFound));
        if store.delivery_is_known(&id).await.map_err(refuse)? {
            return Ok(false);
        }
        let caller = Caller { actor: Actor::Platform, request_id: id.chars().take(SHOWN_MAX).collect() };
        let changed = if suspends {
            control_plane.suspend(&caller, instance).await
        } else {
            control_plane.resume(&caller, instance).await
        };
        let changed = changed.map_err(|error| problems::work(&error, uuid(instance.as_bytes())))?;
        let keep_until = control_plane.world().clock.now().plus(KEPT);
        store.delivery_put(&id, keep_until).await.map_err(refuse)?;
        Ok::<_, Refusal>(changed)
    };
    let changed = finishing(taking).await?;
    Ok(json(StatusCode::OK, &BillingEventTaken::Known { changed }))
}

/// The id of a message whose signature is good.
fn signed(app: &App, headers: &HeaderMap, body: &[u8]) -> Result<String, Refusal> {
    let refused = |why: &dyn std::fmt::Display| {
        tracing::warn!(%why, "a billing event is refused");
        Refusal::new(Code::Unauthorized, format!("the event is not accepted: {why}"))
    };
    let Some(secrets) = &app.billing else { return Err(refused(&"this server has no billing service")) };
    let now = app.control_plane.world().clock.now().as_micros().div_euclid(1_000_000);
    let header = |name: &'static str| {
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => value.to_str().ok(),
            (Some(_), Some(_)) | (None, _) => None,
        }
    };
    secrets.verify(header, body, now).map(str::to_owned).map_err(|why| refused(&why))
}
