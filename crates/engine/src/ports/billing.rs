//! Who may have what at which price, and who pays from when to when. Always treated as remote: every call may have
//! happened without an answer, and every call is idempotent by instance.

use async_trait::async_trait;
use freehold_domain::ids::{InstanceId, SubscriptionId};
use freehold_domain::lease::{PriceVersion, TierName};
use freehold_domain::owner::Context;
use freehold_domain::resource::Outcome;

/// What a context may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entitlement {
    /// How large.
    pub tier: TierName,
    /// At which price.
    pub price_version: PriceVersion,
}

/// Why a context may not have what it asked for. Nothing was taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntitlementRefused {
    /// There is no such tier.
    #[error("tier `{0}` is not offered")]
    TierNotOffered(String),
    /// The plan does not go so far.
    #[error("the plan allows up to tier `{allowed}`, not `{requested}`")]
    TierExceedsEntitlement {
        /// What was asked for.
        requested: TierName,
        /// The most there is.
        allowed: TierName,
    },
    /// Billing says no, in words for the user.
    #[error("{0}")]
    Denied(String),
    /// Billing says nothing, or something that makes no sense.
    #[error("billing gave no answer to rely on: {0}")]
    Unavailable(String),
}

/// A subscription as billing has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionTerms {
    /// Its id.
    pub id: SubscriptionId,
    /// The plan's name.
    pub plan: String,
    /// The price.
    pub price_version: PriceVersion,
}

/// The billing service.
#[async_trait]
pub trait Billing: Send + Sync {
    /// Resolves what a context may have, before anything is taken. `requested` is the tier it asks for, if it does.
    async fn entitlement(
        &self,
        context: &Context,
        requested: Option<&TierName>,
    ) -> Result<Entitlement, EntitlementRefused>;

    /// Starts the subscription of an instance, or finds it started. `proposed` is the id to use where billing mints
    /// none.
    async fn start(
        &self,
        instance: InstanceId,
        context: &Context,
        expected: &PriceVersion,
        proposed: SubscriptionId,
    ) -> Outcome<SubscriptionTerms>;

    /// Ends it, or finds it ended. What was ended once never starts again, however late a start arrives: the service
    /// keeps to that.
    async fn end(&self, instance: InstanceId, reason: &str) -> Outcome<()>;

    /// What the configuration says a subscription is that is started without the service, to be reported later; `None`
    /// where it may not be.
    fn fallback(&self, expected: &PriceVersion, proposed: SubscriptionId) -> Option<SubscriptionTerms> {
        let _ = (expected, proposed);
        None
    }
}
