//! The places in the flow where an executor can be when something happens: each step, before its note, after it, after its
//! call, after its finding.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use freehold_domain::operation::Step;
use freehold_engine::ports::{Gap, Gaps};

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The step.
    pub step: Step,
    /// Where in it.
    pub gap: Gap,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.step.name(), self.gap.name())
    }
}

impl Place {
    /// Every place that an executor passes: a step that is one commit has no call, and what the records say is read
    /// before anything is noted.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let passes = |step: Step, gap: Gap| match step {
            Step::CheckActive => gap == Gap::Answered,
            Step::Complete | Step::Release => matches!(gap, Gap::BeforeNote | Gap::Answered),
            Step::Base
            | Step::Storage
            | Step::Runtime
            | Step::Ready
            | Step::Record
            | Step::Subscribe
            | Step::Power
            | Step::Update
            | Step::Seal
            | Step::Remove
            | Step::Absence
            | Step::EndSubscription
            | Step::MarkDestroyed => true,
        };
        let gaps = |step: Step| Gap::ALL.into_iter().filter(move |gap| passes(step, *gap));
        Step::ALL.into_iter().flat_map(|step| gaps(step).map(move |gap| Self { step, gap })).collect()
    }
}

#[derive(Default)]
struct Passing {
    /// Where somebody is waited for.
    armed: Option<Place>,
    reached: bool,
    /// Where the executor that runs at the moment was last.
    last: Option<Place>,
}

/// Sees executors pass. Clones are the same one.
#[derive(Clone, Default)]
pub struct Places(Arc<Mutex<Passing>>);

impl Places {
    fn state(&self) -> MutexGuard<'_, Passing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the first executor at a place.
    pub fn arm(&self, place: Place) {
        *self.state() = Passing { armed: Some(place), reached: false, last: None };
    }

    /// Whether somebody came there since this was asked last.
    #[must_use]
    pub fn take_reached(&self) -> bool {
        std::mem::take(&mut self.state().reached)
    }

    /// Where an executor was since this was asked last, if it passed any place.
    #[must_use]
    pub fn take_last(&self) -> Option<Place> {
        self.state().last.take()
    }
}

impl Gaps for Places {
    fn passing(&self, step: Step, gap: Gap) {
        let place = Place { step, gap };
        let mut passing = self.state();
        passing.last = Some(place);
        if passing.armed == Some(place) {
            passing.armed = None;
            passing.reached = true;
        }
    }
}

/// How often something happened at each place.
pub type Hits = BTreeMap<String, u64>;
