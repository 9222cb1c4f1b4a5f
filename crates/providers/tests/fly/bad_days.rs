//! What Fly does on bad days, and what the adapter makes of each: its error, and whether it may be tried again.

use std::time::Duration;

use freehold_domain::resource::{Custody, Outcome, RejectionClass, Resource, ResourceKind, RuntimeState};
use freehold_engine::ports::{Blueprint, Made, Order, Provider};
use freehold_flysim::{Endpoint, Fault, Options, Rule};
use freehold_providers::fly::FlyProvider;

use crate::lab::{Lab, blueprint, ident, idents, instant, options};

/// Nothing has an answer in the time that calls have here.
const LONG_MS: u64 = 10_000;

impl Lab {
    async fn make(&self, kind: ResourceKind, known: &[Resource]) -> Outcome<Made> {
        self.make_as(&blueprint(), kind, known).await
    }

    async fn make_as(&self, blueprint: &Blueprint, kind: ResourceKind, known: &[Resource]) -> Outcome<Made> {
        let order = Order { ident: &self.ident, blueprint, resources: known };
        match kind {
            ResourceKind::Base => self.provider.ensure_base(&order).await,
            ResourceKind::Storage => self.provider.ensure_storage(&order).await,
            ResourceKind::Runtime => self.provider.ensure_runtime(&order).await,
        }
    }

    async fn make_up_to(&self, last: ResourceKind) -> Vec<Resource> {
        let mut known = Vec::new();
        for kind in ResourceKind::ALL.into_iter().filter(|kind| *kind <= last) {
            known.push(made(self.make(kind, &known).await));
        }
        known
    }
}

fn made(outcome: Outcome<Made>) -> Resource {
    match outcome {
        Outcome::Done(made) => made.resource,
        other => panic!("it was not made: {other:?}"),
    }
}

fn class(outcome: Outcome<Made>) -> RejectionClass {
    match outcome {
        Outcome::Rejected(rejection) => rejection.class,
        other => panic!("it was not refused: {other:?}"),
    }
}

fn unknown(outcome: &Outcome<Made>) -> bool {
    matches!(outcome, Outcome::Unknown(_))
}

#[tokio::test]
async fn a_wrong_token_is_a_sure_refusal_and_no_proof_of_absence() {
    let lab = Lab::open(instant()).await;
    lab.make_up_to(ResourceKind::Runtime).await;
    lab.fly.revoke_token("flysim");
    assert_eq!(class(lab.make(ResourceKind::Base, &[]).await), RejectionClass::Unauthorized);
    let blind = lab.provider.observe(&lab.ident).await.expect_err("nothing can be seen");
    assert!(blind.to_string().contains("is the token still valid?"), "{blind}");
    assert!(!matches!(lab.provider.seal(&lab.ident).await, Outcome::Done(())), "what cannot be seen is not sealed");
    assert_eq!(lab.fly.world().tally(&lab.app).machines_live, 1);
}

#[tokio::test]
async fn an_api_that_cannot_be_reached_was_surely_not_asked() {
    let lab = Lab::open(instant()).await;
    let url = lab.fly.api_url();
    lab.fly.stop().await;
    let provider = FlyProvider::new(options(url), idents(1)).expect("opens");
    let order = Order { ident: &lab.ident, blueprint: &blueprint(), resources: &[] };
    let outcome = provider.ensure_base(&order).await;
    assert!(matches!(&outcome, Outcome::NotSent(why) if why.contains("cannot be reached")), "{outcome:?}");
    assert!(provider.observe(&lab.ident).await.is_err());
}

#[tokio::test]
async fn a_certificate_that_is_none_ends_before_anything_is_sent() {
    let lab = Lab::open(instant()).await;
    let provider =
        FlyProvider::new(options(lab.fly.api_url().replace("http://", "https://")), idents(1)).expect("opens");
    let order = Order { ident: &lab.ident, blueprint: &blueprint(), resources: &[] };
    let outcome = provider.ensure_base(&order).await;
    assert!(matches!(outcome, Outcome::NotSent(_)), "{outcome:?}");
    assert_eq!(lab.fly.world().calls(Endpoint::CreateApp), 0);
}

#[tokio::test]
async fn a_token_that_no_header_takes_is_refused_at_the_start() {
    let wrong =
        freehold_providers::fly::FlyOptions { token: "a\nb".to_owned(), ..options("http://127.0.0.1:1".to_owned()) };
    let why = FlyProvider::new(wrong, idents(1)).expect_err("no header takes it");
    assert!(!why.contains("a\nb"), "and it is not shown: {why}");
}

#[tokio::test]
async fn an_unknown_region_and_an_unknown_image_can_never_work() {
    let lab = Lab::open(instant()).await;
    let known = lab.make_up_to(ResourceKind::Base).await;
    let nowhere = Blueprint { region: Some("atlantis".to_owned()), ..blueprint() };
    assert_eq!(class(lab.make_as(&nowhere, ResourceKind::Storage, &known).await), RejectionClass::Invalid);
    let missing = Blueprint { image: Some("missing/image:1".to_owned()), ..blueprint() };
    assert_eq!(class(lab.make_as(&missing, ResourceKind::Runtime, &known).await), RejectionClass::Invalid);
    let none = Blueprint { image: None, ..blueprint() };
    assert!(lab.provider.accepts(&none).is_err());
}

