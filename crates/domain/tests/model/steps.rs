//! What can happen next, and what it does: the production functions over the model's state.

use std::sync::Arc;
use std::time::Duration;

use freehold_domain::event::{Actor, EventKind};
use freehold_domain::evidence::OperatorOverride;
use freehold_domain::ids::LeakId;
use freehold_domain::invariants::{Invariant, Tenancy, check_change, check_context};
use freehold_domain::ledger::{Entry, admit};
use freehold_domain::operation::FailureCode;
use freehold_domain::plan::{Action, Capabilities, Names, Next, Patience, Situation, next};
use freehold_domain::records::{CanonicalSuccess, RecordsView};
use freehold_domain::reservation::{Intent, Resolution, Status};
use freehold_domain::resource::ResourceKind;
use freehold_domain::route::{Endpoint, Route};
use freehold_domain::run::{
    Change, Destroy, Finding, Hold, LeakChange, Note, Refused, Run, Settle, Settlement, Then, admitted, claimed,
    destroyed, folded, noted, overridden, repaired, settled,
};
use freehold_domain::time::Timestamp;

use crate::calls::{happen, refused};
use crate::common::{START, bid, commission, holder};
use crate::state::{Billing, Executor, Instance, Phase, Provider, Remark, State};
use crate::{Freehold, Without};

/// The second instance is the last: a third would live through nothing new.
const INSTANCES_MAX: usize = 2;

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Somebody asks for an instance.
    Admit,
    /// An idle executor claims an instance's operation; from a live holder that is theft.
    Claim { executor: usize, instance: usize },
    /// An executor plans, and commits what came of its last step with what comes next.
    Commit { executor: usize },
    /// Its call leaves.
    Send { executor: usize, outcome: Outcome },
    /// It dies.
    Crash { executor: usize },
    /// An effect arrives at last.
    Land { position: usize },
    /// Somebody destroys an instance.
    Destroy { instance: usize },
    /// A caller who is refused has canonical success repaired.
    Repair { instance: usize },
    /// An operator releases it on their word.
    Override { instance: usize },
}

/// What comes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    NotSent,
    Rejected,
    /// The effect is there; the answer is lost.
    Unanswered,
    /// The effect is on its way, if it ever arrives; there is no answer.
    Late,
}

impl Outcome {
    const FAULTS: [Self; 4] = [Self::NotSent, Self::Rejected, Self::Unanswered, Self::Late];
}

/// Everything that can happen next.
pub(crate) fn possible(_: &Freehold, state: &State, steps: &mut Vec<Step>) {
    if state.instances.len() < INSTANCES_MAX {
        steps.push(Step::Admit);
    }
    let faulty = state.left.faults > 0;
    for (executor, at) in state.executors.iter().enumerate() {
        match &at.phase {
            Phase::Idle => {
                // Two idle executors are alike: one of them is enough.
                if executor == 0 || !state.executors[0].is_idle() {
                    for (instance, of) in state.instances.iter().enumerate() {
                        if !of.run.operation.status.is_over() && (faulty || !is_held(state, instance)) {
                            steps.push(Step::Claim { executor, instance });
                        }
                    }
                }
            }
            Phase::Ready(_) => steps.push(Step::Commit { executor }),
            Phase::Noted(_) => {
                steps.push(Step::Send { executor, outcome: Outcome::Done });
                if faulty {
                    steps.extend(Outcome::FAULTS.map(|outcome| Step::Send { executor, outcome }));
                }
            }
        }
        if faulty && !at.is_idle() {
            steps.push(Step::Crash { executor });
        }
    }
    steps.extend((0..state.late.len()).map(|position| Step::Land { position }));
    for (instance, of) in state.instances.iter().enumerate() {
        if state.left.destroys > 0 {
            steps.push(Step::Destroy { instance });
        }
        if of.run.reservation.status.is_unresolved() {
            steps.push(Step::Repair { instance });
            if state.left.overrides > 0 {
                steps.push(Step::Override { instance });
            }
        }
    }
}

fn is_held(state: &State, instance: usize) -> bool {
    let current = state.instances[instance].run.reservation.epoch;
    state.executors.iter().any(|at| !at.is_idle() && at.which == instance && at.held == current)
}

