//! The world that a fake provider makes things in.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use freehold_domain::ids::InstanceId;
use freehold_domain::plan::Capabilities;
use freehold_domain::resource::{
    Custody, Found, Observation, Outcome, Rejection, RejectionClass, Resource, ResourceKind, RuntimeState,
};
use freehold_domain::route::Endpoint;
use freehold_domain::time::Timestamp;
use freehold_engine::ident::Idents;
use freehold_engine::ports::{Ident, Made, OwnedPage, OwnedResource, Tags, Unanswered};

use super::fault::{Call, CallKind, Fault, Sight};

/// How many instances a page of the list covers: few, so that tests with few of them turn pages.
const PAGE_INSTANCES: usize = 3;

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
    ready_at: Option<Timestamp>,
}

/// What is there, by instance; oldest first within one.
type Live = BTreeMap<InstanceId, Vec<FakeResource>>;

type Chance = Box<dyn FnMut(&Call) -> Option<Fault> + Send>;

#[derive(Clone, Debug)]
enum Effect {
    Make { enforces_names: bool, kind: ResourceKind, ident: Ident, region: Option<String> },
    Power { ident: Ident, to: RuntimeState },
    Seal(InstanceId),
    Remove(InstanceId, Resource),
    Return(FakeResource),
}

#[derive(Default)]
struct World {
    now: Timestamp,
    live: Live,
    sealed: BTreeSet<InstanceId>,
    late: Vec<(Timestamp, Effect)>,
    script: BTreeMap<(CallKind, u64), Fault>,
    chance: Option<Chance>,
    counts: BTreeMap<CallKind, u64>,
    calls: Vec<Call>,
    forgets_calls: bool,
    ever_made: BTreeMap<(InstanceId, ResourceKind), u64>,
    serial: u64,
    sight: Option<(Sight, Timestamp)>,
    looks: u64,
    as_it_was: Live,
    first_states: VecDeque<RuntimeState>,
    starting_for: Duration,
    endpoint: Option<Endpoint>,
}

/// A world in memory. Clones are the same world.
#[derive(Clone, Default)]
pub struct FakeCloud {
    world: Arc<Mutex<World>>,
}

impl std::fmt::Debug for FakeCloud {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let world = self.world();
        f.debug_struct("FakeCloud").field("now", &world.now).field("live", &world.live).finish_non_exhaustive()
    }
}

/// The script, and time.
impl FakeCloud {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets time pass until `now`: what is late by then happens, in order. Time never runs backwards.
    pub fn advance(&self, now: Timestamp) {
        self.world().advance(now);
    }

    /// Lets everything happen that is still to come.
    pub fn settle_late(&self) {
        self.world().advance_to_last();
    }

    /// Whether anything is still to come.
    #[must_use]
    pub fn has_late(&self) -> bool {
        !self.world().late.is_empty()
    }

    /// Has the `nth` call of a kind, from 1, go wrong.
    pub fn script(&self, kind: CallKind, nth: u64, fault: Fault) {
        self.world().script.insert((kind, nth), fault);
    }

    /// Has the next call of a kind go wrong.
    pub fn script_next(&self, kind: CallKind, fault: Fault) {
        let mut world = self.world();
        let nth = world.counts.get(&kind).copied().unwrap_or(0) + 1;
        world.script.insert((kind, nth), fault);
    }

    /// Has `chance` decide about every call that the script says nothing of.
    pub fn set_chance(&self, chance: impl FnMut(&Call) -> Option<Fault> + Send + 'static) {
        self.world().chance = Some(Box::new(chance));
    }

    /// From now on nothing goes wrong any more; what is late still comes.
    pub fn heal(&self) {
        let mut world = self.world();
        world.script.clear();
        world.chance = None;
        world.sight = None;
    }

    /// Impairs looks until `until`.
    pub fn impair(&self, sight: Sight, until: Timestamp) {
        let mut world = self.world();
        world.as_it_was = world.live.clone();
        world.sight = Some((sight, until));
    }

    /// What the runtimes made from now on do first, one after the other; all others run at once.
    pub fn first_states(&self, states: impl IntoIterator<Item = RuntimeState>) {
        self.world().first_states = states.into_iter().collect();
    }

    /// How long runtimes that are started from now on are on their way.
    pub fn starting_for(&self, span: Duration) {
        self.world().starting_for = span;
    }

    /// Has the runtimes of an instance do something by themselves.
    pub fn set_runtime(&self, instance: InstanceId, state: RuntimeState) {
        for one in self.world().of(instance).iter_mut().filter(|one| one.runtime.is_some()) {
            one.runtime = Some(state.clone());
            one.ready_at = None;
        }
    }

