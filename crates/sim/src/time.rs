//! Time that passes only when the scheduler says so. Every node sees it through a clock of its own, which may be wrong and
//! may jump.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use freehold_domain::time::Timestamp;
use freehold_engine::ports::Clock;

/// When every simulated world begins: 2026-01-01T00:00:00Z.
const BEGINNING_MICROS: i64 = 1_767_225_600_000_000;

/// The true time, in microseconds since the world began.
#[derive(Clone, Debug, Default)]
pub struct VirtualTime(Arc<AtomicI64>);

impl VirtualTime {
    /// The true time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp::from_micros(BEGINNING_MICROS + self.0.load(Ordering::Relaxed))
    }

    /// How much of it has passed.
    #[must_use]
    pub fn passed(&self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.load(Ordering::Relaxed)).unwrap_or(0))
    }

    /// Lets time pass.
    pub fn pass(&self, span: Duration) {
        self.0.fetch_add(i64::try_from(span.as_micros()).unwrap_or(0), Ordering::Relaxed);
    }
}

/// A clock that is off by a span that may change. Clones are the same clock.
#[derive(Clone, Debug)]
pub struct WrongClock {
    time: VirtualTime,
    off_micros: Arc<AtomicI64>,
}

impl WrongClock {
    /// A clock that shows `off_micros` more than the true time.
    #[must_use]
    pub fn new(time: VirtualTime, off_micros: i64) -> Self {
        Self { time, off_micros: Arc::new(AtomicI64::new(off_micros)) }
    }

    /// Jumps. The monotonic clock beside it does not.
    pub fn jump(&self, by_micros: i64) {
        self.off_micros.fetch_add(by_micros, Ordering::Relaxed);
    }
}

impl Clock for WrongClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.time.now().as_micros() + self.off_micros.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        self.time.passed()
    }
}
