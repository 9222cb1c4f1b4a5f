//! `GET /v1/events`: everything that happens, as it is committed, on every node.
//!
//! An event's id is its place in the order of commits. Who comes back with the last one it saw misses nothing and sees
//! nothing twice; who comes without one gets everything from the beginning.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use axum::response::sse::Event;
use freehold_engine::ports::{AuditQuery, AuditRecord};
use futures_util::{Stream, stream};
use http::HeaderMap;
use serde::Deserialize;

use super::position;
use crate::convert;
use crate::http::extract::Params;
use crate::http::state::App;
use crate::hub::Listening;
use crate::problems::Refusal;
use crate::sse;

/// How many events are read at once: a second's worth on a busy day, a few hundred KiB.
const READ_AT_ONCE: usize = 500;

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Query {
    /// Where to begin, for those who cannot send a header: the id of the last event that was seen.
    #[param(nullable = false)]
    after: Option<String>,
}

/// Follows everything that happens. The event's name is the kind, its data the event as `GET /v1/audit` has it, its id
/// the cursor to come back with.
#[utoipa::path(
    get, path = "/v1/events", tag = "audit", operation_id = "events",
    params(Query, ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that was seen. \
        Without one the stream begins with the first event there is.")),
    responses(
        (status = 200, description = "Server-sent events", body = String, content_type = "text/event-stream"),
        (status = 400, description = "`invalid_request`"),
    ),
    security(("key" = ["operator"])),
)]
pub(crate) async fn events(
    State(app): State<Arc<App>>,
    Params(Query { after }): Params<Query>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let after = match headers.get("last-event-id").map(|value| value.to_str().unwrap_or("?")) {
        Some("") | None => position("after", after.as_deref())?,
        id @ Some(_) => position("Last-Event-ID", id)?,
    };
    let changes = app.hub.listen_to_all();
    let shutdown = app.shutdown.clone();
    Ok(sse::response(told(Teller { app, changes, after, read: VecDeque::new() }), shutdown))
}

struct Teller {
    app: Arc<App>,
    changes: Listening,
    after: u64,
    read: VecDeque<AuditRecord>,
}

fn told(teller: Teller) -> impl Stream<Item = Event> {
    stream::unfold(teller, |mut teller| async move {
        loop {
            if let Some(record) = teller.read.pop_front() {
                teller.after = record.position;
                let event = convert::audit_event(&record);
                return Some((sse::event(&event.kind, &event).id(&event.id), teller));
            }
            let query = AuditQuery { after: teller.after, instance: None, limit: READ_AT_ONCE };
            match teller.app.control_plane.world().store.audit_read(&query).await {
                Ok(page) if page.items.is_empty() => teller.changes.heard_or_due().await,
                Ok(page) => teller.read.extend(page.items),
                // The listener comes back with the id of the last event it saw.
                Err(error) => {
                    tracing::warn!(%error, "an event stream ends early");
                    return None;
                }
            }
        }
    })
}
