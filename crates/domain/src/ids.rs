//! Names of things. Every id has its own type, so that swapped arguments do not compile.
//!
//! Ids are UUIDv7 (RFC 9562 §5.7): 48 bits of Unix milliseconds, then version, variant and 74 bits of chance. They are
//! minted from time and chance that the caller hands in, are never reused, and sort by the time they were made, which
//! keeps a store's inserts at the right edge of its trees. The one exception is the [`SubscriptionId`], which a billing
//! service may have made.

use std::fmt;
use std::str::FromStr;

/// A text that is no UUIDv7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a UUIDv7: expected 32 hexadecimal digits as 8-4-4-4-12 with version 7")]
pub struct InvalidId;

/// A text that is no UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a UUID: expected 32 hexadecimal digits as 8-4-4-4-12 with a version from 1 to 8")]
pub struct InvalidUuid;

fn mint(unix_ms: u64, chance: [u8; 10]) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&unix_ms.to_be_bytes()[2..]);
    bytes[6..].copy_from_slice(&chance);
    bytes[6] = 0x70 | (bytes[6] & 0x0f);
    bytes[8] = 0x80 | (bytes[8] & 0x3f);
    bytes
}

fn checked(bytes: [u8; 16]) -> Result<[u8; 16], InvalidId> {
    if bytes[6] >> 4 == 7 && bytes[8] >> 6 == 0b10 { Ok(bytes) } else { Err(InvalidId) }
}

/// Any version that RFC 9562 knows.
fn any_version(bytes: [u8; 16]) -> Result<[u8; 16], InvalidUuid> {
    if (1..=8).contains(&(bytes[6] >> 4)) && bytes[8] >> 6 == 0b10 { Ok(bytes) } else { Err(InvalidUuid) }
}

/// The bytes behind 8-4-4-4-12, whatever they are.
fn parse(text: &str) -> Option<[u8; 16]> {
    let text = text.as_bytes();
    if text.len() != 36 {
        return None;
    }
    let mut bytes = [0; 16];
    let mut nibbles = 0;
    for (position, &character) in text.iter().enumerate() {
        if matches!(position, 8 | 13 | 18 | 23) {
            if character != b'-' {
                return None;
            }
            continue;
        }
        let value = (character as char).to_digit(16)? as u8;
        bytes[nibbles / 2] |= if nibbles % 2 == 0 { value << 4 } else { value };
        nibbles += 1;
    }
    Some(bytes)
}

fn write(bytes: &[u8; 16], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (position, byte) in bytes.iter().enumerate() {
        if matches!(position, 4 | 6 | 8 | 10) {
            f.write_str("-")?;
        }
        write!(f, "{byte:02x}")?;
    }
    Ok(())
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident: $checked:ident or $invalid:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; 16]);

        impl $name {
            /// Mints an id from Unix milliseconds and ten bytes of chance.
            #[must_use]
            pub fn mint(unix_ms: u64, chance: [u8; 10]) -> Self {
                Self(mint(unix_ms, chance))
            }

            /// Reads the sixteen bytes of an id, big-endian as RFC 9562 lays them out.
            ///
            /// # Errors
            #[doc = concat!("[`", stringify!($invalid), "`] when version or variant are not those of such an id.")]
            pub fn from_bytes(bytes: [u8; 16]) -> Result<Self, $invalid> {
                $checked(bytes).map(Self)
            }

            /// The sixteen bytes of the id.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }

            /// The id as 32 hexadecimal digits without dashes, as names at providers use it.
            #[must_use]
            pub fn simple(&self) -> String {
                self.0.iter().map(|byte| format!("{byte:02x}")).collect()
            }
        }

        impl FromStr for $name {
            type Err = $invalid;
            fn from_str(text: &str) -> Result<Self, $invalid> {
                parse(text).ok_or($invalid).and_then($checked).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write(&self.0, f)
            }
        }
    };
}

id!(
    /// One instance, from its admission to its tombstone. Never reused.
    InstanceId: checked or InvalidId
);
id!(
    /// One durable run of work on an instance.
    OperationId: checked or InvalidId
);
id!(
    /// One subscription. A UUID of any version: one that is minted here is a UUIDv7, one of a billing service is whatever
    /// that service makes.
    SubscriptionId: any_version or InvalidUuid
);
id!(
    /// One resource that was given up on, on record until it is resolved.
    LeakId: checked or InvalidId
);

impl SubscriptionId {
    /// The id of a subscription that has another name elsewhere: a UUIDv8 (RFC 9562 §5.8) of a digest of that name.
    #[must_use]
    pub fn derived(digest: [u8; 16]) -> Self {
        let mut bytes = digest;
        bytes[6] = 0x80 | (bytes[6] & 0x0f);
        bytes[8] = 0x80 | (bytes[8] & 0x3f);
        Self(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_id_reads_back_as_itself(ms in 0u64..1 << 48, chance: [u8; 10]) {
            let id = InstanceId::mint(ms, chance);
            prop_assert_eq!(id.to_string().parse::<InstanceId>(), Ok(id));
            prop_assert_eq!(InstanceId::from_bytes(*id.as_bytes()), Ok(id));
            prop_assert_eq!(id.simple(), id.to_string().replace('-', ""));
        }

        #[test]
        fn ids_sort_by_time(early in 0u64..1 << 47, later in 1u64..1 << 40, a: [u8; 10], b: [u8; 10]) {
            prop_assert!(InstanceId::mint(early, a) < InstanceId::mint(early + later, b));
        }

        #[test]
        fn other_texts_are_refused_without_a_panic(text in ".{0,40}") {
            prop_assert!(text.parse::<InstanceId>().is_err());
        }
    }

    #[test]
    fn a_uuid_of_another_version_is_refused() {
        let four = "123e4567-e89b-42d3-a456-426614174000";
        assert_eq!(four.parse::<InstanceId>(), Err(InvalidId));
        assert_eq!(four.parse::<SubscriptionId>().map(|id| id.to_string()), Ok(four.to_owned()));
        let derived = SubscriptionId::derived([0xff; 16]);
        assert_eq!(derived.to_string().parse(), Ok(derived));
        for none in ["123e4567-e89b-92d3-a456-426614174000", "123e4567-e89b-42d3-c456-426614174000", "sub_123"] {
            assert_eq!(none.parse::<SubscriptionId>(), Err(InvalidUuid));
        }
    }
}
