//! The wire between a node and the world: ports that yield. Before a call nothing has happened yet, after it everything has
//! and nobody knows. A process may die at either place, or others may go first. The watch sees every call.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freehold_domain::event::{Actor, EventKind};
use freehold_domain::evidence::OperatorOverride;
use freehold_domain::ids::{InstanceId, LeakId, OperationId, SubscriptionId};
use freehold_domain::lease::{Epoch, Holder, Lease, NodeId, PriceVersion, ProviderName, TierName};
use freehold_domain::operation::Step;
use freehold_domain::owner::{Context, Owner};
use freehold_domain::plan::Capabilities;
use freehold_domain::records::{CanonicalSuccess, InstanceRow, RecordsView, Subscription, SubscriptionStatus};
use freehold_domain::reservation::{FrozenSpec, IllegalTransition};
use freehold_domain::resource::{Observation, Outcome, Resource, RuntimeState};
use freehold_domain::route::Endpoint;
use freehold_domain::run::{Bid, Note, Run, Settle, Then, Unclaimable, Work};
use freehold_domain::time::Timestamp;
use freehold_engine::ports::{
    Admission, AdmitRefused, Admitted, Adopted, Adoption, Answer, Asked, AuditPage, AuditQuery, Because, Billing,
    Blueprint, ContextPeek, DestroyAccepted, Entitlement, EntitlementRefused, IdempotencyKey, Ident, Installation,
    InstancePage, InstanceQuery, KeyRecord, LeakPage, LeakRecord, LogQuery, LogReader, LogsUnavailable, Made, NodeBeat,
    NodeOrders, NodeRecord, Nodes, OperationView, Order, OwnedPage, Provider, Quarantine, Quarantined, RecordChange,
    Records, RecordsError, Registered, RouteEntry, Share, StillThere, Store, StoreError, Stuck, SubscriptionTerms,
    Unanswered, UnresolvedSummary, WorkAccepted,
};

use crate::tasks::Yield;
use crate::watch::Post;

/// A port behind which others may go first.
pub(crate) struct Wire<P: ?Sized> {
    port: Arc<P>,
    post: Post,
}

impl<P: ?Sized> Wire<P> {
    /// To a port, past a post of the watch.
    pub(crate) fn to(port: Arc<P>, post: &Post) -> Arc<Self> {
        Arc::new(Self { port, post: post.clone() })
    }
}

