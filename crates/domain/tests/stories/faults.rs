//! Every fault at every place: provision, work on a complete instance, and destroy at every moment, on every sort of
//! provider. The world checks invariants and manners at each commit; the stories here say what must come of it.

use std::time::Duration;

use freehold_domain::operation::{FailureCode, OperationStatus, Step};
use freehold_domain::plan::{Capabilities, Names};
use freehold_domain::reservation::{Resolution, Status};
use freehold_domain::resource::{ResourceKind, RuntimeState};
use freehold_domain::run::Work;

use crate::common::{START, spec};
use crate::world::{DEADLINE, Fault, HORIZON, LEASE, Moment, PROVIDERS, Plot, RETRY_MAX, World, provider};

/// More than any act number of a story without faults; later places are simply never reached.
const ACTS_MAX: u32 = 24;
/// How often a step fails that fails "for ever".
const FOR_EVER: u32 = 40;

/// Everything is over in this time once cleaning up began and nothing fails any more.
fn cleaning_takes() -> Duration {
    4 * (LEASE + HORIZON) + 2 * RETRY_MAX
}

fn one_fault(at: u32, fault: Fault) -> Plot {
    Plot { faults: vec![(at, fault)], ..Plot::default() }
}

fn settles_in_time(world: &World) {
    let took = world.now.since(START);
    assert!(took <= 2 * DEADLINE + cleaning_takes(), "it took {took:?}");
}

#[test]
fn a_provision_without_faults_makes_one_of_each() {
    for capabilities in PROVIDERS {
        let world = World::admitted(capabilities, Plot::default()).settled();
        assert_eq!(world.run.reservation.status, Status::Completed);
        assert!(ResourceKind::ALL.iter().all(|kind| world.live(*kind) == 1));
        assert!(world.now.since(START) < Duration::from_secs(1), "and takes no longer than its runtime");
    }
}

#[test]
fn a_provision_survives_every_single_fault() {
    for capabilities in PROVIDERS {
        for at in 0..ACTS_MAX {
            for fault in Fault::ALL {
                let world = World::admitted(capabilities, one_fault(at, fault)).settled();
                settles_in_time(&world);
                let refused = matches!(fault, Fault::Rejected | Fault::Full);
                if !refused {
                    let status = world.run.reservation.status;
                    assert_eq!(status, Status::Completed, "{fault:?} at {at} on {capabilities:?}");
                }
            }
        }
    }
}

/// The acts of a provision without faults that ask the provider to make something.
const MAKING: std::ops::Range<u32> = 0..3;

#[test]
fn a_region_without_room_sends_everything_to_the_next_one_whatever_goes_wrong_on_the_way() {
    const REGIONS: &[&str] = &["near", "far"];
    for capabilities in PROVIDERS {
        for full_at in MAKING {
            for then in 1..8 {
                for fault in Fault::ALL.into_iter().filter(|fault| !matches!(fault, Fault::Rejected | Fault::Full)) {
                    let faults = vec![(full_at, Fault::Full), (full_at + then, fault)];
                    let world =
                        World::admitted(capabilities, Plot { faults, regions: REGIONS, ..Plot::default() }).settled();
                    let told = format!("full at {full_at}, then {fault:?} at {then} on {capabilities:?}");
                    assert_eq!(world.run.reservation.status, Status::Completed, "{told}");
                    let resource = |kind| world.run.reservation.resource(kind).expect("it is complete");
                    let (storage, runtime) = (resource(ResourceKind::Storage), resource(ResourceKind::Runtime));
                    assert_eq!(storage.region, runtime.region, "a machine cannot have a volume elsewhere: {told}");
                }
            }
        }
    }
}

#[test]
fn what_answers_nobody_is_brought_up_and_published_once_it_does() {
    for capabilities in PROVIDERS {
        for mute in [Duration::from_secs(1), DEADLINE / 2] {
            let world = World::admitted(capabilities, Plot { mute, ..Plot::default() }).settled();
            assert_eq!(world.run.reservation.status, Status::Completed);
            assert!(ResourceKind::ALL.iter().all(|kind| world.live(*kind) == 1));
            assert!(world.now.since(START) >= mute, "it was published before it answered");
        }
    }
}

#[test]
fn what_never_answers_is_given_up_and_removed_whatever_else_goes_wrong() {
    for capabilities in PROVIDERS {
        for at in 0..ACTS_MAX {
            for fault in Fault::ALL {
                let plot = Plot { mute: 10 * DEADLINE, ..one_fault(at, fault) };
                let world = World::admitted(capabilities, plot).settled();
                let status = world.run.reservation.status;
                assert!(matches!(status, Status::Released { .. }), "{fault:?} at {at} on {capabilities:?}: {status:?}");
                settles_in_time(&world);
            }
        }
    }
}

