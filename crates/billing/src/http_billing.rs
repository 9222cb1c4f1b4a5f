//! The port over the wire: what is asked, and what is made of the answers.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freehold_api::webhook::Secrets;
use freehold_domain::ids::{InstanceId, SubscriptionId};
use freehold_domain::lease::{PriceVersion, TierName};
use freehold_domain::owner::Context;
use freehold_domain::resource::{Outcome, Rejection, RejectionClass};
use freehold_engine::local_billing::LocalBilling;
use freehold_engine::ports::{Billing, Clock, Entitlement, EntitlementRefused, Entropy, SubscriptionTerms};
use serde::{Deserialize, Serialize};

use crate::outcome::{Meaning, meaning};
use crate::wire::{Answer, Trouble, Wire};

const RESOLVE: &str = "entitlement.resolve";
const START: &str = "subscription.start";
const END: &str = "subscription.end";

/// The longest message of billing that is passed on to a user, in characters.
const MESSAGE_CHARS_MAX: usize = 300;

/// The longest name of a subscription or a plan that is taken from billing, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// What an HTTP billing is made of.
#[derive(Clone, Debug)]
pub struct HttpBillingOptions {
    /// Where messages go.
    pub url: String,
    /// What they are signed with.
    pub secrets: Secrets,
    /// How long an answer may take.
    pub timeout: Duration,
    /// What the configuration offers: billing may say nothing else.
    pub plans: LocalBilling,
    /// Whether a subscription may be started by the configuration alone while billing does not answer.
    pub falls_back: bool,
}

/// Options that nothing can be made of. The text holds neither secret nor address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(String);

/// A billing service behind HTTP.
pub struct HttpBilling {
    wire: Wire,
    plans: LocalBilling,
    falls_back: bool,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl std::fmt::Debug for HttpBilling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpBilling").field("falls_back", &self.falls_back).finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Resolve<'a> {
    owner: String,
    assigned_user: &'a str,
    requested_tier: Option<&'a str>,
}

#[derive(Deserialize)]
struct Resolved {
    price_version: String,
    tier: String,
}

#[derive(Deserialize)]
struct Denied {
    message: String,
}

#[derive(Serialize)]
struct Start<'a> {
    instance_id: String,
    owner: String,
    assigned_user: &'a str,
    expected_price_version: &'a str,
}

#[derive(Deserialize)]
struct Started {
    subscription_id: String,
    status: String,
    plan: String,
    price_version: String,
}

#[derive(Serialize)]
struct End<'a> {
    instance_id: String,
    reason: &'a str,
}

impl HttpBilling {
    /// Ready to ask; nothing is asked yet.
    ///
    /// # Errors
    /// [`Unusable`].
    pub fn new(
        options: HttpBillingOptions,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, Unusable> {
        let HttpBillingOptions { url, secrets, timeout, plans, falls_back } = options;
        let wire = Wire::new(&url, secrets, timeout).map_err(Unusable)?;
        Ok(Self { wire, plans, falls_back, clock, entropy })
    }

    async fn send<T: Serialize + Sync>(&self, what: &'static str, id: &str, data: &T) -> Result<Answer, Trouble> {
        let now = self.clock.now().as_micros().div_euclid(1_000_000);
        self.wire.send(what, id, data, now).await
    }

    /// An id for what may be asked any number of times.
    fn fresh_id(&self) -> String {
        let mut chance = [0; 16];
        self.entropy.fill(&mut chance);
        format!("resolve_{}", hex(&chance))
    }

    fn started(&self, expected: &PriceVersion, started: Option<Started>) -> Outcome<SubscriptionTerms> {
        let Some(Started { subscription_id, status, plan, price_version }) = started.filter(Started::is_named) else {
            return Outcome::Unknown("billing's answer to subscription.start makes no sense".to_owned());
        };
        match status.as_str() {
            "active" => {}
            "suspended" | "ended" => {
                return refused(RejectionClass::Invalid, format!("billing has the subscription as {status}"));
            }
            _ => {
                let why = "billing's subscription is neither active, nor suspended, nor ended";
                return Outcome::Unknown(why.to_owned());
            }
        }
        if price_version != expected.as_str() {
            let detail = format!("billing's price version is not the one that was agreed, `{expected}`");
            return refused(RejectionClass::Invalid, detail);
        }
        Outcome::Done(SubscriptionTerms { id: id_of(&subscription_id), plan, price_version: expected.clone() })
    }

    fn entitled(
        &self,
        resolved: Option<Resolved>,
        requested: Option<&TierName>,
    ) -> Result<Entitlement, EntitlementRefused> {
        let nonsense = |why: &str| EntitlementRefused::Unavailable(why.to_owned());
        let Resolved { price_version, tier } = resolved.ok_or_else(|| nonsense("its answer makes no sense"))?;
        let unnamed = || nonsense("its price version or its tier is no name");
        let price_version: PriceVersion = price_version.parse().map_err(|_| unnamed())?;
        let tier: TierName = tier.parse().map_err(|_| unnamed())?;
        // An unknown price version is told by `entitled` below.
        if let Some(ours) = self.plans.price_versions.get(&price_version).filter(|ours| **ours != tier) {
            let why =
                format!("it says tier `{tier}` for price version `{price_version}`, and the configuration `{ours}`");
            return Err(EntitlementRefused::Unavailable(why));
        }
        self.plans.entitled(&price_version, requested)
    }
}

impl Started {
    fn is_named(&self) -> bool {
        [&self.subscription_id, &self.plan]
            .into_iter()
            .all(|name| (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control))
    }
}

#[async_trait]
impl Billing for HttpBilling {
    async fn entitlement(
        &self,
        context: &Context,
        requested: Option<&TierName>,
    ) -> Result<Entitlement, EntitlementRefused> {
        let data = Resolve {
            owner: context.owner().to_string(),
            assigned_user: context.assigned_user().as_str(),
            requested_tier: requested.map(TierName::as_str),
        };
        let answer = self
            .send(RESOLVE, &self.fresh_id(), &data)
            .await
            .map_err(|trouble| EntitlementRefused::Unavailable(trouble.into_words()))?;
        if answer.status == 403
            && let Some(Denied { message }) = answer.read()
        {
            return Err(EntitlementRefused::Denied(for_users(&message)));
        }
        match meaning(answer.status) {
            Meaning::Done => self.entitled(answer.read(), requested),
            Meaning::Refused(_) | Meaning::NotNow | Meaning::Unknown => {
                Err(EntitlementRefused::Unavailable(format!("it answered {}", answer.status)))
            }
        }
    }