#[tokio::test]
async fn an_app_name_that_somebody_else_has_is_theirs() {
    let lab = Lab::open(instant()).await;
    lab.fly.plant_app("others", &lab.app);
    assert_eq!(class(lab.make(ResourceKind::Base, &[]).await), RejectionClass::ConflictForeign);
    let seen = lab.provider.observe(&lab.ident).await.expect("it answers");
    assert_eq!(seen.foreign().map(|base| base.id.as_str()), Some(lab.app.as_str()));
    assert!(!matches!(lab.provider.seal(&lab.ident).await, Outcome::Done(())));
}

#[tokio::test]
async fn a_machine_of_somebody_elses_keeps_our_app_standing() {
    let lab = Lab::open(instant()).await;
    lab.make_up_to(ResourceKind::Base).await;
    lab.fly.plant_machine(&lab.app, "by-hand", &[]).expect("it is planted");
    let outcome = lab.provider.seal(&lab.ident).await;
    assert!(matches!(&outcome, Outcome::Rejected(refused) if refused.class == RejectionClass::ConflictForeign));
    assert_eq!(lab.fly.world().calls(Endpoint::DeleteApp), 0, "deleting it would delete what is theirs");
}

#[tokio::test]
async fn a_machine_under_our_name_with_another_mac_is_not_adopted() {
    let lab = Lab::open(instant()).await;
    let known = lab.make_up_to(ResourceKind::Base).await;
    let forged = ident(&idents(9), 1);
    lab.fly.plant_machine(&lab.app, &forged.name, &forged.tags.pairs()).expect("it is planted");
    assert_eq!(class(lab.make(ResourceKind::Runtime, &known).await), RejectionClass::ConflictForeign);
}

#[tokio::test]
async fn what_is_deleted_by_hand_is_seen_to_be_gone() {
    let lab = Lab::open(instant()).await;
    let known = lab.make_up_to(ResourceKind::Runtime).await;
    assert!(lab.fly.vanish(&known[2].id));
    let seen = lab.provider.observe(&lab.ident).await.expect("it answers");
    assert_eq!((seen.runtime.clone(), seen.found.len()), (RuntimeState::Missing, 2), "{seen:?}");
    assert!(seen.reference.contains("fly-request-id"), "{seen:?}");
    let order = Order { ident: &lab.ident, blueprint: &blueprint(), resources: &known };
    assert!(matches!(lab.provider.stop(&order).await, Outcome::NotSent(_)));
    let again = made(lab.provider.start(&order).await);
    assert!(!again.same_thing(&known[2]), "it is made again, over its own volume");
    assert_eq!(lab.fly.world().tally(&lab.app).machines_live, 1);
    assert_eq!(lab.provider.destroy(&lab.ident, &known[2]).await, Outcome::Done(()));
}

#[tokio::test]
async fn a_volume_that_went_from_under_its_machine_is_seen_to_be_gone() {
    let lab = Lab::open(instant()).await;
    let known = lab.make_up_to(ResourceKind::Runtime).await;
    assert!(lab.fly.vanish(&known[1].id));
    let seen = lab.provider.observe(&lab.ident).await.expect("it answers");
    assert!(!seen.found.iter().any(|found| found.resource.kind == ResourceKind::Storage), "{seen:?}");
    assert_eq!(lab.provider.destroy(&lab.ident, &known[1]).await, Outcome::Done(()));
}

#[tokio::test]
async fn of_two_volumes_of_ours_the_second_is_an_extra() {
    let lab = Lab::open(instant()).await;
    let known = lab.make_up_to(ResourceKind::Runtime).await;
    let name = lab.fly.world().volumes().map(|(_, volume)| volume.name.clone()).next().expect("there is one");
    let extra = lab.fly.plant_volume(&lab.app, &name).expect("names are not unique");
    let seen = lab.provider.observe(&lab.ident).await.expect("it answers");
    let volumes: Vec<_> = seen.found.iter().filter(|found| found.resource.kind == ResourceKind::Storage).collect();
    assert!(volumes.iter().all(|found| found.custody == Custody::Ours));
    assert_eq!(volumes.iter().map(|found| found.resource.id.as_str()).collect::<Vec<_>>(), [&known[1].id, &extra]);
}

#[tokio::test]
async fn a_clock_that_is_an_hour_off_changes_nothing() {
    let lab = Lab::open(instant()).await;
    lab.fly.rule(Rule::always(Endpoint::Any, Fault::ClockOff { seconds: 3_600 }));
    let known = lab.make_up_to(ResourceKind::Runtime).await;
    let seen = lab.provider.observe(&lab.ident).await.expect("it answers");
    assert_eq!(seen.found.len(), known.len());
}

