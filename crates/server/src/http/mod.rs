//! The routes. Each is described where it is handled; the OpenAPI document, the routing table and the table of who may
//! call what come from that one description.
//!
//! One endpoint, one file: its description, its refusals, its handler, its tests.

pub(crate) mod access;
mod adoptions;
mod audit;
mod billing;
mod document;
pub(crate) mod edge;
pub(crate) mod extract;
mod health;
pub(crate) mod instances;
mod leaks;
mod meta;
mod nodes;
pub(crate) mod operations;
mod owners;
pub(crate) mod reservations;
mod restore;
pub(crate) mod routes;
mod state;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use freehold_api::Code;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::access::{Guarded, Table};
pub(crate) use self::state::App;
pub use self::state::{Probe, ServerParts, Settings};
use crate::auth::{Access, Door};
use crate::problems::Refusal;
use crate::{platform, proxy, trpc};

/// Everything below `/v1`.
fn api() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(instances::create::create, instances::list::list))
        .routes(routes!(instances::show::show, instances::update::update, instances::destroy::destroy))
        .routes(routes!(instances::start::start))
        .routes(routes!(instances::stop::stop))
        .routes(routes!(instances::restart::restart))
        .routes(routes!(instances::logs::logs))
        .routes(routes!(adoptions::adopt::adopt))
        .routes(routes!(operations::show::show))
        .routes(routes!(operations::events::events))
        .routes(routes!(owners::show::show))
        .routes(routes!(owners::anonymize::anonymize))
        .routes(routes!(reservations::list::list))
        .routes(routes!(reservations::show::show))
        .routes(routes!(reservations::repair::repair))
        .routes(routes!(reservations::release::release))
        .routes(routes!(routes::show::show))
        .routes(routes!(audit::list::list))
        .routes(routes!(audit::events::events))
        .routes(routes!(leaks::list::list))
        .routes(routes!(leaks::resolve::resolve))
        .routes(routes!(nodes::list::list))
        .routes(routes!(nodes::drain::drain))
        .routes(routes!(restore::show::show))
        .routes(routes!(restore::confirm::confirm))
        .routes(routes!(billing::events::events))
}

/// What every node answers, whatever its roles are.
fn about() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(document::base())
        .routes(routes!(health::live::healthz))
        .routes(routes!(health::live::livez))
        .routes(routes!(health::ready::readyz))
        .routes(routes!(meta::metrics::metrics))
        .routes(routes!(meta::openapi::openapi))
        .routes(routes!(meta::problem::problem))
        .routes(routes!(meta::landing::landing))
}

/// The OpenAPI 3.1 document of all routes.
#[must_use]
pub fn openapi() -> serde_json::Value {
    document::finish(about().merge(api()).get_openapi())
}

/// The whole server as a router, for [`crate::listen::serve`].
pub fn router(parts: ServerParts) -> Router {
    let document = openapi();
    let proxied = if parts.settings.proxy_public { Door::OPEN } else { Door { key: Access::Platform, users: true } };
    let access =
        proxy::PATHS.iter().fold(Table::of(&document), |table, path| table.with(Guarded::always(path, proxied)));
    let access = platform::guarded().fold(access, Table::with);
    // What a procedure asks for beyond that is asked where it is called.
    let access = access.with(Guarded::trpc(trpc::PATH, Door { key: Access::Viewer, users: true }));
    let mut routes = about();
    if parts.settings.api {
        routes = routes.merge(api());
    }
    let (mut routes, _) = routes.split_for_parts();
    if parts.settings.api {
        routes = routes.merge(platform::routes());
        routes = routes.route(trpc::PATH, axum::routing::any(trpc::answer).head(trpc::head));
    }
    if parts.settings.proxy {
        routes = proxy::PATHS.iter().fold(routes, |routes, path| routes.route(path, axum::routing::any(proxy::pass)));
    }
    let app = App::new(parts, access, document.to_string().into());
    routes
        .fallback(nowhere)
        .method_not_allowed_fallback(no_such_method)
        .layer(from_fn_with_state(Arc::clone(&app), edge::edge))
        .with_state(app)
}

async fn nowhere() -> Refusal {
    Refusal::new(Code::NotFound, "there is no such path; GET /openapi.json lists those there are")
}

async fn no_such_method() -> Refusal {
    Refusal::new(Code::MethodNotAllowed, "this path does not have this method; the `Allow` header lists those it has")
}
