//! The encoding that the audit chain hashes. One line's hash covers the line before it, so nothing in the middle of a
//! context's history can be changed, dropped or put in without every later hash being wrong.

use freehold_domain::event::Event;
use freehold_domain::owner::Context;
use ring::digest::{Context as Sha256, SHA256};

/// What the first line of a context has before it.
pub const GENESIS: [u8; 32] = [0; 32];

/// The hash of a line: SHA-256 over the previous hash and each field of the line in this order, every one preceded by
/// its length in bytes as a big-endian u64: context owner, assigned user, number in its context (decimal), kind,
/// instance, operation, epoch (decimal), status, actor, time (microseconds since the Unix epoch, decimal), detail.
#[must_use]
pub fn hash(prev: &[u8; 32], context: &Context, context_seq: u64, event: &Event) -> [u8; 32] {
    let Event { kind, instance, operation, epoch, status, actor, at, detail } = event;
    let mut digest = Sha256::new(&SHA256);
    digest.update(prev);
    for field in [
        context.owner().to_string().as_str(),
        context.assigned_user().as_str(),
        &context_seq.to_string(),
        kind.name(),
        &instance.to_string(),
        &operation.to_string(),
        &epoch.to_string(),
        status,
        actor.name(),
        &at.as_micros().to_string(),
        detail,
    ] {
        digest.update(&(field.len() as u64).to_be_bytes());
        digest.update(field.as_bytes());
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(digest.finish().as_ref());
    hash
}
