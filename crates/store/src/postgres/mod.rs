//! PostgreSQL, directly or behind a pooler in transaction mode.
//!
//! - No session keeps anything that another would lack: each call is one statement that is a transaction by itself, so any
//!   connection does for any call. Statements are prepared by name only in sessions of our own, see `session.rs`.
//! - Nothing is connected before it is needed. A server starts while its database is away; the schema is brought up to
//!   date at the first contact.
//! - A call is bounded. What nobody waits for any more ends by itself in the database, and keeps its connection from
//!   others until then.
//! - Passwords are in no message: what is said of a place is made from its parts, never from its URL.

mod args;
mod error;
pub mod house;
pub mod migrate;
mod pool;
pub mod records;
pub mod registry;
mod session;
mod tls;
mod url;

pub use migrate::MigrateError;
pub use pool::Options;
pub use records::PostgresRecords;
pub use registry::{PostgresOptions, PostgresStore};
pub use url::{ConnectError, Url};
