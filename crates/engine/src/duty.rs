//! Which operations this node takes on. It may change while the node runs: a node that is to go away is drained first, and
//! what is of a provider that only others have is left to them.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use freehold_domain::lease::ProviderName;

use crate::ports::Elsewhere;

/// Why a node takes on nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaidDown {
    /// It was asked to be drained.
    Draining,
    /// Another process has the node's name.
    Superseded,
}

impl fmt::Display for LaidDown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Draining => "draining",
            Self::Superseded => "superseded: another process has this node's name",
        })
    }
}

const TAKEN_UP: u8 = 0;
const DRAINING: u8 = 1;
const SUPERSEDED: u8 = 2;

/// What a node does about operations.
#[derive(Debug)]
pub struct Duty {
    executes: bool,
    state: AtomicU8,
    elsewhere: RwLock<Arc<Elsewhere>>,
}

impl Duty {
    /// Of a node that runs operations, or leaves them to others.
    #[must_use]
    pub fn new(executes: bool) -> Self {
        Self { executes, state: AtomicU8::new(TAKEN_UP), elsewhere: RwLock::default() }
    }

    /// Whether this node takes on operations at the moment. What is asked of it while it does not is the next executor's
    /// that looks, and what it runs it gives back between two steps.
    #[must_use]
    pub fn takes(&self) -> bool {
        self.executes && self.laid_down().is_none()
    }

    /// Why this node is to give back what it has; `None` while it is not.
    #[must_use]
    pub fn laid_down(&self) -> Option<LaidDown> {
        match self.state.load(Ordering::Relaxed) {
            DRAINING => Some(LaidDown::Draining),
            SUPERSEDED => Some(LaidDown::Superseded),
            _ => None,
        }
    }

    /// What is left to other nodes: those have the providers, and this one does not.
    #[must_use]
    pub fn elsewhere(&self) -> Arc<Elsewhere> {
        Arc::clone(&self.elsewhere.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether operations of a provider are left to other nodes.
    #[must_use]
    pub fn leaves(&self, provider: &ProviderName) -> bool {
        self.elsewhere().executed.contains(provider)
    }

    /// Leaves this to other nodes from now on, and nothing else.
    pub fn leave(&self, elsewhere: Elsewhere) {
        *self.elsewhere.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(elsewhere);
    }

    /// Takes on nothing any more, or (`None`) takes on operations again. Answers what it was before.
    pub fn set(&self, laid_down: Option<LaidDown>) -> Option<LaidDown> {
        let before = self.laid_down();
        let state = match laid_down {
            None => TAKEN_UP,
            Some(LaidDown::Draining) => DRAINING,
            Some(LaidDown::Superseded) => SUPERSEDED,
        };
        self.state.store(state, Ordering::Relaxed);
        before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duty_is_laid_down_and_taken_up_again() {
        let duty = Duty::new(true);
        assert!(duty.takes());
        for why in [LaidDown::Draining, LaidDown::Superseded] {
            assert_eq!(duty.set(Some(why)), None);
            assert!(!duty.takes());
            assert_eq!(duty.set(None), Some(why));
            assert!(duty.takes());
        }
        assert!(!Duty::new(false).takes(), "what a node is not there for it does not take up");
    }
}
