//! The real engine over the real SQLite store in a world that fails on purpose, in one thread, from one seed.
//!
//! [`run`] is a storm and the calm after it; a failing seed replays exactly. Read [`town`] first.

pub mod chance;
pub mod history;
pub mod node;
mod oracle;
mod requests;
pub mod tasks;
pub mod time;
pub mod town;
pub mod yielding;

pub use town::{Profile, Report, run};
