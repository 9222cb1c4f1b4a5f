//! The guard of a context: which row it is, and at what version it was read.

use freehold_domain::owner::Context;
use ring::digest::{Context as Sha256, SHA256};

use crate::shared::chain::Chain;
pub(super) use crate::shared::parts::SHARDS;
pub use crate::shared::parts::shard;

/// The id of a context's guard row: SHA-256 over owner, a zero byte and the assigned user, its first sixteen bytes, as a
/// UUIDv8. Whoever knows a context knows where its rows are, before there are any.
#[must_use]
pub fn context_id(context: &Context) -> [u8; 16] {
    let mut sum = Sha256::new(&SHA256);
    sum.update(context.owner().to_string().as_bytes());
    sum.update(&[0]);
    sum.update(context.assigned_user().as_str().as_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&sum.finish().as_ref()[..16]);
    id[6] = (id[6] & 0x0f) | 0x80;
    id[8] = (id[8] & 0x3f) | 0x80;
    id
}

/// A context as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Guard {
    pub(super) context_id: [u8; 16],
    /// Zero for a context that is not on record.
    pub(super) version: i64,
    pub(super) chain: Chain,
}

impl Guard {
    /// Of a context that is not on record.
    pub(super) fn new(context_id: [u8; 16]) -> Self {
        Self { context_id, version: 0, chain: Chain::NEW }
    }
}
