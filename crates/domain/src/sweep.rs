//! Whether anything refers to a resource that carries our tags. Pure: the janitor lists, asks here, and acts on
//! [`Verdict::Sweep`] only.
//!
//! - What is not surely ours, and what the registry does not know, is reported and never touched.
//! - What belongs to an instance that is not settled, or that an operation works on, is never touched.
//! - What nothing refers to is swept once it was seen so in two passes, a settle horizon and a lease apart: a look at the
//!   provider and a look at the registry are two moments, and what was between them shows in the second pass.

use std::time::Duration;

use crate::lease::ProviderName;
use crate::operation::Operation;
use crate::protection::{Protection, stands};
use crate::reservation::{Reservation, Status};
use crate::resource::{Custody, Found};

/// In how many passes a resource must be seen without anything that refers to it.
pub const PASSES_MIN: u32 = 2;

/// What a pass makes of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It is its instance's own.
    Referenced,
    /// Its instance is not settled: an operation is at work, whatever it is doing.
    Busy,
    /// It names our installation, and its tags are not ours.
    Foreign,
    /// Its tags are ours, and the registry knows no such instance at this provider.
    Unknown,
    /// Nothing refers to it, in this pass.
    SeenOnce,
    /// Nothing refers to it, and a call that was under way when that began may be so still.
    TooYoung,
    /// Nothing refers to it, and nothing can any more.
    Sweep,
}

impl Verdict {
    /// Every verdict.
    pub const ALL: [Self; 7] =
        [Self::Referenced, Self::Busy, Self::Foreign, Self::Unknown, Self::SeenOnce, Self::TooYoung, Self::Sweep];

    /// Whether nothing refers to the resource: whoever counts sightings counts these.
    #[must_use]
    pub fn is_unreferenced(self) -> bool {
        match self {
            Self::Referenced | Self::Busy | Self::Foreign | Self::Unknown => false,
            Self::SeenOnce | Self::TooYoung | Self::Sweep => true,
        }
    }
}

/// How often, and for how long, a resource was seen without anything that refers to it. The pass at hand counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// In how many passes.
    pub passes: u32,
    /// Since when, by a clock that does not jump.
    pub age: Duration,
}

impl Sighting {
    /// Seen for the first time.
    pub const FIRST: Self = Self { passes: 1, age: Duration::ZERO };
}

/// Judges a resource that provider `at` lists as ours. `horizon` is the longest time for which a call may be under way:
/// the provider's settle horizon, or a lease if that is longer.
#[must_use]
pub fn judge(
    found: &Found,
    at: &ProviderName,
    registered: Option<(&Reservation, &Operation)>,
    sighting: Sighting,
    horizon: Duration,
) -> Verdict {
    match found.custody {
        Custody::Foreign => return Verdict::Foreign,
        Custody::Ours => {}
    }
    // Through another provider it could not be removed, and its id would mean something else there.
    let Some((reservation, operation)) = registered.filter(|(reservation, _)| reservation.provider == *at) else {
        return Verdict::Unknown;
    };
    if !operation.status.is_over() && stands(Protection::BusyIsNotSwept) {
        return Verdict::Busy;
    }
    match reservation.status {
        Status::InProgress | Status::NeedsReconciliation { .. } if !stands(Protection::BusyIsNotSwept) => {}
        Status::InProgress | Status::NeedsReconciliation { .. } => return Verdict::Busy,
        Status::Completed if reservation.intent.is_destroy() => return Verdict::Busy,
        Status::Completed if reservation.owns(&found.resource) && stands(Protection::OwnIsNotSwept) => {
            return Verdict::Referenced;
        }
        Status::Completed | Status::Released { .. } => {}
    }
    if sighting.passes < PASSES_MIN && stands(Protection::SweptIsSeenTwice) {
        Verdict::SeenOnce
    } else if sighting.age < horizon && stands(Protection::SweptIsOld) {
        Verdict::TooYoung
    } else {
        Verdict::Sweep
    }
}
