//! Owners: everything the registry knows of one.

pub(crate) mod anonymize;
pub(crate) mod show;
