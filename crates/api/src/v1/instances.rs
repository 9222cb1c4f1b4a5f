//! Instances: what a caller asks for, and what it gets.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};
use uuid::Uuid;

use super::operations::Operation;
use super::spec::{Spec, SpecView, check_name, check_text};
use super::{PAGE_DEFAULT, PAGE_MAX, Resource};
use crate::problem::FieldError;

/// The longest list of regions, in bytes.
pub const REGION_BYTES_MAX: usize = 256;

/// The longest reason for a destroy, in bytes: it is kept in the audit trail for ever.
pub const REASON_BYTES_MAX: usize = 500;

/// The body of `POST /v1/instances`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateInstance {
    /// Whose: `user:ID` or `org:ID`, the id being 1 to 200 printable ASCII characters without spaces.
    #[schema(example = "user:alice", pattern = "^(user|org):[!-~]{1,200}$")]
    pub owner: String,
    /// For whom. Needed for `org:`; for `user:` it is that user and may be left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "alice", pattern = "^[!-~]{1,200}$")]
    pub assigned_user: Option<String>,
    /// Which provider; the configuration has a default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "local", max_length = 64)]
    pub provider: Option<String>,
    /// Which tier; the plan's own where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "small", max_length = 64)]
    pub tier: Option<String>,
    /// Regions to try, in order, with commas between them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "eu,us", max_length = 256)]
    pub region: Option<String>,
    /// What to run.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "crate::json::object")]
    pub spec: Option<Spec>,
    /// Must be absent or null: the server mints ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = only_null)]
    pub instance_id: Option<Uuid>,
}

impl CreateInstance {
    /// A body with nothing but an owner.
    #[must_use]
    pub fn for_owner(owner: impl Into<String>) -> Self {
        Self { owner: owner.into(), ..Self::default() }
    }

    /// Says what is wrong with it. Owner and assigned user are for whoever knows owners to check.
    #[must_use]
    pub fn validate(&self) -> Vec<FieldError> {
        let Self { owner: _, assigned_user: _, provider, tier, region, spec, instance_id } = self;
        let mut errors = Vec::new();
        errors.extend(check_name(provider.as_deref(), "#/provider"));
        errors.extend(check_name(tier.as_deref(), "#/tier"));
        errors.extend(check_text(region.as_deref(), REGION_BYTES_MAX, "#/region"));
        errors.extend(spec.iter().flat_map(|spec| spec.check("#/spec")));
        if instance_id.is_some() {
            errors.push(FieldError::new(
                "#/instance_id",
                "must be absent: ids are minted by the server; PATCH /v1/instances/{id} changes an instance",
            ));
        }
        errors
    }
}

fn only_null() -> Object {
    let about = "Must be absent or null: the server mints ids.";
    ObjectBuilder::new().schema_type(Type::Null).description(Some(about)).build()
}

/// The body of `PATCH /v1/instances/{id}`. What is left out stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateInstance {
    /// What to run from now on.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "crate::json::object")]
    pub spec: Option<Spec>,
    /// The tier to move to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64)]
    pub tier: Option<String>,
}

impl UpdateInstance {
    /// Says what is wrong with it.
    #[must_use]
    pub fn validate(&self) -> Vec<FieldError> {
        let Self { spec, tier } = self;
        let mut errors = Vec::new();
        if spec.is_none() && tier.is_none() {
            errors.push(FieldError::new("#", "changes nothing; give `spec`, `tier` or both"));
        }
        errors.extend(spec.iter().flat_map(|spec| spec.check("#/spec")));
        errors.extend(check_name(tier.as_deref(), "#/tier"));
        errors
    }
}

/// How far an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum InstanceStatus {
    /// Being made; not routable.
    Provisioning,
    /// Complete, and its program is not ready yet.
    Starting,
    /// Complete, and up.
    Running,
    /// Its program is being stopped and started.
    Restarting,
    /// Complete, and down because it was asked to stop.
    Stopped,
    /// Its program went away by itself and is being brought back.
    Recovering,
    /// Destroy was accepted.
    Destroying,
    /// Gone for ever.
    Destroyed,
    /// On record without a subscription; not routable.
    Quarantined,
    /// The provision gave up; what is left of it is being removed or is gone.
    Failed,
}

impl InstanceStatus {
    /// Every status.
    pub const ALL: [Self; 10] = [
        Self::Provisioning,
        Self::Starting,
        Self::Running,
        Self::Restarting,
        Self::Stopped,
        Self::Recovering,
        Self::Destroying,
        Self::Destroyed,
        Self::Quarantined,
        Self::Failed,
    ];

