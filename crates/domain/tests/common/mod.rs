//! The smallest true values of everything, for all tests: one context, ids by number, one provider.

use std::sync::Arc;

use freehold_domain::event::Actor;
use freehold_domain::ids::{InstanceId, OperationId, SubscriptionId};
use freehold_domain::lease::Holder;
use freehold_domain::owner::Context;
use freehold_domain::records::{InstanceRow, Subscription, SubscriptionStatus};
use freehold_domain::reservation::FrozenSpec;
use freehold_domain::resource::{Resource, ResourceKind};
use freehold_domain::run::{Bid, Commission};
use freehold_domain::time::Timestamp;

/// When every story begins.
pub(crate) const START: Timestamp = Timestamp::from_micros(1_000_000_000_000_000);

/// An instance by number.
pub(crate) fn instance(number: u8) -> InstanceId {
    InstanceId::mint(START.as_millis(), [number; 10])
}

/// An operation by number.
pub(crate) fn operation(number: u8) -> OperationId {
    OperationId::mint(START.as_millis(), [number; 10])
}

/// The one context.
pub(crate) fn context() -> Context {
    Context::new("user:alice".parse().expect("an owner"), None).expect("a context")
}

/// A node by letter, in a life by number.
pub(crate) fn holder(node: char, incarnation: u64) -> Holder {
    Holder { node: node.to_string().parse().expect("a name"), incarnation }
}

/// A bid for an instance of the one context.
pub(crate) fn bid(number: u8) -> Bid {
    Bid {
        instance: instance(number),
        context: context(),
        provider: "local".parse().expect("a name"),
        tier: "small".parse().expect("a name"),
        price_version: "2026-01-01".parse().expect("a name"),
        regions: Vec::new(),
        named: None,
        spec: spec(0),
    }
}

/// A spec by number.
pub(crate) fn spec(number: u8) -> FrozenSpec {
    FrozenSpec(Arc::from([number]))
}

/// A commission that waits for the next executor.
pub(crate) fn commission(number: u8, deadline: Timestamp) -> Commission {
    Commission {
        operation: operation(number),
        actor: Actor::Platform,
        request_id: format!("request-{number}"),
        deadline,
        hold: None,
    }
}

/// The canonical row of an instance.
pub(crate) fn row(of: InstanceId, at: Timestamp) -> InstanceRow {
    InstanceRow {
        instance: of,
        context: context(),
        provider: "local".parse().expect("a name"),
        tier: "small".parse().expect("a name"),
        created_at: at,
        destroyed_at: None,
    }
}

/// The subscription of an instance.
pub(crate) fn subscription(of: InstanceId, at: Timestamp) -> Subscription {
    Subscription {
        id: SubscriptionId::mint(at.as_millis(), [7; 10]),
        instance: of,
        status: SubscriptionStatus::Active,
        plan: "small".to_owned(),
        price_version: "2026-01-01".parse().expect("a name"),
        started_at: at,
        ended_at: None,
        reported: true,
    }
}

/// A resource by kind and number.
pub(crate) fn resource(kind: ResourceKind, number: u32) -> Resource {
    Resource { kind, id: format!("{kind}-{number}"), region: None, handle: String::new() }
}
