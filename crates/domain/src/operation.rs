//! An operation: one durable run of work on an instance, with a journal of its steps.
//!
//! Each step commits its intent, then acts, then commits its finding. A step that is [`StepStatus::Noted`] without a
//! finding when somebody else claims the operation is [`StepStatus::Unknown`]: a crash is an outcome like any other.

use std::fmt;

use crate::ids::{InstanceId, OperationId};
use crate::lease::Holder;
use crate::reservation::FrozenSpec;
use crate::resource::{Rejection, ResourceKind};
use crate::time::Timestamp;

/// What an operation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OperationKind {
    /// Make the instance, or clean up after failing to.
    Provision,
    /// Remove it for ever.
    Destroy,
    /// Start its runtime.
    Start,
    /// Stop its runtime.
    Stop,
    /// Stop and start its runtime.
    Restart,
    /// Give it another spec.
    Update,
    /// Bring back a runtime that went away by itself.
    Recover,
    /// Remove what nothing refers to.
    Sweep,
    /// Take in an instance that the records know and the registry did not: publish it once it is found and paid for.
    Adopt,
    /// Write again what the records lost of a complete instance.
    Mend,
}

impl OperationKind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::Provision,
        Self::Destroy,
        Self::Start,
        Self::Stop,
        Self::Restart,
        Self::Update,
        Self::Recover,
        Self::Sweep,
        Self::Adopt,
        Self::Mend,
    ];

    /// The kind's name on the wire and in the store.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Provision => "provision",
            Self::Destroy => "destroy",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Update => "update",
            Self::Recover => "recover",
            Self::Sweep => "sweep",
            Self::Adopt => "adopt",
            Self::Mend => "mend",
        }
    }
}

/// How far an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OperationStatus {
    /// An executor holds it.
    Running,
    /// It rests until its timer.
    Waiting,
    /// It gave up and is cleaning up.
    Reconciling,
    /// It did what it was for.
    Succeeded,
    /// It did not, and nothing of it is left to do.
    Failed,
    /// Something stronger replaced it.
    Cancelled,
}

impl OperationStatus {
    /// Every status.
    pub const ALL: [Self; 6] =
        [Self::Running, Self::Waiting, Self::Reconciling, Self::Succeeded, Self::Failed, Self::Cancelled];

    /// The status's name on the wire and in the store.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Reconciling => "reconciling",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether no executor will touch it again.
    #[must_use]
    pub fn is_over(self) -> bool {
        match self {
            Self::Running | Self::Waiting | Self::Reconciling => false,
            Self::Succeeded | Self::Failed | Self::Cancelled => true,
        }
    }
}

/// The steps that operations are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// Read what the records already say.
    CheckActive,
    /// Make the base.
    Base,
    /// Make the storage.
    Storage,
    /// Make the runtime.
    Runtime,
    /// See that the runtime stays up.
    Ready,
    /// Write the canonical row.
    Record,
    /// Start the subscription.
    Subscribe,
    /// Publish: one commit.
    Complete,
    /// Make creation under the ident impossible.
    Seal,
    /// Remove a resource that is on record.
    Remove,
    /// Look whether anything is left.
    Absence,
    /// End the subscription.
    EndSubscription,
    /// Mark the canonical row destroyed.
    MarkDestroyed,
    /// Release or finalize: one commit.
    Release,
    /// Start, stop or restart the runtime.
    Power,
    /// Apply another spec.
    Update,
}

impl Step {
    /// Every step, in the order in which an instance lives through them.
    pub const ALL: [Self; 16] = [
        Self::CheckActive,
        Self::Base,
        Self::Storage,
        Self::Runtime,
        Self::Ready,
        Self::Record,
        Self::Subscribe,
        Self::Complete,
        Self::Power,
        Self::Update,
        Self::Seal,
        Self::Remove,
        Self::Absence,
        Self::EndSubscription,
        Self::MarkDestroyed,
        Self::Release,
    ];

