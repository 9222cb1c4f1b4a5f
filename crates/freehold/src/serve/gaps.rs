//! Places where a test ends or freezes this process: `FREEHOLD_CRASH_AT=step:gap[:nth]`, and `FREEHOLD_FREEZE_AT` alike.
//!
//! The process aborts when an executor is in that gap of that step for the nth time (the first, unless said otherwise):
//! no destructor runs and nothing is flushed, as at a `kill -9`. Or it stops itself with SIGSTOP, and goes on from there
//! when somebody sends SIGCONT. What the names mean is in `docs/operating/crash-points.md`.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use freehold_domain::operation::Step;
use freehold_engine::ports::{Gap, Gaps, NoGaps};
use rustix::process::{Signal, getpid, kill_process};

use crate::exit::Failure;

/// The variable that names the place to end at.
const CRASH_AT: &str = "FREEHOLD_CRASH_AT";

/// The variable that names the place to freeze at.
const FREEZE_AT: &str = "FREEHOLD_FREEZE_AT";

/// A clock that jumps by so much was stopped: many times what a thread waits for its turn.
const STOPPED_FOR: Duration = Duration::from_millis(500);

/// How long a signal to this process may take to stop all of its threads.
const STOPS_WITHIN: Duration = Duration::from_secs(10);

/// How often the clock is looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// What the environment asks for.
///
/// # Errors
/// A variable that names no place.
pub(super) fn asked_for() -> Result<Arc<dyn Gaps>, Failure> {
    let asked = |variable: &str| std::env::var(variable).ok().filter(|place| !place.is_empty());
    let parsed = |variable: &str| -> Result<Option<Pass>, Failure> {
        let Some(place) = asked(variable) else { return Ok(None) };
        let pass = place.parse().map_err(|error| Failure::usage(format!("{variable}: {error}")))?;
        tracing::warn!(?pass, "this server will fail on purpose, as {variable} asks");
        Ok(Some(pass))
    };
    match (parsed(CRASH_AT)?, parsed(FREEZE_AT)?) {
        (None, None) => Ok(Arc::new(NoGaps)),
        (crash, freeze) => Ok(Arc::new(OnPurpose { crash, freeze })),
    }
}

/// Where to fail, and how.
struct OnPurpose {
    crash: Option<Pass>,
    freeze: Option<Pass>,
}

/// The nth pass of one place.
#[derive(Debug)]
struct Pass {
    step: Step,
    gap: Gap,
    passes_left: AtomicU32,
}

/// A text that names no place.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no crash point; write step:gap or step:gap:nth, such as runtime:sent:2")]
struct NoCrashPoint(String);

impl FromStr for Pass {
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

impl Pass {
    /// Whether this pass is the one to fail at.
    fn is_due(&self, step: Step, gap: Gap) -> bool {
        (step, gap) == (self.step, self.gap) && self.passes_left.fetch_sub(1, Ordering::Relaxed) == 1
    }
}

impl Gaps for OnPurpose {
    fn passing(&self, step: Step, gap: Gap) {
        if self.freeze.as_ref().is_some_and(|pass| pass.is_due(step, gap)) {
            tracing::error!(step = step.name(), gap = gap.name(), "freezing, as {FREEZE_AT} asks");
            freeze();
        }
        if self.crash.as_ref().is_some_and(|pass| pass.is_due(step, gap)) {
            tracing::error!(step = step.name(), gap = gap.name(), "crashing, as {CRASH_AT} asks");
            std::process::abort();
        }
    }
}

/// Stops this process and does not leave before it went on: the signal may stop other threads first.
fn freeze() {
    let began = Instant::now();
    if let Err(error) = kill_process(getpid(), Signal::STOP) {
        tracing::error!(%error, "this process cannot be frozen");
        return;
    }
    let mut looked = began;
    while looked.elapsed() < STOPPED_FOR && began.elapsed() < STOPS_WITHIN {
        looked = Instant::now();
        std::thread::sleep(LOOK_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_and_gap_can_be_named() {
        for step in Step::ALL {
            for gap in Gap::ALL {
                let place: Pass = format!("{}:{}", step.name(), gap.name()).parse().unwrap();
                assert!(place.is_due(step, gap));
                assert!(!place.is_due(step, gap), "once");
            }
        }
    }

    #[test]
    fn the_nth_pass_is_counted_and_other_places_are_not() {
        let place: Pass = "runtime:sent:2".parse().unwrap();
        assert!(!place.is_due(Step::Runtime, Gap::Sent));
        assert!(!place.is_due(Step::Runtime, Gap::Noted));
        assert!(place.is_due(Step::Runtime, Gap::Sent));
    }

    #[test]
    fn what_names_no_place_is_refused() {
        for text in ["", "runtime", "runtime:sent:0", "runtime:sent:x", "runtime:sent:1:1", "sent:runtime", "x:noted"] {
            assert_eq!(text.parse::<Pass>().err(), Some(NoCrashPoint(text.to_owned())));
        }
    }
}
