//! The registry: who may create, and where to send traffic.
//!
//! Each writing method is one transaction and one sentence. Inside it a store locks the context's guard row, loads what
//! the domain function needs, calls it, writes the difference and appends its events to the context's audit chain; the
//! fence is in the statement that writes. What a method answered is durable. A commit whose answer is lost is
//! [`StoreError::Unknown`], and nothing else is.
//!
//! Leases expire and deadlines pass by the store's own clock, whatever the clocks of the nodes show. Times inside a
//! [`Note`] or [`Settle`] come from the caller, so that what it answered and what is stored agree; it derives them from
//! the store's time when it got its lease.

use std::time::Duration;

use async_trait::async_trait;
use freehold_domain::event::{Actor, Event, EventKind};
use freehold_domain::evidence::OperatorOverride;
use freehold_domain::ids::{InstanceId, LeakId, OperationId};
use freehold_domain::lease::{Epoch, Holder, InstallId, Lease, NodeId, ProviderName};
use freehold_domain::ledger::Refusal;
use freehold_domain::operation::Operation;
use freehold_domain::owner::{Context, ExternalId, Owner};
use freehold_domain::records::CanonicalSuccess;
use freehold_domain::reservation::{FrozenSpec, IllegalTransition, Power, Reservation};
use freehold_domain::resource::{Resource, RuntimeState};
use freehold_domain::route::{Endpoint, Route};
use freehold_domain::run::{Bid, Commission, Note, Refused, Run, Settle, Unclaimable, Work, WorkRefused};
use freehold_domain::time::Timestamp;

use super::{Nodes, Quarantine, Share};

/// A transaction that did not answer "done".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Surely nothing was written: busy, full, or closing.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The commit was sent and its answer is missing: it may have happened.
    #[error("the store's answer to a commit is lost: {0}")]
    Unknown(String),
    /// A row that cannot be read as what it should be. Nothing was written.
    #[error("the store holds something it should not: {0}")]
    Corrupt(String),
    /// The writer lost its right, or the state machine does not have it. Nothing was written.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// There is no such thing.
    #[error("there is no such {0}")]
    Missing(&'static str),
    /// The registry is in quarantine: nothing was asked of the store, and nothing is until that is over. The engine says
    /// this; a store never does.
    #[error(
        "the registry comes from a backup ({0}); nothing is changed until somebody has compared it with the providers: \
         `freehold restore confirm` ends that"
    )]
    Quarantined(String),
}

/// The answer to a provision, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body, JSON.
    pub body: Vec<u8>,
}

/// An idempotency key as stores know it: hashed, so that neither keys nor bodies lie around.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IdempotencyKey {
    /// SHA-256 over caller, owner and key.
    pub scope: [u8; 32],
    /// HMAC-SHA256 over the canonical body, under the installation's key: bodies hold secrets.
    pub fingerprint: [u8; 32],
}

/// Who asks for an operation, and who runs it first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The operation's id, minted by the caller.
    pub operation: OperationId,
    /// Who asks.
    pub actor: Actor,
    /// In which request.
    pub request_id: String,
    /// How long going forward may take, from the commit that accepts it.
    pub deadline_in: Duration,
    /// Who runs it from the start, if this node does; else the next executor that looks.
    pub holder: Option<Holder>,
}

impl Asked {
    /// The commission for the domain: the store says what time it is, and until when the first lease lasts.
    #[must_use]
    pub fn commission(&self, now: Timestamp, lease_until: Timestamp) -> Commission {
        Commission {
            operation: self.operation,
            actor: self.actor,
            request_id: self.request_id.clone(),
            deadline: now.plus(self.deadline_in),
            hold: self.holder.clone().map(|holder| freehold_domain::run::Hold { holder, until: lease_until }),
        }
    }
}

/// A request to take a reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// What is to be made.
    pub bid: Bid,
    /// Who asks.
    pub asked: Asked,
    /// How many instances the context may have.
    pub limit: u32,
    /// The caller's key, if it sent one.
    pub idempotency: Option<IdempotencyKey>,
}

