//! What operators and billing are told beside the transitions themselves: when it is so, and when it is not.

use freehold_domain::event::EventKind::{
    self, DestroyPending, ProvisioningFailed, ReservationCompleted, ReservationFailed, ReservationReleased,
    ReservationRepairRequired, SubscriptionBootstrapQuarantined,
};
use freehold_domain::operation::{OperationKind, Step};
use freehold_domain::plan::Capabilities;
use freehold_domain::reservation::Status;

use crate::world::{Fault, Moment, PROVIDERS, Plot, World};

/// More than any act number of a provision.
const ACTS_MAX: u32 = 24;

fn count(world: &World, kind: EventKind) -> usize {
    world.told.iter().filter(|told| **told == kind).count()
}

/// Where in the trail the first one of a kind is.
fn place(world: &World, kind: EventKind) -> usize {
    world.told.iter().position(|told| *told == kind).unwrap_or_else(|| panic!("{kind:?} is not in {:?}", world.told))
}

fn stuck(capabilities: Capabilities, step: Step, fault: Fault) -> World {
    let plot = Plot { stuck: Some((step, fault, 40)), ..Plot::default() };
    World::admitted(capabilities, plot).settled()
}

#[test]
fn a_provision_that_failed_for_good_is_told_once_with_its_release() {
    for capabilities in PROVIDERS {
        for (step, fault) in [(Step::Base, Fault::Rejected), (Step::Runtime, Fault::NotSent)] {
            let world = stuck(capabilities, step, fault);
            assert!(matches!(world.run.reservation.status, Status::Released { .. }));
            assert_eq!(count(&world, ProvisioningFailed), 1, "{:?}", world.told);
            assert_eq!(place(&world, ProvisioningFailed), place(&world, ReservationReleased) + 1);
        }
        let complete = World::admitted(capabilities, Plot::default()).settled();
        assert_eq!(count(&complete, ProvisioningFailed), 0);
        // Destroying what is being made is no failure of it.
        for moment in Moment::ALL {
            let plot = Plot { destroy: Some((2, moment)), ..Plot::default() };
            let world = World::admitted(capabilities, plot).settled();
            assert_eq!(count(&world, ProvisioningFailed), 0, "{moment:?}: {:?}", world.told);
        }
    }
}

#[test]
fn an_active_row_without_a_subscription_is_told_where_its_provision_gives_up() {
    for capabilities in PROVIDERS {
        for fault in [Fault::NotSent, Fault::Rejected, Fault::UnknownNever] {
            let world = stuck(capabilities, Step::Subscribe, fault);
            assert_eq!(count(&world, SubscriptionBootstrapQuarantined), 1, "{fault:?}: {:?}", world.told);
            assert_eq!(place(&world, SubscriptionBootstrapQuarantined), place(&world, ReservationFailed) + 1);
            assert!(world.route.as_ref().is_none_or(|route| !route.is_live()), "it was never routable");
        }
        // Before there is a row there is nothing without a subscription.
        let world = stuck(capabilities, Step::Runtime, Fault::NotSent);
        assert_eq!(count(&world, SubscriptionBootstrapQuarantined), 0, "{:?}", world.told);
    }
}

#[test]
fn a_subscription_without_a_completion_is_told_and_completed() {
    for capabilities in PROVIDERS {
        let mut told = 0;
        for at in 0..ACTS_MAX {
            for fault in Fault::CRASHES {
                let plot = Plot { faults: vec![(at, fault)], ..Plot::default() };
                let world = World::admitted(capabilities, plot).settled();
                assert_eq!(world.run.reservation.status, Status::Completed);
                let required = count(&world, ReservationRepairRequired);
                told += required;
                assert!(required <= 1, "{fault:?} at {at}: {:?}", world.told);
                if required == 1 {
                    assert!(place(&world, ReservationRepairRequired) < place(&world, ReservationCompleted));
                }
            }
        }
        // The crashes after the intent to start the subscription, and no others.
        assert_eq!(told, Fault::CRASHES.len() - 1, "on {capabilities:?}");
        let smooth = World::admitted(capabilities, Plot::default()).settled();
        assert_eq!(count(&smooth, ReservationRepairRequired), 0, "{:?}", smooth.told);
    }
}

#[test]
fn a_destroy_that_outlives_its_first_executor_is_pending_once() {
    for capabilities in PROVIDERS {
        for (step, fault, tries) in [(Step::Remove, Fault::NotSent, 4), (Step::EndSubscription, Fault::UnknownNever, 2)]
        {
            let mut world = World::completed(capabilities, Plot::default());
            world.destroy();
            let world = world.with_plot(Plot { stuck: Some((step, fault, tries)), ..Plot::default() }).settled();
            assert_eq!(world.run.operation.kind, OperationKind::Destroy);
            assert_eq!(count(&world, DestroyPending), 1, "{step} {fault:?}: {:?}", world.told);
        }
        let mut world = World::completed(capabilities, Plot::default());
        world.destroy();
        let world = world.settled();
        let waits_for_the_horizon = !capabilities.seals;
        assert_eq!(count(&world, DestroyPending), usize::from(waits_for_the_horizon), "{:?}", world.told);
    }
}
