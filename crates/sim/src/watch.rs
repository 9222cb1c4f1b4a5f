//! What must hold at each call: the watch stands between every node and the world, and writes down what is wrong.
//!
//! The state of the registry is looked at by the oracle, after the fact. Here is what only the moment shows:
//!
//! - admission, against a rule of its own in plain words ([`Watch::admitting`]);
//! - sends: a call leaves on a lease that has a margin left, behind a committed intent, with the bytes of every other
//!   attempt;
//! - leases: given back by their holders only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use freehold_domain::ids::{InstanceId, OperationId};
use freehold_domain::lease::{Epoch, Lease};
use freehold_domain::ledger::Refusal;
use freehold_domain::operation::{Operation, Step};
use freehold_domain::plan::{Capabilities, Names};
use freehold_domain::reservation::Status;
use freehold_domain::resource::{Resource, ResourceKind};
use freehold_engine::ports::{
    Admission, AdmitRefused, Admitted, Answer, Blueprint, Claim, ContextPeek, Order, OwnedPage, Store, StoreError,
};
use freehold_store::SqliteStore;

use crate::ground::HORIZON;
use crate::node::{LEASE, SEND_MARGIN};
use crate::requests::CHANGED;
use crate::tasks::at_once;
use crate::time::VirtualTime;

/// What one key was used for first.
#[derive(Clone, Copy, Debug)]
struct Used {
    fingerprint: [u8; 32],
    instance: InstanceId,
    operation: OperationId,
}

#[derive(Default)]
struct Notes {
    broken: Vec<String>,
    /// Instances of which something was written since the oracle looked last.
    written: BTreeSet<InstanceId>,
    /// Instances of which a call was answered since the oracle looked behind last.
    touched: BTreeSet<InstanceId>,
    /// Instances to which something may come back that was deleted.
    returning: BTreeSet<InstanceId>,
    /// Instances to which a call may come later than anybody waits: what comes of it is the janitor's.
    late: BTreeSet<InstanceId>,
    /// Instances of which a second copy may be made at once.
    doubled: BTreeSet<InstanceId>,
    /// Instances of which the provider said that something is gone that is not.
    lied_to: BTreeSet<InstanceId>,
    keys: BTreeMap<[u8; 32], Used>,
    /// What was sent for an instance, by the update that it is for and the region.
    sent: BTreeMap<(InstanceId, Option<String>, Option<String>), String>,
    answers: BTreeMap<OperationId, Answer>,
    faults: BTreeMap<&'static str, u64>,
}

/// One for a world.
#[derive(Clone)]
pub struct Watch {
    notes: Arc<Mutex<Notes>>,
    truth: Arc<SqliteStore>,
    time: VirtualTime,
    promises: Capabilities,
}

/// Until when a node's calls for an instance may leave, and arrive, under an epoch: by the answers that it was given. One
/// that hears that its right is lost lets no more leave; what left before may still arrive.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    leave: Duration,
    arrive: Duration,
}

type Windows = BTreeMap<(InstanceId, Epoch), Window>;

/// When a node was first shown a resource in a list, and how often.
type Listed = BTreeMap<(ResourceKind, String), (Duration, u32)>;

/// The watch over one node in one of its lives.
#[derive(Clone)]
pub struct Post {
    watch: Watch,
    windows: Arc<Mutex<Windows>>,
    listed: Arc<Mutex<Listed>>,
    /// How many intents of each step this node has on record whose call has not left: two executors of one node, of which
    /// one is fenced and does not know it, may have one each.
    intended: Arc<Mutex<BTreeMap<(InstanceId, Step), u32>>>,
}

/// What the rule says of an admission, before the store is asked.
#[derive(Debug)]
pub(crate) struct Expected {
    key: Option<Used>,
    same_body: bool,
    unresolved: Vec<InstanceId>,
    active: Vec<InstanceId>,
}