    /// Removes resources behind everybody's back.
    pub fn vanish(&self, instance: InstanceId, kind: ResourceKind) {
        let mut world = self.world();
        world.of(instance).retain(|one| one.resource.kind != kind);
        world.tidy(instance);
    }

    /// Plants a resource with the instance's name and somebody else's tags.
    pub fn plant_foreign(&self, kind: ResourceKind, ident: &Ident) {
        let foreign = Tags { mac: "0".repeat(64), ..ident.tags.clone() };
        self.world().make(kind, &Ident { tags: foreign, ..ident.clone() }, None);
    }

    /// Where everything made answers, whichever it is.
    pub fn answer_at(&self, endpoint: Endpoint) {
        self.world().endpoint = Some(endpoint);
    }

    /// From now on calls are not remembered, and what was made is not counted.
    pub fn forget_calls(&self) {
        self.world().forgets_calls = true;
    }
}

/// What invariants are checked against.
impl FakeCloud {
    /// How many resources of a kind were ever made under an instance's name, planted ones included.
    #[must_use]
    pub fn ever_made(&self, instance: InstanceId, kind: ResourceKind) -> u64 {
        self.world().ever_made.get(&(instance, kind)).copied().unwrap_or(0)
    }

    /// Everything that is there, oldest first, somebody else's included.
    #[must_use]
    pub fn live(&self) -> Vec<FakeResource> {
        let mut all: Vec<_> = self.world().live.values().flatten().cloned().collect();
        all.sort_by_key(|one| one.serial);
        all
    }

    /// What is there of an instance and carries its tags, oldest first.
    #[must_use]
    pub fn live_of(&self, ident: &Ident) -> Vec<Resource> {
        let world = self.world();
        let live = world.live.get(&ident.instance).into_iter().flatten();
        live.filter(|one| one.tags == ident.tags).map(|one| one.resource.clone()).collect()
    }

    /// Whether creation for an instance is sealed.
    #[must_use]
    pub fn is_sealed(&self, instance: InstanceId) -> bool {
        self.world().sealed.contains(&instance)
    }

    /// Every call that was received and may have changed something, oldest first.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.world().calls.clone()
    }
}

/// What the provider does here.
impl FakeCloud {
    pub(super) fn ensure(
        &self,
        idents: &Idents,
        capabilities: Capabilities,
        kind: ResourceKind,
        ident: &Ident,
        region: Option<&str>,
    ) -> Outcome<Made> {
        let mut world = self.world();
        let region = region.map(str::to_owned);
        let enforces_names = capabilities.enforces_names;
        let effect = Effect::Make { enforces_names, kind, ident: ident.clone(), region: region.clone() };
        let fault = match world.receive(CallKind::Ensure(kind), ident, &effect) {
            Ok(fault) => fault,
            Err(outcome) => return outcome,
        };
        if fault == Some(Fault::Foreign) {
            let foreign = Tags { mac: "0".repeat(64), ..ident.tags.clone() };
            world.make(kind, &Ident { tags: foreign, ..ident.clone() }, None);
        }
        if world.has_foreign(idents, kind, ident) {
            return rejected(RejectionClass::ConflictForeign, "the name is somebody else's");
        }
        if world.sealed.contains(&ident.instance) {
            return rejected(RejectionClass::Invalid, "sealed");
        }
        if kind != ResourceKind::Base && world.find(ResourceKind::Base, ident).is_none() {
            return rejected(RejectionClass::Invalid, "there is no base");
        }
        // An honest adapter looks before it makes.
        let at = match world.find(kind, ident) {
            Some(at) => {
                if matches!(world.of(ident.instance)[at].runtime, Some(RuntimeState::Stopped | RuntimeState::Exited(_)))
                {
                    world.start(ident.instance, at);
                }
                at
            }
            None => world.make(kind, ident, region.clone()),
        };
        if fault == Some(Fault::Twice) && !enforces_names {
            world.make(kind, ident, region);
        }
        let made = world.made(ident.instance, at);
        answer(fault, made)
    }

