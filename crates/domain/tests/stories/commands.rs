//! Random commands in random order, with right and wrong epochs, over one context: whatever is accepted keeps every
//! invariant, and whatever is refused leaves everything as it was.

use std::time::Duration;

use freehold_domain::event::Actor;
use freehold_domain::evidence::{NothingSent, OperatorOverride, ProvenAbsent, Release, Sealed};
use freehold_domain::ids::LeakId;
use freehold_domain::invariants::{Tenancy, check_change, check_context};
use freehold_domain::lease::Epoch;
use freehold_domain::ledger::{Entry, admit};
use freehold_domain::operation::{Failure, FailureCode, Step, StepStatus};
use freehold_domain::records::{CanonicalSuccess, RecordsView, SubscriptionStatus};
use freehold_domain::reservation::Status;
use freehold_domain::resource::{Custody, Found, Observation, Rejection, RejectionClass, ResourceKind, RuntimeState};
use freehold_domain::route::{Endpoint, Route};
use freehold_domain::run::{
    Begin, Change, Destroy, Effect, Finding, Hold, LeakChange, Note, Refused, Run, Settle, Settlement, Then, Work,
    admitted, begun, claimed, destroyed, noted, overridden, repaired, settled, swept, watched,
};
use freehold_domain::time::Timestamp;
use proptest::prelude::*;

use crate::common::{START, bid, commission, holder, resource, row, spec, subscription};

const LEASE: Duration = Duration::from_secs(10);
const HORIZON: Duration = Duration::from_secs(60);
/// A context with more instances than this learns nothing new.
const INSTANCES_MAX: usize = 4;

/// Which epoch a command is given under.
#[derive(Clone, Copy, Debug)]
enum Held {
    Current,
    Earlier,
    Later,
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    NotSent,
    Rejected,
    Unknown,
    Done,
}

#[derive(Clone, Debug)]
enum What {
    Admit,
    Tick(u64),
    Claim { node: char, life: u64 },
    Proceed,
    Intend { held: Held, answer: Option<Answer>, step: Step },
    Look { held: Held, answer: Option<Answer>, step: Step, sees: u8, conclusive: bool },
    Rest { held: Held, answer: Option<Answer>, for_s: u64 },
    Complete { held: Held },
    GiveUp { held: Held },
    Release { held: Held },
    Succeed { held: Held },
    Fail { held: Held },
    Destroy,
    Begin(u8),
    Repair,
    Override,
    Watch { held: Held, down: bool },
    Sweep { held: Held, kinds: u8 },
}

fn held() -> impl Strategy<Value = Held> {
    prop_oneof![8 => Just(Held::Current), 1 => Just(Held::Earlier), 1 => Just(Held::Later)]
}

