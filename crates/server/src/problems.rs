//! From what the engine says to what a caller reads: every refusal and every error, matched to the last variant.
//!
//! A caller is told what happened, whether anything changed and what to do. What the store or the records said goes to
//! the log and not over the wire: it may name tables, files or hosts.

use axum::response::{IntoResponse, Response};
use freehold_api::v1::reservations::ReservationStatus;
use freehold_api::{Code, FieldError, Problem};
use freehold_domain::ledger::Refusal as Taken;
use freehold_engine::control_plane::{Conflict, ProvisionRefused, ReadError, ReleaseRefused, RepairRefused, WorkError};
use freehold_engine::ports::{EntitlementRefused, LogsUnavailable, RecordsError, StoreError};
use freehold_engine::spec::SpecError;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};

use crate::convert::{reservation_status, uuid};

/// A request that is answered with a problem. The edge fills in the request's id and writes it out.
#[derive(Clone, Debug)]
pub(crate) struct Refusal(pub(crate) Box<Problem>);

impl Refusal {
    /// A refusal of a code; the detail says what happened this time.
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self(Box::new(Problem::new(code, detail)))
    }

    /// A request that is wrong in one place of its body.
    pub(crate) fn at(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self(Box::new(Problem::invalid(vec![FieldError::new(pointer, detail)])))
    }

    /// Something here is broken. What it is goes to the log.
    pub(crate) fn broken(what: &dyn std::fmt::Display) -> Self {
        tracing::error!(%what, "a request ended in a defect");
        Self::new(Code::InternalError, "something in freehold is broken; the log has more under this request's id")
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self(Box::new(problem))
    }
}

impl From<Box<Problem>> for Refusal {
    fn from(problem: Box<Problem>) -> Self {
        Self(problem)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = status(self.0.status).into_response();
        response.extensions_mut().insert(self);
        response
    }
}

