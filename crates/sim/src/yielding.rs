//! Ports that yield: before a call nothing has happened yet, after it everything has and nobody knows. A process may die
//! at either place, or others may go first.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freehold_domain::event::{Actor, EventKind};
use freehold_domain::evidence::OperatorOverride;
use freehold_domain::ids::{InstanceId, LeakId, OperationId, SubscriptionId};
use freehold_domain::lease::{Epoch, Holder, Lease, NodeId, PriceVersion, TierName};
use freehold_domain::owner::{Context, Owner};
use freehold_domain::plan::Capabilities;
use freehold_domain::records::{CanonicalSuccess, InstanceRow, RecordsView, Subscription};
use freehold_domain::reservation::IllegalTransition;
use freehold_domain::resource::{Observation, Outcome, Resource, RuntimeState};
use freehold_domain::route::Endpoint;
use freehold_domain::run::{Note, Run, Settle, Unclaimable, Work};
use freehold_domain::time::Timestamp;
use freehold_engine::ports::{
    Admission, AdmitRefused, Admitted, Answer, Asked, AuditPage, AuditQuery, Billing, Blueprint, ContextPeek,
    DestroyAccepted, Entitlement, EntitlementRefused, IdempotencyKey, Ident, Installation, InstancePage, InstanceQuery,
    KeyRecord, LeakPage, LeakRecord, LogQuery, LogReader, LogsUnavailable, Made, OperationView, Order, OwnedPage,
    Provider, Records, RecordsError, Registered, RouteEntry, Store, StoreError, Stuck, SubscriptionTerms, Unanswered,
    UnresolvedSummary, WorkAccepted,
};

use crate::tasks::Yield;

/// A port behind which others may go first.
#[derive(Debug)]
pub struct Yielding<P: ?Sized>(pub Arc<P>);

macro_rules! yielding {
    ($port:ident: $(async $name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)* $(plain $plain:ident($($given:ident: $kind:ty),*) -> $result:ty;)*) => {
        #[async_trait]
        impl<P: $port + ?Sized> $port for Yielding<P> {
            $(async fn $name(&self, $($argument: $type),*) -> $answer {
                Yield::default().await;
                let answer = self.0.$name($($argument),*).await;
                Yield::default().await;
                answer
            })*

            $(fn $plain(&self, $($given: $kind),*) -> $result {
                self.0.$plain($($given),*)
            })*
        }
    };
}

