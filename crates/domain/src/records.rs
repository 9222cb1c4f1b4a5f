//! What the records say: canonical instance rows and subscriptions. Rows are never deleted.
//!
//! The records may be another database than the registry, so no transaction is assumed to span both: the registry acts
//! on what it read here ([`CanonicalSuccess`] is the proof that it read enough), and every write here is idempotent.

use crate::ids::{InstanceId, SubscriptionId};
use crate::lease::{PriceVersion, ProviderName, TierName};
use crate::owner::Context;
use crate::time::Timestamp;

/// The canonical row of an instance: infrastructure exists before it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceRow {
    /// The instance.
    pub instance: InstanceId,
    /// Whose it is.
    pub context: Context,
    /// Where it runs.
    pub provider: ProviderName,
    /// How large it is.
    pub tier: TierName,
    /// When the row was written.
    pub created_at: Timestamp,
    /// When it was marked destroyed. Set once, never cleared.
    pub destroyed_at: Option<Timestamp>,
}

/// Whether a subscription is paid for at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SubscriptionStatus {
    /// Running.
    Active,
    /// Not paid for at the moment: the instance is kept, and is not to run.
    Suspended,
    /// Over, for ever.
    Ended,
}

impl SubscriptionStatus {
    /// Every status.
    pub const ALL: [Self; 3] = [Self::Active, Self::Suspended, Self::Ended];

    /// The status's name on the wire and in the store.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Ended => "ended",
        }
    }
}

/// What is paid for an instance. At most one per instance, ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Its id.
    pub id: SubscriptionId,
    /// What it is for.
    pub instance: InstanceId,
    /// Whether it runs.
    pub status: SubscriptionStatus,
    /// The plan's name: the tier it pays for.
    pub plan: String,
    /// The price that was agreed.
    pub price_version: PriceVersion,
    /// When it started.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Whether billing knows of it. One that was started without billing is reported later.
    pub reported: bool,
}

/// Everything the records say of one instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordsView {
    /// Its canonical row.
    pub row: Option<InstanceRow>,
    /// Its subscription.
    pub subscription: Option<Subscription>,
    /// Whether it is closed: no row of it will ever be active again, whoever writes how late.
    pub closed: bool,
}

impl RecordsView {
    /// Whether there is a row that is not marked destroyed.
    #[must_use]
    pub fn row_is_active(&self) -> bool {
        self.row.as_ref().is_some_and(|row| row.destroyed_at.is_none())
    }

    /// Whether there is a subscription that has not ended. A suspended one stands: the instance is kept.
    #[must_use]
    pub fn subscription_is_active(&self) -> bool {
        self.subscription.as_ref().is_some_and(|subscription| match subscription.status {
            SubscriptionStatus::Active | SubscriptionStatus::Suspended => true,
            SubscriptionStatus::Ended => false,
        })
    }

    /// Whether the instance is not to run, because nobody pays at the moment.
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        self.subscription.as_ref().is_some_and(|subscription| subscription.status == SubscriptionStatus::Suspended)
    }
}

/// Proof of canonical success: an active row with an active subscription. Stronger than a provider's error, weaker than
/// a tombstone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CanonicalSuccess {
    instance: InstanceId,
}

impl CanonicalSuccess {
    /// The proof, if the records hold it.
    #[must_use]
    pub fn establish(view: &RecordsView) -> Option<Self> {
        let row = view.row.as_ref().filter(|_| view.row_is_active())?;
        let subscription = view.subscription.as_ref().filter(|_| view.subscription_is_active())?;
        (row.instance == subscription.instance).then_some(Self { instance: row.instance })
    }

    /// What was proven to exist.
    #[must_use]
    pub fn instance(&self) -> InstanceId {
        self.instance
    }
}