/// Methods that yield and nothing else, methods that cannot yield, and methods in full.
macro_rules! wire {
    (
        $port:ident:
        $(async $name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*
        $(wrote $written:ident($first:ident: $id:ty $(, $more:ident: $kind:ty)*) -> $wrote:ty;)*
        $(plain $plain:ident($($given:ident: $like:ty),*) -> $result:ty;)*
        $({ $($full:tt)* })?
    ) => {
        #[async_trait]
        impl<P: $port + ?Sized> $port for Wire<P> {
            $(async fn $name(&self, $($argument: $type),*) -> $answer {
                Yield::default().await;
                let answer = self.port.$name($($argument),*).await;
                Yield::default().await;
                answer
            })*

            $(async fn $written(&self, $first: $id $(, $more: $kind)*) -> $wrote {
                Yield::default().await;
                let instance = InstanceOf::instance(&$first);
                let answer = self.port.$written($first $(, $more)*).await;
                self.post.watch().wrote(instance);
                Yield::default().await;
                answer
            })*

            $(fn $plain(&self, $($given: $like),*) -> $result {
                self.port.$plain($($given),*)
            })*

            $($($full)*)?
        }
    };
}

/// Which instance a call writes to.
trait InstanceOf {
    fn instance(&self) -> InstanceId;
}

impl InstanceOf for InstanceId {
    fn instance(&self) -> InstanceId {
        *self
    }
}

impl InstanceOf for &Lease {
    fn instance(&self) -> InstanceId {
        self.instance
    }
}

impl InstanceOf for CanonicalSuccess {
    fn instance(&self) -> InstanceId {
        CanonicalSuccess::instance(self)
    }
}

impl InstanceOf for InstanceRow {
    fn instance(&self) -> InstanceId {
        self.instance
    }
}

impl InstanceOf for Subscription {
    fn instance(&self) -> InstanceId {
        self.instance
    }
}

wire! { Store:
    async instance_named(provider: &ProviderName, name: &str) -> Result<Option<Registered>, StoreError>;
    async owner_is_backfilled(owner: &Owner) -> Result<bool, StoreError>;
    async owner_backfilled_set(owner: &Owner) -> Result<(), StoreError>;
    async delivery_is_known(id: &str) -> Result<bool, StoreError>;
    async delivery_put(id: &str, keep_until: Timestamp) -> Result<(), StoreError>;
    async owner_anonymize(owner: &Owner, pseudonym: &Owner, spec: FrozenSpec) -> Result<Result<u64, StillThere>, StoreError>;
    async hurry(operation: OperationId) -> Result<(), StoreError>;
    async node_returned(node: &NodeId, incarnation: u64) -> Result<u64, StoreError>;
    async due_list(limit: usize, share: Share, elsewhere: &[ProviderName]) -> Result<Vec<OperationId>, StoreError>;
    async due_next() -> Result<Option<Timestamp>, StoreError>;
    async checks_due(limit: usize, elsewhere: &[ProviderName]) -> Result<Vec<InstanceId>, StoreError>;
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
    async latest_at() -> Result<Option<Timestamp>, StoreError>;
    async made_at() -> Result<Timestamp, StoreError>;
    wrote settle(lease: &Lease, settle: Settle, answer: Option<Answer>) -> Result<Run, StoreError>;
    wrote repair(proof: CanonicalSuccess, endpoint: Endpoint, actor: Actor, at: Timestamp, check_at: Timestamp, answer: Option<Answer>) -> Result<Result<Run, IllegalTransition>, StoreError>;
    wrote watched(instance: InstanceId, epoch: Epoch, state: RuntimeState, at: Timestamp, check_at: Timestamp, settled_after: Duration) -> Result<(), StoreError>;
    wrote witness(instance: InstanceId, kind: EventKind, actor: Actor, at: Timestamp, detail: String) -> Result<(), StoreError>;
    plain violations() -> Vec<(freehold_domain::invariants::Invariant, u64)>;
    {
        async fn close(&self) {
            self.port.close().await;
        }

        async fn admit(&self, admission: Admission) -> Result<Admitted, AdmitRefused> {
            let asked_at = self.post.monotonic();
            Yield::default().await;
            let expected = self.post.watch().admitting(&admission);
            let answer = self.port.admit(admission.clone()).await;
            self.post.watch().admitted(&admission, &expected, &answer);
            if let Ok(Admitted::Taken(run)) = &answer {
                self.post.holds(run.lease(), asked_at);
            }
            Yield::default().await;
            answer
        }

        async fn context_peek(
            &self,
            context: &Context,
            limit: u32,
            idempotency: Option<IdempotencyKey>,
        ) -> Result<ContextPeek, StoreError> {
            Yield::default().await;
            let answer = self.port.context_peek(context, limit, idempotency).await;
            if let Ok(peek) = &answer {
                self.post.watch().peeked(idempotency, peek);
            }
            Yield::default().await;
            answer
        }

        async fn note(&self, lease: &Lease, note: Note) -> Result<Run, StoreError> {
            Yield::default().await;
            let then = note.then.clone();
            let answer = self.port.note(lease, note).await;
            self.post.watch().wrote(lease.instance);
            if let (Ok(_), Then::Intend(step)) = (&answer, then) {
                self.post.intends(lease.instance, step);
            }
            Yield::default().await;
            answer
        }

        async fn claim(
            &self,
            operation: OperationId,
            holder: &Holder,
        ) -> Result<Result<(Run, Lease), Unclaimable>, StoreError> {
            let asked_at = self.post.monotonic();
            Yield::default().await;
            let answer = self.port.claim(operation, holder).await;
            if let Ok(Ok((run, lease))) = &answer {
                self.post.watch().wrote(run.reservation.instance);
                self.post.holds(Some(lease.clone()), asked_at);
            }
            Yield::default().await;
            answer
        }

        async fn renew(&self, leases: &[Lease]) -> Result<Vec<bool>, StoreError> {
            let asked_at = self.post.monotonic();
            Yield::default().await;
            let answer = self.port.renew(leases).await;
            Yield::default().await;
            // The node hears it now; until then it may go by what it knew.
            if let Ok(held) = &answer {
                self.post.renewed(leases, held, asked_at);
            }
            answer
        }

        async fn give_back(&self, leases: &[Lease]) -> Result<(), StoreError> {
            Yield::default().await;
            let before = self.post.giving_back(leases);
            let answer = self.port.give_back(leases).await;
            self.post.gave_back(leases, &before);
            Yield::default().await;
            answer
        }

        async fn destroy_intent_set(
            &self,
            instance: InstanceId,
            reason: Option<String>,
            asked: Asked,
        ) -> Result<DestroyAccepted, StoreError> {
            let asked_at = self.post.monotonic();
            Yield::default().await;
            let answer = self.port.destroy_intent_set(instance, reason, asked).await;
            self.post.watch().wrote(instance);
            if let Ok(DestroyAccepted::Accepted { run, .. }) = &answer {
                self.post.holds(run.lease(), asked_at);
            }
            Yield::default().await;
            answer
        }

        async fn work_begin(&self, instance: InstanceId, work: Work, asked: Asked) -> Result<WorkAccepted, StoreError> {
            let asked_at = self.post.monotonic();
            Yield::default().await;
            let answer = self.port.work_begin(instance, work, asked).await;
            self.post.watch().wrote(instance);
            if let Ok(WorkAccepted::Accepted { run, .. }) = &answer {
                self.post.holds(run.lease(), asked_at);
            }
            Yield::default().await;
            answer
        }

        async fn take_in(&self, bid: Bid, resources: Vec<Resource>, asked: Asked) -> Result<Option<Run>, StoreError> {
            let (asked_at, instance) = (self.post.monotonic(), bid.instance);
            Yield::default().await;
            let answer = self.port.take_in(bid, resources, asked).await;
            self.post.watch().wrote(instance);
            if let Ok(Some(run)) = &answer {
                self.post.holds(run.lease(), asked_at);
            }
            Yield::default().await;
            answer
        }

        async fn adopt(&self, adoption: Adoption) -> Result<Adopted, StoreError> {
            let (asked_at, instance) = (self.post.monotonic(), adoption.bid.instance);
            Yield::default().await;
            let answer = self.port.adopt(adoption).await;
            self.post.watch().wrote(instance);
            if let Ok(Adopted::Taken(run)) = &answer {
                self.post.holds(run.lease(), asked_at);
            }
            Yield::default().await;
            answer
        }

        async fn sweep_begin(
            &self,
            instance: InstanceId,
            held: Epoch,
            found: Vec<Resource>,
            leak: LeakId,
            asked: Asked,
        ) -> Result<Run, StoreError> {
            let asked_at = self.post.monotonic();
            self.post.sweeps(&found);
            Yield::default().await;
            let answer = self.port.sweep_begin(instance, held, found, leak, asked).await;
            self.post.watch().wrote(instance);
            if let Ok(run) = &answer {
                self.post.holds(run.lease(), asked_at);
            }
            Yield::default().await;
            answer
        }

        async fn release_override(
            &self,
            instance: InstanceId,
            expected: &'static str,
            said: OperatorOverride,
            asked: Asked,
        ) -> Result<Result<Run, IllegalTransition>, StoreError> {
            let asked_at = self.post.monotonic();
            Yield::default().await;
            let answer = self.port.release_override(instance, expected, said, asked).await;
            self.post.watch().wrote(instance);
            if let Ok(Ok(run)) = &answer {
                self.post.holds(run.lease(), asked_at);
            }
            Yield::default().await;
            answer
        }
    }
}

wire! { Nodes:
    async node_start(beat: NodeBeat) -> Result<NodeOrders, StoreError>;
    async node_beat(beat: NodeBeat) -> Result<NodeOrders, StoreError>;
    async node_list() -> Result<Vec<NodeRecord>, StoreError>;
    async node_drain(node: &NodeId, draining: bool) -> Result<NodeRecord, StoreError>;
}

wire! { Quarantine:
    async quarantine() -> Result<Option<Quarantined>, StoreError>;
    async quarantine_begin(why: &str) -> Result<Quarantined, StoreError>;
    async quarantine_end(raise: u64) -> Result<u64, StoreError>;
    async quarantine_over() -> Result<Option<Timestamp>, StoreError>;
    async high_water() -> Result<u64, StoreError>;
}

wire! { Records:
    async describe(instance: InstanceId) -> Result<RecordsView, RecordsError>;
    async active_in(context: &Context) -> Result<Vec<RecordsView>, RecordsError>;
    async active_of(owner: &Owner, limit: usize) -> Result<Vec<RecordsView>, RecordsError>;
    async active_after(after: Option<InstanceId>, limit: usize) -> Result<Vec<RecordsView>, RecordsError>;
    async unreported(limit: usize) -> Result<Vec<RecordsView>, RecordsError>;
    async changes(instance: InstanceId, limit: usize) -> Result<Vec<RecordChange>, RecordsError>;
    async anonymize(owner: &Owner, pseudonym: &Owner, because: &Because) -> Result<u64, RecordsError>;
    wrote insert(row: InstanceRow, because: &Because) -> Result<RecordsView, RecordsError>;
    wrote subscription_put(subscription: Subscription, because: &Because) -> Result<RecordsView, RecordsError>;
    wrote subscription_turn(instance: InstanceId, to: SubscriptionStatus, because: &Because) -> Result<RecordsView, RecordsError>;
    wrote subscription_end(instance: InstanceId, at: Timestamp, because: &Because) -> Result<RecordsView, RecordsError>;
    wrote subscription_reported(instance: InstanceId, terms: SubscriptionTerms, because: &Because) -> Result<RecordsView, RecordsError>;
    wrote mark_destroyed(instance: InstanceId, at: Timestamp, because: &Because) -> Result<RecordsView, RecordsError>;
}

wire! { Billing:
    async entitlement(context: &Context, requested: Option<&TierName>) -> Result<Entitlement, EntitlementRefused>;
    async start(instance: InstanceId, context: &Context, expected: &PriceVersion, proposed: SubscriptionId) -> Outcome<SubscriptionTerms>;
    async end(instance: InstanceId, reason: &str) -> Outcome<()>;
    plain fallback(expected: &PriceVersion, proposed: SubscriptionId) -> Option<SubscriptionTerms>;
}

/// A call that may make something: seen when it leaves, and when it arrives.
macro_rules! sends {
    ($wire:ident, $order:ident, $step:expr, $call:ident($($more:ident),*)) => {{
        $wire.post.sends($step, $order);
        Yield::default().await;
        $wire.post.arrives($order.ident.instance);
        let answer = $wire.port.$call($order $(, $more)*).await;
        $wire.post.watch().touched($order.ident.instance);
        Yield::default().await;
        answer
    }};
}

wire! { Provider:
    async observe(ident: &Ident) -> Result<Observation, Unanswered>;
    async logs(ident: &Ident, query: LogQuery) -> Result<Box<dyn LogReader>, LogsUnavailable>;
    plain kind() -> &'static str;
    plain capabilities() -> Capabilities;
    plain accepts(blueprint: &Blueprint) -> Result<(), String>;
    plain endpoint(resources: &[Resource]) -> Option<Endpoint>;
    {
        async fn list_owned(&self, install: &str, page: Option<&str>) -> Result<OwnedPage, Unanswered> {
            let asked_at = self.post.monotonic();
            Yield::default().await;
            let answer = self.port.list_owned(install, page).await;
            if let Ok(page) = &answer {
                self.post.listed(page, asked_at);
            }
            Yield::default().await;
            answer
        }

        async fn seal(&self, ident: &Ident) -> Outcome<()> {
            self.post.leaves(Step::Seal, ident.instance);
            Yield::default().await;
            let answer = self.port.seal(ident).await;
            Yield::default().await;
            answer
        }

        async fn destroy(&self, ident: &Ident, resource: &Resource) -> Outcome<()> {
            self.post.leaves(Step::Remove, ident.instance);
            Yield::default().await;
            let answer = self.port.destroy(ident, resource).await;
            Yield::default().await;
            answer
        }

        async fn ensure_base(&self, order: &Order<'_>) -> Outcome<Made> {
            sends!(self, order, Step::Base, ensure_base())
        }

        async fn ensure_storage(&self, order: &Order<'_>) -> Outcome<Made> {
            sends!(self, order, Step::Storage, ensure_storage())
        }

        async fn ensure_runtime(&self, order: &Order<'_>) -> Outcome<Made> {
            sends!(self, order, Step::Runtime, ensure_runtime())
        }

        async fn start(&self, order: &Order<'_>) -> Outcome<Made> {
            sends!(self, order, Step::Power, start())
        }

        async fn stop(&self, order: &Order<'_>) -> Outcome<Made> {
            sends!(self, order, Step::Power, stop())
        }

        async fn restart(&self, order: &Order<'_>) -> Outcome<Made> {
            sends!(self, order, Step::Power, restart())
        }

        async fn update(&self, order: &Order<'_>, running: bool) -> Outcome<Made> {
            sends!(self, order, Step::Update, update(running))
        }
    }
}