/// An operation that this node may run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The state to go on from.
    pub run: Run,
    /// The right to.
    pub lease: Lease,
    /// When the right was asked for, by this process's monotonic clock: it lasts from then.
    pub asked_at: Duration,
}

/// What an admission came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// A reservation was taken.
    Taken(Box<Run>),
    /// The key was used before with the same body: this operation is the answer.
    Replayed {
        /// The operation.
        operation: OperationId,
        /// Its instance.
        instance: InstanceId,
    },
}

/// Why nothing was admitted. Nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdmitRefused {
    /// The context is taken.
    #[error("the context is taken: {0:?}")]
    Conflict(Refusal),
    /// The key was used before with another body.
    #[error("the idempotency key was used with another body")]
    KeyReused,
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Something that was made elsewhere, to be taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adoption {
    /// What it is, under its own name.
    pub bid: Bid,
    /// What of it is at the provider.
    pub resources: Vec<Resource>,
    /// Whether it is up, and stays so.
    pub power: Power,
    /// Who asks.
    pub asked: Asked,
    /// How many instances the context may have.
    pub limit: u32,
}

/// What asking to take in something that was made elsewhere came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Adopted {
    /// It is taken in.
    Taken(Box<Run>),
    /// An instance that is not released has the name at this provider. Nothing was written.
    Known(InstanceId),
    /// The context is taken. Nothing was written.
    Conflict(Refusal),
}

/// What a look at a context, without a transaction, says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContextPeek {
    /// The key was used before with the same body.
    Replayed {
        /// The operation.
        operation: OperationId,
        /// Its instance.
        instance: InstanceId,
    },
    /// The key was used before with another body.
    KeyReused,
    /// The context was taken when it was looked at.
    Taken {
        /// By whom.
        refusal: Refusal,
        /// Whether nobody seems to be working on it: its timer rang, or it is cleaning up.
        unattended: bool,
    },
    /// Nothing was in the way when it was looked at.
    Free,
}

/// What asking for a destroy came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DestroyAccepted {
    /// There is nothing left to destroy.
    Finished,
    /// An earlier one does it.
    Underway(OperationId),
    /// This one does it.
    Accepted {
        /// The run from then on.
        run: Box<Run>,
        /// The operation that it cut short.
        replaced: Option<OperationId>,
    },
}

/// What asking for work came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkAccepted {
    /// It is as asked already.
    NothingToDo,
    /// An earlier one does it.
    Underway(OperationId),
    /// This one does it.
    Accepted {
        /// The run from then on.
        run: Box<Run>,
        /// The operation that it cut short.
        replaced: Option<OperationId>,
    },
    /// The instance is not in a state for it.
    Refused(WorkRefused),
}

/// Everything the registry says of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// Its reservation.
    pub reservation: Reservation,
    /// The operation that works on it, or did last.
    pub operation: Operation,
    /// Its route, if it ever had one.
    pub route: Option<Route>,
}

/// An operation, with the instance it works or worked on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationView {
    /// The operation.
    pub operation: Operation,
    /// The instance's reservation as it is.
    pub reservation: Reservation,
    /// The answer that its caller gets, where it was asked for with an idempotency key and is answered.
    pub answer: Option<Answer>,
}

/// A route, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteEntry {
    /// Whose.
    pub context: Context,
    /// The route; `None` while the instance is being made.
    pub route: Option<Route>,
}

/// Which instances to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InstanceQuery {
    /// Only this owner's.
    pub owner: Option<Owner>,
    /// Only this person's.
    pub assigned_user: Option<ExternalId>,
    /// Only with this reservation status.
    pub status: Option<&'static str>,
    /// Only those that are released, or only those that are not.
    pub released: Option<bool>,
    /// Only those admitted before this.
    pub started_before: Option<Timestamp>,
    /// Only those behind this id.
    pub after: Option<InstanceId>,
    /// At most so many.
    pub limit: usize,
}

/// Things in the order of their ids, and where to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<T, C> {
    /// The things.
    pub items: Vec<T>,
    /// What to pass as `after` for the next ones, if there are any.
    pub next: Option<C>,
}

