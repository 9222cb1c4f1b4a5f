//! What must be true of registry, records, provider and billing together: after every write, and once everything is at
//! rest. The predicates over one context are the domain's own; here is what only a world shows, where the provider and
//! billing can be looked at from behind.

use std::collections::{BTreeMap, BTreeSet};

use freehold_domain::event::EventKind;
use freehold_domain::ids::InstanceId;
use freehold_domain::invariants::{Tenancy, check_context};
use freehold_domain::operation::Step;
use freehold_domain::owner::Owner;
use freehold_domain::reservation::{Reservation, Resolution, Status};
use freehold_domain::resource::{Resource, ResourceKind};
use freehold_domain::route::Route;
use freehold_engine::audit;
use freehold_engine::ports::{AuditQuery, AuditRecord, InstanceQuery, LeakRecord, Records, Registered, Store};

use crate::tasks::at_once;
use crate::town::Town;

/// How many rows one read of a list asks for.
const PAGE: usize = 200;

/// What the oracle remembers between two looks.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    unresolved: BTreeSet<InstanceId>,
    released: BTreeSet<InstanceId>,
    on_record: BTreeMap<InstanceId, Vec<Resource>>,
    /// Whose each instance is.
    owners: BTreeMap<InstanceId, Owner>,
}

impl Oracle {
    /// What was unresolved at the last look.
    pub(crate) fn unresolved(&self) -> &BTreeSet<InstanceId> {
        &self.unresolved
    }

    /// What holds at every moment, looked at where something was written since the last look.
    pub(crate) fn check(&mut self, town: &Town) -> Vec<String> {
        let mut broken = town.shared.watch.all_broken();
        broken.extend(town.history.promise(|promises| promises.broken.clone()));
        broken.extend(town.ground.harmed().iter().map(|id| format!("AdoptSafe: somebody else's {id} was removed")));
        let mut behind = town.ground.take_landed();
        behind.extend(town.shared.watch.take_touched());
        for instance in behind {
            broken.extend(self.look_behind(town, instance));
        }
        let written = town.shared.watch.take_written();
        if written.is_empty() {
            return broken;
        }
        for (invariant, count) in town.store.violations() {
            if count > 0 {
                broken.push(format!("{}: the store counted {count}", invariant.name()));
            }
        }
        let leaks = leaks(town);
        let owners: BTreeSet<Owner> = written.iter().filter_map(|instance| self.owner_of(town, *instance)).collect();
        for owner in owners {
            let registered = read(town, town.store.owner_describe(&owner));
            for one in registered.iter().filter(|one| written.contains(&one.reservation.instance)) {
                broken.extend(self.look_at(town, one));
            }
            let found = check_context(&tenancies(town, registered, &leaks), 1);
            broken.extend(found.iter().map(|v| format!("{}: {:?} {}", v.invariant.name(), v.instance, v.detail)));
        }
        for (instance, operation) in town.shared.watch.keyed() {
            if !written.contains(&instance) {
                continue;
            }
            let view = read(town, town.store.operation_describe(operation));
            if let Some(answer) = view.and_then(|view| view.answer) {
                town.shared.watch.answered(operation, &answer);
            }
        }
        broken
    }

    fn owner_of(&mut self, town: &Town, instance: InstanceId) -> Option<Owner> {
        if let Some(owner) = self.owners.get(&instance) {
            return Some(owner.clone());
        }
        let registered = read(town, town.store.instance_describe(instance))?;
        let owner = registered.reservation.context.owner().clone();
        self.owners.insert(instance, owner.clone());
        Some(owner)
    }

    /// Something happened at the provider: nothing may come to what is released, and nothing twice.
    fn look_behind(&self, town: &Town, instance: InstanceId) -> Vec<String> {
        let registered = read(town, town.store.instance_describe(instance));
        let Some(reservation) = registered.map(|registered| registered.reservation) else { return Vec::new() };
        let live = town.ground.live_of(&town.idents.of(instance, &reservation.context));
        let watch = &town.shared.watch;
        let mut broken = Vec::new();
        let proven = self.released.contains(&instance) && !is_overridden(&reservation);
        if proven && !live.is_empty() && !watch.may_come_late(instance) {
            broken.push(format!("NoEarlyRelease: {live:?} came to {instance} after its release"));
        }
        if !watch.may_have_two(instance) {
            broken.extend(doubled(instance, &live));
        }
        broken
    }

