//! Scenes: histories written by hand, for what neither a cell nor a seed comes upon by itself. Each is named for what must
//! not come of it, and answers what did.

use freehold_domain::evidence::{Lookup, ProvenAbsent};
use freehold_domain::ids::{InstanceId, OperationId, SubscriptionId};
use freehold_domain::lease::{Epoch, Holder, ProviderName};
use freehold_domain::operation::{OperationKind, Step, StepRecord, StepStatus};
use freehold_domain::plan::{self, Next, Patience, Situation};
use freehold_domain::records::{CanonicalSuccess, InstanceRow, RecordsView, Subscription, SubscriptionStatus};
use freehold_domain::reservation::{FrozenSpec, Intent, Status};
use freehold_domain::resource::{Custody, Found, Resource, ResourceKind};
use freehold_domain::route::Endpoint;
use freehold_domain::run::{self, Bid, Commission, Effect, Finding, Hold, Note, Run, Then};
use freehold_domain::sweep::{Sighting, Verdict, judge};
use freehold_domain::time::Timestamp;
use freehold_domain::{event::Actor, owner::Context};
use freehold_engine::duty::LaidDown;
use freehold_engine::ports::{Gap, Quarantine as _, Registered, Store};
use freehold_providers::fake::FakeCloud;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::time::Duration;

use crate::chance::Chance;
use crate::places::Place;
use crate::records::{RecordsCall, RecordsFault};
use crate::requests::{self, Create};
use crate::storm::PROMISES;
use crate::tasks::{Task, at_once};
use crate::town::{Land, Town, idents};

/// One of them.
#[derive(Clone, Copy)]
pub struct Scene {
    /// What must not come of it.
    pub name: &'static str,
    run: fn() -> Vec<String>,
}

impl std::fmt::Debug for Scene {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scene").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Scene {
    /// What came of it that must not; empty if all is well.
    #[must_use]
    pub fn run(&self) -> Vec<String> {
        (self.run)()
    }

    /// The scene of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        SCENES.iter().copied().find(|scene| scene.name == name)
    }
}

macro_rules! scenes {
    ($($name:ident),* $(,)?) => {
        /// Every scene.
        pub const SCENES: &[Scene] = &[$(Scene { name: stringify!($name), run: $name }),*];
    };
}

scenes!(
    an_executor_that_heard_that_its_lease_is_lost_does_not_send,
    the_answer_to_a_key_stays_when_what_failed_is_repaired,
    what_an_operator_released_is_not_completed_by_a_repair,
    a_repair_does_not_complete_what_is_being_removed,
    a_finding_for_an_operation_that_is_over_is_refused,
    nothing_is_noted_that_would_create_for_an_unwanted_instance,
    nothing_is_noted_that_would_undo_a_wanted_instance,
    a_live_lease_is_not_taken_by_another_node,
    the_first_look_that_counts_is_after_the_last_possible_send,
    what_is_seen_for_the_first_time_is_not_swept,
    what_a_call_under_way_may_have_made_is_not_swept,
    nothing_is_given_up_while_the_records_are_silent,
    two_that_were_taken_in_are_not_both_published,
    nothing_is_released_while_a_row_may_still_come,
    a_node_that_lays_down_its_duty_leaves_nothing_in_doubt,
    who_was_given_a_lease_after_a_backup_writes_no_more,
    what_was_sent_after_a_backup_is_not_taken_for_never_sent,
    nothing_is_admitted_while_the_registry_is_in_quarantine,
);

const CREATE: Create = Create { owner: 0, key: Some(0), body: 1 };

fn town() -> Town {
    Town::found(Chance::of(1), Land::fake(&FakeCloud::default(), &idents(), PROMISES[0]))
}

fn begin_create(town: &mut Town) {
    let (control, history) = (town.nodes[0].control.clone(), town.history.clone());
    let create = async move { format!("{:?}", CREATE.ask(&control, &history).await) };
    town.tasks.push(Task::new(0, "create", create));
}

