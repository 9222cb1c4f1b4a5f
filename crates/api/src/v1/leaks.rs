//! Leaks: resources that were given up on. They stay on record until their deletion is proven or somebody answers for
//! them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::Resource;

/// A leak.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Leak {
    /// Its id.
    pub id: Uuid,
    /// The instance it was part of.
    pub instance_id: Uuid,
    /// Where it is.
    #[schema(example = "local")]
    pub provider: String,
    /// What it is; null where an override gave up on whatever may be there.
    #[schema(required)]
    pub resource: Option<Resource>,
    /// Why it was given up on.
    pub reason: String,
    /// Since when.
    pub opened_at: Timestamp,
    /// When it was resolved.
    #[schema(required)]
    pub resolved_at: Option<Timestamp>,
    /// How.
    #[schema(required)]
    pub resolution: Option<String>,
}

/// A page of leaks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LeakList {
    /// The leaks, oldest first.
    pub leaks: Vec<Leak>,
    /// What to send as `cursor` for the next page; null on the last one.
    #[schema(required)]
    pub next_cursor: Option<String>,
}

/// The body of `POST /v1/leaks/{id}/resolve`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResolveLeak {
    /// What was done about it, for the audit trail.
    #[schema(min_length = 1, max_length = 500)]
    pub reason: String,
}
