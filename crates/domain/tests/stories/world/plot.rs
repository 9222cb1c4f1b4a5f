//! What can go wrong in a story, and on which sort of provider it plays.

use std::time::Duration;

use freehold_domain::operation::Step;
use freehold_domain::plan::{Capabilities, Names};

use super::HORIZON;

/// A provider by what it can promise.
pub(crate) const fn provider(seals: bool, names: Names) -> Capabilities {
    Capabilities { names, seals, storage: true, logs: false, settle_horizon: HORIZON }
}

/// Every sort of provider.
pub(crate) const PROVIDERS: [Capabilities; 5] = [
    provider(true, Names::Unique),
    provider(true, Names::UniqueButStorage),
    provider(true, Names::Free),
    provider(false, Names::Free),
    provider(false, Names::Unique),
];

/// What goes wrong with one act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The executor dies before its note.
    CrashBeforeNote,
    /// It dies after its note; nothing leaves.
    CrashNoted,
    /// It renews its lease for a while, stalls after its note, and sends at the very end of its lease; the effect takes
    /// as long as it may.
    StallNoted,
    /// It dies when the call took effect.
    CrashSent,
    /// It dies when the answer is committed.
    CrashAnswered,
    /// Nothing leaves.
    NotSent,
    /// The other side refuses.
    Rejected,
    /// There is no room.
    Full,
    /// No answer, and no effect.
    UnknownNever,
    /// No answer, and the effect is there.
    UnknownNow,
    /// No answer, and the effect takes as long as it may.
    UnknownLate,
}

impl Fault {
    pub(crate) const ALL: [Self; 11] = [
        Self::CrashBeforeNote,
        Self::CrashNoted,
        Self::StallNoted,
        Self::CrashSent,
        Self::CrashAnswered,
        Self::NotSent,
        Self::Rejected,
        Self::Full,
        Self::UnknownNever,
        Self::UnknownNow,
        Self::UnknownLate,
    ];

    pub(crate) const CRASHES: [Self; 5] =
        [Self::CrashBeforeNote, Self::CrashNoted, Self::StallNoted, Self::CrashSent, Self::CrashAnswered];
}

/// Where in an act a destroy is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    BeforeNote,
    /// The executor sends at the very end of its lease all the same.
    Noted,
    /// As before, and it had renewed its lease for a while.
    NotedLongAgo,
    Sent,
}

impl Moment {
    pub(crate) const ALL: [Self; 4] = [Self::BeforeNote, Self::Noted, Self::NotedLongAgo, Self::Sent];
}

/// What goes wrong in a story.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plot {
    /// With the n-th act.
    pub(crate) faults: Vec<(u32, Fault)>,
    /// During the n-th act somebody destroys the instance.
    pub(crate) destroy: Option<(u32, Moment)>,
    /// So many acts of this step go wrong in this way.
    pub(crate) stuck: Option<(Step, Fault, u32)>,
    /// So many looks are not conclusive, and find nothing.
    pub(crate) blind_looks: u32,
    /// So many looks after a removal still find what was removed.
    pub(crate) stale_looks: u32,
    /// So long the provider names no endpoint for what it made.
    pub(crate) mute: Duration,
    /// Where it may be made, in order; empty: the provider has no regions.
    pub(crate) regions: &'static [&'static str],
    /// What was written to the records is not read before then.
    pub(crate) records_lag: Duration,
    /// A second runtime turns up beside the first.
    pub(crate) extra: bool,
    /// During the n-th act a subscription that was started without an answer shows in the records, and a caller who is
    /// told of the conflict has the reservation repaired.
    pub(crate) late_success: Option<(u32, Moment)>,
}
