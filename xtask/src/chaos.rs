//! `cargo xtask chaos`: three real servers on one PostgreSQL with a standby, behind PgBouncer, at a Machines API that fails,
//! while servers, database and the ways between them fail too; and the page that says what it came to.
//!
//! The tests are those of `crates/freehold/tests/chaos`, optimised, one after the other. `--write` puts what they say on
//! `docs/reference/chaos.md`, so that no figure there is from anywhere else.

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::workspace;

/// Where the page is.
const PAGE: &str = "docs/reference/chaos.md";

/// How long everything fails in a short run: enough for every fault to happen.
const SHORT: Duration = Duration::from_secs(40);

/// How long it does where nothing is said.
const USUAL: Duration = Duration::from_secs(600);

/// The runs, by the name under which each leaves what it has to tell.
const RUNS: [&str; 2] = ["everything", "fail-overs"];

const HEAD: &str = "\
# Chaos

Written by `cargo xtask chaos --write`. `cargo xtask chaos --short` runs the same for less than a minute, fails when
a promise is broken or a fault never happened, and is a stage of `cargo xtask test`; `cargo xtask chaos --for 2h` goes on.

Three servers share one registry: PostgreSQL with a synchronous standby, behind PgBouncer in transaction mode. Before them is
one address that asks them in turn; behind them is a simulated Machines API. Clients create, with idempotency keys and without,
destroy and read, and ask again when an answer is lost. Meanwhile servers are killed, frozen past their leases, cut from
the database and given a wrong clock; PgBouncer and the database are killed, frozen and fail over; messages get lost on every
way; and the provider fails. Then all faults end, and this must hold:

- whatever was acknowledged is there, or was destroyed or released by the book; an accepted destroy stays one;
- every live instance has one app, one machine and one volume, had never two machines at once, and there is nothing else (a
  volume has no unique name there: a second one that is made late is never used, and is gone in the end);
- no operation hangs, no invariant was violated, no leak is open, and the audit chain is whole;
- the history of every context is linearizable: there is one order of everything that clients were told that a register
  explains which holds one instance at a time. What was told nothing may have happened at any later time, or never.

[Fail-over](../operating/failover.md) says what a database must be for that. Faults are counted where they are injected, and
what clients met of them apart.
";

#[derive(Args)]
pub(crate) struct Options {
    /// For less than a minute
    #[arg(long, conflicts_with = "lasts")]
    short: bool,
    /// For how long, such as 90s, 10m or 2h; ten minutes where nothing is said
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    lasts: Option<Duration>,
    /// What decides requests and faults; chosen by the clock if not said
    #[arg(long)]
    seed: Option<u64>,
    /// Put what came of it on the page
    #[arg(long)]
    write: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let began = Instant::now();
    let lasts = if options.short { SHORT } else { options.lasts.unwrap_or(USUAL) };
    let reports = tempfile::Builder::new().prefix("freehold-chaos-").tempdir_in(workspace::target_dir())?;
    let mut command = workspace::cargo();
    command.args(["test", "--profile", "ci", "--locked", "--package", "freehold", "--test", "chaos", "--"]);
    command.args(["--ignored", "--nocapture", "--test-threads", "1", "everything_fails", "a_primary_dies"]);
    command.arg("a_standby_that_nobody_waited_for");
    command.env("FREEHOLD_CHAOS_SECONDS", lasts.as_secs().to_string());
    command.env("FREEHOLD_CHAOS_REPORTS", reports.path());
    if let Some(seed) = options.seed {
        command.env("FREEHOLD_CHAOS_SEED", seed.to_string());
    }
    workspace::succeed(&mut command)?;
    let page = page(reports.path())?;
    if options.write {
        let path = workspace::root().join(PAGE);
        std::fs::write(&path, page).with_context(|| format!("writing {}", path.display()))?;
        println!("wrote {PAGE}");
    }
    println!("chaos: all promises kept, in {:.0} s", began.elapsed().as_secs_f64());
    Ok(())
}

fn page(reports: &Path) -> Result<String> {
    let mut page = HEAD.to_owned();
    for run in RUNS {
        let told = std::fs::read_to_string(reports.join(run)).with_context(|| format!("what `{run}` came to"))?;
        ensure!(!told.is_empty(), "`{run}` has nothing to tell");
        page += "\n";
        page += &told;
    }
    Ok(page)
}

/// `90s`, `10m` or `2h`.
fn time(text: &str) -> Result<Duration> {
    let unit = text.chars().next_back().unwrap_or_default();
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        _ => bail!("`{text}` is no time such as 90s, 10m or 2h"),
    };
    let number: u64 =
        text[..text.len() - 1].parse().with_context(|| format!("`{text}` is no time such as 90s, 10m or 2h"))?;
    ensure!(
        (1..=7 * 24 * 3_600).contains(&number.saturating_mul(seconds)),
        "`{text}` is not between a second and a week"
    );
    Ok(Duration::from_secs(number * seconds))
}

#[cfg(test)]
mod tests {
    use super::time;
    use std::time::Duration;

    #[test]
    fn times_are_read() {
        for (text, seconds) in [("90s", 90), ("10m", 600), ("2h", 7_200)] {
            assert_eq!(time(text).expect("a time"), Duration::from_secs(seconds));
        }
        for bad in ["", "s", "10", "1d", "0s", "999999999h", "-1s", "ü"] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }
}