#[test]
fn when_every_region_is_full_nothing_is_left_and_the_caller_is_told_so() {
    for capabilities in PROVIDERS {
        let plot =
            Plot { stuck: Some((Step::Runtime, Fault::Full, FOR_EVER)), regions: &["near", "far"], ..Plot::default() };
        let world = World::admitted(capabilities, plot).settled();
        assert!(matches!(world.run.reservation.status, Status::Released { .. }));
        let failure = world.run.operation.failure.as_ref().expect("a failure");
        assert_eq!(failure.rejection.as_ref().map(|rejection| rejection.class.name()), Some("capacity"));
        settles_in_time(&world);
    }
}

#[test]
fn a_provision_survives_every_pair_of_crashes() {
    for capabilities in PROVIDERS {
        for first in 0..8 {
            for second in first + 1..first + 4 {
                for (one, other) in pairs(&Fault::CRASHES) {
                    let plot = Plot { faults: vec![(first, one), (second, other)], ..Plot::default() };
                    settles_in_time(&World::admitted(capabilities, plot).settled());
                }
            }
        }
    }
}

fn pairs(faults: &[Fault]) -> impl Iterator<Item = (Fault, Fault)> {
    faults.iter().flat_map(|one| faults.iter().map(|other| (*one, *other)))
}

#[test]
fn a_refusal_before_anything_was_made_frees_the_context_at_once() {
    for capabilities in PROVIDERS {
        let world = World::admitted(capabilities, one_fault(0, Fault::Rejected)).settled();
        assert_eq!(world.run.reservation.status, Status::Released { because: Resolution::ProviderRejected });
        assert_eq!(world.now, START);
    }
}

#[test]
fn whatever_fails_for_ever_going_forward_is_given_up_and_cleaned_up() {
    for capabilities in PROVIDERS {
        for step in [Step::Base, Step::Storage, Step::Runtime, Step::Record, Step::Subscribe] {
            for fault in [Fault::NotSent, Fault::Rejected, Fault::UnknownNever, Fault::UnknownNow, Fault::UnknownLate] {
                let plot = Plot { stuck: Some((step, fault, FOR_EVER)), ..Plot::default() };
                let world = World::admitted(capabilities, plot).settled();
                settles_in_time(&world);
                let adopts = step.may_create() && matches!(fault, Fault::UnknownNow | Fault::UnknownLate);
                let found = matches!(fault, Fault::UnknownNow) && matches!(step, Step::Record);
                let status = world.run.reservation.status;
                if found || (adopts && status == Status::Completed) {
                    continue;
                }
                assert!(matches!(status, Status::Released { .. }), "{step} {fault:?} on {capabilities:?}: {status:?}");
                assert_eq!(world.run.operation.status, OperationStatus::Failed);
                let code = world.run.operation.failure.as_ref().expect("a failure").code;
                let expected = match step {
                    Step::Record => FailureCode::InstanceRecordInsertFailed,
                    Step::Subscribe => FailureCode::SubscriptionBootstrapFailed,
                    _ => FailureCode::ProviderProvisionFailed,
                };
                assert!(code == expected || code == FailureCode::DeadlineExceeded, "{step} {fault:?}: {code:?}");
            }
        }
    }
}

#[test]
fn a_destroy_wins_at_every_moment_of_a_provision() {
    for capabilities in PROVIDERS {
        for at in 0..ACTS_MAX {
            for moment in Moment::ALL {
                let plot = Plot { destroy: Some((at, moment)), ..Plot::default() };
                let world = World::admitted(capabilities, plot).settled();
                settles_in_time(&world);
                assert_eq!(was_destroyed(&world), world.run.reservation.intent.is_destroy(), "{moment:?} at {at}");
            }
        }
    }
}

fn was_destroyed(world: &World) -> bool {
    world.run.reservation.status == Status::Released { because: Resolution::InstanceDestroyed }
}

#[test]
fn a_destroy_wins_over_every_fault_before_and_after_it() {
    for capabilities in PROVIDERS {
        for at in 0..10_u32 {
            for moment in Moment::ALL {
                for (distance, fault) in (0..8).flat_map(|d| Fault::ALL.map(|fault| (d, fault))) {
                    let before = at.checked_sub(1).filter(|_| distance == 0);
                    let place = before.unwrap_or(at + distance);
                    let plot = Plot { faults: vec![(place, fault)], destroy: Some((at, moment)), ..Plot::default() };
                    let world = World::admitted(capabilities, plot).settled();
                    settles_in_time(&world);
                    assert_eq!(was_destroyed(&world), world.run.reservation.intent.is_destroy());
                }
            }
        }
    }
}

