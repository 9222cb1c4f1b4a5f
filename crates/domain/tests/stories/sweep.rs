//! What nothing refers to: what the janitor makes of a resource, when a sweep may begin, and how it ends, whatever fails.

use std::time::Duration;

use freehold_domain::event::EventKind;
use freehold_domain::ids::LeakId;
use freehold_domain::invariants::{Invariant, check_change};
use freehold_domain::lease::Epoch;
use freehold_domain::operation::{OperationKind, OperationStatus, Step};
use freehold_domain::plan::Capabilities;
use freehold_domain::reservation::{Intent, Power, Status};
use freehold_domain::resource::{Custody, Found, Resource, ResourceKind, RuntimeState};
use freehold_domain::run::{Begin, LeakChange, Refused, Run, Work, begun, swept};
use freehold_domain::sweep::{Sighting, Verdict, judge};

use crate::common::{commission, resource};
use crate::world::{DEADLINE, Fault, HORIZON, PROVIDERS, Plot, World};

/// More acts than any sweep of these stories has without faults; later places are never reached.
const ACTS_MAX: u32 = 12;
/// How often a removal fails that fails "for ever".
const FOR_EVER: u32 = 40;
/// Often enough, and long enough.
const RIPE: Sighting = Sighting { passes: 2, age: HORIZON };

fn completed(capabilities: Capabilities) -> World {
    World::completed(capabilities, Plot::default())
}

fn released(capabilities: Capabilities) -> World {
    let mut world = completed(capabilities);
    world.destroy();
    let mut world = world.settled();
    assert!(matches!(world.run.reservation.status, Status::Released { .. }));
    world.told.clear();
    world
}

fn judged(resource: &Resource, run: &Run, sighting: Sighting) -> Verdict {
    let found = Found { resource: resource.clone(), custody: Custody::Ours };
    judge(&found, &run.reservation.provider, Some((&run.reservation, &run.operation)), sighting, HORIZON)
}

#[test]
fn somebody_elses_is_foreign_whatever_the_registry_says() {
    let world = released(PROVIDERS[0]);
    let found = Found { resource: resource(ResourceKind::Base, 9), custody: Custody::Foreign };
    let Run { reservation, operation } = &world.run;
    for registered in [None, Some((reservation, operation))] {
        assert_eq!(judge(&found, &reservation.provider, registered, RIPE, HORIZON), Verdict::Foreign);
    }
}

#[test]
fn what_the_registry_does_not_know_there_is_unknown() {
    let world = released(PROVIDERS[0]);
    let found = Found { resource: resource(ResourceKind::Base, 9), custody: Custody::Ours };
    let Run { reservation, operation } = &world.run;
    assert_eq!(judge(&found, &reservation.provider, None, RIPE, HORIZON), Verdict::Unknown);
    let elsewhere = "elsewhere".parse().expect("a name");
    assert_eq!(judge(&found, &elsewhere, Some((reservation, operation)), RIPE, HORIZON), Verdict::Unknown);
}

#[test]
fn what_an_operation_works_on_is_busy_from_admission_to_release() {
    let mut world = World::admitted(PROVIDERS[0], Plot::default());
    let stray = resource(ResourceKind::Runtime, 99);
    let mut destroyed = false;
    loop {
        let over = world.run.operation.status.is_over();
        let verdict = judged(&stray, &world.run, RIPE);
        assert_eq!(verdict == Verdict::Busy, !over, "{verdict:?} of {:?}", world.run);
        if !world.goes_on() {
            if destroyed {
                break;
            }
            world.destroy();
            destroyed = true;
        }
    }
}

#[test]
fn what_is_left_to_do_is_busy_even_if_nobody_does_it() {
    let mut run = completed(PROVIDERS[0]).run;
    let stray = resource(ResourceKind::Runtime, 99);
    run.reservation.intent = Intent::Destroy { at: run.reservation.updated_at, reason: None };
    assert_eq!(judged(&stray, &run, RIPE), Verdict::Busy);
    run.reservation.status = Status::InProgress;
    assert_eq!(judged(&stray, &run, RIPE), Verdict::Busy);
}

#[test]
fn an_instances_own_is_referenced_and_a_copy_of_it_is_not() {
    for capabilities in PROVIDERS {
        let mut run = completed(capabilities).run;
        for own in &run.reservation.resources {
            assert_eq!(judged(own, &run, RIPE), Verdict::Referenced);
        }
        let copy = resource(ResourceKind::Runtime, 99);
        assert_eq!(judged(&copy, &run, RIPE), Verdict::Sweep, "not on record");
        run.reservation.resources.push(copy.clone());
        assert_eq!(judged(&copy, &run, RIPE), Verdict::Sweep, "an extra copy on record");
    }
}

