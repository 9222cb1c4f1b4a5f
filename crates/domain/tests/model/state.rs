//! What the model remembers, and which differences count.
//!
//! States hold the production types. Two states are the same if nothing that can happen from now on tells them apart: of
//! an epoch it counts only whether it is the instance's, of attempts whether they are spent; times, words and the order
//! of the two executors do not count. [`State`]'s `Hash` is that projection.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use freehold_domain::invariants::Invariant;
use freehold_domain::lease::Epoch;
use freehold_domain::operation::Step;
use freehold_domain::plan::Action;
use freehold_domain::records::RecordsView;
use freehold_domain::resource::ResourceKind;
use freehold_domain::route::Route;
use freehold_domain::run::{Effect, Finding, Run};

use crate::Bounds;

/// What is really there at the provider, which enforces names: of each kind one or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Provider {
    pub(crate) base: bool,
    pub(crate) runtime: bool,
    pub(crate) sealed: bool,
}

/// What billing really does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Billing {
    Never,
    Running,
    Ended,
}

/// One instance as registry, records, provider and billing have it.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(crate) run: Arc<Run>,
    pub(crate) route: Option<Route>,
    pub(crate) records: RecordsView,
    pub(crate) leaked: bool,
    pub(crate) provider: Provider,
    pub(crate) billing: Billing,
}

/// Where an executor is.
#[derive(Clone, Debug)]
pub(crate) enum Phase {
    /// It holds nothing.
    Idle,
    /// It knows what came of its last step, and plans the next.
    Ready(Option<(Step, Finding)>),
    /// Its note is committed; the call has not left.
    Noted(Action),
}

/// One executor, with its own idea of the instance.
#[derive(Clone, Debug)]
pub(crate) struct Executor {
    pub(crate) phase: Phase,
    pub(crate) which: usize,
    pub(crate) held: Epoch,
    pub(crate) run: Option<Arc<Run>>,
    pub(crate) records: RecordsView,
}

impl Executor {
    pub(crate) fn idle() -> Self {
        Self { phase: Phase::Idle, which: 0, held: Epoch::FIRST, run: None, records: RecordsView::default() }
    }

    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle)
    }
}

/// What a step can be remarkable for, so that the search can show that it gets there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Remark {
    TakenOver,
    Fenced,
    SentFenced,
    LateMetSeal,
    Adopted,
    Repaired,
}

impl Remark {
    pub(crate) const ALL: [Self; 6] =
        [Self::TakenOver, Self::Fenced, Self::SentFenced, Self::LateMetSeal, Self::Adopted, Self::Repaired];
}

/// The world at one moment.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) instances: Vec<Instance>,
    pub(crate) executors: [Executor; 2],
    /// Effects on their way: of which instance, and of which action.
    pub(crate) late: Vec<(usize, Action)>,
    pub(crate) left: Bounds,
    pub(crate) broken: BTreeSet<Invariant>,
    /// Whether an executor with an old epoch can still commit: then what it knows counts.
    pub(crate) old_epochs_count: bool,
}

impl State {
    pub(crate) fn new(bounds: Bounds, old_epochs_count: bool) -> Self {
        Self {
            instances: Vec::new(),
            executors: [Executor::idle(), Executor::idle()],
            late: Vec::new(),
            left: bounds,
            broken: BTreeSet::new(),
            old_epochs_count,
        }
    }
}

fn digest(write: impl FnOnce(&mut DefaultHasher)) -> u64 {
    let mut hasher = DefaultHasher::new();
    write(&mut hasher);
    hasher.finish()
}

fn hash_records<H: Hasher>(records: &RecordsView, into: &mut H) {
    (records.row.is_some(), records.row_is_active(), records.closed).hash(into);
    (records.subscription.is_some(), records.subscription_is_active()).hash(into);
}

