//! Adoption: what an older system made becomes an instance, and goes on running as it is.
//!
//! - First it is looked over, and refused with a reason where it is not one thing of nobody's.
//! - Then it is taken in with all that is at the provider on record, then tagged, then completed like everything that was
//!   taken in: its row is written, its subscription started, its route published. Until it is tagged nobody else can tell
//!   that it is ours, so nothing but the tagging touches it.
//! - Asking again goes on wherever that ended: the same name in the same context is the same instance.

use std::collections::BTreeMap;

use freehold_domain::ids::{InstanceId, OperationId};
use freehold_domain::lease::{PriceVersion, TierName};
use freehold_domain::ledger::Refusal;
use freehold_domain::reservation::{Intent, Power, Reservation};
use freehold_domain::resource::{Outcome, RejectionClass, Resource, RuntimeState};
use freehold_domain::run::{Bid, Work};

use super::{AdoptRequest, Changed, ControlPlane, WorkError};
use crate::ports::{
    Adopted, Adoption, Blueprint, ContextPeek, EntitlementRefused, Provider, Registered, StoreError, Survey, Unfit,
};
use crate::spec::Spec;

/// How often tagging is tried that was surely not done, because the thing changed in between.
const TAG_TRIES: u32 = 3;

/// What an adoption would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdoptionPlan {
    /// How large the instance counts as.
    pub tier: TierName,
    /// What is tagged and goes on record.
    pub resources: Vec<Resource>,
    /// What was found; `None` for what is adopted already, which is not looked at again.
    pub survey: Option<Survey>,
    /// The instance, where it is taken in already.
    pub instance: Option<InstanceId>,
    /// Whether nothing is left to do.
    pub is_complete: bool,
    price_version: PriceVersion,
}

/// What an adoption came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// What was done.
    pub plan: AdoptionPlan,
    /// The instance.
    pub instance: InstanceId,
    /// The operation that completes it; `None` for what is complete already.
    pub operation: Option<OperationId>,
}