    fn look_at(&mut self, town: &Town, registered: &Registered) -> Vec<String> {
        let reservation = &registered.reservation;
        let instance = reservation.instance;
        let mut broken = Vec::new();
        if reservation.status.is_unresolved() {
            self.unresolved.insert(instance);
        } else {
            self.unresolved.remove(&instance);
        }
        let was_on_record = self.on_record.insert(instance, reservation.resources.clone()).unwrap_or_default();
        let dropped = was_on_record.iter().filter(|was| !reservation.resources.iter().any(|is| is.same_thing(was)));
        let live = town.ground.live_of(&town.idents.of(instance, &reservation.context));
        for gone in dropped.filter(|gone| live.iter().any(|there| there.same_thing(gone))) {
            if !town.shared.watch.was_lied_to(instance) && !town.shared.watch.may_have_two(instance) {
                broken.push(format!("NoForget: {} {} is there and not on record", gone.kind, gone.id));
            }
        }
        if reservation.status == Status::InProgress {
            let done = |kind: &ResourceKind| registered.operation.has_done(Step::making(*kind));
            let unknown = ResourceKind::ALL.into_iter().filter(done).find(|kind| reservation.resource(*kind).is_none());
            if let Some(kind) = unknown {
                broken.push(format!("NoForget: the {kind} of {instance} is made and not on record"));
            }
        }
        let started = town.shared.billing.ever_started(instance);
        if started > 1 {
            broken.push(format!("BillOnce: {instance} was subscribed for {started} times"));
        }
        if !town.shared.watch.may_have_two(instance) {
            broken.extend(doubled(instance, &live));
        }
        if matches!(reservation.status, Status::Released { .. })
            && self.released.insert(instance)
            && !is_overridden(reservation)
        {
            if !live.is_empty() && !town.shared.watch.may_come_late(instance) {
                broken.push(format!("NoEarlyRelease: {instance} is released and {live:?} is there"));
            }
            if town.shared.billing.is_active(instance) {
                broken.push(format!("BillOnce: {instance} is released and billing goes on"));
            }
        }
        broken
    }

    /// What holds once nothing is left to do.
    pub(crate) fn check_rest(town: &Town) -> Vec<String> {
        let mut broken = Vec::new();
        let leaks = leaks(town);
        let registered = everything(town);
        let trail = trail(town);
        for one in &registered {
            broken.extend(check_end(town, one, &leaks));
            broken.extend(check_replay(one, &trail));
        }
        broken.extend(check_promises(town, &registered));
        broken.extend(check_chain(&trail));
        broken.extend(town.shared.watch.all_broken());
        broken
    }
}

fn is_overridden(reservation: &Reservation) -> bool {
    reservation.status == Status::Released { because: Resolution::OperatorOverride }
}

/// Nothing is there twice, as long as the provider keeps its word.
fn doubled(instance: InstanceId, live: &[Resource]) -> Option<String> {
    let count = |kind| live.iter().filter(|resource| resource.kind == kind).count();
    let kind = ResourceKind::ALL.into_iter().find(|kind| count(*kind) > 1)?;
    Some(format!("OneCanonical: {instance} has {} of {kind}", count(kind)))
}

/// What a read says. None is made to fail: one that does is a defect.
fn read<T: Default, E: std::fmt::Display>(town: &Town, reading: impl Future<Output = Result<T, E>>) -> T {
    at_once(reading).unwrap_or_else(|error| {
        town.shared.watch.broken(format!("a read failed: {error}"));
        T::default()
    })
}

fn leaks(town: &Town) -> Vec<LeakRecord> {
    let page = async { town.store.leak_list(true, None, PAGE).await.map(|page| page.items) };
    read(town, page)
}

fn tenancies(town: &Town, registered: Vec<Registered>, leaks: &[LeakRecord]) -> Vec<Tenancy> {
    let tenancy = |one: Registered| {
        let instance = one.reservation.instance;
        Tenancy {
            records: read(town, town.records.describe(instance)),
            leaked: leaks.iter().any(|leak| leak.instance == instance),
            reservation: one.reservation,
            route: one.route,
        }
    };
    registered.into_iter().map(tenancy).collect()
}

fn everything(town: &Town) -> Vec<Registered> {
    let mut all = Vec::new();
    let mut query = InstanceQuery { limit: PAGE, ..InstanceQuery::default() };
    loop {
        let page = async { town.store.instance_list(&query).await.map(|page| (page.items, page.next)) };
        let (items, next) = read(town, page);
        all.extend(items);
        match next {
            Some(next) => query.after = Some(next),
            None => return all,
        }
    }
}

fn trail(town: &Town) -> Vec<AuditRecord> {
    let mut all = Vec::new();
    let mut query = AuditQuery { after: 0, instance: None, limit: PAGE };
    loop {
        let page = async { town.store.audit_read(&query).await.map(|page| (page.items, page.next)) };
        let (items, next) = read(town, page);
        all.extend(items);
        match next {
            Some(next) => query.after = next,
            None => return all,
        }
    }
}

