//! Owners: what the registry knows of one.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::reservations::Reservation;

/// An instance in the registry of its owner. With `destroyed_at` set it is a tombstone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Entry {
    /// The instance.
    pub instance_id: Uuid,
    /// For whom it is.
    pub assigned_user: String,
    /// When it was published.
    pub created_at: Timestamp,
    /// When it was destroyed.
    #[schema(required)]
    pub destroyed_at: Option<Timestamp>,
}

/// The registry of one owner, tombstones included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Owner {
    /// Who.
    #[schema(example = "user:alice")]
    pub owner: String,
    /// The instances that are or were routable.
    pub entries: Vec<Entry>,
    /// The reservations.
    pub reservations: Vec<Reservation>,
    /// Whether the records were read into the registry when the owner was first seen.
    pub backfilled: bool,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_owner_has_the_contracts_members() {
        let wire = json!({
            "owner": "user:alice",
            "entries": [{"instance_id": "01990000-0000-7000-8000-000000000001", "assigned_user": "alice",
                         "created_at": "2026-11-23T10:00:00Z", "destroyed_at": "2026-11-23T11:00:00Z"}],
            "reservations": [],
            "backfilled": true,
        });
        let owner: Owner = serde_json::from_value(wire.clone()).unwrap();
        assert_eq!(serde_json::to_value(&owner).unwrap(), wire);
    }
}

/// An owner that was forgotten.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Anonymized {
    /// What stands in its place.
    pub pseudonym: String,
    /// How many instances were its.
    pub instances: u64,
}
