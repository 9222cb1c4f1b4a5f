//! One call on its way: counted, limited, met by faults, carried out, answered. Every endpoint takes this way, and no
//! other; a fault knows no endpoint, and an endpoint no fault.
//!
//! All of it happens under one lock, so that an effect is whole or not at all. What has to wait, waits outside.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::answer::Answer;
use crate::call::{Call, Endpoint};
use crate::fault::{Fault, Plan, Rules, status_answer};
use crate::limits::Limits;
use crate::options::Options;
use crate::world::{World, shift_times, wait_seconds};

/// How often a wait looks again when nothing is due. Somebody else may change the machine.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// What the client gets.
#[derive(Debug)]
pub(crate) enum Reply {
    /// An answer as it is, and how far the clock is off in seconds.
    Whole(Answer, i64),
    /// An answer whose JSON stops in the middle.
    Truncated(Answer, i64),
    /// A page for humans, with this status.
    Html(u16),
    /// This many bytes.
    Huge(u64),
    /// The connection is closed without an answer.
    Cut,
}

/// Everything that changes.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) world: World,
    pub(crate) rules: Rules,
    pub(crate) limits: Limits,
    /// Milliseconds that were skipped.
    pub(crate) skipped: u64,
    /// How many responses were written.
    numbered: u64,
    /// As it started, for a reset.
    start: Options,
}

/// Shared by every connection.
#[derive(Clone, Debug)]
pub(crate) struct Sim {
    state: Arc<Mutex<State>>,
    /// Ends what is held open.
    pub(crate) stop: CancellationToken,
}

impl Sim {
    /// # Errors
    /// A rule of the options cannot be taken.
    pub(crate) fn new(options: Options) -> Result<Self, String> {
        let state = State {
            world: World::new(options.clone(), wall()),
            rules: rules(&options)?,
            limits: Limits::default(),
            skipped: 0,
            numbered: 0,
            start: options,
        };
        Ok(Self { state: Arc::new(Mutex::new(state)), stop: CancellationToken::new() })
    }

