//! Defects that the grid and the seeds have found, each by the name of what went wrong, in the cells that showed it. They
//! stay, whatever becomes of the grid.

use freehold_sim::grid;

/// Every one of these cells exists, and ends well.
fn well(cells: &[&str]) {
    for name in cells {
        let cell = name.parse().unwrap_or_else(|_| panic!("{name} is no cell"));
        let report = grid::run(&cell);
        assert!(report.broken.is_empty(), "{name}: {:#?}\n{}", report.broken, report.trace.join("\n"));
    }
}

/// Where there is no seal, an instance whose resources were all removed counted as one that was never made, and was
/// released on the word of a delete that was accepted and never finished.
#[test]
fn a_delete_that_is_accepted_and_never_finished_is_no_proof_of_absence() {
    well(&[
        "neither/remove:before_note/nothing/never-finished",
        "neither/remove:answered/crash/never-finished",
        "neither/remove:noted/pause-10/never-finished",
        "neither/runtime:answered/destroy/twice",
    ]);
}

/// Looks that settled a doubt about a send used up the tries of the step: a crash and a lost call cost the instance.
#[test]
fn looks_that_settle_a_doubt_use_up_no_tries() {
    well(&[
        "seal/base:noted/crash/nothing-done",
        "seal/storage:noted/fail-over/nothing-done",
        "neither/runtime:noted/pause-10/nothing-done",
        "seal/base:noted/crash/look-unanswered",
    ]);
}

/// The horizon of a call without an answer began when it was noted: one that was on its way for longer than a lease,
/// which its holder renewed, was sent again too early.
#[test]
fn the_horizon_of_a_call_begins_when_nobody_waits_for_its_answer() {
    well(&[
        "seal/runtime:noted/destroy-of-stuck/late-1.0H",
        "neither/runtime:noted/destroy-of-stuck/late-1.0H",
        "neither/base:noted/destroy-of-stuck/late-1.0H",
    ]);
}
