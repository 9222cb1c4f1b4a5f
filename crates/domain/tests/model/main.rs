//! A model of two executors over the production functions, searched in full.
//!
//! One context, at most two instances in it (the second is admitted when the first frees the context), two executors.
//! Anything may happen in any order: claim, theft of a live lease, crash, a note and its send as *two* steps with
//! anything in between, an answer that is lost, an effect that arrives late, destroy, repair, an operator's override.
//! Time stands still: leases lapse whenever the model likes, waits are zero, so every interleaving is within reach.
//!
//! The provider enforces names and seals. Records and registry are one database: a late write of the canonical row or
//! the subscription is refused by the statement that writes it once the reservation is no longer in progress.
//!
//! Bounds: [`Bounds`]. Each protection has a twin model without it ([`Without`]), in which the search must find a
//! counterexample: built by feeding the domain functions something else, never by a switch in them.

#[path = "../common/mod.rs"]
mod common;

mod calls;
mod state;
mod steps;

use std::collections::BTreeSet;
use std::sync::Mutex;

use freehold_domain::invariants::Invariant;
use freehold_domain::operation::FailureCode;
use freehold_domain::reservation::{Resolution, Status};
use stateright::{Checker, HasDiscoveries, Model, Property};

use crate::state::{Phase, Remark, State};
use crate::steps::Step;

/// Which protection a twin model is without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Without {
    /// The model as it is.
    Nothing,
    /// Writers pass the current epoch instead of the one they hold.
    Epochs,
    /// Executors say "sealed" without asking the provider.
    Seal,
    /// Plan, note and settlement do not see that destroy was accepted.
    DestroyIntent,
    /// Only repair does not see it.
    DestroyIntentAtRepair,
    /// Admission sees no unresolved reservation.
    OneUnresolved,
    /// A send without an answer counts as one that never left.
    Unanswered,
    /// A late write to the records is not refused by the statement that writes it.
    RecordsFence,
}

/// How much may go wrong in one history.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// Crashes, thefts of live leases, lost answers, late effects, refusals: so many together.
    faults: u8,
    /// How often a step may fail going forward.
    max_attempts: u32,
    /// Whether somebody may destroy instances, and how many.
    destroys: u8,
    /// How often an operator may override.
    overrides: u8,
}

struct Freehold {
    without: Without,
    bounds: Bounds,
    remarks: Mutex<BTreeSet<Remark>>,
}

impl Freehold {
    fn new(without: Without, bounds: Bounds) -> Self {
        Self { without, bounds, remarks: Mutex::default() }
    }

    fn remark(&self, remark: Remark) {
        self.remarks.lock().expect("nobody panicked").insert(remark);
    }
}

macro_rules! always {
    ($($invariant:ident),* $(,)?) => {
        vec![$(Property::<Freehold>::always(stringify!($invariant), |_, state: &State| {
            !state.broken.contains(&Invariant::$invariant)
        })),*]
    };
}

impl Model for Freehold {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self.bounds, self.without == Without::Epochs)]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        // What is broken once stays broken: there is nothing to learn behind it.
        if state.broken.is_empty() {
            steps::possible(self, state, steps);
        }
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        steps::take(self, state, step)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = always![
            OneUnresolved,
            OneCanonical,
            AdmitFirst,
            EpochMonotone,
            NoRevive,
            DestroyWins,
            NoEarlyRelease,
            RouteHasRecord,
            NoForget,
            BillOnce,
            AuditComplete,
            Settles,
        ];
        properties.extend([
            Property::<Self>::sometimes("an instance is completed", |_, state| {
                state.instances.iter().any(|i| i.run.reservation.status == Status::Completed)
            }),
            Property::<Self>::sometimes("a second instance is completed after the first was released", |_, state| {
                matches!(state.instances.as_slice(), [first, second]
                    if matches!(first.run.reservation.status, Status::Released { .. })
                        && second.run.reservation.is_active())
            }),
            Property::<Self>::sometimes("a second instance is made while the first is removed", |_, state| {
                matches!(state.instances.as_slice(), [first, second]
                    if first.run.reservation.status == Status::Completed
                        && first.provider.runtime
                        && second.run.reservation.is_active())
            }),
            Property::<Self>::sometimes("a provision gives up and is cleaned up", |_, state| {
                state
                    .instances
                    .iter()
                    .any(|i| i.run.reservation.status == Status::Released { because: Resolution::AbsenceProven })
            }),
            Property::<Self>::sometimes("a refusal frees the context at once", |_, state| {
                state
                    .instances
                    .iter()
                    .any(|i| i.run.reservation.status == Status::Released { because: Resolution::ProviderRejected })
            }),
            Property::<Self>::sometimes("a destroy beats a provision in flight", |_, state| {
                let cancelled = Status::NeedsReconciliation { code: FailureCode::Cancelled };
                state.instances.iter().any(|i| i.run.reservation.status == cancelled)
                    && state.executors.iter().any(|e| matches!(e.phase, Phase::Noted(_)))
            }),
            Property::<Self>::sometimes("everything is at rest", |_, state| {
                state.late.is_empty()
                    && state.instances.len() == 2
                    && state.instances.iter().all(|i| i.run.operation.status.is_over())
            }),
        ]);
        properties
    }
}