fn check_end(town: &Town, registered: &Registered, leaks: &[LeakRecord]) -> Vec<String> {
    let Registered { reservation, operation, route } = registered;
    let instance = reservation.instance;
    let live = town.ground.live_of(&town.idents.of(instance, &reservation.context));
    let paid = town.shared.billing.is_active(instance);
    let mut broken = Vec::new();
    let mut claim = |holds: bool, what: String| {
        if !holds {
            broken.push(what);
        }
    };
    claim(operation.status.is_over(), format!("Settles: {} of {instance} is not over at rest", operation.kind.name()));
    claim(!leaks.iter().any(|leak| leak.instance == instance), format!("NoForget: {instance} is on the leak list"));
    match reservation.status {
        Status::InProgress | Status::NeedsReconciliation { .. } => {
            claim(false, format!("Settles: {instance} is {} at rest", reservation.status.name()));
        }
        Status::Completed => {
            claim(!reservation.intent.is_destroy(), format!("Settles: the destroy of {instance} is not finished"));
            for kind in ResourceKind::ALL {
                let count = live.iter().filter(|resource| resource.kind == kind).count();
                claim(count == 1, format!("OneCanonical: {instance} is complete and has {count} of {kind}"));
            }
            claim(paid, format!("BillOnce: {instance} is complete and nobody pays"));
            let routable = route.as_ref().is_some_and(Route::is_live);
            claim(routable, format!("RouteHasRecord: {instance} is complete and not routable"));
        }
        Status::Released { .. } => {
            claim(live.is_empty(), format!("NoForget: {instance} is released and left {live:?}"));
            claim(!paid, format!("BillOnce: {instance} is released and billing goes on"));
        }
    }
    broken
}

fn check_promises(town: &Town, registered: &[Registered]) -> Vec<String> {
    let status = |instance| {
        let one = registered.iter().find(|one| one.reservation.instance == instance);
        one.map(|one| one.reservation.status)
    };
    town.history.promise(|promises| {
        let lost = promises.admitted.iter().filter(|instance| status(**instance).is_none());
        let kept =
            promises.destroyed.iter().filter(|instance| !matches!(status(**instance), Some(Status::Released { .. })));
        lost.map(|instance| format!("AckDurable: {instance} was admitted and is not known"))
            .chain(
                kept.map(|instance| format!("AckDurable: the destroy of {instance} was acknowledged, and it is there")),
            )
            .collect()
    })
}

/// The trail of one instance, replayed into the state that it claims.
fn check_replay(registered: &Registered, trail: &[AuditRecord]) -> Vec<String> {
    let reservation = &registered.reservation;
    let instance = reservation.instance;
    let events: Vec<_> = trail.iter().map(|record| &record.event).filter(|event| event.instance == instance).collect();
    let mut broken = Vec::new();
    let mut claim = |holds: bool, what: &str| {
        if !holds {
            broken.push(format!("AuditComplete: the trail of {instance} {what}"));
        }
    };
    let count = |kinds: &[EventKind]| events.iter().filter(|event| kinds.contains(&event.kind)).count();
    claim(
        events.first().is_some_and(|event| event.kind == EventKind::ReservationStarted),
        "does not begin with its start",
    );
    claim(events.last().is_some_and(|event| event.status == reservation.status.name()), "ends in another status");
    for pair in events.windows(2) {
        let lawful = match (pair[0].status, pair[1].status) {
            (from, to) if from == to => true,
            ("in_progress", "failed_requires_reconciliation" | "completed" | "released") => true,
            ("failed_requires_reconciliation", "completed" | "released") => true,
            ("completed", "released") => true,
            (_, _) => false,
        };
        claim(lawful, "has a step that there is not");
        claim(pair[1].epoch >= pair[0].epoch, "has an epoch that falls");
    }
    claim(events.iter().all(|event| event.epoch <= reservation.epoch), "knows a later epoch");
    claim(count(&[EventKind::ReservationStarted]) == 1, "does not have one start");
    let completions = count(&[EventKind::ReservationCompleted, EventKind::ReservationRepaired]);
    claim(completions == usize::from(reservation.completed_at.is_some()), "does not have its completion once");
    let releases = count(&[EventKind::ReservationReleased, EventKind::Destroyed]);
    claim(releases == usize::from(reservation.released_at.is_some()), "does not have its release once");
    claim(
        count(&[EventKind::DestroyStarted]) == usize::from(reservation.intent.is_destroy()),
        "does not have its destroy once",
    );
    broken
}

/// The audit trail, chained anew.
fn check_chain(trail: &[AuditRecord]) -> Vec<String> {
    let mut heads = BTreeMap::new();
    let mut broken = Vec::new();
    for record in trail {
        let AuditRecord { context, context_seq, event, prev_hash, hash, .. } = record;
        let (seq, head) = heads.get(context).copied().unwrap_or((0, audit::GENESIS));
        let right =
            *context_seq == seq + 1 && *prev_hash == head && *hash == audit::hash(&head, context, *context_seq, event);
        if !right {
            broken.push(format!("AuditComplete: line {context_seq} of {}", context.owner()));
        }
        heads.insert(context, (*context_seq, *hash));
    }
    broken
}
