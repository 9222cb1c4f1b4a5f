//! `cargo xtask test`: everything that must pass before a change lands, one stage after the other.
//!
//! The first stage that fails ends the run and says how to run it alone. What stands at the end, passed or not, is a
//! table of stages and seconds, and the test runner's own summary below it.

mod examples;
mod runner;
mod stage;
mod tools;

use anyhow::{Result, bail};
use stage::Stage;
use std::time::{Duration, Instant};

/// Where the test runner is, after building it if there is none.
pub(crate) fn nextest() -> Result<std::path::PathBuf> {
    tools::CARGO_NEXTEST.path()
}

/// What to run; without `--only`, every stage.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Run this stage and no other
    #[arg(long, value_name = "STAGE")]
    only: Option<Stage>,
}

/// Runs the stages in order, up to the first that fails.
pub(crate) fn run(options: &Options) -> Result<()> {
    let stages = options.only.map_or_else(|| Stage::ALL.to_vec(), |only| vec![only]);
    let mut report = Report::default();
    for stage in stages {
        eprintln!("\n── {} ── {}", stage.name(), stage.about());
        let started = Instant::now();
        let outcome = stage.run();
        let took = started.elapsed();
        match outcome {
            Ok(closing) => report.add(stage, "ok", took, closing),
            Err(failure) => {
                report.add(stage, "FAILED", took, failure.closing);
                print!("{}", report.text());
                bail!("{:#}\nrun this stage alone: cargo xtask test --only {}", failure.cause, stage.name());
            }
        }
    }
    print!("{}", report.text());
    Ok(())
}

/// What happened, as it is printed at the end.
#[derive(Default)]
struct Report {
    rows: Vec<(Stage, &'static str, Duration)>,
    /// What a stage wants to have said last, such as the test runner's summary.
    closing: Vec<String>,
}

impl Report {
    fn add(&mut self, stage: Stage, outcome: &'static str, took: Duration, closing: Option<String>) {
        self.rows.push((stage, outcome, took));
        self.closing.extend(closing);
    }

    fn text(&self) -> String {
        let row = |name: &str, outcome: &str, took: Duration| {
            format!("{name:<8} {outcome:<6} {:>7.1} s\n", took.as_secs_f64())
        };
        let mut text = String::from("\nstage    result    seconds\n");
        for (stage, outcome, took) in &self.rows {
            text += &row(stage.name(), outcome, *took);
        }
        text += &row("total", "", self.rows.iter().map(|(_, _, took)| *took).sum());
        for line in &self.closing {
            text += line;
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::{Report, Stage};
    use std::time::Duration;

    #[test]
    fn the_report_ends_with_the_closing_lines() {
        let mut report = Report::default();
        report.add(Stage::Fmt, "ok", Duration::from_millis(500), None);
        report.add(Stage::Tests, "FAILED", Duration::from_secs(61), Some("3 tests run: 2 passed, 1 failed".to_owned()));
        let expected = "
stage    result    seconds
fmt      ok         0.5 s
tests    FAILED    61.0 s
total              61.5 s
3 tests run: 2 passed, 1 failed
";
        assert_eq!(report.text(), expected);
    }
}