fn registered(town: &Town) -> Option<Registered> {
    let owner = "user:0".parse().expect("a valid owner");
    at_once(town.store.owner_describe(&owner)).ok().and_then(|all| all.into_iter().next())
}

/// How often a scene polls until it is where it wants to be.
const POLLS_MAX: usize = 2_000;

/// Polls what is under way on the first node until something holds.
fn until(town: &mut Town, what: &str, holds: impl Fn(&Town) -> bool) -> Result<(), Vec<String>> {
    for _ in 0..POLLS_MAX {
        if holds(town) {
            return Ok(());
        }
        match (0..town.tasks.len()).find(|position| town.tasks[*position].node == 0) {
            Some(position) => {
                town.poll(position);
            }
            None => {
                town.pass(Duration::from_millis(100));
                town.tick(0);
            }
        }
    }
    Err(vec![format!("the scene never came to: {what}")])
}

fn noted(town: &Town, step: Step) -> bool {
    registered(town).is_some_and(|registered| {
        registered.operation.step(step).is_some_and(|record| record.status == StepStatus::Noted)
    })
}

/// Goes through a scene, then lets everything come to rest.
fn play(scene: impl FnOnce(&mut Town) -> Result<(), Vec<String>>) -> Vec<String> {
    let mut town = town();
    if let Err(broken) = scene(&mut town) {
        return broken;
    }
    let broken = town.broken();
    if broken.is_empty() { town.calm(None) } else { broken }
}

fn an_executor_that_heard_that_its_lease_is_lost_does_not_send() -> Vec<String> {
    play(|town| {
        begin_create(town);
        // The note is committed, and its executor has not heard of it yet.
        until(town, "the base is noted", |town| noted(town, Step::Base))?;
        let Some(operation) = registered(town).map(|one| one.operation.id) else { return Err(Vec::new()) };
        town.steal(operation);
        let executor = town.nodes[0].executor.clone();
        let renew = async move {
            executor.renew().await;
            String::new()
        };
        town.ask_alone(Task::new(0, "renew", renew));
        Ok(())
    })
}

fn the_answer_to_a_key_stays_when_what_failed_is_repaired() -> Vec<String> {
    play(|town| {
        begin_create(town);
        until(town, "the subscription is noted", |town| noted(town, Step::Subscribe))?;
        // It is written, nobody hears of it, and the deadline passes.
        town.shared.far_records.script_next(RecordsCall::Subscribe, RecordsFault::AnswerLost);
        until(town, "the subscription is written", |town| !town.shared.far_records.has_script())?;
        town.pass(crate::node::DEADLINE);
        until(town, "the provision gives up", |town| {
            registered(town).is_some_and(|one| matches!(one.reservation.status, Status::NeedsReconciliation { .. }))
        })?;
        let Some(instance) = registered(town).map(|one| one.reservation.instance) else { return Err(Vec::new()) };
        let broken = town.broken();
        if !broken.is_empty() {
            return Err(broken);
        }
        repair(town, instance);
        Ok(())
    })
}

fn repair(town: &mut Town, instance: InstanceId) {
    let control = town.nodes[1].control.clone();
    let repair = async move { format!("{:?}", requests::repair(&control, instance).await.map(|_| ())) };
    town.ask_alone(Task::new(1, "repair", repair));
}

fn what_an_operator_released_is_not_completed_by_a_repair() -> Vec<String> {
    play(|town| {
        begin_create(town);
        town.shared.places.arm(Place { step: Step::Subscribe, gap: Gap::Sent });
        until(town, "the subscription is written", |town| town.shared.places.take_reached())?;
        let Some(instance) = registered(town).map(|one| one.reservation.instance) else { return Err(Vec::new()) };
        let control = town.nodes[1].control.clone();
        let release = async move { format!("{:?}", requests::release(&control, instance, true).await) };
        town.ask_alone(Task::new(1, "override", release));
        repair(town, instance);
        Ok(())
    })
}

