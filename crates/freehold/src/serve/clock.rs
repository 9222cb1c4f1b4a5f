//! Real time and real chance.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use freehold_domain::time::Timestamp;
use freehold_engine::ports::{Clock, Entropy};
use ring::rand::{SecureRandom, SystemRandom};

/// The machine's clocks.
#[derive(Debug)]
pub(crate) struct SystemClock {
    began: Instant,
}

impl SystemClock {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
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
