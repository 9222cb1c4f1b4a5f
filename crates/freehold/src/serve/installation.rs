//! What all nodes on one registry share, and what becomes of it when the configuration says something else.
//!
//! The first start fixes the installation's name and both keys. A key that comes from outside is never written into the
//! registry; a fingerprint of it is, so that a later start with another key, or without one, is refused instead of taking
//! everything that was made for somebody else's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use freehold_engine::ports::{Installation, Store};

use crate::api_key::{chance, chance_name, sha256};
use crate::config::{Config, SecretSource};
use crate::exit::{Exit, Failure};

/// The length of both keys, in bytes.
const KEY_BYTES: usize = 32;

/// What stands in the registry before the fingerprint of a key from outside. A minted key begins so once in 2^64.
const FROM_OUTSIDE: [u8; 8] = *b"outside:";

type Key = [u8; KEY_BYTES];

/// What the configuration wants, before the registry is asked.
#[derive(Clone)]
pub(crate) struct Wanted {
    install: Option<String>,
    mac_key: Option<Key>,
    secret_key: Option<Key>,
}

impl Wanted {
    /// Reads the keys that the configuration names.
    ///
    /// # Errors
    /// A key that is not where it should be, or is none.
    pub(crate) fn of(config: &Config) -> Result<Self, Failure> {
        Ok(Self {
            install: config.install_id.clone(),
            mac_key: read_key(&config.keys.mac_key())?,
            secret_key: read_key(&config.keys.secret_key())?,
        })
    }

    /// Agrees with the registry: the first start writes, every later one must want the same.
    ///
    /// # Errors
    /// A registry that does not answer, or was begun with another name or key.
    pub(crate) async fn settle(self, store: &dyn Store) -> Result<Installation, Failure> {
        let name = self.install.clone().map_or_else(chance_name, Ok)?;
        let proposed = Installation {
            install: name.parse().map_err(|error| Failure::usage(format!("install_id: {error}")))?,
            mac_key: self.mac_key.map_or_else(chance, |key| Ok(fingerprint("mac_key", &key)))?,
            secret_key: self.secret_key.map_or_else(chance, |key| Ok(fingerprint("secret_key", &key)))?,
        };
        let stored = store.installation(proposed).await.map_err(|error| Failure::failed(error.to_string()))?;
        let Installation { install, mac_key, secret_key } = stored;
        if let Some(wanted) = self.install.filter(|wanted| wanted != install.as_str()) {
            let message = format!("install_id is `{wanted}`, and this registry belongs to `{install}`");
            return Err(Failure::usage(message).hint(
                "an installation keeps its name, because its resources carry it: set install_id back, or leave it out",
            ));
        }
        Ok(Installation {
            install,
            mac_key: agreed("mac_key", self.mac_key, mac_key)?,
            secret_key: agreed("secret_key", self.secret_key, secret_key)?,
        })
    }
}

/// The key to use, given the one from outside and what the registry holds.
fn agreed(name: &str, outside: Option<Key>, stored: Key) -> Result<Key, Failure> {
    let is_fingerprint = stored.starts_with(&FROM_OUTSIDE);
    let refuse = |message: String, hint: &str| Err(Failure::new(Exit::Usage, message).hint(hint));
    match outside {
        Some(key) if key == stored || fingerprint(name, &key) == stored => Ok(key),
        None if !is_fingerprint => Ok(stored),
        Some(_) if is_fingerprint => refuse(
            format!("keys.{name} is not the key that this registry was begun with"),
            "name the key that it was begun with: what was made or encrypted with that one cannot be read with another",
        ),
        Some(_) => refuse(
            format!("keys.{name} is set, and this registry was begun with a key of its own"),
            "leave it out: what was made or encrypted with the registry's key cannot be read with another",
        ),
        None => refuse(
            format!("this registry was begun with keys.{name} from outside, and none is named"),
            "name the same key again with an environment variable or a file",
        ),
    }
}

fn fingerprint(name: &str, key: &Key) -> Key {
    let hash = sha256(&[b"freehold keys.", name.as_bytes(), b"\0", key.as_slice()].concat());
    let mut marked = hash;
    marked[..FROM_OUTSIDE.len()].copy_from_slice(&FROM_OUTSIDE);
    marked
}

fn read_key(source: &SecretSource<'_>) -> Result<Option<Key>, Failure> {
    let path = source.path;
    let env = |name: &str| std::env::var(name).ok();
    let secret = source.read(&env).map_err(|error| Failure::usage(format!("{path}: {error}")))?;
    let Some(secret) = secret else { return Ok(None) };
    parse_key(secret.expose()).map(Some).ok_or_else(|| {
        Failure::usage(format!("{path}: {} holds no key", source.describe()))
            .hint("a key is 32 bytes in base64 or hexadecimal; `openssl rand -base64 32` makes one")
    })
}

fn parse_key(text: &str) -> Option<Key> {
    let hexadecimal = || {
        let digits: Vec<u32> = text.chars().map(|digit| digit.to_digit(16)).collect::<Option<_>>()?;
        let pairs = digits.chunks_exact(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).ok());
        pairs.collect::<Option<Vec<u8>>>()
    };
    let bytes = if text.len() == 2 * KEY_BYTES { hexadecimal() } else { STANDARD.decode(text).ok() };
    bytes?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_as_base64_or_hexadecimal_and_nothing_else_does() {
        let key = [0xab; KEY_BYTES];
        assert_eq!(parse_key(&"ab".repeat(32)), Some(key));
        assert_eq!(parse_key(&STANDARD.encode(key)), Some(key));
        for text in ["", "hunter2", &"zz".repeat(32), &"ab".repeat(16), &STANDARD.encode([1; 33])] {
            assert_eq!(parse_key(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_registry_keeps_the_key_it_was_begun_with() {
        let (ours, other) = ([1; KEY_BYTES], [2; KEY_BYTES]);
        let begun_with_ours = fingerprint("mac_key", &ours);
        assert_eq!(agreed("mac_key", Some(ours), begun_with_ours).unwrap(), ours);
        assert!(agreed("mac_key", Some(other), begun_with_ours).is_err());
        assert!(agreed("mac_key", None, begun_with_ours).is_err(), "a fingerprint is no key");
        assert_eq!(agreed("mac_key", None, other).unwrap(), other);
        assert_eq!(agreed("mac_key", Some(other), other).unwrap(), other, "moved outside");
        assert!(agreed("mac_key", Some(ours), other).is_err());
        assert_ne!(begun_with_ours, fingerprint("secret_key", &ours), "one key in both places does not show");
        assert!(!begun_with_ours.windows(4).any(|window| window == [1; 4]));
    }
}
