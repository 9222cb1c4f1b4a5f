//! Runs everything that is proved by running it: the grid, the seeds, the scenes and the twins; and prints what it came to
//! as a page of Markdown. It fails when anything is broken, and when a missing protection is not noticed.
//!
//! `freehold-proof [--seeds N] [--from S] [--threads T]`, `freehold-proof --soak SECONDS [--from S]`, and, for whoever adds
//! a protection, `freehold-proof --hunt NAME`, which says where it is missed.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use freehold_domain::protection::Protection;
use freehold_sim::campaign::{self, Tally};
use freehold_sim::scenes::SCENES;
use freehold_sim::town::SETTLES_WITHIN;
use freehold_sim::twins::{Hunt, TWINS, hunt};
use freehold_sim::{Profile, grid, run};

/// How many seeds are run.
const SEEDS: usize = 20_000;

/// How many seeds a soak runs in one go.
const SOAK_BATCH: usize = 2_000;

/// Of how many seeds the history is compared, byte by byte, with that of a second run.
const RUN_TWICE: u64 = 50;

struct Options {
    seeds: usize,
    from: u64,
    threads: usize,
    soak: Option<Duration>,
    hunt: Option<String>,
}

fn options() -> Result<Options, String> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut options = Options { seeds: SEEDS, from: 0, threads, soak: None, hunt: None };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{word} needs a number, not `{value}`"));
        match word.as_str() {
            "--seeds" => options.seeds = usize::try_from(number()?).map_err(|error| error.to_string())?,
            "--from" => options.from = number()?,
            "--threads" => options.threads = usize::try_from(number()?).map_err(|error| error.to_string())?,
            "--soak" => options.soak = Some(Duration::from_secs(number()?)),
            "--hunt" => options.hunt = Some(value),
            _ => return Err(format!("there is no {word}; there are --seeds, --from, --threads, --soak and --hunt")),
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    let outcome = options().and_then(|options| match (&options.hunt, options.soak) {
        (Some(name), _) => where_missed(name),
        (None, Some(span)) => soak(&options, span),
        (None, None) => prove(&options),
    });
    match outcome {
        Ok(page) => {
            // A reader that went away has read enough.
            let _ = std::io::stdout().write_all(page.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn where_missed(name: &str) -> Result<String, String> {
    let named = |protection: &&Protection| protection.name() == name;
    let protection = Protection::ALL.iter().find(named).ok_or_else(|| format!("there is no protection `{name}`"))?;
    std::panic::set_hook(Box::new(|_| {}));
    match hunt(*protection, 1, 2_000) {
        Some((place, how)) => Ok(format!("{place}: {how}\n")),
        None => Err("nobody notices that it is missing".to_owned()),
    }
}

/// Says how far a part is, every five seconds at the most.
fn progress(what: &'static str, total: usize) -> impl Fn(u64) + Sync {
    let began = Instant::now();
    let told = std::sync::atomic::AtomicU64::new(0);
    move |done| {
        let now = began.elapsed().as_secs() / 5;
        if told.swap(now, std::sync::atomic::Ordering::Relaxed) != now {
            eprintln!("{what}: {done} of {total} after {:.0} s", began.elapsed().as_secs_f64());
        }
    }
}

/// Nothing may be broken; whatever is broken is told with what replays it.
fn well(what: &str, tally: &Tally) -> Result<(), String> {
    if tally.broken.is_empty() {
        return Ok(());
    }
    let mut text = format!("{what}: something is broken\n");
    for one in &tally.broken {
        let replay = match one.name.strip_prefix("seed ") {
            Some(seed) => format!("--seed {seed}"),
            None => format!("--cell {}", one.name),
        };
        let _ = writeln!(text, "\n{}: replay with `freehold simulate {replay}`\n{:#?}", one.name, one.broken);
        let _ = writeln!(text, "the end of its story:\n{}", one.story.join("\n"));
    }
    Err(text)
}

fn soak(options: &Options, span: Duration) -> Result<String, String> {
    let began = Instant::now();
    let (mut from, mut seeds) = (options.from, 0);
    while began.elapsed() < span {
        let enough = || began.elapsed() >= span;
        let tally = campaign::seeds(from, SOAK_BATCH, Profile::mixed, options.threads, |_| {}, enough);
        well("the seeds", &tally)?;
        seeds += tally.worlds;
        from += SOAK_BATCH as u64;
        eprintln!("{seeds} seeds, none broken, after {:.0} s", began.elapsed().as_secs_f64());
    }
    Ok(format!("{seeds} seeds from {}, none broken\n", options.from))
}

fn prove(options: &Options) -> Result<String, String> {
    let mut page = String::new();
    grid_and_seeds(options, &mut page)?;
    let broken: Vec<_> = SCENES.iter().map(|scene| (scene.name, scene.run())).filter(|one| !one.1.is_empty()).collect();
    if !broken.is_empty() {
        return Err(format!("scenes in which something is broken: {broken:#?}"));
    }
    twins(&mut page)?;
    let _ = writeln!(page, "## Scenes\n");
    for scene in SCENES {
        let _ = writeln!(page, "- `{}`", scene.name);
    }
    Ok(page)
}

fn per_second(count: u64, began: Instant) -> u64 {
    (count as f64 / began.elapsed().as_secs_f64()) as u64
}

fn grid_and_seeds(options: &Options, page: &mut String) -> Result<(), String> {
    let cells = grid::all();
    let began = Instant::now();
    let tally = campaign::cells(&cells, options.threads, progress("grid", cells.len()));
    well("the grid", &tally)?;
    let took = began.elapsed();
    eprintln!("grid: {} cells in {:.0} s, none broken", tally.worlds, took.as_secs_f64());
    let _ = writeln!(page, "## Grid\n\n| | |\n|---|---|");
    let _ = writeln!(page, "| cells, all reached, none broken | {} |", tally.worlds);
    let _ = writeln!(page, "| steps, commits | {}, {} |", tally.steps, tally.commits);
    let _ = writeln!(page, "| steps per second, on {} threads | {} |", options.threads, per_second(tally.steps, began));
    slowest(page, &tally);

    let began = Instant::now();
    let progress = progress("seeds", options.seeds);
    let tally = campaign::seeds(options.from, options.seeds, Profile::mixed, options.threads, progress, || false);
    well("the seeds", &tally)?;
    let rate = per_second(tally.steps, began);
    for seed in options.from..options.from + RUN_TWICE {
        if run(seed, &Profile::mixed(seed)) != run(seed, &Profile::mixed(seed)) {
            return Err(format!("seed {seed} has two histories"));
        }
    }
    eprintln!("seeds: {} in {:.0} s, none broken", tally.worlds, began.elapsed().as_secs_f64());
    let last = options.from + tally.worlds.saturating_sub(1);
    let _ = writeln!(page, "## Seeds\n\n| | |\n|---|---|");
    let _ = writeln!(page, "| seeds, none broken | {} ({} to {last}) |", tally.worlds, options.from);
    let _ = writeln!(page, "| steps, commits | {}, {} |", tally.steps, tally.commits);
    let _ = writeln!(page, "| steps per second, on {} threads | {} |", options.threads, rate);
    let _ = writeln!(page, "| seeds run twice, same history to the byte | {RUN_TWICE} |");
    slowest(page, &tally);
    let _ = writeln!(page, "## Faults in the seeds\n\n| fault | times |\n|---|---|");
    for (fault, times) in &tally.faults {
        let _ = writeln!(page, "| {fault} | {times} |");
    }
    let _ = writeln!(page, "\n## Where executors died in the seeds\n\n| place | times |\n|---|---|");
    for (place, times) in &tally.crashed_at {
        let _ = writeln!(page, "| `{place}` | {times} |");
    }
    let _ = writeln!(page);
    Ok(())
}

fn slowest(page: &mut String, tally: &Tally) {
    let (span, name) = &tally.slowest;
    let _ = writeln!(
        page,
        "| slowest to settle, of {} s that it may take | {:.1} s (`{name}`) |\n",
        SETTLES_WITHIN.as_secs(),
        span.as_secs_f64()
    );
}

/// Every protection has a twin, and every twin is caught.
fn twins(page: &mut String) -> Result<(), String> {
    let missed: BTreeSet<_> = TWINS.iter().map(|twin| twin.protection).collect();
    let alone: Vec<_> = Protection::ALL.iter().filter(|protection| !missed.contains(protection)).collect();
    if !alone.is_empty() {
        return Err(format!("protections without a twin: {alone:?}"));
    }
    // What a missing protection breaks may be an assumption of the program's own.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let caught: Vec<_> = TWINS.iter().map(|twin| (twin, twin.catch())).collect();
    std::panic::set_hook(hook);
    let historic = TWINS.iter().filter(|twin| twin.historic).count();
    let _ = writeln!(page, "## Twins\n");
    let _ = writeln!(
        page,
        "{} protections, each taken out once and noticed; {historic} of them are bugs that",
        TWINS.len()
    );
    let _ = writeln!(page, "systems of this field have had (marked \u{2020}).\n");
    let _ = writeln!(page, "| without it | protection | noticed in | by | after |\n|---|---|---|---|---|");
    for (twin, caught) in caught {
        let name = twin.protection.name();
        let caught =
            caught.map_err(|why| format!("nobody notices that {name} is missing in {:?}: {why:?}", twin.hunt))?;
        let place = match twin.hunt {
            Hunt::Cell(name) => name.to_owned(),
            Hunt::Scene(name) => name.replace('_', " "),
        };
        let mark = if twin.historic { " \u{2020}" } else { "" };
        let how = caught.how.split(':').next().unwrap_or_default();
        let after = if caught.took.as_millis() == 0 {
            format!("{} µs", caught.took.as_micros())
        } else {
            format!("{} ms", caught.took.as_millis())
        };
        let _ = writeln!(page, "| {}{mark} | `{name}` | {place} | {how} | {after} |", twin.protection.without());
    }
    eprintln!("twins: {} of {} noticed", TWINS.len(), TWINS.len());
    let _ = writeln!(page);
    Ok(())
}