/// Lays down the duty of the node that makes an instance at each moment of making it.
fn a_node_that_lays_down_its_duty_leaves_nothing_in_doubt() -> Vec<String> {
    let given_back_after = |steps: usize| format!("it is never given back after {steps} steps");
    let mut given_back = BTreeSet::new();
    for polls in 0..POLLS_MAX {
        let mut is_made = false;
        let broken = play(|town| {
            begin_create(town);
            let polled = Cell::new(0);
            until(town, "the moment", |_| polled.replace(polled.get() + 1) == polls)?;
            town.nodes[0].world().duty.set(Some(LaidDown::Draining));
            for _ in 0..POLLS_MAX {
                let Some(position) = (0..town.tasks.len()).find(|position| town.tasks[*position].node == 0) else {
                    break;
                };
                town.poll(position);
            }
            town.nodes[0].world().duty.set(None);
            let Some(Registered { operation, .. }) = registered(town) else { return Ok(()) };
            is_made = operation.status.is_over();
            given_back.extend((!is_made).then_some(operation.steps.len()));
            let in_doubt = |step: &&StepRecord| matches!(step.status, StepStatus::Noted | StepStatus::Unknown);
            match operation.steps.iter().find(in_doubt) {
                Some(step) => Err(vec![format!("after {polls} polls {} is left in doubt", step.step.name())]),
                None if operation.holder.is_some() => Err(vec![format!("after {polls} polls it is not given back")]),
                None => Ok(()),
            }
        });
        if is_made && broken.is_empty() {
            // Before every step but the last ones, which are commits: checked, base, storage, runtime, row.
            return (1..=5).filter(|steps| !given_back.contains(steps)).map(given_back_after).collect();
        }
        if !broken.is_empty() {
            return broken;
        }
    }
    vec!["it is never made".to_owned()]
}

/// Questions to one function, for second lines of defence that no history comes to while the first one stands.
fn must(holds: bool, otherwise: &str) -> Vec<String> {
    if holds { Vec::new() } else { vec![otherwise.to_owned()] }
}

const START: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

fn holder(node: &str) -> Holder {
    Holder { node: node.parse().expect("a valid name"), incarnation: 1 }
}

fn commission(number: u8) -> Commission {
    Commission {
        operation: OperationId::mint(u64::from(number), [number; 10]),
        actor: Actor::Platform,
        request_id: "scene".to_owned(),
        deadline: START.plus(crate::node::DEADLINE),
        hold: Some(Hold { holder: holder("node-a"), until: START.plus(crate::node::LEASE) }),
    }
}

fn provider() -> ProviderName {
    "local".parse().expect("a valid name")
}

fn context() -> Context {
    Context::new("user:0".parse().expect("a valid owner"), None).expect("a valid context")
}

/// A run that was just admitted.
fn admitted() -> Run {
    let bid = Bid {
        instance: InstanceId::mint(1, [1; 10]),
        context: context(),
        provider: provider(),
        tier: "small".parse().expect("a valid name"),
        price_version: "2026-01-01".parse().expect("a valid name"),
        regions: Vec::new(),
        named: None,
        spec: FrozenSpec(b"{}".as_slice().into()),
    };
    run::admitted(bid, &commission(1), START).run
}

fn runtime() -> Resource {
    Resource { kind: ResourceKind::Runtime, id: "r".to_owned(), region: None, handle: String::new() }
}

fn canonical(run: &Run) -> RecordsView {
    let instance = run.reservation.instance;
    RecordsView {
        row: Some(InstanceRow {
            instance,
            context: context(),
            provider: provider(),
            tier: run.reservation.tier.clone(),
            created_at: START,
            destroyed_at: None,
        }),
        subscription: Some(Subscription {
            id: SubscriptionId::mint(1, [1; 10]),
            instance,
            status: SubscriptionStatus::Active,
            plan: "small".to_owned(),
            price_version: run.reservation.price_version.clone(),
            started_at: START,
            ended_at: None,
            reported: true,
        }),
        closed: false,
    }
}

