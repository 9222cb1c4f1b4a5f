//! Health: alive, and ready.

pub(crate) mod live;
pub(crate) mod ready;
