//! Reservations: the operators' view of who may create, and the tools to repair and release.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{PAGE_DEFAULT, PAGE_MAX};
use crate::problem::FieldError;

/// The longest reason for a release, in bytes: it is kept in the audit trail for ever.
pub const REASON_BYTES_MAX: usize = 500;

/// How far a reservation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReservationStatus {
    /// The instance is being made. Unresolved.
    InProgress,
    /// The provision gave up and what it may have made is being removed. Unresolved.
    FailedRequiresReconciliation,
    /// The instance is complete.
    Completed,
    /// The context is free again. Terminal.
    Released,
}

/// Why a provision failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureCode {
    /// The provider refused, or went on failing.
    ProviderProvisionFailed,
    /// The canonical row could not be written.
    InstanceRecordInsertFailed,
    /// The subscription could not be started.
    SubscriptionBootstrapFailed,
    /// Destroy was accepted first.
    Cancelled,
    /// The deadline passed.
    DeadlineExceeded,
}

/// Why a reservation was released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResolutionReason {
    /// It failed before anything was sent to the provider.
    FailedBeforeProviderWork,
    /// The provider surely refused.
    ProviderRejected,
    /// The context has its instance already.
    ActiveInstanceExists,
    /// Nothing is left at the provider, and nothing can come.
    AbsenceProven,
    /// The instance was destroyed.
    InstanceDestroyed,
    /// An operator said so; a leak record is open.
    OperatorOverride,
}

/// One thing that is known about a reservation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Evidence {
    /// What sort of evidence.
    #[schema(example = "sealed")]
    pub kind: String,
    /// When it was established.
    pub at: Timestamp,
    /// What was seen, for people.
    pub detail: String,
}

/// A reservation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reservation {
    /// The instance it is for.
    pub instance_id: Uuid,
    /// Whose that is.
    #[schema(example = "user:alice")]
    pub owner: String,
    /// For whom it is.
    pub assigned_user: String,
    /// How far it is.
    pub status: ReservationStatus,
    /// How often its work changed hands.
    pub epoch: u64,
    /// The operation that works on it, or did last.
    pub operation_id: Uuid,
    /// Whether a call that creates may have left for the provider.
    pub work_started: bool,
    /// When it was taken.
    pub started_at: Timestamp,
    /// When it changed last.
    pub updated_at: Timestamp,
    /// When it was completed.
    #[schema(required)]
    pub completed_at: Option<Timestamp>,
    /// Why the provision failed.
    #[schema(required)]
    pub failure_code: Option<FailureCode>,
    /// Why it was released.
    #[schema(required)]
    pub resolution_reason: Option<ResolutionReason>,
    /// What is known so far.
    pub evidence: Vec<Evidence>,
}

/// A page of reservations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReservationList {
    /// The reservations, oldest first.
    pub reservations: Vec<Reservation>,
    /// What to send as `cursor` for the next page; null on the last one.
    #[schema(required)]
    pub next_cursor: Option<String>,
}

/// Which reservations to list: the query of `GET /v1/reservations`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListReservations {
    /// Only those in this status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(nullable = false, inline)]
    pub status: Option<ReservationStatus>,
    /// Only those taken at least so long ago: a number and `s`, `m`, `h` or `d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(nullable = false, example = "10m")]
    pub older_than: Option<String>,
    /// How many at most: 1 to 500, 50 where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(nullable = false, minimum = 1, maximum = 500)]
    pub limit: Option<u32>,
    /// Where the last page ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(nullable = false)]
    pub cursor: Option<String>,
}

impl ListReservations {
    /// How many rows to answer with at most.
    #[must_use]
    pub fn page(&self) -> u32 {
        self.limit.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX)
    }
}

/// The body of `POST /v1/reservations/{instance_id}/release`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseReservation {
    /// The status that the operator saw. If it is another one by then, nothing happens.
    pub expected_status: ReservationStatus,
    /// Why, for the audit trail.
    #[schema(min_length = 1, max_length = 500)]
    pub reason: String,
    /// Release on the operator's word, with an open leak record, instead of on proof of absence.
    #[serde(default)]
    pub r#override: bool,
}

impl ReleaseReservation {
    /// Says what is wrong with it.
    #[must_use]
    pub fn validate(&self) -> Vec<FieldError> {
        if self.reason.trim().is_empty() {
            vec![FieldError::new("#/reason", "say why; it is kept in the audit trail")]
        } else if self.reason.len() > REASON_BYTES_MAX {
            vec![FieldError::new("#/reason", format!("takes at most {REASON_BYTES_MAX} bytes"))]
        } else {
            Vec::new()
        }
    }
}

/// The answer to a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReleasedReservation {
    /// The status it had.
    pub previous_status: ReservationStatus,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_reservation_has_the_contracts_members() {
        let wire = json!({
            "instance_id": "01990000-0000-7000-8000-000000000001", "owner": "org:acme", "assigned_user": "bob",
            "status": "failed_requires_reconciliation", "epoch": 3,
            "operation_id": "01990000-0000-7000-8000-000000000002", "work_started": true,
            "started_at": "2026-11-23T10:00:00Z", "updated_at": "2026-11-23T10:02:00Z", "completed_at": null,
            "failure_code": "deadline_exceeded", "resolution_reason": null,
            "evidence": [{"kind": "sealed", "at": "2026-11-23T10:02:00Z", "detail": "the app is deleted"}],
        });
        let reservation: Reservation = serde_json::from_value(wire.clone()).unwrap();
        assert_eq!(serde_json::to_value(&reservation).unwrap(), wire);
    }

    #[test]
    fn a_release_proves_absence_unless_told_otherwise() {
        let body: ReleaseReservation =
            serde_json::from_value(json!({"expected_status": "in_progress", "reason": "stuck"})).unwrap();
        assert!(!body.r#override);
        assert_eq!(body.validate(), []);
        let silent = ReleaseReservation { reason: "  ".into(), r#override: true, ..body };
        assert_eq!(silent.validate()[0].pointer, "#/reason");
        assert_eq!(serde_json::to_value(&silent).unwrap()["override"], true);
    }
}
