//! `cargo xtask bench cluster`: the registry in PostgreSQL, and several nodes on one.
//!
//! What the store does by itself is measured by the example `cluster` of `freehold-store`; what takes nodes is measured
//! here, over real ones. Goals, figures and what they are compared with come from the same run. Nothing passes or fails:
//! whether a goal is reached is printed, and a run that measured less than the goal asks for does not reach it.

mod nodes;
mod report;
mod share;
mod takeover;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use std::path::PathBuf;
use std::process::Stdio;

use crate::workspace;
use nodes::Ground;
use report::Row;

/// Every figure, in the order of the table.
const FIGURES: [&str; 6] = ["admissions", "conflicts", "takeover", "nodes", "growth", "timers"];

#[derive(Args)]
pub(crate) struct Options {
    /// Print a line of JSON for each figure instead of a table
    #[arg(long)]
    json: bool,
    /// Write the page docs/reference/cluster-benchmarks.md
    #[arg(long)]
    write: bool,
    /// Measure nothing: write the page from the lines that runs with --json printed
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
    /// Only these of admissions, conflicts, takeover, nodes, growth, timers
    #[arg(long, value_delimiter = ',', value_name = "FIGURES")]
    only: Vec<String>,
    /// How many reservations the large registry has: the goal speaks of 10 million, which take a quarter of an hour and 35 GB
    #[arg(long, default_value_t = 10_000_000)]
    rows: u64,
    /// How many timers are due; the goal speaks of 1 million
    #[arg(long, default_value_t = 1_000_000)]
    timers: u64,
    /// How long they are drained at the most, in seconds
    #[arg(long, default_value_t = 300)]
    drain_seconds: u64,
    /// How many nodes are killed; the goal speaks of 200
    #[arg(long, default_value_t = 200)]
    kills: usize,
    /// How many pairs of nodes are killed from at the same time
    #[arg(long, default_value_t = 8)]
    pairs: usize,
    /// Nodes run this program, in place of one that is built for it
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// How often rates are measured; the middle one counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long each round of a rate takes, in seconds
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// How many connections a store may have; those of the program have 8
    #[arg(long, default_value_t = 8)]
    connections: usize,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    if let Some(lines) = &options.page {
        let lines = std::fs::read_to_string(lines).with_context(|| format!("reading {}", lines.display()))?;
        let rows = lines.lines().map(serde_json::from_str).collect::<Result<Vec<Row>, _>>();
        return report::write(&rows.context("lines that are no figures")?);
    }
    if let Some(unknown) = options.only.iter().find(|figure| !FIGURES.contains(&figure.as_str())) {
        bail!("there is no figure `{unknown}`; there are {}", FIGURES.join(", "));
    }
    ensure!(!options.write || options.only.is_empty(), "--write writes the whole page: leave --only out");
    let wanted = |figure: &str| options.only.is_empty() || options.only.iter().any(|only| only == figure);
    let mut rows = Vec::new();
    for figure in FIGURES.into_iter().filter(|figure| wanted(figure)) {
        let row = match figure {
            "takeover" => takeover::measure(&Ground::new(options.program.clone())?, options.kills, options.pairs)?,
            "nodes" => share::measure(&Ground::new(options.program.clone())?, options.rounds)?,
            figure => store(options, figure)?,
        };
        match options.json {
            true => println!("{}", serde_json::to_string(&row)?),
            false => eprintln!("  {}: {:.2} {} ({})", row.figure, row.value, row.unit, row.measured),
        }
        rows.push(row);
    }
    if !options.json {
        print!("{}", report::table(&rows));
    }
    if options.write {
        report::write(&rows)?;
    }
    Ok(())
}

/// Has the store measure one of its figures.
fn store(options: &Options, figure: &str) -> Result<Row> {
    let mut cargo = workspace::cargo();
    cargo.args([
        "run",
        "--quiet",
        "--locked",
        "--release",
        "--package",
        "freehold-store",
        "--example",
        "cluster",
        "--",
    ]);
    cargo.args(["--only", figure]);
    for (name, value) in [
        ("--rows", options.rows),
        ("--timers", options.timers),
        ("--drain-seconds", options.drain_seconds),
        ("--rounds", options.rounds as u64),
        ("--seconds", options.seconds),
        ("--connections", options.connections as u64),
    ] {
        cargo.args([name, &value.to_string()]);
    }
    let said =
        cargo.stderr(Stdio::inherit()).output().with_context(|| format!("starting {}", workspace::shown(&cargo)))?;
    ensure!(said.status.success(), "`{}` ended with {}", workspace::shown(&cargo), said.status);
    let line = String::from_utf8(said.stdout)?;
    serde_json::from_str(line.trim()).with_context(|| format!("{line:?} is no figure"))
}
