//! `simulate`: the engine of this very program over its own store, in a world that fails on purpose, from one seed.
//!
//! It needs no server and touches nothing: everything it makes is in memory. A seed or a cell that breaks replays exactly.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use freehold_sim::campaign::{self, Broken, Tally};
use freehold_sim::grid::{self, Cell};
use freehold_sim::history::story;
use freehold_sim::{Profile, Report, run};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use super::Context;
use crate::exit::Failure;
use crate::output::{is_watched, say};

/// How many seeds are run unless something else is said: some seconds' worth.
const SEEDS: usize = 1_000;

/// How often progress is told where it is not drawn.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// Run the engine in simulated worlds that fail on purpose, or replay one of them
#[derive(Debug, Args)]
pub(crate) struct Simulate {
    /// How many seeds to run
    #[arg(long, value_name = "N", default_value_t = SEEDS, conflicts_with_all = ["seed", "cell", "grid"])]
    seeds: usize,
    /// The first of them
    #[arg(long, value_name = "SEED", default_value_t = 0, conflicts_with_all = ["seed", "cell", "grid"])]
    from: u64,
    /// Replay one seed, and print its story
    #[arg(long, value_name = "SEED", conflicts_with_all = ["cell", "grid"])]
    seed: Option<u64>,
    /// What goes wrong, and how often: mixed, fair, crashes, freezes, clocks, provider, word-breaker, billing, commits or
    /// storm
    #[arg(long, value_name = "PROFILE", default_value = "mixed", conflicts_with_all = ["cell", "grid"])]
    profile: String,
    /// Run every cell of the grid: each place, with everything that can happen and go wrong there
    #[arg(long, conflicts_with = "cell")]
    grid: bool,
    /// Replay one cell of the grid, such as `seal/runtime:sent/destroy/answer-lost`, and print its story
    #[arg(long, value_name = "CELL")]
    cell: Option<String>,
    /// How many threads to run on [default: one for each core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

impl Simulate {
    /// Runs it.
    ///
    /// # Errors
    /// Wrong use, and worlds in which something breaks.
    pub(crate) fn run(&self, context: &Context) -> Result<(), Failure> {
        let profile = Profile::named(&self.profile).ok_or_else(|| {
            let names: Vec<_> = Profile::NAMED.iter().map(|(name, _)| *name).collect();
            let hint = format!("there are: {}", names.join(", "));
            Failure::usage(format!("there is no profile `{}`", self.profile)).hint(hint)
        })?;
        let threads = self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        if let Some(seed) = self.seed {
            return tell(context, &format!("seed {seed}"), &run(seed, &profile(seed)));
        }
        if let Some(name) = &self.cell {
            let cell: Cell = name.parse().map_err(|_| {
                Failure::usage(format!("there is no cell `{name}`")).hint(
                    "a cell is provider/step:gap/what happens/what goes wrong, such as \
                     names+seal/runtime:sent/crash/answer-lost",
                )
            })?;
            return tell(context, name, &grid::run(&cell));
        }
        let began = Instant::now();
        let tally = if self.grid {
            let cells = grid::all();
            let progress = Progress::new(cells.len());
            campaign::cells(&cells, threads, |done| progress.at(done))
        } else {
            let progress = Progress::new(self.seeds);
            campaign::seeds(self.from, self.seeds, profile, threads, |done| progress.at(done), || false)
        };
        self.sum_up(context, &tally, began.elapsed())
    }

    fn sum_up(&self, context: &Context, tally: &Tally, took: Duration) -> Result<(), Failure> {
        let Tally { worlds, steps, commits, faults, crashed_at: _, slowest, broken } = tally;
        let what = if self.grid { "cells" } else { "seeds" };
        context.output.show(&as_json(what, tally, took), |_| {
            let mut lines = vec![format!(
                "{worlds} {what}, {} broken, in {:.1} s: {steps} steps, {commits} commits",
                broken.len(),
                took.as_secs_f64()
            )];
            if slowest.0 > Duration::ZERO {
                lines.push(format!(
                    "slowest to settle: {:.1} s of simulated time ({})",
                    slowest.0.as_secs_f64(),
                    slowest.1
                ));
            }
            lines.extend(faults.iter().map(|(fault, times)| format!("{times:>9}  {fault}")));
            lines.extend(broken.iter().map(|one| format!("{}: {}", one.name, one.broken.join("; "))));
            lines.join("\n")
        })?;
        match broken.first() {
            None => Ok(()),
            Some(Broken { name, .. }) => {
                let replay = match name.strip_prefix("seed ") {
                    Some(seed) => format!("freehold simulate --profile {} --seed {seed}", self.profile),
                    None => format!("freehold simulate --cell {name}"),
                };
                Err(Failure::failed(format!("something breaks in {} of {worlds} {what}", broken.len()))
                    .hint(format!("replay the first with `{replay}`")))
            }
        }
    }
}

fn as_json(what: &str, tally: &Tally, took: Duration) -> Value {
    let Tally { worlds, steps, commits, faults, crashed_at, slowest, broken } = tally;
    let broken: Vec<_> = broken
        .iter()
        .map(|Broken { name, broken, story }| json!({ "name": name, "broken": broken, "story": story }))
        .collect();
    json!({
        what: worlds,
        "steps": steps,
        "commits": commits,
        "seconds": took.as_secs_f64(),
        "faults": faults,
        "crashed_at": crashed_at,
        "slowest_settle_seconds": slowest.0.as_secs_f64(),
        "slowest_settle_in": slowest.1,
        "broken": broken,
    })
}

/// Prints the story of one world.
fn tell(context: &Context, name: &str, report: &Report) -> Result<(), Failure> {
    let story = story(&report.trace);
    let value = json!({ "name": name, "broken": report.broken, "story": story, "trace": report.trace });
    context.output.show(&value, |_| story.join("\n"))?;
    if report.broken.is_empty() {
        say("nothing breaks");
        return Ok(());
    }
    Err(Failure { lines: report.broken.clone(), ..Failure::failed("") })
}

/// How far it is: drawn for a person, told now and then elsewhere.
struct Progress {
    bar: ProgressBar,
    total: usize,
    began: Instant,
    told: AtomicU64,
}

impl Progress {
    fn new(total: usize) -> Self {
        let target = if is_watched() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(total as u64), target);
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos} of {len}, {eta} left") {
            bar.set_style(style);
        }
        Self { bar, total, began: Instant::now(), told: AtomicU64::new(0) }
    }

    fn at(&self, done: u64) {
        self.bar.set_position(done);
        let now = self.began.elapsed().as_secs() / TOLD_EVERY.as_secs();
        if !is_watched() && self.told.swap(now, Ordering::Relaxed) != now {
            say(&format!("{done} of {} after {:.0} s", self.total, self.began.elapsed().as_secs_f64()));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
