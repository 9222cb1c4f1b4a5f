//! Adoptions: what an older system made becomes an instance.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Resource;
use super::instances::Instance;
use super::spec::{check_name, check_text};
use crate::problem::FieldError;

/// The longest name of something at a provider, in bytes.
pub const BASE_BYTES_MAX: usize = 255;

/// The body of `POST /v1/adoptions`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Adopt {
    /// Whose it is to be: `user:ID` or `org:ID`.
    #[schema(example = "user:alice", pattern = "^(user|org):[!-~]{1,200}$")]
    pub owner: String,
    /// For whom. Needed for `org:`; for `user:` it is that user and may be left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "alice", pattern = "^[!-~]{1,200}$")]
    pub assigned_user: Option<String>,
    /// Which provider it is at.
    #[schema(example = "fly", max_length = 64)]
    pub provider: String,
    /// What it is called there: at Fly the name of the app.
    #[schema(example = "acme-prod", max_length = 255)]
    pub base: String,
    /// Which tier it counts as; the plan's own where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "small", max_length = 64)]
    pub tier: Option<String>,
    /// Only say what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

impl Adopt {
    /// Says what is wrong with it. Owner and assigned user are for whoever knows owners to check.
    #[must_use]
    pub fn validate(&self) -> Vec<FieldError> {
        let Self { owner: _, assigned_user: _, provider, base, tier, dry_run: _ } = self;
        let errors = [
            check_name(Some(provider), "#/provider"),
            check_text(Some(base), BASE_BYTES_MAX, "#/base"),
            check_name(tier.as_deref(), "#/tier"),
        ];
        errors.into_iter().flatten().collect()
    }
}

/// What was found, what is done with it, and the instance once it is one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Adoption {
    /// Whose it is to be.
    #[schema(example = "user:alice")]
    pub owner: String,
    /// For whom.
    #[schema(example = "alice")]
    pub assigned_user: String,
    /// Which provider it is at.
    #[schema(example = "fly")]
    pub provider: String,
    /// What it is called there.
    #[schema(example = "acme-prod")]
    pub base: String,
    /// Which tier it counts as.
    #[schema(example = "small")]
    pub tier: String,
    /// What is tagged and goes on record.
    pub resources: Vec<Resource>,
    /// What was found; null for what is adopted already, which is not looked at again.
    #[schema(required)]
    pub found: Option<Found>,
    /// Whether nothing is left to do: it was adopted before.
    pub already: bool,
    /// The instance; null in a dry run of what is not adopted yet.
    #[schema(required)]
    pub instance: Option<Instance>,
}

/// Something at a provider, as it was found. It goes on as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Found {
    /// What its program is doing: `running`, `starting`, `stopped`, `exited` or `missing`.
    #[schema(example = "running")]
    pub state: String,
    /// Where it is, at providers that have regions.
    #[schema(required)]
    pub region: Option<String>,
    /// What it runs.
    #[schema(required)]
    pub image: Option<String>,
    /// Its memory in MiB; 0 where the provider does not say.
    pub memory_mb: u32,
    /// Its CPUs in thousandths; 0 where the provider does not say.
    pub cpu_millis: u32,
    /// Its volume in GB; 0 where it has none.
    pub volume_gb: u32,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_body_is_an_owner_a_provider_and_a_name() {
        let body = json!({"owner": "user:alice", "provider": "fly", "base": "acme-prod"});
        let adopt: Adopt = serde_json::from_value(body).unwrap();
        assert!(!adopt.dry_run && adopt.tier.is_none());
        assert_eq!(adopt.validate(), []);
        let wrong = Adopt { base: "a b".into(), tier: Some(String::new()), ..adopt };
        assert_eq!(
            wrong.validate().iter().map(|error| error.pointer.as_str()).collect::<Vec<_>>(),
            ["#/base", "#/tier"]
        );
    }
}