/// Two faults and a destroy in every order: 214,864 states, 58 steps deep.
const FULL: Bounds = Bounds { faults: 2, max_attempts: 2, destroys: 1, overrides: 0 };
/// Both instances destroyed, one fault: 103,094 states, 59 steps deep.
const DESTROYED_TWICE: Bounds = Bounds { faults: 1, max_attempts: 2, destroys: 2, overrides: 0 };
/// An operator's override at any moment, one fault: 51,384 states, 51 steps deep.
const OVERRIDDEN: Bounds = Bounds { faults: 1, max_attempts: 1, destroys: 0, overrides: 1 };

/// Searches everything within the bounds; nothing may break. Gives the names of what it reached.
fn search(bounds: Bounds) -> (BTreeSet<&'static str>, BTreeSet<Remark>) {
    let checker = Freehold::new(Without::Nothing, bounds)
        .checker()
        .threads(2)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    println!("{bounds:?}: {} states, {} deep", checker.unique_state_count(), checker.max_depth());
    let mut reached = BTreeSet::new();
    for property in checker.model().properties() {
        let found = checker.discovery(property.name);
        if property.expectation.discovery_is_failure() {
            let story = found.map(|path| path.into_actions());
            assert!(story.is_none(), "{} is broken by {story:?}", property.name);
        } else if found.is_some() {
            reached.insert(property.name);
        }
    }
    let remarks = checker.model().remarks.lock().expect("nobody panicked").clone();
    (reached, remarks)
}

/// Searches everything within the bounds. The search gets everywhere but where these bounds do not lead.
fn search_everywhere_but(bounds: Bounds, out_of_bounds: &[&str]) {
    let (reached, remarks) = search(bounds);
    let properties = Freehold::new(Without::Nothing, bounds).properties();
    let sometimes = properties.iter().filter(|property| !property.expectation.discovery_is_failure());
    let unreached: Vec<_> = sometimes.map(|property| property.name).filter(|name| !reached.contains(name)).collect();
    assert_eq!(unreached, out_of_bounds, "never reached");
    assert_eq!(remarks, BTreeSet::from(Remark::ALL));
}

#[test]
fn nothing_breaks_in_any_order_of_two_faults() {
    search_everywhere_but(FULL, &[]);
}

#[test]
fn nothing_breaks_when_both_instances_are_destroyed() {
    search_everywhere_but(DESTROYED_TWICE, &[]);
}

#[test]
fn nothing_breaks_around_an_override() {
    let needs_a_destroy =
        ["a second instance is made while the first is removed", "a destroy beats a provision in flight"];
    search_everywhere_but(OVERRIDDEN, &needs_a_destroy);
}

fn twin(without: Without, bounds: Bounds) {
    let checker =
        Freehold::new(without, bounds).checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let properties = checker.model().properties();
    let broken: Vec<_> = properties
        .iter()
        .filter(|property| property.expectation.discovery_is_failure())
        .filter_map(|property| checker.discovery(property.name).map(|path| (property.name, path.into_actions())))
        .collect();
    println!("without {without:?}: {} states, {broken:?}", checker.unique_state_count());
    assert!(!broken.is_empty(), "nobody notices that {without:?} is missing");
}

#[test]
fn without_epochs_the_search_finds_a_break() {
    twin(Without::Epochs, FULL);
}

#[test]
fn without_the_seal_the_search_finds_a_break() {
    twin(Without::Seal, FULL);
}

#[test]
fn without_the_destroy_intent_the_search_finds_a_break() {
    twin(Without::DestroyIntent, FULL);
}

#[test]
fn without_the_destroy_intent_at_repair_the_search_finds_a_break() {
    twin(Without::DestroyIntentAtRepair, FULL);
}

#[test]
fn without_unresolved_uniqueness_the_search_finds_a_break() {
    twin(Without::OneUnresolved, FULL);
}

#[test]
fn without_counting_unanswered_sends_the_search_finds_a_break() {
    twin(Without::Unanswered, FULL);
}

#[test]
fn without_the_records_own_fence_the_search_finds_a_break() {
    twin(Without::RecordsFence, FULL);
}
