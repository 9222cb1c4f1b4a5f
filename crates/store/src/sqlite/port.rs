//! Which sentence each method of the ports is. Writes go through the writer, reads by key are read where they are asked
//! for, lists beside the runtime.

use std::time::Duration;

use async_trait::async_trait;
use freehold_domain::event::{Actor, EventKind};
use freehold_domain::evidence::OperatorOverride;
use freehold_domain::ids::{InstanceId, LeakId, OperationId};
use freehold_domain::invariants::Invariant;
use freehold_domain::lease::{Epoch, Holder, Lease, NodeId, ProviderName};
use freehold_domain::owner::{Context, Owner};
use freehold_domain::records::{CanonicalSuccess, InstanceRow, RecordsView, Subscription, SubscriptionStatus};
use freehold_domain::reservation::{FrozenSpec, IllegalTransition};
use freehold_domain::resource::{Resource, RuntimeState};
use freehold_domain::route::Endpoint;
use freehold_domain::run::{Bid, Note, Run, Settle, Unclaimable, Work};
use freehold_domain::time::Timestamp;
use freehold_engine::ports::{
    Admission, AdmitRefused, Admitted, Adopted, Adoption, Answer, Asked, AuditPage, AuditQuery, Because, ContextPeek,
    DestroyAccepted, IdempotencyKey, Installation, InstancePage, InstanceQuery, KeyRecord, LeakPage, LeakRecord,
    NodeBeat, NodeOrders, NodeRecord, Nodes, OperationView, Quarantine, Quarantined, RecordChange, Records,
    RecordsError, Registered, RouteEntry, Share, StillThere, Store, StoreError, Stuck, SubscriptionTerms,
    UnresolvedSummary, WorkAccepted,
};

use tokio::sync::oneshot;

use super::error::of_records;
use super::writer::Message;
use super::{
    Mode, SqliteStore, admit, audit, change_log, describe, erase, keys, leaks, lease, nodes, quarantine, records,
    take_in, timers,
};
use crate::shared::house::next_positions;
use crate::shared::sentences::{self, Repair, Watched};

#[async_trait]
impl Store for SqliteStore {
    async fn admit(&self, admission: Admission) -> Result<Admitted, AdmitRefused> {
        self.write(move |tx| admit::admit(tx, &admission)).await.map_err(AdmitRefused::Store)?
    }

    async fn context_peek(
        &self,
        context: &Context,
        limit: u32,
        idempotency: Option<IdempotencyKey>,
    ) -> Result<ContextPeek, StoreError> {
        let now = self.desk.clock.now();
        self.point(|db| admit::peek(db, context, limit, idempotency, now))
    }

    async fn claim(
        &self,
        operation: OperationId,
        holder: &Holder,
    ) -> Result<Result<(Run, Lease), Unclaimable>, StoreError> {
        let holder = holder.clone();
        self.write(move |tx| lease::claim(tx, operation, &holder)).await
    }

    async fn renew(&self, leases: &[Lease]) -> Result<Vec<bool>, StoreError> {
        let leases = leases.to_vec();
        self.write(move |tx| lease::renew(tx, &leases)).await
    }

    async fn note(&self, lease: &Lease, note: Note) -> Result<Run, StoreError> {
        let lease = lease.clone();
        self.write(move |tx| tx.say(lease.instance, |run, _| sentences::note(run, &lease, &note))).await
    }

    async fn settle(&self, lease: &Lease, settle: Settle, answer: Option<Answer>) -> Result<Run, StoreError> {
        let lease = lease.clone();
        self.write(move |tx| tx.say(lease.instance, |run, _| sentences::settle(run, &lease, &settle, answer.as_ref())))
            .await
    }

    async fn destroy_intent_set(
        &self,
        instance: InstanceId,
        reason: Option<String>,
        asked: Asked,
    ) -> Result<DestroyAccepted, StoreError> {
        self.write(move |tx| tx.say(instance, |run, at| Ok(sentences::destroy(run, reason.as_deref(), &asked, at))))
            .await
    }

    async fn work_begin(&self, instance: InstanceId, work: Work, asked: Asked) -> Result<WorkAccepted, StoreError> {
        self.write(move |tx| tx.say(instance, |run, at| Ok(sentences::work(run, &work, &asked, at)))).await
    }

