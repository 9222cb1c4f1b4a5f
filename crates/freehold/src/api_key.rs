//! API keys: `fh_{id}_{secret}_{check}`, all in lower-case base32.
//!
//! The id is public and names the key in lists and logs. The secret is 160 bits of chance, so a plain SHA-256 of the whole
//! key is all that has to be kept of it. The check is a CRC-32 over what is before it: it tells a key that was cut off or
//! mistyped from one that is not known, and lets scanners find keys where none should be.

use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::config::Secret;
use crate::exit::Failure;

/// What every key begins with.
const PREFIX: &str = "fh_";

/// The alphabet of RFC 4648 §6, in lower case: nothing in it looks like something else.
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Chance in a secret, in bytes.
const SECRET_BYTES: usize = 20;

/// Chance in a name that must not meet another one, in bytes: 8 characters.
const NAME_BYTES: usize = 5;

/// A key that was just minted. The only moment at which it is known.
#[derive(Debug)]
pub(crate) struct ApiKey {
    /// Its public id.
    pub(crate) id: String,
    /// The whole key.
    pub(crate) text: Secret,
}

impl ApiKey {
    /// Mints a key with an id that says what it is, or with one of its own.
    ///
    /// # Errors
    /// A machine without chance.
    pub(crate) fn mint(id: Option<&str>) -> Result<Self, Failure> {
        let id = id.map_or_else(chance_name, |id| Ok(id.to_owned()))?;
        let body = format!("{PREFIX}{id}_{}", base32(&chance::<SECRET_BYTES>()?));
        let text = Secret::new(format!("{body}_{}", check(&body)));
        Ok(Self { id, text })
    }

    /// SHA-256 of the whole key: what a registry keeps.
    pub(crate) fn hash(&self) -> [u8; 32] {
        sha256(self.text.expose().as_bytes())
    }
}

/// Whether a text is a key as it was minted, or no key of this form at all. Only a damaged one is neither.
pub(crate) fn is_undamaged(text: &str) -> bool {
    match text.strip_prefix(PREFIX).and(text.rsplit_once('_')) {
        Some((body, end)) => check(body) == end,
        None => true,
    }
}

/// SHA-256.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

/// Eight characters of chance: enough that two nodes or installations do not get the same.
///
/// # Errors
/// A machine without chance.
pub(crate) fn chance_name() -> Result<String, Failure> {
    Ok(base32(&chance::<NAME_BYTES>()?))
}

/// Chance, good enough for keys.
///
/// # Errors
/// A machine without chance.
pub(crate) fn chance<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Failure::failed("the kernel gives no random bytes"))?;
    Ok(bytes)
}

fn check(body: &str) -> String {
    base32(&crc32(body.as_bytes()).to_be_bytes())
}

fn base32(bytes: &[u8]) -> String {
    let mut text = String::new();
    let (mut held, mut bits) = (0_u32, 0);
    for byte in bytes {
        held = (held << 8) | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(char::from(BASE32[(held >> bits) as usize & 31]));
        }
    }
    if bits > 0 {
        text.push(char::from(BASE32[(held << (5 - bits)) as usize & 31]));
    }
    text
}

/// CRC-32 as in gzip (RFC 1952 §8).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encodings_are_those_of_their_documents() {
        assert_eq!(base32(b"foobar"), "mzxw6ytboi");
        assert_eq!(base32(b"fooba"), "mzxw6ytb");
        assert_eq!(base32(b""), "");
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn a_key_is_whole_or_known_to_be_damaged() {
        let key = ApiKey::mint(None).unwrap();
        let text = key.text.expose();
        let parts: Vec<&str> = text.split('_').collect();
        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [2, 8, 32, 7], "{text}");
        assert_eq!(parts[1], key.id);
        assert!(is_undamaged(text));
        assert!(!is_undamaged(&text[..text.len() - 1]));
        assert!(!is_undamaged(&text.replacen('_', "_x", 2)));
        assert!(is_undamaged("a key of another making"));
        assert_ne!(ApiKey::mint(Some("operator")).unwrap().hash(), ApiKey::mint(Some("operator")).unwrap().hash());
    }
}
