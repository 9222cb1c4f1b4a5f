//! The figures beside their goals, for people and for the page.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

use crate::workspace;

/// Where the page is.
const PAGE: &str = "docs/reference/cluster-benchmarks.md";

/// One goal, and what came of it. The example `cluster` of `freehold-store` prints the same.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Row {
    /// Its short name.
    pub(super) figure: String,
    /// What is aimed at, in words.
    pub(super) goal: String,
    /// What was measured.
    pub(super) measured: String,
    /// What was measured beside it, in the same run.
    pub(super) beside: String,
    /// What is compared with the goal.
    pub(super) value: f64,
    /// What the value counts.
    pub(super) unit: String,
    /// Whether it is as good as the goal, or better.
    pub(super) reached: bool,
    /// What ran, and what else was seen.
    pub(super) notes: Vec<String>,
}

/// The table, and behind it what ran for each of its lines.
pub(super) fn table(rows: &[Row]) -> String {
    let mut text =
        String::from("| figure | goal | measured | beside it | value | reached |\n|---|---|---|---|---:|---|\n");
    for Row { figure, goal, measured, beside, value, unit, reached, notes: _ } in rows {
        let digits = if *value >= 100.0 { 0 } else { 2 };
        let reached = if *reached { "yes" } else { "**no**" };
        let _ = writeln!(text, "| {figure} | {goal} | {measured} | {beside} | {value:.digits$} {unit} | {reached} |");
    }
    for Row { figure, notes, .. } in rows {
        let _ = writeln!(text, "\n**{figure}**\n");
        for note in notes {
            let _ = writeln!(text, "- {note}.");
        }
    }
    text
}

/// Writes the page.
pub(super) fn write(rows: &[Row]) -> Result<()> {
    let page = format!("{}\n{}\n\n{}\n{}", head(), machine()?, table(rows), TAIL);
    let path = workspace::root().join(PAGE);
    std::fs::write(&path, page).with_context(|| format!("writing {}", path.display()))?;
    eprintln!("wrote {PAGE}");
    Ok(())
}

fn head() -> &'static str {
    "# Benchmarks of a cluster\n\n\
     Written by `cargo xtask bench cluster --write`, or by `--page` from the lines that runs of single figures printed. It\n\
     starts PostgreSQL 15 with `fsync` and everything else that keeps what was committed, and runs what is compared in the\n\
     same cluster, turn by turn. Callers, nodes and database share the machine, so what one of them saves another one has.\n\
     A goal that speaks of more than was run is not reached, whatever the figure is. On a machine that others use, which\n\
     a load above its cores tells, rates mean little, and ratios move by half from round to round; the processor time of a\n\
     call moves least.\n"
}

/// What it ran on.
fn machine() -> Result<String> {
    let read = |path: &str| std::fs::read_to_string(path).with_context(|| format!("reading {path}"));
    let memory = read("/proc/meminfo")?;
    let kib: f64 =
        memory.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).context("a machine without memory")?;
    let date = String::from_utf8(workspace::output(workspace::program("date").args(["-u", "+%Y-%m-%d"]))?)?;
    Ok(format!(
        "Measured on {}: {} virtual cores, {:.0} GiB, Linux {}; load average at the end: {}.",
        date.trim(),
        std::thread::available_parallelism()?,
        kib / 1024.0 / 1024.0,
        read("/proc/sys/kernel/osrelease")?.trim(),
        read("/proc/loadavg")?.split_whitespace().take(3).collect::<Vec<_>>().join(" "),
    ))
}

/// How the figures are to be read.
const TAIL: &str = "What the figures are:

| figure | what is done |
|---|---|
| admissions | callers of the store, each with one admission of somebody new at a time; pgbench inserts the same rows over as many connections |
| conflicts | callers at one context, each a look and, where the look says that it is free, an admission |
| takeover | a node with work in hand is killed with SIGKILL; it is counted until the other node has the last of that work, as the audit trail says |
| nodes | instances completed per second with a provider so slow that a node's places are the limit, by two nodes and by one |
| growth | admissions over a registry of many reservations, and over one of few |
| timers | two nodes claim operations whose timer rang, while admissions are made at a steady rate |

The settings of PostgreSQL are those of its package, but for the ones that the example
`crates/store/examples/cluster/place.rs` names.
";