    pub(super) fn power(
        &self,
        idents: &Idents,
        call: CallKind,
        ident: &Ident,
        known: Option<&Resource>,
        to: RuntimeState,
    ) -> Outcome<Made> {
        let mut world = self.world();
        let effect = Effect::Power { ident: ident.clone(), to: to.clone() };
        let fault = match world.receive(call, ident, &effect) {
            Ok(fault) => fault,
            Err(outcome) => return outcome,
        };
        if fault == Some(Fault::Foreign) || world.has_foreign(idents, ResourceKind::Runtime, ident) {
            return rejected(RejectionClass::ConflictForeign, "the name is somebody else's");
        }
        let on_record =
            known.and_then(|known| world.of(ident.instance).iter().position(|one| one.resource.same_thing(known)));
        let Some(at) = on_record.or_else(|| world.find(ResourceKind::Runtime, ident)) else {
            return rejected(RejectionClass::Invalid, "there is no runtime");
        };
        world.power(ident.instance, at, call, &to);
        let made = world.made(ident.instance, at);
        answer(fault, made)
    }

    pub(super) fn seal(&self, capabilities: Capabilities, ident: &Ident) -> Outcome<()> {
        let mut world = self.world();
        if !capabilities.seals {
            return rejected(RejectionClass::Invalid, "this provider cannot seal");
        }
        let fault = match world.receive(CallKind::Seal, ident, &Effect::Seal(ident.instance)) {
            Ok(fault) => fault,
            Err(outcome) => return outcome,
        };
        if fault == Some(Fault::Foreign) {
            return rejected(RejectionClass::ConflictForeign, "the name is somebody else's");
        }
        if fault != Some(Fault::NeverFinished) {
            world.sealed.insert(ident.instance);
        }
        answer(fault, ())
    }

    pub(super) fn destroy(&self, idents: &Idents, ident: &Ident, resource: &Resource) -> Outcome<()> {
        let mut world = self.world();
        let call = CallKind::Destroy(resource.kind);
        let fault = match world.receive(call, ident, &Effect::Remove(ident.instance, resource.clone())) {
            Ok(fault) => fault,
            Err(outcome) => return outcome,
        };
        let Some(at) = world.of(ident.instance).iter().position(|one| one.resource.same_thing(resource)) else {
            world.tidy(ident.instance);
            return answer(fault, ());
        };
        if fault == Some(Fault::Foreign) || !idents.verify(&world.of(ident.instance)[at].tags, ident.instance) {
            return rejected(RejectionClass::ConflictForeign, "it is somebody else's");
        }
        if fault != Some(Fault::NeverFinished) {
            let gone = world.of(ident.instance).remove(at);
            world.tidy(ident.instance);
            if let Some(Fault::BackAgain(span)) = fault {
                let back_at = world.now.plus(span);
                world.late.push((back_at, Effect::Return(gone)));
            }
        }
        answer(fault, ())
    }

    pub(super) fn observe(&self, idents: &Idents, ident: &Ident) -> Result<Observation, Unanswered> {
        let mut world = self.world();
        world.looks += 1;
        let sight = world.sight.filter(|(_, until)| world.now < *until).map(|(sight, _)| sight);
        let nothing = |conclusive| Observation { conclusive, found: Vec::new(), runtime: RuntimeState::Missing };
        match sight {
            None => Ok(seen(&world.live, world.now, idents, ident, true)),
            Some(Sight::Unanswered) => Err(Unanswered("the fake is out of sight".to_owned())),
            Some(Sight::Inconclusive) => Ok(nothing(false)),
            Some(Sight::Flapping) if world.looks % 2 == 1 => Ok(nothing(false)),
            Some(Sight::Flapping) => Ok(seen(&world.live, world.now, idents, ident, false)),
            Some(Sight::Stale) => Ok(seen(&world.as_it_was, world.now, idents, ident, false)),
            Some(Sight::Lying) => Ok(nothing(true)),
        }
    }

    pub(super) fn list_owned(&self, install: &str, page: Option<&str>) -> Result<OwnedPage, Unanswered> {
        let world = self.world();
        if world.sight.is_some_and(|(sight, until)| sight == Sight::Unanswered && world.now < until) {
            return Err(Unanswered("the fake is out of sight".to_owned()));
        }
        let after = match page.map(str::parse::<InstanceId>) {
            None => Bound::Unbounded,
            Some(Ok(after)) => Bound::Excluded(after),
            Some(Err(_)) => return Err(Unanswered("fake: no such page".to_owned())),
        };
        let mut folders = world.live.range((after, Bound::Unbounded));
        let page: Vec<_> = folders.by_ref().take(PAGE_INSTANCES).collect();
        let next = page.last().filter(|_| folders.next().is_some()).map(|(instance, _)| instance.to_string());
        let ours = page.into_iter().flat_map(|(_, all)| all).filter(|one| one.tags.install == install);
        let resources =
            ours.map(|one| OwnedResource { resource: one.resource.clone(), tags: one.tags.clone() }).collect();
        Ok(OwnedPage { resources, next })
    }