/// Why something was not adopted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdoptRefused {
    /// There is no such provider.
    #[error("there is no provider `{0}`")]
    ProviderUnknown(String),
    /// It cannot be taken over as it is. Nothing was changed.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// It is adopted already, by another context.
    #[error("it is adopted already, as instance {0} of somebody else")]
    Elsewhere(InstanceId),
    /// It is adopted already, and being destroyed.
    #[error("it is adopted already, and being destroyed")]
    Destroyed(InstanceId),
    /// The context has its instance, or one is being made.
    #[error("the context is taken")]
    Conflict(Refusal),
    /// The context may not have it.
    #[error(transparent)]
    Entitlement(#[from] EntitlementRefused),
    /// It is on record, and the provider surely refuses to tag it.
    #[error("it is on record and not tagged: {detail}")]
    NotTagged {
        /// The instance on record.
        instance: InstanceId,
        /// Whether it is somebody else's by now.
        foreign: bool,
        /// What the provider says.
        detail: String,
    },
    /// It is on record, and may be tagged: asking again goes on.
    #[error("it is on record, and the provider did not say whether it is tagged: {detail}")]
    Interrupted {
        /// The instance on record.
        instance: InstanceId,
        /// What is known.
        detail: String,
    },
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ControlPlane {
    /// What adopting something would do, or why it cannot be. Nothing of it is done; an owner seen for the first time is
    /// taken in from the records.
    ///
    /// # Errors
    /// [`AdoptRefused`].
    pub async fn plan_adoption(&self, request: &AdoptRequest) -> Result<AdoptionPlan, AdoptRefused> {
        let AdoptRequest { context, provider: name, base, tier, .. } = request;
        let world = &self.world;
        let provider = world.provider(name).ok_or_else(|| AdoptRefused::ProviderUnknown(name.to_string()))?;
        self.backfill(context.owner()).await;
        let known = world.store.instance_named(name, base).await?.map(|registered| registered.reservation);
        if let Some(known) = &known {
            lawful(known, request)?;
            if known.completed_at.is_some() {
                return Ok(plan_of(known, None));
            }
        }
        let survey = provider.survey(base).await?;
        self.untagged(&survey, known.as_ref())?;
        if let Some(known) = &known {
            return Ok(plan_of(known, Some(survey)));
        }
        let limit = world.policy.instances_per_context;
        if let ContextPeek::Taken { refusal, .. } = world.store.context_peek(context, limit, None).await? {
            return Err(AdoptRefused::Conflict(refusal));
        }
        if let Some(tier) = tier.as_ref().filter(|tier| !world.policy.tiers.contains_key(tier)) {
            return Err(EntitlementRefused::TierNotOffered(tier.to_string()).into());
        }
        let entitlement = world.billing.entitlement(context, tier.as_ref()).await?;
        accepts(provider.as_ref(), &survey)?;
        Ok(AdoptionPlan {
            tier: entitlement.tier,
            resources: survey.resources.clone(),
            survey: Some(survey),
            instance: None,
            is_complete: false,
            price_version: entitlement.price_version,
        })
    }

    /// Whatever carries tags was adopted, or made, by somebody; by us it was only as the instance that is on record.
    fn untagged(&self, survey: &Survey, known: Option<&Reservation>) -> Result<(), Unfit> {
        let Some(tags) = &survey.tags else { return Ok(()) };
        let idents = &self.world.idents;
        if known.is_some_and(|known| idents.verify(tags, known.instance)) {
            return Ok(());
        }
        Err(Unfit::Refused(if tags.install == idents.install().as_str() {
            format!("it carries the tags of instance {}", tags.instance)
        } else {
            format!("it carries the tags of the installation {}", tags.install)
        }))
    }

    /// Makes an instance of what is at a provider under a name of its own. Repeating it is success.
    ///
    /// # Errors
    /// [`AdoptRefused`].
    pub async fn adopt(&self, request: AdoptRequest) -> Result<Taken, AdoptRefused> {
        let world = &self.world;
        world.standing.check()?;
        let plan = self.plan_adoption(&request).await?;
        let instance = match (plan.instance, &plan.survey) {
            (Some(instance), None) => return Ok(Taken { plan, instance, operation: None }),
            (Some(instance), Some(_)) => instance,
            (None, _) => self.intend_adoption(&request, &plan).await?,
        };
        let registered = world.store.instance_describe(instance).await?;
        let registered = registered.ok_or(StoreError::Missing("instance"))?;
        lawful(&registered.reservation, &request)?;
        self.tag(&registered).await?;
        let operation = match self.work(&request.caller, instance, Work::Mend).await {
            Ok(Changed::By(operation)) => Some(operation),
            Ok(Changed::NothingToDo) => None,
            Err(WorkError::Store(error)) => return Err(error.into()),
            Err(WorkError::NotFound) => return Err(StoreError::Missing("instance").into()),
            Err(_) => return Err(AdoptRefused::Destroyed(instance)),
        };
        Ok(Taken { plan, instance, operation })
    }

    /// Puts it on record. Whoever was faster has the same right: what is on record then is looked at by the caller.
    async fn intend_adoption(&self, request: &AdoptRequest, plan: &AdoptionPlan) -> Result<InstanceId, AdoptRefused> {
        let world = &self.world;
        let survey = plan.survey.as_ref().ok_or_else(|| Unfit::Missing("there is nothing to adopt".to_owned()))?;
        let down = matches!(survey.runtime, RuntimeState::Stopped | RuntimeState::Exited(_) | RuntimeState::Missing);
        let adoption = Adoption {
            bid: Bid {
                instance: world.mint_instance(),
                context: request.context.clone(),
                provider: request.provider.clone(),
                tier: plan.tier.clone(),
                price_version: plan.price_version.clone(),
                regions: survey.region.iter().cloned().collect(),
                named: Some(request.base.clone()),
                spec: spec_of(survey, &plan.tier).freeze(),
            },
            resources: plan.resources.clone(),
            power: if down { Power::Off } else { Power::On },
            asked: self.asked(&request.caller, world.mint_operation()),
            limit: world.policy.instances_per_context,
        };
        match world.store.adopt(adoption).await? {
            // This node has its operation, and does not run it: what is asked for once it is tagged takes its place. If
            // that never happens its lease lapses, and it waits for whoever asks again.
            Adopted::Taken(run) => Ok(run.reservation.instance),
            Adopted::Known(instance) => Ok(instance),
            Adopted::Conflict(refusal) => Err(AdoptRefused::Conflict(refusal)),
        }
    }

    async fn tag(&self, registered: &Registered) -> Result<(), AdoptRefused> {
        let world = &self.world;
        let reservation = &registered.reservation;
        let (instance, name) = (reservation.instance, &reservation.provider);
        let provider = world.provider(name).ok_or_else(|| AdoptRefused::ProviderUnknown(name.to_string()))?;
        let ident = world.idents.of_reservation(reservation);
        let mut tries = 0;
        loop {
            tries += 1;
            let outcome = provider.tag(&ident, &reservation.resources).await;
            world.meter.provider_request(name.as_str(), "tag", outcome.name());
            match outcome {
                Outcome::Done(()) => return Ok(()),
                Outcome::Rejected(rejection) => {
                    let foreign = rejection.class == RejectionClass::ConflictForeign;
                    return Err(AdoptRefused::NotTagged { instance, foreign, detail: rejection.detail });
                }
                // It changed since it was looked at: the next try looks again.
                Outcome::NotSent(_) if tries < TAG_TRIES => {}
                Outcome::NotSent(detail) | Outcome::Unknown(detail) => {
                    return Err(AdoptRefused::Interrupted { instance, detail });
                }
            }
        }
    }
}

/// Whether what is on record is what is asked for.
fn lawful(known: &Reservation, request: &AdoptRequest) -> Result<(), AdoptRefused> {
    let AdoptRequest { context, base, .. } = request;
    if known.context != *context || known.named.as_ref() != Some(base) {
        return Err(AdoptRefused::Elsewhere(known.instance));
    }
    match known.intent {
        Intent::Keep => Ok(()),
        Intent::Destroy { .. } => Err(AdoptRefused::Destroyed(known.instance)),
    }
}

fn plan_of(known: &Reservation, survey: Option<Survey>) -> AdoptionPlan {
    AdoptionPlan {
        tier: known.tier.clone(),
        resources: known.resources.clone(),
        is_complete: survey.is_none(),
        survey,
        instance: Some(known.instance),
        price_version: known.price_version.clone(),
    }
}

fn accepts(provider: &dyn Provider, survey: &Survey) -> Result<(), Unfit> {
    let blueprint = Blueprint {
        command: survey.command.clone(),
        image: survey.image.clone(),
        env: survey.env.clone(),
        secrets: std::collections::BTreeSet::new(),
        memory_mb: survey.memory_mb,
        cpu_millis: survey.cpu_millis,
        volume_gb: survey.volume_gb,
        region: survey.region.clone(),
    };
    provider.accepts(&blueprint).map_err(Unfit::Refused)
}

/// What it runs, so that an update changes what it says and nothing else. What secrets it has nobody here knows.
fn spec_of(survey: &Survey, tier: &TierName) -> Spec {
    let mut env = survey.env.clone();
    env.retain(|name, _| !name.starts_with("FREEHOLD_"));
    Spec {
        template: None,
        tier: tier.to_string(),
        image: survey.image.clone(),
        command: survey.command.clone(),
        env,
        secrets: BTreeMap::new(),
        memory_mb: survey.memory_mb,
        cpu_millis: survey.cpu_millis,
        volume_gb: survey.volume_gb,
    }
}
