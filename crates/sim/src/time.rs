//! Time that passes only when the scheduler says so. Every node sees it through a clock of its own, which may be wrong.

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

    /// Lets time pass.
    pub fn pass(&self, span: Duration) {
        self.0.fetch_add(i64::try_from(span.as_micros()).unwrap_or(0), Ordering::Relaxed);
    }
}

/// A clock that is off by a fixed span.
#[derive(Clone, Debug)]
pub struct SkewedClock {
    time: VirtualTime,
    skew_micros: i64,
}

impl SkewedClock {
    /// A clock that shows `skew_micros` more than the true time.
    #[must_use]
    pub fn new(time: VirtualTime, skew_micros: i64) -> Self {
        Self { time, skew_micros }
    }
}

impl Clock for SkewedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.time.now().as_micros() + self.skew_micros)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(u64::try_from(self.time.0.load(Ordering::Relaxed)).unwrap_or(0))
    }
}
