//! Owners: everything the registry knows of one.

pub(crate) mod show;
