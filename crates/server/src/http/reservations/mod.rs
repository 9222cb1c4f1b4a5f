//! Reservations: the operators' view of who may create, and the tools to repair and release.

pub(crate) mod list;
pub(crate) mod release;
pub(crate) mod repair;
pub(crate) mod show;