    async fn take_in(&self, bid: Bid, resources: Vec<Resource>, asked: Asked) -> Result<Option<Run>, StoreError> {
        self.write(move |tx| take_in::take_in(tx, &bid, &resources, &asked)).await
    }

    async fn adopt(&self, adoption: Adoption) -> Result<Adopted, StoreError> {
        self.write(move |tx| take_in::adopt(tx, &adoption)).await
    }

    async fn instance_named(&self, provider: &ProviderName, name: &str) -> Result<Option<Registered>, StoreError> {
        let instance = self.point(|db| take_in::named(db, provider, name))?;
        match instance {
            Some(instance) => self.instance_describe(instance).await,
            None => Ok(None),
        }
    }

    async fn owner_is_backfilled(&self, owner: &Owner) -> Result<bool, StoreError> {
        self.point(|db| take_in::is_backfilled(db, owner))
    }

    async fn owner_backfilled_set(&self, owner: &Owner) -> Result<(), StoreError> {
        let owner = owner.clone();
        self.write(move |tx| take_in::backfilled(tx, &owner)).await
    }

    async fn delivery_is_known(&self, id: &str) -> Result<bool, StoreError> {
        self.point(|db| keys::delivery_is_known(db, id))
    }

    async fn delivery_put(&self, id: &str, keep_until: Timestamp) -> Result<(), StoreError> {
        let id = id.to_owned();
        self.write(move |tx| keys::delivery_put(tx, &id, keep_until)).await
    }

    async fn owner_anonymize(
        &self,
        owner: &Owner,
        pseudonym: &Owner,
        spec: FrozenSpec,
    ) -> Result<Result<u64, StillThere>, StoreError> {
        let (owner, pseudonym) = (owner.clone(), pseudonym.clone());
        self.write(move |tx| erase::owner(tx, &owner, &pseudonym, &spec)).await
    }

    async fn sweep_begin(
        &self,
        instance: InstanceId,
        held: Epoch,
        found: Vec<Resource>,
        leak: LeakId,
        asked: Asked,
    ) -> Result<Run, StoreError> {
        self.write(move |tx| tx.say(instance, |run, at| sentences::sweep(run, held, &found, leak, &asked, at))).await
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
        self.write(move |tx| tx.say(repair.proof.instance(), |run, _| Ok(sentences::repair(run, &repair)))).await
    }

    async fn release_override(
        &self,
        instance: InstanceId,
        expected: &'static str,
        said: OperatorOverride,
        asked: Asked,
    ) -> Result<Result<Run, IllegalTransition>, StoreError> {
        self.write(move |tx| tx.say(instance, |run, at| sentences::release_override(run, expected, &said, &asked, at)))
            .await
    }

    async fn hurry(&self, operation: OperationId) -> Result<(), StoreError> {
        self.write(move |tx| lease::hurry(tx, operation)).await
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
        self.write(move |tx| tx.say(instance, |run, _| sentences::watched(run, &saw))).await
    }

    async fn witness(
        &self,
        instance: InstanceId,
        kind: EventKind,
        actor: Actor,
        at: Timestamp,
        detail: String,
    ) -> Result<(), StoreError> {
        self.write(move |tx| audit::witness(tx, instance, kind, actor, at, &detail)).await
    }

    async fn give_back(&self, leases: &[Lease]) -> Result<(), StoreError> {
        let leases = leases.to_vec();
        self.write(move |tx| lease::give_back(tx, &leases)).await
    }

    async fn node_returned(&self, node: &NodeId, incarnation: u64) -> Result<u64, StoreError> {
        let mut rung = 0;
        loop {
            let node = node.clone();
            let some = self.write(move |tx| lease::node_returned(tx, &node, incarnation)).await?;
            rung += some;
            if some < lease::RETURNED_BATCH {
                return Ok(rung);
            }
        }
    }

    async fn due_list(&self, limit: usize, _: Share, _: &[ProviderName]) -> Result<Vec<OperationId>, StoreError> {
        let now = self.desk.clock.now();
        self.point(|db| timers::due(db, now, limit))
    }

    async fn due_next(&self) -> Result<Option<Timestamp>, StoreError> {
        self.point(timers::due_next)
    }

    async fn checks_due(&self, limit: usize, _: &[ProviderName]) -> Result<Vec<InstanceId>, StoreError> {
        let now = self.desk.clock.now();
        self.point(|db| timers::to_check(db, now, limit))
    }