impl Watch {
    /// Over a store that can be asked without anybody yielding, and a provider that promises so much.
    #[must_use]
    pub fn new(truth: Arc<SqliteStore>, time: VirtualTime, promises: Capabilities) -> Self {
        Self { notes: Arc::default(), truth, time, promises }
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts down what is wrong.
    pub fn broken(&self, what: impl Into<String>) {
        self.notes().broken.push(what.into());
    }

    /// What is wrong so far.
    #[must_use]
    pub fn all_broken(&self) -> Vec<String> {
        self.notes().broken.clone()
    }

    /// Something of an instance was written.
    pub fn wrote(&self, instance: InstanceId) {
        self.notes().written.insert(instance);
    }

    /// What was written since this was asked last.
    #[must_use]
    pub fn take_written(&self) -> BTreeSet<InstanceId> {
        std::mem::take(&mut self.notes().written)
    }

    /// What the provider was called for since this was asked last.
    #[must_use]
    pub fn take_touched(&self) -> BTreeSet<InstanceId> {
        std::mem::take(&mut self.notes().touched)
    }

    /// The provider was called for an instance.
    pub fn touched(&self, instance: InstanceId) {
        self.notes().touched.insert(instance);
    }

    /// What the provider deletes of an instance may come back.
    pub fn may_return(&self, instance: InstanceId) {
        self.notes().returning.insert(instance);
    }

    /// A call for an instance may take effect later than anybody waits for it.
    pub fn may_be_late(&self, instance: InstanceId) {
        self.notes().late.insert(instance);
    }

    /// The provider makes a second copy at once.
    pub fn may_double(&self, instance: InstanceId) {
        self.notes().doubled.insert(instance);
    }

    /// Whether something may come to an instance behind its release: nothing that is late gets past a seal.
    #[must_use]
    pub fn may_come_late(&self, instance: InstanceId) -> bool {
        let notes = self.notes();
        notes.returning.contains(&instance) || (!self.promises.seals && notes.late.contains(&instance))
    }

    /// Whether an instance may have two of a kind for a while: never where names are enforced.
    #[must_use]
    pub fn may_have_two(&self, instance: InstanceId) -> bool {
        let notes = self.notes();
        let doubled = notes.late.contains(&instance) || notes.doubled.contains(&instance);
        notes.returning.contains(&instance) || (self.promises.names != Names::Unique && doubled)
    }

    /// The provider says that something of this instance is gone that is not.
    pub fn lie_to(&self, instance: InstanceId) {
        self.notes().lied_to.insert(instance);
    }

    /// Whether it did.
    #[must_use]
    pub fn was_lied_to(&self, instance: InstanceId) -> bool {
        self.notes().lied_to.contains(&instance)
    }

    /// Counts a fault that happened.
    pub fn count(&self, fault: &'static str) {
        *self.notes().faults.entry(fault).or_default() += 1;
    }

    /// How often each fault happened.
    #[must_use]
    pub fn faults(&self) -> BTreeMap<&'static str, u64> {
        self.notes().faults.clone()
    }

    /// The instances and operations that keys lead to.
    #[must_use]
    pub fn keyed(&self) -> Vec<(InstanceId, OperationId)> {
        self.notes().keys.values().map(|used| (used.instance, used.operation)).collect()
    }

    /// An operation has this answer on record: the first one that was seen stays, byte for byte.
    pub fn answered(&self, operation: OperationId, answer: &Answer) {
        let mut notes = self.notes();
        let first = notes.answers.entry(operation).or_insert_with(|| answer.clone()).clone();
        if first != *answer {
            notes.broken.push(format!("SameAnswer: the answer of {operation} was {first:?} and is {answer:?}"));
        }
    }

    /// The rule of admission, in words: a key that is known decides; then an unresolved reservation refuses; then as many
    /// complete instances that nobody destroys as there may be refuse; and nothing else does.
    pub(crate) fn admitting(&self, admission: &Admission) -> Expected {
        let registered = at_once(self.truth.owner_describe(admission.bid.context.owner())).unwrap_or_default();
        let of_context = || registered.iter().filter(|one| one.reservation.context == admission.bid.context);
        let unresolved = of_context().filter(|one| match one.reservation.status {
            Status::InProgress | Status::NeedsReconciliation { .. } => true,
            Status::Completed | Status::Released { .. } => false,
        });
        let active = of_context()
            .filter(|one| one.reservation.status == Status::Completed && !one.reservation.intent.is_destroy());
        let key = admission.idempotency.and_then(|key| self.notes().keys.get(&key.scope).copied());
        Expected {
            same_body: key.zip(admission.idempotency).is_some_and(|(used, key)| used.fingerprint == key.fingerprint),
            key,
            unresolved: unresolved.map(|one| one.reservation.instance).collect(),
            active: active.map(|one| one.reservation.instance).collect(),
        }
    }