fn hash_run<H: Hasher>(run: &Run, max_attempts: u32, into: &mut H) {
    let Run { reservation, operation } = run;
    (reservation.instance, reservation.status, reservation.intent.is_destroy(), reservation.power).hash(into);
    (reservation.unanswered, reservation.sealed_at.is_some()).hash(into);
    for resource in &reservation.resources {
        (resource.kind, &resource.id).hash(into);
    }
    (reservation.lookups.len().min(2), reservation.lookups.last().map(|lookup| lookup.absent)).hash(into);
    reservation.runtime.as_ref().map(|(state, _)| state).hash(into);
    (operation.kind, operation.status, operation.due_at.is_some(), operation.regions_full).hash(into);
    operation.failure.as_ref().map(|failure| (failure.code, failure.rejection.is_some())).hash(into);
    let mut steps: Vec<_> = operation
        .steps
        .iter()
        .map(|record| {
            let spent = record.attempts.min(max_attempts);
            (record.step, record.status, spent, record.finished_at.is_some(), record.rejection.is_some())
        })
        .collect();
    steps.sort_unstable_by_key(|record| record.0);
    steps.hash(into);
}

fn hash_action<H: Hasher>(action: &Action, into: &mut H) {
    action.step().hash(into);
    action.only_reads().hash(into);
    if let Action::Remove(resource) = action {
        (resource.kind, &resource.id).hash(into);
    }
}

fn hash_finding<H: Hasher>(finding: Option<&(Step, Finding)>, into: &mut H) {
    let Some((step, finding)) = finding else { return };
    (step, std::mem::discriminant(finding)).hash(into);
    match finding {
        Finding::NotSent(_) | Finding::Unknown(_) | Finding::Rejected(_) => {}
        Finding::Done(effect) => {
            std::mem::discriminant(effect).hash(into);
            match effect {
                Effect::Nothing | Effect::Sealed => {}
                Effect::Made { resource, .. } | Effect::Removed(resource) => resource.kind.hash(into),
                Effect::Seen { observation, .. } => {
                    for found in &observation.found {
                        found.resource.kind.hash(into);
                    }
                }
            }
        }
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, into: &mut H) {
        let max_attempts = self.left.max_attempts;
        for instance in &self.instances {
            hash_run(&instance.run, max_attempts, into);
            instance.route.as_ref().map(Route::is_live).hash(into);
            hash_records(&instance.records, into);
            (instance.leaked, instance.provider, instance.billing).hash(into);
        }
        let mut executors = self.executors.each_ref().map(|executor| {
            digest(|into| {
                std::mem::discriminant(&executor.phase).hash(into);
                let Some(run) = &executor.run else { return };
                let current = self.instances[executor.which].run.reservation.epoch;
                let holds = executor.held == current;
                (executor.which, holds).hash(into);
                if holds || self.old_epochs_count {
                    hash_run(run, max_attempts, into);
                    hash_records(&executor.records, into);
                }
                match &executor.phase {
                    Phase::Idle => {}
                    Phase::Ready(finding) => hash_finding(finding.as_ref(), into),
                    Phase::Noted(action) => hash_action(action, into),
                }
            })
        });
        executors.sort_unstable();
        executors.hash(into);
        let mut late: Vec<_> = self
            .late
            .iter()
            .map(|(which, action)| {
                digest(|into| {
                    which.hash(into);
                    hash_action(action, into);
                })
            })
            .collect();
        late.sort_unstable();
        late.hash(into);
        (self.left.faults, self.left.destroys, self.left.overrides).hash(into);
        self.broken.hash(into);
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        digest(|into| self.hash(into)) == digest(|into| other.hash(into))
    }
}

impl Instance {
    /// What is really there of a kind.
    pub(crate) fn has(&self, kind: ResourceKind) -> bool {
        match kind {
            ResourceKind::Base => self.provider.base,
            ResourceKind::Storage => false,
            ResourceKind::Runtime => self.provider.runtime,
        }
    }
}
