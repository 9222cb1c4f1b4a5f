//! What the store does over a real PostgreSQL that syncs, beside what PostgreSQL does with the same rows by itself.
//!
//! `cargo xtask bench cluster` runs this, and measures nodes of the program besides. By itself it is
//! `cargo run --release -p freehold-store --example cluster -- [--only NAME,…] [--rows N] [--timers N] …`; it prints a line
//! of JSON for each figure. Nothing passes or fails: figures are as they come. Callers, store and database share the
//! machine.

mod admissions;
mod conflicts;
mod fill;
mod growth;
mod load;
mod pgbench;
mod place;
mod report;
mod store;
mod timers;

use std::time::Duration;

use anyhow::{Context, Result, bail};

use place::Place;

/// What is asked for.
struct Options {
    /// Which figures.
    only: Vec<String>,
    /// How many calls there are at a time.
    callers: usize,
    /// Over how many connections.
    connections: usize,
    /// How often each is measured; the middle one counts.
    rounds: usize,
    /// How long each round takes.
    span: Duration,
    /// How many reservations the large registry has.
    rows: u64,
    /// How many timers are due.
    timers: u64,
    /// How long they are drained at most.
    drain_for: Duration,
    /// Settings of the cluster beside those of [`place::SETTINGS`]: `name=value`.
    settings: Vec<(String, String)>,
}

impl Options {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            only: ["admissions", "conflicts", "growth", "timers"].map(str::to_owned).to_vec(),
            callers: 64,
            connections: 8,
            rounds: 3,
            span: Duration::from_secs(10),
            rows: 1_000_000,
            timers: 1_000_000,
            drain_for: Duration::from_secs(300),
            settings: Vec::new(),
        };
        while let Some(word) = words.next() {
            let value = words.next().with_context(|| format!("{word} needs a value"))?;
            let number = || value.parse::<u64>().with_context(|| format!("{word} {value}: that is no number"));
            match word.as_str() {
                "--only" => options.only = value.split(',').map(str::to_owned).collect(),
                "--callers" => options.callers = usize::try_from(number()?)?,
                "--connections" => options.connections = usize::try_from(number()?)?,
                "--rounds" => options.rounds = usize::try_from(number()?)?.max(1),
                "--seconds" => options.span = Duration::from_secs(number()?.max(1)),
                "--rows" => options.rows = number()?,
                "--timers" => options.timers = number()?,
                "--drain-seconds" => options.drain_for = Duration::from_secs(number()?),
                "--set" => {
                    let (name, value) = value.split_once('=').context("--set wants name=value")?;
                    options.settings.push((name.to_owned(), value.to_owned()));
                }
                _ => bail!("{word} is not known"),
            }
        }
        Ok(options)
    }
}

fn main() -> Result<()> {
    let options = Options::read(std::env::args().skip(1))?;
    let more: Vec<_> = options.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    for figure in &options.only {
        eprintln!("measuring {figure} …");
        // A cluster each: what one leaves behind is of no concern to the next.
        let place = Place::start(&more)?;
        let row = runtime.block_on(async {
            match figure.as_str() {
                "admissions" => admissions::measure(&options, &place).await,
                "conflicts" => conflicts::measure(&options, &place).await,
                "growth" => growth::measure(&options, &place).await,
                "timers" => timers::measure(&options, &place).await,
                other => bail!("there is no figure {other:?}"),
            }
        });
        row.with_context(|| format!("measuring {figure}"))?.print()?;
    }
    Ok(())
}