/// A page of instances.
pub type InstancePage = Listed<Registered, InstanceId>;

/// A page of the audit trail.
pub type AuditPage = Listed<AuditRecord, u64>;

/// A page of leaks.
pub type LeakPage = Listed<LeakRecord, LeakId>;

/// Which part of the audit trail to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditQuery {
    /// Only what is behind this position.
    pub after: u64,
    /// Only this instance's.
    pub instance: Option<InstanceId>,
    /// At most so many.
    pub limit: usize,
}

/// One line of the audit trail. Per context, `hash` is SHA-256 over `prev_hash`, `context_seq` and the event in the
/// encoding of [`crate::audit`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// Its position in the order of commits, over all contexts. Resuming behind one never skips one.
    pub position: u64,
    /// Whose it is.
    pub context: Context,
    /// Its number in its context, from 1.
    pub context_seq: u64,
    /// What happened.
    pub event: Event,
    /// The hash of the line before it in its context; zeros for the first.
    pub prev_hash: [u8; 32],
    /// Its own hash.
    pub hash: [u8; 32],
}

/// A resource, or an ident, that was given up on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeakRecord {
    /// Its id.
    pub id: LeakId,
    /// Of which instance.
    pub instance: InstanceId,
    /// Why.
    pub reason: String,
    /// Since when.
    pub opened_at: Timestamp,
    /// Until when.
    pub resolved_at: Option<Timestamp>,
}

/// What all nodes on one registry share, minted by the first.
#[derive(Clone, PartialEq, Eq)]
pub struct Installation {
    /// In names and tags at providers.
    pub install: InstallId,
    /// Signs tags.
    pub mac_key: [u8; 32],
    /// Encrypts secrets at rest.
    pub secret_key: [u8; 32],
}

impl std::fmt::Debug for Installation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Installation").field("install", &self.install).finish_non_exhaustive()
    }
}

/// What a key's bearer may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyRole {
    /// Any context.
    Platform,
    /// Platform, and the operators' routes.
    Operator,
    /// Reads.
    Viewer,
}

impl KeyRole {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Platform, Self::Operator, Self::Viewer];

    /// The role's name on the wire and in the store.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Operator => "operator",
            Self::Viewer => "viewer",
        }
    }
}

/// An API key, without what its bearer shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// Its public id: the characters behind the prefix, before the secret.
    pub id: String,
    /// What it is for, in its maker's words.
    pub label: String,
    /// What its bearer may do.
    pub role: KeyRole,
    /// SHA-256 of the whole key.
    pub hash: [u8; 32],
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// How much is unresolved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnresolvedSummary {
    /// Reservations in progress.
    pub in_progress: u64,
    /// Reservations that need reconciliation.
    pub needs_reconciliation: u64,
    /// When the oldest of them was admitted.
    pub oldest: Option<Timestamp>,
    /// Operations whose timer has rung.
    pub timers_due: u64,
    /// Leaks that are open.
    pub leaks_open: u64,
}

/// A destroy that does not get on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// Of which instance.
    pub instance: InstanceId,
    /// Since when.
    pub since: Timestamp,
    /// What went wrong last.
    pub last_error: Option<String>,
}

/// An owner that cannot be forgotten: this instance of it is not released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("instance {0} is not destroyed")]
pub struct StillThere(pub InstanceId);

/// The registry.
#[async_trait]
pub trait Store: Nodes + Quarantine {
    /// Takes a reservation: idempotency record, reservation, operation, first lease, timer and audit event together.
    async fn admit(&self, admission: Admission) -> Result<Admitted, AdmitRefused>;

    /// Looks at a context without a transaction. A refusal seen here was true when it was seen.
    async fn context_peek(
        &self,
        context: &Context,
        limit: u32,
        idempotency: Option<IdempotencyKey>,
    ) -> Result<ContextPeek, StoreError>;

    /// Takes an operation over; epoch + 1. `asked_at` is left for the caller to fill in.
    async fn claim(
        &self,
        operation: OperationId,
        holder: &Holder,
    ) -> Result<Result<(Run, Lease), Unclaimable>, StoreError>;