#[test]
fn nothing_is_swept_before_it_was_seen_twice_and_is_old_enough() {
    let stray = resource(ResourceKind::Runtime, 99);
    let short = HORIZON.saturating_sub(Duration::from_micros(1));
    for run in [completed(PROVIDERS[0]).run, released(PROVIDERS[0]).run] {
        assert_eq!(judged(&stray, &run, Sighting::FIRST), Verdict::SeenOnce);
        assert_eq!(judged(&stray, &run, Sighting { passes: 1, age: 9 * HORIZON }), Verdict::SeenOnce);
        assert_eq!(judged(&stray, &run, Sighting { passes: 9, age: short }), Verdict::TooYoung);
        assert_eq!(judged(&stray, &run, RIPE), Verdict::Sweep);
    }
    for verdict in Verdict::ALL {
        let counted = matches!(verdict, Verdict::SeenOnce | Verdict::TooYoung | Verdict::Sweep);
        assert_eq!(verdict.is_unreferenced(), counted);
    }
}

fn sweep(run: &Run, held: Epoch, found: &[Resource]) -> Result<freehold_domain::run::Change, Refused> {
    let at = run.reservation.updated_at;
    swept(run, held, found, LeakId::mint(1, [1; 10]), &commission(90, at.plus(DEADLINE)), at)
}

#[test]
fn a_sweep_judged_under_another_epoch_is_fenced() {
    let run = completed(PROVIDERS[0]).run;
    let current = run.reservation.epoch;
    for held in [Epoch::new(current.get() - 1), current.next()] {
        let refused = sweep(&run, held, &[resource(ResourceKind::Runtime, 99)]);
        assert!(matches!(refused, Err(Refused::Fenced(_))), "{refused:?}");
    }
}

#[test]
fn a_sweep_is_refused_wherever_something_is_left_to_do() {
    let stray = [resource(ResourceKind::Runtime, 99)];
    let refused = |run: &Run, found: &[Resource], why: &str| {
        let result = sweep(run, run.reservation.epoch, found);
        assert!(matches!(result, Err(Refused::Illegal(_))), "{why}: {result:?}");
    };
    refused(&World::admitted(PROVIDERS[0], Plot::default()).run, &stray, "an operation is at work");
    let mut world = completed(PROVIDERS[0]);
    let mut run = world.run.clone();
    refused(&run, &[], "there is nothing to sweep");
    for own in run.reservation.resources.clone() {
        refused(&run, &[stray[0].clone(), own], "it is the instance's own");
    }
    run.reservation.intent = Intent::Destroy { at: run.reservation.updated_at, reason: None };
    refused(&run, &stray, "it is to be destroyed");
    run.reservation.status = Status::InProgress;
    refused(&run, &stray, "it is not settled");
    world.destroy();
    refused(&world.run, &stray, "it is being destroyed");
    let mut world = released(PROVIDERS[0]);
    world.appear(ResourceKind::Base);
    world.sweep(&stray);
    refused(&world.run, &stray, "a sweep is at work");
}

#[test]
fn what_is_found_goes_on_record_behind_what_is_there() {
    for capabilities in PROVIDERS {
        let run = completed(capabilities).run;
        let found = [resource(ResourceKind::Runtime, 98), resource(ResourceKind::Storage, 99)];
        let change = sweep(&run, run.reservation.epoch, &found).expect("it may be swept");
        let known = run.reservation.resources.len();
        assert_eq!(change.run.reservation.resources[..known], run.reservation.resources[..]);
        assert_eq!(change.run.reservation.resources[known..], found);
        assert_eq!(change.run.reservation.epoch, run.reservation.epoch.next());
        assert_eq!(
            (&change.route, &change.leak, change.run.reservation.check_at),
            (&None, &None, run.reservation.check_at)
        );
        assert_eq!(change.events.iter().map(|event| event.kind).collect::<Vec<_>>(), [EventKind::ResourceAdopted]);
    }
}

