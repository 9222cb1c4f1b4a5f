//! What is there and what is still to come, without a lock: every change is a plain function.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use freehold_domain::ids::InstanceId;
use freehold_domain::resource::{
    Custody, Found, Observation, Outcome, Rejection, RejectionClass, Resource, ResourceKind, RuntimeState,
};
use freehold_domain::route::Endpoint;
use freehold_domain::time::Timestamp;
use freehold_engine::ident::Idents;
use freehold_engine::ports::{Ident, Made, Tags};

use super::fault::{Call, CallKind, Fault, Sight};

/// One resource of the fake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FakeResource {
    /// What others see of it.
    pub resource: Resource,
    /// Its name.
    pub name: String,
    /// Its tags.
    pub tags: Tags,
    /// What it is doing, if it is a runtime.
    pub runtime: Option<RuntimeState>,
    /// For which instance it was asked for.
    pub instance: InstanceId,
    /// Rises with every resource that is made.
    pub serial: u64,
    pub(super) ready_at: Option<Timestamp>,
}

/// What is there, by instance; oldest first within one.
pub(super) type Live = BTreeMap<InstanceId, Vec<FakeResource>>;

type Chance = Box<dyn FnMut(&Call) -> Option<Fault> + Send>;

#[derive(Clone, Debug)]
pub(super) enum Effect {
    Make { enforces_names: bool, kind: ResourceKind, ident: Ident, region: Option<String> },
    Power { ident: Ident, to: RuntimeState },
    Seal(InstanceId),
    Remove(InstanceId, Resource),
    Return(FakeResource),
}

impl Effect {
    fn instance(&self) -> InstanceId {
        match self {
            Self::Make { ident, .. } | Self::Power { ident, .. } => ident.instance,
            Self::Seal(instance) | Self::Remove(instance, _) => *instance,
            Self::Return(resource) => resource.instance,
        }
    }
}

#[derive(Default)]
pub(super) struct World {
    pub(super) now: Timestamp,
    pub(super) live: Live,
    pub(super) sealed: BTreeSet<InstanceId>,
    pub(super) late: Vec<(Timestamp, Effect)>,
    pub(super) landed: BTreeSet<InstanceId>,
    pub(super) harmed: Vec<String>,
    pub(super) script: BTreeMap<(CallKind, u64), Fault>,
    pub(super) chance: Option<Chance>,
    pub(super) counts: BTreeMap<CallKind, u64>,
    pub(super) calls: Vec<Call>,
    pub(super) forgets_calls: bool,
    pub(super) ever_made: BTreeMap<(InstanceId, ResourceKind), u64>,
    pub(super) serial: u64,
    pub(super) sight: Option<(Sight, Timestamp)>,
    pub(super) looks: u64,
    pub(super) as_it_was: Live,
    pub(super) first_states: VecDeque<RuntimeState>,
    pub(super) starting_for: Duration,
    pub(super) endpoint: Option<Endpoint>,
}

pub(super) fn rejected<T>(class: RejectionClass, detail: &str) -> Outcome<T> {
    Outcome::Rejected(Rejection { class, detail: format!("fake: {detail}") })
}

pub(super) fn seen(live: &Live, now: Timestamp, idents: &Idents, ident: &Ident, conclusive: bool) -> Observation {
    let mut found = Vec::new();
    let mut runtime = RuntimeState::Missing;
    for one in live.get(&ident.instance).into_iter().flatten() {
        let custody = if idents.verify(&one.tags, ident.instance) { Custody::Ours } else { Custody::Foreign };
        if custody == Custody::Ours && runtime == RuntimeState::Missing {
            runtime = one.state(now).unwrap_or(RuntimeState::Missing);
        }
        found.push(Found { resource: one.resource.clone(), custody });
    }
    Observation { conclusive, found, runtime, reference: String::new() }
}

impl FakeResource {
    fn state(&self, now: Timestamp) -> Option<RuntimeState> {
        match (&self.runtime, self.ready_at) {
            (Some(RuntimeState::Starting), Some(ready_at)) if now >= ready_at => Some(RuntimeState::Running),
            (state, _) => state.clone(),
        }
    }
}

impl World {
    /// Takes a call in: counts it, and finds out what goes wrong with it. An error is its whole outcome.
    pub(super) fn receive<T>(
        &mut self,
        kind: CallKind,
        ident: &Ident,
        effect: &Effect,
    ) -> Result<Option<Fault>, Outcome<T>> {
        let count = self.counts.entry(kind).or_insert(0);
        *count += 1;
        let call = Call { kind, instance: ident.instance, name: ident.name.clone(), nth: *count, at: self.now };
        let scripted = self.script.remove(&(kind, call.nth));
        let fault = scripted.or_else(|| self.chance.as_mut().and_then(|chance| chance(&call)));
        if fault == Some(Fault::NotSent) {
            return Err(Outcome::NotSent("fake: it never left".to_owned()));
        }
        if !self.forgets_calls {
            self.calls.push(call);
        }
        match fault {
            Some(Fault::NothingDone) => Err(Outcome::Unknown("fake: no answer".to_owned())),
            Some(Fault::Late(span)) => {
                self.late.push((self.now.plus(span), effect.clone()));
                Err(Outcome::Unknown("fake: no answer yet".to_owned()))
            }
            Some(Fault::Refused(class)) => Err(rejected(class, "refused")),
            other => Ok(other),
        }
    }