    /// The step's name on the wire and in the store.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CheckActive => "check_active",
            Self::Base => "base",
            Self::Storage => "storage",
            Self::Runtime => "runtime",
            Self::Ready => "ready",
            Self::Record => "record",
            Self::Subscribe => "subscribe",
            Self::Complete => "complete",
            Self::Seal => "seal",
            Self::Remove => "remove",
            Self::Absence => "absence",
            Self::EndSubscription => "end_subscription",
            Self::MarkDestroyed => "mark_destroyed",
            Self::Release => "release",
            Self::Power => "power",
            Self::Update => "update",
        }
    }

    /// The step that makes a kind of resource.
    #[must_use]
    pub fn making(kind: ResourceKind) -> Self {
        match kind {
            ResourceKind::Base => Self::Base,
            ResourceKind::Storage => Self::Storage,
            ResourceKind::Runtime => Self::Runtime,
        }
    }

    /// Whether a call of this step may leave something behind at the provider. Seals and removals change the provider
    /// too, but what they leave behind is less.
    #[must_use]
    pub fn may_create(self) -> bool {
        match self {
            Self::Base | Self::Storage | Self::Runtime | Self::Power | Self::Update => true,
            Self::CheckActive
            | Self::Ready
            | Self::Record
            | Self::Subscribe
            | Self::Complete
            | Self::Seal
            | Self::Remove
            | Self::Absence
            | Self::EndSubscription
            | Self::MarkDestroyed
            | Self::Release => false,
        }
    }

    /// Whether a call of this step takes away what makes an instance canonical, for ever.
    #[must_use]
    pub fn undoes(self) -> bool {
        match self {
            Self::Seal | Self::EndSubscription | Self::MarkDestroyed => true,
            Self::Base
            | Self::Storage
            | Self::Runtime
            | Self::Power
            | Self::Update
            | Self::CheckActive
            | Self::Ready
            | Self::Record
            | Self::Subscribe
            | Self::Complete
            | Self::Remove
            | Self::Absence
            | Self::Release => false,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How far a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StepStatus {
    /// Its intent is committed; its effect may be under way.
    Noted,
    /// It is done.
    Done,
    /// It had no effect, and may be tried again.
    Failed,
    /// It was surely refused.
    Rejected,
    /// It may have happened.
    Unknown,
}

impl StepStatus {
    /// Every status.
    pub const ALL: [Self; 5] = [Self::Noted, Self::Done, Self::Failed, Self::Rejected, Self::Unknown];

    /// The status's name on the wire and in the store.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Noted => "noted",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Unknown => "unknown",
        }
    }
}

/// One line of an operation's journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepRecord {
    /// Which step.
    pub step: Step,
    /// How far it is.
    pub status: StepStatus,
    /// How often its intent was committed since it last succeeded.
    pub attempts: u32,
    /// When its first intent was committed.
    pub started_at: Timestamp,
    /// When its last finding was committed.
    pub finished_at: Option<Timestamp>,
    /// What went wrong last, in words; no secrets.
    pub last_error: Option<String>,
    /// The refusal, where [`StepStatus::Rejected`].
    pub rejection: Option<Rejection>,
}

/// Why a provision failed, as reservations and their readers name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureCode {
    /// The provider refused, or went on failing.
    ProviderProvisionFailed,
    /// The canonical row could not be written.
    InstanceRecordInsertFailed,
    /// The subscription could not be started.
    SubscriptionBootstrapFailed,
    /// Destroy was accepted first.
    Cancelled,
    /// The deadline passed.
    DeadlineExceeded,
}

impl FailureCode {
    /// Every code.
    pub const ALL: [Self; 5] = [
        Self::ProviderProvisionFailed,
        Self::InstanceRecordInsertFailed,
        Self::SubscriptionBootstrapFailed,
        Self::Cancelled,
        Self::DeadlineExceeded,
    ];

    /// The code on the wire and in the store.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ProviderProvisionFailed => "provider_provision_failed",
            Self::InstanceRecordInsertFailed => "instance_record_insert_failed",
            Self::SubscriptionBootstrapFailed => "subscription_bootstrap_failed",
            Self::Cancelled => "cancelled",
            Self::DeadlineExceeded => "deadline_exceeded",
        }
    }
}

/// What went wrong with an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its code.
    pub code: FailureCode,
    /// The provider's refusal, where that was it.
    pub rejection: Option<Rejection>,
    /// In words; no secrets.
    pub detail: String,
}

/// One durable run of work on an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Its id.
    pub id: OperationId,
    /// What it works on.
    pub instance: InstanceId,
    /// What it is for.
    pub kind: OperationKind,
    /// How far it is.
    pub status: OperationStatus,
    /// How often it was claimed.
    pub attempt: u32,
    /// Who runs it; nobody while it rests and once it is over.
    pub holder: Option<Holder>,
    /// When to look at it next: the end of its lease while somebody holds it, else the end of its rest. `None` once it
    /// is over. A lapsed lease is nothing but a timer that rang.
    pub due_at: Option<Timestamp>,
    /// When it gives up going forward.
    pub deadline: Timestamp,
    /// Its journal, in the order of first intents.
    pub steps: Vec<StepRecord>,
    /// How many regions refused for want of room.
    pub regions_full: u32,
    /// What went wrong, where something did.
    pub failure: Option<Failure>,
    /// The spec to apply, where it is an update.
    pub spec: Option<FrozenSpec>,
    /// The request that asked for it, for those who read logs.
    pub request_id: String,
    /// When it was admitted.
    pub started_at: Timestamp,
    /// When it was over.
    pub finished_at: Option<Timestamp>,
}

impl Operation {
    /// The journal's line of a step.
    #[must_use]
    pub fn step(&self, step: Step) -> Option<&StepRecord> {
        self.steps.iter().find(|record| record.step == step)
    }

    /// Whether a step is done.
    #[must_use]
    pub fn has_done(&self, step: Step) -> bool {
        self.step(step).is_some_and(|record| record.status == StepStatus::Done)
    }

    /// What the operation is doing, in a word: the step at hand.
    #[must_use]
    pub fn phase(&self) -> &'static str {
        if self.status.is_over() {
            return self.status.name();
        }
        match self.steps.iter().rev().find(|record| record.status != StepStatus::Done).or(self.steps.last()) {
            Some(record) => record.step.name(),
            None => "admitted",
        }
    }
}
