//! A reservation: the durable right to create one instance in a context, and everything the registry knows of it.
//!
//! - A context has at most one unresolved reservation.
//! - A status changes through [`Status::apply`] only; `Released` is terminal.
//! - Destroy intent is set once and never cleared.
//! - A resource leaves the record only when its removal is proven.

use std::fmt;
use std::sync::Arc;

use crate::evidence::{Lookup, Release};
use crate::ids::{InstanceId, OperationId};
use crate::lease::{Epoch, PriceVersion, ProviderName, TierName};
use crate::operation::FailureCode;
use crate::owner::Context;
use crate::protection::{Protection, stands};
use crate::records::CanonicalSuccess;
use crate::resource::{Custody, Footprint, Observation, Resource, ResourceKind, RuntimeState};
use crate::time::Timestamp;

/// What the instance runs, frozen at admission so that a second send is byte-identical. Opaque here.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct FrozenSpec(pub Arc<[u8]>);

impl fmt::Debug for FrozenSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FrozenSpec({} bytes)", self.0.len())
    }
}

/// Why a reservation was released, as its readers name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resolution {
    /// It failed before anything was sent.
    FailedBeforeProviderWork,
    /// The provider surely refused before anything was made.
    ProviderRejected,
    /// The context turned out to have its instance.
    ActiveInstanceExists,
    /// Nothing is there and nothing can come.
    AbsenceProven,
    /// Its instance was destroyed.
    InstanceDestroyed,
    /// An operator took it upon themselves; a leak is on record.
    OperatorOverride,
}

impl Resolution {
    /// Every reason.
    pub const ALL: [Self; 6] = [
        Self::FailedBeforeProviderWork,
        Self::ProviderRejected,
        Self::ActiveInstanceExists,
        Self::AbsenceProven,
        Self::InstanceDestroyed,
        Self::OperatorOverride,
    ];

    /// The reason's name on the wire and in the store.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::FailedBeforeProviderWork => "failed_before_provider_work",
            Self::ProviderRejected => "provider_rejected",
            Self::ActiveInstanceExists => "active_instance_exists",
            Self::AbsenceProven => "absence_proven",
            Self::InstanceDestroyed => "instance_destroyed",
            Self::OperatorOverride => "operator_override",
        }
    }
}

/// How far a reservation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// An instance is being made.
    InProgress,
    /// Making it was given up with work started; what it left is being removed.
    NeedsReconciliation {
        /// Why it was given up.
        code: FailureCode,
    },
    /// The instance exists, is on record and paid for.
    Completed,
    /// Over.
    Released {
        /// Why.
        because: Resolution,
    },
}

/// What may happen to a status.
#[derive(Debug)]
pub enum StatusChange<'a> {
    /// Canonical success is proven.
    Complete(&'a CanonicalSuccess),
    /// Going forward is given up with work started.
    GiveUp(FailureCode),
    /// It is over, on evidence.
    Release(&'a Release, Resolution),
}

/// A change that the state machine does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a reservation that is {from} cannot {change}")]
pub struct IllegalTransition {
    /// The status it has.
    pub from: &'static str,
    /// What was tried.
    pub change: &'static str,
}

impl Status {
    /// The status's name on the wire and in the store.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::NeedsReconciliation { .. } => "failed_requires_reconciliation",
            Self::Completed => "completed",
            Self::Released { .. } => "released",
        }
    }

    /// Whether it holds its context: nobody else may create there.
    #[must_use]
    pub fn is_unresolved(&self) -> bool {
        match self {
            Self::InProgress | Self::NeedsReconciliation { .. } => true,
            Self::Completed | Self::Released { .. } => false,
        }
    }

    /// The status after `change`.
    ///
    /// # Errors
    /// [`IllegalTransition`] for every pair that the state machine does not have; nothing changes then.
    pub fn apply(&self, change: &StatusChange<'_>) -> Result<Self, IllegalTransition> {
        let illegal = |change| Err(IllegalTransition { from: self.name(), change });
        match (self, change) {
            (Self::InProgress | Self::NeedsReconciliation { .. }, StatusChange::Complete(_)) => Ok(Self::Completed),
            (Self::InProgress, StatusChange::GiveUp(code)) => Ok(Self::NeedsReconciliation { code: *code }),
            (
                Self::InProgress | Self::NeedsReconciliation { .. } | Self::Completed,
                StatusChange::Release(_, because),
            ) => Ok(Self::Released { because: *because }),
            (Self::Released { .. }, StatusChange::Complete(_)) if !stands(Protection::ReleasedIsOver) => {
                Ok(Self::Completed)
            }
            (Self::Completed | Self::Released { .. }, StatusChange::Complete(_)) => illegal("be completed"),
            (Self::NeedsReconciliation { .. } | Self::Completed | Self::Released { .. }, StatusChange::GiveUp(_)) => {
                illegal("be given up")
            }
            (Self::Released { .. }, StatusChange::Release(..)) => illegal("be released again"),
        }
    }
}