    /// What the store made of an admission.
    pub(crate) fn admitted(&self, admission: &Admission, expected: &Expected, answer: &Result<Admitted, AdmitRefused>) {
        let Admission { bid, asked, limit, idempotency } = admission;
        let full = expected.active.len() >= *limit as usize;
        let lawful = match answer {
            Ok(Admitted::Taken(run)) => {
                run.operation.id == asked.operation && expected.key.is_none() && expected.unresolved.is_empty() && !full
            }
            Ok(Admitted::Replayed { operation, .. }) => {
                expected.same_body && expected.key.is_some_and(|used| used.operation == *operation)
            }
            Err(AdmitRefused::KeyReused) => expected.key.is_some() && !expected.same_body,
            Err(AdmitRefused::Conflict(Refusal::InProgress { instance, .. })) => {
                expected.key.is_none() && expected.unresolved.contains(instance)
            }
            Err(AdmitRefused::Conflict(Refusal::AlreadyActive { instance, .. })) => {
                expected.key.is_none() && expected.unresolved.is_empty() && full && expected.active.contains(instance)
            }
            Err(AdmitRefused::Store(StoreError::Unavailable(_) | StoreError::Unknown(_))) => true,
            Err(AdmitRefused::Store(
                StoreError::Refused(_) | StoreError::Missing(_) | StoreError::Corrupt(_) | StoreError::Quarantined(_),
            )) => false,
        };
        if !lawful {
            self.broken(format!("the rule of admission: {expected:?} was answered {answer:?}"));
        }
        let taken = at_once(self.truth.instance_describe(bid.instance)).ok().flatten();
        match answer {
            Ok(Admitted::Taken(_)) if taken.is_none() => {
                self.broken(format!("AckDurable: {} was taken and is not on record", bid.instance));
            }
            Err(AdmitRefused::Store(StoreError::Unavailable(_))) if taken.is_some() => {
                self.broken(format!("AckDurable: {} was refused and is on record", bid.instance));
            }
            Ok(_) | Err(_) => {}
        }
        if taken.is_some() {
            self.wrote(bid.instance);
            if let Some(key) = idempotency {
                let used = Used { fingerprint: key.fingerprint, instance: bid.instance, operation: asked.operation };
                self.notes().keys.entry(key.scope).or_insert(used);
            }
        }
    }

    /// What a look at a context said of a key.
    pub(crate) fn peeked(&self, key: Option<freehold_engine::ports::IdempotencyKey>, answer: &ContextPeek) {
        let used = key.and_then(|key| self.notes().keys.get(&key.scope).copied());
        let lawful = match (answer, used, key) {
            (ContextPeek::Replayed { operation, .. }, Some(used), Some(key)) => {
                used.operation == *operation && used.fingerprint == key.fingerprint
            }
            (ContextPeek::KeyReused, Some(used), Some(key)) => used.fingerprint != key.fingerprint,
            (ContextPeek::Replayed { .. } | ContextPeek::KeyReused, _, _) => false,
            (ContextPeek::Taken { .. } | ContextPeek::Free, used, _) => used.is_none(),
        };
        if !lawful {
            self.broken(format!("SameAnswer: a key used as {used:?} was answered {answer:?}"));
        }
    }
}

impl Post {
    /// A post at a node that begins a life.
    #[must_use]
    pub fn new(watch: Watch) -> Self {
        Self { watch, windows: Arc::default(), listed: Arc::default(), intended: Arc::default() }
    }

    /// The world's watch.
    #[must_use]
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// The time by the node's monotonic clock.
    pub(crate) fn monotonic(&self) -> Duration {
        self.watch.time.passed()
    }

    fn windows(&self) -> MutexGuard<'_, Windows> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until when this node's calls for an instance may leave and arrive, under any epoch.
    fn window(&self, instance: InstanceId) -> Window {
        let windows = self.windows();
        let of_instance = windows.range((instance, Epoch::FIRST)..).take_while(|((other, _), _)| *other == instance);
        of_instance.fold(Window::default(), |all, (_, one)| Window {
            leave: all.leave.max(one.leave),
            arrive: all.arrive.max(one.arrive),
        })
    }

    /// This node was given a lease that it asked for at `asked_at`.
    pub(crate) fn holds(&self, lease: Option<Lease>, asked_at: Duration) {
        if let Some(lease) = lease {
            let until = asked_at + LEASE;
            self.windows().insert((lease.instance, lease.epoch), Window { leave: until, arrive: until });
        }
    }

    /// This node was told which of its leases still hold.
    pub(crate) fn renewed(&self, leases: &[Lease], held: &[bool], asked_at: Duration) {
        let mut windows = self.windows();
        for (lease, held) in leases.iter().zip(held) {
            if let Some(window) = windows.get_mut(&(lease.instance, lease.epoch)) {
                let until = asked_at + LEASE;
                window.leave = if *held { until } else { Duration::ZERO };
                window.arrive = if *held { until } else { window.arrive };
            }
        }
    }

    /// Who holds what a node is about to give back.
    pub(crate) fn giving_back(&self, leases: &[Lease]) -> Vec<Option<Operation>> {
        let operation = |lease: &Lease| at_once(self.watch.truth.instance_describe(lease.instance)).ok().flatten();
        leases.iter().map(|lease| operation(lease).map(|registered| registered.operation)).collect()
    }

