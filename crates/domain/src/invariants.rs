//! What always holds, written once. Models, simulation, property tests and the running server all check these functions,
//! over the types that production uses. A check never panics: it says what is broken.

use crate::event::EventKind;
use crate::ids::InstanceId;
use crate::operation::{OperationKind, Step};
use crate::records::{CanonicalSuccess, RecordsView};
use crate::reservation::{Reservation, Resolution, Status};
use crate::resource::{Footprint, ResourceKind};
use crate::route::Route;
use crate::run::{Change, LeakChange, Run};

macro_rules! invariants {
    ($($name:ident: $statement:literal),* $(,)?) => {
        /// The invariants, by the names that tests, audit checks and documents use.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Invariant {
            $(#[doc = $statement] $name),*
        }

        impl Invariant {
            /// Every invariant.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Its name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),* }
            }

            /// What it says.
            #[must_use]
            pub fn statement(self) -> &'static str {
                match self { $(Self::$name => $statement),* }
            }
        }
    };
}

invariants! {
    OneUnresolved: "A context has at most one unresolved reservation.",
    OneCanonical: "A context has at most `limit` routable instances.",
    AdmitFirst: "Every provider mutation is preceded by a committed intent that names it.",
    EpochMonotone: "Epochs never fall; a write by an executor with an old epoch is refused at commit.",
    NoRevive: "What is destroyed or released is never routable again, and what appears late is deleted.",
    DestroyWins: "Once destroy is accepted no transition of that instance leads to routable.",
    NoEarlyRelease: "A release has nothing sent, or is sealed, or proven absent, or an override with an open leak record.",
    RouteHasRecord: "What is routable has an active row and a subscription, is completed, and is not to be destroyed.",
    SameAnswer: "One idempotency key and body have one operation and one answer; another body has no effect.",
    AckDurable: "What was acknowledged survives kill -9, power loss and failover.",
    AdoptSafe: "A found resource is adopted only if its tags carry this install, this instance and a valid MAC.",
    SweepSafe: "The janitor deletes only what is ours, unreferenced, older than the settle horizon and seen twice.",
    NoForget: "A known resource stays on record until its deletion is proven; giving up opens a leak record.",
    BillOnce: "A subscription starts at most once, only for a canonical instance, and ends when that ends.",
    AuditComplete: "Every transition has one audit event, in the same commit, chained by hash per context.",
    TenantIsolation: "A caller reads and writes its own contexts only; foreign and missing look the same.",
    Settles: "What is unresolved is resolved within the settle horizon, two sweeps and a takeover, with no person.",
    TakesOver: "When an executor dies another runs its operation within the lease and a little.",
    BoundedWait: "No request waits on another request's work; every call answers within its deadline.",
}

/// Something that must never be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What is broken.
    pub invariant: Invariant,
    /// Where.
    pub instance: Option<InstanceId>,
    /// How.
    pub detail: String,
}

fn broken(invariant: Invariant, instance: InstanceId, detail: impl Into<String>) -> Violation {
    Violation { invariant, instance: Some(instance), detail: detail.into() }
}

/// One instance, as registry and records have it at one moment.
#[derive(Clone, Debug)]
pub struct Tenancy {
    /// Its reservation.
    pub reservation: Reservation,
    /// Its route, if it ever had one.
    pub route: Option<Route>,
    /// What the records say.
    pub records: RecordsView,
    /// Whether an open leak record names it.
    pub leaked: bool,
}

/// Checks everything that one context shows at one moment; `limit` is how many instances it may have.
#[must_use]
pub fn check_context(tenancies: &[Tenancy], limit: u32) -> Vec<Violation> {
    let mut violations = Vec::new();
    let unresolved: Vec<_> = tenancies.iter().filter(|t| t.reservation.status.is_unresolved()).collect();
    if let [_, second, ..] = unresolved.as_slice() {
        let detail = format!("{} unresolved reservations in one context", unresolved.len());
        violations.push(broken(Invariant::OneUnresolved, second.reservation.instance, detail));
    }
    let routable: Vec<_> = tenancies.iter().filter(|t| t.route.as_ref().is_some_and(Route::is_live)).collect();
    if let Some(one_too_many) = routable.get(limit as usize) {
        let detail = format!("{} routable instances in one context", routable.len());
        violations.push(broken(Invariant::OneCanonical, one_too_many.reservation.instance, detail));
    }
    violations.extend(tenancies.iter().flat_map(check_tenancy));
    violations
}

fn check_tenancy(tenancy: &Tenancy) -> Vec<Violation> {
    let Tenancy { reservation, route, records, leaked } = tenancy;
    let mut violations = Vec::new();
    let mut claim = |holds: bool, invariant, detail: &str| {
        if !holds {
            violations.push(broken(invariant, reservation.instance, detail));
        }
    };
    let routable = route.as_ref().is_some_and(Route::is_live);
    let released = matches!(reservation.status, Status::Released { .. });
    if routable {
        claim(!released, Invariant::NoRevive, "routable and released");
        claim(!reservation.intent.is_destroy(), Invariant::DestroyWins, "routable and to be destroyed");
        claim(reservation.sealed_at.is_none(), Invariant::NoRevive, "routable and sealed");
        claim(reservation.status == Status::Completed, Invariant::RouteHasRecord, "routable and not completed");
        let canonical = CanonicalSuccess::establish(records).is_some();
        claim(canonical, Invariant::RouteHasRecord, "routable without active row and subscription");
    }
    if released {
        let overridden = reservation.status == Status::Released { because: Resolution::OperatorOverride };
        let forgotten = !reservation.resources.is_empty() && !*leaked;
        claim(!forgotten, Invariant::NoForget, "released with resources on record and no leak");
        claim(
            !overridden || *leaked || reservation.resources.is_empty(),
            Invariant::NoEarlyRelease,
            "overridden with no leak on record",
        );
        claim(!records.row_is_active() || overridden, Invariant::NoRevive, "released with an active row");
        claim(!records.subscription_is_active() || overridden, Invariant::BillOnce, "released and still paid for");
    }
    if let Some(subscription) = &records.subscription {
        claim(records.row.is_some(), Invariant::BillOnce, "a subscription without a row");
        claim(subscription.instance == reservation.instance, Invariant::BillOnce, "a subscription of another instance");
    }
    violations
}

