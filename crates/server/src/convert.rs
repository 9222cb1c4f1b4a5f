//! From the domain's words to the wire's. Every name has its own arm, so that a new one breaks the build here.

use freehold_api::v1::audit::AuditEvent;
use freehold_api::v1::instances::{Instance, InstanceStatus, Subscription};
use freehold_api::v1::nodes::Node;
use freehold_api::v1::operations::{Operation, OperationKind, OperationStatus, Step, StepStatus};
use freehold_api::v1::owners::Entry;
use freehold_api::v1::reservations::{Evidence, FailureCode, Reservation, ReservationStatus, ResolutionReason};
use freehold_api::v1::spec::SpecView;
use freehold_api::v1::{Resource, leaks::Leak};
use freehold_domain::records::RecordsView;
use freehold_domain::resource::ResourceKind;
use freehold_domain::route::Route;
use freehold_domain::{operation, reservation, resource, status, time};
use freehold_engine::audit::GENESIS;
use freehold_engine::ports::{AuditRecord, LeakRecord, NodeBeat, NodeRecord, OperationView, Registered};
use freehold_engine::spec::Spec;
use jiff::Timestamp;
use uuid::Uuid;

use crate::answer;

/// An id.
pub(crate) fn uuid(bytes: &[u8; 16]) -> Uuid {
    Uuid::from_bytes(*bytes)
}

/// A time. What is beyond the wire's calendar becomes its last instant.
pub(crate) fn timestamp(at: time::Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_micros()).unwrap_or(if at.as_micros() < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}

/// How far a reservation is.
pub(crate) fn reservation_status(status: reservation::Status) -> ReservationStatus {
    match status {
        reservation::Status::InProgress => ReservationStatus::InProgress,
        reservation::Status::NeedsReconciliation { .. } => ReservationStatus::FailedRequiresReconciliation,
        reservation::Status::Completed => ReservationStatus::Completed,
        reservation::Status::Released { .. } => ReservationStatus::Released,
    }
}

/// The registry's name of a reservation status that a caller sent.
pub(crate) fn reservation_status_name(status: ReservationStatus) -> &'static str {
    match status {
        ReservationStatus::InProgress => "in_progress",
        ReservationStatus::FailedRequiresReconciliation => "failed_requires_reconciliation",
        ReservationStatus::Completed => "completed",
        ReservationStatus::Released => "released",
    }
}

/// A reservation status by the registry's name.
pub(crate) fn reservation_status_named(name: &str) -> ReservationStatus {
    match name {
        "in_progress" => ReservationStatus::InProgress,
        "failed_requires_reconciliation" => ReservationStatus::FailedRequiresReconciliation,
        "completed" => ReservationStatus::Completed,
        _ => ReservationStatus::Released,
    }
}

fn instance_status(status: status::InstanceStatus) -> InstanceStatus {
    match status {
        status::InstanceStatus::Provisioning => InstanceStatus::Provisioning,
        status::InstanceStatus::Starting => InstanceStatus::Starting,
        status::InstanceStatus::Running => InstanceStatus::Running,
        status::InstanceStatus::Restarting => InstanceStatus::Restarting,
        status::InstanceStatus::Stopped => InstanceStatus::Stopped,
        status::InstanceStatus::Recovering => InstanceStatus::Recovering,
        status::InstanceStatus::Destroying => InstanceStatus::Destroying,
        status::InstanceStatus::Destroyed => InstanceStatus::Destroyed,
        status::InstanceStatus::Quarantined => InstanceStatus::Quarantined,
        status::InstanceStatus::Failed => InstanceStatus::Failed,
    }
}

/// The domain's name of an instance status that a caller sent.
pub(crate) fn wanted_status(status: InstanceStatus) -> status::InstanceStatus {
    match status {
        InstanceStatus::Provisioning => status::InstanceStatus::Provisioning,
        InstanceStatus::Starting => status::InstanceStatus::Starting,
        InstanceStatus::Running => status::InstanceStatus::Running,
        InstanceStatus::Restarting => status::InstanceStatus::Restarting,
        InstanceStatus::Stopped => status::InstanceStatus::Stopped,
        InstanceStatus::Recovering => status::InstanceStatus::Recovering,
        InstanceStatus::Destroying => status::InstanceStatus::Destroying,
        InstanceStatus::Destroyed => status::InstanceStatus::Destroyed,
        InstanceStatus::Quarantined => status::InstanceStatus::Quarantined,
        InstanceStatus::Failed => status::InstanceStatus::Failed,
    }
}

/// A resource, without its handle.
pub(crate) fn resource(resource: &resource::Resource) -> Resource {
    let resource::Resource { kind, id, region, handle: _ } = resource;
    Resource { kind: kind.name().to_owned(), id: id.clone(), region: region.clone() }
}