/// The state after a step; `None` if it changes nothing.
pub(crate) fn take(model: &Freehold, before: &State, step: Step) -> Option<State> {
    let mut state = before.clone();
    match step {
        Step::Admit => take_admit(model, &mut state)?,
        Step::Claim { executor, instance } => take_claim(model, &mut state, executor, instance)?,
        Step::Commit { executor } => take_commit(model, &mut state, executor),
        Step::Send { executor, outcome } => take_send(model, &mut state, executor, outcome)?,
        Step::Crash { executor } => {
            state.left.faults -= 1;
            state.executors[executor] = Executor::idle();
        }
        Step::Land { position } => {
            let (which, action) = state.late.remove(position);
            if state.instances[which].provider.sealed && action == Action::Ensure(ResourceKind::Runtime) {
                model.remark(Remark::LateMetSeal);
            }
            let _ = happen(model, &mut state.instances[which], &action);
        }
        Step::Destroy { instance } => {
            state.left.destroys -= 1;
            let number = 10 + u8::try_from(instance).expect("few");
            match destroyed(&state.instances[instance].run, None, &commission(number, deadline()), START) {
                Destroy::Accepted(change) => commit(model, &mut state, instance, *change),
                Destroy::Finished | Destroy::Underway(_) => return None,
            }
        }
        Step::Repair { instance } => take_repair(model, &mut state, instance)?,
        Step::Override { instance } => {
            state.left.overrides -= 1;
            let said = OperatorOverride::establish("it takes too long", LeakId::mint(1, [1; 10])).expect("a reason");
            let commission = commission(20, deadline());
            let change = overridden(&state.instances[instance].run, said, &commission, START).ok()?;
            commit(model, &mut state, instance, change);
        }
    }
    if !state.old_epochs_count {
        fence_out(model, &mut state);
    }
    look_at_the_world(&mut state);
    Some(state)
}

/// Whoever was fenced while it had nothing in flight commits at once: that is refused and changes nothing, so when it
/// happens does not matter. Those with a call in flight go on until it is answered.
fn fence_out(model: &Freehold, state: &mut State) {
    for number in 0..state.executors.len() {
        let executor = &state.executors[number];
        let ready = matches!(executor.phase, Phase::Ready(_));
        if ready && executor.held != state.instances[executor.which].run.reservation.epoch {
            take_commit(model, state, number);
            if !state.executors[number].is_idle() {
                state.broken.insert(Invariant::EpochMonotone);
            }
        }
    }
}

/// Later than any story lasts.
fn deadline() -> Timestamp {
    START.plus(Duration::from_secs(1))
}

fn endpoint() -> Endpoint {
    Endpoint("http://127.0.0.1:1".to_owned())
}

fn take_admit(model: &Freehold, state: &mut State) -> Option<()> {
    let entries: Vec<_> = state
        .instances
        .iter()
        .map(|instance| Entry::from(&instance.run.reservation))
        .filter(|entry| model.without != Without::OneUnresolved || !entry.status.is_unresolved())
        .collect();
    admit(&entries, 1).ok()?;
    let number = u8::try_from(state.instances.len()).expect("few") + 1;
    let change = admitted(bid(number), &commission(number, deadline()), START);
    state.instances.push(Instance {
        run: Arc::new(change.run),
        route: None,
        records: RecordsView::default(),
        leaked: false,
        provider: Provider::default(),
        billing: Billing::Never,
    });
    Some(())
}

fn take_claim(model: &Freehold, state: &mut State, executor: usize, instance: usize) -> Option<()> {
    if is_held(state, instance) {
        state.left.faults -= 1;
    }
    let node = if executor == 0 { 'a' } else { 'b' };
    // A lease that lapses at once: whether it is stolen or taken over is for the model to say.
    let hold = Hold { holder: holder(node, 1), until: START };
    let change = claimed(&state.instances[instance].run, &hold, START).ok()?;
    commit(model, state, instance, change);
    let of = &state.instances[instance];
    state.executors[executor] = Executor {
        phase: Phase::Ready(None),
        which: instance,
        held: of.run.reservation.epoch,
        run: Some(Arc::clone(&of.run)),
        records: of.records.clone(),
    };
    Some(())
}

/// A run in which nobody can see that destroy was accepted.
fn blind(run: &Run) -> Run {
    let mut blind = run.clone();
    if blind.reservation.intent.is_destroy() {
        blind.reservation.intent = Intent::Keep;
        if blind.reservation.status == (Status::NeedsReconciliation { code: FailureCode::Cancelled }) {
            blind.reservation.status = Status::InProgress;
        }
    }
    blind
}

