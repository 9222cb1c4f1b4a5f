//! What every store has in common: the sentences of the port as the domain decides them, what a change is checked
//! against, how events are chained, and how values are spelt in rows.

pub(crate) mod chain;
pub(crate) mod desk;
pub(crate) mod fields;
pub(crate) mod house;
pub(crate) mod json;
pub(crate) mod names;
pub(crate) mod parts;
pub(crate) mod rows;
pub(crate) mod sentences;

use freehold_engine::ports::StoreError;

/// Something in a row that does not belong there.
pub(crate) fn corrupt(what: impl Into<String>) -> StoreError {
    StoreError::Corrupt(what.into())
}
