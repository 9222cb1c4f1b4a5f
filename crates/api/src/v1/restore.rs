//! A registry that comes from a backup: where it stands, what the providers show of it, and the way out.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// Where the registry stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RestoreStatus {
    /// Whether it is in quarantine: nothing is admitted, and nothing is changed at a provider.
    pub quarantined: bool,
    /// Why.
    #[schema(required)]
    pub why: Option<String>,
    /// Since when.
    #[schema(required)]
    pub since: Option<Timestamp>,
    /// When the last quarantine was over.
    #[schema(required)]
    pub over_at: Option<Timestamp>,
    /// How far its audit trail is.
    pub position: u64,
    /// What the providers show; null where they were not asked.
    #[schema(required)]
    pub comparison: Option<Comparison>,
}

/// What registry and providers say of one another. Lists are cut off at a thousand; the counts are whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Comparison {
    /// Each provider of the configuration.
    pub providers: Vec<ProviderLook>,
    /// Of this installation, and not known to the registry. It is never touched.
    pub unknown: Vec<ShownResource>,
    /// How many of them there are.
    pub unknown_count: u64,
    /// Of an instance that the registry says is over. It is removed an hour after the quarantine.
    pub unreferenced: Vec<ShownResource>,
    /// How many of them there are.
    pub unreferenced_count: u64,
    /// On record, and shown by no provider.
    pub missing: Vec<MissingInstance>,
    /// How many of them there are.
    pub missing_count: u64,
    /// How many resources carry this installation's name and are not its own.
    pub foreign_count: u64,
}

/// What one provider answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProviderLook {
    /// Which.
    #[schema(example = "local")]
    pub provider: String,
    /// Whether it showed everything.
    pub complete: bool,
    /// Why not.
    #[schema(required)]
    pub detail: Option<String>,
    /// How many resources of this installation it showed.
    pub resources: u64,
}

/// A resource at a provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShownResource {
    /// Where it is.
    #[schema(example = "local")]
    pub provider: String,
    /// `base`, `storage` or `runtime`.
    #[schema(example = "runtime")]
    pub kind: String,
    /// The provider's id of it.
    pub id: String,
    /// The instance, by its name or its tags.
    pub instance_id: Uuid,
}

/// An instance of which no provider shows anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MissingInstance {
    /// Which.
    pub instance_id: Uuid,
    /// Whose.
    #[schema(example = "user:alice")]
    pub owner: String,
    /// For whom.
    #[schema(example = "alice")]
    pub assigned_user: String,
    /// Where it was to be.
    #[schema(example = "local")]
    pub provider: String,
    /// Its reservation's status.
    #[schema(example = "completed")]
    pub status: String,
}

/// The body of `POST /v1/restore/confirm`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfirmRestore {
    /// Whether to go on although a provider does not show everything.
    #[serde(default)]
    pub incomplete: bool,
}

/// The answer to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RestoreConfirmed {
    /// How many instances were taken on again, under epochs that nobody can have.
    pub raised: u64,
    /// What the providers showed before it.
    pub comparison: Comparison,
}
