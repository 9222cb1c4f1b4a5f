//! Histories that must end well, whatever the seed. A failure prints the seed and the end of its story.

use freehold_sim::{Profile, Report, run};

/// How many seeds of a storm the test runs: some seconds' worth in a debug build.
const STORMS: u64 = 150;

fn well(report: &Report) {
    let tail = report.trace.len().saturating_sub(60);
    assert!(
        report.broken.is_empty(),
        "seed {}: {:#?}\nthe last lines of its history:\n{}",
        report.seed,
        report.broken,
        report.trace[tail..].join("\n")
    );
}

#[test]
fn everything_is_well_when_nothing_goes_wrong() {
    for seed in 0..20 {
        well(&run(seed, &Profile::FAIR));
    }
}

#[test]
fn crashes_alone_do_no_harm() {
    for seed in 0..60 {
        well(&run(seed, &Profile { crash: 4, ..Profile::FAIR }));
    }
}

#[test]
fn frozen_executors_do_no_harm() {
    for seed in 0..60 {
        well(&run(seed, &Profile { freeze: 4, ..Profile::FAIR }));
    }
}

#[test]
fn lost_answers_and_late_effects_do_no_harm() {
    for seed in 0..60 {
        well(&run(seed, &Profile { provider: 40, ..Profile::FAIR }));
    }
}

#[test]
fn refused_and_unknown_commits_do_no_harm() {
    for seed in 0..60 {
        well(&run(seed, &Profile { commit: 8, ..Profile::FAIR }));
    }
}

#[test]
fn storms_end_well() {
    for seed in 1_000..1_000 + STORMS {
        well(&run(seed, &Profile::STORM));
    }
}

#[test]
fn one_seed_has_one_history() {
    for seed in [7, 77, 777] {
        assert_eq!(run(seed, &Profile::STORM), run(seed, &Profile::STORM), "seed {seed}");
    }
}

#[test]
fn another_seed_has_another_history() {
    assert_ne!(run(1, &Profile::STORM).trace, run(2, &Profile::STORM).trace);
}

/// The twin of every test above: where a provider swears that nothing is there although it is, something is left behind
/// behind a release, and the oracle must see it.
#[test]
fn a_provider_that_lies_is_noticed() {
    let caught =
        (0..60).map(|seed| run(seed, &Profile { lies: true, ..Profile::STORM })).filter(|r| !r.broken.is_empty());
    assert!(caught.count() > 0, "no seed noticed");
}
