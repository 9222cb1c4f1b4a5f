//! `cargo xtask fly`: the real server on a Machines API that fails: thousands of provisions, and what they came to.
//!
//! The tests are those of `crates/freehold/tests/fly`, optimised, one after the other, with their numbers.

use anyhow::Result;
use clap::Args;

use crate::workspace;

#[derive(Args)]
pub(crate) struct Options {
    /// How many provisions
    #[arg(long, default_value_t = 2_000)]
    provisions: usize,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let mut command = workspace::cargo();
    command.args(["test", "--profile", "ci", "--locked", "--package", "freehold", "--test", "fly", "--"]);
    command.args(["--ignored", "--nocapture", "--test-threads", "1"]);
    command.env("FREEHOLD_FLY_PROVISIONS", options.provisions.to_string());
    workspace::succeed(&mut command)
}
