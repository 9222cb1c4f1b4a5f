//! Health: whether the server is alive, and whether it can do its work.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Whether things are well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// They are.
    Ok,
    /// They are not; the answer's status is 503.
    Unavailable,
}

/// One thing that must be well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HealthCheck {
    /// Which.
    #[schema(example = "store")]
    pub name: String,
    /// Whether it is.
    pub ok: bool,
    /// What was seen.
    pub detail: String,
}

/// The answer of `/healthz` and `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// The sum of it.
    pub status: HealthStatus,
    /// The single checks, where `verbose` asks for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<HealthCheck>,
}