    /// The status as it is written on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Provisioning => "provisioning",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Restarting => "restarting",
            Self::Stopped => "stopped",
            Self::Recovering => "recovering",
            Self::Destroying => "destroying",
            Self::Destroyed => "destroyed",
            Self::Quarantined => "quarantined",
            Self::Failed => "failed",
        }
    }
}

/// Who pays for an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Subscription {
    /// The billing system's id of it.
    pub id: String,
    /// How billing sees it.
    #[schema(example = "active")]
    pub status: String,
    /// The plan.
    #[schema(required)]
    pub plan: Option<String>,
    /// The price version it was started under.
    #[schema(example = "2026-01-01")]
    pub price_version: String,
}

/// An instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Instance {
    /// Its id, a UUIDv7 that is never used again.
    pub id: Uuid,
    /// Whose it is.
    #[schema(example = "user:alice")]
    pub owner: String,
    /// For whom it is.
    #[schema(example = "alice")]
    pub assigned_user: String,
    /// Which provider holds it.
    #[schema(example = "local")]
    pub provider: String,
    /// How far it is.
    pub status: InstanceStatus,
    /// Whether traffic is sent to it.
    pub routable: bool,
    /// Its tier.
    #[schema(example = "small")]
    pub tier: String,
    /// Where it is, or where it is tried.
    #[schema(required)]
    pub region: Option<String>,
    /// Where the proxy sends traffic: `http://HOST:PORT`.
    #[schema(required)]
    pub endpoint: Option<String>,
    /// Where callers reach it through this server.
    #[schema(required, example = "/i/01990000-0000-7000-8000-000000000001/")]
    pub url: Option<String>,
    /// What it runs.
    pub spec: SpecView,
    /// Who pays.
    #[schema(required)]
    pub subscription: Option<Subscription>,
    /// What there is of it at the provider.
    pub resources: Vec<Resource>,
    /// How often its work changed hands.
    pub epoch: u64,
    /// When it was admitted.
    pub created_at: Timestamp,
    /// When it was completed.
    #[schema(required)]
    pub ready_at: Option<Timestamp>,
    /// When it was destroyed.
    #[schema(required)]
    pub destroyed_at: Option<Timestamp>,
    /// The operation that works on it, or did last.
    #[schema(required)]
    pub operation_id: Option<Uuid>,
}

/// A page of instances.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstanceList {
    /// The instances, oldest first.
    pub instances: Vec<Instance>,
    /// What to send as `cursor` for the next page; null on the last one.
    #[schema(required)]
    pub next_cursor: Option<String>,
}

/// Which instances to list: the query of `GET /v1/instances`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListInstances {
    /// Only this owner's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(nullable = false)]
    pub owner: Option<String>,
    /// Only those for this person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(nullable = false)]
    pub assigned_user: Option<String>,
    /// Only those in this status. Destroyed ones are listed only with `destroyed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(nullable = false, inline)]
    pub status: Option<InstanceStatus>,
    /// How many at most: 1 to 500, 50 where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(nullable = false, minimum = 1, maximum = 500)]
    pub limit: Option<u32>,
    /// Where the last page ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(nullable = false)]
    pub cursor: Option<String>,
}

impl ListInstances {
    /// How many rows to answer with at most.
    #[must_use]
    pub fn page(&self) -> u32 {
        self.limit.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX)
    }
}

/// 202: the work goes on behind the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Accepted {
    /// Where to look for the outcome.
    pub operation: Operation,
}

/// The answer to start, stop and restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Changed {
    /// Whether there was anything to do. An instance that is there already is success.
    pub changed: bool,
    /// The instance.
    pub instance: Instance,
}

