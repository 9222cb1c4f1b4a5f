//! Records that do not answer, billing that does not, and instances that were there before the registry.

use std::time::Duration;

use freehold_domain::lease::Epoch;
use freehold_domain::operation::{FailureCode, OperationKind, Step, StepStatus};
use freehold_domain::plan::{Action, Capabilities, Names, Next, Patience, Situation, next};
use freehold_domain::records::{RecordsView, SubscriptionStatus};
use freehold_domain::reservation::{Intent, Status};
use freehold_domain::resource::{Rejection, RejectionClass, ResourceKind, RuntimeState};
use freehold_domain::run::{
    Begin, Finding, Note, Run, Settle, Settlement, Then, Work, WorkRefused, admitted, begun, noted, settled, taken_in,
};
use freehold_domain::time::Timestamp;

use crate::common::{START, bid, commission, instance, resource, row, subscription};
use crate::world::{DEADLINE, PATIENCE, RETRY_MAX};

const CAPABILITIES: Capabilities = Capabilities {
    names: Names::Unique,
    seals: true,
    storage: false,
    logs: false,
    settle_horizon: Duration::from_secs(10),
};

fn deadline() -> Timestamp {
    START.plus(DEADLINE)
}

/// What to do with a run whose records say this, or nothing.
fn plan(run: &Run, records: Option<&RecordsView>, falls_back: bool, now: Timestamp) -> Next {
    next(&Situation {
        run,
        records,
        in_the_way: None,
        is_crowded: false,
        wants_storage: false,
        has_endpoint: true,
        billing_falls_back: falls_back,
        capabilities: CAPABILITIES,
        patience: Patience { ..PATIENCE },
        now,
    })
}

fn fresh() -> Run {
    admitted(bid(1), &commission(1, deadline()), START).run
}

/// A run whose infrastructure is there and ready.
fn standing() -> Run {
    let mut run = fresh();
    run.reservation.last_sent_at = Some(START);
    run.reservation.unanswered = 2;
    run.reservation.resources = vec![resource(ResourceKind::Base, 1), resource(ResourceKind::Runtime, 2)];
    run.reservation.runtime = Some((RuntimeState::Running, START));
    run
}

/// The run after a step was tried so often, and came to this each time.
fn tried(mut run: Run, step: Step, finding: &Finding, times: u32) -> Run {
    for _ in 0..times {
        let intend = Note { at: START, finding: None, then: Then::Intend(step) };
        run = noted(&run, run.reservation.epoch, &intend).expect("it may be intended").run;
        let found = Note { at: START, finding: Some((step, finding.clone())), then: Then::Look };
        run = noted(&run, run.reservation.epoch, &found).expect("it may be found").run;
    }
    run
}

fn recorded() -> RecordsView {
    RecordsView { row: Some(row(instance(1), START)), ..RecordsView::default() }
}

fn paid() -> RecordsView {
    RecordsView { subscription: Some(subscription(instance(1), START)), ..recorded() }
}

#[test]
fn nothing_is_made_before_the_records_answer_and_the_context_is_free_after_the_deadline() {
    assert!(matches!(plan(&fresh(), None, false, START), Next::Rest(until) if until > START && until <= deadline()));
    let Next::Release { failure: Some(failure), .. } = plan(&fresh(), None, false, deadline()) else {
        panic!("nothing was sent");
    };
    assert_eq!(failure.code, FailureCode::DeadlineExceeded);
}

#[test]
fn waits_for_the_records_double_up_to_a_bound() {
    let mut run = fresh();
    let mut waits = Vec::new();
    for _ in 0..10 {
        let silent = (Step::CheckActive, Finding::NotSent("the records do not answer".to_owned()));
        let note = Note { at: START, finding: Some(silent), then: Then::Look };
        run = noted(&run, Epoch::FIRST, &note).expect("it may be noted").run;
        let mut late = run.clone();
        late.operation.deadline = Timestamp::NEVER;
        let Next::Rest(until) = plan(&late, None, false, START) else { panic!("it waits") };
        waits.push(until.since(START));
    }
    assert!(waits[0] < waits[3] && waits[3] < waits[5], "{waits:?}");
    assert!(waits.iter().all(|wait| *wait <= RETRY_MAX && *wait > Duration::from_millis(500)), "{waits:?}");
}

#[test]
fn what_may_be_canonical_is_kept_however_long_the_records_are_silent() {
    let run = tried(standing(), Step::Record, &Finding::Unknown("no answer".to_owned()), 1);
    let long_after = deadline().plus(Duration::from_secs(86_400));
    assert!(matches!(plan(&run, None, false, long_after), Next::Rest(_)));
    assert!(matches!(plan(&run, Some(&paid()), false, long_after), Next::Complete(_)));
    assert!(matches!(plan(&run, Some(&RecordsView::default()), false, long_after), Next::GiveUp(_)));
}

#[test]
fn a_destroy_removes_everything_without_the_records_and_ends_with_them() {
    let mut run = standing();
    run.reservation.intent = Intent::Destroy { at: START, reason: None };
    assert!(matches!(plan(&run, None, false, START), Next::Act(Action::Seal)));
    run.reservation.sealed_at = Some(START);
    assert!(matches!(plan(&run, None, false, START), Next::Act(Action::Remove(_))));
    run.reservation.resources.clear();
    run.reservation.lookups = vec![freehold_domain::evidence::Lookup {
        at: START.plus(Duration::from_secs(1)),
        absent: true,
        detail: String::new(),
    }];
    let later = START.plus(Duration::from_secs(30));
    assert!(matches!(plan(&run, None, false, later), Next::Rest(_)), "there may be a row to mark");
    // No row is there, and one may be on its way: the door is closed first.
    let open = RecordsView::default();
    assert!(matches!(plan(&run, Some(&open), false, later), Next::Act(Action::MarkDestroyed)));
    let closed = RecordsView { closed: true, ..open };
    assert!(matches!(plan(&run, Some(&closed), false, later), Next::Release { .. }));
}

