//! `GET /`: what this is, and where to go on, for people who typed the address into a browser.

use axum::response::Response;

use super::page;

const TEXT: &str = "# Freehold\n\n\
One running instance per customer context, or an honest answer. This is its HTTP API; it wants a key, sent as \
`Authorization: Bearer KEY`.\n\n\
- [OpenAPI document](/openapi.json)\n\
- [Alive?](/healthz)\n\
- [Ready?](/readyz?verbose)\n\
- [How an error is explained](/problems/provision_in_progress)\n";

/// What this is.
#[utoipa::path(
    get, path = "/", tag = "server", operation_id = "landing",
    responses((status = 200, description = "A page for people", body = String, content_type = "text/html")),
    security(()),
)]
pub(crate) async fn landing() -> Response {
    page::html("Freehold", &page::rendered(TEXT))
}
