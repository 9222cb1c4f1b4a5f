//! The wire: what goes over HTTP in version 1, and nothing behind it.
//!
//! These types are written for both ends. The server builds and reads them at its rim; the typed client (feature
//! `client`) reads and builds the same ones. Ids are UUIDs, times are RFC 3339 in UTC, names are snake_case. Bodies that
//! a caller sends refuse fields they do not know; bodies that a caller reads ignore them, so that fields can be added
//! within v1. Nothing here knows the domain: a name that means something there is only a string here, or an
//! enumeration of the names in the contract.

pub mod code;
pub mod idempotency;
pub mod json;
pub mod names;
pub mod prefer;
pub mod problem;
pub mod v1;
pub mod webhook;

#[cfg(feature = "client")]
pub mod client;

pub use code::Code;
pub use idempotency::IdempotencyKey;
pub use prefer::Prefer;
pub use problem::{FieldError, Problem};
