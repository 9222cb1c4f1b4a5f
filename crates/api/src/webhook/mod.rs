//! Standard Webhooks 1.0: messages that carry their own credential.
//!
//! - A signature covers the message's id, its time and the raw bytes of its body, in this order and parted by full stops.
//!   An id never holds a full stop, so no two messages are signed as the same text.
//! - A message is signed with every secret and accepted with any: that is how one secret is put in the place of another.
//! - Signatures are compared in constant time. Neither a secret nor a body is ever in an error.
//!
//! Source: the specification at standardwebhooks.com, version 1.0, symmetric signatures (`v1`).

mod secret;

pub use secret::{InvalidSecrets, SECRET_BYTES_MAX, SECRET_BYTES_MIN, SECRETS_MAX, Secrets};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The header with the message's id: the same on every retry.
pub const ID: &str = "webhook-id";

/// The header with the time of this attempt, in Unix seconds.
pub const TIMESTAMP: &str = "webhook-timestamp";

/// The header with the signatures, parted by spaces.
pub const SIGNATURE: &str = "webhook-signature";

/// How far the time of a message may be from ours, either way, in seconds: clocks differ, and what was overheard once
/// must not be good for ever.
pub const TOLERANCE_SECONDS: i64 = 5 * 60;

/// The longest id of a message, in bytes.
pub const ID_BYTES_MAX: usize = 255;

/// The most signatures of one message that are looked at: a rotation needs two.
const SIGNATURES_MAX: usize = 16;

/// What a symmetric signature begins with.
const VERSION: &str = "v1,";

/// The headers of a signed message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// For [`ID`].
    pub id: String,
    /// For [`TIMESTAMP`].
    pub timestamp: String,
    /// For [`SIGNATURE`].
    pub signature: String,
}

impl Signed {
    /// Name and value of each header.
    #[must_use]
    pub fn headers(&self) -> [(&'static str, &str); 3] {
        [(ID, &self.id), (TIMESTAMP, &self.timestamp), (SIGNATURE, &self.signature)]
    }
}

/// A message that may not be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message's id is 1 to {ID_BYTES_MAX} printable ASCII characters without spaces and full stops")]
pub struct InvalidMessageId;

/// Why a message was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// One of the three headers is not there, or is there twice.
    #[error("the header `{0}` must be there once")]
    Header(&'static str),
    /// The id is none.
    #[error(transparent)]
    Id(#[from] InvalidMessageId),
    /// The time is none.
    #[error("`{TIMESTAMP}` is not a number of Unix seconds")]
    Timestamp,
    /// It is too old: repeated, or sent by a clock that is behind.
    #[error("the message is more than {TOLERANCE_SECONDS} s old")]
    TooOld,
    /// It is from the future: the clock of one side is wrong.
    #[error("the message is more than {TOLERANCE_SECONDS} s ahead of this server's clock")]
    TooNew,
    /// No signature of it is ours.
    #[error("no signature of the message was made with a secret that is known here")]
    Signature,
}

/// Whether a text can be the id of a message.
fn is_id(id: &str) -> bool {
    (1..=ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'.')
}

/// What is signed.
fn content(id: &str, timestamp: i64, body: &[u8]) -> Vec<u8> {
    let mut content = format!("{id}.{timestamp}.").into_bytes();
    content.extend_from_slice(body);
    content
}

impl Secrets {
    /// Signs a message with every secret. `now` is in Unix seconds.
    ///
    /// # Errors
    /// [`InvalidMessageId`].
    pub fn sign(&self, id: &str, now: i64, body: &[u8]) -> Result<Signed, InvalidMessageId> {
        if !is_id(id) {
            return Err(InvalidMessageId);
        }
        let content = content(id, now, body);
        let signatures =
            self.keys().iter().map(|key| format!("{VERSION}{}", STANDARD.encode(ring::hmac::sign(key, &content))));
        let signature = signatures.collect::<Vec<_>>().join(" ");
        Ok(Signed { id: id.to_owned(), timestamp: now.to_string(), signature })
    }

    /// Checks a message by its raw bytes. `header` gives the only value of a header; `now` is in Unix seconds. Answers
    /// the message's id.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn verify<'a>(
        &self,
        header: impl Fn(&'static str) -> Option<&'a str>,
        body: &[u8],
        now: i64,
    ) -> Result<&'a str, Refused> {
        let there = |name| header(name).ok_or(Refused::Header(name));
        let (id, timestamp, signatures) = (there(ID)?, there(TIMESTAMP)?, there(SIGNATURE)?);
        if !is_id(id) {
            return Err(InvalidMessageId.into());
        }
        // Only the one way to write a number: the text is part of what is signed.
        let sent: i64 = timestamp.parse().map_err(|_| Refused::Timestamp)?;
        if sent.to_string() != timestamp {
            return Err(Refused::Timestamp);
        }
        // Whether it is ours comes first: a stranger learns nothing of this server's clock.
        let content = content(id, sent, body);
        let given = signatures.split(' ').filter_map(|one| one.strip_prefix(VERSION)).take(SIGNATURES_MAX);
        let ours = given
            .filter_map(|text| STANDARD.decode(text).ok())
            .any(|tag| self.keys().iter().any(|key| ring::hmac::verify(key, &content, &tag).is_ok()));
        if !ours {
            return Err(Refused::Signature);
        }
        if sent < now.saturating_sub(TOLERANCE_SECONDS) {
            return Err(Refused::TooOld);
        }
        if sent > now.saturating_add(TOLERANCE_SECONDS) {
            return Err(Refused::TooNew);
        }
        Ok(id)
    }
}

#[cfg(test)]
mod tests;