#[test]
fn a_sweep_after_a_release_ends_with_nothing_there_and_its_leak_closed() {
    for capabilities in PROVIDERS {
        let mut world = released(capabilities);
        let status = world.run.reservation.status;
        let sealed_at = world.run.reservation.sealed_at;
        // A second sweep of the same instance finds the seal in place.
        for _ in 0..2 {
            let found: Vec<_> = ResourceKind::ALL.into_iter().map(|kind| world.appear(kind)).collect();
            world.sweep(&found);
            assert!(world.leaked, "what is found after a release is a leak");
            world = world.settled();
            assert_eq!(world.run.operation.status, OperationStatus::Succeeded);
            assert_eq!(world.run.operation.kind, OperationKind::Sweep);
            assert!(!world.leaked && world.live(ResourceKind::Base) == 0, "nothing is left");
            let reservation = &world.run.reservation;
            assert_eq!((reservation.status, reservation.sealed_at), (status, sealed_at));
            assert!(
                reservation.resources.is_empty() && reservation.check_at == freehold_domain::time::Timestamp::NEVER
            );
            assert_eq!(world.told, [EventKind::ResourceLeaked, EventKind::OrphanRemoved]);
            world.told.clear();
        }
    }
}

#[test]
fn a_sweep_after_every_call_was_refused_is_proven_by_a_look_all_the_same() {
    for capabilities in PROVIDERS {
        let mut world = released(capabilities);
        world.run.reservation.unanswered = 0;
        world.run.reservation.last_sent_at = None;
        let change = sweep(&world.run, world.run.reservation.epoch, &[resource(ResourceKind::Runtime, 9)]);
        let reservation = change.expect("a lawful sweep").run.reservation;
        assert!(reservation.unanswered > 0 && reservation.last_sent_at.is_some(), "{reservation:?}");
    }
}

#[test]
fn a_sweep_of_a_complete_instance_leaves_its_own_and_everything_else_as_it_was() {
    for capabilities in PROVIDERS {
        let mut world = completed(capabilities);
        let before = world.run.reservation.clone();
        let route = world.route.clone();
        let found = [
            world.appear(ResourceKind::Runtime),
            world.appear(ResourceKind::Base),
            world.appear(ResourceKind::Runtime),
        ];
        world.told.clear();
        world.sweep(&found);
        let world = world.settled();
        let after = &world.run.reservation;
        assert_eq!((&after.resources, after.power, after.status), (&before.resources, Power::On, Status::Completed));
        assert_eq!((after.check_at, after.recoveries, &world.route), (before.check_at, before.recoveries, &route));
        assert!(ResourceKind::ALL.iter().all(|kind| world.live(*kind) == 1));
        assert_eq!(world.told, [EventKind::ResourceAdopted, EventKind::OrphanRemoved]);
    }
}

#[test]
fn a_kind_that_a_complete_instance_has_none_of_is_kept_on_record() {
    let mut world = completed(PROVIDERS[0]);
    let volume = world.run.reservation.resource(ResourceKind::Storage).cloned().expect("it has one");
    world.run.reservation.resources.retain(|known| !known.same_thing(&volume));
    world.sweep(std::slice::from_ref(&volume));
    let world = world.settled();
    assert_eq!(world.run.reservation.resource(ResourceKind::Storage), Some(&volume));
    assert_eq!((world.live(ResourceKind::Storage), world.acts), (1, 0), "nothing is removed");
    assert_eq!(judged(&volume, &world.run, RIPE), Verdict::Referenced);
}

#[test]
fn a_sweep_survives_every_single_fault() {
    for capabilities in PROVIDERS {
        for make in [completed, released] {
            for at in 0..ACTS_MAX {
                for fault in Fault::ALL {
                    let mut world = make(capabilities).with_plot(Plot { faults: vec![(at, fault)], ..Plot::default() });
                    let found = [world.appear(ResourceKind::Storage), world.appear(ResourceKind::Runtime)];
                    world.sweep(&found);
                    let world = world.settled();
                    assert_eq!(world.run.operation.status, OperationStatus::Succeeded, "{fault:?} at {at}");
                    let own = usize::from(world.run.reservation.status == Status::Completed);
                    assert_eq!(world.live(ResourceKind::Runtime), own, "{fault:?} at {at}");
                    assert!(world.run.reservation.extra().is_none() && !world.leaked);
                }
            }
        }
    }
}

