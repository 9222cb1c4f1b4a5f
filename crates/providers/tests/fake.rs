//! The fake fails exactly as its script says, without a runtime and without a clock.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use freehold_domain::ids::InstanceId;
use freehold_domain::owner::Context;
use freehold_domain::plan::{Capabilities, Names};
use freehold_domain::resource::{Observation, Outcome, RejectionClass, Resource, ResourceKind, RuntimeState};
use freehold_domain::route::Endpoint;
use freehold_domain::time::Timestamp;
use freehold_engine::ident::Idents;
use freehold_engine::ports::{Blueprint, Ident, Made, Order, Provider};
use freehold_providers::fake::{CallKind, FakeCloud, FakeProvider, Fault, Sight};

const LATE: Duration = Duration::from_secs(7);
const BASE: CallKind = CallKind::Ensure(ResourceKind::Base);
const RUNTIME: CallKind = CallKind::Ensure(ResourceKind::Runtime);

/// A future that waits for nothing is ready at once.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut TaskContext::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the fake waits for something"),
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

struct Story {
    provider: FakeProvider,
    ident: Ident,
}

impl Story {
    fn of(capabilities: Capabilities) -> Self {
        let idents = Idents::new("test".parse().expect("valid"), &[1; 32]);
        let context = Context::new("user:alice".parse().expect("valid"), None).expect("valid");
        let ident = idents.of(InstanceId::mint(1, [1; 10]), &context);
        Self { provider: FakeProvider::new(FakeCloud::default(), idents, capabilities), ident }
    }

    fn strict() -> Self {
        Self::of(FakeProvider::BEST)
    }

    fn lax() -> Self {
        Self::of(Capabilities { names: Names::Free, seals: false, ..FakeProvider::BEST })
    }

    fn cloud(&self) -> &FakeCloud {
        self.provider.cloud()
    }

    fn ensure(&self, kind: ResourceKind) -> Outcome<Made> {
        let blueprint = Blueprint {
            command: Vec::new(),
            image: None,
            env: BTreeMap::new(),
            secrets: BTreeSet::new(),
            memory_mb: 1,
            cpu_millis: 1,
            volume_gb: 0,
            region: Some("eu".to_owned()),
        };
        let order = Order { ident: &self.ident, blueprint: &blueprint, resources: &[] };
        match kind {
            ResourceKind::Base => now(self.provider.ensure_base(&order)),
            ResourceKind::Storage => now(self.provider.ensure_storage(&order)),
            ResourceKind::Runtime => now(self.provider.ensure_runtime(&order)),
        }
    }

    fn make(&self, kind: ResourceKind) -> Resource {
        match self.ensure(kind) {
            Outcome::Done(made) => made.resource,
            other => panic!("{other:?}"),
        }
    }

    fn destroy(&self, resource: &Resource) -> Outcome<()> {
        now(self.provider.destroy(&self.ident, resource))
    }

    fn look(&self) -> Observation {
        now(self.provider.observe(&self.ident)).expect("an answer")
    }

    fn counts(&self, kind: ResourceKind) -> (u64, usize) {
        let live = self.cloud().live_of(&self.ident).iter().filter(|one| one.kind == kind).count();
        (self.cloud().ever_made(self.ident.instance, kind), live)
    }
}

#[test]
fn an_answer_can_be_lost_with_and_without_the_effect() {
    for (fault, made) in [(Fault::AnswerLost, 1), (Fault::NothingDone, 0)] {
        let story = Story::strict();
        story.cloud().script(BASE, 1, fault);
        assert!(matches!(story.ensure(ResourceKind::Base), Outcome::Unknown(_)));
        assert_eq!(story.counts(ResourceKind::Base), (made, made as usize));
        story.make(ResourceKind::Base);
        assert_eq!(story.counts(ResourceKind::Base), (1, 1), "the second call finds the first or makes it");
    }
}

