//! Evidence can be had only from the facts that prove it. Every combination of the facts that matter is tried.

use std::time::Duration;

use freehold_domain::evidence::{
    ActiveInstanceExists, Lookup, NothingSent, OVERRIDE_REASON_BYTES_MAX, OperatorOverride, ProvenAbsent, Release,
    Sealed,
};
use freehold_domain::ids::LeakId;
use freehold_domain::operation::FailureCode;
use freehold_domain::owner::Context;
use freehold_domain::records::{CanonicalSuccess, RecordsView, SubscriptionStatus};
use freehold_domain::reservation::{Intent, Reservation, Resolution, Status};
use freehold_domain::resource::{Custody, Footprint, Found, Observation, ResourceKind, RuntimeState};
use freehold_domain::run::admitted;
use freehold_domain::time::Timestamp;

use crate::common::{START, bid, commission, instance, resource, row, subscription};

const HORIZON: Duration = Duration::from_secs(60);

fn fresh() -> Reservation {
    admitted(bid(1), &commission(1, START), START).run.reservation
}

fn at(seconds: u64) -> Timestamp {
    START.plus(Duration::from_secs(seconds))
}

fn lookup(seconds: u64, absent: bool) -> Lookup {
    Lookup { at: at(seconds), absent, detail: String::new() }
}

/// Every reservation that differs in what may be there.
fn footprints() -> Vec<Reservation> {
    let mut all = Vec::new();
    for unanswered in 0..=2 {
        for sealed_at in [None, Some(at(10))] {
            for has_resource in [false, true] {
                for looks in
                    [vec![], vec![lookup(5, true)], vec![lookup(10, true)], vec![lookup(10, true), lookup(20, false)]]
                {
                    let mut reservation = fresh();
                    reservation.unanswered = unanswered;
                    reservation.last_sent_at = (unanswered > 0 || has_resource).then_some(at(1));
                    reservation.sealed_at = sealed_at;
                    reservation.lookups = looks;
                    reservation.resources.extend(has_resource.then(|| resource(ResourceKind::Base, 1)));
                    all.push(reservation);
                }
            }
        }
    }
    all
}

#[test]
fn nothing_sent_needs_a_reservation_that_nothing_can_come_of() {
    for reservation in footprints() {
        let untouched =
            reservation.unanswered == 0 && reservation.resources.is_empty() && reservation.sealed_at.is_none();
        assert_eq!(NothingSent::establish(&reservation).is_some(), untouched, "{reservation:?}");
        assert_eq!(reservation.footprint() == Footprint::Untouched, untouched);
    }
}

#[test]
fn sealed_needs_the_seal_and_a_later_look_that_found_nothing() {
    for reservation in footprints() {
        let sealed = reservation.sealed_at == Some(at(10));
        let looked = reservation.lookups.last().is_some_and(|last| last.absent && last.at >= at(10));
        let proven = sealed && looked && reservation.resources.is_empty();
        assert_eq!(Sealed::establish(&reservation).is_some(), proven, "{reservation:?}");
    }
}

#[test]
fn absence_needs_two_looks_a_horizon_apart_with_nothing_found_between() {
    let last_send = at(30);
    for (looks, proven, story) in [
        (vec![], false, "nobody looked"),
        (vec![lookup(90, true)], false, "one look is none"),
        (vec![lookup(30, true), lookup(90, true)], true, "a horizon apart"),
        (vec![lookup(30, true), lookup(89, true)], false, "too close together"),
        (vec![lookup(29, true), lookup(90, true)], false, "the first was asked while a send was possible"),
        (vec![lookup(29, true), lookup(30, true), lookup(90, true)], true, "an early look does no harm"),
        (vec![lookup(30, true), lookup(60, false), lookup(90, true)], false, "something was found between"),
        (vec![lookup(30, true), lookup(90, false)], false, "the last found something"),
        (vec![lookup(30, true), lookup(60, true), lookup(90, true)], true, "the first and the last count"),
    ] {
        let mut reservation = fresh();
        reservation.unanswered = 1;
        reservation.lookups = looks;
        assert_eq!(ProvenAbsent::establish(&reservation, last_send, HORIZON).is_some(), proven, "{story}");
        reservation.resources.push(resource(ResourceKind::Runtime, 1));
        assert!(ProvenAbsent::establish(&reservation, last_send, HORIZON).is_none(), "{story}, and one on record");
    }
}

#[test]
fn without_a_horizon_two_looks_are_still_two_moments() {
    let mut reservation = fresh();
    reservation.unanswered = 1;
    reservation.lookups = vec![lookup(30, true), lookup(30, true)];
    assert!(ProvenAbsent::establish(&reservation, at(30), Duration::ZERO).is_none());
    reservation.lookups.push(lookup(31, true));
    assert!(ProvenAbsent::establish(&reservation, at(30), Duration::ZERO).is_some());
}

