//! Everything that can go wrong between us and a provider, as a list.

use std::time::Duration;

use freehold_domain::ids::InstanceId;
use freehold_domain::resource::{RejectionClass, ResourceKind};
use freehold_domain::time::Timestamp;

/// The kinds of call that may change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CallKind {
    /// `ensure_base`, `ensure_storage` or `ensure_runtime`.
    Ensure(ResourceKind),
    /// `start`.
    Start,
    /// `stop`.
    Stop,
    /// `restart`.
    Restart,
    /// `update`.
    Update,
    /// `seal`.
    Seal,
    /// `destroy` of a resource of the kind.
    Destroy(ResourceKind),
}

impl CallKind {
    /// Every kind of call.
    pub const ALL: [Self; 11] = [
        Self::Ensure(ResourceKind::Base),
        Self::Ensure(ResourceKind::Storage),
        Self::Ensure(ResourceKind::Runtime),
        Self::Start,
        Self::Stop,
        Self::Restart,
        Self::Update,
        Self::Seal,
        Self::Destroy(ResourceKind::Base),
        Self::Destroy(ResourceKind::Storage),
        Self::Destroy(ResourceKind::Runtime),
    ];
}

/// One call that may have changed something, as the provider received it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// What was asked for.
    pub kind: CallKind,
    /// For which instance.
    pub instance: InstanceId,
    /// Under which name.
    pub name: String,
    /// The how many-th call of its kind it is, from 1.
    pub nth: u64,
    /// When.
    pub at: Timestamp,
}

/// What goes wrong with a call. A fault that makes no sense for a kind of call does what the nearest one does: a stop
/// that is "made twice" just happens, and a "late" one is late.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It happens, and the answer is lost. A 5xx on a delete that deleted is this too.
    AnswerLost,
    /// It does not happen, and no answer comes.
    NothingDone,
    /// No answer comes, and it happens this much later: then, and not now, names and seals are looked at.
    Late(Duration),
    /// It happens twice: two resources of one name, where the provider does not enforce names.
    Twice,
    /// Surely refused.
    Refused(RejectionClass),
    /// It never leaves.
    NotSent,
    /// The name turns out to be somebody else's: a resource of theirs appears, and the call is refused.
    Foreign,
    /// A delete or a seal: accepted, and never finished. The answer is success.
    NeverFinished,
    /// A delete: done, and what was deleted is back this much later.
    BackAgain(Duration),
}

impl Fault {
    /// One of each, for walks over all of them; the late ones with `late`.
    #[must_use]
    pub fn all(late: Duration) -> Vec<Self> {
        let refusals = [
            RejectionClass::Invalid,
            RejectionClass::Unauthorized,
            RejectionClass::Capacity { region: None },
            RejectionClass::Quota,
            RejectionClass::ConflictForeign,
        ];
        let mut all = vec![
            Self::AnswerLost,
            Self::NothingDone,
            Self::Late(late),
            Self::Twice,
            Self::NotSent,
            Self::Foreign,
            Self::NeverFinished,
            Self::BackAgain(late),
        ];
        all.extend(refusals.map(Self::Refused));
        all
    }
}

/// What is wrong with looks for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// They are not answered.
    Unanswered,
    /// They find nothing, and say that this proves nothing.
    Inconclusive,
    /// Every other one does.
    Flapping,
    /// They see the world as it was when this began, and say that this proves nothing.
    Stale,
    /// They find nothing and swear to it, whatever is there. No honest adapter does this: it is for tests that must
    /// notice.
    Lying,
}