/// An instance, as registry and records have it.
pub(crate) fn instance(registered: &Registered, records: &RecordsView, spec: &Spec) -> Instance {
    let Registered { reservation, operation, route } = registered;
    let endpoint = match route {
        Some(Route::Live { endpoint, .. }) => Some(endpoint.0.clone()),
        Some(Route::Tombstone { .. }) | None => None,
    };
    let id = uuid(reservation.instance.as_bytes());
    let placed = reservation.resource(ResourceKind::Runtime).and_then(|runtime| runtime.region.clone());
    Instance {
        id,
        owner: reservation.context.owner().to_string(),
        assigned_user: reservation.context.assigned_user().to_string(),
        provider: reservation.provider.to_string(),
        status: instance_status(status::InstanceStatus::of(reservation, operation, records)),
        routable: endpoint.is_some(),
        tier: spec.tier.clone(),
        region: placed.or_else(|| Some(reservation.regions.join(",")).filter(|regions| !regions.is_empty())),
        url: endpoint.is_some().then(|| format!("/i/{id}/")),
        endpoint,
        spec: SpecView {
            template: spec.template.clone(),
            image: spec.image.clone(),
            command: Some(spec.command.clone()).filter(|command| !command.is_empty()),
            env: spec.env.clone().into_iter().collect(),
        },
        subscription: records.subscription.as_ref().map(|subscription| Subscription {
            id: subscription.id.to_string(),
            status: subscription.status.name().to_owned(),
            plan: Some(subscription.plan.clone()),
            price_version: subscription.price_version.to_string(),
        }),
        resources: reservation.resources.iter().map(resource).collect(),
        epoch: reservation.epoch.get(),
        created_at: timestamp(reservation.started_at),
        ready_at: reservation.completed_at.map(timestamp),
        destroyed_at: destroyed_at(reservation),
        operation_id: Some(uuid(reservation.operation.as_bytes())),
    }
}

/// When an instance was gone because somebody wanted it gone.
pub(crate) fn destroyed_at(reservation: &reservation::Reservation) -> Option<Timestamp> {
    match reservation.status {
        reservation::Status::Released { because: reservation::Resolution::InstanceDestroyed } => {
            reservation.released_at.map(timestamp)
        }
        reservation::Status::Released { .. }
        | reservation::Status::InProgress
        | reservation::Status::NeedsReconciliation { .. }
        | reservation::Status::Completed => None,
    }
}

fn operation_kind(kind: operation::OperationKind) -> OperationKind {
    match kind {
        operation::OperationKind::Provision => OperationKind::Provision,
        operation::OperationKind::Destroy => OperationKind::Destroy,
        operation::OperationKind::Start => OperationKind::Start,
        operation::OperationKind::Stop => OperationKind::Stop,
        operation::OperationKind::Restart => OperationKind::Restart,
        operation::OperationKind::Update => OperationKind::Update,
        operation::OperationKind::Recover => OperationKind::Recover,
        operation::OperationKind::Sweep => OperationKind::Sweep,
        operation::OperationKind::Adopt => OperationKind::Adopt,
        operation::OperationKind::Mend => OperationKind::Mend,
    }
}

fn operation_status(status: operation::OperationStatus) -> OperationStatus {
    match status {
        operation::OperationStatus::Running => OperationStatus::Running,
        operation::OperationStatus::Waiting => OperationStatus::Waiting,
        operation::OperationStatus::Reconciling => OperationStatus::Reconciling,
        operation::OperationStatus::Succeeded => OperationStatus::Succeeded,
        operation::OperationStatus::Failed => OperationStatus::Failed,
        operation::OperationStatus::Cancelled => OperationStatus::Cancelled,
    }
}

fn step_status(status: operation::StepStatus) -> StepStatus {
    match status {
        operation::StepStatus::Noted => StepStatus::Noted,
        operation::StepStatus::Done => StepStatus::Done,
        operation::StepStatus::Failed => StepStatus::Failed,
        operation::StepStatus::Rejected => StepStatus::Rejected,
        operation::StepStatus::Unknown => StepStatus::Unknown,
    }
}

