//! The timers are in parts, by owner: one owner's flood fills one part, and the parts take turns.

use freehold_domain::owner::Owner;
use ring::digest::{SHA256, digest};

/// How many parts the timers have.
pub(crate) const SHARDS: u8 = 64;

/// In which part of the timers an owner's operations are.
#[must_use]
pub fn shard(owner: &Owner) -> i16 {
    i16::from(digest(&SHA256, owner.to_string().as_bytes()).as_ref()[0] % SHARDS)
}