fn a_repair_does_not_complete_what_is_being_removed() -> Vec<String> {
    let mut run = admitted();
    run.reservation.resources.push(runtime());
    run.reservation.sealed_at = Some(START);
    let Some(proof) = CanonicalSuccess::establish(&canonical(&run)) else { return must(false, "no proof") };
    let endpoint = Endpoint("http://127.0.0.1:1".to_owned());
    let repaired = run::repaired(&run, &proof, &endpoint, Actor::Operator, START, START);
    must(repaired.is_err(), "NoRevive: a sealed instance was completed")
}

fn a_finding_for_an_operation_that_is_over_is_refused() -> Vec<String> {
    let mut run = admitted();
    run.operation.status = freehold_domain::operation::OperationStatus::Failed;
    let finding = Some((Step::Base, Finding::NotSent("late".to_owned())));
    let noted = run::noted(&run, Epoch::FIRST, &Note { at: START, finding, then: Then::Look });
    must(noted.is_err(), "EpochMonotone: an operation that is over took a finding")
}

fn nothing_is_noted_that_would_create_for_an_unwanted_instance() -> Vec<String> {
    let mut run = admitted();
    run.reservation.intent = Intent::Destroy { at: START, reason: None };
    let noted = run::noted(&run, Epoch::FIRST, &Note { at: START, finding: None, then: Then::Intend(Step::Runtime) });
    must(noted.is_err(), "DestroyWins: a creating step was noted after the destroy")
}

fn nothing_is_noted_that_would_undo_a_wanted_instance() -> Vec<String> {
    let note = Note { at: START, finding: None, then: Then::Intend(Step::Seal) };
    must(run::noted(&admitted(), Epoch::FIRST, &note).is_err(), "RouteHasRecord: a wanted instance was to be sealed")
}

fn a_live_lease_is_not_taken_by_another_node() -> Vec<String> {
    let taken = run::claimed(&admitted(), &Hold { holder: holder("node-b"), until: START }, START);
    must(taken.is_err(), "TakesOver: a live lease was taken")
}

fn the_first_look_that_counts_is_after_the_last_possible_send() -> Vec<String> {
    let mut reservation = admitted().reservation;
    let look = |seconds| Lookup { at: START.plus(Duration::from_secs(seconds)), absent: true, detail: String::new() };
    reservation.lookups = vec![look(1), look(60)];
    let last_send = START.plus(Duration::from_secs(30));
    let proven = ProvenAbsent::establish(&reservation, last_send, Duration::from_secs(5));
    must(proven.is_none(), "NoEarlyRelease: a look counted that was made while a call could still leave")
}

fn swept_after(sighting: Sighting) -> Verdict {
    let mut run = admitted();
    run.reservation.status = Status::Released { because: freehold_domain::reservation::Resolution::AbsenceProven };
    run.operation.status = freehold_domain::operation::OperationStatus::Failed;
    let found = Found { resource: runtime(), custody: Custody::Ours };
    judge(&found, &provider(), Some((&run.reservation, &run.operation)), sighting, Duration::from_secs(10))
}

fn what_is_seen_for_the_first_time_is_not_swept() -> Vec<String> {
    let verdict = swept_after(Sighting { passes: 1, age: Duration::from_secs(3_600) });
    must(verdict == Verdict::SeenOnce, "SweepSafe: what was seen once was swept")
}

fn what_a_call_under_way_may_have_made_is_not_swept() -> Vec<String> {
    let verdict = swept_after(Sighting { passes: 5, age: Duration::from_secs(9) });
    must(verdict == Verdict::TooYoung, "SweepSafe: what is younger than the horizon was swept")
}

fn nothing_is_given_up_while_the_records_are_silent() -> Vec<String> {
    let mut run = admitted();
    run.reservation.last_sent_at = Some(START);
    run.reservation.unanswered = 1;
    run.reservation.resources.push(runtime());
    let note = Note { at: START, finding: None, then: Then::Intend(Step::Record) };
    let Ok(change) = run::noted(&run, Epoch::FIRST, &note) else { return must(false, "nothing was noted") };
    let next = plan::next(&Situation {
        now: change.run.operation.deadline.plus(Duration::from_secs(1)),
        ..situation(&change.run, None)
    });
    must(matches!(next, Next::Rest(_)), "RouteHasRecord: what may be canonical was given up unasked")
}

