//! What callers say, parsed.

use std::collections::BTreeMap;

use freehold_domain::event::Actor;
use freehold_domain::lease::{ProviderName, TierName};
use freehold_domain::owner::Context;

use crate::ports::IdempotencyKey;

/// Who asks, and in which request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Who.
    pub actor: Actor,
    /// Goes into the operation, the logs and the problems of this request.
    pub request_id: String,
}

/// What an instance is to run. What is `None` or empty comes from the template.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SpecRequest {
    /// The template.
    pub template: Option<String>,
    /// The image.
    pub image: Option<String>,
    /// The program and its arguments.
    pub command: Option<Vec<String>>,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// Secrets, in the clear.
    pub secrets: BTreeMap<String, String>,
}

impl std::fmt::Debug for SpecRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SpecRequest").field("template", &self.template).finish_non_exhaustive()
    }
}

/// A request for an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provision {
    /// Who asks.
    pub caller: Caller,
    /// For whom.
    pub context: Context,
    /// Where; the default provider if not said.
    pub provider: Option<ProviderName>,
    /// How large; what the entitlement says if not said.
    pub tier: Option<TierName>,
    /// Where, in order of preference.
    pub regions: Vec<String>,
    /// What to run.
    pub spec: SpecRequest,
    /// The caller's key.
    pub idempotency: Option<IdempotencyKey>,
}

/// A request to make an instance of what an older system made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdoptRequest {
    /// Who asks.
    pub caller: Caller,
    /// For whom.
    pub context: Context,
    /// Where it is.
    pub provider: ProviderName,
    /// What its base is called there.
    pub base: String,
    /// How large it counts as; what the entitlement says if not said.
    pub tier: Option<TierName>,
}

/// A change of spec: what is `None` stays as it is.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SpecChange {
    /// Another template: image, command and environment begin anew from it.
    pub template: Option<String>,
    /// Another image.
    pub image: Option<String>,
    /// Another program.
    pub command: Option<Vec<String>>,
    /// Another environment, whole.
    pub env: Option<BTreeMap<String, String>>,
    /// Other secrets, all of them.
    pub secrets: Option<BTreeMap<String, String>>,
}

impl std::fmt::Debug for SpecChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SpecChange").field("template", &self.template).finish_non_exhaustive()
    }
}

/// A request to change an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpdateRequest {
    /// What it runs.
    pub spec: SpecChange,
    /// How large it is.
    pub tier: Option<TierName>,
}