#[test]
fn another_instance_is_evidence_only_before_anything_was_sent() {
    let another = RecordsView { row: Some(row(instance(2), START)), ..RecordsView::default() };
    for reservation in footprints() {
        let untouched = reservation.footprint() == Footprint::Untouched;
        assert_eq!(ActiveInstanceExists::establish(&reservation, &another).is_some(), untouched);
    }
    let itself = RecordsView { row: Some(row(instance(1), START)), ..RecordsView::default() };
    assert!(ActiveInstanceExists::establish(&fresh(), &itself).is_none(), "an instance is not in its own way");
    let mut gone = another.clone();
    gone.row.as_mut().expect("a row").destroyed_at = Some(START);
    assert!(ActiveInstanceExists::establish(&fresh(), &gone).is_none(), "a destroyed one is in nobody's way");
    let mut elsewhere = another;
    elsewhere.row.as_mut().expect("a row").context =
        Context::new("user:bob".parse().expect("an owner"), None).expect("a context");
    assert!(ActiveInstanceExists::establish(&fresh(), &elsewhere).is_none(), "nor is one of another context");
    assert!(ActiveInstanceExists::establish(&fresh(), &RecordsView::default()).is_none());
}

#[test]
fn an_operators_word_needs_words() {
    let leak = LeakId::mint(START.as_millis(), [3; 10]);
    assert!(OperatorOverride::establish("", leak).is_none());
    assert!(OperatorOverride::establish(" \n\t", leak).is_none());
    assert!(OperatorOverride::establish(&"x".repeat(OVERRIDE_REASON_BYTES_MAX + 1), leak).is_none());
    let said = OperatorOverride::establish(&"x".repeat(OVERRIDE_REASON_BYTES_MAX), leak).expect("long enough");
    assert_eq!(said.leak(), leak);
}

#[test]
fn canonical_success_needs_an_active_row_and_an_active_subscription_of_one_instance() {
    let mut over = row(instance(1), START);
    over.destroyed_at = Some(START);
    let mut ended = subscription(instance(1), START);
    ended.status = SubscriptionStatus::Ended;
    let rows = [None, Some(row(instance(1), START)), Some(over)];
    let subscriptions =
        [None, Some(subscription(instance(1), START)), Some(ended), Some(subscription(instance(2), START))];
    for (r, row) in rows.iter().enumerate() {
        for (s, subscription) in subscriptions.iter().enumerate() {
            let view = RecordsView { row: row.clone(), subscription: subscription.clone(), closed: false };
            let proof = CanonicalSuccess::establish(&view);
            assert_eq!(proof.map(|proof| proof.instance()), (r == 1 && s == 1).then(|| instance(1)));
        }
    }
}

#[test]
fn a_release_says_the_strongest_true_reason() {
    let nothing = |reservation: &Reservation| NothingSent::establish(reservation).map(Release::NothingSent);
    let untouched = fresh();
    let evidence = nothing(&untouched).expect("untouched");
    assert_eq!(evidence.resolution(&untouched, false), Resolution::FailedBeforeProviderWork);
    assert_eq!(evidence.resolution(&untouched, true), Resolution::ProviderRejected);

    // Given up with work started, and everything that was made is surely removed.
    let mut removed = fresh();
    removed.status = Status::NeedsReconciliation { code: FailureCode::InstanceRecordInsertFailed };
    removed.last_sent_at = Some(START);
    for was_rejected in [false, true] {
        let evidence = nothing(&removed).expect("nothing is in doubt");
        assert_eq!(evidence.resolution(&removed, was_rejected), Resolution::AbsenceProven);
    }
    removed.intent = Intent::Destroy { at: START, reason: None };
    assert_eq!(nothing(&removed).expect("untouched").resolution(&removed, true), Resolution::InstanceDestroyed);
}

#[test]
fn what_an_instance_stands_on_is_lost_only_where_a_conclusive_look_does_not_find_it() {
    let mut reservation = admitted(bid(1), &commission(1, START), START).run.reservation;
    let own = ResourceKind::ALL.map(|kind| resource(kind, 1));
    reservation.resources = own.to_vec();
    let look = |conclusive, without: Option<ResourceKind>, custody| {
        let found = own.iter().filter(|resource| Some(resource.kind) != without);
        let found = found.map(|resource| Found { resource: resource.clone(), custody }).collect();
        Observation { conclusive, found, runtime: RuntimeState::Running, reference: String::new() }
    };
    for kind in ResourceKind::ALL {
        let gone = reservation.lost(&look(true, Some(kind), Custody::Ours)).map(|resource| resource.kind);
        assert_eq!(gone, Some(kind).filter(|kind| *kind != ResourceKind::Runtime), "a runtime can be made anew");
        assert_eq!(reservation.lost(&look(false, Some(kind), Custody::Ours)), None, "not seen is not gone");
    }
    assert_eq!(reservation.lost(&look(true, None, Custody::Ours)), None);
    let foreign = reservation.lost(&look(true, None, Custody::Foreign)).map(|resource| resource.kind);
    assert_eq!(foreign, Some(ResourceKind::Storage), "somebody else's in its place is not it");
    reservation.resources.retain(|resource| resource.kind != ResourceKind::Storage);
    assert_eq!(reservation.lost(&look(true, Some(ResourceKind::Storage), Custody::Ours)), None, "it never had one");
}
