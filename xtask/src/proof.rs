//! `cargo xtask proof`: everything that is proved by running it, and the page that says what it came to.
//!
//! The grid, the seeds, the scenes and the twins are one program, `freehold-proof`, built with the switches that take
//! protections out; the models are the tests of `freehold-domain`, searched in full. `--write` puts what they say on
//! `docs/reference/proof.md`, so that no figure there is from anywhere else. `cargo xtask soak` runs seeds for hours.

use anyhow::{Context, Result, ensure};
use clap::Args;
use std::time::{Duration, Instant};

use crate::workspace;

/// Where the page is.
const PAGE: &str = "docs/reference/proof.md";

const HEAD: &str = "\
# Proof

Written by `cargo xtask proof --write`. `cargo xtask proof` runs the same and fails when anything is broken,
when a cell is not reached, or when a missing protection is not noticed; with fewer seeds it is a stage of
`cargo xtask test`.

What is run here is the engine of the program over its own SQLite store, in one thread for each world, in virtual time.
[Guarantees](../guarantees.md) says what is claimed, [test your provider](../guides/test-your-provider.md) how to run it
against an adapter, [the crash test](../operating/crash-test.md) what is done to the real program. A seed or a cell is
replayed with `freehold simulate --seed S` or `freehold simulate --cell NAME`, which print its story.

";

#[derive(Args)]
pub(crate) struct Options {
    /// How many seeds are run
    #[arg(long, default_value_t = 20_000)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Put what came of it on the page
    #[arg(long)]
    write: bool,
}

#[derive(Args)]
pub(crate) struct Soak {
    /// For how long
    #[arg(long, default_value_t = 1.0)]
    hours: f64,
    /// The first seed; by default one that the clock chooses, so that every soak runs others
    #[arg(long)]
    from: Option<u64>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let began = Instant::now();
    let worlds = proof(&["--seeds", &options.seeds.to_string(), "--from", &options.from.to_string()])?;
    let models = models()?;
    if options.write {
        let page = format!("{HEAD}{worlds}\n## Models\n\n{models}");
        let path = workspace::root().join(PAGE);
        std::fs::write(&path, page).with_context(|| format!("writing {}", path.display()))?;
        println!("wrote {PAGE}");
    }
    println!("proof: everything held, in {:.0} s", began.elapsed().as_secs_f64());
    Ok(())
}

pub(crate) fn soak(options: &Soak) -> Result<()> {
    ensure!(options.hours.is_finite() && options.hours > 0.0, "--hours is a number above 0");
    let clock =
        || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    // Far from the seeds that every test run has.
    let from = options.from.unwrap_or_else(|| clock() << 16);
    let span = Duration::from_secs_f64(options.hours * 3_600.0).as_secs().max(1);
    print!("{}", proof(&["--soak", &span.to_string(), "--from", &from.to_string()])?);
    Ok(())
}

/// Runs the worlds. Answers what they came to, as Markdown.
fn proof(arguments: &[&str]) -> Result<String> {
    let mut cargo = workspace::cargo();
    cargo.args(["run", "--quiet", "--locked", "--profile", "ci", "--package", "freehold-sim", "--features", "twins"]);
    cargo.args(["--bin", "freehold-proof", "--"]).args(arguments);
    cargo.stderr(std::process::Stdio::inherit());
    let output = cargo.output().with_context(|| format!("cannot start `{}`", workspace::shown(&cargo)))?;
    ensure!(output.status.success(), "`{}` ended with {}", workspace::shown(&cargo), output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// Searches the models. Answers how large they are, as Markdown.
fn models() -> Result<String> {
    eprintln!("models …");
    let mut cargo = workspace::cargo();
    cargo.args([
        "test",
        "--quiet",
        "--locked",
        "--profile",
        "ci",
        "--package",
        "freehold-domain",
        "--test",
        "model",
        "--",
    ]);
    cargo.args(["--nocapture", "--test-threads", "1"]);
    cargo.stderr(std::process::Stdio::inherit());
    let output = cargo.output().with_context(|| format!("cannot start `{}`", workspace::shown(&cargo)))?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "`{}` ended with {}:\n{said}", workspace::shown(&cargo), output.status);
    table(&said)
}

/// What the models say of themselves: `BOUNDS: N states, D deep` where nothing may break, and `without NAME: N states` where
/// something has to.
fn table(said: &str) -> Result<String> {
    let mut table = String::from("| bounds | states | depth |\n|---|---|---|\n");
    let mut twins = Vec::new();
    for line in said.lines().map(|line| line.trim_start_matches('.')) {
        if let Some((twin, _)) = line.strip_prefix("without ").and_then(|line| line.split_once(':')) {
            twins.push(format!("`{twin}`"));
        } else if let Some((bounds, size)) = line.rsplit_once(": ").filter(|_| line.starts_with("Bounds "))
            && let Some((states, depth)) = size.split_once(" states, ")
        {
            table += &format!("| `{bounds}` | {states} | {} |\n", depth.trim_end_matches(" deep"));
        }
    }
    ensure!(!twins.is_empty() && table.lines().count() > 2, "the models say nothing of their size:\n{said}");
    twins.sort();
    twins.dedup();
    let count = twins.len();
    Ok(format!("{table}\n{count} twin models break, as they must, without: {}.\n", twins.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn the_models_tell_how_large_they_are() {
        let said = "running 2 tests\nBounds { faults: 2, destroys: 1 }: 214243 states, 58 deep\n.without Epochs: 27 states, [(\"x\", [])]\n";
        let expected = "| bounds | states | depth |\n|---|---|---|\n| `Bounds { faults: 2, destroys: 1 }` | 214243 | 58 |\n\n1 twin models break, as they must, without: `Epochs`.\n";
        assert_eq!(table(said).expect("a table"), expected);
        assert!(table("running 0 tests").is_err());
    }
}
