//! The audit trail: page by page, or as it grows.

pub(crate) mod events;
pub(crate) mod list;
