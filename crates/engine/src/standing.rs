//! Whether this node may act, as it last heard of it.
//!
//! While the registry is in quarantine nothing is admitted, nothing is claimed and nothing is changed at a provider; a
//! destroy is accepted, because that is true whatever happened after the backup, and is carried out behind it. Reads,
//! routes and traffic go on. Each node looks every few seconds, so the end of a quarantine needs no restart.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use freehold_domain::protection::{Protection, stands};
use freehold_domain::time::Timestamp;

use crate::ports::{Clock, Quarantined, Store, StoreError};

/// How long the janitor only looks behind a quarantine: some passes, and time to read what they would do.
pub const CAREFUL_FOR: Duration = Duration::from_secs(3_600);

/// What this node heard last.
#[derive(Debug, Default)]
pub struct Standing {
    /// The same as whether there is a reason, for those who ask at every step.
    is_quarantined: AtomicBool,
    why: Mutex<Option<Quarantined>>,
    /// When the quarantine was over behind which the janitor is careful, and until when, in milliseconds of the monotonic
    /// clock; each quarantine is waited for once.
    careful_since: Mutex<Option<Timestamp>>,
    careful_until: AtomicU64,
}

impl Standing {
    /// Of a registry that is not in quarantine.
    #[must_use]
    pub fn open() -> Arc<Self> {
        Arc::default()
    }

    /// Asks the registry. Where it does not answer, what was heard last stays.
    ///
    /// # Errors
    /// [`StoreError`] if the store does not answer.
    pub async fn look(&self, store: &dyn Store, clock: &dyn Clock) -> Result<Option<Quarantined>, StoreError> {
        let heard = store.quarantine().await?;
        if heard.is_none()
            && let Some(over) = store.quarantine_over().await?
        {
            self.be_careful(over, clock);
        }
        self.heard(heard.clone());
        Ok(heard)
    }

    fn be_careful(&self, over: Timestamp, clock: &dyn Clock) {
        let mut since = self.careful_since.lock().unwrap_or_else(PoisonError::into_inner);
        if *since == Some(over) {
            return;
        }
        *since = Some(over);
        // A wall clock that was set back does not make it longer than that.
        let left = CAREFUL_FOR.saturating_sub(clock.now().since(over));
        let until = clock.monotonic().saturating_add(left).as_millis();
        self.careful_until.store(u64::try_from(until).unwrap_or(u64::MAX), Ordering::Release);
    }

    fn heard(&self, heard: Option<Quarantined>) {
        let mut why = self.why.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_quarantined.store(heard.is_some(), Ordering::Release);
        *why = heard;
    }

    /// Why nothing is changed, where that is so.
    #[must_use]
    pub fn quarantine(&self) -> Option<Quarantined> {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether this node may act.
    #[must_use]
    pub fn may_act(&self) -> bool {
        !self.is_quarantined.load(Ordering::Acquire) || !stands(Protection::QuarantineIsKept)
    }

    /// Refuses where this node may not act.
    ///
    /// # Errors
    /// [`StoreError::Quarantined`], with what ends it.
    pub fn check(&self) -> Result<(), StoreError> {
        if self.may_act() {
            return Ok(());
        }
        Err(StoreError::Quarantined(self.quarantine().map_or_else(String::new, |quarantined| quarantined.why)))
    }

    /// Until when the janitor only looks behind a quarantine, by the monotonic clock.
    #[must_use]
    pub fn careful_until(&self) -> Duration {
        Duration::from_millis(self.careful_until.load(Ordering::Acquire))
    }
}