#[test]
fn power_needs_no_records() {
    let mut run = standing();
    run.reservation.status = Status::Completed;
    run.operation.kind = OperationKind::Stop;
    assert!(matches!(plan(&run, None, false, START), Next::Act(Action::Stop)));
}

#[test]
fn billing_that_does_not_answer_is_gone_without_where_that_is_allowed() {
    let silent = Finding::Unknown("no answer".to_owned());
    let run = tried(standing(), Step::Subscribe, &silent, PATIENCE.max_attempts);
    let later = START.plus(Duration::from_secs(100));
    assert!(matches!(plan(&run, Some(&recorded()), false, later), Next::GiveUp(_)));
    assert!(matches!(plan(&run, Some(&recorded()), true, later), Next::Act(Action::SubscribeLocally)));
    assert!(matches!(plan(&run, Some(&recorded()), true, deadline()), Next::Act(Action::SubscribeLocally)));
    // Nobody is to go on for ever at the same pace.
    assert!(matches!(plan(&run, Some(&recorded()), true, START), Next::Rest(_)));
}

#[test]
fn a_refusal_of_billing_is_an_answer() {
    let no = Finding::Rejected(Rejection { class: RejectionClass::Invalid, detail: "no".to_owned() });
    let run = tried(standing(), Step::Subscribe, &no, 1);
    for falls_back in [false, true] {
        let later = START.plus(Duration::from_secs(100));
        let Next::GiveUp(failure) = plan(&run, Some(&recorded()), falls_back, later) else { panic!("it gives up") };
        assert_eq!(failure.code, FailureCode::SubscriptionBootstrapFailed);
    }
}

fn adopted() -> Run {
    let change = taken_in(bid(1), Vec::new(), &commission(1, deadline()), START);
    assert!(change.route.is_none() && change.run.reservation.is_active(), "it takes its place, and is not published");
    change.run
}

/// The adopted instance once its resources are found.
fn found() -> Run {
    let mut run = adopted();
    run.reservation.resources = vec![resource(ResourceKind::Base, 1), resource(ResourceKind::Runtime, 2)];
    let seen = freehold_domain::resource::Observation {
        conclusive: true,
        found: Vec::new(),
        runtime: RuntimeState::Running,
        reference: String::new(),
    };
    let finding = Finding::Done(freehold_domain::run::Effect::Seen { asked_at: START, observation: seen });
    noted(&run, Epoch::FIRST, &Note { at: START, finding: Some((Step::Ready, finding)), then: Then::Look })
        .expect("noted")
        .run
}

#[test]
fn what_is_taken_in_is_looked_for_and_published_once_it_is_paid_for() {
    assert!(matches!(plan(&adopted(), Some(&paid()), false, START), Next::Act(Action::Look(Step::Ready))));
    assert!(matches!(plan(&found(), Some(&recorded()), false, START), Next::Rest(_)), "nobody here starts to pay");
    let Next::Complete(proof) = plan(&found(), Some(&paid()), false, START) else { panic!("it is published") };
    let endpoint = freehold_domain::route::Endpoint("http://127.0.0.1:1".to_owned());
    let settlement = Settlement::Complete { proof, endpoint };
    let settle = Settle { at: START, finding: None, settlement, check_at: START };
    let change = settled(&found(), Epoch::FIRST, &settle).expect("it is complete already");
    assert!(change.route.is_some_and(|route| route.is_live()));
    assert_eq!(change.run.reservation.completed_at, Some(START));
    assert!(change.run.operation.status.is_over());
}

#[test]
fn what_waits_for_its_records_can_be_mended_and_nothing_else() {
    for work in [Work::Start, Work::Stop, Work::Restart, Work::Recover] {
        let refused = begun(&found(), work, &commission(2, deadline()), START);
        assert_eq!(refused, Err(WorkRefused::InProgress));
    }
    let Ok(Begin::Accepted(change)) = begun(&found(), Work::Mend, &commission(2, deadline()), START) else {
        panic!("it is mended");
    };
    let mut run = change.run;
    run.operation.steps = found().operation.steps;
    assert!(matches!(plan(&run, Some(&RecordsView::default()), false, START), Next::Act(Action::InsertRecord)));
    assert!(matches!(plan(&run, Some(&recorded()), false, START), Next::Act(Action::Subscribe)));
    assert!(matches!(plan(&run, Some(&paid()), false, START), Next::Complete(_)));
    let mut over = paid();
    over.subscription.as_mut().expect("there is one").status = SubscriptionStatus::Ended;
    assert!(matches!(plan(&run, Some(&over), false, START), Next::Rest(_)), "what ended stays so");
    let closed = RecordsView { closed: true, ..RecordsView::default() };
    assert!(matches!(plan(&run, Some(&closed), false, START), Next::Fail(_)));
    assert_eq!(run.operation.step(Step::Ready).map(|record| record.status), Some(StepStatus::Done));
}
