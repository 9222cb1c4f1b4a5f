//! What time it is: the database's, except where a test has a clock of its own.

use std::sync::Arc;

use freehold_domain::time::Timestamp;
use freehold_engine::ports::Clock;

/// The database's time in a statement, in microseconds since the Unix epoch. It is the time of the moment, not of the
/// transaction's beginning: a statement may have waited.
macro_rules! now {
    () => {
        "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
    };
}

/// The time of a statement whose first argument is a test's time, or null.
macro_rules! now_or_given {
    () => {
        concat!("COALESCE($1::bigint, ", $crate::postgres::registry::time::now!(), ")")
    };
}

/// How long a statement that has this in what it reads first waits for a lock, until its end: a session that holds a guard
/// and is gone must not hold whoever waits for it, and what that one has already.
macro_rules! patience {
    () => {
        "set_config('lock_timeout', '2s', true)"
    };
}

pub(super) use {now, now_or_given, patience};

/// Where time comes from.
pub(super) struct Time(Option<Arc<dyn Clock>>);

impl Time {
    pub(super) fn of(clock: Option<Arc<dyn Clock>>) -> Self {
        Self(clock)
    }

    /// The argument for [`now_or_given`]: null where the database's own time is meant.
    pub(super) fn given(&self) -> Option<i64> {
        self.0.as_ref().map(|clock| clock.now().as_micros())
    }

    /// The time, where the database said `said`.
    pub(super) fn at(&self, said: i64) -> Timestamp {
        Timestamp::from_micros(self.given().unwrap_or(said))
    }
}