/// What a change of a blinded run is in truth.
fn sighted(mut change: Change, truth: &Run) -> Change {
    let reservation = &mut change.run.reservation;
    reservation.intent = truth.reservation.intent.clone();
    if reservation.status == Status::InProgress {
        reservation.status = truth.reservation.status;
    }
    change
}

fn take_commit(model: &Freehold, state: &mut State, number: usize) {
    let mut executor = std::mem::replace(&mut state.executors[number], Executor::idle());
    let Phase::Ready(finding) = std::mem::replace(&mut executor.phase, Phase::Idle) else {
        unreachable!("only who is ready commits");
    };
    let own = executor.run.take().expect("it holds one");
    let mut seen = match &finding {
        Some((step, finding)) => folded(&own, *step, finding, START),
        None => Run::clone(&own),
    };
    let which = executor.which;
    let truth = Arc::clone(&state.instances[which].run);
    let held = if model.without == Without::Epochs { truth.reservation.epoch } else { executor.held };
    let mut current = Run::clone(&truth);
    if model.without == Without::DestroyIntent {
        seen = blind(&seen);
        current = blind(&current);
    }
    let situation = Situation {
        run: &seen,
        records: Some(&executor.records),
        in_the_way: None,
        is_crowded: false,
        wants_storage: false,
        has_endpoint: true,
        billing_falls_back: false,
        capabilities: Capabilities {
            names: Names::Unique,
            seals: true,
            storage: false,
            logs: false,
            settle_horizon: Duration::ZERO,
        },
        patience: Patience {
            max_attempts: model.bounds.max_attempts,
            retry_min: Duration::ZERO,
            retry_max: Duration::ZERO,
            ready_grace: Duration::ZERO,
            lease: Duration::ZERO,
        },
        now: START,
    };
    let (committed, phase) = match next(&situation) {
        Next::Act(action) => {
            let then = if action.only_reads() { Then::Look } else { Then::Intend(action.step()) };
            (noted(&current, held, &Note { at: START, finding, then }), Phase::Noted(action))
        }
        Next::Complete(proof) => settle(&current, held, finding, Settlement::Complete { proof, endpoint: endpoint() }),
        Next::GiveUp(failure) => {
            let (committed, _) = settle(&current, held, finding, Settlement::GiveUp(failure));
            (committed, Phase::Ready(None))
        }
        Next::Release { evidence, failure } => {
            settle(&current, held, finding, Settlement::Release { evidence, failure })
        }
        Next::Succeed => settle(&current, held, finding, Settlement::Succeed { endpoint: None }),
        Next::Fail(failure) => settle(&current, held, finding, Settlement::Fail(failure)),
        Next::Nothing => return,
        Next::Rest(_) => unreachable!("there is nothing to wait for where time stands still"),
    };
    match committed {
        Ok(mut change) => {
            if model.without == Without::DestroyIntent {
                change = sighted(change, &truth);
            }
            if model.without == Without::Unanswered {
                change.run.reservation.unanswered = 0;
            }
            if change.events.iter().any(|event| event.kind == EventKind::ResourceAdopted) {
                model.remark(Remark::Adopted);
            }
            commit(model, state, which, change);
            if !matches!(phase, Phase::Idle) {
                let of = &state.instances[which];
                let records = of.records.clone();
                let held = if model.without == Without::Epochs { of.run.reservation.epoch } else { executor.held };
                state.executors[number] = Executor { phase, which, held, run: Some(Arc::clone(&of.run)), records };
            }
        }
        Err(Refused::Fenced(_)) => model.remark(Remark::Fenced),
        // A plan over an outdated run, without epochs to stop it.
        Err(Refused::Illegal(_)) => {
            if model.without == Without::Nothing {
                state.broken.insert(Invariant::Settles);
            }
        }
    }
}

fn settle(
    current: &Run,
    held: freehold_domain::lease::Epoch,
    finding: Option<(freehold_domain::operation::Step, Finding)>,
    settlement: Settlement,
) -> (Result<Change, Refused>, Phase) {
    (settled(current, held, &Settle { at: START, finding, settlement, check_at: START }), Phase::Idle)
}

