//! Nodes: who serves this registry, and whether it is to go on.

pub(crate) mod drain;
pub(crate) mod list;
