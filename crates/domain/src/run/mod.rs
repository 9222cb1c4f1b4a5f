//! What can happen to an instance, as pure functions from a [`Run`] to a [`Change`].
//!
//! A store loads a run, calls one of these, and writes the change in one commit, fenced by the epoch. Nothing else moves
//! an instance, so what holds here holds everywhere:
//!
//! - every change of hands raises the epoch, and a writer with an old one is refused;
//! - a creating call is noted before it may leave, and none is noted once destroy is accepted or the ident is sealed;
//! - each change of a reservation's status has exactly one event.
//!
//! Admission and the fence are here; then a claim ([`claimed`]), the journal ([`noted`]), the end ([`settled`]), and what
//! people ask for ([`destroyed`], [`begun`], [`repaired`], [`overridden`]), the janitor ([`swept`]), and the way back from a
//! backup ([`raised`]).

mod accept;
mod claim;
mod journal;
mod restore;
mod settle;
mod sweep;

pub use accept::{Begin, Destroy, Work, WorkRefused, begun, destroyed, overridden, repaired, watched};
pub use claim::{Unclaimable, claimed};
pub use journal::{Effect, Finding, Note, Then, folded, noted};
pub use restore::raised;
pub use settle::{Settle, Settlement, settled};
pub use sweep::swept;

use crate::event::{Actor, Event, EventKind};
use crate::ids::{LeakId, OperationId};
use crate::lease::{Epoch, Fenced, Holder, Lease};
use crate::operation::{Operation, OperationKind, OperationStatus, Step, StepStatus};
use crate::protection::{Protection, stands};
use crate::reservation::{FrozenSpec, IllegalTransition, Intent, Power, Reservation, Status};
use crate::resource::{Resource, ResourceKind};
use crate::route::Route;
use crate::time::Timestamp;

/// An instance and the operation that works on it: everything an executor needs to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The instance's reservation.
    pub reservation: Reservation,
    /// The operation at hand.
    pub operation: Operation,
}

impl Run {
    /// Whether something may have been done already to undo what was made: canonical success comes too late then, because
    /// what it speaks of may be gone.
    #[must_use]
    pub fn is_being_undone(&self) -> bool {
        let Self { reservation, operation } = self;
        let given_up = matches!(reservation.status, Status::NeedsReconciliation { .. });
        // Going forward only extra copies are removed, and what is in a region without room. A removal in doubt after
        // giving up may have been the runtime's.
        let removing = operation.step(Step::Remove).is_some_and(|record| match record.status {
            StepStatus::Noted | StepStatus::Unknown => given_up,
            StepStatus::Done | StepStatus::Failed | StepStatus::Rejected => false,
        });
        removing
            || reservation.sealed_at.is_some()
            || operation.step(Step::Seal).is_some()
            || reservation.resource(ResourceKind::Runtime).is_none()
    }

    /// The lease that this run is held under, if somebody holds it.
    #[must_use]
    pub fn lease(&self) -> Option<Lease> {
        Some(Lease {
            instance: self.reservation.instance,
            operation: self.operation.id,
            epoch: self.reservation.epoch,
            holder: self.operation.holder.clone()?,
            expires_at: self.operation.due_at?,
        })
    }
}

/// What to do to the leak list in the same commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeakChange {
    /// Put the instance's ident on it.
    Open {
        /// The record's id.
        id: LeakId,
        /// Why it was given up on.
        reason: String,
    },
    /// What was given up on is gone after all.
    Resolve,
}

/// What one commit writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The run from then on.
    pub run: Run,
    /// The operation that this one replaced.
    pub replaced: Option<Operation>,
    /// The route from then on, where it changes.
    pub route: Option<Route>,
    /// The leak list's change.
    pub leak: Option<LeakChange>,
    /// What to put on the audit trail, in order.
    pub events: Vec<Event>,
}

impl Change {
    fn of(run: Run) -> Self {
        Self { run, replaced: None, route: None, leak: None, events: Vec::new() }
    }

    fn tell(&mut self, kind: EventKind, actor: Actor, at: Timestamp, detail: impl Into<String>) {
        let Run { reservation, operation } = &self.run;
        self.events.push(Event {
            kind,
            instance: reservation.instance,
            operation: operation.id,
            epoch: reservation.epoch,
            status: reservation.status.name(),
            actor,
            at,
            detail: detail.into(),
        });
    }
}

/// Who takes an operation and until when, if anybody: an operation without a holder waits for the next executor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Who.
    pub holder: Holder,
    /// Until when, by the store's clock.
    pub until: Timestamp,
}

/// The parts of an operation that its asker decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commission {
    /// The operation's id.
    pub operation: OperationId,
    /// Who asked.
    pub actor: Actor,
    /// In which request.
    pub request_id: String,
    /// When going forward is given up.
    pub deadline: Timestamp,
    /// Who runs it first.
    pub hold: Option<Hold>,
}

