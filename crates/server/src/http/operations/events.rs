//! `GET /v1/operations/{id}/events`: the whole operation each time it changes, until it is over.
//!
//! An event is never half a story, so nothing is lost when changes come faster than a listener reads: it sees the latest.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use axum::response::sse::Event;
use freehold_api::Code;
use freehold_api::v1::operations::{EVENT_NAME, Operation};
use freehold_domain::ids::OperationId;
use freehold_engine::ports::OperationView;
use futures_util::{Stream, stream};

use crate::convert;
use crate::http::extract::At;
use crate::http::state::App;
use crate::hub::Listening;
use crate::problems::{self, Refusal};
use crate::sse;

/// Follows an operation: one event `operation` per change, its data the whole operation, the last one with a final
/// status.
#[utoipa::path(
    get, path = "/v1/operations/{id}/events", tag = "operations", operation_id = "operationEvents",
    params(("id" = Uuid, Path, description = "The operation")),
    responses(
        (status = 200, description = "Server-sent events", body = String, content_type = "text/event-stream"),
        (status = 400, description = "`invalid_request`"),
        (status = 404, description = "`operation_not_found`"),
    ),
    security(("key" = ["viewer"]), ("user" = [])),
)]
pub(crate) async fn events(State(app): State<Arc<App>>, At(id): At<OperationId>) -> Result<Response, Refusal> {
    let changes = app.hub.listen(id);
    let first =
        app.control_plane.operation(id).await.map_err(|error| problems::read(&error, Code::OperationNotFound))?;
    let shutdown = app.shutdown.clone();
    Ok(sse::response(told(Teller { app, id, changes, next: Some(first), said: None }), shutdown))
}

struct Teller {
    app: Arc<App>,
    id: OperationId,
    changes: Listening,
    /// What was read and not told.
    next: Option<OperationView>,
    /// What was told last; over means there is nothing to come.
    said: Option<Operation>,
}

fn told(teller: Teller) -> impl Stream<Item = Event> {
    stream::unfold(teller, |mut teller| async move {
        loop {
            if teller.said.as_ref().is_some_and(|operation| operation.status.is_over()) {
                return None;
            }
            let view = match teller.next.take() {
                Some(view) => view,
                None => {
                    teller.changes.heard_or_due().await;
                    match teller.app.control_plane.operation(teller.id).await {
                        Ok(view) => view,
                        // The listener comes back, and gets the whole operation again.
                        Err(error) => {
                            tracing::warn!(%error, "an event stream ends early");
                            return None;
                        }
                    }
                }
            };
            let operation = convert::operation(&view);
            if teller.said.as_ref() != Some(&operation) {
                let event = sse::event(EVENT_NAME, &operation);
                teller.said = Some(operation);
                return Some((event, teller));
            }
        }
    })
}
