//! The audit trail: one event per transition, chained by hash within a context.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{PAGE_DEFAULT, PAGE_MAX};

/// One event. On `GET /v1/events` the event's `id` is the cursor behind it, its name the `kind`, its data this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEvent {
    /// Its cursor: `after` and `Last-Event-ID` take it. Opaque, and later events sort behind it.
    pub id: String,
    /// When.
    pub at: Timestamp,
    /// What happened.
    #[schema(example = "instance.provision_reservation_started")]
    pub kind: String,
    /// Whose instance.
    #[schema(example = "user:alice")]
    pub owner: String,
    /// For whom it is.
    pub assigned_user: String,
    /// Its number in its context, from 1. The hash covers it.
    pub context_seq: u64,
    /// Which instance.
    pub instance_id: Uuid,
    /// In which operation.
    #[schema(required)]
    pub operation_id: Option<Uuid>,
    /// Under which epoch.
    pub epoch: u64,
    /// The reservation's status from then on.
    pub status: String,
    /// Who made it happen: `platform`, `operator`, `user` or `system`.
    #[schema(example = "platform")]
    pub actor: String,
    /// The rest, for people.
    pub detail: String,
    /// The hash of the event before it in the same context; null for the first one. Hexadecimal SHA-256.
    #[schema(required)]
    pub previous_hash: Option<String>,
    /// The hash over this event and the one before it. Hexadecimal SHA-256.
    pub hash: String,
}

/// A page of events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditPage {
    /// The events, in the order of their commits.
    pub events: Vec<AuditEvent>,
    /// What to send as `after` for the next page; null if there is none yet.
    #[schema(required)]
    pub next_cursor: Option<String>,
}

/// Which events to list: the query of `GET /v1/audit`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListAudit {
    /// Only events behind this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(nullable = false)]
    pub after: Option<String>,
    /// Only events of this instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(nullable = false)]
    pub instance_id: Option<Uuid>,
    /// How many at most: 1 to 500, 50 where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(nullable = false, minimum = 1, maximum = 500)]
    pub limit: Option<u32>,
}

impl ListAudit {
    /// How many rows to answer with at most.
    #[must_use]
    pub fn page(&self) -> u32 {
        self.limit.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX)
    }
}
