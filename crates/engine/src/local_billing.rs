//! Billing without a billing service: everybody may have what the configuration offers, at the price version it names.

use async_trait::async_trait;
use std::collections::BTreeMap;

use freehold_domain::ids::{InstanceId, SubscriptionId};
use freehold_domain::lease::{PriceVersion, TierName};
use freehold_domain::owner::Context;
use freehold_domain::resource::{Outcome, Rejection, RejectionClass};

use crate::ports::{Billing, Entitlement, EntitlementRefused, SubscriptionTerms};

/// What the configuration offers.
#[derive(Clone, Debug)]
pub struct LocalBilling {
    /// The price version of new subscriptions: a key of `price_versions`.
    pub price_version: PriceVersion,
    /// The tier that a plan of each price version reaches up to.
    pub price_versions: BTreeMap<PriceVersion, TierName>,
    /// Each tier's place in the order.
    pub ranks: BTreeMap<TierName, u32>,
}

impl LocalBilling {
    /// What a plan of this price version gives whom asked for `requested`, or for nothing in particular.
    ///
    /// # Errors
    /// [`EntitlementRefused`]; an unknown price version is [`EntitlementRefused::Unavailable`], because it says nothing.
    pub fn entitled(
        &self,
        price_version: &PriceVersion,
        requested: Option<&TierName>,
    ) -> Result<Entitlement, EntitlementRefused> {
        let allowed = self.price_versions.get(price_version).ok_or_else(|| {
            EntitlementRefused::Unavailable(format!("price version `{price_version}` is not configured"))
        })?;
        let tier = requested.unwrap_or(allowed);
        let rank = |tier: &TierName| {
            self.ranks.get(tier).copied().ok_or_else(|| EntitlementRefused::TierNotOffered(tier.to_string()))
        };
        if rank(tier)? > rank(allowed)? {
            return Err(EntitlementRefused::TierExceedsEntitlement {
                requested: tier.clone(),
                allowed: allowed.clone(),
            });
        }
        Ok(Entitlement { tier: tier.clone(), price_version: price_version.clone() })
    }

    /// What a subscription at this price is, by the configuration alone; `None` where it does not know the price.
    #[must_use]
    pub fn terms(&self, price_version: &PriceVersion, id: SubscriptionId) -> Option<SubscriptionTerms> {
        let tier = self.price_versions.get(price_version)?;
        Some(SubscriptionTerms { id, plan: tier.to_string(), price_version: price_version.clone() })
    }
}

#[async_trait]
impl Billing for LocalBilling {
    async fn entitlement(&self, _: &Context, requested: Option<&TierName>) -> Result<Entitlement, EntitlementRefused> {
        self.entitled(&self.price_version, requested)
    }

    async fn start(
        &self,
        _: InstanceId,
        _: &Context,
        expected: &PriceVersion,
        proposed: SubscriptionId,
    ) -> Outcome<SubscriptionTerms> {
        match self.terms(expected, proposed) {
            Some(terms) => Outcome::Done(terms),
            None => Outcome::Rejected(Rejection {
                class: RejectionClass::Invalid,
                detail: format!("price version `{expected}` is not configured"),
            }),
        }
    }

    async fn end(&self, _: InstanceId, _: &str) -> Outcome<()> {
        Outcome::Done(())
    }
}