fn status(number: u16) -> StatusCode {
    StatusCode::from_u16(number).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// A problem as it goes over the wire. Headers that the response has already, such as `Allow`, are kept.
pub(crate) fn write(problem: &Problem, response: &mut Response) {
    let body = serde_json::to_vec(problem).unwrap_or_default();
    *response.status_mut() = status(problem.status);
    *response.body_mut() = axum::body::Body::from(body);
    let headers = response.headers_mut();
    let allow = headers.remove(ALLOW);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(freehold_api::problem::MEDIA_TYPE));
    if let Some(allow) = allow.filter(|_| problem.code == Code::MethodNotAllowed) {
        headers.insert(ALLOW, allow);
    }
    if let Some(seconds) = problem.retry_after_seconds() {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if problem.code == Code::Unauthorized {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
}

/// A store that did not do what it was asked. `missing` is the code for "there is no such thing".
pub(crate) fn store(error: &StoreError, missing: Code) -> Problem {
    match error {
        StoreError::Unavailable(_) => {
            tracing::warn!(%error, "the store is unavailable");
            Problem::new(Code::StoreUnavailable, "the registry cannot be reached; nothing was changed, try again")
        }
        StoreError::Unknown(_) => {
            tracing::warn!(%error, "the answer to a commit is lost");
            Problem::new(
                Code::StoreUnavailable,
                "the registry's answer is lost, so this may have happened; ask again, with the same idempotency key \
                 if there was one",
            )
        }
        // Whose text is for whoever asks: nothing in it is a secret, and an operator reads it.
        StoreError::Quarantined(_) => Problem::new(Code::StoreUnavailable, error.to_string()),
        StoreError::Corrupt(_) | StoreError::Refused(_) => *Refusal::broken(error).0,
        StoreError::Missing(_) => not_found(missing),
    }
}

/// There is no such thing, or it is somebody else's: both look the same.
pub(crate) fn not_found(code: Code) -> Problem {
    let what = match code {
        Code::InstanceNotFound => "there is no such instance; GET /v1/instances lists those there are",
        Code::OperationNotFound => "there is no such operation",
        Code::ReservationNotFound => "there is no such reservation; GET /v1/reservations lists those there are",
        Code::OwnerNotFound => "nothing is known of this owner",
        Code::NodeNotFound => "there is no such node; GET /v1/nodes lists those there are",
        _ => "there is no such thing",
    };
    Problem::new(code, what)
}

fn records(error: &RecordsError) -> Problem {
    match error {
        RecordsError::Refused(_) => *Refusal::broken(error).0,
        RecordsError::Unavailable(_) => {
            tracing::warn!(%error, "the records are unavailable");
            Problem::new(Code::StoreUnavailable, "the records cannot be reached; try again")
        }
    }
}

fn spec(error: &SpecError) -> Problem {
    match error {
        SpecError::Unreadable(_) | SpecError::Undecryptable(_) => *Refusal::broken(error).0,
    }
}

fn entitlement(refused: &EntitlementRefused) -> Problem {
    let code = match refused {
        EntitlementRefused::TierNotOffered(_) => Code::TierNotOffered,
        EntitlementRefused::TierExceedsEntitlement { .. } => Code::TierExceedsEntitlement,
        EntitlementRefused::Denied(_) => Code::EntitlementDenied,
        EntitlementRefused::Unavailable(_) => {
            tracing::warn!(error = %refused, "billing did not answer");
            return Problem::new(Code::BillingUnavailable, "billing did not answer; nothing was taken, try again");
        }
    };
    Problem::new(code, refused.to_string())
}

/// What holds a context, said truthfully: making or removing.
fn conflict(conflict: &Conflict) -> Problem {
    match &conflict.refusal {
        Taken::InProgress { instance, operation, status, cleaning_up } => {
            let detail = if *cleaning_up {
                "what is left of an earlier instance of this context is being cleaned up; the context is free once \
                 nothing is left of it"
            } else {
                "an instance is already being created in this context; wait for it to finish, then try again"
            };
            Problem::new(Code::ProvisionInProgress, detail)
                .instance(uuid(instance.as_bytes()))
                .operation(uuid(operation.as_bytes()))
                .reservation(reservation_status(*status))
                .retry_after(conflict.retry_after)
        }
        Taken::AlreadyActive { instance, operation } => Problem::new(
            Code::InstanceAlreadyActive,
            "the context already has an active instance; `instance_id` names it",
        )
        .instance(uuid(instance.as_bytes()))
        .operation(uuid(operation.as_bytes()))
        .reservation(ReservationStatus::Completed),
    }
}

/// What holds a context that something was to be taken in for.
pub(crate) fn taken(refusal: Taken) -> Refusal {
    conflict(&Conflict { refusal, retry_after: freehold_api::problem::RETRY_AFTER_DEFAULT }).into()
}

/// A context that may not have what it asked for.
pub(crate) fn not_entitled(refused: &EntitlementRefused) -> Refusal {
    entitlement(refused).into()
}

fn invalid_spec(pointer: &str, detail: &str) -> Problem {
    Problem::invalid(vec![FieldError::new(format!("#{pointer}"), detail)])
}

impl From<ProvisionRefused> for Refusal {
    fn from(refused: ProvisionRefused) -> Self {
        let problem = match &refused {
            ProvisionRefused::ProviderUnknown(_) => Problem::new(Code::ProviderUnknown, refused.to_string()),
            ProvisionRefused::InvalidSpec { pointer, detail } => invalid_spec(pointer, detail),
            ProvisionRefused::Entitlement(refused) => entitlement(refused),
            ProvisionRefused::Conflict(taken) => conflict(taken),
            ProvisionRefused::KeyReused => Problem::new(
                Code::IdempotencyKeyReused,
                "this idempotency key was used with another body; nothing was changed, choose another key",
            ),
            ProvisionRefused::Store(error) => store(error, Code::InstanceNotFound),
        };
        problem.into()
    }
}

/// Why work on an instance was not accepted.
pub(crate) fn work(error: &WorkError, instance: uuid::Uuid) -> Refusal {
    let problem = match error {
        WorkError::NotFound => not_found(Code::InstanceNotFound),
        WorkError::InProgress(operation) => Problem::new(
            Code::ProvisionInProgress,
            "the instance is still being made or cleaned up; wait for its operation to be over",
        )
        .operation(uuid(operation.as_bytes()))
        .instance(instance),
        WorkError::Destroyed => {
            Problem::new(Code::InstanceDestroyed, "the instance is destroyed, or being destroyed").instance(instance)
        }
        WorkError::InvalidSpec { pointer, detail } => invalid_spec(pointer, detail),
        WorkError::Entitlement(refused) => entitlement(refused),
        WorkError::Spec(error) => spec(error),
        WorkError::Store(error) => store(error, Code::InstanceNotFound),
        WorkError::Records(error) => records(error),
    };
    problem.into()
}

/// Why nothing could be read. `missing` is the code for "there is no such thing".
pub(crate) fn read(error: &ReadError, missing: Code) -> Refusal {
    let problem = match error {
        ReadError::NotFound => not_found(missing),
        ReadError::Store(error) => store(error, missing),
        ReadError::Records(error) => records(error),
        ReadError::Spec(error) => spec(error),
    };
    problem.into()
}

/// Why logs cannot be had.
pub(crate) fn logs(error: &LogsUnavailable) -> Refusal {
    match error {
        LogsUnavailable::Unsupported => Refusal::new(Code::NotSupported, error.to_string()),
        LogsUnavailable::Unreadable(_) => Refusal::new(Code::ProviderUnavailable, error.to_string()),
    }
}

impl From<RepairRefused> for Refusal {
    fn from(refused: RepairRefused) -> Self {
        let problem = match &refused {
            RepairRefused::NotFound => not_found(Code::ReservationNotFound),
            RepairRefused::Unavailable(why) => Problem::new(Code::ProvisionRepairUnavailable, why.clone()),
            RepairRefused::Store(error) => store(error, Code::ReservationNotFound),
        };
        problem.into()
    }
}

impl From<ReleaseRefused> for Refusal {
    fn from(refused: ReleaseRefused) -> Self {
        let problem = match &refused {
            ReleaseRefused::NotFound => not_found(Code::ReservationNotFound),
            ReleaseRefused::Active(why) => Problem::new(Code::ReservationActive, why.clone()),
            ReleaseRefused::NotReleasable => Problem::new(Code::ReservationNotReleasable, refused.to_string()),
            ReleaseRefused::StatusChanged { .. } => {
                Problem::new(Code::ReservationStatusChanged, format!("{refused}; look at it again before you decide"))
            }
            ReleaseRefused::ReasonMissing => Problem::invalid(vec![FieldError::new("#/reason", refused.to_string())]),
            ReleaseRefused::Store(error) => store(error, Code::ReservationNotFound),
        };
        problem.into()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use freehold_domain::ids::{InstanceId, OperationId};
    use freehold_domain::operation::FailureCode;
    use freehold_domain::reservation::Status;

    use super::*;

    fn taken(cleaning_up: bool, status: Status) -> Problem {
        let refusal = Taken::InProgress {
            instance: InstanceId::mint(1, [1; 10]),
            operation: OperationId::mint(1, [2; 10]),
            status,
            cleaning_up,
        };
        *Refusal::from(ProvisionRefused::Conflict(Conflict { refusal, retry_after: Duration::from_millis(1_500) })).0
    }

    #[test]
    fn a_conflict_says_truthfully_what_goes_on_and_names_it() {
        let creating = taken(false, Status::InProgress);
        assert!(creating.detail.contains("already being created"), "{creating}");
        assert_eq!(creating.reservation_status, Some(ReservationStatus::InProgress));
        assert_eq!((creating.status, creating.retry_after_ms), (409, Some(1_500)));
        assert!(creating.instance_id.is_some() && creating.operation_id.is_some());

        let cleaning = taken(true, Status::NeedsReconciliation { code: FailureCode::DeadlineExceeded });
        assert!(cleaning.detail.contains("cleaned up"), "{cleaning}");
        assert_eq!(cleaning.reservation_status, Some(ReservationStatus::FailedRequiresReconciliation));
    }

    #[test]
    fn what_the_store_said_stays_here() {
        for error in [
            StoreError::Unavailable("disk full at /var/secret".into()),
            StoreError::Unknown("disk full at /var/secret".into()),
            StoreError::Corrupt("disk full at /var/secret".into()),
        ] {
            assert!(!store(&error, Code::InstanceNotFound).detail.contains("secret"), "{error}");
        }
        assert_eq!(store(&StoreError::Missing("leak"), Code::NotFound).code, Code::NotFound);
    }

    #[test]
    fn a_problem_is_written_with_its_headers() {
        let mut response = Refusal::new(Code::MethodNotAllowed, "no").into_response();
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        write(&Problem::new(Code::MethodNotAllowed, "no"), &mut response);
        assert_eq!(response.headers()[ALLOW], "GET");
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        let mut response = Refusal::new(Code::Unauthorized, "no").into_response();
        write(&Problem::new(Code::Unauthorized, "no"), &mut response);
        assert_eq!(response.headers()[WWW_AUTHENTICATE], "Bearer");
        write(&Problem::new(Code::RateLimited, "slow down").retry_after(Duration::from_millis(10)), &mut response);
        assert_eq!(response.status().as_u16(), 429);
        assert_eq!(response.headers()[RETRY_AFTER], "1");
    }
}