    /// What became of it.
    pub(crate) fn gave_back(&self, leases: &[Lease], before: &[Option<Operation>]) {
        let after = self.giving_back(leases);
        for ((lease, before), after) in leases.iter().zip(before).zip(after) {
            let Some(before) = before else { continue };
            let theirs = before.id == lease.operation && before.holder.as_ref() == Some(&lease.holder);
            if !theirs && after.as_ref() != Some(before) {
                self.watch.broken(format!("TakesOver: {} gave back what is {:?}'s", lease.holder.node, before.holder));
            }
            self.watch.wrote(lease.instance);
        }
    }

    /// The intent of a step is on record.
    pub(crate) fn intends(&self, instance: InstanceId, step: Step) {
        *self.intended.lock().unwrap_or_else(PoisonError::into_inner).entry((instance, step)).or_default() += 1;
    }

    /// A call that makes or changes a runtime, or what it needs, is about to leave.
    pub(crate) fn sends(&self, step: Step, order: &Order<'_>) {
        self.leaves(step, order.ident.instance);
        if matches!(step, Step::Base | Step::Storage | Step::Runtime) {
            self.sends_the_same(order.ident.instance, order.blueprint);
        }
    }

    /// A call that may change something is about to leave: on a lease that is good for it, behind an intent of its own.
    pub(crate) fn leaves(&self, step: Step, instance: InstanceId) {
        let now = self.monotonic();
        let until = self.window(instance).leave;
        if until <= now + SEND_MARGIN {
            self.watch.broken(format!(
                "EpochMonotone: a call for {instance} leaves at {now:?} on a lease that is good until {until:?}"
            ));
        }
        let mut intended = self.intended.lock().unwrap_or_else(PoisonError::into_inner);
        let left = intended.get_mut(&(instance, step)).filter(|count| **count > 0);
        let has_one = left.map(|count| *count -= 1).is_some();
        drop(intended);
        if !has_one {
            self.watch
                .broken(format!("AdmitFirst: a call of step {step} for {instance} leaves without an intent on record"));
        }
    }

    fn sends_the_same(&self, instance: InstanceId, blueprint: &Blueprint) {
        let Blueprint { command, image, env, secrets: _, memory_mb, cpu_millis, volume_gb, region } = blueprint;
        let bytes = format!("{command:?} {image:?} {env:?} {memory_mb} {cpu_millis} {volume_gb}");
        let update = env.get(CHANGED).cloned();
        let mut notes = self.watch.notes();
        let first = notes.sent.entry((instance, update, region.clone())).or_insert_with(|| bytes.clone());
        if *first != bytes {
            let what = format!("SameAnswer: {instance} was sent as {first}, and then as {bytes}");
            notes.broken.push(what);
        }
    }

    /// This node was shown what is there. What the registry refers to at that moment is not on its way out.
    pub(crate) fn listed(&self, page: &OwnedPage, asked_at: Duration) {
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        for owned in &page.resources {
            let thing = (owned.resource.kind, owned.resource.id.clone());
            let instance = match &owned.claim {
                Claim::Tags(tags) => tags.instance.parse().ok(),
                Claim::Name(instance) => Some(*instance),
            };
            let registered = instance.and_then(|id| at_once(self.watch.truth.instance_describe(id)).ok().flatten());
            let referred_to = registered.is_some_and(|registered| {
                let own = registered.reservation.is_active() && registered.reservation.owns(&owned.resource);
                own || !registered.operation.status.is_over()
            });
            if referred_to {
                // What is referred to in the list may be nobody's when it is judged, a moment later: it was seen once.
                listed.insert(thing, (asked_at, 1));
            } else {
                listed.entry(thing).or_insert((asked_at, 0)).1 += 1;
            }
        }
    }

    /// This node is about to have something swept: it has seen it twice, a settle horizon apart.
    pub(crate) fn sweeps(&self, found: &[Resource]) {
        let now = self.monotonic();
        let listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        for resource in found {
            let seen = listed.get(&(resource.kind, resource.id.clone()));
            if !seen.is_some_and(|(first, times)| *times >= 2 && now.saturating_sub(*first) >= HORIZON.max(LEASE)) {
                self.watch.broken(format!("SweepSafe: {} {} is swept, seen {seen:?}", resource.kind, resource.id));
            }
        }
    }

    /// A call reaches the provider. One whose sender lost its right on the way is nobody's to wait for.
    pub(crate) fn arrives(&self, instance: InstanceId) {
        let now = self.monotonic();
        if self.window(instance).arrive <= now {
            self.watch.may_be_late(instance);
        }
    }
}
