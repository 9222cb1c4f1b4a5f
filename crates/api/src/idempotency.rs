//! The `Idempotency-Key` header: 1 to [`KEY_BYTES_MAX`] printable ASCII characters, bare or as an RFC 8941 string.
//!
//! Both spellings of one key are the same key: `abc` and `"abc"`.

use std::fmt;
use std::str::FromStr;

/// The header's name.
pub const HEADER: &str = "idempotency-key";

/// The header that says an answer was given before.
pub const REPLAYED_HEADER: &str = "idempotency-replayed";

/// The longest key, in bytes, without quotes and escapes.
pub const KEY_BYTES_MAX: usize = 255;

/// Why a header is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// Nothing there, or nothing between the quotes.
    #[error("the key is empty; send 1 to {KEY_BYTES_MAX} characters")]
    Empty,
    /// More than [`KEY_BYTES_MAX`].
    #[error("the key is longer than {KEY_BYTES_MAX} characters")]
    TooLong,
    /// A control character, or something beyond ASCII.
    #[error("a key has printable ASCII characters only")]
    Character,
    /// It starts with a quote and is no RFC 8941 string.
    #[error("the key starts with a quote and is not a quoted string; close it, and escape only \\ and \"")]
    Quoting,
}

/// A key: what the caller chose, without quotes and escapes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// Reads the header's value.
    ///
    /// # Errors
    /// [`InvalidKey`], saying which rule it breaks.
    pub fn parse(header: &[u8]) -> Result<Self, InvalidKey> {
        let header = header.trim_ascii();
        let key = match header.strip_prefix(b"\"") {
            Some(quoted) => unquote(quoted)?,
            None => header.to_vec(),
        };
        if key.is_empty() {
            return Err(InvalidKey::Empty);
        }
        if key.len() > KEY_BYTES_MAX {
            return Err(InvalidKey::TooLong);
        }
        if !key.iter().all(|byte| is_printable(*byte)) {
            return Err(InvalidKey::Character);
        }
        String::from_utf8(key).map(Self).map_err(|_| InvalidKey::Character)
    }

    /// The key.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The header's value: an RFC 8941 string, with quotes.
    #[must_use]
    pub fn to_header(&self) -> String {
        let mut header = String::with_capacity(self.0.len() + 2);
        header.push('"');
        for character in self.0.chars() {
            if matches!(character, '"' | '\\') {
                header.push('\\');
            }
            header.push(character);
        }
        header.push('"');
        header
    }
}

impl FromStr for IdempotencyKey {
    type Err = InvalidKey;
    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        Self::parse(text.as_bytes())
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_printable(byte: u8) -> bool {
    matches!(byte, 0x20..=0x7e)
}

/// What is between the quotes; `rest` starts behind the opening one.
fn unquote(rest: &[u8]) -> Result<Vec<u8>, InvalidKey> {
    let mut key = Vec::with_capacity(rest.len().min(KEY_BYTES_MAX));
    let mut bytes = rest.iter().copied();
    loop {
        match bytes.next().ok_or(InvalidKey::Quoting)? {
            b'"' if bytes.next().is_none() => return Ok(key),
            b'"' => return Err(InvalidKey::Quoting),
            b'\\' => match bytes.next() {
                Some(escaped @ (b'"' | b'\\')) => key.push(escaped),
                Some(_) | None => return Err(InvalidKey::Quoting),
            },
            byte => key.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(header: &str) -> Result<String, InvalidKey> {
        IdempotencyKey::parse(header.as_bytes()).map(|key| key.as_str().to_owned())
    }

    #[test]
    fn bare_and_quoted_are_the_same_key() {
        assert_eq!(key("8e03978e-40d5").unwrap(), "8e03978e-40d5");
        assert_eq!(key("\"8e03978e-40d5\"").unwrap(), "8e03978e-40d5");
        assert_eq!(key("  two words ").unwrap(), "two words");
        assert_eq!(key(r#""a\"b\\c""#).unwrap(), r#"a"b\c"#);
        assert_eq!(key(r#"a"b"#).unwrap(), r#"a"b"#, "a quote inside a bare key is a character like others");
    }

    #[test]
    fn what_is_no_key_is_refused_with_its_rule() {
        assert_eq!(key(""), Err(InvalidKey::Empty));
        assert_eq!(key("\"\""), Err(InvalidKey::Empty));
        for open in ["\"", "\"a", "\"a\"b", "\"a\\", "\"a\\n\"", "\"a\";p=1"] {
            assert_eq!(key(open), Err(InvalidKey::Quoting), "{open}");
        }
        assert_eq!(key("a\tb"), Err(InvalidKey::Character));
        assert_eq!(key("schlüssel"), Err(InvalidKey::Character));
        assert_eq!(key(&"k".repeat(KEY_BYTES_MAX)).unwrap().len(), KEY_BYTES_MAX);
        assert_eq!(key(&"k".repeat(KEY_BYTES_MAX + 1)), Err(InvalidKey::TooLong));
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic_and_every_key_is_printable(header in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(key) = IdempotencyKey::parse(&header) {
                prop_assert!((1..=KEY_BYTES_MAX).contains(&key.as_str().len()));
                prop_assert!(key.as_str().bytes().all(is_printable));
            }
        }

        #[test]
        fn a_key_survives_being_written(text in "[ -~]{1,255}") {
            let mut quoted = String::from("\"");
            for character in text.chars() {
                if matches!(character, '"' | '\\') {
                    quoted.push('\\');
                }
                quoted.push(character);
            }
            quoted.push('"');
            let key: IdempotencyKey = quoted.parse().unwrap();
            prop_assert_eq!(key.as_str(), &text);
            prop_assert_eq!(key.to_header(), quoted);
        }
    }
}
