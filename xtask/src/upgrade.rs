//! `cargo xtask upgrade`: two nodes over one registry change programs while they work, from the one with the schema before
//! this one's to this one and back.
//!
//! The earlier program is built from the history, in a work tree and a target folder of its own: what is built from two
//! trees into one folder is taken for one another. That takes minutes, and so it is no part of `cargo xtask test`.

use anyhow::{Context, Result, ensure};
use clap::Args;
use std::path::PathBuf;

use crate::workspace;

/// The steps of the registry's schema.
const STEPS: &str = "crates/store/src/postgres/registry/*.sql";

#[derive(Args)]
pub(crate) struct Options {
    /// The commit whose program is upgraded; the one before the last step of the schema if not said
    #[arg(long, value_name = "COMMIT")]
    from: Option<String>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let from = match &options.from {
        Some(from) => from.clone(),
        None => format!("{}^", last_step()?),
    };
    let commit = git(&["rev-parse", "--verify", &format!("{from}^{{commit}}")])?;
    let subject = git(&["log", "-1", "--format=%h %s", &commit])?;
    println!("upgrading from: {subject}");
    let earlier = build(&commit)?;
    let mut command = workspace::cargo();
    command.args(["test", "--locked", "--package", "freehold", "--test", "serve", "--"]);
    command.args(["--ignored", "--nocapture", "a_cluster_is_upgraded"]);
    workspace::succeed(command.env("FREEHOLD_TEST_EARLIER", earlier))
}

/// The commit that made the last step of the schema.
fn last_step() -> Result<String> {
    let commit = git(&["log", "-1", "--format=%H", "--", STEPS])?;
    ensure!(!commit.is_empty(), "the history has no step of the schema; name a commit with --from");
    Ok(commit)
}

/// Builds the program of a commit. Answers where it is.
fn build(commit: &str) -> Result<PathBuf> {
    let folder = workspace::target_dir().join("earlier");
    let tree = folder.join("tree");
    let at = tree.to_str().context("a folder whose name is no text")?;
    if tree.exists() {
        git(&["worktree", "remove", "--force", at])?;
    }
    git(&["worktree", "prune"])?;
    git(&["worktree", "add", "--quiet", "--detach", at, commit])?;
    let target = folder.join("target");
    let mut build = workspace::cargo();
    build.args(["build", "--quiet", "--locked", "--package", "freehold"]).current_dir(&tree);
    let built = workspace::succeed(build.env("CARGO_TARGET_DIR", &target));
    git(&["worktree", "remove", "--force", at])?;
    built?;
    Ok(target.join("debug").join("freehold"))
}

fn git(arguments: &[&str]) -> Result<String> {
    let said = workspace::output(workspace::program("git").args(arguments))?;
    Ok(String::from_utf8(said).context("git said what is no text")?.trim().to_owned())
}