#[test]
fn what_is_made_late_collides_only_where_names_are_enforced() {
    for (story, ever) in [(Story::strict(), 1), (Story::lax(), 2)] {
        story.make(ResourceKind::Base);
        story.cloud().script_next(RUNTIME, Fault::Late(LATE));
        assert!(matches!(story.ensure(ResourceKind::Runtime), Outcome::Unknown(_)));
        assert_eq!(story.counts(ResourceKind::Runtime), (0, 0));
        story.make(ResourceKind::Runtime);
        story.cloud().advance(at(6));
        assert_eq!(story.counts(ResourceKind::Runtime), (1, 1));
        story.cloud().advance(at(7));
        assert_eq!(story.counts(ResourceKind::Runtime), (ever, ever as usize));
        assert!(!story.cloud().has_late());
    }
}

#[test]
fn what_is_late_does_not_get_past_a_seal() {
    let story = Story::strict();
    story.make(ResourceKind::Base);
    story.cloud().script_next(RUNTIME, Fault::Late(LATE));
    assert!(matches!(story.ensure(ResourceKind::Runtime), Outcome::Unknown(_)));
    assert_eq!(now(story.provider.seal(&story.ident)), Outcome::Done(()));
    story.cloud().settle_late();
    assert_eq!(story.counts(ResourceKind::Runtime), (0, 0));
    assert!(story.cloud().is_sealed(story.ident.instance));
}

#[test]
fn twice_made_is_two_resources_where_names_are_not_enforced() {
    let story = Story::lax();
    story.make(ResourceKind::Base);
    story.cloud().script_next(RUNTIME, Fault::Twice);
    let first = story.make(ResourceKind::Runtime);
    assert_eq!(story.counts(ResourceKind::Runtime), (2, 2));
    let found: Vec<_> = story.look().found.into_iter().filter(|one| one.resource.kind == first.kind).collect();
    assert_eq!(found.len(), 2);
    assert!(found[0].resource.same_thing(&first), "oldest first");
    assert_eq!(story.destroy(&found[1].resource), Outcome::Done(()));
    assert_eq!(story.counts(ResourceKind::Runtime), (2, 1));
}

#[test]
fn a_refusal_is_a_refusal_of_its_class_and_changes_nothing() {
    for class in [
        RejectionClass::Invalid,
        RejectionClass::Unauthorized,
        RejectionClass::Capacity { region: Some("eu".to_owned()) },
        RejectionClass::Quota,
    ] {
        let story = Story::strict();
        story.cloud().script(BASE, 1, Fault::Refused(class.clone()));
        match story.ensure(ResourceKind::Base) {
            Outcome::Rejected(rejection) => assert_eq!(rejection.class, class),
            other => panic!("{other:?}"),
        }
        assert_eq!(story.counts(ResourceKind::Base), (0, 0));
    }
}

#[test]
fn what_never_left_is_no_call_and_a_foreign_name_is_foreign() {
    let story = Story::strict();
    story.cloud().script(BASE, 1, Fault::NotSent);
    assert!(matches!(story.ensure(ResourceKind::Base), Outcome::NotSent(_)));
    assert!(story.cloud().calls().is_empty());
    story.cloud().script_next(BASE, Fault::Foreign);
    match story.ensure(ResourceKind::Base) {
        Outcome::Rejected(rejection) => assert_eq!(rejection.class, RejectionClass::ConflictForeign),
        other => panic!("{other:?}"),
    }
    let seen = story.look();
    assert!(seen.foreign().is_some() && seen.proves_absence(), "{seen:?}");
    let calls: Vec<_> = story.cloud().calls().iter().map(|call| (call.kind, call.nth)).collect();
    assert_eq!(calls, [(BASE, 2)]);
}

#[test]
fn deletes_lie_lose_their_answer_and_come_back() {
    let story = Story::strict();
    let base = story.make(ResourceKind::Base);
    let delete = CallKind::Destroy(ResourceKind::Base);
    story.cloud().script(delete, 1, Fault::NeverFinished);
    assert_eq!(story.destroy(&base), Outcome::Done(()));
    assert!(!story.look().proves_absence());
    story.cloud().script(delete, 2, Fault::AnswerLost);
    assert!(matches!(story.destroy(&base), Outcome::Unknown(_)));
    assert!(story.look().proves_absence());
    let base = story.make(ResourceKind::Base);
    story.cloud().script(delete, 3, Fault::BackAgain(LATE));
    assert_eq!(story.destroy(&base), Outcome::Done(()));
    assert!(story.look().proves_absence());
    story.cloud().advance(at(7));
    assert!(!story.look().proves_absence());
    assert_eq!(story.counts(ResourceKind::Base), (2, 1), "coming back is not being made");
}

