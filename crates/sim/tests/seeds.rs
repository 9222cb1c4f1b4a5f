//! Some histories of every profile, on every run of the tests; the proof runs many more. A failure prints the seed and the
//! end of its story.

use freehold_sim::campaign;
use freehold_sim::scenes::SCENES;
use freehold_sim::{Profile, run};

/// How many seeds of each profile: some seconds' worth in a debug build.
const SEEDS: usize = 20;

#[test]
fn every_profile_ends_well() {
    for (name, profile) in Profile::NAMED {
        let tally = campaign::seeds(0, SEEDS, profile, 2, |_| {}, || false);
        assert!(tally.broken.is_empty(), "{name}: {:#?}", tally.broken);
    }
}

#[test]
fn one_seed_has_one_history_and_another_has_another() {
    for seed in [7, 77, 777] {
        assert_eq!(run(seed, &Profile::STORM), run(seed, &Profile::STORM), "seed {seed}");
    }
    assert_ne!(run(1, &Profile::STORM).trace, run(2, &Profile::STORM).trace);
}

#[test]
fn every_sort_of_fault_is_in_the_storm() {
    let tally = campaign::seeds(0, 60, |_| Profile::STORM, 2, |_| {}, || false);
    let quiet = ["looks that lie"];
    let expected = [
        "crash",
        "pause within the lease",
        "pause past the lease",
        "clock jumps back",
        "clock jumps forward",
        "store's clock jumps forward",
        "lease stolen",
        "commit refused",
        "commit applied, answer lost",
        "commit not applied, answer lost",
        "call done, answer lost",
        "call not done, no answer",
        "call done late",
        "call done later than the horizon",
        "call done twice",
        "call refused: invalid",
        "call refused: unauthorized",
        "call refused: capacity",
        "call refused: quota",
        "call not sent",
        "call accepted, never finished",
        "deleted, and back again",
        "looks without an answer",
        "looks that prove nothing",
        "looks that flap",
        "looks into the past",
        "billing: refused",
        "billing: down",
        "billing: answer lost",
        "billing: duplicate",
        "billing: late",
        "billing: not sent",
    ];
    let missing: Vec<_> = expected.iter().filter(|fault| !tally.faults.contains_key(*fault)).collect();
    assert!(missing.is_empty(), "never happened: {missing:?}");
    assert!(!tally.faults.contains_key(quiet[0]), "an honest storm lies");
}

#[test]
fn every_scene_ends_well() {
    for scene in SCENES {
        assert_eq!(scene.run(), Vec::<String>::new(), "{}", scene.name);
    }
}

/// The twin of the seeds: without a janitor, what a provider leaves behind that breaks its word stays, and the oracle sees
/// it.
#[test]
fn what_only_a_janitor_can_mend_is_noticed_where_there_is_none() {
    let without = |_| Profile { janitor: false, ..Profile::STORM };
    let tally = campaign::seeds(0, 60, without, 2, |_| {}, || false);
    assert!(!tally.broken.is_empty(), "no seed noticed");
}

/// The twin of the looks: where a provider swears that nothing is there although it is, the oracle sees it.
#[test]
fn a_provider_that_lies_is_noticed() {
    let lying = |_| Profile { lies: true, breaks_word: false, janitor: false, ..Profile::STORM };
    let tally = campaign::seeds(0, 60, lying, 2, |_| {}, || false);
    assert!(!tally.broken.is_empty(), "no seed noticed");
}

/// Each protection that a scene shows is missed there.
#[cfg(feature = "twins")]
#[test]
fn every_twin_of_a_scene_is_noticed() {
    use freehold_sim::twins::{Hunt, TWINS};
    for twin in TWINS.iter().filter(|twin| matches!(twin.hunt, Hunt::Scene(_))) {
        let caught = twin.catch().unwrap_or_else(|missed| panic!("{}: {missed:?}", twin.protection.name()));
        assert!(!caught.how.is_empty());
    }
}