    async fn stuck_list(&self, before: Timestamp, limit: usize) -> Result<Vec<Stuck>, StoreError> {
        self.list(move |db| timers::stuck(db, before, limit)).await
    }

    async fn instance_describe(&self, instance: InstanceId) -> Result<Option<Registered>, StoreError> {
        self.point(|db| describe::instance(db, instance))
    }

    async fn instance_list(&self, query: &InstanceQuery) -> Result<InstancePage, StoreError> {
        let query = query.clone();
        self.list(move |db| describe::list(db, &query)).await
    }

    async fn owner_describe(&self, owner: &Owner) -> Result<Vec<Registered>, StoreError> {
        let owner = owner.clone();
        self.list(move |db| describe::owner(db, &owner)).await
    }

    async fn operation_describe(&self, operation: OperationId) -> Result<Option<OperationView>, StoreError> {
        self.point(|db| describe::operation(db, operation))
    }

    async fn route_lookup(&self, instance: InstanceId) -> Result<Option<RouteEntry>, StoreError> {
        self.point(|db| describe::route(db, instance))
    }

    async fn audit_read(&self, query: &AuditQuery) -> Result<AuditPage, StoreError> {
        let query = query.clone();
        self.list(move |db| audit::read(db, &query)).await
    }

    async fn leak_list(&self, open_only: bool, after: Option<LeakId>, limit: usize) -> Result<LeakPage, StoreError> {
        self.list(move |db| leaks::list(db, open_only, after, limit)).await
    }

    async fn leak_resolve(&self, leak: LeakId, at: Timestamp) -> Result<LeakRecord, StoreError> {
        self.write(move |tx| leaks::resolve(tx, leak, at)).await
    }

    async fn unresolved_summary(&self) -> Result<UnresolvedSummary, StoreError> {
        let now = self.desk.clock.now();
        self.list(move |db| timers::summary(db, now)).await
    }

    fn violations(&self) -> Vec<(Invariant, u64)> {
        self.desk.violations.seen()
    }

    async fn idempotency_purge(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        self.write(move |tx| keys::purge(tx, before, limit)).await
    }

    async fn installation(&self, proposed: Installation) -> Result<Installation, StoreError> {
        self.write(move |tx| keys::installation(tx, &proposed)).await
    }

    async fn key_list(&self) -> Result<Vec<KeyRecord>, StoreError> {
        self.point(keys::list)
    }

    async fn key_create(&self, key: KeyRecord) -> Result<(), StoreError> {
        self.write(move |tx| keys::create(tx, &key)).await
    }

    async fn key_revoke(&self, id: &str, at: Timestamp) -> Result<KeyRecord, StoreError> {
        let id = id.to_owned();
        self.write(move |tx| keys::revoke(tx, &id, at)).await
    }

    async fn latest_at(&self) -> Result<Option<Timestamp>, StoreError> {
        self.list(timers::latest).await
    }

    async fn made_at(&self) -> Result<Timestamp, StoreError> {
        self.list(timers::made_at).await
    }

    async fn close(&self) {
        if let Mode::Threads { queue: Some(queue), .. } = &self.mode {
            let (done, closed) = oneshot::channel();
            if queue.send(Message::Close(done)).await.is_ok() {
                // An error means that the writer is gone already.
                let _ = closed.await;
            }
        }
    }
}

#[async_trait]
impl Nodes for SqliteStore {
    async fn node_start(&self, beat: NodeBeat) -> Result<NodeOrders, StoreError> {
        self.write(move |tx| nodes::start(tx, &beat)).await
    }

    async fn node_beat(&self, beat: NodeBeat) -> Result<NodeOrders, StoreError> {
        self.write(move |tx| nodes::beat(tx, &beat)).await
    }

    async fn node_list(&self) -> Result<Vec<NodeRecord>, StoreError> {
        let now = self.desk.clock.now();
        self.list(move |db| nodes::list(db, now)).await
    }

    async fn node_drain(&self, node: &NodeId, draining: bool) -> Result<NodeRecord, StoreError> {
        let node = node.clone();
        self.write(move |tx| nodes::drain(tx, &node, draining)).await
    }
}

#[async_trait]
impl Quarantine for SqliteStore {
    async fn quarantine(&self) -> Result<Option<Quarantined>, StoreError> {
        self.point(quarantine::read)
    }