    /// Prolongs leases. Answers which of them still hold, in the order asked.
    async fn renew(&self, leases: &[Lease]) -> Result<Vec<bool>, StoreError>;

    /// Commits a finding and what follows from it.
    async fn note(&self, lease: &Lease, note: Note) -> Result<Run, StoreError>;

    /// Commits the end of an operation or its turn to cleaning up, and the answer to its caller.
    async fn settle(&self, lease: &Lease, settle: Settle, answer: Option<Answer>) -> Result<Run, StoreError>;

    /// Accepts a destroy.
    async fn destroy_intent_set(
        &self,
        instance: InstanceId,
        reason: Option<String>,
        asked: Asked,
    ) -> Result<DestroyAccepted, StoreError>;

    /// Accepts work on a complete instance.
    async fn work_begin(&self, instance: InstanceId, work: Work, asked: Asked) -> Result<WorkAccepted, StoreError>;

    /// Takes in an instance that exists without having been admitted here. `None`: the registry knows it already, and
    /// nothing was written.
    async fn take_in(&self, bid: Bid, resources: Vec<Resource>, asked: Asked) -> Result<Option<Run>, StoreError>;

    /// Takes in what was made elsewhere under a name of its own, if no instance that is not released has that name at its
    /// provider, and the context has room.
    async fn adopt(&self, adoption: Adoption) -> Result<Adopted, StoreError>;

    /// The instance, not released, that has a name of its own at a provider.
    async fn instance_named(&self, provider: &ProviderName, name: &str) -> Result<Option<Registered>, StoreError>;

    /// Whether the records were asked for everything that an owner has.
    async fn owner_is_backfilled(&self, owner: &Owner) -> Result<bool, StoreError>;

    /// They were.
    async fn owner_backfilled_set(&self, owner: &Owner) -> Result<(), StoreError>;

    /// Whether the message with this id is on record.
    async fn delivery_is_known(&self, id: &str) -> Result<bool, StoreError>;

    /// Puts a message's id on record, unless it is there. It is kept until `keep_until` at least.
    async fn delivery_put(&self, id: &str, keep_until: Timestamp) -> Result<(), StoreError>;

    /// Puts a pseudonym in the place of an owner, and `spec` in the place of what its instances ran, everywhere; the
    /// chains of its contexts are made anew. Refused while anything of it is not released. Answers how many instances
    /// that were.
    async fn owner_anonymize(
        &self,
        owner: &Owner,
        pseudonym: &Owner,
        spec: FrozenSpec,
    ) -> Result<Result<u64, StillThere>, StoreError>;

    /// Begins a sweep of resources that nothing refers to, if the instance is still what it was under epoch `held`; what
    /// is found after a release opens `leak`. Refused as [`freehold_domain::run::swept`] says; nothing was written then.
    async fn sweep_begin(
        &self,
        instance: InstanceId,
        held: Epoch,
        found: Vec<Resource>,
        leak: LeakId,
        asked: Asked,
    ) -> Result<Run, StoreError>;

    /// Completes a reservation whose canonical success is proven, with the answer to its caller.
    async fn repair(
        &self,
        proof: CanonicalSuccess,
        endpoint: Endpoint,
        actor: Actor,
        at: Timestamp,
        check_at: Timestamp,
        answer: Option<Answer>,
    ) -> Result<Result<Run, IllegalTransition>, StoreError>;

    /// Releases a reservation on an operator's word, if its status is still `expected`.
    async fn release_override(
        &self,
        instance: InstanceId,
        expected: &'static str,
        said: OperatorOverride,
        asked: Asked,
    ) -> Result<Result<Run, IllegalTransition>, StoreError>;

    /// Rings an operation's timer now, unless somebody holds it: the next executor that looks takes it.
    async fn hurry(&self, operation: OperationId) -> Result<(), StoreError>;

