//! Real time and real chance.
//!
//! What is shown never runs backwards and never stands still. Whose time it is depends on the store:
//!
//! - Over a store that has no clock of its own it is the machine's wall clock, as long as that is ahead. One that is set
//!   back stops nothing: time goes on as it passes.
//! - Over a store that has one ([`SystemClock::follow`]) it is the store's, and the machine's wall clock does not matter
//!   any more, whatever is done to it. What was shown too early is made up for by running at half speed.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use freehold_domain::time::Timestamp;
use freehold_engine::ports::{Clock, Entropy};
use ring::rand::{SecureRandom, SystemRandom};

/// How long a reading of the store's clock is good: so long a clock's drift stays below what a round trip leaves open
/// (a hundred millionths, over a minute, are six milliseconds).
const READING_KEPT: Duration = Duration::from_secs(60);

/// How many readings are kept: one a second.
const READINGS_MAX: usize = 60;

/// How far two readings may be apart beyond what their round trips leave open before they cannot be of one clock.
const DRIFT_MAX: Duration = Duration::from_millis(20);

/// The machine's clocks, and what is shown of them.
#[derive(Debug)]
pub(crate) struct SystemClock {
    began: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    shown: Shown,
    store: StoreClock,
}

impl State {
    /// What to show at a moment of the monotonic clock.
    fn show(&mut self, wall: Timestamp, at: Duration) -> Timestamp {
        self.shown = match self.store.at(at) {
            None => self.shown.next(wall, at),
            Some(time) => self.shown.towards(time, at),
        };
        self.shown.time
    }
}

/// What was shown last, and when by the monotonic clock.
#[derive(Clone, Copy, Debug)]
struct Shown {
    time: Timestamp,
    at: Duration,
}

impl Shown {
    /// What to show next where the wall clock is followed while it is ahead.
    fn next(self, wall: Timestamp, at: Duration) -> Self {
        let goes_on = self.time.plus(at.saturating_sub(self.at));
        Self { time: goes_on.max(wall), at }
    }

    /// What to show next where the store's time is followed wherever it is.
    fn towards(self, store: Timestamp, at: Duration) -> Self {
        let held_back = self.time.plus(at.saturating_sub(self.at) / 2);
        Self { time: held_back.max(store), at }
    }
}

/// One answer of the store to what time it is.
#[derive(Clone, Copy, Debug)]
struct Reading {
    time: Timestamp,
    /// The middle of the round trip: the store looked at its clock at most half of it earlier or later.
    at: Duration,
    round_trip: Duration,
}

impl Reading {
    fn at(&self, at: Duration) -> Timestamp {
        match at.checked_sub(self.at) {
            Some(passed) => self.time.plus(passed),
            None => {
                let ahead = i64::try_from((self.at - at).as_micros()).unwrap_or(i64::MAX);
                Timestamp::from_micros(self.time.as_micros().saturating_sub(ahead))
            }
        }
    }

    /// Whether one clock can have shown both.
    fn agrees_with(&self, other: &Self) -> bool {
        let there = other.at(self.at);
        let apart = self.time.since(there).max(there.since(self.time));
        apart <= (self.round_trip + other.round_trip) / 2 + DRIFT_MAX
    }
}

/// The store's clock, as its answers tell it: by the one of the last minute that came back fastest.
#[derive(Debug, Default)]
struct StoreClock {
    readings: VecDeque<Reading>,
}

impl StoreClock {
    /// Hears an answer. One that contradicts earlier ones tells of another clock, after a fail-over or a step: those are
    /// forgotten.
    fn hear(&mut self, reading: Reading) {
        self.readings
            .retain(|earlier| reading.at.saturating_sub(earlier.at) < READING_KEPT && earlier.agrees_with(&reading));
        if self.readings.len() == READINGS_MAX {
            self.readings.pop_front();
        }
        self.readings.push_back(reading);
    }

    fn at(&self, at: Duration) -> Option<Timestamp> {
        self.readings.iter().min_by_key(|reading| reading.round_trip).map(|best| best.at(at))
    }
}

impl SystemClock {
    pub(crate) fn new() -> Self {
        let shown = Shown { time: wall(), at: Duration::ZERO };
        Self { began: Instant::now(), state: Mutex::new(State { shown, store: StoreClock::default() }) }
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Shows nothing before `floor` from now on: what an earlier life of this registry has written is past.
    pub(crate) fn not_before(&self, floor: Timestamp) {
        self.with(|state| state.shown = state.shown.next(floor, self.began.elapsed()));
    }

    /// Follows the clock of a store that was asked at one moment of the monotonic clock, and answered with its time by
    /// another. An answer that took long says less than one that did not: half its round trip is what it leaves open.
    pub(crate) fn follow(&self, store_now: Timestamp, asked_at: Duration, answered_at: Duration) {
        let round_trip = answered_at.saturating_sub(asked_at);
        let reading = Reading { time: store_now, at: asked_at + round_trip / 2, round_trip };
        self.with(|state| {
            if state.store.readings.is_empty() {
                let at = self.began.elapsed();
                let (time, wall) = (reading.at(at), wall());
                let (ahead_ms, behind_ms) = (wall.since(time).as_millis(), time.since(wall).as_millis());
                tracing::info!(ahead_ms, behind_ms, "following the store's clock instead of this machine's");
                // What the machine's clock showed until then has no part in anything.
                state.shown = Shown { time, at };
            }
            state.store.hear(reading);
        });
    }
}

fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        self.with(|state| state.show(wall(), self.began.elapsed()))
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

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// A clock that began to show the machine's time at 10,000 s.
    fn state() -> State {
        State { shown: Shown { time: at(10_000), at: after(0) }, store: StoreClock::default() }
    }

