//! `GET /v1/leaks`: leaks, oldest first.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use freehold_api::Code;
use freehold_api::v1::leaks::LeakList;
use http::StatusCode;
use serde::Deserialize;

use super::shown;
use crate::http::extract::{Params, json, page, param};
use crate::http::state::App;
use crate::problems::{self, Refusal};

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Query {
    /// Whether to list those that are resolved, too.
    #[serde(default)]
    resolved: bool,
    /// How many at most: 1 to 500, 50 where it is left out.
    #[param(nullable = false, minimum = 1, maximum = 500)]
    limit: Option<u32>,
    /// Where the last page ended.
    #[param(nullable = false)]
    cursor: Option<String>,
}

/// Lists leaks that are open.
#[utoipa::path(
    get, path = "/v1/leaks", tag = "leaks", operation_id = "listLeaks",
    params(Query),
    responses(
        (status = 200, description = "A page of leaks", body = LeakList),
        (status = 400, description = "`invalid_request`"),
    ),
    security(("key" = ["operator"])),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Params(Query { resolved, limit, cursor }): Params<Query>,
) -> Result<Response, Refusal> {
    let refuse = |error| Refusal::from(problems::store(&error, Code::NotFound));
    let after = param("cursor", cursor.as_deref())?;
    let page = app.control_plane.world().store.leak_list(!resolved, after, page(limit)?).await.map_err(refuse)?;
    let mut leaks = Vec::with_capacity(page.items.len());
    for record in &page.items {
        leaks.push(shown(&app, record, None).await.map_err(refuse)?);
    }
    Ok(json(StatusCode::OK, &LeakList { leaks, next_cursor: page.next.map(|id| id.to_string()) }))
}
