//! Which sentence each method of the port is.

use std::time::Duration;

use async_trait::async_trait;
use freehold_domain::event::{Actor, EventKind};
use freehold_domain::evidence::OperatorOverride;
use freehold_domain::ids::{InstanceId, LeakId, OperationId};
use freehold_domain::invariants::Invariant;
use freehold_domain::lease::{Epoch, Holder, Lease, NodeId, ProviderName};
use freehold_domain::owner::{Context, Owner};
use freehold_domain::records::CanonicalSuccess;
use freehold_domain::reservation::{FrozenSpec, IllegalTransition};
use freehold_domain::resource::{Resource, RuntimeState};
use freehold_domain::route::Endpoint;
use freehold_domain::run::{Bid, Note, Run, Settle, Unclaimable, Work};
use freehold_domain::time::Timestamp;
use freehold_engine::ports::{
    Admission, AdmitRefused, Admitted, Adopted, Adoption, Answer, Asked, AuditPage, AuditQuery, ContextPeek,
    DestroyAccepted, IdempotencyKey, Installation, InstancePage, InstanceQuery, KeyRecord, LeakPage, LeakRecord,
    NodeBeat, NodeOrders, NodeRecord, Nodes, OperationView, Registered, RouteEntry, Share, StillThere, Store,
    StoreError, Stuck, UnresolvedSummary, WorkAccepted,
};

use super::{Of, PostgresStore};
use crate::shared::sentences::{self, Repair, Said, Watched};

#[async_trait]
impl Nodes for PostgresStore {
    async fn node_start(&self, beat: NodeBeat) -> Result<NodeOrders, StoreError> {
        self.node_starts(&beat).await
    }

    async fn node_beat(&self, beat: NodeBeat) -> Result<NodeOrders, StoreError> {
        self.node_tells(&beat, false).await
    }

    async fn node_list(&self) -> Result<Vec<NodeRecord>, StoreError> {
        self.nodes().await
    }

