//! Problems: how every error looks on the wire (RFC 9457, `application/problem+json`).
//!
//! `type`, `title` and `status` follow from the code, so only the detail is said at the place that refuses. A
//! problem that is retryable always says when.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::code::Code;
use crate::v1::reservations::ReservationStatus;

/// The media type of a problem.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// When to ask again where the place that refuses knows no better: long enough not to hammer, short enough to notice
/// a takeover (10 s) early.
pub const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(1);

/// One thing that is wrong with a request, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// What is wrong, and what would be right.
    #[schema(example = "an owner is `user:ID` or `org:ID`")]
    pub detail: String,
    /// Where: a JSON Pointer into the body as a URI fragment (RFC 6901 §6). `#` is the whole body.
    #[schema(example = "#/owner")]
    pub pointer: String,
}

impl FieldError {
    /// An error at a pointer.
    #[must_use]
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), pointer: pointer.into() }
    }
}

/// An error, as a caller reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// The page that explains the code.
    #[serde(rename = "type")]
    #[schema(example = "/problems/provision_in_progress")]
    pub kind: String,
    /// The same few words for every occurrence of the code.
    pub title: String,
    /// The HTTP status, again.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// What happened this time, for people.
    pub detail: String,
    /// What happened, for machines.
    pub code: Code,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// When to ask again, in milliseconds from the answer on. Always there if `retryable` is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub retry_after_ms: Option<u64>,
    /// The request this answers, as the logs name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub request_id: Option<String>,
    /// What is wrong with the request, each with its place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// The instance that is concerned, or that is in the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub instance_id: Option<Uuid>,
    /// The operation that is concerned, or that is in the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub operation_id: Option<Uuid>,
    /// How far the reservation is that holds the context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub reservation_status: Option<ReservationStatus>,
}

impl Problem {
    /// A problem of a code; the detail says what happened this time.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("/problems/{code}"),
            title: code.title().to_owned(),
            status: code.status(),
            detail: detail.into(),
            code,
            retryable: code.retryable(),
            retry_after_ms: code.retryable().then(|| millis(RETRY_AFTER_DEFAULT)),
            request_id: None,
            errors: Vec::new(),
            instance_id: None,
            operation_id: None,
            reservation_status: None,
        }
    }

    /// The problem of a request that is wrong in the places listed.
    #[must_use]
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [] => "the request is not what this route takes".to_owned(),
            [one] => format!("{}: {}", one.pointer, one.detail),
            [first, rest @ ..] => format!("{}: {} (and {} more)", first.pointer, first.detail, rest.len()),
        };
        Self { errors, ..Self::new(Code::InvalidRequest, detail) }
    }

    /// Says when to ask again, which makes it retryable.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retryable = true;
        self.retry_after_ms = Some(millis(wait));
        self
    }

    /// Says that asking again does not help.
    #[must_use]
    pub fn final_answer(mut self) -> Self {
        self.retryable = false;
        self.retry_after_ms = None;
        self
    }

    /// Names the request.
    #[must_use]
    pub fn request(mut self, id: impl Into<String>) -> Self {
        self.request_id = Some(id.into());
        self
    }

    /// Names the instance.
    #[must_use]
    pub fn instance(mut self, id: Uuid) -> Self {
        self.instance_id = Some(id);
        self
    }

    /// Names the operation.
    #[must_use]
    pub fn operation(mut self, id: Uuid) -> Self {
        self.operation_id = Some(id);
        self
    }

    /// Says how far the reservation is.
    #[must_use]
    pub fn reservation(mut self, status: ReservationStatus) -> Self {
        self.reservation_status = Some(status);
        self
    }

    /// The value of the `Retry-After` header, in whole seconds, rounded up. `None` unless retryable.
    #[must_use]
    pub fn retry_after_seconds(&self) -> Option<u64> {
        let wait = self.retry_after_ms.unwrap_or_else(|| millis(RETRY_AFTER_DEFAULT));
        self.retryable.then(|| wait.div_ceil(1000).max(1))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.detail, self.code)
    }
}

impl std::error::Error for Problem {}

fn millis(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_conflict_looks_like_the_contract() {
        let instance = Uuid::from_u128(1);
        let operation = Uuid::from_u128(2);
        let problem = Problem::new(Code::ProvisionInProgress, "an instance is being created")
            .instance(instance)
            .operation(operation)
            .reservation(ReservationStatus::InProgress)
            .retry_after(Duration::from_millis(1500))
            .request("r-1");
        let wire = json!({
            "type": "/problems/provision_in_progress",
            "title": "A provision is in progress",
            "status": 409,
            "detail": "an instance is being created",
            "code": "provision_in_progress",
            "retryable": true,
            "retry_after_ms": 1500,
            "request_id": "r-1",
            "instance_id": instance.to_string(),
            "operation_id": operation.to_string(),
            "reservation_status": "in_progress",
        });
        assert_eq!(serde_json::to_value(&problem).unwrap(), wire);
        assert_eq!(serde_json::from_value::<Problem>(wire).unwrap(), problem);
        assert_eq!(problem.retry_after_seconds(), Some(2));
    }

    #[test]
    fn what_is_retryable_says_when_and_nothing_else_does() {
        for code in Code::ALL {
            let problem = Problem::new(*code, "as it is");
            assert_eq!(problem.retry_after_ms.is_some(), code.retryable());
            assert_eq!(problem.retry_after_seconds().is_some(), code.retryable());
            assert_eq!(problem.clone().final_answer().retry_after_seconds(), None);
            assert_eq!(problem.retry_after(Duration::ZERO).retry_after_seconds(), Some(1), "never zero seconds");
        }
    }

    #[test]
    fn an_invalid_request_names_the_first_place_and_lists_all() {
        let problem =
            Problem::invalid(vec![FieldError::new("#/owner", "is empty"), FieldError::new("#/tier", "too long")]);
        assert_eq!(problem.detail, "#/owner: is empty (and 1 more)");
        let wire = serde_json::to_value(&problem).unwrap();
        assert_eq!(wire["errors"][1], json!({"detail": "too long", "pointer": "#/tier"}));
    }

    #[test]
    fn members_from_a_later_version_are_ignored() {
        let mut wire = serde_json::to_value(Problem::new(Code::Gone, "destroyed")).unwrap();
        wire["existing"] = json!("/v1/instances/1");
        assert_eq!(serde_json::from_value::<Problem>(wire).unwrap().code, Code::Gone);
    }
}
