//! Asking for an instance: validate, resolve the entitlement, admit. Everything after the admission is the executor's.

use std::time::Duration;

use freehold_domain::event::{Actor, EventKind};
use freehold_domain::ids::{InstanceId, OperationId};
use freehold_domain::lease::TierName;
use freehold_domain::ledger::Refusal;
use freehold_domain::records::CanonicalSuccess;
use freehold_domain::run::{self, Bid, Change, Run};

use super::{ControlPlane, Provision, SpecRequest};
use crate::ports::{
    Admission, AdmitRefused, Admitted, Blueprint, ContextPeek, EntitlementRefused, Registered, StoreError,
};
use crate::spec::Spec;
use crate::world::{Policy, Template};

/// How seldom the conflicts of one context go on the audit trail: they change nothing, and a stampede of them must not
/// become a stampede of commits.
const CONFLICT_TOLD_EVERY: Duration = Duration::from_secs(10);

/// A reservation was taken, or had been for the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Provisioned {
    /// The instance.
    pub instance: InstanceId,
    /// The operation that makes it.
    pub operation: OperationId,
    /// Whether it had been, in an earlier request.
    pub replayed: bool,
}

/// What holds a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// What is in the way.
    pub refusal: Refusal,
    /// When to look again.
    pub retry_after: Duration,
}

