//! Three servers on one PostgreSQL that fails over, with a provider that fails, and clients that write down what they were
//! told.
//!
//! `FREEHOLD_CHAOS_SECONDS` says for how long, `FREEHOLD_CHAOS_SEED` with which seed, and `FREEHOLD_CHAOS_REPORTS` in which
//! folder to put what came of it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod balancer;
mod campaign;
mod chance;
mod clients;
mod faults;
mod history;
mod linear;
mod node;
#[path = "../records/proxy.rs"]
#[expect(dead_code, reason = "the campaign of the records sums up what was lost")]
mod proxy;
mod town;
mod verdict;