    pub(super) fn advance(&mut self, now: Timestamp) {
        while let Some(at) = self.next_late().filter(|at| self.late[*at].0 <= now) {
            let (due, effect) = self.late.remove(at);
            self.now = self.now.max(due);
            self.landed.insert(effect.instance());
            self.happen(effect);
        }
        self.now = self.now.max(now);
    }

    pub(super) fn advance_to_last(&mut self) {
        if let Some(last) = self.late.iter().map(|(due, _)| *due).max() {
            self.advance(last);
        }
    }

    /// The first among those that are due first.
    fn next_late(&self) -> Option<usize> {
        (0..self.late.len()).min_by_key(|at| self.late[*at].0)
    }

    /// What was late happens: now names and seals are looked at, and nobody looks before making.
    fn happen(&mut self, effect: Effect) {
        match effect {
            Effect::Make { enforces_names, kind, ident, region } => {
                let taken = enforces_names && self.find(kind, &ident).is_some();
                if !taken && !self.sealed.contains(&ident.instance) {
                    self.make(kind, &ident, region);
                }
            }
            Effect::Power { ident, to } => {
                if let Some(at) = self.find(ResourceKind::Runtime, &ident) {
                    self.power(ident.instance, at, CallKind::Update, &to);
                }
            }
            Effect::Seal(instance) => {
                self.sealed.insert(instance);
            }
            Effect::Remove(instance, resource) => {
                self.of(instance).retain(|one| !one.resource.same_thing(&resource));
                self.tidy(instance);
            }
            Effect::Return(resource) => self.of(resource.instance).push(resource),
        }
    }

    pub(super) fn of(&mut self, instance: InstanceId) -> &mut Vec<FakeResource> {
        self.live.entry(instance).or_default()
    }

    /// Forgets an instance that has nothing.
    pub(super) fn tidy(&mut self, instance: InstanceId) {
        if self.of(instance).is_empty() {
            self.live.remove(&instance);
        }
    }

    pub(super) fn find(&self, kind: ResourceKind, ident: &Ident) -> Option<usize> {
        let live = self.live.get(&ident.instance)?;
        live.iter().position(|one| one.resource.kind == kind && one.tags == ident.tags)
    }

    pub(super) fn has_foreign(&self, idents: &Idents, kind: ResourceKind, ident: &Ident) -> bool {
        let live = self.live.get(&ident.instance).into_iter().flatten();
        let mut named = live.filter(|one| one.resource.kind == kind);
        // The MAC is worked out only for tags that are not the very ones asked for.
        named.any(|one| one.tags != ident.tags && !idents.verify(&one.tags, ident.instance))
    }

    pub(super) fn make(&mut self, kind: ResourceKind, ident: &Ident, region: Option<String>) -> usize {
        self.serial += 1;
        if !self.forgets_calls {
            *self.ever_made.entry((ident.instance, kind)).or_insert(0) += 1;
        }
        let id = format!("{}-{kind}-{}", ident.name, self.serial);
        let made = FakeResource {
            resource: Resource { kind, id, region, handle: String::new() },
            name: ident.name.clone(),
            tags: ident.tags.clone(),
            runtime: None,
            instance: ident.instance,
            serial: self.serial,
            ready_at: None,
        };
        self.of(ident.instance).push(made);
        let at = self.of(ident.instance).len() - 1;
        if kind == ResourceKind::Runtime {
            self.start(ident.instance, at);
            if let Some(first) = self.first_states.pop_front() {
                let one = &mut self.of(ident.instance)[at];
                one.runtime = Some(first);
                one.ready_at = None;
            }
        }
        at
    }

    pub(super) fn start(&mut self, instance: InstanceId, at: usize) {
        let waits = !self.starting_for.is_zero();
        let soon = self.now.plus(self.starting_for);
        let one = &mut self.of(instance)[at];
        one.runtime = Some(if waits { RuntimeState::Starting } else { RuntimeState::Running });
        one.ready_at = waits.then_some(soon);
    }

    pub(super) fn power(&mut self, instance: InstanceId, at: usize, call: CallKind, to: &RuntimeState) {
        let one = &mut self.of(instance)[at];
        let up = matches!(one.runtime, Some(RuntimeState::Starting | RuntimeState::Running));
        if *to == RuntimeState::Stopped {
            one.runtime = Some(RuntimeState::Stopped);
            one.ready_at = None;
        } else if !(up && call == CallKind::Start) {
            self.start(instance, at);
        }
    }

    pub(super) fn made(&mut self, instance: InstanceId, at: usize) -> Made {
        let now = self.now;
        let one = &self.of(instance)[at];
        Made { resource: one.resource.clone(), runtime: one.state(now) }
    }
}
