//! A registry that went back in time.
//!
//! A registry that comes from a backup does not know what was made, destroyed or promised after it. Until somebody has
//! compared it with the providers it is in quarantine: nothing is admitted, nothing is claimed, nothing is changed at a
//! provider. Routes and reads go on.

use async_trait::async_trait;
use freehold_domain::time::Timestamp;

use super::StoreError;

/// Why and since when nothing is changed at providers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// Why, in words.
    pub why: String,
    /// Since when.
    pub since: Timestamp,
}

/// The quarantine of a registry.
#[async_trait]
pub trait Quarantine: Send + Sync {
    /// Whether the registry is in quarantine.
    async fn quarantine(&self) -> Result<Option<Quarantined>, StoreError>;

    /// Puts it in quarantine. If it is already, the first reason stays.
    async fn quarantine_begin(&self, why: &str) -> Result<Quarantined, StoreError>;

    /// Ends the quarantine: raises the epoch of everything that is not released, or that an operation works on, by `raise`
    /// (see [`freehold_domain::run::raised`]), so that no lease that was given after the backup means anything, takes
    /// every holder away, rings every timer and every check, has every owner asked for again in the records, and lifts the
    /// quarantine last. Safe to repeat after a failure. Answers how many instances were raised; 0 where there is no
    /// quarantine, and nothing was written then.
    async fn quarantine_end(&self, raise: u64) -> Result<u64, StoreError>;

    /// When the last quarantine was over; `None` while there is one, and where there never was.
    async fn quarantine_over(&self) -> Result<Option<Timestamp>, StoreError>;

    /// How far the registry is: the last position of its audit trail. It only grows, except where the registry went back
    /// in time. The end of a quarantine leaves it far beyond every position that can have been given after the backup.
    async fn high_water(&self) -> Result<u64, StoreError>;
}
