//! Many worlds on a few threads, and what all of them together came to. A world lives in one thread and knows nothing of
//! the others, so the numbers do not depend on how many threads there are.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::grid::{self, Cell};
use crate::history::story;
use crate::places::Hits;
use crate::storm::{self, Profile, Report};

/// After how many broken worlds a campaign ends: enough to see a pattern.
const BROKEN_MAX: usize = 5;

/// How many of the last lines of a broken world's story are kept.
const LINES_KEPT: usize = 60;

/// A world in which something broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The seed or the cell: what replays it.
    pub name: String,
    /// What broke.
    pub broken: Vec<String>,
    /// The end of its story.
    pub story: Vec<String>,
}

/// What many worlds came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many there were.
    pub worlds: u64,
    /// How many steps they took: from one call to the next.
    pub steps: u64,
    /// How many commits wrote something.
    pub commits: u64,
    /// How often each fault happened.
    pub faults: BTreeMap<&'static str, u64>,
    /// How often a node died while an executor was at each place.
    pub crashed_at: Hits,
    /// The longest time that something stayed unresolved once nothing went wrong any more, and where that was.
    pub slowest: (Duration, String),
    /// The first worlds in which something broke.
    pub broken: Vec<Broken>,
}

impl Tally {
    fn add(&mut self, name: String, report: Report) {
        let Report { seed: _, trace, broken, steps, commits, faults, crashed_at, slowest_settle } = report;
        self.worlds += 1;
        self.steps += steps;
        self.commits += commits;
        for (fault, times) in faults {
            *self.faults.entry(fault).or_default() += times;
        }
        for (place, times) in crashed_at {
            *self.crashed_at.entry(place).or_default() += times;
        }
        if slowest_settle > self.slowest.0 {
            self.slowest = (slowest_settle, name.clone());
        }
        if !broken.is_empty() && self.broken.len() < BROKEN_MAX {
            let mut story = story(&trace);
            let surplus = story.len().saturating_sub(LINES_KEPT);
            story.drain(..surplus);
            self.broken.push(Broken { name, broken, story });
        }
    }
}

/// Runs worlds on `threads` threads, and tells `progress` how many are done. Ends early after a few broken ones, and when
/// `enough` says so.
fn run_all(
    count: usize,
    threads: usize,
    world: impl Fn(usize) -> (String, Report) + Sync,
    progress: impl Fn(u64) + Sync,
    enough: impl Fn() -> bool + Sync,
) -> Tally {
    let next = AtomicUsize::new(0);
    let ended = AtomicBool::new(false);
    let tally = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) && !enough() {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    let (name, report) = world(number);
                    let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
                    tally.add(name, report);
                    ended.store(tally.broken.len() >= BROKEN_MAX, Ordering::Relaxed);
                    progress(tally.worlds);
                }
            });
        }
    });
    tally.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `count` seeds from `from`.
#[must_use]
pub fn seeds(
    from: u64,
    count: usize,
    profile: fn(u64) -> Profile,
    threads: usize,
    progress: impl Fn(u64) + Sync,
    enough: impl Fn() -> bool + Sync,
) -> Tally {
    let world = |number: usize| {
        let seed = from.wrapping_add(number as u64);
        (format!("seed {seed}"), storm::run(seed, &profile(seed)))
    };
    run_all(count, threads, world, progress, enough)
}

/// Runs cells.
#[must_use]
pub fn cells(cells: &[Cell], threads: usize, progress: impl Fn(u64) + Sync) -> Tally {
    let world = |number: usize| (cells[number].to_string(), grid::run(&cells[number]));
    run_all(cells.len(), threads, world, progress, || false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_do_not_depend_on_the_threads() {
        let run = |threads| seeds(0, 12, Profile::mixed, threads, |_| {}, || false);
        let (alone, together) = (run(1), run(4));
        assert_eq!(Tally { slowest: alone.slowest.clone(), ..together }, alone);
        assert_eq!(alone.worlds, 12);
        assert!(alone.steps > 0 && alone.commits > 0);
    }
}
