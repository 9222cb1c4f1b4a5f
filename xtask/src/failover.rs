//! `cargo xtask failover`: a primary dies again and again under load, and nothing acknowledged is lost or doubled.
//!
//! By itself it is the part of `cargo xtask chaos` that does this alone. With `--patroni`, Patroni and etcd decide who the
//! primary is: that takes half a minute for each loss, and so is no part of `cargo xtask test`.

use anyhow::Result;
use clap::Args;

use crate::workspace;

#[derive(Args)]
pub(crate) struct Options {
    /// Patroni and etcd decide, rather than the test
    #[arg(long)]
    patroni: bool,
    /// What decides requests; chosen by the clock if not said
    #[arg(long)]
    seed: Option<u64>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let test = if options.patroni { "patroni_fails_over" } else { "a_primary_dies" };
    let mut command = workspace::cargo();
    command.args(["test", "--profile", "ci", "--locked", "--package", "freehold", "--test", "chaos", "--"]);
    command.args(["--ignored", "--nocapture", test]);
    if let Some(seed) = options.seed {
        command.env("FREEHOLD_CHAOS_SEED", seed.to_string());
    }
    workspace::succeed(&mut command)
}
