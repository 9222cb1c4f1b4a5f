//! `cargo xtask crash`: the real program with real processes, and everything that can go wrong under it.
//!
//! It is played in scenes, each over a server and a data folder of its own: the server dies at every place where an
//! executor can die, is frozen past its leases, has no room on its disk, is told by its disk that a sync failed, finds a
//! torn end of its database's log, and is killed at random moments under a storm of requests. A scene in which its fault
//! did not happen fails. After every fault the world must come to rest by itself, and in the end registry, process table,
//! acknowledgements and audit trail must agree. The seed is printed first; it decides the requests, while the moments of
//! the faults follow the machine. What each scene does is in `docs/operating/crash-test.md`.

mod api;
mod chance;
mod disk;
mod failed_sync;
mod frozen;
mod full_disk;
mod house;
mod points;
pub(crate) mod processes;
mod storm;
mod torn_tail;
mod verdict;
mod wal;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::server;
use crate::workspace;
use chance::Chance;
use house::House;
use verdict::Tally;

#[derive(Args)]
pub(crate) struct Options {
    /// How often the server is killed at crash points and in the storm, at the least
    #[arg(long, default_value_t = 100)]
    kills: usize,
    /// What decides the requests; chosen by the clock if not said
    #[arg(long)]
    seed: Option<u64>,
    /// Plays one scene alone
    #[arg(long, value_enum)]
    only: Option<Scene>,
}

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scene {
    /// Killed at every place where an executor can die
    Points,
    /// Frozen for longer than a lease
    Frozen,
    /// No room for the database and the instances
    FullDisk,
    /// A sync of the database fails, and the power with it
    FailedSync,
    /// The end of the database's log is damaged where nothing was synced
    TornTail,
    /// Killed at random moments
    Storm,
}

impl Scene {
    /// The storm makes up for the kills that the others leave, so it comes last.
    const ALL: [Self; 6] = [Self::Points, Self::Frozen, Self::FullDisk, Self::FailedSync, Self::TornTail, Self::Storm];

    fn name(self) -> &'static str {
        match self {
            Self::Points => "points",
            Self::Frozen => "frozen",
            Self::FullDisk => "full-disk",
            Self::FailedSync => "failed-sync",
            Self::TornTail => "torn-tail",
            Self::Storm => "storm",
        }
    }
}

/// What a scene did.
struct Told {
    /// For whoever watches.
    line: String,
    /// What is counted besides kills, for the last line of all.
    count: Option<String>,
    /// How many of its kills count as such.
    kills: usize,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let seed = options.seed.unwrap_or_else(clock);
    let only = options.only.map_or(String::new(), |scene| format!(" --only {}", scene.name()));
    println!("seed {seed}: replay with `cargo xtask crash --kills {} --seed {seed}{only}`", options.kills);
    let program = server::build("dev")?;
    let folder = tempfile::Builder::new().prefix("freehold-crash-").tempdir_in(workspace::target_dir())?;
    match play_all(options, &program, folder.path(), seed) {
        Ok(summary) => {
            println!("{summary}");
            Ok(())
        }
        Err(error) => {
            let kept = folder.keep();
            Err(error.context(format!("seed {seed}; the server's folder and log are kept in {}", kept.display())))
        }
    }
}

/// Plays what is asked for, and answers the line that a report can quote.
fn play_all(options: &Options, program: &Path, folder: &Path, seed: u64) -> Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut tally = Tally::default();
    let (mut kills, mut counts) = (0, Vec::new());
    for scene in Scene::ALL.into_iter().filter(|scene| options.only.is_none_or(|only| only == *scene)) {
        let began = Instant::now();
        // A name has 32 characters at most: nine digits of the seed, seven of the process, and the longest scene.
        let install = format!("c{}-{}-{}", seed % 1_000_000_000, std::process::id(), scene.name());
        let mut house = House::new(program, &folder.join(scene.name()), install)?;
        // Its own chance, so that a scene is the same alone as among the others.
        let chance = Chance::of(seed.wrapping_add(scene as u64));
        let kills_left = options.kills.saturating_sub(kills).max(1);
        let told = runtime
            .block_on(play(scene, &mut house, chance, kills_left, &mut tally))
            .with_context(|| format!("in the scene `{}`", scene.name()))?;
        ensure!(tally.failed == 0, "{} promises were broken in the scene `{}`", tally.failed, scene.name());
        println!("{}, in {:.0} s", told.line, began.elapsed().as_secs_f64());
        kills += told.kills;
        counts.extend(told.count);
    }
    if options.only.is_none() {
        ensure!(kills >= options.kills, "{kills} kills are fewer than {}", options.kills);
    }
    if kills > 0 {
        counts.insert(counts.len().min(1), format!("{kills} kills"));
    }
    println!("{tally}");
    Ok(format!("crash: {}; all promises kept", counts.join(", ")))
}

async fn play(scene: Scene, house: &mut House, chance: Chance, kills_left: usize, tally: &mut Tally) -> Result<Told> {
    match scene {
        Scene::Points => points::play(house, tally).await,
        Scene::Frozen => frozen::play(house, chance, tally).await,
        Scene::FullDisk => full_disk::play(house, chance, tally).await,
        Scene::FailedSync => failed_sync::play(house, chance, tally).await,
        Scene::TornTail => torn_tail::play(house, chance, tally).await,
        Scene::Storm => storm::play(house, chance, kills_left, tally).await,
    }
}

#[cfg(test)]
mod tests {
    use super::Scene;
    use clap::ValueEnum;

    #[test]
    fn a_scene_is_called_what_the_command_line_calls_it() {
        assert_eq!(Scene::value_variants(), Scene::ALL);
        for scene in Scene::ALL {
            assert_eq!(Scene::from_str(scene.name(), false), Ok(scene));
        }
    }
}
