//! The right to work on an instance for a while, and what ends it.
//!
//! An epoch belongs to an instance and rises by one at every change of hands: at each claim, and when destroy is
//! accepted. Whoever writes names the epoch it holds; an old one is [`Fenced`]. Expiry alone fences nobody: it only
//! lets another one claim, and the claim fences.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::ids::{InstanceId, OperationId};
use crate::time::Timestamp;

/// Counts the changes of hands of one instance. Never falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(u64);

impl Epoch {
    /// The epoch of an admission.
    pub const FIRST: Self = Self(1);

    /// From its number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The epoch after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A write under an epoch that is no longer the instance's. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("fenced: this executor holds epoch {held}, the instance is at {current}")]
pub struct Fenced {
    /// The epoch of the writer.
    pub held: Epoch,
    /// The epoch of the instance.
    pub current: Epoch,
}

/// A text that names no node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a name has 1 to {NAME_BYTES_MAX} characters of a-z, A-Z, 0-9, `.`, `_` and `-`")]
pub struct InvalidName;

/// The longest name of a node, provider, tier or install, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                let fits = (1..=NAME_BYTES_MAX).contains(&text.len());
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
                if fits && text.bytes().all(plain) { Ok(Self(text.to_owned())) } else { Err(InvalidName) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// A server, by the name it keeps over restarts.
    NodeId
);
name!(
    /// An installation of Freehold: in names and tags at providers, so that two installs never touch each other's.
    InstallId
);
name!(
    /// A configured provider.
    ProviderName
);
name!(
    /// A configured tier.
    TierName
);
name!(
    /// A configured price version.
    PriceVersion
);

/// Who holds a lease: a node, and which of its lives. A restarted node is the same node in another incarnation, so it
/// knows at once that the work of its earlier lives has nobody.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Holder {
    /// The node.
    pub node: NodeId,
    /// Chosen at random at each start of the node.
    pub incarnation: u64,
}

/// The right to run one operation until `expires_at`, unless somebody claims it first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The instance whose epoch this is.
    pub instance: InstanceId,
    /// The operation to run.
    pub operation: OperationId,
    /// What the holder writes under.
    pub epoch: Epoch,
    /// Who holds it.
    pub holder: Holder,
    /// When anybody may claim the operation, by the store's clock.
    pub expires_at: Timestamp,
}

/// How long a lease lasts. Shared by every node on one registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTerm(pub Duration);
