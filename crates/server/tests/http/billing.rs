//! Billing that does what a test says, and is the local one otherwise.

use std::sync::Arc;

use async_trait::async_trait;
use freehold_domain::ids::{InstanceId, SubscriptionId};
use freehold_domain::lease::{PriceVersion, TierName};
use freehold_domain::owner::Context;
use freehold_domain::resource::{Outcome, Rejection, RejectionClass};
use freehold_engine::local_billing::LocalBilling;
use freehold_engine::ports::{Billing, Entitlement, EntitlementRefused, SubscriptionTerms};
use tokio::sync::watch;

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Well,
    /// Nobody may have anything.
    Denies,
    /// It cannot be asked.
    Away,
    /// It begins to start a subscription and says nothing until it is well.
    Slow,
}

pub(crate) struct MoodyBilling {
    pub(crate) local: LocalBilling,
    pub(crate) mood: Arc<watch::Sender<Mood>>,
}

#[async_trait]
impl Billing for MoodyBilling {
    async fn entitlement(
        &self,
        context: &Context,
        requested: Option<&TierName>,
    ) -> Result<Entitlement, EntitlementRefused> {
        match *self.mood.borrow() {
            Mood::Denies => return Err(EntitlementRefused::Denied("the bill is not paid".to_owned())),
            Mood::Away => return Err(EntitlementRefused::Unavailable("connection refused".to_owned())),
            Mood::Well | Mood::Slow => {}
        }
        self.local.entitlement(context, requested).await
    }

    async fn start(
        &self,
        instance: InstanceId,
        context: &Context,
        expected: &PriceVersion,
        proposed: SubscriptionId,
    ) -> Outcome<SubscriptionTerms> {
        let _ = self.mood.subscribe().wait_for(|mood| *mood != Mood::Slow).await;
        self.local.start(instance, context, expected, proposed).await
    }

    async fn end(&self, instance: InstanceId, reason: &str) -> Outcome<()> {
        if *self.mood.borrow() == Mood::Denies {
            let detail = "the key is not known here".to_owned();
            return Outcome::Rejected(Rejection { class: RejectionClass::Unauthorized, detail });
        }
        self.local.end(instance, reason).await
    }
}