    async fn node_drain(&self, node: &NodeId, draining: bool) -> Result<NodeRecord, StoreError> {
        self.node_drains(node, draining).await
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn admit(&self, admission: Admission) -> Result<Admitted, AdmitRefused> {
        self.admission(&admission).await.map_err(AdmitRefused::Store)?
    }

    async fn context_peek(
        &self,
        context: &Context,
        limit: u32,
        idempotency: Option<IdempotencyKey>,
    ) -> Result<ContextPeek, StoreError> {
        self.peek(context, limit, idempotency).await
    }

    async fn claim(
        &self,
        operation: OperationId,
        holder: &Holder,
    ) -> Result<Result<(Run, Lease), Unclaimable>, StoreError> {
        self.say(Of::Operation(operation), |loaded, moment| {
            if loaded.run.operation.id != operation {
                return Ok(Said::nothing(Err(Unclaimable::Over)));
            }
            sentences::claim(&loaded.run, holder, moment)
        })
        .await
    }

    async fn renew(&self, leases: &[Lease]) -> Result<Vec<bool>, StoreError> {
        self.renewed(leases).await
    }

    async fn note(&self, lease: &Lease, note: Note) -> Result<Run, StoreError> {
        self.say(Of::Instance(lease.instance), |loaded, _| sentences::note(&loaded.run, lease, &note)).await
    }

    async fn settle(&self, lease: &Lease, settle: Settle, answer: Option<Answer>) -> Result<Run, StoreError> {
        let of = Of::Instance(lease.instance);
        self.say(of, |loaded, _| sentences::settle(&loaded.run, lease, &settle, answer.as_ref())).await
    }

    async fn destroy_intent_set(
        &self,
        instance: InstanceId,
        reason: Option<String>,
        asked: Asked,
    ) -> Result<DestroyAccepted, StoreError> {
        let of = Of::Instance(instance);
        self.say(of, |loaded, moment| Ok(sentences::destroy(&loaded.run, reason.as_deref(), &asked, moment))).await
    }

    async fn work_begin(&self, instance: InstanceId, work: Work, asked: Asked) -> Result<WorkAccepted, StoreError> {
        let of = Of::Instance(instance);
        self.say(of, |loaded, moment| Ok(sentences::work(&loaded.run, &work, &asked, moment))).await
    }

    async fn take_in(&self, bid: Bid, resources: Vec<Resource>, asked: Asked) -> Result<Option<Run>, StoreError> {
        self.taking_in(&bid, &resources, &asked).await
    }

    async fn adopt(&self, adoption: Adoption) -> Result<Adopted, StoreError> {
        self.adopting(&adoption).await
    }

    async fn instance_named(&self, provider: &ProviderName, name: &str) -> Result<Option<Registered>, StoreError> {
        match self.named(provider, name).await? {
            Some(instance) => self.registered(instance).await,
            None => Ok(None),
        }
    }

    async fn owner_is_backfilled(&self, owner: &Owner) -> Result<bool, StoreError> {
        self.is_backfilled(owner).await
    }

    async fn owner_backfilled_set(&self, owner: &Owner) -> Result<(), StoreError> {
        self.backfilled(owner).await
    }

    async fn delivery_is_known(&self, id: &str) -> Result<bool, StoreError> {
        self.delivery(id).await
    }

    async fn delivery_put(&self, id: &str, keep_until: Timestamp) -> Result<(), StoreError> {
        self.delivered(id, keep_until).await
    }

    async fn owner_anonymize(
        &self,
        owner: &Owner,
        pseudonym: &Owner,
        spec: FrozenSpec,
    ) -> Result<Result<u64, StillThere>, StoreError> {
        self.anonymized(owner, pseudonym, &spec).await
    }

    async fn sweep_begin(
        &self,
        instance: InstanceId,
        held: Epoch,
        found: Vec<Resource>,
        leak: LeakId,
        asked: Asked,
    ) -> Result<Run, StoreError> {
        let of = Of::Instance(instance);
        self.say(of, |loaded, moment| sentences::sweep(&loaded.run, held, &found, leak, &asked, moment)).await
    }

    async fn repair(
        &self,
        proof: CanonicalSuccess,
        endpoint: Endpoint,
        actor: Actor,
        at: Timestamp,
        check_at: Timestamp,
        answer: Option<Answer>,
    ) -> Result<Result<Run, IllegalTransition>, StoreError> {
        let repair = Repair { proof, endpoint, actor, at, check_at, answer };
        let of = Of::Instance(repair.proof.instance());
        self.say(of, |loaded, _| Ok(sentences::repair(&loaded.run, &repair))).await
    }

    async fn release_override(
        &self,
        instance: InstanceId,
        expected: &'static str,
        said: OperatorOverride,
        asked: Asked,
    ) -> Result<Result<Run, IllegalTransition>, StoreError> {
        self.say(Of::Instance(instance), |loaded, moment| {
            sentences::release_override(&loaded.run, expected, &said, &asked, moment)
        })
        .await
    }

    async fn hurry(&self, operation: OperationId) -> Result<(), StoreError> {
        self.hurried(operation).await
    }

    async fn watched(
        &self,
        instance: InstanceId,
        epoch: Epoch,
        state: RuntimeState,
        at: Timestamp,
        check_at: Timestamp,
        settled_after: Duration,
    ) -> Result<(), StoreError> {
        let saw = Watched { epoch, state, at, check_at, settled_after };
        self.say(Of::Instance(instance), |loaded, _| sentences::watched(&loaded.run, &saw)).await
    }

    async fn witness(
        &self,
        instance: InstanceId,
        kind: EventKind,
        actor: Actor,
        at: Timestamp,
        detail: String,
    ) -> Result<(), StoreError> {
        self.witnessed(instance, kind, actor, at, &detail).await
    }

    async fn give_back(&self, leases: &[Lease]) -> Result<(), StoreError> {
        for lease in leases {
            let of = Of::Instance(lease.instance);
            match self.say(of, |loaded, moment| Ok(sentences::give_back(&loaded.run, lease, moment))).await {
                Ok(()) | Err(StoreError::Missing(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn node_returned(&self, node: &NodeId, incarnation: u64) -> Result<u64, StoreError> {
        self.returned(node, incarnation).await
    }

    async fn due_list(
        &self,
        limit: usize,
        share: Share,
        elsewhere: &[ProviderName],
    ) -> Result<Vec<OperationId>, StoreError> {
        self.due(limit, share, elsewhere).await
    }

    async fn due_next(&self) -> Result<Option<Timestamp>, StoreError> {
        self.next_due().await
    }

    async fn checks_due(&self, limit: usize, elsewhere: &[ProviderName]) -> Result<Vec<InstanceId>, StoreError> {
        self.checks(limit, elsewhere).await
    }

    async fn stuck_list(&self, before: Timestamp, limit: usize) -> Result<Vec<Stuck>, StoreError> {
        self.stuck(before, limit).await
    }

    async fn instance_describe(&self, instance: InstanceId) -> Result<Option<Registered>, StoreError> {
        self.registered(instance).await
    }

    async fn instance_list(&self, query: &InstanceQuery) -> Result<InstancePage, StoreError> {
        self.instances(query).await
    }

    async fn owner_describe(&self, owner: &Owner) -> Result<Vec<Registered>, StoreError> {
        self.of_owner(owner).await
    }

    async fn operation_describe(&self, operation: OperationId) -> Result<Option<OperationView>, StoreError> {
        self.operation(operation).await
    }

    async fn route_lookup(&self, instance: InstanceId) -> Result<Option<RouteEntry>, StoreError> {
        self.route(instance).await
    }

    async fn audit_read(&self, query: &AuditQuery) -> Result<AuditPage, StoreError> {
        self.trail(query).await
    }

    async fn leak_list(&self, open_only: bool, after: Option<LeakId>, limit: usize) -> Result<LeakPage, StoreError> {
        self.leaks(open_only, after, limit).await
    }

    async fn leak_resolve(&self, leak: LeakId, at: Timestamp) -> Result<LeakRecord, StoreError> {
        self.leak_closed(leak, at).await
    }

    async fn unresolved_summary(&self) -> Result<UnresolvedSummary, StoreError> {
        self.summary().await
    }

    fn violations(&self) -> Vec<(Invariant, u64)> {
        self.desk.violations.seen()
    }

    async fn idempotency_purge(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        self.forget(before, limit).await
    }

    async fn installation(&self, proposed: Installation) -> Result<Installation, StoreError> {
        self.shared_installation(&proposed).await
    }

    async fn key_list(&self) -> Result<Vec<KeyRecord>, StoreError> {
        self.keys().await
    }

    async fn key_create(&self, key: KeyRecord) -> Result<(), StoreError> {
        self.key_put(&key).await
    }

    async fn key_revoke(&self, id: &str, at: Timestamp) -> Result<KeyRecord, StoreError> {
        self.key_end(id, at).await
    }

    async fn latest_at(&self) -> Result<Option<Timestamp>, StoreError> {
        self.latest().await
    }

    async fn made_at(&self) -> Result<Timestamp, StoreError> {
        self.made().await
    }

    /// What waits is answered as it would be; nothing is kept here that could be lost.
    async fn close(&self) {}
}