/// An operation with its journal.
pub(crate) fn operation(view: &OperationView) -> Operation {
    let OperationView { operation, reservation, answer: _ } = view;
    Operation {
        id: uuid(operation.id.as_bytes()),
        kind: operation_kind(operation.kind),
        instance_id: uuid(operation.instance.as_bytes()),
        owner: reservation.context.owner().to_string(),
        status: operation_status(operation.status),
        phase: operation.phase().to_owned(),
        attempt: operation.attempt,
        epoch: reservation.epoch.get(),
        holder: operation.holder.as_ref().map(|holder| holder.node.to_string()),
        deadline: Some(timestamp(operation.deadline)),
        started_at: timestamp(operation.started_at),
        finished_at: operation.finished_at.map(timestamp),
        steps: operation
            .steps
            .iter()
            .map(|record| Step {
                name: record.step.name().to_owned(),
                status: step_status(record.status),
                attempts: record.attempts,
                started_at: timestamp(record.started_at),
                finished_at: record.finished_at.map(timestamp),
                last_error: record.last_error.clone(),
            })
            .collect(),
        error: answer::failure(reservation, operation),
    }
}

fn failure_code(code: operation::FailureCode) -> FailureCode {
    match code {
        operation::FailureCode::ProviderProvisionFailed => FailureCode::ProviderProvisionFailed,
        operation::FailureCode::InstanceRecordInsertFailed => FailureCode::InstanceRecordInsertFailed,
        operation::FailureCode::SubscriptionBootstrapFailed => FailureCode::SubscriptionBootstrapFailed,
        operation::FailureCode::Cancelled => FailureCode::Cancelled,
        operation::FailureCode::DeadlineExceeded => FailureCode::DeadlineExceeded,
    }
}

fn resolution_reason(because: reservation::Resolution) -> ResolutionReason {
    match because {
        reservation::Resolution::FailedBeforeProviderWork => ResolutionReason::FailedBeforeProviderWork,
        reservation::Resolution::ProviderRejected => ResolutionReason::ProviderRejected,
        reservation::Resolution::ActiveInstanceExists => ResolutionReason::ActiveInstanceExists,
        reservation::Resolution::AbsenceProven => ResolutionReason::AbsenceProven,
        reservation::Resolution::InstanceDestroyed => ResolutionReason::InstanceDestroyed,
        reservation::Resolution::OperatorOverride => ResolutionReason::OperatorOverride,
    }
}

/// A reservation, with what is known about it.
pub(crate) fn reservation(registered: &Registered) -> Reservation {
    let Registered { reservation, operation, route: _ } = registered;
    let making = operation.kind == operation::OperationKind::Provision;
    let failed = operation.failure.as_ref().filter(|_| making).map(|failure| failure.code);
    let (code, reason) = match reservation.status {
        reservation::Status::InProgress | reservation::Status::Completed => (None, None),
        reservation::Status::NeedsReconciliation { code } => (Some(code), None),
        reservation::Status::Released { because } => (failed, Some(because)),
    };
    Reservation {
        instance_id: uuid(reservation.instance.as_bytes()),
        owner: reservation.context.owner().to_string(),
        assigned_user: reservation.context.assigned_user().to_string(),
        status: reservation_status(reservation.status),
        epoch: reservation.epoch.get(),
        operation_id: uuid(reservation.operation.as_bytes()),
        work_started: reservation.work_started(),
        started_at: timestamp(reservation.started_at),
        updated_at: timestamp(reservation.updated_at),
        completed_at: reservation.completed_at.map(timestamp),
        failure_code: code.map(failure_code),
        resolution_reason: reason.map(resolution_reason),
        evidence: evidence(reservation, operation),
    }
}

fn evidence(reservation: &reservation::Reservation, operation: &operation::Operation) -> Vec<Evidence> {
    let one =
        |kind: &str, at: time::Timestamp, detail: String| Evidence { kind: kind.to_owned(), at: timestamp(at), detail };
    let mut evidence = Vec::new();
    if let Some(at) = reservation.last_sent_at {
        let detail = match reservation.unanswered {
            0 => "the last call that creates was allowed to leave then; every one was surely refused".to_owned(),
            count => format!("the last call that creates was allowed to leave then; {count} may have left something"),
        };
        evidence.push(one("sent", at, detail));
    }
    if let Some(at) = reservation.sealed_at {
        evidence.push(one("sealed", at, "creation under its name is impossible since then".to_owned()));
    }
    for lookup in &reservation.lookups {
        let kind = if lookup.absent { "absent" } else { "lookup" };
        evidence.push(one(kind, lookup.at, lookup.detail.clone()));
    }
    for resource in &reservation.resources {
        let detail = format!("{} {} is on record", resource.kind, resource.id);
        let made = operation.step(operation::Step::making(resource.kind)).and_then(|record| record.finished_at);
        evidence.push(one("resource", made.unwrap_or(reservation.updated_at), detail));
    }
    // What stands in the way of a proof: the last answer of each step that did not get on.
    for record in operation.steps.iter().filter(|record| !record.step.may_create()) {
        if let Some(error) = &record.last_error {
            let detail = format!("{}, attempt {}: {error}", record.step.name(), record.attempts);
            evidence.push(one("tried", record.finished_at.unwrap_or(record.started_at), detail));
        }
    }
    evidence
}

