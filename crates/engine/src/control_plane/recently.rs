//! When something was last done, for things that are not to be done for everybody who asks. Bounded: what is forgotten is
//! done once more.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How many are remembered.
const REMEMBERED_MAX: usize = 10_000;

/// When something was last done, by what it was done for, on this node's monotonic clock.
pub(super) struct Recently<K>(Mutex<HashMap<K, Duration>>);

impl<K> Default for Recently<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash> Recently<K> {
    /// Whether it was done less than `span` ago. If not, it counts as done from now on.
    pub(super) fn is_recent(&self, key: K, now: Duration, span: Duration) -> bool {
        let mut done = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if done.get(&key).is_some_and(|last| now < *last + span) {
            return true;
        }
        if done.len() >= REMEMBERED_MAX {
            done.clear();
        }
        done.insert(key, now);
        false
    }

    /// Whether it was done less than `span` ago; changes nothing.
    pub(super) fn was_recent(&self, key: &K, now: Duration, span: Duration) -> bool {
        let done = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        done.get(key).is_some_and(|last| now < *last + span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_begins_when_it_was_done_and_not_when_it_was_asked() {
        let recently = Recently::default();
        let second = Duration::from_secs(1);
        assert!(!recently.is_recent("a", second, 10 * second));
        assert!(recently.is_recent("a", 10 * second, 10 * second));
        assert!(recently.was_recent(&"a", 10 * second, 10 * second));
        assert!(!recently.is_recent("a", 11 * second, 10 * second));
        assert!(!recently.was_recent(&"b", second, second));
    }
}
