//! `POST /v1/reservations/{instance_id}/release`: frees a context, on proof of absence or on the operator's word.
//!
//! Without `override` the proof is made anew, and waited for. If it cannot be had within the wait, the answer says what
//! stands in its way; cleaning up goes on regardless.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use freehold_api::v1::reservations::{ReleaseReservation, ReleasedReservation};
use freehold_api::{Code, Problem};
use freehold_domain::ids::InstanceId;
use freehold_domain::operation::{Operation, Step, StepStatus};
use freehold_domain::reservation::Status;
use freehold_engine::control_plane::ReleaseStarted;
use freehold_engine::ports::OperationView;
use http::StatusCode;

use super::show::Of;
use crate::convert::{self, uuid};
use crate::detach::finishing;
use crate::http::extract::{At, Caller, JsonBody, Wait, json};
use crate::http::state::App;
use crate::hub;
use crate::problems::{self, Refusal};

/// Releases a reservation.
///
/// Nothing happens unless it still has the status that the operator saw. Without `override` the system proves absence
/// itself. With it, a leak record is opened, and cleaning up goes on.
#[utoipa::path(
    post, path = "/v1/reservations/{instance_id}/release", tag = "reservations", operation_id = "releaseReservation",
    request_body = ReleaseReservation,
    params(
        ("instance_id" = Uuid, Path, description = "The instance it is for"),
        ("Prefer" = Option<String>, Header, description = "`wait=N` or `respond-async`"),
    ),
    responses(
        (status = 200, description = "It is released", body = ReleasedReservation),
        (status = 400, description = "`invalid_request`, `malformed_json`"),
        (status = 404, description = "`reservation_not_found`"),
        (status = 408, description = "`request_timeout`"),
        (status = 409, description = "`reservation_active`, `reservation_not_releasable`, \
            `reservation_status_changed`, `provider_resources_present`"),
        (status = 413, description = "`payload_too_large`"),
        (status = 415, description = "`unsupported_media_type`"),
        (status = 503, description = "`provider_check_unavailable`, `store_unavailable`"),
    ),
    security(("key" = ["operator"])),
)]
pub(crate) async fn release(
    State(app): State<Arc<App>>,
    At(Of(id)): At<Of>,
    caller: Caller,
    wait: Wait,
    JsonBody(body): JsonBody<ReleaseReservation>,
) -> Result<Response, Refusal> {
    let deadline = wait.deadline(&app);
    let errors = body.validate();
    if !errors.is_empty() {
        return Err(Problem::invalid(errors).into());
    }
    let ReleaseReservation { expected_status, reason, r#override } = body;
    let expected = convert::reservation_status_name(expected_status);
    let control_plane = Arc::clone(&app.control_plane);
    let releasing = async move { control_plane.release(&caller.engine, id, expected, &reason, r#override).await };
    let previous = match finishing(releasing).await? {
        ReleaseStarted::Released { previous } => previous,
        ReleaseStarted::Proving { operation, previous } => {
            let view = app
                .hub
                .wait_until(&app.control_plane, operation, deadline, is_decided)
                .await
                .map_err(|error| problems::read(&error, Code::ReservationNotFound))?;
            unproven(id, &view)?;
            previous
        }
    };
    let previous_status = convert::reservation_status_named(previous);
    Ok(json(StatusCode::OK, &ReleasedReservation { previous_status }))
}

/// Whether waiting longer makes no difference. A look that found something decides nothing: it is being removed.
pub(crate) fn is_decided(view: &OperationView) -> bool {
    match view.reservation.status {
        Status::Released { .. } | Status::Completed => true,
        Status::InProgress | Status::NeedsReconciliation { .. } => hub::is_over(view),
    }
}

/// What stands in the way of the proof, if anything does.
pub(crate) fn unproven(instance: InstanceId, view: &OperationView) -> Result<(), Refusal> {
    let reservation = &view.reservation;
    let problem = match reservation.status {
        Status::Released { .. } => return Ok(()),
        Status::Completed => Problem::new(
            Code::ReservationActive,
            "its instance turned out to be complete; destroy the instance instead",
        ),
        Status::InProgress | Status::NeedsReconciliation { .. } => {
            let seen = reservation.lookups.last();
            let names: Vec<_> =
                reservation.resources.iter().map(|resource| format!("{} {}", resource.kind, resource.id)).collect();
            let on_record = if names.is_empty() { String::new() } else { format!("; on record: {}", names.join(", ")) };
            match (trouble(&view.operation), seen) {
                (Some(Trouble::Unanswered(why)), _) => {
                    let detail =
                        format!("the provider does not let it be proven: {why}; proving it goes on{on_record}");
                    Problem::new(Code::ProviderCheckUnavailable, detail)
                }
                (Some(Trouble::Refused(why)), _) => {
                    let detail = format!("the provider refuses: {why}; removing it goes on{on_record}");
                    Problem::new(Code::ProviderResourcesPresent, detail)
                }
                (None, _) if !names.is_empty() => {
                    let detail = format!("the provider still has {}; removing it goes on", names.join(", "));
                    Problem::new(Code::ProviderResourcesPresent, detail)
                }
                (None, Some(lookup)) if !lookup.absent => {
                    let detail = format!("the last look does not prove absence: {}", lookup.detail);
                    Problem::new(Code::ProviderResourcesPresent, detail)
                }
                (None, _) => {
                    Problem::new(Code::ProviderCheckUnavailable, "absence is not proven yet; proving it goes on")
                }
            }
        }
    };
    let operation = uuid(view.operation.id.as_bytes());
    let status = convert::reservation_status(reservation.status);
    Err(problem.instance(uuid(instance.as_bytes())).operation(operation).reservation(status).into())
}

/// What the last step of the clean-up came to, where it did not get on.
enum Trouble {
    /// No answer: nobody knows what is there.
    Unanswered(String),
    /// The provider will not.
    Refused(String),
}

fn trouble(operation: &Operation) -> Option<Trouble> {
    let steps = operation.steps.iter().filter(|record| record.step.undoes() || record.step == Step::Absence);
    let last = steps.max_by_key(|record| record.finished_at)?;
    let why = || last.last_error.as_deref().map(|why| format!("{}: {why}", last.step.name()));
    match last.status {
        StepStatus::Failed | StepStatus::Unknown => why().map(Trouble::Unanswered),
        StepStatus::Rejected => why().map(Trouble::Refused),
        // One that is being tried again has what its last try came to.
        StepStatus::Noted if last.rejection.is_some() => why().map(Trouble::Refused),
        StepStatus::Noted => why().map(Trouble::Unanswered),
        StepStatus::Done => None,
    }
}

#[cfg(test)]
mod tests {
    use freehold_domain::evidence::Lookup;
    use freehold_domain::operation::{FailureCode, StepRecord};
    use freehold_domain::reservation::Resolution;
    use freehold_domain::resource::{Resource, ResourceKind};
    use freehold_domain::time::Timestamp;

    use super::*;
    use crate::answer::tests::begun;

    fn stuck() -> OperationView {
        let run = begun().run;
        let mut reservation = run.reservation;
        reservation.status = Status::NeedsReconciliation { code: FailureCode::DeadlineExceeded };
        OperationView { operation: run.operation, reservation, answer: None }
    }

    fn code(view: &OperationView) -> Option<Code> {
        unproven(view.reservation.instance, view).err().map(|refusal| refusal.0.code)
    }

    #[test]
    fn the_answer_says_what_stands_in_the_way() {
        let mut view = stuck();
        assert_eq!(code(&view), Some(Code::ProviderCheckUnavailable));
        view.reservation.lookups.push(Lookup { at: Timestamp::default(), absent: false, detail: "1 found".into() });
        assert_eq!(code(&view), Some(Code::ProviderResourcesPresent));
        view.reservation.lookups.clear();
        view.operation.steps.push(StepRecord {
            step: Step::Seal,
            status: StepStatus::Unknown,
            attempts: 3,
            started_at: Timestamp::default(),
            finished_at: Some(Timestamp::default()),
            last_error: Some("it timed out".into()),
            rejection: None,
        });
        let refusal = unproven(view.reservation.instance, &view).expect_err("it is not proven");
        assert_eq!(refusal.0.code, Code::ProviderCheckUnavailable);
        assert!(refusal.0.detail.contains("seal: it timed out"), "{}", refusal.0.detail);
        view.operation.steps.clear();
        view.reservation.resources.push(Resource {
            kind: ResourceKind::Storage,
            id: "vol-1".into(),
            region: None,
            handle: String::new(),
        });
        assert_eq!(code(&view), Some(Code::ProviderResourcesPresent));
        assert!(!is_decided(&view));
        view.reservation.status = Status::Released { because: Resolution::AbsenceProven };
        assert_eq!(code(&view), None);
        assert!(is_decided(&view));
    }
}