    pub(super) fn endpoint_of(&self, runtime: &Resource) -> Endpoint {
        let endpoint = self.world().endpoint.clone();
        endpoint.unwrap_or_else(|| Endpoint(format!("http://{}.invalid:80", runtime.id)))
    }
}

fn rejected<T>(class: RejectionClass, detail: &str) -> Outcome<T> {
    Outcome::Rejected(Rejection { class, detail: format!("fake: {detail}") })
}

/// What the caller hears of what happened.
fn answer<T>(fault: Option<Fault>, value: T) -> Outcome<T> {
    match fault {
        Some(Fault::AnswerLost) => Outcome::Unknown("fake: the answer was lost".to_owned()),
        Some(
            Fault::NothingDone
            | Fault::Late(_)
            | Fault::Twice
            | Fault::Refused(_)
            | Fault::NotSent
            | Fault::Foreign
            | Fault::NeverFinished
            | Fault::BackAgain(_),
        )
        | None => Outcome::Done(value),
    }
}

fn seen(live: &Live, now: Timestamp, idents: &Idents, ident: &Ident, conclusive: bool) -> Observation {
    let mut found = Vec::new();
    let mut runtime = RuntimeState::Missing;
    for one in live.get(&ident.instance).into_iter().flatten() {
        let custody = if idents.verify(&one.tags, ident.instance) { Custody::Ours } else { Custody::Foreign };
        if custody == Custody::Ours && runtime == RuntimeState::Missing {
            runtime = one.state(now).unwrap_or(RuntimeState::Missing);
        }
        found.push(Found { resource: one.resource.clone(), custody });
    }
    Observation { conclusive, found, runtime }
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
    fn receive<T>(&mut self, kind: CallKind, ident: &Ident, effect: &Effect) -> Result<Option<Fault>, Outcome<T>> {
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

    fn advance(&mut self, now: Timestamp) {
        while let Some(at) = self.next_late().filter(|at| self.late[*at].0 <= now) {
            let (due, effect) = self.late.remove(at);
            self.now = self.now.max(due);
            self.happen(effect);
        }
        self.now = self.now.max(now);
    }

    fn advance_to_last(&mut self) {
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

    fn of(&mut self, instance: InstanceId) -> &mut Vec<FakeResource> {
        self.live.entry(instance).or_default()
    }

    /// Forgets an instance that has nothing.
    fn tidy(&mut self, instance: InstanceId) {
        if self.of(instance).is_empty() {
            self.live.remove(&instance);
        }
    }

    fn find(&self, kind: ResourceKind, ident: &Ident) -> Option<usize> {
        let live = self.live.get(&ident.instance)?;
        live.iter().position(|one| one.resource.kind == kind && one.tags == ident.tags)
    }

    fn has_foreign(&self, idents: &Idents, kind: ResourceKind, ident: &Ident) -> bool {
        let live = self.live.get(&ident.instance).into_iter().flatten();
        let mut named = live.filter(|one| one.resource.kind == kind);
        // The MAC is worked out only for tags that are not the very ones asked for.
        named.any(|one| one.tags != ident.tags && !idents.verify(&one.tags, ident.instance))
    }

    fn make(&mut self, kind: ResourceKind, ident: &Ident, region: Option<String>) -> usize {
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

    fn start(&mut self, instance: InstanceId, at: usize) {
        let waits = !self.starting_for.is_zero();
        let soon = self.now.plus(self.starting_for);
        let one = &mut self.of(instance)[at];
        one.runtime = Some(if waits { RuntimeState::Starting } else { RuntimeState::Running });
        one.ready_at = waits.then_some(soon);
    }

    fn power(&mut self, instance: InstanceId, at: usize, call: CallKind, to: &RuntimeState) {
        let one = &mut self.of(instance)[at];
        let up = matches!(one.runtime, Some(RuntimeState::Starting | RuntimeState::Running));
        if *to == RuntimeState::Stopped {
            one.runtime = Some(RuntimeState::Stopped);
            one.ready_at = None;
        } else if !(up && call == CallKind::Start) {
            self.start(instance, at);
        }
    }

    fn made(&mut self, instance: InstanceId, at: usize) -> Made {
        let now = self.now;
        let one = &self.of(instance)[at];
        Made { resource: one.resource.clone(), runtime: one.state(now) }
    }
}