#[test]
fn destroying_a_complete_instance_survives_every_single_fault() {
    for capabilities in PROVIDERS {
        for at in 0..ACTS_MAX {
            for fault in Fault::ALL {
                let mut world = World::completed(capabilities, one_fault(at, fault));
                world.destroy();
                let world = world.settled();
                settles_in_time(&world);
                assert!(was_destroyed(&world), "{fault:?} at {at}");
                assert_eq!(world.run.operation.status, OperationStatus::Succeeded);
            }
        }
    }
}

#[test]
fn cleaning_up_goes_on_until_it_succeeds_ever_more_seldom() {
    let steps = [Step::Seal, Step::Remove, Step::Absence, Step::EndSubscription, Step::MarkDestroyed];
    for capabilities in PROVIDERS {
        for step in steps {
            for fault in [Fault::NotSent, Fault::Rejected, Fault::UnknownNever] {
                let plot = Plot { stuck: Some((step, fault, FOR_EVER)), ..Plot::default() };
                let mut world = World::completed(capabilities, plot);
                world.destroy();
                let world = world.settled();
                assert!(was_destroyed(&world), "{step} {fault:?}");
                let waits: Vec<_> = world.waits.iter().filter(|(of, _)| *of == step).map(|(_, span)| *span).collect();
                let reached = step != Step::Seal || capabilities.seals;
                if reached && waits.len() > 1 {
                    assert!(waits.iter().all(|span| *span <= RETRY_MAX.max(HORIZON)), "{step}: {waits:?}");
                    assert!(waits[waits.len() - 1] >= RETRY_MAX * 3 / 4, "{step} backs off: {waits:?}");
                }
            }
        }
    }
}

fn every_work() -> [(Work, RuntimeState); 4] {
    [
        (Work::Stop, RuntimeState::Stopped),
        (Work::Start, RuntimeState::Running),
        (Work::Restart, RuntimeState::Running),
        (Work::Update(spec(1)), RuntimeState::Running),
    ]
}

fn at_work(capabilities: Capabilities, work: &Work, plot: Plot) -> World {
    let mut world = World::completed(capabilities, Plot::default());
    if *work == Work::Start {
        world.begin(Work::Stop);
        world = world.settled();
    }
    world = world.with_plot(plot);
    world.begin(work.clone());
    world
}

#[test]
fn work_survives_every_single_fault() {
    for capabilities in PROVIDERS {
        for (work, state) in every_work() {
            for at in 0..4 {
                for fault in Fault::ALL {
                    let world = at_work(capabilities, &work, one_fault(at, fault)).settled();
                    settles_in_time(&world);
                    assert_eq!(world.run.reservation.status, Status::Completed);
                    let refused = at == 0 && matches!(fault, Fault::Rejected | Fault::Full);
                    let expected = if refused { OperationStatus::Failed } else { OperationStatus::Succeeded };
                    assert_eq!(world.run.operation.status, expected, "{work:?} with {fault:?} at {at}");
                    if !refused {
                        assert_eq!(world.runtime(), Some(&state), "{work:?} with {fault:?} at {at}");
                    }
                    if work == Work::Update(spec(1)) && !refused {
                        assert_eq!(world.run.reservation.spec, spec(1));
                    }
                }
            }
        }
    }
}

#[test]
fn work_that_fails_for_ever_ends_by_its_deadline_and_leaves_the_instance() {
    for capabilities in PROVIDERS {
        for (work, _) in every_work() {
            let step = if work == Work::Update(spec(1)) { Step::Update } else { Step::Power };
            for fault in [Fault::NotSent, Fault::Rejected, Fault::UnknownNever, Fault::UnknownLate, Fault::CrashNoted] {
                let plot = Plot { stuck: Some((step, fault, FOR_EVER)), ..Plot::default() };
                let world = at_work(capabilities, &work, plot).settled();
                settles_in_time(&world);
                assert_eq!(world.run.operation.status, OperationStatus::Failed, "{work:?} with {fault:?}");
                assert_eq!(world.run.reservation.status, Status::Completed);
            }
        }
    }
}

#[test]
fn a_destroy_wins_at_every_moment_of_every_work() {
    for capabilities in PROVIDERS {
        for (work, _) in every_work() {
            for moment in Moment::ALL {
                let plot = Plot { destroy: Some((0, moment)), ..Plot::default() };
                let world = at_work(capabilities, &work, plot).settled();
                settles_in_time(&world);
                assert!(was_destroyed(&world), "{work:?} {moment:?}");
            }
        }
    }
}