/// Checks one change against the run it came from. Stores call this in the transaction that writes the change.
#[must_use]
pub fn check_change(before: &Run, change: &Change) -> Vec<Violation> {
    let was = &before.reservation;
    let is = &change.run.reservation;
    let mut violations = Vec::new();
    let mut claim = |holds: bool, invariant, detail: &str| {
        if !holds {
            violations.push(broken(invariant, is.instance, detail));
        }
    };
    let publishes = change.route.as_ref().is_some_and(Route::is_live);
    claim(is.epoch >= was.epoch, Invariant::EpochMonotone, "the epoch fell");
    claim(was.sealed_at.is_none() || is.sealed_at.is_some(), Invariant::NoRevive, "a seal was broken");
    claim(!was.intent.is_destroy() || is.intent.is_destroy(), Invariant::DestroyWins, "a destroy was forgotten");
    claim(!(publishes && is.intent.is_destroy()), Invariant::DestroyWins, "published although it is to be destroyed");
    let was_released = matches!(was.status, Status::Released { .. });
    claim(!was_released || is.status == was.status, Invariant::NoRevive, "a released reservation changed");
    claim(!(publishes && was_released), Invariant::NoRevive, "published after its release");
    if let Status::Released { because } = is.status
        && !was_released
    {
        let overridden = because == Resolution::OperatorOverride;
        let leak_opened = matches!(change.leak, Some(LeakChange::Open { .. }));
        claim(!overridden || leak_opened, Invariant::NoEarlyRelease, "overridden without a leak record");
        let proven = match is.footprint() {
            Footprint::Untouched => true,
            Footprint::Sealed => is.lookups.last().is_some_and(|lookup| lookup.absent),
            Footprint::MaybeThere => is.lookups.iter().filter(|lookup| lookup.absent).count() >= 2,
            Footprint::There => false,
        };
        claim(overridden || proven, Invariant::NoEarlyRelease, "released without evidence");
    }
    for gone in was.resources.iter().filter(|known| !is.resources.iter().any(|kept| kept.same_thing(known))) {
        let removed = change.run.operation.step(Step::Remove).is_some_and(|record| record.finished_at.is_some());
        claim(removed, Invariant::NoForget, &format!("{} {} dropped from the record", gone.kind, gone.id));
    }
    if change.run.operation.kind == OperationKind::Sweep {
        for detail in unsafe_sweep(before, change) {
            claim(false, Invariant::SweepSafe, detail);
        }
    }
    if let (Some(held), Some(taken), Some(due_at)) =
        (&before.operation.holder, &change.run.operation.holder, before.operation.due_at)
        && before.operation.id == change.run.operation.id
        && held.node != taken.node
    {
        let lapsed = change.events.iter().any(|event| event.at >= due_at);
        claim(lapsed, Invariant::TakesOver, "a lease was taken that had not lapsed");
    }
    let status_changed = is.status != was.status || was.intent != is.intent;
    claim(!status_changed || !change.events.is_empty(), Invariant::AuditComplete, "a transition without an event");
    let sent = is.unanswered > was.unanswered;
    let noted = is.last_sent_at.is_some() && change.run.operation.steps.iter().any(|record| record.step.may_create());
    // A sweep finds what somebody sent, and sends nothing that makes anything.
    let sweeping = change.run.operation.kind == OperationKind::Sweep;
    // Behind a backup something may have been sent whose intent is lost.
    let restored = change.events.iter().any(|event| event.kind == EventKind::EpochRaised);
    claim(!sent || noted || sweeping || restored, Invariant::AdmitFirst, "a send without an intent on record");
    violations
}

/// What is wrong with a sweep, or with one step of it.
fn unsafe_sweep(before: &Run, change: &Change) -> Vec<&'static str> {
    let (was, is) = (&before.reservation, &change.run.reservation);
    let mut wrong = Vec::new();
    let mut claim = |holds: bool, detail| {
        if !holds {
            wrong.push(detail);
        }
    };
    let begins = before.operation.id != change.run.operation.id;
    if begins {
        let settled = match was.status {
            Status::InProgress | Status::NeedsReconciliation { .. } => false,
            Status::Completed => !was.intent.is_destroy(),
            Status::Released { .. } => true,
        };
        claim(settled, "a sweep of what is not settled");
        claim(before.operation.status.is_over(), "a sweep in the place of work");
        claim(is.resources.starts_with(&was.resources), "a sweep that drops or reorders what is on record");
        let released = matches!(was.status, Status::Released { .. });
        let opened = matches!(change.leak, Some(LeakChange::Open { .. }));
        claim(released == opened, "a sweep after a release, and only that, opens a leak");
    }
    claim(is.status == was.status && is.power == was.power, "a sweep that changes the instance");
    claim(change.route.is_none(), "a sweep that changes a route");
    let lost = |kind: &ResourceKind| {
        was.resource(*kind).is_some_and(|own| !is.resources.iter().any(|kept| kept.same_thing(own)))
    };
    claim(was.status != Status::Completed || !ResourceKind::ALL.iter().any(lost), "a sweep of the instance's own");
    wrong
}
