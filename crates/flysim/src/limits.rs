//! The published rate limits: a bucket for each action on each machine or app.
//!
//! One call a second, in bursts of three; reading a machine five a second, in bursts of ten
//! (fly.io/docs/machines/api/working-with-machines-api, "Rate limits").

use std::collections::BTreeMap;

use crate::call::{Call, Endpoint};

/// One token of a bucket, in thousandths.
const TOKEN: u64 = 1000;
/// Past this many buckets the full ones are forgotten: they say nothing.
const BUCKETS_MAX: usize = 10_000;

#[derive(Debug)]
struct Bucket {
    /// Thousandths of a token.
    level: u64,
    /// Milliseconds.
    filled_at: u64,
}

/// Every bucket that was touched.
#[derive(Debug, Default)]
pub(crate) struct Limits(BTreeMap<(Endpoint, String), Bucket>);

impl Limits {
    /// Takes a token, or says that there is none. `now` in milliseconds.
    pub(crate) fn allow(&mut self, call: &Call, now: u64) -> bool {
        let (per_second, burst) = if call.endpoint == Endpoint::GetMachine { (5, 10) } else { (1, 3) };
        let about = if call.id.is_empty() { &call.app } else { &call.id };
        let full = burst * TOKEN;
        if self.0.len() > BUCKETS_MAX {
            // Every bucket is full again ten seconds after its last call.
            self.0.retain(|_, bucket| now.saturating_sub(bucket.filled_at) < 10_000);
        }
        let bucket = self.0.entry((call.endpoint, about.clone())).or_insert(Bucket { level: full, filled_at: now });
        let gained = now.saturating_sub(bucket.filled_at).saturating_mul(per_second);
        bucket.level = bucket.level.saturating_add(gained).min(full);
        bucket.filled_at = now;
        let there = bucket.level >= TOKEN;
        if there {
            bucket.level -= TOKEN;
        }
        there
    }
}

#[cfg(test)]
mod tests {
    use super::Limits;
    use crate::call::Call;

    #[test]
    fn a_bucket_holds_three_and_fills_by_one_a_second() {
        let mut limits = Limits::default();
        let call = Call::route("POST", "/v1/apps/a/machines/m/start", "").expect("it exists");
        let allowed: Vec<bool> = [0, 0, 0, 0, 900, 1000, 1500].map(|now| limits.allow(&call, now)).to_vec();
        assert_eq!(allowed, [true, true, true, false, false, true, false]);
        let other = Call::route("POST", "/v1/apps/a/machines/n/start", "").expect("it exists");
        assert!(limits.allow(&other, 1500), "another machine has a bucket of its own");
    }

    #[test]
    fn reading_a_machine_has_ten() {
        let mut limits = Limits::default();
        let call = Call::route("GET", "/v1/apps/a/machines/m", "").expect("it exists");
        assert_eq!((0..20).filter(|_| limits.allow(&call, 0)).count(), 10);
    }
}
