//! Time and chance, as arguments. The engine reads neither anywhere else.

use std::time::Duration;

use freehold_domain::time::Timestamp;

/// Two clocks: one that people read, and one that never jumps.
pub trait Clock: Send + Sync {
    /// The wall clock. May jump; nothing that fences depends on it.
    fn now(&self) -> Timestamp;

    /// Time since some fixed moment of this process. Never jumps, never runs backwards.
    fn monotonic(&self) -> Duration;
}

/// Chance, good enough for keys.
pub trait Entropy: Send + Sync {
    /// Fills `bytes` with chance.
    fn fill(&self, bytes: &mut [u8]);
}