#[test]
fn looks_that_prove_nothing_delay_and_never_decide() {
    for capabilities in PROVIDERS {
        for blind_looks in 1..6 {
            let plot = Plot { blind_looks, ..Plot::default() };
            let world = World::admitted(capabilities, plot.clone()).settled();
            assert_eq!(world.run.reservation.status, Status::Completed, "an inconclusive look is no exit");
            let mut world = World::completed(capabilities, plot);
            world.destroy();
            let world = world.settled();
            settles_in_time(&world);
            assert!(was_destroyed(&world));
        }
    }
}

#[test]
fn what_a_list_still_shows_after_its_removal_is_removed_again_without_haste() {
    for capabilities in PROVIDERS {
        let mut world = World::completed(capabilities, Plot { stale_looks: 12, ..Plot::default() });
        world.destroy();
        let world = world.settled();
        assert!(was_destroyed(&world));
    }
}

#[test]
fn records_that_lag_are_waited_for_without_haste() {
    for capabilities in PROVIDERS {
        for lag in [Duration::from_millis(300), Duration::from_secs(20)] {
            let plot = Plot { records_lag: lag, ..Plot::default() };
            let world = World::admitted(capabilities, plot.clone()).settled();
            assert_eq!(world.run.reservation.status, Status::Completed);
            let mut world = World::completed(capabilities, plot);
            world.destroy();
            assert!(was_destroyed(&world.settled()));
        }
    }
}

#[test]
fn an_extra_copy_is_removed_before_its_instance_is_published() {
    for capabilities in PROVIDERS {
        let world = World::admitted(capabilities, Plot { extra: true, ..Plot::default() }).settled();
        assert_eq!(world.run.reservation.status, Status::Completed);
        assert_eq!(world.run.reservation.resources.len(), ResourceKind::ALL.len());
    }
}

#[test]
fn a_provider_without_names_is_not_asked_twice_before_the_first_call_can_no_longer_take_effect() {
    let world = World::admitted(provider(true, Names::Free), one_fault(2, Fault::UnknownLate)).settled();
    assert_eq!(world.run.reservation.status, Status::Completed);
    assert!(world.now.since(START) >= HORIZON);
    let world = World::admitted(provider(true, Names::Unique), one_fault(2, Fault::UnknownNever)).settled();
    assert!(world.now.since(START) < Duration::from_secs(5), "where names are enforced nobody waits");
}

#[test]
fn a_look_that_was_not_sent_leaves_its_step_in_doubt() {
    for capabilities in PROVIDERS {
        for fault in [Fault::NotSent, Fault::Rejected, Fault::UnknownNever] {
            for making in 0..3 {
                let plot = Plot { faults: vec![(making, Fault::UnknownLate), (making + 1, fault)], ..Plot::default() };
                let world = World::admitted(capabilities, plot).settled();
                let status = world.run.reservation.status;
                assert!(
                    status == Status::Completed || fault == Fault::Rejected,
                    "{fault:?} after {making}: {status:?}"
                );
            }
        }
    }
}

#[test]
fn an_extra_copy_that_cannot_be_removed_holds_nothing_up_past_the_deadline() {
    for capabilities in PROVIDERS {
        let stuck = Some((Step::Remove, Fault::UnknownNever, FOR_EVER));
        let world = World::admitted(capabilities, Plot { stuck, extra: true, ..Plot::default() }).settled();
        assert_eq!(world.run.reservation.status, Status::Completed);
        assert!(world.now.since(START) <= DEADLINE);
        assert!(world.run.reservation.extra().is_some(), "it stays on record");
        let mut world = world.with_plot(Plot::default());
        world.destroy();
        assert!(was_destroyed(&world.settled()), "and goes with its instance");
    }
}

#[test]
fn success_that_turns_up_late_completes_unless_something_may_be_undone_already() {
    let (mut completed, mut released) = (0, 0);
    for capabilities in PROVIDERS {
        for at in 0..ACTS_MAX {
            for moment in Moment::ALL {
                for fault in Fault::ALL {
                    let plot = Plot {
                        stuck: Some((Step::Subscribe, Fault::UnknownNow, 5)),
                        faults: vec![(at, fault)],
                        late_success: Some((at, moment)),
                        ..Plot::default()
                    };
                    let world = World::admitted(capabilities, plot).settled();
                    settles_in_time(&world);
                    match world.run.reservation.status {
                        Status::Completed => completed += 1,
                        _ => released += 1,
                    }
                }
            }
        }
    }
    assert!(completed > 0 && released > 0, "{completed} completed, {released} released");
}