/// Why nothing was admitted. Nothing was taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProvisionRefused {
    /// There is no such provider.
    #[error("there is no provider `{0}`")]
    ProviderUnknown(String),
    /// The spec cannot work. The text names the field as a JSON Pointer below `/spec`.
    #[error("{detail}")]
    InvalidSpec {
        /// Which field.
        pointer: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// The context may not have it.
    #[error(transparent)]
    Entitlement(#[from] EntitlementRefused),
    /// The context is taken.
    #[error("the context is taken")]
    Conflict(Conflict),
    /// The key was used with another body.
    #[error("the idempotency key was used with another body")]
    KeyReused,
    /// The store did not answer.
    #[error(transparent)]
    Store(StoreError),
}

impl ControlPlane {
    /// Takes a reservation for a new instance, if the context is free.
    ///
    /// # Errors
    /// [`ProvisionRefused`]; nothing was taken then, except behind [`StoreError::Unknown`], which a retry with the same
    /// key settles.
    pub async fn provision(&self, request: Provision) -> Result<Provisioned, ProvisionRefused> {
        let outcome = self.admit(request).await;
        self.world.meter.admission(match &outcome {
            Ok(Provisioned { replayed: false, .. }) => "taken",
            Ok(Provisioned { replayed: true, .. }) => "replayed",
            Err(ProvisionRefused::Conflict(_)) => "conflict",
            Err(ProvisionRefused::KeyReused) => "key_reused",
            Err(ProvisionRefused::Store(_)) => "unavailable",
            Err(
                ProvisionRefused::ProviderUnknown(_)
                | ProvisionRefused::InvalidSpec { .. }
                | ProvisionRefused::Entitlement(_),
            ) => "refused",
        });
        outcome
    }

    async fn admit(&self, request: Provision) -> Result<Provisioned, ProvisionRefused> {
        let world = &self.world;
        let limit = world.policy.instances_per_context;
        self.backfill(request.context.owner()).await;
        // Most of a stampede ends here, without a transaction. A key comes before everything that the configuration
        // decides: what was asked for may be offered no more, and its answer stays.
        let taken = match world.store.context_peek(&request.context, limit, request.idempotency).await.map_err(store)? {
            ContextPeek::Replayed { operation, instance } => {
                return Ok(Provisioned { instance, operation, replayed: true });
            }
            ContextPeek::KeyReused => return Err(ProvisionRefused::KeyReused),
            ContextPeek::Taken { refusal, unattended } => Some((refusal, unattended)),
            ContextPeek::Free => None,
        };
        // What a key led to is read; everything behind this may write.
        world.standing.check().map_err(store)?;
        let provider_name = request.provider.clone().unwrap_or_else(|| world.policy.default_provider.clone());
        let provider = world
            .provider(&provider_name)
            .ok_or_else(|| ProvisionRefused::ProviderUnknown(provider_name.to_string()))?;
        if let Some(tier) = request.tier.as_ref().filter(|tier| !world.policy.tiers.contains_key(tier)) {
            return Err(EntitlementRefused::TierNotOffered(tier.to_string()).into());
        }
        let template = self.template(&request.spec)?;
        if let Some((refusal, unattended)) = taken {
            return Err(self.conflict(refusal, unattended, request.caller.actor).await);
        }

        let regions = if request.regions.is_empty() { provider.regions().to_vec() } else { request.regions };
        let entitlement = world.billing.entitlement(&request.context, request.tier.as_ref()).await?;
        let spec = self.spec(&request.spec, template, &entitlement.tier)?;
        provider
            .accepts(&Blueprint {
                command: spec.command.clone(),
                image: spec.image.clone(),
                env: spec.env.clone(),
                secrets: spec.secrets.keys().cloned().collect(),
                memory_mb: spec.memory_mb,
                cpu_millis: spec.cpu_millis,
                volume_gb: spec.volume_gb,
                region: regions.first().cloned(),
            })
            .map_err(|detail| ProvisionRefused::InvalidSpec { pointer: "/spec", detail })?;

        let asked_at = world.clock.monotonic();
        let actor = request.caller.actor;
        let admission = Admission {
            bid: Bid {
                instance: world.mint_instance(),
                context: request.context,
                provider: provider_name,
                tier: entitlement.tier,
                price_version: entitlement.price_version,
                regions,
                named: None,
                spec: spec.freeze(),
            },
            asked: self.asked(&request.caller, world.mint_operation()),
            limit,
            idempotency: request.idempotency,
        };
        match world.store.admit(admission).await {
            Ok(Admitted::Taken(run)) => {
                let provisioned =
                    Provisioned { instance: run.reservation.instance, operation: run.operation.id, replayed: false };
                self.start(*run, asked_at, None);
                Ok(provisioned)
            }
            Ok(Admitted::Replayed { operation, instance }) => Ok(Provisioned { instance, operation, replayed: true }),
            Err(AdmitRefused::Conflict(refusal)) => Err(self.conflict(refusal, false, actor).await),
            Err(AdmitRefused::KeyReused) => Err(ProvisionRefused::KeyReused),
            Err(AdmitRefused::Store(error)) => Err(store(error)),
        }
    }

    /// Words a conflict. If nobody seems to work on what is in the way although it is done, completes it on the spot.
    async fn conflict(&self, refusal: Refusal, unattended: bool, actor: Actor) -> ProvisionRefused {
        let world = &self.world;
        let (instance, refusal) = match refusal {
            Refusal::AlreadyActive { instance, .. } => (instance, refusal),
            Refusal::InProgress { instance, operation, .. } => {
                if unattended && self.complete_if_proven(instance, Actor::System).await {
                    (instance, Refusal::AlreadyActive { instance, operation })
                } else {
                    (instance, refusal)
                }
            }
        };
        self.tell_conflict(instance, actor).await;
        ProvisionRefused::Conflict(Conflict { refusal, retry_after: world.policy.retry_min })
    }

    pub(super) async fn complete_if_proven(&self, instance: InstanceId, actor: Actor) -> bool {
        let world = &self.world;
        let Ok(records) = world.records.describe(instance).await else { return false };
        let Some(proof) = CanonicalSuccess::establish(&records) else { return false };
        let Ok(Some(registered)) = world.store.instance_describe(instance).await else { return false };
        let Registered { reservation, operation, .. } = registered;
        let provider = world.provider(&reservation.provider);
        let Some(endpoint) = provider.and_then(|provider| provider.endpoint(&reservation.resources)) else {
            return false;
        };
        let now = world.clock.now();
        let check_at = now.plus(world.policy.retry_min);
        let id = operation.id;
        let run = Run { reservation, operation };
        let Ok(foreseen) = run::repaired(&run, &proof, &endpoint, actor, now, check_at) else { return false };
        let Change { run: Run { reservation, operation }, route, .. } = foreseen;
        // The caller that began it may ask again with its key, and gets what it would have got from the executor.
        let answer = world.render.provision(&Registered { reservation, operation, route }, &records);
        let repaired = world.store.repair(proof, endpoint, actor, now, check_at, Some(answer)).await;
        let repaired = matches!(repaired, Ok(Ok(_)));
        if repaired {
            world.meter.reconciliation("repaired");
            world.driver.changed(instance, id);
        }
        repaired
    }

    async fn tell_conflict(&self, instance: InstanceId, actor: Actor) {
        let world = &self.world;
        let now = world.clock.monotonic();
        if self.conflicts_told.is_recent(instance, now, CONFLICT_TOLD_EVERY) {
            return;
        }
        let (kind, at) = (EventKind::ReservationConflict, world.clock.now());
        let detail = "somebody asked for another instance; further ones are counted in the metrics".to_owned();
        if let Err(error) = world.store.witness(instance, kind, actor, at, detail).await {
            tracing::warn!(%instance, %error, "a conflict could not be put on the audit trail");
        }
    }

    pub(super) fn template(&self, spec: &SpecRequest) -> Result<Template, ProvisionRefused> {
        template(&self.world.policy, spec)
    }

    pub(super) fn spec(
        &self,
        request: &SpecRequest,
        template: Template,
        tier: &TierName,
    ) -> Result<Spec, ProvisionRefused> {
        let limits =
            self.world.policy.tiers.get(tier).ok_or_else(|| EntitlementRefused::TierNotOffered(tier.to_string()))?;
        let mut env = template.env;
        env.extend(request.env.clone());
        let vault = &self.world.vault;
        Ok(Spec {
            template: request.template.clone(),
            tier: tier.to_string(),
            image: request.image.clone().or(template.image),
            command: request.command.clone().unwrap_or(template.command),
            env,
            secrets: request.secrets.iter().map(|(name, value)| (name.clone(), vault.seal(name, value))).collect(),
            memory_mb: limits.memory_mb,
            cpu_millis: limits.cpu_millis,
            volume_gb: limits.volume_gb,
        })
    }
}

fn store(error: StoreError) -> ProvisionRefused {
    ProvisionRefused::Store(error)
}

/// The template that a spec names, or the obvious one where it says nothing.
pub(super) fn template(policy: &Policy, spec: &SpecRequest) -> Result<Template, ProvisionRefused> {
    let templates = &policy.templates;
    let by_itself = spec.image.is_some() || spec.command.as_ref().is_some_and(|command| !command.is_empty());
    match &spec.template {
        Some(name) => templates.get(name).cloned().ok_or_else(|| ProvisionRefused::InvalidSpec {
            pointer: "/spec/template",
            detail: match templates.len() {
                0 => format!("there is no template `{name}`; none is configured"),
                _ => format!(
                    "there is no template `{name}`; there are: {}",
                    templates.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
                ),
            },
        }),
        None if by_itself => Ok(Template::default()),
        // Nothing said: the obvious template, if there is one.
        None => templates
            .get("default")
            .or_else(|| (templates.len() == 1).then(|| templates.values().next()).flatten())
            .cloned()
            .ok_or_else(|| ProvisionRefused::InvalidSpec {
                pointer: "/spec",
                detail: "say what to run: a `template`, an `image` or a `command`".to_owned(),
            }),
    }
}