    /// Puts down what a look at a complete instance's runtime saw.
    async fn watched(
        &self,
        instance: InstanceId,
        epoch: Epoch,
        state: RuntimeState,
        at: Timestamp,
        check_at: Timestamp,
        settled_after: Duration,
    ) -> Result<(), StoreError>;

    /// Puts an event on an instance's audit trail that no transition makes.
    async fn witness(
        &self,
        instance: InstanceId,
        kind: EventKind,
        actor: Actor,
        at: Timestamp,
        detail: String,
    ) -> Result<(), StoreError>;

    /// Gives leases back: the next executor that looks takes the operations.
    async fn give_back(&self, leases: &[Lease]) -> Result<(), StoreError>;

    /// Rings the timers of everything that earlier lives of a node held. Answers how many.
    async fn node_returned(&self, node: &NodeId, incarnation: u64) -> Result<u64, StoreError>;

    /// Operations whose timer has rung, longest first; those of `share` before others, and those of the providers
    /// `elsewhere` not at all, where a store has several nodes.
    async fn due_list(
        &self,
        limit: usize,
        share: Share,
        elsewhere: &[ProviderName],
    ) -> Result<Vec<OperationId>, StoreError>;

    /// When the next timer rings, if one is set.
    async fn due_next(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Complete instances whose runtime is to be looked at, longest overdue first; those of the providers `elsewhere` not
    /// at all, where a store has several nodes.
    async fn checks_due(&self, limit: usize, elsewhere: &[ProviderName]) -> Result<Vec<InstanceId>, StoreError>;

    /// Destroys that were accepted before `before` and are not finished.
    async fn stuck_list(&self, before: Timestamp, limit: usize) -> Result<Vec<Stuck>, StoreError>;

    /// Everything the registry says of an instance.
    async fn instance_describe(&self, instance: InstanceId) -> Result<Option<Registered>, StoreError>;

    /// Instances, in the order of their ids.
    async fn instance_list(&self, query: &InstanceQuery) -> Result<InstancePage, StoreError>;

    /// Everything of an owner, tombstones included, in the order of admission.
    async fn owner_describe(&self, owner: &Owner) -> Result<Vec<Registered>, StoreError>;

    /// An operation.
    async fn operation_describe(&self, operation: OperationId) -> Result<Option<OperationView>, StoreError>;

    /// A route.
    async fn route_lookup(&self, instance: InstanceId) -> Result<Option<RouteEntry>, StoreError>;

    /// The audit trail, in the order of commits.
    async fn audit_read(&self, query: &AuditQuery) -> Result<AuditPage, StoreError>;

    /// Leaks, oldest first.
    async fn leak_list(&self, open_only: bool, after: Option<LeakId>, limit: usize) -> Result<LeakPage, StoreError>;

    /// Closes a leak.
    async fn leak_resolve(&self, leak: LeakId, at: Timestamp) -> Result<LeakRecord, StoreError>;

    /// How much is unresolved.
    async fn unresolved_summary(&self) -> Result<UnresolvedSummary, StoreError>;

    /// How many violations of invariants the store has seen in what it wrote, by invariant.
    fn violations(&self) -> Vec<(freehold_domain::invariants::Invariant, u64)>;

    /// Forgets idempotency records whose operation was over before `before`. Answers how many.
    async fn idempotency_purge(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError>;

    /// What all nodes share; `proposed` is kept if nobody was first.
    async fn installation(&self, proposed: Installation) -> Result<Installation, StoreError>;

    /// API keys.
    async fn key_list(&self) -> Result<Vec<KeyRecord>, StoreError>;

    /// Puts an API key on record.
    async fn key_create(&self, key: KeyRecord) -> Result<(), StoreError>;

    /// Revokes an API key.
    async fn key_revoke(&self, id: &str, at: Timestamp) -> Result<KeyRecord, StoreError>;

    /// The latest time on record: of the last event, and of everything that is not over.
    async fn latest_at(&self) -> Result<Option<Timestamp>, StoreError>;

    /// When the registry was made.
    async fn made_at(&self) -> Result<Timestamp, StoreError>;

    /// Takes no more writes, and finishes those that wait.
    async fn close(&self);
}
