//! How long the janitor of a node only looks.
//!
//! - A young registry knows little, and may stand where an older one was lost: for an hour from when it was made nothing
//!   is removed that only it calls unreferenced, so that an operator can read what would be.
//! - The hour belongs to the registry, so that a restart neither ends nor renews it, and it is over for every node of it.
//! - Within a life of a node it runs by the monotonic clock: a wall clock that is set back does not make it longer than
//!   an hour.
//!
//! What a lost registry knew stays safe after the hour too: an instance that the registry does not know is never swept.

use std::time::Duration;

use freehold_domain::time::Timestamp;
use freehold_engine::ports::Clock;

use crate::config::DryRun;

/// How old a registry must be for the janitor to remove anything: some six passes, and time to read what they would do.
const YOUNG_FOR: Duration = Duration::from_secs(3600);

/// Until when the janitor only looks, by the monotonic clock, over a registry that was made then.
pub(super) fn looks_until(dry_run: DryRun, made_at: Timestamp, clock: &dyn Clock) -> Duration {
    let left = match dry_run {
        DryRun::Never => Duration::ZERO,
        DryRun::Always => Duration::MAX,
        DryRun::FirstStart => YOUNG_FOR.saturating_sub(clock.now().since(made_at)),
    };
    if left.is_zero() {
        return Duration::ZERO;
    }
    match dry_run {
        DryRun::FirstStart => tracing::info!(
            minutes = left.as_secs().div_ceil(60),
            "the registry is new: so long the janitor removes nothing and logs what it would ([janitor] dry_run)"
        ),
        DryRun::Always | DryRun::Never => {
            tracing::info!("the janitor removes nothing and logs what it would ([janitor] dry_run)");
        }
    }
    clock.monotonic().saturating_add(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stands still, ten seconds after its start.
    struct At(Timestamp);

    impl Clock for At {
        fn now(&self) -> Timestamp {
            self.0
        }

        fn monotonic(&self) -> Duration {
            Duration::from_secs(10)
        }
    }

    #[test]
    fn a_registry_is_young_for_an_hour_however_often_the_server_starts() {
        let made_at = Timestamp::from_micros(1_000_000_000);
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        let until = |dry_run, age| looks_until(dry_run, made_at, &At(made_at.plus(age)));
        let up = Duration::from_secs(10);
        assert_eq!(until(DryRun::FirstStart, Duration::ZERO), up + minutes(60));
        assert_eq!(until(DryRun::FirstStart, minutes(59)), up + minutes(1));
        assert_eq!(until(DryRun::FirstStart, minutes(60)), Duration::ZERO);
        assert_eq!(until(DryRun::FirstStart, minutes(1_000_000)), Duration::ZERO);
        assert_eq!(until(DryRun::Never, Duration::ZERO), Duration::ZERO);
        assert_eq!(until(DryRun::Always, minutes(1_000_000)), Duration::MAX);
        let set_back = looks_until(DryRun::FirstStart, made_at, &At(Timestamp::from_micros(1)));
        assert_eq!(set_back, up + minutes(60), "never more than an hour of this life");
    }
}
