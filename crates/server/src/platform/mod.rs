//! Routes for web applications that were written against an older worker: another header for the key, camelCase, short
//! errors with a sentence that a user can read.
//!
//! They are the same control plane as version 1, and as thin: what may be created, and who wins, is decided behind them.
//! Every one asks for a platform key, and none gives way to a reader's. They are not in the OpenAPI document, which
//! describes version 1; `docs/guides/platform-routes.md` describes them.

mod ask;
mod destroy;
mod errors;
mod find;
mod power;
mod provision;
mod recover;
mod registry_entries;
mod release_reservation;
mod repair_reservation;
mod start;
mod status;
mod stop;

use std::sync::Arc;

use axum::Router;
use axum::routing::{any, get, post};
use freehold_api::Code;
use http::{HeaderMap, HeaderName};

pub(crate) use self::errors::write;
use crate::auth::{Access, Door};
use crate::http::App;
use crate::http::access::{Guarded, Wire};
use crate::problems::Refusal;

/// Carries the key.
pub(crate) const KEY: HeaderName = HeaderName::from_static("x-internal-api-key");

const PROVISION: &str = "/api/platform/provision";
const REPAIR: &str = "/api/platform/provision/repair-reservation";
const RELEASE: &str = "/api/platform/provision/release-reservation";
const DESTROY: &str = "/api/platform/destroy";
const START: &str = "/api/platform/start";
const STOP: &str = "/api/platform/stop";
const STATUS: &str = "/api/platform/status";
const REGISTRY_ENTRIES: &str = "/api/platform/registry-entries";
const ANYTHING_ELSE: &str = "/api/platform/{*rest}";

/// What the routes ask of their callers.
pub(crate) fn guarded() -> impl Iterator<Item = Guarded> {
    [PROVISION, REPAIR, RELEASE, DESTROY, START, STOP, STATUS, REGISTRY_ENTRIES, ANYTHING_ELSE]
        .into_iter()
        .map(|path| Guarded::always(path, Door { key: Access::Platform, users: false }).speaking(Wire::Platform))
}

/// The routes.
pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route(PROVISION, post(provision::provision))
        .route(REPAIR, post(repair_reservation::repair))
        .route(RELEASE, post(release_reservation::release))
        .route(DESTROY, post(destroy::destroy))
        .route(START, post(start::start))
        .route(STOP, post(stop::stop))
        .route(STATUS, get(status::status))
        .route(REGISTRY_ENTRIES, get(registry_entries::registry_entries))
        .route(ANYTHING_ELSE, any(nowhere))
}

/// The key that a request shows.
///
/// # Errors
/// `unauthorized` unless there is exactly one.
pub(crate) fn key(headers: &HeaderMap) -> Result<&str, Refusal> {
    let mut values = headers.get_all(KEY).iter();
    match (values.next().and_then(|value| value.to_str().ok()), values.next()) {
        (Some(key), None) if !key.is_empty() => Ok(key),
        (_, _) => Err(Refusal::new(Code::Unauthorized, "send one `x-internal-api-key` header")),
    }
}

async fn nowhere() -> Refusal {
    Refusal::new(Code::NotFound, "there is no such platform route")
}
