//! The audit chain of a context: each line covers the one before it.

use freehold_domain::event::Event;
use freehold_domain::owner::Context;
use freehold_domain::protection::{Protection, stands};
use freehold_engine::audit::{GENESIS, hash};

/// Where a context's chain ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) seq: u64,
    pub(crate) head: [u8; 32],
}

/// One event in its place in the chain.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) seq: u64,
    pub(crate) prev: [u8; 32],
    pub(crate) hash: [u8; 32],
    pub(crate) event: Event,
}

impl Chain {
    /// Of a context that nothing was said of.
    pub(crate) const NEW: Self = Self { seq: 0, head: GENESIS };

    /// Puts an event behind the last one.
    pub(crate) fn link(&mut self, context: &Context, event: &Event) -> Link {
        let prev = if stands(Protection::AuditIsChained) { self.head } else { GENESIS };
        self.seq += 1;
        self.head = hash(&prev, context, self.seq, event);
        Link { seq: self.seq, prev, hash: self.head, event: event.clone() }
    }
}