yielding! { Store:
    async admit(admission: Admission) -> Result<Admitted, AdmitRefused>;
    async context_peek(context: &Context, limit: u32, idempotency: Option<IdempotencyKey>) -> Result<ContextPeek, StoreError>;
    async claim(operation: OperationId, holder: &Holder) -> Result<Result<(Run, Lease), Unclaimable>, StoreError>;
    async renew(leases: &[Lease]) -> Result<Vec<bool>, StoreError>;
    async note(lease: &Lease, note: Note) -> Result<Run, StoreError>;
    async settle(lease: &Lease, settle: Settle, answer: Option<Answer>) -> Result<Run, StoreError>;
    async destroy_intent_set(instance: InstanceId, reason: Option<String>, asked: Asked) -> Result<DestroyAccepted, StoreError>;
    async work_begin(instance: InstanceId, work: Work, asked: Asked) -> Result<WorkAccepted, StoreError>;
    async repair(proof: CanonicalSuccess, endpoint: Endpoint, actor: Actor, at: Timestamp, check_at: Timestamp, answer: Option<Answer>) -> Result<Result<Run, IllegalTransition>, StoreError>;
    async release_override(instance: InstanceId, expected: &'static str, said: OperatorOverride, asked: Asked) -> Result<Result<Run, IllegalTransition>, StoreError>;
    async hurry(operation: OperationId) -> Result<(), StoreError>;
    async watched(instance: InstanceId, epoch: Epoch, state: RuntimeState, at: Timestamp, check_at: Timestamp, settled_after: Duration) -> Result<(), StoreError>;
    async witness(instance: InstanceId, kind: EventKind, actor: Actor, at: Timestamp, detail: String) -> Result<(), StoreError>;
    async give_back(leases: &[Lease]) -> Result<(), StoreError>;
    async node_returned(node: &NodeId, incarnation: u64) -> Result<u64, StoreError>;
    async due_list(limit: usize) -> Result<Vec<OperationId>, StoreError>;
    async due_next() -> Result<Option<Timestamp>, StoreError>;
    async checks_due(limit: usize) -> Result<Vec<InstanceId>, StoreError>;
    async stuck_list(before: Timestamp, limit: usize) -> Result<Vec<Stuck>, StoreError>;
    async instance_describe(instance: InstanceId) -> Result<Option<Registered>, StoreError>;
    async instance_list(query: &InstanceQuery) -> Result<InstancePage, StoreError>;
    async owner_describe(owner: &Owner) -> Result<Vec<Registered>, StoreError>;
    async operation_describe(operation: OperationId) -> Result<Option<OperationView>, StoreError>;
    async route_lookup(instance: InstanceId) -> Result<Option<RouteEntry>, StoreError>;
    async audit_read(query: &AuditQuery) -> Result<AuditPage, StoreError>;
    async leak_list(open_only: bool, after: Option<LeakId>, limit: usize) -> Result<LeakPage, StoreError>;
    async leak_resolve(leak: LeakId, at: Timestamp) -> Result<LeakRecord, StoreError>;
    async unresolved_summary() -> Result<UnresolvedSummary, StoreError>;
    async idempotency_purge(before: Timestamp, limit: usize) -> Result<u64, StoreError>;
    async installation(proposed: Installation) -> Result<Installation, StoreError>;
    async key_list() -> Result<Vec<KeyRecord>, StoreError>;
    async key_create(key: KeyRecord) -> Result<(), StoreError>;
    async key_revoke(id: &str, at: Timestamp) -> Result<KeyRecord, StoreError>;
    plain violations() -> Vec<(freehold_domain::invariants::Invariant, u64)>;
}

yielding! { Records:
    async describe(instance: InstanceId) -> Result<RecordsView, RecordsError>;
    async active_in(context: &Context) -> Result<Vec<RecordsView>, RecordsError>;
    async insert(row: InstanceRow) -> Result<RecordsView, RecordsError>;
    async subscription_put(subscription: Subscription) -> Result<RecordsView, RecordsError>;
    async subscription_end(instance: InstanceId, at: Timestamp) -> Result<RecordsView, RecordsError>;
    async mark_destroyed(instance: InstanceId, at: Timestamp) -> Result<RecordsView, RecordsError>;
}

yielding! { Billing:
    async entitlement(context: &Context, requested: Option<&TierName>) -> Result<Entitlement, EntitlementRefused>;
    async start(instance: InstanceId, context: &Context, expected: &PriceVersion, proposed: SubscriptionId) -> Outcome<SubscriptionTerms>;
    async end(instance: InstanceId, reason: &str) -> Outcome<()>;
}

yielding! { Provider:
    async ensure_base(order: &Order<'_>) -> Outcome<Made>;
    async ensure_storage(order: &Order<'_>) -> Outcome<Made>;
    async ensure_runtime(order: &Order<'_>) -> Outcome<Made>;
    async start(order: &Order<'_>) -> Outcome<Made>;
    async stop(order: &Order<'_>) -> Outcome<Made>;
    async restart(order: &Order<'_>) -> Outcome<Made>;
    async update(order: &Order<'_>, running: bool) -> Outcome<Made>;
    async observe(ident: &Ident) -> Result<Observation, Unanswered>;
    async seal(ident: &Ident) -> Outcome<()>;
    async destroy(ident: &Ident, resource: &Resource) -> Outcome<()>;
    async list_owned(install: &str, page: Option<&str>) -> Result<OwnedPage, Unanswered>;
    async logs(ident: &Ident, query: LogQuery) -> Result<Box<dyn LogReader>, LogsUnavailable>;
    plain kind() -> &'static str;
    plain capabilities() -> Capabilities;
    plain accepts(blueprint: &Blueprint) -> Result<(), String>;
    plain endpoint(resources: &[Resource]) -> Option<Endpoint>;
}