#[test]
fn looks_fail_in_every_way_for_a_while_and_only_a_liar_proves_absence() {
    let story = Story::strict();
    story.make(ResourceKind::Base);
    for sight in [Sight::Inconclusive, Sight::Flapping, Sight::Stale] {
        story.cloud().impair(sight, at(10));
        for _ in 0..4 {
            let seen = story.look();
            assert!(!seen.conclusive && !seen.proves_absence(), "{sight:?}: {seen:?}");
        }
    }
    story.cloud().impair(Sight::Unanswered, at(10));
    assert!(now(story.provider.observe(&story.ident)).is_err());
    story.cloud().impair(Sight::Stale, at(10));
    story.make(ResourceKind::Storage);
    assert_eq!(story.look().found.len(), 1);
    story.cloud().impair(Sight::Lying, at(10));
    assert!(story.look().proves_absence());
    story.cloud().advance(at(10));
    assert_eq!(story.look().found.len(), 2);
}

#[test]
fn runtimes_do_what_they_are_told_to() {
    let story = Story::strict();
    story.make(ResourceKind::Base);
    story.cloud().starting_for(LATE);
    story.make(ResourceKind::Runtime);
    assert_eq!(story.look().runtime, RuntimeState::Starting);
    story.cloud().advance(at(7));
    assert_eq!(story.look().runtime, RuntimeState::Running);
    let exited = RuntimeState::Exited("exit status 1".to_owned());
    story.cloud().set_runtime(story.ident.instance, exited.clone());
    assert_eq!(story.look().runtime, exited);
    story.make(ResourceKind::Runtime);
    assert_eq!(story.look().runtime, RuntimeState::Starting, "asking for it starts it");
    story.cloud().vanish(story.ident.instance, ResourceKind::Runtime);
    assert_eq!(story.look().runtime, RuntimeState::Missing);
    story.cloud().first_states([exited.clone()]);
    story.make(ResourceKind::Runtime);
    assert_eq!(story.look().runtime, exited);
}

#[test]
fn chance_decides_where_the_script_is_silent_and_the_same_chance_makes_the_same_world() {
    let run = |seed: u64| {
        let story = Story::lax();
        let mut state = seed;
        let faults = Fault::all(LATE);
        story.cloud().set_chance(move |call| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(call.nth);
            faults.get((state >> 33) as usize % (2 * faults.len())).cloned()
        });
        for second in 0..50 {
            story.cloud().advance(at(second));
            for kind in ResourceKind::ALL {
                drop(story.ensure(kind));
            }
            for found in story.look().found {
                drop(story.destroy(&found.resource));
            }
        }
        story.cloud().heal();
        story.cloud().settle_late();
        (story.cloud().calls(), story.cloud().live())
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn the_instant_one_answers_where_it_is_told_and_remembers_no_calls() {
    let idents = Idents::new("test".parse().expect("valid"), &[1; 32]);
    let endpoint = Endpoint("http://127.0.0.1:9".to_owned());
    let provider = FakeProvider::instant(idents, endpoint.clone());
    let story = Story { provider, ..Story::strict() };
    story.make(ResourceKind::Base);
    let runtime = story.make(ResourceKind::Runtime);
    assert_eq!(story.provider.endpoint(&[runtime]), Some(endpoint));
    assert_eq!(story.look().runtime, RuntimeState::Running);
    assert!(story.cloud().calls().is_empty());
}

#[test]
fn a_pause_is_awaited_before_each_call() {
    let Story { provider, ident } = Story::strict();
    let story = Story { provider: provider.with_pause(Arc::new(|| Box::pin(std::future::pending()))), ident };
    let mut look = pin!(story.provider.observe(&story.ident));
    assert!(look.as_mut().poll(&mut TaskContext::from_waker(Waker::noop())).is_pending());
}
