//! Places where a crash test ends this process: `FREEHOLD_CRASH_AT=step:gap[:nth]`.
//!
//! The process aborts when an executor is in that gap of that step for the nth time (the first, unless said otherwise):
//! no destructor runs and nothing is flushed, as at a `kill -9`. What the names mean is in
//! `docs/operating/crash-points.md`.

use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};

use freehold_domain::operation::Step;
use freehold_engine::ports::{Gap, Gaps};

/// The variable that names the place.
pub(crate) const CRASH_AT: &str = "FREEHOLD_CRASH_AT";

/// One place to end at.
#[derive(Debug)]
pub(crate) struct CrashAt {
    step: Step,
    gap: Gap,
    passes_left: AtomicU32,
}

/// A text that names no place.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no crash point; write step:gap or step:gap:nth, such as runtime:sent:2")]
pub(crate) struct NoCrashPoint(String);

impl FromStr for CrashAt {
    type Err = NoCrashPoint;

    fn from_str(text: &str) -> Result<Self, NoCrashPoint> {
        let parts: Vec<&str> = text.split(':').collect();
        let (step, gap, nth) = match parts.as_slice() {
            [step, gap] => (*step, *gap, Some(1)),
            [step, gap, nth] => (*step, *gap, nth.parse().ok().filter(|nth| *nth > 0)),
            _ => ("", "", None),
        };
        let step = Step::ALL.into_iter().find(|known| known.name() == step);
        let gap = Gap::ALL.into_iter().find(|known| known.name() == gap);
        match (step, gap, nth) {
            (Some(step), Some(gap), Some(nth)) => Ok(Self { step, gap, passes_left: AtomicU32::new(nth) }),
            _ => Err(NoCrashPoint(text.to_owned())),
        }
    }
}

impl CrashAt {
    /// Whether this pass is the one to end at.
    fn is_due(&self, step: Step, gap: Gap) -> bool {
        (step, gap) == (self.step, self.gap) && self.passes_left.fetch_sub(1, Ordering::Relaxed) == 1
    }
}

impl Gaps for CrashAt {
    fn passing(&self, step: Step, gap: Gap) {
        if self.is_due(step, gap) {
            tracing::error!(step = step.name(), gap = gap.name(), "crashing, as {CRASH_AT} asks");
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_and_gap_can_be_named() {
        for step in Step::ALL {
            for gap in Gap::ALL {
                let place: CrashAt = format!("{}:{}", step.name(), gap.name()).parse().unwrap();
                assert!(place.is_due(step, gap));
                assert!(!place.is_due(step, gap), "once");
            }
        }
    }

    #[test]
    fn the_nth_pass_is_counted_and_other_places_are_not() {
        let place: CrashAt = "runtime:sent:2".parse().unwrap();
        assert!(!place.is_due(Step::Runtime, Gap::Sent));
        assert!(!place.is_due(Step::Runtime, Gap::Noted));
        assert!(place.is_due(Step::Runtime, Gap::Sent));
    }

    #[test]
    fn what_names_no_place_is_refused() {
        for text in ["", "runtime", "runtime:sent:0", "runtime:sent:x", "runtime:sent:1:1", "sent:runtime", "x:noted"] {
            assert_eq!(text.parse::<CrashAt>().err(), Some(NoCrashPoint(text.to_owned())));
        }
    }
}