    /// The world as it is by now.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = wall().saturating_add(state.skipped);
        state.world.settle(now);
        state
    }

    /// Takes one call all the way. `call` is an error where there is no such endpoint.
    pub(crate) async fn take(&self, call: Result<Call, Answer>) -> Reply {
        let call = match call {
            Ok(call) => call,
            Err(refusal) => {
                self.state().world.ledger.answered(refusal.status);
                return Reply::Whole(refusal, 0);
            }
        };
        let plan = match self.arrive(&call) {
            Ok(plan) => plan,
            Err(refusal) => return Reply::Whole(refusal, 0),
        };
        let reply = if plan.delay_ms > 0 { self.delayed(call, plan).await } else { self.suffer(call, &plan).await };
        let status = match &reply {
            Reply::Whole(answer, _) | Reply::Truncated(answer, _) => Some(answer.status),
            Reply::Html(status) => Some(*status),
            Reply::Huge(_) => Some(200),
            Reply::Cut => None,
        };
        if let Some(status) = status {
            self.state().world.ledger.answered(status);
        }
        reply
    }

    /// Counts the call, and asks the limits and the rules about it.
    fn arrive(&self, call: &Call) -> Result<Plan, Answer> {
        let mut state = self.state();
        let state = &mut *state;
        state.world.ledger.asked(call.endpoint.name());
        if state.start.rate_limits && !state.limits.allow(call, state.world.now()) {
            state.world.ledger.answered(429);
            return Err(status_answer(429, None, None, Some(1)));
        }
        let plan = state.rules.plan(call);
        plan.met.iter().for_each(|fault| state.world.ledger.met(fault));
        Ok(plan)
    }

    /// Once it has arrived, a call is carried out also where the client leaves in the meantime.
    async fn delayed(&self, call: Call, plan: Plan) -> Reply {
        let sim = self.clone();
        let later = tokio::spawn(async move {
            sim.pause(Duration::from_millis(plan.delay_ms)).await;
            sim.suffer(call, &plan).await
        });
        later.await.unwrap_or(Reply::Cut)
    }

    async fn suffer(&self, call: Call, plan: &Plan) -> Reply {
        match &plan.last {
            None => Reply::Whole(self.answer(&call, plan).await, plan.clock_off),
            Some(Fault::Timeout { effect, cap_ms }) => {
                self.carry_out(&call, plan, *effect).await;
                self.pause(Duration::from_millis(*cap_ms)).await;
                Reply::Cut
            }
            Some(Fault::Cut { effect }) => {
                self.carry_out(&call, plan, *effect).await;
                Reply::Cut
            }
            Some(Fault::Late { ms, hold }) => {
                let delay = Duration::from_millis(*ms);
                self.state().world.call_later(call, delay);
                if *hold {
                    self.stop.cancelled().await;
                }
                Reply::Cut
            }
            Some(Fault::Status { status, effect, error, code, retry_after }) => {
                self.carry_out(&call, plan, *effect).await;
                let answer = status_answer(*status, error.as_deref(), code.as_deref(), *retry_after);
                Reply::Whole(answer, plan.clock_off)
            }
            Some(Fault::TruncatedJson) => Reply::Truncated(self.answer(&call, plan).await, plan.clock_off),
            Some(Fault::Html { status, effect }) => {
                self.carry_out(&call, plan, *effect).await;
                Reply::Html(*status)
            }
            Some(Fault::Huge { bytes }) => {
                self.carry_out(&call, plan, true).await;
                Reply::Huge(*bytes)
            }
            // These combine, and were taken out of the plan.
            Some(Fault::Delay { .. } | Fault::Hidden { .. } | Fault::Flap | Fault::ClockOff { .. }) => {
                Reply::Whole(self.answer(&call, plan).await, plan.clock_off)
            }
        }
    }

    async fn carry_out(&self, call: &Call, plan: &Plan, effect: bool) {
        if effect {
            self.answer(call, plan).await;
        }
    }

    /// What the world says, seen through what hides things.
    async fn answer(&self, call: &Call, plan: &Plan) -> Answer {
        if call.endpoint == Endpoint::WaitMachine {
            return self.wait(call, plan).await;
        }
        self.look(call, plan).unwrap_or_else(|| Answer::error(404, "not found"))
    }

    fn look(&self, call: &Call, plan: &Plan) -> Option<Answer> {
        let mut state = self.state();
        let now = state.world.now();
        let young = |born: Option<u64>| born.is_some_and(|born| now < born.saturating_add(plan.hide_ms));
        let born = state.world.born(call);
        if reads(call.endpoint) && young(born) {
            return Some(Answer::error(404, if call.id.is_empty() { "app not found" } else { "not found" }));
        }
        let mut answer = state.world.call(call)?;
        if let Some(list) = answer.body.as_mut().filter(|_| lists(call.endpoint)).and_then(entries) {
            if plan.flap {
                list.clear();
            }
            list.retain(|entry| !young(entry["id"].as_str().and_then(|id| state.world.born_id(id))));
        }
        Some(answer)
    }

    async fn wait(&self, call: &Call, plan: &Plan) -> Answer {
        let seconds = match wait_seconds(call) {
            Ok(seconds) => seconds,
            Err(refusal) => return refusal,
        };
        let end = Instant::now() + Duration::from_secs(seconds);
        loop {
            if let Some(answer) = self.look(call, plan) {
                return answer;
            }
            if Instant::now() >= end || self.stop.is_cancelled() {
                return self.state().world.wait_is_over(call);
            }
            self.pause(LOOK_AGAIN).await;
        }
    }

    async fn pause(&self, time: Duration) {
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = self.stop.cancelled() => {}
        }
    }
}

impl State {
    /// The next response's number.
    pub(crate) fn number(&mut self) -> u64 {
        self.numbered += 1;
        self.numbered
    }

    /// An empty world, as it was at the start.
    pub(crate) fn reset(&mut self) {
        self.skipped = 0;
        self.world = World::new(self.start.clone(), wall());
        self.limits = Limits::default();
        // They were taken once already.
        self.rules = rules(&self.start).unwrap_or_default();
    }
}

fn rules(options: &Options) -> Result<Rules, String> {
    let mut rules = Rules::default();
    rules.add(options.rules.clone())?;
    Ok(rules)
}

/// What reads one thing by its id.
fn reads(endpoint: Endpoint) -> bool {
    matches!(
        endpoint,
        Endpoint::GetApp
            | Endpoint::GetMachine
            | Endpoint::GetVolume
            | Endpoint::WaitMachine
            | Endpoint::ListEvents
            | Endpoint::GetLease
            | Endpoint::GetMetadata
            | Endpoint::GetMetadataKey
    )
}

/// What lists things that have ids.
fn lists(endpoint: Endpoint) -> bool {
    matches!(endpoint, Endpoint::ListApps | Endpoint::ListMachines | Endpoint::ListVolumes)
}

/// The entries of a list's answer.
fn entries(body: &mut Value) -> Option<&mut Vec<Value>> {
    match body {
        Value::Array(entries) => Some(entries),
        Value::Object(fields) => fields.get_mut("apps").and_then(Value::as_array_mut),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

/// The body of an answer by a clock that is `seconds` off.
pub(crate) fn text(answer: &Answer, seconds: i64) -> Option<String> {
    let mut body = answer.body.clone()?;
    if seconds != 0 {
        shift_times(&mut body, seconds);
    }
    Some(body.to_string())
}

/// The clock on the wall. Milliseconds since 1970.
pub(crate) fn wall() -> u64 {
    u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0)
}