fn answer() -> impl Strategy<Value = Option<Answer>> {
    prop_oneof![
        1 => Just(None),
        1 => Just(Some(Answer::NotSent)),
        1 => Just(Some(Answer::Rejected)),
        1 => Just(Some(Answer::Unknown)),
        6 => Just(Some(Answer::Done)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    proptest::sample::select(Step::ALL.to_vec())
}

fn what() -> impl Strategy<Value = What> {
    prop_oneof![
        2 => Just(What::Admit),
        2 => (0u64..90).prop_map(What::Tick),
        3 => ("[ab]", 1u64..3).prop_map(|(node, life)| What::Claim { node: node.chars().next().unwrap_or('a'), life }),
        14 => Just(What::Proceed),
        12 => (held(), answer(), step()).prop_map(|(held, answer, step)| What::Intend { held, answer, step }),
        4 => (held(), answer(), step(), 0u8..8, any::<bool>()).prop_map(|(held, answer, step, sees, conclusive)| {
            What::Look { held, answer, step, sees, conclusive }
        }),
        1 => (held(), answer(), 0u64..60).prop_map(|(held, answer, for_s)| What::Rest { held, answer, for_s }),
        3 => held().prop_map(|held| What::Complete { held }),
        1 => held().prop_map(|held| What::GiveUp { held }),
        3 => held().prop_map(|held| What::Release { held }),
        1 => held().prop_map(|held| What::Succeed { held }),
        1 => held().prop_map(|held| What::Fail { held }),
        1 => Just(What::Destroy),
        2 => (0u8..5).prop_map(What::Begin),
        2 => Just(What::Repair),
        1 => Just(What::Override),
        1 => (held(), any::<bool>()).prop_map(|(held, down)| What::Watch { held, down }),
        4 => (held(), 0u8..8).prop_map(|(held, kinds)| What::Sweep { held, kinds }),
    ]
}

/// One instance as a registry keeps it, with the answer that its executor owes.
#[derive(Clone, Debug)]
struct Kept {
    run: Run,
    route: Option<Route>,
    records: RecordsView,
    leaked: bool,
}

#[derive(Clone, Debug)]
struct Registry {
    now: Timestamp,
    kept: Vec<Kept>,
    operations: u8,
    resources: u32,
}

impl Registry {
    fn under(&self, which: usize, held: Held) -> Epoch {
        let current = self.kept[which].run.reservation.epoch;
        match held {
            Held::Current => current,
            Held::Earlier => Epoch::new(current.get() - 1),
            Held::Later => current.next(),
        }
    }

    fn commission(&mut self) -> freehold_domain::run::Commission {
        self.operations = self.operations.wrapping_add(1);
        commission(self.operations, self.now.plus(HORIZON))
    }

    /// What comes of the step that is noted, if one is. The records are written as the step says: the statement that
    /// writes them checks that the step is still wanted.
    fn finding(&mut self, which: usize, answer: Option<Answer>) -> Option<(Step, Finding)> {
        let step = self.kept[which].run.operation.steps.iter().find(|record| record.status == StepStatus::Noted)?.step;
        let finding = match answer? {
            Answer::NotSent => Finding::NotSent("not sent".to_owned()),
            Answer::Unknown => Finding::Unknown("no answer".to_owned()),
            Answer::Rejected => Finding::Rejected(Rejection {
                class: RejectionClass::Capacity { region: None },
                detail: "no".to_owned(),
            }),
            Answer::Done => Finding::Done(self.effect(which, step)),
        };
        Some((step, finding))
    }

    fn effect(&mut self, which: usize, step: Step) -> Effect {
        let now = self.now;
        self.resources += 1;
        let number = self.resources;
        let kept = &mut self.kept[which];
        let instance = kept.run.reservation.instance;
        let made = |kind, runtime| Effect::Made { resource: resource(kind, number), runtime };
        match step {
            Step::Base => made(ResourceKind::Base, None),
            Step::Storage => made(ResourceKind::Storage, None),
            Step::Runtime => made(ResourceKind::Runtime, Some(RuntimeState::Running)),
            Step::Power | Step::Update => match kept.run.reservation.resource(ResourceKind::Runtime) {
                Some(runtime) => Effect::Made { resource: runtime.clone(), runtime: Some(RuntimeState::Running) },
                None => Effect::Nothing,
            },
            Step::Seal => Effect::Sealed,
            // Of a complete instance that is wanted the plan removes extra copies only.
            Step::Remove if kept.run.reservation.is_active() => match kept.run.reservation.extra() {
                Some(extra) => Effect::Removed(extra.clone()),
                None => Effect::Nothing,
            },
            Step::Remove => match kept.run.reservation.resources.last() {
                Some(last) => Effect::Removed(last.clone()),
                None => Effect::Nothing,
            },
            // Records refuse late writers.
            Step::Record | Step::Subscribe if kept.run.reservation.status != Status::InProgress => Effect::Nothing,
            Step::Record => {
                kept.records.row.get_or_insert_with(|| row(instance, now));
                Effect::Nothing
            }
            Step::Subscribe => {
                if kept.records.row_is_active() {
                    kept.records.subscription.get_or_insert_with(|| subscription(instance, now));
                }
                Effect::Nothing
            }
            Step::EndSubscription => {
                if let Some(subscription) = &mut kept.records.subscription {
                    subscription.status = SubscriptionStatus::Ended;
                }
                Effect::Nothing
            }
            Step::MarkDestroyed => {
                if let Some(row) = &mut kept.records.row {
                    row.destroyed_at.get_or_insert(now);
                }
                kept.records.closed = true;
                Effect::Nothing
            }
            Step::CheckActive | Step::Ready | Step::Complete | Step::Absence | Step::Release => Effect::Nothing,
        }
    }

    fn settle(&mut self, which: usize, held: Held, settlement: Settlement) -> Result<Change, String> {
        let settle = Settle { at: self.now, finding: None, settlement, check_at: self.now.plus(HORIZON) };
        settled(&self.kept[which].run, self.under(which, held), &settle).map_err(|refused| refused.to_string())
    }

    fn note(
        &mut self,
        which: usize,
        held: Held,
        finding: Option<(Step, Finding)>,
        then: Then,
    ) -> Result<Change, String> {
        let before = &self.kept[which].run;
        let note = Note { at: self.now, finding, then };
        let result = noted(before, self.under(which, held), &note);
        if let (Ok(change), Then::Intend(step)) = (&result, &note.then) {
            let reservation = &change.run.reservation;
            let open = matches!(reservation.status, Status::InProgress | Status::Completed);
            let wanted = open && !reservation.intent.is_destroy();
            assert!(!step.may_create() || (wanted && reservation.sealed_at.is_none()), "{step} of what is not wanted");
            assert!(!(step.undoes() && wanted), "{step} of what is wanted");
        }
        let current = matches!(held, Held::Current);
        assert!(current || matches!(result, Err(Refused::Fenced(_))), "a wrong epoch is fenced before anything else");
        result.map_err(|refused| refused.to_string())
    }

    fn evidence(&self, which: usize) -> Option<Release> {
        let Kept { run, records, .. } = &self.kept[which];
        // The plan ends what is paid for and marks the row before it releases.
        if records.row_is_active() || records.subscription_is_active() {
            return None;
        }
        let reservation = &run.reservation;
        let last_send = reservation.last_sent_at.unwrap_or(reservation.started_at).plus(LEASE);
        NothingSent::establish(reservation)
            .map(Release::NothingSent)
            .or_else(|| Sealed::establish(reservation).map(Release::Sealed))
            .or_else(|| ProvenAbsent::establish(reservation, last_send, HORIZON).map(Release::ProvenAbsent))
    }

    fn admit(&mut self) {
        let entries: Vec<_> = self.kept.iter().map(|kept| Entry::from(&kept.run.reservation)).collect();
        if self.kept.len() < INSTANCES_MAX && admit(&entries, 1).is_ok() {
            let number = u8::try_from(self.kept.len()).expect("few") + 1;
            let commission = self.commission();
            let change = admitted(bid(number), &commission, self.now);
            self.kept.push(Kept { run: change.run, route: None, records: RecordsView::default(), leaked: false });
        }
    }

    fn obey(&mut self, which: usize, what: &What) -> Result<Change, String> {
        let failure =
            || Failure { code: FailureCode::ProviderProvisionFailed, rejection: None, detail: "given up".to_owned() };
        let endpoint = || Endpoint("http://127.0.0.1:1".to_owned());
        let proof = CanonicalSuccess::establish(&self.kept[which].records);
        let run = self.kept[which].run.clone();
        let nothing = Err("there is nothing to do".to_owned());
        match what {
            What::Admit | What::Tick(_) => unreachable!("handled by the context"),
            What::Claim { node, life } => {
                let hold = Hold { holder: holder(*node, *life), until: self.now.plus(LEASE) };
                claimed(&run, &hold, self.now).map_err(|refused| refused.to_string())
            }
            What::Intend { held, answer, step } => {
                let finding = self.finding(which, *answer);
                self.note(which, *held, finding, Then::Intend(*step))
            }
            What::Proceed => {
                let finding = self.finding(which, Some(Answer::Done));
                let done = |step| run.operation.has_done(step) || finding.as_ref().is_some_and(|(of, _)| *of == step);
                let making = [Step::Base, Step::Runtime, Step::Record, Step::Subscribe];
                let undoing = [Step::Seal, Step::Remove, Step::EndSubscription, Step::MarkDestroyed];
                let steps = if run.reservation.status == Status::InProgress { making } else { undoing };
                match steps.into_iter().find(|step| !done(*step)) {
                    Some(step) => self.note(which, Held::Current, finding, Then::Intend(step)),
                    None if finding.is_some() => self.note(which, Held::Current, finding, Then::Look),
                    None => match self.evidence(which) {
                        Some(evidence) => {
                            self.settle(which, Held::Current, Settlement::Release { evidence, failure: None })
                        }
                        None => self.obey(which, &What::Complete { held: Held::Current }),
                    },
                }
            }
            What::Look { held, answer, step, sees, conclusive } => {
                let finding = self.finding(which, *answer);
                let change = self.note(which, *held, finding, Then::Look)?;
                let kinds = ResourceKind::ALL.into_iter().enumerate().filter(|(bit, _)| sees & (1 << bit) != 0);
                let found = kinds.map(|(_, kind)| {
                    let known = change.run.reservation.resource(kind).cloned();
                    let custody = if *sees == 7 { Custody::Foreign } else { Custody::Ours };
                    Found { resource: known.unwrap_or_else(|| resource(kind, 0)), custody }
                });
                let observation = Observation {
                    conclusive: *conclusive,
                    found: found.collect(),
                    runtime: RuntimeState::Running,
                    reference: String::new(),
                };
                let seen = Finding::Done(Effect::Seen { asked_at: self.now, observation });
                let note = Note { at: self.now, finding: Some((*step, seen)), then: Then::Look };
                noted(&change.run, change.run.reservation.epoch, &note).map_err(|refused| refused.to_string())
            }
            What::Rest { held, answer, for_s } => {
                let finding = self.finding(which, *answer);
                self.note(which, *held, finding, Then::Rest(self.now.plus(Duration::from_secs(*for_s))))
            }
            What::Complete { held } => match proof {
                Some(proof) => self.settle(which, *held, Settlement::Complete { proof, endpoint: endpoint() }),
                None => nothing,
            },
            What::GiveUp { held } => self.settle(which, *held, Settlement::GiveUp(failure())),
            What::Release { held } => match self.evidence(which) {
                Some(evidence) => self.settle(which, *held, Settlement::Release { evidence, failure: None }),
                None => nothing,
            },
            What::Succeed { held } => self.settle(which, *held, Settlement::Succeed { endpoint: None }),
            What::Fail { held } => self.settle(which, *held, Settlement::Fail(failure())),
            What::Destroy => match destroyed(&run, None, &self.commission(), self.now) {
                Destroy::Accepted(change) => Ok(*change),
                Destroy::Finished | Destroy::Underway(_) => nothing,
            },
            What::Begin(number) => {
                let work = match number {
                    0 => Work::Start,
                    1 => Work::Stop,
                    2 => Work::Restart,
                    3 => Work::Recover,
                    other => Work::Update(spec(*other)),
                };
                match begun(&run, work, &self.commission(), self.now) {
                    Ok(Begin::Accepted(change)) => Ok(*change),
                    Ok(Begin::NothingToDo | Begin::Underway(_)) => nothing,
                    Err(refused) => Err(refused.to_string()),
                }
            }
            What::Repair => match proof {
                Some(proof) => repaired(&run, &proof, &endpoint(), Actor::Operator, self.now, self.now.plus(HORIZON))
                    .map_err(|refused| refused.to_string()),
                None => nothing,
            },
            What::Override => {
                let leak = LeakId::mint(self.now.as_millis(), [5; 10]);
                let said = OperatorOverride::establish("the provider is gone", leak).expect("a reason");
                overridden(&run, said, &self.commission(), self.now).map_err(|refused| refused.to_string())
            }
            What::Sweep { held, kinds } => {
                let kinds = ResourceKind::ALL.into_iter().enumerate().filter(|(bit, _)| kinds & (1 << bit) != 0);
                self.resources += 1;
                let found: Vec<_> = kinds.map(|(_, kind)| resource(kind, self.resources)).collect();
                let leak = LeakId::mint(self.now.as_millis(), [6; 10]);
                let result = swept(&run, self.under(which, *held), &found, leak, &self.commission(), self.now);
                let current = matches!(held, Held::Current);
                assert!(current || matches!(result, Err(Refused::Fenced(_))), "a wrong epoch is fenced first");
                result.map_err(|refused| refused.to_string())
            }
            What::Watch { held, down } => {
                let state = if *down { RuntimeState::Missing } else { RuntimeState::Running };
                let check_at = self.now.plus(HORIZON);
                watched(&run, self.under(which, *held), state, self.now, check_at, LEASE)
                    .map_err(|refused| refused.to_string())
            }
        }
    }

    fn write(&mut self, which: usize, change: Change) -> Result<(), TestCaseError> {
        let kept = &mut self.kept[which];
        let violations = check_change(&kept.run, &change);
        prop_assert!(violations.is_empty(), "{violations:?}");
        let (was, is) = (&kept.run.reservation, &change.run.reservation);
        prop_assert!(is.epoch >= was.epoch, "epochs never fall");
        if change.run.operation.id != kept.run.operation.id {
            prop_assert!(is.epoch > was.epoch, "another operation is another epoch");
            prop_assert_eq!(change.replaced.is_some(), !kept.run.operation.status.is_over());
        }
        if matches!(was.status, Status::Released { .. }) {
            prop_assert_eq!(was.status, is.status, "released is terminal");
        }
        if let Some(route) = change.route {
            let buried = kept.route.as_ref().is_some_and(|route| !route.is_live());
            prop_assert!(!(buried && route.is_live()), "what was buried stays buried");
            kept.route = Some(route);
        }
        match change.leak {
            Some(LeakChange::Open { .. }) => kept.leaked = true,
            Some(LeakChange::Resolve) => kept.leaked = false,
            None => {}
        }
        kept.run = change.run;
        Ok(())
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let tenancies: Vec<_> = self
            .kept
            .iter()
            .map(|kept| Tenancy {
                reservation: kept.run.reservation.clone(),
                route: kept.route.clone(),
                records: kept.records.clone(),
                leaked: kept.leaked,
            })
            .collect();
        let violations = check_context(&tenancies, 1);
        prop_assert!(violations.is_empty(), "{violations:?}");
        for Kept { run: Run { reservation, operation }, .. } in &self.kept {
            let over = operation.status.is_over();
            prop_assert_eq!(over, operation.due_at.is_none(), "what is over has no timer, what is not has one");
            prop_assert!(!over || operation.holder.is_none(), "what is over has no holder");
            let removing = reservation.status == Status::Completed && reservation.intent.is_destroy();
            let left = reservation.status.is_unresolved() || removing;
            prop_assert!(!(left && over), "whatever is not finished has an operation");
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_commanded_every_invariant_holds(
        commands in prop::collection::vec((0usize..INSTANCES_MAX, what()), 1..120)
    ) {
        let mut registry = Registry { now: START, kept: Vec::new(), operations: 0, resources: 0 };
        registry.admit();
        for (which, what) in commands {
            let which = registry.kept.len() - 1 - which.min(registry.kept.len() - 1);
            match &what {
                What::Admit => registry.admit(),
                What::Tick(seconds) => registry.now = registry.now.plus(Duration::from_secs(*seconds)),
                _ => {
                    let before = registry.kept.clone();
                    match registry.obey(which, &what) {
                        Ok(change) => registry.write(which, change)?,
                        Err(_) => registry.kept.clone_from(&before),
                    }
                    for (position, kept) in before.iter().enumerate().filter(|(position, _)| *position != which) {
                        prop_assert_eq!(&kept.run, &registry.kept[position].run, "one command, one instance");
                    }
                }
            }
            registry.check()?;
        }
    }
}
