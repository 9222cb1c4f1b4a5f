//! `cargo xtask records`: the real server with its records in PostgreSQL behind PgBouncer and with a billing service, all
//! of which fail; at the end registry, records and billing are compared.
//!
//! The tests are those of `crates/freehold/tests/records`, optimised, with their numbers.

use anyhow::Result;
use clap::Args;

use crate::workspace;

#[derive(Args)]
pub(crate) struct Options {
    /// How many provisions
    #[arg(long, default_value_t = 1_000)]
    provisions: usize,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let mut command = workspace::cargo();
    command.args(["test", "--profile", "ci", "--locked", "--package", "freehold", "--test", "records", "--"]);
    command.args(["--ignored", "--nocapture", "--test-threads", "1"]);
    command.env("FREEHOLD_RECORDS_PROVISIONS", options.provisions.to_string());
    workspace::succeed(&mut command)
}
