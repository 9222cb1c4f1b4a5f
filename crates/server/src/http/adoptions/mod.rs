//! Adoptions: an operator's tool for what an older system made.

pub(crate) mod adopt;
