//! The world that a fake provider makes things in, as tests and the provider see it.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use freehold_domain::ids::InstanceId;
use freehold_domain::plan::Capabilities;
use freehold_domain::protection::{Protection, stands};
use freehold_domain::resource::{Observation, Outcome, RejectionClass, Resource, ResourceKind, RuntimeState};
use freehold_domain::route::Endpoint;
use freehold_domain::time::Timestamp;
use freehold_engine::ident::Idents;
use freehold_engine::ports::{Claim, Ident, Made, OwnedPage, OwnedResource, Tags, Unanswered};

use super::fault::{Call, CallKind, Fault, Sight};
use super::world::{Effect, FakeResource, World, rejected, seen};

/// How many instances a page of the list covers: few, so that tests with few of them turn pages.
const PAGE_INSTANCES: usize = 3;

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

    /// The ids of somebody else's resources that were removed.
    #[must_use]
    pub fn harmed(&self) -> Vec<String> {
        self.world().harmed.clone()
    }

    /// The instances to which something late happened since this was asked last.
    #[must_use]
    pub fn take_landed(&self) -> BTreeSet<InstanceId> {
        std::mem::take(&mut self.world().landed)
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

    /// Whether a scripted fault has not happened yet.
    #[must_use]
    pub fn has_script(&self) -> bool {
        !self.world().script.is_empty()
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

    /// Plants a resource with the instance's name and its own tags, behind everybody's back.
    pub fn plant(&self, kind: ResourceKind, ident: &Ident) -> Resource {
        let mut world = self.world();
        let at = world.make(kind, ident, None);
        world.made(ident.instance, at).resource
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
        let enforces_names = capabilities.names.are_unique(kind);
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
            Some(_) if !stands(Protection::ExistingIsAdopted) => {
                return rejected(RejectionClass::Invalid, "already exists");
            }
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
            if gone.tags != ident.tags {
                world.harmed.push(gone.resource.id.clone());
            }
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
        let nothing = |conclusive| Observation {
            conclusive,
            found: Vec::new(),
            runtime: RuntimeState::Missing,
            reference: String::new(),
        };
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
        let resources = ours
            .map(|one| OwnedResource { resource: one.resource.clone(), claim: Claim::Tags(one.tags.clone()) })
            .collect();
        Ok(OwnedPage { resources, unseen: 0, next })
    }

    pub(super) fn endpoint_of(&self, runtime: &Resource) -> Endpoint {
        let endpoint = self.world().endpoint.clone();
        endpoint.unwrap_or_else(|| Endpoint(format!("http://{}.invalid:80", runtime.id)))
    }
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
