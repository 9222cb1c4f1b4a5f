//! `DELETE /v1/instances/{id}`: accepted in every state, at once; the answer says whether anything is left to do.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use freehold_api::Code;
use freehold_api::v1::instances::{Destroyed, REASON_BYTES_MAX};
use freehold_domain::ids::InstanceId;
use freehold_domain::reservation::{Reservation, Status};
use freehold_engine::control_plane::Accepted;
use freehold_engine::ports::OperationView;
use http::StatusCode;
use serde::Deserialize;

use super::goes_on;
use crate::convert::{self, uuid};
use crate::detach::finishing;
use crate::http::extract::{At, Caller, Params, Wait, bad_param, json};
use crate::http::state::App;
use crate::problems::{self, Refusal};

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Query {
    /// Why, for the audit trail: at most 500 bytes.
    #[param(nullable = false, max_length = 500)]
    reason: Option<String>,
}

/// Destroys an instance, from any state. Repeating it is success.
///
/// The context of a complete instance is free for a new one as soon as this is accepted.
#[utoipa::path(
    delete, path = "/v1/instances/{id}", tag = "instances", operation_id = "destroyInstance",
    params(
        ("id" = Uuid, Path, description = "The instance"), Query,
        ("Prefer" = Option<String>, Header, description = "`wait=N` or `respond-async`"),
    ),
    responses(
        (status = 200, description = "Nothing is left to do", body = Destroyed),
        (status = 202, description = "Accepted; this is left", body = Destroyed,
            headers(("Location" = String, description = "The operation"), ("Retry-After" = u64))),
        (status = 400, description = "`invalid_request`"),
        (status = 404, description = "`instance_not_found`"),
    ),
    security(("key" = ["platform"]), ("user" = [])),
)]
pub(crate) async fn destroy(
    State(app): State<Arc<App>>,
    At(id): At<InstanceId>,
    Params(Query { reason }): Params<Query>,
    caller: Caller,
    wait: Wait,
) -> Result<Response, Refusal> {
    let deadline = wait.deadline(&app);
    if reason.as_ref().is_some_and(|reason| reason.len() > REASON_BYTES_MAX) {
        return Err(bad_param("reason", format_args!("takes at most {REASON_BYTES_MAX} bytes")));
    }
    let control_plane = Arc::clone(&app.control_plane);
    let accepted = finishing(async move { control_plane.destroy(&caller.engine, id, reason).await })
        .await
        .map_err(|error| problems::work(&error, uuid(id.as_bytes())))?;
    let missing = |error| problems::read(&error, Code::InstanceNotFound);
    let reservation = match accepted {
        Accepted::Finished => app.control_plane.instance(id).await.map_err(missing)?.registered.reservation,
        Accepted::By(operation) => {
            let view =
                app.hub.wait_until(&app.control_plane, operation, deadline, is_settled).await.map_err(missing)?;
            if !is_settled(&view) {
                return Ok(goes_on(operation, json(StatusCode::ACCEPTED, &left(&view))));
            }
            view.reservation
        }
    };
    Ok(json(StatusCode::OK, &finished(&reservation)))
}

/// A released reservation is a finished destroy, whichever operation finished it.
pub(crate) fn is_settled(view: &OperationView) -> bool {
    match view.reservation.status {
        Status::Released { .. } => true,
        Status::InProgress | Status::NeedsReconciliation { .. } | Status::Completed => false,
    }
}

fn finished(reservation: &Reservation) -> Destroyed {
    Destroyed {
        finalized: true,
        instance_id: uuid(reservation.instance.as_bytes()),
        operation_id: Some(uuid(reservation.operation.as_bytes())),
        destroyed_at: convert::destroyed_at(reservation).or(reservation.released_at.map(convert::timestamp)),
        pending: None,
    }
}

fn left(view: &OperationView) -> Destroyed {
    Destroyed {
        finalized: false,
        instance_id: uuid(view.reservation.instance.as_bytes()),
        operation_id: Some(uuid(view.operation.id.as_bytes())),
        destroyed_at: None,
        pending: Some(view.reservation.resources.iter().map(convert::resource).collect()),
    }
}

#[cfg(test)]
mod tests {
    use freehold_domain::reservation::Resolution;
    use freehold_domain::resource::{Resource, ResourceKind};
    use freehold_domain::time::Timestamp;

    use super::*;
    use crate::answer::tests::begun;

    #[test]
    fn what_is_left_is_listed_until_nothing_is() {
        let run = begun().run;
        let mut view = OperationView { operation: run.operation, reservation: run.reservation, answer: None };
        view.reservation.resources.push(Resource {
            kind: ResourceKind::Runtime,
            id: "4711".into(),
            region: None,
            handle: "opaque".into(),
        });
        assert!(!is_settled(&view));
        let pending = left(&view);
        assert!(!pending.finalized);
        assert_eq!(pending.pending.unwrap()[0].id, "4711");

        view.reservation.status = Status::Released { because: Resolution::InstanceDestroyed };
        view.reservation.released_at = Some(Timestamp::from_micros(1));
        assert!(is_settled(&view));
        let done = finished(&view.reservation);
        assert!(done.finalized && done.destroyed_at.is_some() && done.pending.is_none());
    }
}
