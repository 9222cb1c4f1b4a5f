//! What must be true: after every event, and once everything is at rest. The predicates are the domain's own.

use freehold_domain::invariants::{Tenancy, check_context};
use freehold_domain::owner::Owner;
use freehold_domain::reservation::{Reservation, Status};
use freehold_domain::resource::ResourceKind;
use freehold_engine::audit;
use freehold_engine::ports::{AuditQuery, AuditRecord, Records, Store};

use crate::town::{OWNERS, Town, at_once};

fn tenancies(town: &Town, owner: usize) -> Vec<Tenancy> {
    let owner: Owner = format!("user:{owner}").parse().expect("a valid owner");
    let registered = at_once(town.store.owner_describe(&owner)).unwrap_or_default();
    let leaks = at_once(town.store.leak_list(true, None, 1_000)).map(|page| page.items).unwrap_or_default();
    registered
        .into_iter()
        .map(|one| {
            let instance = one.reservation.instance;
            Tenancy {
                records: at_once(town.store.describe(instance)).unwrap_or_default(),
                leaked: leaks.iter().any(|leak| leak.instance == instance),
                reservation: one.reservation,
                route: one.route,
            }
        })
        .collect()
}

/// What holds at every moment.
pub(crate) fn check(town: &Town) -> Vec<String> {
    let mut broken = town.history.promise(|promises| promises.broken.clone());
    for (invariant, count) in town.store.violations() {
        if count > 0 {
            broken.push(format!("{}: the store counted {count}", invariant.name()));
        }
    }
    for owner in 0..OWNERS {
        let tenancies = tenancies(town, owner);
        let found = check_context(&tenancies, 1);
        broken.extend(found.iter().map(|v| format!("{}: {:?} {}", v.invariant.name(), v.instance, v.detail)));
        for tenancy in &tenancies {
            broken.extend(admit_first(town, &tenancy.reservation));
        }
    }
    broken
}

/// Nothing exists at the provider of which no intent is on record.
fn admit_first(town: &Town, reservation: &Reservation) -> Option<String> {
    let made = ResourceKind::ALL.iter().any(|kind| town.cloud.ever_made(reservation.instance, *kind) > 0);
    (made && !reservation.work_started())
        .then(|| format!("AdmitFirst: {} has resources and no intent", reservation.instance))
}

/// What holds once nothing is left to do.
pub(crate) fn check_rest(town: &Town) -> Vec<String> {
    let mut broken = Vec::new();
    for owner in 0..OWNERS {
        for tenancy in tenancies(town, owner) {
            broken.extend(check_end(town, &tenancy));
        }
    }
    let promises = town.history.promise(|promises| (promises.admitted.clone(), promises.destroyed.clone()));
    for instance in promises.0 {
        if at_once(town.store.instance_describe(instance)).ok().flatten().is_none() {
            broken.push(format!("AckDurable: {instance} was admitted and is not known"));
        }
    }
    for instance in promises.1 {
        let status = at_once(town.store.instance_describe(instance)).ok().flatten().map(|one| one.reservation.status);
        if !matches!(status, Some(Status::Released { .. })) {
            broken.push(format!("AckDurable: the destroy of {instance} was acknowledged, and it is {status:?}"));
        }
    }
    broken.extend(check_chain(town));
    broken
}

fn check_end(town: &Town, tenancy: &Tenancy) -> Vec<String> {
    let reservation = &tenancy.reservation;
    let instance = reservation.instance;
    let live = town.cloud.live_of(&town.idents.of(instance, &reservation.context));
    let runtimes = live.iter().filter(|resource| resource.kind == ResourceKind::Runtime).count();
    match reservation.status {
        Status::InProgress | Status::NeedsReconciliation { .. } => {
            vec![format!("Settles: {instance} is {} at rest", reservation.status.name())]
        }
        Status::Completed if runtimes != 1 => vec![format!("{instance} is complete and has {runtimes} runtimes")],
        Status::Released { .. } if !live.is_empty() => {
            vec![format!("NoForget: {instance} is released and left {}", live.len())]
        }
        Status::Completed | Status::Released { .. } => Vec::new(),
    }
}

/// The audit trail, chained anew.
fn check_chain(town: &Town) -> Vec<String> {
    let query = AuditQuery { after: 0, instance: None, limit: 100_000 };
    let Ok(page) = at_once(town.store.audit_read(&query)) else {
        return vec!["the audit trail cannot be read".to_owned()];
    };
    let mut heads = std::collections::BTreeMap::new();
    let mut broken = Vec::new();
    for record in page.items {
        let AuditRecord { context, context_seq, event, prev_hash, hash, .. } = record;
        let (seq, head) = heads.get(&context).copied().unwrap_or((0, audit::GENESIS));
        let right =
            context_seq == seq + 1 && prev_hash == head && hash == audit::hash(&head, &context, context_seq, &event);
        if !right {
            broken.push(format!("AuditComplete: line {context_seq} of {}", context.owner()));
        }
        heads.insert(context, (context_seq, hash));
    }
    broken
}
