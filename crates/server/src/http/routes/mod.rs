//! Routes: where traffic goes.

pub(crate) mod show;