fn take_send(model: &Freehold, state: &mut State, number: usize, outcome: Outcome) -> Option<()> {
    let executor = &state.executors[number];
    let Phase::Noted(action) = executor.phase.clone() else {
        unreachable!("only what is noted is sent");
    };
    let which = executor.which;
    if executor.held != state.instances[which].run.reservation.epoch {
        model.remark(Remark::SentFenced);
    }
    let no_answer = || Finding::Unknown(String::new());
    let finding = match outcome {
        Outcome::Done => happen(model, &mut state.instances[which], &action),
        Outcome::Unanswered => {
            if action.only_reads() {
                return None;
            }
            let _ = happen(model, &mut state.instances[which], &action);
            no_answer()
        }
        Outcome::Late => {
            if !action.only_reads() {
                state.late.push((which, action.clone()));
            }
            no_answer()
        }
        Outcome::NotSent if !action.only_reads() => Finding::NotSent(String::new()),
        Outcome::Rejected if action.step().may_create() || action == Action::Subscribe => refused(),
        Outcome::NotSent | Outcome::Rejected => return None,
    };
    if outcome != Outcome::Done {
        state.left.faults -= 1;
    }
    let records = state.instances[which].records.clone();
    let executor = &mut state.executors[number];
    executor.phase = Phase::Ready(Some((action.step(), finding)));
    executor.records = records;
    Some(())
}

fn take_repair(model: &Freehold, state: &mut State, instance: usize) -> Option<()> {
    let of = &state.instances[instance];
    let proof = CanonicalSuccess::establish(&of.records)?;
    let mut seen = Run::clone(&of.run);
    if model.without == Without::DestroyIntentAtRepair {
        seen.reservation.intent = Intent::Keep;
    }
    let change = repaired(&seen, &proof, &endpoint(), Actor::Platform, START, START).ok()?;
    let change = sighted(change, &of.run);
    model.remark(Remark::Repaired);
    commit(model, state, instance, change);
    Some(())
}

fn commit(model: &Freehold, state: &mut State, which: usize, change: Change) {
    let instance = &mut state.instances[which];
    state.broken.extend(check_change(&instance.run, &change).into_iter().map(|violation| violation.invariant));
    if change.events.iter().any(|event| event.kind == EventKind::ExecutorTakenOver) {
        model.remark(Remark::TakenOver);
    }
    let buried = instance.route.as_ref().is_some_and(|route| !route.is_live());
    if let Some(route) = change.route {
        if buried && route.is_live() {
            state.broken.insert(Invariant::NoRevive);
        }
        instance.route = Some(route);
    }
    match change.leak {
        Some(LeakChange::Open { .. }) => instance.leaked = true,
        Some(LeakChange::Resolve) => instance.leaked = false,
        None => {}
    }
    instance.run = Arc::new(change.run);
}

/// Checks what the registry cannot see: whether it tells the truth.
fn look_at_the_world(state: &mut State) {
    let tenancies: Vec<_> = state
        .instances
        .iter()
        .map(|instance| Tenancy {
            reservation: instance.run.reservation.clone(),
            route: instance.route.clone(),
            records: instance.records.clone(),
            leaked: instance.leaked,
        })
        .collect();
    state.broken.extend(check_context(&tenancies, 1).into_iter().map(|violation| violation.invariant));
    for instance in &state.instances {
        let Run { reservation, operation } = instance.run.as_ref();
        let over = operation.status.is_over();
        let routable = instance.route.as_ref().is_some_and(Route::is_live);
        let mut claim = |holds: bool, invariant| {
            if !holds {
                state.broken.insert(invariant);
            }
        };
        claim(!routable || instance.provider.runtime, Invariant::RouteHasRecord);
        claim(!routable || instance.billing == Billing::Running, Invariant::BillOnce);
        claim(!(reservation.status.is_unresolved() && over), Invariant::Settles);
        if let Status::Released { because } = reservation.status {
            let finished = because != Resolution::OperatorOverride || over;
            claim(!(finished && instance.provider.runtime), Invariant::NoEarlyRelease);
            // Behind a seal an empty base may still turn up; where nothing was ever sent, nothing may.
            claim(!(finished && instance.provider.base && !instance.provider.sealed), Invariant::NoEarlyRelease);
            claim(!(finished && instance.billing == Billing::Running), Invariant::BillOnce);
        }
    }
}
