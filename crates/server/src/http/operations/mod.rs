//! Operations: how far work is, once or for as long as somebody listens.

pub(crate) mod events;
pub(crate) mod show;
