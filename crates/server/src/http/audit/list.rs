//! `GET /v1/audit`: the audit trail in the order of commits, with all that its hashes cover.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use freehold_api::Code;
use freehold_api::v1::audit::{AuditPage, ListAudit};
use freehold_domain::ids::InstanceId;
use freehold_engine::ports::AuditQuery;
use http::StatusCode;

use super::position;
use crate::convert;
use crate::http::extract::{Params, json, page};
use crate::http::state::App;
use crate::problems::{self, Refusal};

/// Lists events of the audit trail.
#[utoipa::path(
    get, path = "/v1/audit", tag = "audit", operation_id = "listAudit",
    params(ListAudit),
    responses(
        (status = 200, description = "A page of events", body = AuditPage),
        (status = 400, description = "`invalid_request`"),
    ),
    security(("key" = ["operator"])),
)]
pub(crate) async fn list(State(app): State<Arc<App>>, Params(query): Params<ListAudit>) -> Result<Response, Refusal> {
    let ListAudit { after, instance_id, limit } = query;
    let limit = page(limit)?;
    let instance = match instance_id.map(|id| InstanceId::from_bytes(id.into_bytes())) {
        None => None,
        Some(Ok(instance)) => Some(instance),
        // An id that was never minted has no events.
        Some(Err(_)) => return Ok(json(StatusCode::OK, &AuditPage::default())),
    };
    let query = AuditQuery { after: position("after", after.as_deref())?, instance, limit };
    let page = app
        .control_plane
        .world()
        .store
        .audit_read(&query)
        .await
        .map_err(|error| Refusal::from(problems::store(&error, Code::NotFound)))?;
    let events = page.items.iter().map(convert::audit_event).collect();
    Ok(json(StatusCode::OK, &AuditPage { events, next_cursor: page.next.map(|position| position.to_string()) }))
}
