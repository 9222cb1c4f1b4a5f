//! The twins: each protection is taken out, and somebody must notice.
//!
//! For each one there is a place where it is missed: a cell of the grid, a seed, or a scene. The same place is well with
//! the protection in it: the grid, the seeds and the scenes are run for that. A protection that could be taken out
//! everywhere without anybody noticing would be decoration.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use freehold_domain::protection::{Protection, without};

use crate::grid::{self, Cell};
use crate::scenes::Scene;
use crate::storm::{self, Profile};

/// Where a missing protection is noticed.
#[derive(Clone, Copy, Debug)]
pub enum Hunt {
    /// In a cell of the grid.
    Cell(&'static str),
    /// In a scene.
    Scene(&'static str),
}

/// Why a hunt came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotCaught {
    /// Nobody noticed.
    Unnoticed,
    /// There is no such cell or scene.
    NoSuchPlace,
}

/// What noticed that a protection was missing.
#[derive(Clone, Debug)]
pub struct Caught {
    /// What was broken.
    pub how: String,
    /// How long it took.
    pub took: Duration,
}

/// A protection that is missing, and where that shows.
#[derive(Clone, Copy, Debug)]
pub struct Twin {
    /// Which one.
    pub protection: Protection,
    /// Where it shows.
    pub hunt: Hunt,
    /// Whether systems of this field have really been without it.
    pub historic: bool,
}

const fn twin(protection: Protection, hunt: Hunt) -> Twin {
    Twin { protection, hunt, historic: false }
}

const fn historic(protection: Protection, hunt: Hunt) -> Twin {
    Twin { protection, hunt, historic: true }
}

use Hunt::{Cell as InCell, Scene as InScene};
use Protection as P;

/// Every twin.
pub const TWINS: &[Twin] = &[
    twin(P::UnresolvedCounts, InCell("names+seal/check_active:answered/new-key/fine")),
    twin(P::LimitCounts, InCell("names+seal/subscribe:answered/new-key/fine")),
    twin(P::EpochFence, InCell("names+seal/base:noted/lease-stolen/foreign")),
    twin(P::ClaimRaisesEpoch, InCell("names+seal/base:noted/lease-stolen/foreign")),
    twin(P::ReplacingRaisesEpoch, InCell("names+seal/base:noted/destroy/foreign")),
    twin(P::LeaseIsRespected, InScene("a_live_lease_is_not_taken_by_another_node")),
    historic(P::LeaseIsItsHolders, InCell("names+seal/ready:sent/nothing/commit-lost-applied")),
    twin(P::OverIsOver, InScene("a_finding_for_an_operation_that_is_over_is_refused")),
    twin(P::CrashLeavesDoubt, InCell("seal/runtime:sent/crash/late-1.0H")),
    twin(P::SendsUntilFenced, InCell("neither/runtime:noted/destroy-of-stuck/late-1.0H")),
    twin(P::UnansweredCount, InCell("names+seal/check_active:answered/destroy/fine")),
    twin(P::UnwantedIsNotMade, InScene("nothing_is_noted_that_would_create_for_an_unwanted_instance")),
    twin(P::WantedIsNotUndone, InScene("nothing_is_noted_that_would_undo_a_wanted_instance")),
    historic(P::IdBeforeReady, InCell("names+seal/runtime:answered/nothing/fine")),
    historic(P::ErrorIsNotGone, InCell("names+seal/remove:noted/nothing/nothing-done")),
    historic(P::DestroyBeatsCompletion, InCell("names+seal/subscribe:sent/destroy-then-create/billing-duplicate")),
    twin(P::UndoneIsNotCompleted, InScene("a_repair_does_not_complete_what_is_being_removed")),
    twin(P::DestroyBuriesRoute, InCell("names+seal/seal:noted/nothing/fine")),
    historic(P::ReleasedIsOver, InScene("what_an_operator_released_is_not_completed_by_a_repair")),
    twin(P::LookAfterSeal, InCell("names+seal/subscribe:answered/destroy-twice/fine")),
    twin(P::SealIsAsked, InCell("seal/base:noted/destroy-in-pause-0.9/fine")),
    twin(P::SettleHorizon, InCell("neither/runtime:noted/destroy-in-pause-0.9/late-1.0H")),
    historic(P::SecondLook, InCell("neither/runtime:sent/destroy/answer-lost")),
    twin(P::LooksAfterLastSend, InScene("the_first_look_that_counts_is_after_the_last_possible_send")),
    historic(P::MaybeIsThere, InCell("neither/runtime:sent/destroy/answer-lost")),
    twin(P::OnlyConclusiveLooks, InCell("seal/runtime:sent/destroy/look-inconclusive")),
    twin(P::NoSecondSend, InCell("seal/runtime:sent/nothing/late-1.0H")),
    twin(P::DoubtfulBillingEnds, InCell("names+seal/subscribe:sent/destroy/billing-answer-lost")),
    twin(P::DestroyEndsBilling, InCell("names+seal/subscribe:answered/destroy-twice/fine")),
    historic(P::MacIsChecked, InCell("seal/storage:sent/crash/foreign")),
    twin(P::IntentBeforeEffect, InCell("names+seal/check_active:answered/nothing/fine")),
    twin(P::SendDeadline, InCell("names+seal/check_active:answered/janitor/commit-refused")),
    twin(P::LostLeaseStops, InScene("an_executor_that_heard_that_its_lease_is_lost_does_not_send")),
    historic(P::SpecIsFrozen, InCell("names+seal/base:noted/pause-0.5/fine")),
    historic(P::ExistingIsAdopted, InCell("names+seal/runtime:sent/crash/fine")),
    twin(P::AuditInCommit, InCell("names+seal/check_active:answered/nothing/fine")),
    twin(P::AuditIsChained, InCell("names+seal/check_active:answered/nothing/fine")),
    twin(P::KeyIsKept, InCell("names+seal/base:noted/same-key/fine")),
    twin(P::FingerprintIsChecked, InCell("names+seal/base:noted/other-body/fine")),
    twin(P::FirstAnswerStays, InScene("the_answer_to_a_key_stays_when_what_failed_is_repaired")),
    twin(P::AnswerAfterCommit, InCell("names+seal/base:noted/destroy/commit-lost")),
    twin(P::LostCommitIsUnknown, InCell("names+seal/seal:answered/new-key/commit-lost-applied")),
    twin(P::SweptIsSeenTwice, InScene("what_is_seen_for_the_first_time_is_not_swept")),
    twin(P::SweptIsOld, InScene("what_a_call_under_way_may_have_made_is_not_swept")),
    historic(P::BusyIsNotSwept, InCell("names+seal/runtime:answered/janitor/fine")),
    twin(P::OwnIsNotSwept, InCell("names+seal/check_active:answered/nothing/fine")),
    twin(P::RecordsRefuseLate, InCell("names+seal/record:noted/destroy-in-pause/fine")),
    twin(P::OneIsPublished, InScene("two_that_were_taken_in_are_not_both_published")),
    twin(P::RecordsAreClosed, InScene("nothing_is_released_while_a_row_may_still_come")),
    twin(P::RestoreRaisesEpoch, InScene("who_was_given_a_lease_after_a_backup_writes_no_more")),
    twin(P::RestoreLeavesDoubt, InScene("what_was_sent_after_a_backup_is_not_taken_for_never_sent")),
    twin(P::QuarantineIsKept, InScene("nothing_is_admitted_while_the_registry_is_in_quarantine")),
    twin(P::SilenceIsNoAnswer, InScene("nothing_is_given_up_while_the_records_are_silent")),
];

impl Twin {
    /// Runs the place where the missing protection shows.
    ///
    /// # Errors
    /// [`NotCaught`] if nobody notices.
    pub fn catch(&self) -> Result<Caught, NotCaught> {
        let began = Instant::now();
        let broken = match self.hunt {
            Hunt::Cell(name) => {
                let cell: Cell = name.parse().map_err(|_| NotCaught::NoSuchPlace)?;
                broken_without(self.protection, || grid::run(&cell).broken)
            }
            Hunt::Scene(name) => {
                let scene = Scene::named(name).ok_or(NotCaught::NoSuchPlace)?;
                broken_without(self.protection, || scene.run())
            }
        };
        let how = broken.into_iter().next().ok_or(NotCaught::Unnoticed)?;
        Ok(Caught { how, took: began.elapsed() })
    }
}

/// What is broken without a protection. A panic breaks everything.
fn broken_without(protection: Protection, run: impl FnOnce() -> Vec<String>) -> Vec<String> {
    let outcome = catch_unwind(AssertUnwindSafe(|| without(protection, run)));
    outcome.unwrap_or_else(|_| vec!["it panicked".to_owned()])
}

/// Looks for a place where a missing protection shows: every `stride`-th cell, then so many seeds. For whoever adds one.
#[must_use]
pub fn hunt(protection: Protection, stride: usize, seeds: u64) -> Option<(String, String)> {
    let cells = grid::all();
    let by_cell = cells.iter().step_by(stride.max(1)).find_map(|cell| {
        let broken = broken_without(protection, || grid::run(cell).broken);
        broken.into_iter().next().map(|how| (cell.to_string(), how))
    });
    by_cell.or_else(|| {
        (0..seeds).find_map(|seed| {
            let broken = broken_without(protection, || storm::run(seed, &Profile::mixed(seed)).broken);
            broken.into_iter().next().map(|how| (format!("seed {seed}"), how))
        })
    })
}
