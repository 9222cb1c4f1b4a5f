//! The real server on a Machines API that fails: many provisions, and at the end exactly what should be there.
//!
//! `FREEHOLD_FLY_PROVISIONS` says how many; the numbers are printed.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../serve/support.rs"]
#[expect(dead_code, reason = "the other tests use the rest of it")]
mod support;

mod adopt;
mod campaign;
mod change_of_mind;
mod town;
