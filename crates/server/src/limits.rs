//! Every limit of the HTTP side, named, with its unit and its reason, and the rate limit that keeps readers from
//! crowding out writers.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

/// The longest request body of our own routes, in bytes: a spec with 32 KiB of environment and as much of secrets does
/// not fit by a little, one with less does. The proxy has no such limit.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// How long a request body of our own routes may take to arrive: 64 KiB at the speed of a bad telephone line.
pub const BODY_READ_MAX: Duration = Duration::from_secs(10);

/// How long the head of a request may take to arrive, and how long an idle connection is kept: a slow client holds one
/// connection no longer than that.
pub const HEAD_READ_MAX: Duration = Duration::from_secs(10);

/// The most headers of a request: browsers send some twenty.
pub const HEADERS_MAX: usize = 100;

/// The most bytes of a request's head, and of what is buffered per connection: a JWT and a few cookies fit many times.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;

/// The most connections at once. Above it new ones wait in the kernel's queue: each costs two buffers and a file
/// descriptor.
pub const CONNECTIONS_MAX: usize = 10_000;

/// How long an open connection may go on after the server was told to stop, before it is cut.
pub const DRAIN_MAX: Duration = Duration::from_secs(10);

/// How often a stream without news says that it is alive: below the half minute after which the most impatient proxies
/// on the way cut a silent connection off.
pub const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(15);

/// How often whoever waits looks at the store although nothing was heard: other nodes' commits make no sound here.
pub const RELOOK_EVERY: Duration = Duration::from_secs(1);

/// How many of the last lines of a log are read where the caller does not say.
pub const LOG_LINES_DEFAULT: usize = 200;

/// The most lines of a log that a reader begins with.
pub const LOG_LINES_MAX: usize = 10_000;

/// How long the proxy waits for a connection to an instance: instances are near.
pub const PROXY_CONNECT_MAX: Duration = Duration::from_secs(3);

/// How long an instance may neither take bytes of a request nor begin its answer: long polls and slow models fit.
pub const PROXY_SILENCE_MAX: Duration = Duration::from_secs(300);

/// How long the store may take to answer a readiness check.
pub const READY_LOOK_MAX: Duration = Duration::from_secs(2);

/// The longest token of an end user, in bytes: many claims fit, and checking it costs little.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// The most organisations that a token may name: a list asks the store once for each.
pub const ORGS_MAX: usize = 50;

/// The longest set of an issuer's keys, in bytes: a key with its certificates takes some 5 KiB.
pub const JWKS_BYTES_MAX: usize = 256 * 1024;

/// The most keys of an issuer: two are usual, while one takes over from the other.
pub const JWKS_KEYS_MAX: usize = 50;

/// How long an issuer may take to answer with its keys: a request waits for it.
pub const JWKS_FETCH_MAX: Duration = Duration::from_secs(5);

/// How many callers are remembered before those that were quiet for long are forgotten.
const CALLERS_SWEPT_AT: usize = 1_000;

/// So many requests per second and caller, and as many at once.
pub(crate) struct Limiter {
    buckets: RateLimiter<Arc<str>, HashMapStateStore<Arc<str>>, DefaultClock>,
    clock: DefaultClock,
}

impl Limiter {
    /// Allows `per_second` to each caller; 0 counts as 1.
    pub(crate) fn new(per_second: u32) -> Self {
        let per_second = NonZeroU32::new(per_second).unwrap_or(NonZeroU32::MIN);
        let clock = DefaultClock::default();
        let buckets = RateLimiter::new(Quota::per_second(per_second), HashMapStateStore::default(), clock.clone());
        Self { buckets, clock }
    }

    /// Counts a request of a caller. `Err` says how long to wait.
    pub(crate) fn take(&self, caller: &Arc<str>) -> Result<(), Duration> {
        if self.buckets.len() >= CALLERS_SWEPT_AT {
            self.buckets.retain_recent();
        }
        self.buckets.check_key(caller).map_err(|full| full.wait_time_from(self.clock.now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_caller_has_its_own_allowance() {
        let limiter = Limiter::new(2);
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        assert_eq!((limiter.take(&a), limiter.take(&a)), (Ok(()), Ok(())));
        let wait = limiter.take(&a).unwrap_err();
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(1), "{wait:?}");
        assert_eq!(limiter.take(&b), Ok(()));
        assert!(Limiter::new(0).take(&a).is_ok(), "nobody is shut out altogether");
    }
}
