//! The registry entry that makes an instance reachable.
//!
//! Endpoint first, tombstone last: a route is published once its instance is complete, and what was buried stays buried.

use crate::lease::Epoch;
use crate::time::Timestamp;

/// Where the proxy sends traffic: an `http://HOST:PORT` without a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint(pub String);

/// A route, or what is left of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// Traffic goes there.
    Live {
        /// Where.
        endpoint: Endpoint,
        /// Under which epoch it was published.
        epoch: Epoch,
    },
    /// Never again.
    Tombstone {
        /// Since when.
        at: Timestamp,
    },
}

impl Route {
    /// Whether traffic may go there.
    #[must_use]
    pub fn is_live(&self) -> bool {
        match self {
            Self::Live { .. } => true,
            Self::Tombstone { .. } => false,
        }
    }
}