#[tokio::test]
async fn whatever_is_no_answer_of_the_api_proves_nothing() {
    let faults = [
        Fault::Html { status: 200, effect: true },
        Fault::Html { status: 404, effect: false },
        Fault::Html { status: 403, effect: false },
        Fault::Html { status: 502, effect: true },
        Fault::TruncatedJson,
        Fault::Huge { bytes: 50 << 20 },
        Fault::Cut { effect: true },
        Fault::Cut { effect: false },
        Fault::Timeout { effect: true, cap_ms: LONG_MS },
        Fault::status(500, true),
        Fault::status(503, false),
        Fault::status(408, true),
    ];
    for fault in faults {
        let lab = Lab::open(instant()).await;
        let known = lab.make_up_to(ResourceKind::Storage).await;
        lab.fly.rule(Rule::once(Endpoint::CreateMachine, fault.clone()));
        let outcome = lab.make(ResourceKind::Runtime, &known).await;
        assert!(unknown(&outcome), "{fault:?}: {outcome:?}");
        lab.fly.rule(Rule::once(Endpoint::ListMachines, fault.clone()));
        assert!(lab.provider.observe(&lab.ident).await.is_err(), "{fault:?} is no look");
        // The next one finds what the first one made, or makes it.
        made(lab.make(ResourceKind::Runtime, &known).await);
        assert_eq!(lab.fly.world().tally(&lab.app).machines_made, 1, "{fault:?}");
    }
}

#[tokio::test]
async fn what_is_limited_or_busy_is_surely_not_done_and_may_be_tried_again() {
    for fault in [Fault::rate_limited(1), Fault::conflict()] {
        let lab = Lab::open(instant()).await;
        let known = lab.make_up_to(ResourceKind::Storage).await;
        lab.fly.rule(Rule::once(Endpoint::CreateMachine, fault));
        assert!(matches!(lab.make(ResourceKind::Runtime, &known).await, Outcome::NotSent(_)));
        made(lab.make(ResourceKind::Runtime, &known).await);
    }
}

#[tokio::test]
async fn no_room_names_the_region_in_all_its_wordings() {
    let wordings = [
        Fault::capacity(),
        Fault::refusal(403, "your organization is over the allowed quota of machines", ""),
        Fault::refusal(400, "no capacity available", ""),
        Fault::refusal(409, "insufficient memory on this host", ""),
        Fault::refusal(422, "try elsewhere", "insufficient_capacity"),
        Fault::refusal(412, "the volume's host is full", "volume_placement_capacity"),
    ];
    for wording in wordings {
        let lab = Lab::open(instant()).await;
        let known = lab.make_up_to(ResourceKind::Storage).await;
        lab.fly.rule(Rule::once(Endpoint::CreateMachine, wording));
        let full = RejectionClass::Capacity { region: Some("ams".to_owned()) };
        assert_eq!(class(lab.make(ResourceKind::Runtime, &known).await), full);
    }
}

#[tokio::test]
async fn an_app_that_cannot_be_seen_yet_is_not_taken_for_absent() {
    let lab = Lab::open(instant()).await;
    lab.make_up_to(ResourceKind::Base).await;
    lab.fly.rule(Rule::once(Endpoint::GetApp, Fault::refusal(404, "app not found", "")));
    assert!(lab.provider.observe(&lab.ident).await.is_err(), "the list names it");
    lab.fly.rule(Rule::once(Endpoint::GetApp, Fault::refusal(404, "app not found", "")));
    assert!(!matches!(lab.provider.seal(&lab.ident).await, Outcome::Done(())));
}

#[tokio::test]
async fn a_seal_is_done_only_once_the_app_is_gone() {
    let lab = Lab::open(Options { app_gone: Duration::from_millis(400), ..instant() }).await;
    lab.make_up_to(ResourceKind::Runtime).await;
    assert_eq!(lab.provider.seal(&lab.ident).await, Outcome::Done(()));
    let world = lab.fly.world();
    assert!(world.apps.is_empty(), "{:?}", world.apps);
    assert_eq!((world.tally(&lab.app).machines_live, world.tally(&lab.app).volumes_live), (0, 0));
}

#[tokio::test]
async fn secrets_are_in_the_vault_and_in_nothing_that_can_be_read_back() {
    let lab = Lab::open(instant()).await;
    lab.make_up_to(ResourceKind::Runtime).await;
    assert_eq!(lab.fly.secret(&lab.app, "TOKEN").as_deref(), Some("hunter2"));
    let world = serde_json::to_string(&lab.fly.world()).expect("it is JSON");
    assert!(!world.contains("hunter2"), "{world}");
}

#[tokio::test]
async fn our_own_pace_keeps_within_what_fly_allows() {
    let lab = Lab::open(Options { rate_limits: true, ..instant() }).await;
    let paced = freehold_providers::fly::FlyOptions { changes_per_second: 1, ..options(lab.fly.api_url()) };
    let provider = FlyProvider::new(paced, idents(1)).expect("opens");
    let order = Order { ident: &lab.ident, blueprint: &blueprint(), resources: &[] };
    for _ in 0..6 {
        drop(provider.ensure_base(&order).await);
    }
    let refused = lab.fly.world().statuses.get(&429).copied().unwrap_or_default();
    // Two calls can come closer on their way; six without a pace are refused three times.
    assert!(refused <= 1, "the API had to refuse {refused}");
}
