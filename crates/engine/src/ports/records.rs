//! The canonical records: what exists and who pays. Possibly another database than the registry, possibly down, possibly
//! restored from an old backup.
//!
//! - Every write is idempotent, answers with what the records say afterwards, and is in the change log in the same
//!   commit, if it changed anything.
//! - No row is ever deleted. What is closed stays closed: a row that arrives after [`Records::mark_destroyed`] is refused,
//!   also where there was none to mark.

use async_trait::async_trait;
use freehold_domain::event::Actor;
use freehold_domain::ids::{InstanceId, OperationId};
use freehold_domain::owner::{Context, Owner};
use freehold_domain::records::{InstanceRow, RecordsView, Subscription, SubscriptionStatus};
use freehold_domain::time::Timestamp;

use super::billing::SubscriptionTerms;

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

/// Who changes something, and why: for the change log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Because {
    /// Who.
    pub actor: Actor,
    /// In the course of which operation, where there is one.
    pub operation: Option<OperationId>,
    /// Why, in words; no secrets.
    pub reason: String,
}

impl Because {
    /// Freehold itself, in the course of an operation.
    #[must_use]
    pub fn of(operation: OperationId, reason: impl Into<String>) -> Self {
        Self { actor: Actor::System, operation: Some(operation), reason: reason.into() }
    }
}

/// One line of the change log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordChange {
    /// Which instance.
    pub instance: InstanceId,
    /// What was done: `instance_inserted`, `instance_destroyed`, `instance_closed`, `subscription_started`,
    /// `subscription_reported`, `subscription_suspended`, `subscription_resumed`, `subscription_ended`,
    /// `owner_anonymized`.
    pub action: String,
    /// Who, in the course of what, and why.
    pub because: Because,
    /// What was on record before, as JSON; `None` for nothing.
    pub before: Option<String>,
    /// What is on record since, as JSON.
    pub after: Option<String>,
    /// When, by the records' own clock.
    pub at: Timestamp,
}

/// The canonical records.
#[async_trait]
pub trait Records: Send + Sync {
    /// What they say of an instance.
    async fn describe(&self, instance: InstanceId) -> Result<RecordsView, RecordsError>;

    /// The instances of a context whose rows are active, oldest first.
    async fn active_in(&self, context: &Context) -> Result<Vec<RecordsView>, RecordsError>;

    /// The instances of an owner whose rows are active, oldest first, at most `limit`.
    async fn active_of(&self, owner: &Owner, limit: usize) -> Result<Vec<RecordsView>, RecordsError>;

    /// Instances whose rows are active, in the order of their ids, behind `after`, at most `limit`.
    async fn active_after(&self, after: Option<InstanceId>, limit: usize) -> Result<Vec<RecordsView>, RecordsError>;

    /// Writes the canonical row, unless it is there. Refused for what is closed.
    async fn insert(&self, row: InstanceRow, because: &Because) -> Result<RecordsView, RecordsError>;

    /// Writes the subscription, unless the instance has one. Refused without an active row.
    async fn subscription_put(
        &self,
        subscription: Subscription,
        because: &Because,
    ) -> Result<RecordsView, RecordsError>;

    /// Suspends a subscription that runs, or resumes one that is suspended; one that ended stays so.
    async fn subscription_turn(
        &self,
        instance: InstanceId,
        to: SubscriptionStatus,
        because: &Because,
    ) -> Result<RecordsView, RecordsError>;

    /// Ends the subscription, if there is one that has not ended.
    async fn subscription_end(
        &self,
        instance: InstanceId,
        at: Timestamp,
        because: &Because,
    ) -> Result<RecordsView, RecordsError>;

    /// Subscriptions that were started without billing, and that billing has not heard of, at most `limit`.
    async fn unreported(&self, limit: usize) -> Result<Vec<RecordsView>, RecordsError>;

    /// Billing has heard of one, and has it under these terms.
    async fn subscription_reported(
        &self,
        instance: InstanceId,
        terms: SubscriptionTerms,
        because: &Because,
    ) -> Result<RecordsView, RecordsError>;

    /// Closes the instance: marks its row destroyed, if there is one that is not, and refuses any that comes later.
    async fn mark_destroyed(
        &self,
        instance: InstanceId,
        at: Timestamp,
        because: &Because,
    ) -> Result<RecordsView, RecordsError>;

    /// The change log of an instance, oldest first, at most `limit`.
    async fn changes(&self, instance: InstanceId, limit: usize) -> Result<Vec<RecordChange>, RecordsError>;

    /// Puts a pseudonym in the place of an owner, in rows and change log alike. Refused while a row of it is active.
    /// Answers how many rows that were.
    async fn anonymize(&self, owner: &Owner, pseudonym: &Owner, because: &Because) -> Result<u64, RecordsError>;
}
