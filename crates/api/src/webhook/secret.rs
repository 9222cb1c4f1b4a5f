//! The secrets that messages are signed with. They are never shown.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

/// The shortest secret, in bytes.
pub const SECRET_BYTES_MIN: usize = 24;

/// The longest secret, in bytes.
pub const SECRET_BYTES_MAX: usize = 64;

/// The most secrets at once: the one that comes, the one that goes, and some that were forgotten.
pub const SECRETS_MAX: usize = 8;

/// What a secret begins with where it is written.
const PREFIX: &str = "whsec_";

/// Secrets that cannot be used. Which one is said by its place; what it is is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecrets {
    /// There is none.
    #[error("there is no secret")]
    None,
    /// There are too many.
    #[error("there are more than {SECRETS_MAX} secrets")]
    TooMany,
    /// One does not say what it is.
    #[error("secret {0} does not begin with `{PREFIX}`")]
    Prefix(usize),
    /// One is not in base64.
    #[error("secret {0} is not base64 behind `{PREFIX}`")]
    Base64(usize),
    /// One is too short or too long.
    #[error("secret {place} has {bytes} bytes; it takes {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX}")]
    Length {
        /// Which one, from 1.
        place: usize,
        /// How long it is.
        bytes: usize,
    },
}

/// One or more secrets. Written as `whsec_` and base64, parted by white space.
#[derive(Clone)]
pub struct Secrets(Vec<hmac::Key>);

impl Secrets {
    pub(super) fn keys(&self) -> &[hmac::Key] {
        &self.0
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

impl FromStr for Secrets {
    type Err = InvalidSecrets;

    fn from_str(text: &str) -> Result<Self, InvalidSecrets> {
        let mut keys = Vec::new();
        for (place, secret) in (1..).zip(text.split_ascii_whitespace()) {
            if place > SECRETS_MAX {
                return Err(InvalidSecrets::TooMany);
            }
            let coded = secret.strip_prefix(PREFIX).ok_or(InvalidSecrets::Prefix(place))?;
            let bytes = STANDARD.decode(coded).map_err(|_| InvalidSecrets::Base64(place))?;
            if !(SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&bytes.len()) {
                return Err(InvalidSecrets::Length { place, bytes: bytes.len() });
            }
            keys.push(hmac::Key::new(hmac::HMAC_SHA256, &bytes));
        }
        if keys.is_empty() { Err(InvalidSecrets::None) } else { Ok(Self(keys)) }
    }
}
