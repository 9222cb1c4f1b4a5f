//! What finds work that nobody runs. A pass takes no hint: it reads the state and does the same thing whether a timer or a
//! nudge woke it, and is safe twice, late, or on two nodes at once.

pub mod billing;
pub mod drift;
pub mod due;
pub mod expiry;
pub mod janitor;
pub mod records;
pub mod stuck;