    /// The store said `time` in an answer that came in at `at` and took `round_trip`.
    fn reading(time: Timestamp, at: Duration, round_trip: Duration) -> Reading {
        Reading { time, at: at - round_trip / 2, round_trip }
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

    #[test]
    fn a_stores_time_is_shown_whatever_the_wall_clock_does() {
        let mut state = state();
        assert_eq!(state.show(at(10_001), after(1)), at(10_001));
        state.store.hear(reading(at(20_000), after(2), millis(0)));
        for (wall, passed) in [(10_002, 0), (50_000, 1), (3, 2), (10_005, 100)] {
            assert_eq!(state.show(at(wall), after(2 + passed)), at(20_000).plus(after(passed)), "{wall}");
        }
        // The twin: a store without a clock leaves the machine's.
        state.store = StoreClock::default();
        assert_eq!(state.show(at(50_000), after(103)), at(50_000));
    }

    #[test]
    fn the_first_answer_sets_the_clock() {
        let clock = SystemClock::new();
        assert!(clock.now() > at(1_000_000_000), "the machine's");
        let asked_at = clock.monotonic();
        clock.follow(at(20_000), asked_at, clock.monotonic());
        let shown = clock.now();
        assert!(shown >= at(20_000) && shown <= at(20_000).plus(clock.monotonic() - asked_at), "{shown:?}");
    }

    #[test]
    fn the_middle_of_the_round_trip_is_when_the_store_looked() {
        let mut state = state();
        state.store.hear(reading(at(20_000), after(10), millis(400)));
        assert_eq!(state.show(at(0), after(10)), at(20_000).plus(millis(200)));
    }

    #[test]
    fn what_was_shown_too_early_is_made_up_for_without_standing_still() {
        let mut state = state();
        state.show(at(10_000), after(1));
        // The machine's clock was 10 s ahead of the store's.
        state.store.hear(reading(at(9_991), after(1), millis(0)));
        let mut last = state.shown.time;
        for second in 2..=40 {
            let time = state.show(at(10_000), after(second));
            assert!(time > last, "it stands still at {second} s");
            assert!(time.since(last) <= after(1), "it does not jump at {second} s");
            last = time;
        }
        assert_eq!(last, at(9_990 + 40), "and then it is the store's");
    }

    #[test]
    fn a_slow_answer_does_not_spoil_a_fast_one() {
        let mut state = state();
        state.store.hear(reading(at(20_000), after(10), millis(2)));
        // The answer lay around for 4 s on its way back: its middle is 2 s off, which is what it leaves open.
        state.store.hear(reading(at(20_005), after(19), after(4)));
        assert_eq!(state.show(at(0), after(20)), at(20_010).plus(millis(1)), "the fast one stands");
        // A minute later it is all there is.
        for second in 22..=80 {
            state.store.hear(reading(at(20_000 + second), after(second as u64 + 10 + 2), after(4)));
        }
        let shown = state.show(at(0), after(100));
        let open = after(2) + millis(1);
        assert!(shown.since(at(20_090)) <= open && at(20_090).since(shown) <= open, "{shown:?}");
        // The next fast one is followed at once.
        state.store.hear(reading(at(20_095), after(105), millis(2)));
        assert_eq!(state.show(at(0), after(110)).max(at(20_100)), state.shown.time);
    }

    #[test]
    fn another_servers_clock_is_followed_at_once() {
        let mut state = state();
        state.store.hear(reading(at(20_000), after(10), millis(1)));
        // After a fail-over: slower to answer, and a second ahead. Both cannot be one clock.
        state.store.hear(reading(at(20_006), after(15), millis(50)));
        assert_eq!(state.show(at(0), after(15)), at(20_006).plus(millis(25)));
        assert_eq!(state.store.readings.len(), 1);
        // And one that is a second behind: time goes on, at half speed, until it is there.
        state.store.hear(reading(at(20_010), after(20), millis(50)));
        let shown = state.show(at(0), after(20));
        assert!(shown > at(20_006).plus(millis(25)));
        assert_eq!(state.show(at(0), after(30)), at(20_020).plus(millis(25)));
    }

    #[test]
    fn readings_do_not_pile_up() {
        let mut clock = StoreClock::default();
        for tick in 0..1_000u64 {
            clock.hear(reading(at(20_000).plus(millis(tick * 10)), after(10) + millis(tick * 10), millis(1)));
        }
        assert_eq!(clock.readings.len(), READINGS_MAX);
    }
}
