//! What a billing service sends by itself: `POST /v1/billing/events`, signed as [`crate::webhook`] says.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Nobody pays for an instance at the moment.
pub const SUSPENDED: &str = "subscription.suspended";

/// Somebody pays for it again.
pub const RESUMED: &str = "subscription.resumed";

/// An event. Members that are not here are ignored, and so are types that nobody here knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BillingEvent {
    /// `subscription.suspended` or `subscription.resumed`.
    #[schema(example = "subscription.suspended")]
    pub r#type: String,
    /// What it is about: `{"instance_id": "…"}`.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub data: serde_json::Value,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum BillingEventTaken {
    /// It was of a known type.
    Known {
        /// Whether it changed anything.
        changed: bool,
    },
    /// It was of another type.
    Other {
        /// Always true.
        ignored: bool,
    },
}
