//! Version 1, one module per noun.

pub mod adoptions;
pub mod audit;
pub mod billing;
pub mod health;
pub mod instances;
pub mod leaks;
pub mod nodes;
pub mod operations;
pub mod owners;
pub mod reservations;
pub mod restore;
pub mod routes;
pub mod spec;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How many rows a list holds where the caller does not say.
pub const PAGE_DEFAULT: u32 = 50;

/// The most rows one answer holds, so that it stays small enough to build in memory.
pub const PAGE_MAX: u32 = 500;

/// One thing at a provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Resource {
    /// `base`, `storage` or `runtime`.
    #[schema(example = "runtime")]
    pub kind: String,
    /// The provider's id of it.
    pub id: String,
    /// Where it is, at providers that have regions.
    #[schema(required)]
    pub region: Option<String>,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use utoipa::PartialSchema;

    fn schema<T: PartialSchema>() -> Value {
        serde_json::to_value(T::schema()).unwrap()
    }

    #[test]
    fn a_create_body_needs_nothing_but_an_owner_and_takes_no_unknown_field() {
        let schema = schema::<super::instances::CreateInstance>();
        assert_eq!(schema["required"], json!(["owner"]));
        assert_eq!(schema["additionalProperties"], json!(false));
        assert_eq!(schema["properties"]["instance_id"]["type"], json!("null"), "{schema:#}");
        assert_eq!(schema["properties"]["tier"]["type"], json!(["string", "null"]));
    }

    #[test]
    fn what_is_read_back_has_every_member_and_no_secrets() {
        let instance = schema::<super::instances::Instance>();
        let members = instance["properties"].as_object().unwrap().len();
        assert_eq!(instance["required"].as_array().unwrap().len(), members, "{instance:#}");
        assert_eq!(instance["properties"]["ready_at"]["format"], json!("date-time"));
        let spec = schema::<super::spec::SpecView>();
        assert_eq!(spec["properties"]["env"]["additionalProperties"]["type"], json!("string"));
        assert!(spec["properties"].get("secrets").is_none());
        let operation = schema::<super::operations::Operation>();
        let members = operation["properties"].as_object().unwrap().len();
        assert_eq!(operation["required"].as_array().unwrap().len(), members, "{operation:#}");
    }

    #[test]
    fn a_problems_type_and_extensions_are_described() {
        let problem = schema::<crate::Problem>();
        assert_eq!(problem["properties"]["type"]["type"], json!("string"));
        assert_eq!(problem["required"], json!(["type", "title", "status", "detail", "code", "retryable"]));
        let codes = schema::<crate::Code>();
        assert_eq!(codes["enum"].as_array().unwrap().len(), crate::Code::ALL.len());
    }
}