    async fn start(
        &self,
        instance: InstanceId,
        context: &Context,
        expected: &PriceVersion,
        _: SubscriptionId,
    ) -> Outcome<SubscriptionTerms> {
        let data = Start {
            instance_id: instance.to_string(),
            owner: context.owner().to_string(),
            assigned_user: context.assigned_user().as_str(),
            expected_price_version: expected.as_str(),
        };
        let answer = self.send(START, &format!("start_{}", instance.simple()), &data).await;
        outcome(START, answer, |answer| self.started(expected, answer.read()))
    }

    async fn end(&self, instance: InstanceId, reason: &str) -> Outcome<()> {
        let data = End { instance_id: instance.to_string(), reason };
        let answer = self.send(END, &format!("end_{}", instance.simple()), &data).await;
        outcome(END, answer, |answer| {
            // A page that something on the way made up is no word of billing's.
            if answer.is_empty() || answer.read::<serde_json::Value>().is_some() {
                Outcome::Done(())
            } else {
                Outcome::Unknown("billing's answer to subscription.end makes no sense".to_owned())
            }
        })
    }

    fn fallback(&self, expected: &PriceVersion, proposed: SubscriptionId) -> Option<SubscriptionTerms> {
        self.falls_back.then(|| self.plans.terms(expected, proposed)).flatten()
    }
}

/// What came of a call that may have changed something.
fn outcome<T>(
    what: &'static str,
    answer: Result<Answer, Trouble>,
    done: impl FnOnce(&Answer) -> Outcome<T>,
) -> Outcome<T> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(Trouble::NotSent(why)) => return Outcome::NotSent(format!("billing: {why}")),
        Err(Trouble::Lost(why)) => return Outcome::Unknown(format!("billing: {why}")),
    };
    let status = answer.status;
    match meaning(status) {
        Meaning::Done => done(&answer),
        Meaning::Refused(class) => refused(class, format!("billing refused {what} with {status}")),
        Meaning::NotNow => Outcome::NotSent(format!("billing put {what} off with {status}")),
        Meaning::Unknown => Outcome::Unknown(format!("billing answered {what} with {status}")),
    }
}

fn refused<T>(class: RejectionClass, detail: String) -> Outcome<T> {
    Outcome::Rejected(Rejection { class, detail })
}

/// Billing's words, fit to be shown.
fn for_users(message: &str) -> String {
    let shown: String = message.chars().filter(|letter| !letter.is_control()).take(MESSAGE_CHARS_MAX).collect();
    let shown = shown.trim();
    if shown.is_empty() { "billing does not allow it, and gives no reason".to_owned() } else { shown.to_owned() }
}

/// The id of a subscription that billing has under this name: the name itself if it is a UUID, else one that is made of
/// its SHA-256, so that the same subscription has the same id in every answer.
fn id_of(name: &str) -> SubscriptionId {
    name.parse().unwrap_or_else(|_| {
        let digest = ring::digest::digest(&ring::digest::SHA256, name.as_bytes());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest.as_ref()[..16]);
        SubscriptionId::derived(bytes)
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_taken_as_it_is_and_another_name_has_one_id_for_ever() {
        let four = "123e4567-e89b-42d3-a456-426614174000";
        assert_eq!(id_of(four).to_string(), four);
        assert_eq!(id_of("sub_123").to_string(), "a5931fa2-41a4-86c8-8f46-b8a9c7f41992");
        assert_ne!(id_of("sub_123"), id_of("sub_124"));
    }

    #[test]
    fn what_billing_says_to_users_is_short_and_plain() {
        assert_eq!(for_users("pay\n first\u{7}"), "pay first");
        assert_eq!(for_users(&"x".repeat(1_000)).len(), MESSAGE_CHARS_MAX);
        assert!(for_users(" \n").contains("no reason"));
    }
}
