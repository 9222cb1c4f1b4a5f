//! What exists at a provider, and what a provider's answers mean.
//!
//! The rule that everything else leans on: only a proof is a "no". An answer that does not prove anything is
//! [`Outcome::Unknown`], and an absence that was not looked for conclusively is no absence.

use std::fmt;

use crate::protection::{Protection, stands};

/// The kinds of resource an instance is made of, in the order they are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourceKind {
    /// The container of everything else: a Fly app, a Docker network, a folder.
    Base,
    /// The volume.
    Storage,
    /// The machine, container or process.
    Runtime,
}

impl ResourceKind {
    /// Every kind, in the order of making.
    pub const ALL: [Self; 3] = [Self::Base, Self::Storage, Self::Runtime];

    /// The kind's name on the wire and in the store.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Storage => "storage",
            Self::Runtime => "runtime",
        }
    }
}

impl fmt::Display for ResourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One thing at a provider. It is the same thing as another one if kind and id agree.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Resource {
    /// What kind of thing.
    pub kind: ResourceKind,
    /// The provider's id of it.
    pub id: String,
    /// Where it is, at providers that have regions.
    pub region: Option<String>,
    /// Whatever the adapter needs to find it again; opaque to everybody else, and without secrets.
    pub handle: String,
}

impl Resource {
    /// Whether both are the same thing at the provider.
    #[must_use]
    pub fn same_thing(&self, other: &Self) -> bool {
        self.kind == other.kind && self.id == other.id
    }
}

/// What the runtime of an instance was last seen doing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RuntimeState {
    /// On its way: not ready to answer yet.
    Starting,
    /// Up.
    Running,
    /// Down because it was asked to stop.
    Stopped,
    /// Down by itself. The text says how ("exit status 1").
    Exited(String),
    /// Nothing there.
    Missing,
}

/// Whose a found resource is: decided by install, instance and MAC together, never by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Custody {
    /// Carries our install, this instance and a valid MAC.
    Ours,
    /// Has our name, and no valid MAC: somebody else's. Never adopted, never deleted.
    Foreign,
}

/// A resource that a look-up found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Found {
    /// The resource.
    pub resource: Resource,
    /// Whose it is.
    pub custody: Custody,
}

/// What a look-up by ident saw.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Observation {
    /// Whether what was not found is really not there, as far as the provider can tell.
    pub conclusive: bool,
    /// Everything that carries the ident, oldest first within a kind. Tombstones of a seal are not resources.
    pub found: Vec<Found>,
    /// What the runtime is doing.
    pub runtime: RuntimeState,
    /// By which name the provider can find its answers again: request ids. Empty where it gives none.
    pub reference: String,
}

impl Observation {
    /// Nothing of ours is there, for sure.
    #[must_use]
    pub fn proves_absence(&self) -> bool {
        (self.conclusive || !stands(Protection::OnlyConclusiveLooks))
            && !self.found.iter().any(|found| found.custody == Custody::Ours)
    }

    /// A resource with our name that is somebody else's, if one was found.
    #[must_use]
    pub fn foreign(&self) -> Option<&Resource> {
        self.found.iter().find(|found| found.custody == Custody::Foreign).map(|found| &found.resource)
    }
}

/// Why a provider refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RejectionClass {
    /// The request can never work as it is: a command that does not exist, an image that is unknown.
    Invalid,
    /// The provider does not accept our credentials.
    Unauthorized,
    /// No room in this region.
    Capacity {
        /// The region without room, where the provider has regions.
        region: Option<String>,
    },
    /// The account's limit is reached.
    Quota,
    /// The name belongs to somebody else.
    ConflictForeign,
}

impl RejectionClass {
    /// The class's name on the wire and in the store.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Unauthorized => "unauthorized",
            Self::Capacity { .. } => "capacity",
            Self::Quota => "quota",
            Self::ConflictForeign => "conflict_foreign",
        }
    }
}

/// A provider's sure refusal: the call had no effect and never will.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rejection {
    /// Why.
    pub class: RejectionClass,
    /// In words, for people; no secrets.
    pub detail: String,
}

/// What came of a call that may have changed something. Adapters return this and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Outcome<T> {
    /// Surely nothing left this machine.
    NotSent(String),
    /// The provider surely refused.
    Rejected(Rejection),
    /// It happened.
    Done(T),
    /// Everything not proven otherwise: 5xx, time-outs, cut connections, answers that make no sense.
    Unknown(String),
}

impl<T> Outcome<T> {
    /// The same outcome with another value inside `Done`.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Outcome<U> {
        match self {
            Self::NotSent(why) => Outcome::NotSent(why),
            Self::Rejected(rejection) => Outcome::Rejected(rejection),
            Self::Done(value) => Outcome::Done(f(value)),
            Self::Unknown(why) => Outcome::Unknown(why),
        }
    }

    /// The outcome's name in metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::NotSent(_) => "not_sent",
            Self::Rejected(_) => "rejected",
            Self::Done(_) => "done",
            Self::Unknown(_) => "unknown",
        }
    }
}

/// What may exist at the provider for one instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Footprint {
    /// No call was ever allowed to leave, or every one that left was surely refused.
    Untouched,
    /// A call may have left; its effect may still arrive.
    MaybeThere,
    /// Something is on record.
    There,
    /// Creation is refused from now on, and nothing is left.
    Sealed,
}