#[test]
fn a_removal_that_is_refused_for_ever_is_tried_ever_more_seldom() {
    for make in [completed, released] {
        let stuck = Some((Step::Remove, Fault::Rejected, FOR_EVER));
        let mut world = make(PROVIDERS[0]).with_plot(Plot { stuck, ..Plot::default() });
        let found = [world.appear(ResourceKind::Runtime)];
        world.sweep(&found);
        let began = world.now;
        let world = world.settled();
        assert_eq!(world.run.operation.status, OperationStatus::Succeeded);
        assert!(world.now.since(began) > 30 * HORIZON / 2, "{:?}", world.now.since(began));
    }
}

/// A completed instance whose extra copy cannot be removed, in the middle of trying.
fn stuck() -> (World, Resource) {
    let plot = Plot { stuck: Some((Step::Remove, Fault::Rejected, FOR_EVER)), ..Plot::default() };
    let mut world = completed(PROVIDERS[1]).with_plot(plot);
    let extra = world.appear(ResourceKind::Runtime);
    world.sweep(std::slice::from_ref(&extra));
    while world.run.operation.step(Step::Remove).is_none_or(|record| record.attempts < 3) {
        assert!(world.goes_on(), "it goes on");
    }
    (world, extra)
}

#[test]
fn whatever_is_asked_for_takes_the_place_of_a_stuck_sweep() {
    for work in [Work::Stop, Work::Restart, Work::Recover, Work::Update(crate::common::spec(7))] {
        let (mut world, extra) = stuck();
        let kind = work.kind();
        world.begin(work);
        assert_eq!(world.run.operation.kind, kind);
        let mut world = world.settled();
        assert_eq!(world.run.operation.status, OperationStatus::Succeeded);
        assert_eq!(world.run.reservation.extra(), Some(&extra), "it stays on record");
        // The next pass sees it, and begins again.
        assert_eq!(judged(&extra, &world.run, RIPE), Verdict::Sweep);
        world.sweep(std::slice::from_ref(&extra));
        let world = world.with_plot(Plot::default()).settled();
        assert_eq!((world.run.reservation.extra(), world.live(ResourceKind::Runtime)), (None, 1));
    }
    let (mut world, _) = stuck();
    world.destroy();
    assert!(matches!(world.settled().run.reservation.status, Status::Released { .. }));
}

#[test]
fn a_start_takes_the_place_of_a_stuck_sweep_unless_the_instance_is_up() {
    let (mut world, _) = stuck();
    let ask = |run: &Run| begun(run, Work::Start, &commission(91, run.operation.deadline), run.reservation.updated_at);
    assert_eq!(ask(&world.run), Ok(Begin::NothingToDo), "a sweep changes nothing about that");
    world.run.reservation.runtime = Some((RuntimeState::Exited("exit status 1".to_owned()), world.now));
    let Ok(Begin::Accepted(change)) = ask(&world.run) else { panic!("a start is accepted") };
    assert_eq!(
        change.replaced.map(|old| (old.kind, old.status)),
        Some((OperationKind::Sweep, OperationStatus::Cancelled))
    );
}

/// The twin of the stories above: a sweep that does what it must not is noticed.
#[test]
fn an_unsafe_sweep_is_noticed() {
    let noticed = |before: &Run, change: &freehold_domain::run::Change| {
        check_change(before, change).iter().any(|violation| violation.invariant == Invariant::SweepSafe)
    };
    let run = completed(PROVIDERS[0]).run;
    let good = sweep(&run, run.reservation.epoch, &[resource(ResourceKind::Runtime, 99)]).expect("it may be swept");
    assert!(!noticed(&run, &good));
    let mut reordered = good.clone();
    reordered.run.reservation.resources.reverse();
    assert!(noticed(&run, &reordered));
    let mut leaked = good.clone();
    leaked.leak = Some(LeakChange::Resolve);
    assert!(!noticed(&run, &leaked), "only opening one is");
    leaked.leak = Some(LeakChange::Open { id: LeakId::mint(1, [1; 10]), reason: String::new() });
    assert!(noticed(&run, &leaked));
    let mut stopped = good.clone();
    stopped.run.reservation.power = Power::Off;
    assert!(noticed(&run, &stopped));
    let mut unsettled = run.clone();
    unsettled.reservation.status = Status::InProgress;
    assert!(noticed(&unsettled, &good));
    let mut at_work = run.clone();
    at_work.operation.status = OperationStatus::Running;
    assert!(noticed(&at_work, &good));
    let mut robbed = good.clone();
    robbed.run.reservation.resources.remove(0);
    assert!(noticed(&good.run, &robbed), "in its later steps too");
}
