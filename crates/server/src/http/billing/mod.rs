//! What the billing service says by itself.

pub(crate) mod events;