    async fn quarantine_begin(&self, why: &str) -> Result<Quarantined, StoreError> {
        let why = why.to_owned();
        self.write(move |tx| quarantine::begin(tx, &why)).await
    }

    async fn quarantine_end(&self, raise: u64) -> Result<u64, StoreError> {
        let from = next_positions(self.high_water().await?);
        let (mut raised, mut after) = (0, None);
        loop {
            let (some, last) = self.write(move |tx| quarantine::raise(tx, after, raise, from)).await?;
            raised += some;
            if last.is_none() {
                self.write(move |tx| quarantine::lift(tx, from)).await?;
                return Ok(raised);
            }
            after = last;
        }
    }

    async fn quarantine_over(&self) -> Result<Option<Timestamp>, StoreError> {
        self.point(quarantine::over_at)
    }

    async fn high_water(&self) -> Result<u64, StoreError> {
        self.point(quarantine::high_water)
    }
}

#[async_trait]
impl Records for SqliteStore {
    async fn describe(&self, instance: InstanceId) -> Result<RecordsView, RecordsError> {
        self.point(|db| records::describe(db, instance)).map_err(of_records)
    }

    async fn active_in(&self, context: &Context) -> Result<Vec<RecordsView>, RecordsError> {
        self.point(|db| records::active_in(db, context)).map_err(of_records)
    }

    async fn active_of(&self, owner: &Owner, limit: usize) -> Result<Vec<RecordsView>, RecordsError> {
        let owner = owner.clone();
        self.list(move |db| records::active_of(db, &owner, limit)).await.map_err(of_records)
    }

    async fn active_after(&self, after: Option<InstanceId>, limit: usize) -> Result<Vec<RecordsView>, RecordsError> {
        self.list(move |db| records::active_after(db, after, limit)).await.map_err(of_records)
    }

    async fn insert(&self, row: InstanceRow, because: &Because) -> Result<RecordsView, RecordsError> {
        let because = because.clone();
        self.write(move |tx| records::insert(tx, &row, &because)).await.map_err(of_records)
    }

    async fn subscription_put(
        &self,
        subscription: Subscription,
        because: &Because,
    ) -> Result<RecordsView, RecordsError> {
        let because = because.clone();
        self.write(move |tx| records::subscription_put(tx, &subscription, &because)).await.map_err(of_records)
    }

    async fn subscription_turn(
        &self,
        instance: InstanceId,
        to: SubscriptionStatus,
        because: &Because,
    ) -> Result<RecordsView, RecordsError> {
        let because = because.clone();
        self.write(move |tx| records::subscription_turn(tx, instance, to, &because)).await.map_err(of_records)
    }

    async fn subscription_end(
        &self,
        instance: InstanceId,
        at: Timestamp,
        because: &Because,
    ) -> Result<RecordsView, RecordsError> {
        let because = because.clone();
        self.write(move |tx| records::subscription_end(tx, instance, at, &because)).await.map_err(of_records)
    }

    async fn unreported(&self, limit: usize) -> Result<Vec<RecordsView>, RecordsError> {
        self.list(move |db| records::unreported(db, limit)).await.map_err(of_records)
    }

    async fn subscription_reported(
        &self,
        instance: InstanceId,
        terms: SubscriptionTerms,
        because: &Because,
    ) -> Result<RecordsView, RecordsError> {
        let because = because.clone();
        self.write(move |tx| records::subscription_reported(tx, instance, &terms, &because)).await.map_err(of_records)
    }

    async fn mark_destroyed(
        &self,
        instance: InstanceId,
        at: Timestamp,
        because: &Because,
    ) -> Result<RecordsView, RecordsError> {
        let because = because.clone();
        self.write(move |tx| records::mark_destroyed(tx, instance, at, &because)).await.map_err(of_records)
    }

    async fn changes(&self, instance: InstanceId, limit: usize) -> Result<Vec<RecordChange>, RecordsError> {
        self.list(move |db| change_log::read(db, instance, limit)).await.map_err(of_records)
    }

    async fn anonymize(&self, owner: &Owner, pseudonym: &Owner, because: &Because) -> Result<u64, RecordsError> {
        let (owner, pseudonym, because) = (owner.clone(), pseudonym.clone(), because.clone());
        self.write(move |tx| records::anonymize(tx, &owner, &pseudonym, &because)).await.map_err(of_records)
    }
}