/// The registry entry of an instance that is or was routable.
pub(crate) fn entry(registered: &Registered) -> Option<Entry> {
    let Registered { reservation, operation: _, route } = registered;
    let destroyed_at = match route.as_ref()? {
        Route::Live { .. } => None,
        Route::Tombstone { at } => Some(timestamp(*at)),
    };
    Some(Entry {
        instance_id: uuid(reservation.instance.as_bytes()),
        assigned_user: reservation.context.assigned_user().to_string(),
        created_at: timestamp(reservation.completed_at?),
        destroyed_at,
    })
}

/// A line of the audit trail, with everything that its hash covers.
pub(crate) fn audit_event(record: &AuditRecord) -> AuditEvent {
    let AuditRecord { position, context, context_seq, event, prev_hash, hash } = record;
    AuditEvent {
        id: position.to_string(),
        at: timestamp(event.at),
        kind: event.kind.name().to_owned(),
        owner: context.owner().to_string(),
        assigned_user: context.assigned_user().to_string(),
        context_seq: *context_seq,
        instance_id: uuid(event.instance.as_bytes()),
        operation_id: Some(uuid(event.operation.as_bytes())),
        epoch: event.epoch.get(),
        status: event.status.to_owned(),
        actor: event.actor.name().to_owned(),
        detail: event.detail.clone(),
        previous_hash: (*prev_hash != GENESIS).then(|| hex(prev_hash)),
        hash: hex(hash),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A node.
pub(crate) fn node(record: &NodeRecord) -> Node {
    let NodeRecord { beat, started_at, seen_at, draining, operations } = record;
    let NodeBeat { holder, roles, version, address, providers } = beat;
    Node {
        name: holder.node.to_string(),
        incarnation: format!("{:016x}", holder.incarnation),
        roles: roles.split(',').filter(|role| !role.is_empty()).map(str::to_owned).collect(),
        version: version.clone(),
        address: address.clone(),
        providers: providers.iter().map(ToString::to_string).collect(),
        started_at: timestamp(*started_at),
        seen_at: timestamp(*seen_at),
        draining: *draining,
        operations: *operations,
    }
}

/// A leak. The registry keeps idents rather than single resources on its leak list, and not how one was resolved.
pub(crate) fn leak(record: &LeakRecord, provider: &str, resolution: Option<String>) -> Leak {
    let LeakRecord { id, instance, reason, opened_at, resolved_at } = record;
    Leak {
        id: uuid(id.as_bytes()),
        instance_id: uuid(instance.as_bytes()),
        provider: provider.to_owned(),
        resource: None,
        reason: reason.clone(),
        opened_at: timestamp(*opened_at),
        resolved_at: resolved_at.map(timestamp),
        resolution,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_on_both_sides() {
        for status in status::InstanceStatus::ALL {
            assert_eq!(instance_status(status).as_str(), status.name());
            assert_eq!(wanted_status(instance_status(status)), status);
        }
        let name = |value: serde_json::Value| value.as_str().unwrap().to_owned();
        for kind in operation::OperationKind::ALL {
            assert_eq!(name(serde_json::to_value(operation_kind(kind)).unwrap()), kind.name());
        }
        for status in operation::OperationStatus::ALL {
            assert_eq!(name(serde_json::to_value(operation_status(status)).unwrap()), status.name());
        }
        for status in operation::StepStatus::ALL {
            assert_eq!(name(serde_json::to_value(step_status(status)).unwrap()), status.name());
        }
        for code in operation::FailureCode::ALL {
            assert_eq!(name(serde_json::to_value(failure_code(code)).unwrap()), code.name());
        }
        for because in reservation::Resolution::ALL {
            assert_eq!(name(serde_json::to_value(resolution_reason(because)).unwrap()), because.name());
            let status = reservation::Status::Released { because };
            assert_eq!(reservation_status_name(reservation_status(status)), status.name());
        }
        for status in [
            reservation::Status::InProgress,
            reservation::Status::NeedsReconciliation { code: operation::FailureCode::Cancelled },
            reservation::Status::Completed,
        ] {
            assert_eq!(reservation_status_name(reservation_status(status)), status.name());
            assert_eq!(reservation_status_named(status.name()), reservation_status(status));
        }
    }

    #[test]
    fn times_keep_their_microseconds_and_never_fail() {
        assert_eq!(timestamp(time::Timestamp::from_micros(1_500_001)).to_string(), "1970-01-01T00:00:01.500001Z");
        assert_eq!(timestamp(time::Timestamp::NEVER), Timestamp::MAX);
        assert_eq!(timestamp(time::Timestamp::from_micros(i64::MIN)), Timestamp::MIN);
    }
}