impl Commission {
    fn begin(&self, run_of: &Reservation, kind: OperationKind, spec: Option<FrozenSpec>, at: Timestamp) -> Operation {
        Operation {
            id: self.operation,
            instance: run_of.instance,
            kind,
            status: if self.hold.is_some() { OperationStatus::Running } else { OperationStatus::Waiting },
            attempt: u32::from(self.hold.is_some()),
            holder: self.hold.as_ref().map(|hold| hold.holder.clone()),
            due_at: Some(self.hold.as_ref().map_or(at, |hold| hold.until)),
            deadline: self.deadline,
            steps: Vec::new(),
            regions_full: 0,
            failure: None,
            spec,
            request_id: self.request_id.clone(),
            started_at: at,
            finished_at: None,
        }
    }
}

/// The parts of a reservation that its asker decides. Lawful only after [`crate::ledger::admit`] said yes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bid {
    /// The instance's id.
    pub instance: crate::ids::InstanceId,
    /// Whose it is.
    pub context: crate::owner::Context,
    /// Who makes it.
    pub provider: crate::lease::ProviderName,
    /// How large.
    pub tier: crate::lease::TierName,
    /// At which price.
    pub price_version: crate::lease::PriceVersion,
    /// Where, in order of preference.
    pub regions: Vec<String>,
    /// What its base is called at the provider, where it was not made here and has a name of its own.
    pub named: Option<String>,
    /// What it runs.
    pub spec: FrozenSpec,
}

/// Takes a reservation and begins its operation.
#[must_use]
pub fn admitted(bid: Bid, commission: &Commission, at: Timestamp) -> Change {
    let reservation = Reservation {
        instance: bid.instance,
        context: bid.context,
        provider: bid.provider,
        tier: bid.tier,
        price_version: bid.price_version,
        regions: bid.regions,
        named: bid.named,
        spec: bid.spec,
        status: Status::InProgress,
        epoch: Epoch::FIRST,
        intent: Intent::Keep,
        power: Power::On,
        operation: commission.operation,
        unanswered: 0,
        last_sent_at: None,
        resources: Vec::new(),
        sealed_at: None,
        lookups: Vec::new(),
        runtime: None,
        recoveries: 0,
        check_at: Timestamp::NEVER,
        started_at: at,
        updated_at: at,
        completed_at: None,
        released_at: None,
    };
    let operation = commission.begin(&reservation, OperationKind::Provision, None, at);
    let mut change = Change::of(Run { reservation, operation });
    change.tell(EventKind::ReservationStarted, commission.actor, at, "");
    change
}

/// Takes in an instance that exists without having been admitted here. It takes its context's place at once, and is
/// published by its operation: once it is found at its provider, and the records show that somebody pays for it.
#[must_use]
pub fn taken_in(bid: Bid, resources: Vec<Resource>, commission: &Commission, at: Timestamp) -> Change {
    let mut change = admitted(bid, commission, at);
    change.events.clear();
    let Run { reservation, operation } = &mut change.run;
    operation.kind = OperationKind::Adopt;
    reservation.status = Status::Completed;
    // Who made it, and whether anything of that is still on its way, nobody here knows.
    reservation.last_sent_at = Some(at);
    reservation.unanswered = 1;
    reservation.resources = resources;
    let detail = reservation.named.as_ref().map(|name| format!("it is called {name} at its provider"));
    change.tell(EventKind::Backfilled, commission.actor, at, detail.unwrap_or_default());
    change
}

/// Takes in what was made elsewhere under a name of its own, as it is: what is down stays down.
#[must_use]
pub fn adopted(bid: Bid, resources: Vec<Resource>, power: Power, commission: &Commission, at: Timestamp) -> Change {
    let mut change = taken_in(bid, resources, commission, at);
    change.run.reservation.power = power;
    change
}

/// Why a write did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The writer lost its right.
    #[error(transparent)]
    Fenced(#[from] Fenced),
    /// The state machine does not have it.
    #[error(transparent)]
    Illegal(#[from] IllegalTransition),
}

fn fence(run: &Run, held: Epoch) -> Result<(), Fenced> {
    let current = run.reservation.epoch;
    if held == current || !stands(Protection::EpochFence) { Ok(()) } else { Err(Fenced { held, current }) }
}

/// An operation that is over takes no more findings: nobody would look at it again.
fn still_on(run: &Run) -> Result<(), IllegalTransition> {
    if run.operation.status.is_over() && stands(Protection::OverIsOver) {
        return Err(IllegalTransition { from: run.reservation.status.name(), change: "go on: its operation is over" });
    }
    Ok(())
}