/// What a plan looks at, with everything as usual.
fn situation<'a>(run: &'a Run, records: Option<&'a RecordsView>) -> Situation<'a> {
    let patience = Patience {
        max_attempts: 5,
        retry_min: Duration::from_secs(1),
        retry_max: Duration::from_secs(60),
        ready_grace: Duration::from_secs(2),
        lease: crate::node::LEASE,
    };
    Situation {
        run,
        records,
        in_the_way: None,
        is_crowded: false,
        wants_storage: false,
        has_endpoint: true,
        billing_falls_back: false,
        capabilities: PROMISES[0],
        patience,
        now: START,
    }
}

fn nothing_is_released_while_a_row_may_still_come() -> Vec<String> {
    let mut run = admitted();
    run.reservation.intent = Intent::Destroy { at: START, reason: None };
    run.reservation.last_sent_at = Some(START);
    run.reservation.unanswered = 1;
    run.reservation.sealed_at = Some(START);
    run.reservation.lookups = vec![Lookup { at: START, absent: true, detail: String::new() }];
    let open = RecordsView::default();
    let next = plan::next(&situation(&run, Some(&open)));
    must(matches!(next, Next::Act(_)), "NoRevive: a row may arrive behind the release, and live")
}

fn two_that_were_taken_in_are_not_both_published() -> Vec<String> {
    let mut run = admitted();
    run.reservation.status = Status::Completed;
    run.operation.kind = OperationKind::Adopt;
    run.reservation.resources.push(runtime());
    let look = Note { at: START, finding: Some((Step::Ready, Finding::Done(Effect::Nothing))), then: Then::Look };
    let Ok(change) = run::noted(&run, Epoch::FIRST, &look) else { return must(false, "nothing was noted") };
    let records = canonical(&change.run);
    let next = plan::next(&Situation { is_crowded: true, ..situation(&change.run, Some(&records)) });
    must(matches!(next, Next::Rest(_)), "OneCanonical: a second instance of a context was to be published")
}

fn who_was_given_a_lease_after_a_backup_writes_no_more() -> Vec<String> {
    let backup = admitted();
    let hold = Hold { holder: holder("node-b"), until: START.plus(crate::node::LEASE) };
    let Ok(claimed) = run::claimed(&backup, &hold, START.plus(Duration::from_secs(60))) else {
        return must(false, "it was not claimed");
    };
    let restored = run::raised(&backup, 1 << 20, START.plus(Duration::from_secs(90))).run;
    let note = Note { at: START.plus(Duration::from_secs(91)), finding: None, then: Then::Look };
    let late = run::noted(&restored, claimed.run.reservation.epoch, &note);
    let early = run::noted(&restored, backup.reservation.epoch, &note);
    must(late.is_err() && early.is_err(), "EpochMonotone: a lease from before the restore is still good")
}

fn what_was_sent_after_a_backup_is_not_taken_for_never_sent() -> Vec<String> {
    let restored = run::raised(&admitted(), 1 << 20, START.plus(Duration::from_secs(90))).run;
    let evidence = freehold_domain::evidence::NothingSent::establish(&restored.reservation);
    must(evidence.is_none(), "NoEarlyRelease: a release on what a backup knows")
}

fn nothing_is_admitted_while_the_registry_is_in_quarantine() -> Vec<String> {
    let mut town = town();
    let world = town.nodes[0].control.world().clone();
    let begun = at_once(town.store.quarantine_begin("a backup"));
    let heard = at_once(world.standing.look(town.store.as_ref(), world.clock.as_ref()));
    if begun.is_err() || heard.is_err() {
        return must(false, "the quarantine did not begin");
    }
    begin_create(&mut town);
    match until(&mut town, "an answer", |town| town.tasks.is_empty() || registered(town).is_some()) {
        Ok(()) => must(registered(&town).is_none(), "AdmitFirst: a registry from a backup admitted something"),
        Err(broken) => broken,
    }
}
