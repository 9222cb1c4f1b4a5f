//! Real time and real chance.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use freehold_domain::time::Timestamp;
use freehold_engine::ports::{Clock, Entropy};
use ring::rand::{SecureRandom, SystemRandom};

/// The machine's clocks. The wall clock may be set back; what is shown here never runs backwards and never stands still:
/// it follows the machine's while that is ahead, and goes on by the monotonic clock while that is behind.
#[derive(Debug)]
pub(crate) struct SystemClock {
    began: Instant,
    shown: Mutex<Shown>,
}

/// What was shown last, and when by the monotonic clock.
#[derive(Clone, Copy, Debug)]
struct Shown {
    time: Timestamp,
    at: Duration,
}

impl Shown {
    /// What to show next.
    fn next(self, wall: Timestamp, at: Duration) -> Self {
        let goes_on = self.time.plus(at.saturating_sub(self.at));
        Self { time: goes_on.max(wall), at }
    }
}

impl SystemClock {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), shown: Mutex::new(Shown { time: wall(), at: Duration::ZERO }) }
    }

    /// Shows nothing before `floor` from now on: what an earlier life of this registry has written is past.
    pub(crate) fn not_before(&self, floor: Timestamp) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        *shown = shown.next(floor, self.began.elapsed());
    }
}

fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        *shown = shown.next(wall(), self.began.elapsed());
        shown.time
    }

    fn monotonic(&self) -> Duration {
        self.began.elapsed()
    }
}

/// The kernel's chance.
#[derive(Debug)]
pub(crate) struct SystemEntropy(SystemRandom);

impl SystemEntropy {
    pub(crate) fn new() -> Self {
        Self(SystemRandom::new())
    }
}

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        // Without chance there are no keys, no ids and no nonces: nothing that this program may do.
        self.0.fill(bytes).expect("the kernel gives random bytes");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn after(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_wall_clock_that_is_set_back_stops_nothing() {
        let shown = Shown { time: at(10_000), at: after(0) };
        let shown = shown.next(at(10_001), after(1));
        assert_eq!(shown.time, at(10_001));
        // An hour back: time goes on as it passes.
        let shown = shown.next(at(6_402), after(2));
        assert_eq!(shown.time, at(10_002));
        let shown = shown.next(at(6_412), after(12));
        assert_eq!(shown.time, at(10_012));
        // Ahead again: it is followed.
        assert_eq!(shown.next(at(10_500), after(13)).time, at(10_500));
    }

    #[test]
    fn what_is_on_record_is_past() {
        let clock = SystemClock::new();
        let ahead = clock.now().plus(after(3_600));
        clock.not_before(ahead);
        assert!(clock.now() >= ahead);
        clock.not_before(at(0));
        assert!(clock.now() >= ahead);
    }
}