/// Whether the instance is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Intent {
    /// It is.
    Keep,
    /// It is not, for ever.
    Destroy {
        /// Since when.
        at: Timestamp,
        /// Why, in the caller's words.
        reason: Option<String>,
    },
}

impl Intent {
    /// Whether destroy was accepted.
    #[must_use]
    pub fn is_destroy(&self) -> bool {
        match self {
            Self::Keep => false,
            Self::Destroy { .. } => true,
        }
    }
}

/// Whether the runtime is wanted up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Power {
    /// Up.
    On,
    /// Down.
    Off,
}

/// The durable right to create one instance, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// The instance's id.
    pub instance: InstanceId,
    /// The scope of "exactly one".
    pub context: Context,
    /// Who makes it.
    pub provider: ProviderName,
    /// How large it is to be.
    pub tier: TierName,
    /// The price that was agreed before anything was taken.
    pub price_version: PriceVersion,
    /// Where it may be, in the order of preference; empty where the provider has no regions.
    pub regions: Vec<String>,
    /// What its base is called at the provider, where it was not made here and has a name of its own.
    pub named: Option<String>,
    /// What it runs.
    pub spec: FrozenSpec,
    /// How far it is.
    pub status: Status,
    /// Who may write.
    pub epoch: Epoch,
    /// Whether it is wanted.
    pub intent: Intent,
    /// Whether its runtime is wanted up.
    pub power: Power,
    /// The operation that works on it, or did last.
    pub operation: OperationId,
    /// How many creating calls may have left something behind that is not proven gone: those without a definite answer,
    /// and those that made something.
    pub unanswered: u32,
    /// When the last creating call may have left at the latest: when it was allowed to, or when nobody waited for its
    /// answer any more.
    pub last_sent_at: Option<Timestamp>,
    /// What is known to exist. Of each kind the first is the instance's, the others are extra copies.
    pub resources: Vec<Resource>,
    /// Since when creation under the ident is impossible.
    pub sealed_at: Option<Timestamp>,
    /// The latest look-ups for proving absence, oldest first, at most [`crate::evidence::LOOKUPS_KEPT`].
    pub lookups: Vec<Lookup>,
    /// What the runtime was last seen doing, and when.
    pub runtime: Option<(RuntimeState, Timestamp)>,
    /// How often the runtime was brought back since it last stayed up.
    pub recoveries: u32,
    /// When to look at the runtime next; [`Timestamp::NEVER`] unless completed.
    pub check_at: Timestamp,
    /// When it was admitted.
    pub started_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it was completed.
    pub completed_at: Option<Timestamp>,
    /// When it was released.
    pub released_at: Option<Timestamp>,
}

impl Reservation {
    /// What may exist at the provider.
    #[must_use]
    pub fn footprint(&self) -> Footprint {
        if !self.resources.is_empty() {
            Footprint::There
        } else if self.sealed_at.is_some() {
            Footprint::Sealed
        } else if self.unanswered > 0 {
            Footprint::MaybeThere
        } else {
            Footprint::Untouched
        }
    }

    /// The instance's resource of a kind.
    #[must_use]
    pub fn resource(&self, kind: ResourceKind) -> Option<&Resource> {
        self.resources.iter().find(|resource| resource.kind == kind)
    }

    /// Whether a resource is the instance's own: the first of its kind.
    #[must_use]
    pub fn owns(&self, resource: &Resource) -> bool {
        self.resource(resource.kind).is_some_and(|own| own.same_thing(resource))
    }

    /// An extra copy: a resource of a kind of which the instance has its own.
    #[must_use]
    pub fn extra(&self) -> Option<&Resource> {
        self.resources
            .iter()
            .enumerate()
            .find(|(position, resource)| self.resources[..*position].iter().any(|own| own.kind == resource.kind))
            .map(|(_, resource)| resource)
    }

    /// What the instance stands on and a conclusive look does not find: its storage or its base is on record, and nobody
    /// here removed it. A runtime can be made anew, and what was in these cannot.
    #[must_use]
    pub fn lost(&self, seen: &Observation) -> Option<&Resource> {
        let is_found = |known: &Resource| {
            let ours = seen.found.iter().filter(|found| found.custody == Custody::Ours);
            ours.map(|found| &found.resource).any(|found| found.same_thing(known))
        };
        let stands_on = [ResourceKind::Storage, ResourceKind::Base];
        let known = stands_on.into_iter().filter_map(|kind| self.resource(kind));
        known.filter(|_| seen.conclusive).find(|known| !is_found(known))
    }

    /// Whether it takes the place of its context's instance: complete, and not to be destroyed.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.status == Status::Completed && !self.intent.is_destroy()
    }

    /// Whether anything was ever allowed to leave for the provider.
    #[must_use]
    pub fn work_started(&self) -> bool {
        self.last_sent_at.is_some()
    }
}