/// The answer to destroy: final, or accepted and going on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Destroyed {
    /// Whether nothing is left to do.
    pub finalized: bool,
    /// The instance.
    pub instance_id: Uuid,
    /// The operation that removes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub operation_id: Option<Uuid>,
    /// When it was destroyed, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub destroyed_at: Option<Timestamp>,
    /// What is known to be left at the provider. Absent once finalized; empty while nothing is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub pending: Option<Vec<Resource>>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn places(body: serde_json::Value) -> Vec<String> {
        let body: CreateInstance = serde_json::from_value(body).unwrap();
        body.validate().into_iter().map(|error| error.pointer).collect()
    }

    #[test]
    fn the_contracts_create_body_is_taken() {
        let body = json!({
            "owner": "user:alice", "assigned_user": "alice", "provider": "local", "tier": "small", "region": "eu,us",
            "spec": {"template": "hello", "image": null, "command": ["freehold", "hello-instance"],
                     "env": {"GREETING": "hi"}, "secrets": {"TOKEN": "s"}},
            "instance_id": null,
        });
        let create: CreateInstance = serde_json::from_value(body.clone()).unwrap();
        assert_eq!(create.spec.as_ref().unwrap().env.as_ref().unwrap().get("GREETING"), Some("hi"));
        assert!(!format!("{create:?}").contains("\"s\""), "secrets are not shown");
        assert_eq!(places(body), [""; 0]);
        assert_eq!(places(json!({"owner": "user:alice"})), [""; 0]);
    }

    #[test]
    fn everything_that_is_wrong_is_pointed_at() {
        assert_eq!(
            places(json!({
                "owner": "user:alice", "provider": "", "tier": "no such tier", "region": "r".repeat(257),
                "instance_id": Uuid::nil(),
                "spec": {"template": "x".repeat(65), "image": "a b", "command": [],
                         "env": {"FREEHOLD_X": "1", "BOTH": ""}, "secrets": {"1": "", "BOTH": ""}},
            })),
            [
                "#/provider",
                "#/tier",
                "#/region",
                "#/spec/template",
                "#/spec/image",
                "#/spec/command",
                "#/spec/env/FREEHOLD_X",
                "#/spec/secrets/1",
                "#/spec/secrets/BOTH",
                "#/instance_id",
            ]
        );
        for command in [json!([""]), json!(["a\u{0}"]), json!(vec!["a"; 129]), json!(["a".repeat(16 * 1024 + 1)])] {
            assert_eq!(places(json!({"owner": "user:a", "spec": {"command": command}})), ["#/spec/command"]);
        }
    }

    #[test]
    fn an_update_changes_something() {
        assert_eq!(UpdateInstance::default().validate()[0].pointer, "#");
        let tier = UpdateInstance { tier: Some("large".into()), spec: None };
        assert_eq!(tier.validate(), []);
        assert_eq!(serde_json::to_value(&tier).unwrap(), json!({"tier": "large"}));
        assert!(serde_json::from_value::<UpdateInstance>(json!({"owner": "user:b"})).is_err());
    }

    #[test]
    fn an_instance_has_the_contracts_members_and_no_secrets() {
        let wire = json!({
            "id": "01990000-0000-7000-8000-000000000001", "owner": "user:alice", "assigned_user": "alice",
            "provider": "local", "status": "running", "routable": true, "tier": "small", "region": null,
            "endpoint": "http://127.0.0.1:40001", "url": "/i/01990000-0000-7000-8000-000000000001/",
            "spec": {"template": "hello", "image": null, "command": null, "env": {}},
            "subscription": {"id": "s1", "status": "active", "plan": "small", "price_version": "2026-01-01"},
            "resources": [{"kind": "runtime", "id": "4711", "region": null}], "epoch": 2,
            "created_at": "2026-11-23T10:00:00Z", "ready_at": "2026-11-23T10:00:01.5Z", "destroyed_at": null,
            "operation_id": "01990000-0000-7000-8000-000000000002",
        });
        let instance: Instance = serde_json::from_value(wire.clone()).unwrap();
        assert_eq!(serde_json::to_value(&instance).unwrap(), wire);
        let changed = Changed { changed: false, instance };
        assert_eq!(serde_json::to_value(&changed).unwrap(), json!({"changed": false, "instance": wire}));
    }

    #[test]
    fn a_destroy_is_final_or_says_what_is_pending() {
        let id = Uuid::from_u128(7);
        let done = Destroyed {
            finalized: true,
            instance_id: id,
            operation_id: None,
            destroyed_at: Some("2026-11-23T10:00:00Z".parse().unwrap()),
            pending: None,
        };
        let wire = json!({"finalized": true, "instance_id": id, "destroyed_at": "2026-11-23T10:00:00Z"});
        assert_eq!(serde_json::to_value(&done).unwrap(), wire);
        let machine = Resource { kind: "runtime".into(), id: "m1".into(), region: Some("eu".into()) };
        let going = Destroyed {
            finalized: false,
            operation_id: Some(id),
            destroyed_at: None,
            pending: Some(vec![machine]),
            ..done
        };
        let wire = json!({"finalized": false, "instance_id": id, "operation_id": id,
                          "pending": [{"kind": "runtime", "id": "m1", "region": "eu"}]});
        assert_eq!(serde_json::to_value(&going).unwrap(), wire);
    }

    #[test]
    fn a_status_is_written_the_same_way_everywhere() {
        for status in InstanceStatus::ALL {
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
        }
    }
}
