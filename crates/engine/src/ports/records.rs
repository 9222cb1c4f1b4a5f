//! The canonical records: what exists and who pays. Possibly another database than the registry, possibly down. Every
//! write is idempotent and answers with what the records say afterwards.

use async_trait::async_trait;
use freehold_domain::ids::InstanceId;
use freehold_domain::owner::Context;
use freehold_domain::records::{InstanceRow, RecordsView, Subscription};
use freehold_domain::time::Timestamp;

/// Records that could not be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordsError {
    /// Surely nothing was written, and trying again will not help.
    #[error("the records refused: {0}")]
    Refused(String),
    /// Something may have been written.
    #[error("the records are unavailable: {0}")]
    Unavailable(String),
}

/// The canonical records.
#[async_trait]
pub trait Records: Send + Sync {
    /// What they say of an instance.
    async fn describe(&self, instance: InstanceId) -> Result<RecordsView, RecordsError>;

    /// The instances of a context whose rows are active, oldest first.
    async fn active_in(&self, context: &Context) -> Result<Vec<RecordsView>, RecordsError>;

    /// Writes the canonical row, unless it is there.
    async fn insert(&self, row: InstanceRow) -> Result<RecordsView, RecordsError>;

    /// Writes the subscription, unless the instance has one.
    async fn subscription_put(&self, subscription: Subscription) -> Result<RecordsView, RecordsError>;

    /// Ends the subscription, if there is one that runs.
    async fn subscription_end(&self, instance: InstanceId, at: Timestamp) -> Result<RecordsView, RecordsError>;

    /// Marks the row destroyed, if there is one that is not.
    async fn mark_destroyed(&self, instance: InstanceId, at: Timestamp) -> Result<RecordsView, RecordsError>;
}
