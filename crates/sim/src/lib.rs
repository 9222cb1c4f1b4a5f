//! The real engine over the real SQLite store in a world that fails on purpose, in one thread, from one seed.
//!
//! [`run`] is a storm and the calm after it; a failing seed replays exactly. Read [`town`] first.

pub mod adapter;
pub mod billing;
pub mod campaign;
pub mod chance;
pub mod grid;
pub mod ground;
pub mod history;
pub mod node;
mod oracle;
pub mod places;
pub mod records;
mod requests;
pub mod scenes;
pub mod storm;
pub mod tasks;
pub mod time;
pub mod town;
#[cfg(feature = "twins")]
pub mod twins;
pub mod watch;
mod wire;

pub use storm::{Profile, Report, run};
