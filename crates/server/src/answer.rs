//! What became of a provision, worded: the same words for the caller that waited, for every replay of its key, and, as
//! `error`, for everybody who looks at the operation.
//!
//! The answer is a function of what is on record and of nothing else, no clock and no request: an answer that is stored
//! and one that is made anew are the same bytes. The request id in a stored problem is therefore the operation's.

use freehold_api::{Code, Problem};
use freehold_domain::operation::{FailureCode, Operation, OperationKind, OperationStatus};
use freehold_domain::records::RecordsView;
use freehold_domain::reservation::{Reservation, Resolution, Status};
use freehold_engine::ports::{Answer, Registered, Render};
use freehold_engine::spec::Spec;

use crate::convert::{self, reservation_status, uuid};

/// Words the answers to provisions.
#[derive(Clone, Copy, Debug, Default)]
pub struct AnswerRenderer;

impl Render for AnswerRenderer {
    fn provision(&self, registered: &Registered, records: &RecordsView) -> Answer {
        let Registered { reservation, operation, route: _ } = registered;
        let unfinished = matches!(operation.status, OperationStatus::Running | OperationStatus::Waiting);
        let pending = unfinished.then(|| {
            Problem::new(Code::ProvisionCompletionPending, "the instance is still being finished; look again")
                .instance(uuid(reservation.instance.as_bytes()))
                .operation(uuid(operation.id.as_bytes()))
        });
        match pending.or_else(|| failure(reservation, operation)) {
            Some(problem) => refused(&problem.request(operation.request_id.clone())),
            None => match Spec::thaw(&reservation.spec) {
                Ok(spec) => Answer {
                    status: 201,
                    body: serde_json::to_vec(&convert::instance(registered, records, &spec)).unwrap_or_default(),
                },
                Err(error) => {
                    tracing::error!(%error, instance = %reservation.instance, "a finished provision cannot be shown");
                    let detail = "the instance exists, and its spec cannot be read back; the log has more";
                    refused(
                        &Problem::new(Code::InternalError, detail)
                            .instance(uuid(reservation.instance.as_bytes()))
                            .request(operation.request_id.clone()),
                    )
                }
            },
        }
    }
}

fn refused(problem: &Problem) -> Answer {
    Answer { status: problem.status, body: serde_json::to_vec(problem).unwrap_or_default() }
}

/// What went wrong with an operation, if something did. `None` while it is on its way forward, once it succeeded, and
/// where a later request took its place.
pub(crate) fn failure(reservation: &Reservation, operation: &Operation) -> Option<Problem> {
    let overridden = reservation.status == Status::Released { because: Resolution::OperatorOverride };
    let worded = match operation.status {
        OperationStatus::Succeeded if operation.kind == OperationKind::Provision && overridden => {
            // What succeeded is the cleaning up behind the operator's word.
            not_made(reservation, operation)
        }
        OperationStatus::Succeeded | OperationStatus::Running | OperationStatus::Waiting => return None,
        OperationStatus::Cancelled if reservation.intent.is_destroy() || operation.kind == OperationKind::Provision => {
            Problem::new(Code::InstanceDestroyed, "the instance was destroyed before this was done")
        }
        OperationStatus::Cancelled => return None,
        OperationStatus::Reconciling => gave_up(reservation, operation),
        OperationStatus::Failed => match operation.kind {
            OperationKind::Provision => not_made(reservation, operation),
            OperationKind::Destroy
            | OperationKind::Start
            | OperationKind::Stop
            | OperationKind::Restart
            | OperationKind::Update
            | OperationKind::Recover
            | OperationKind::Sweep
            | OperationKind::Adopt
            | OperationKind::Mend => not_done(operation),
        },
    };
    Some(worded.instance(uuid(reservation.instance.as_bytes())).operation(uuid(operation.id.as_bytes())))
}

fn gave_up(reservation: &Reservation, operation: &Operation) -> Problem {
    let detail = format!("gave up: {}; what it may have left is being removed", said(operation));
    Problem::new(Code::ProvisionFailed, detail).reservation(reservation_status(reservation.status))
}

/// A provision that is over without an instance.
fn not_made(reservation: &Reservation, operation: &Operation) -> Problem {
    let status = reservation_status(reservation.status);
    match reservation.status {
        Status::Released { because: Resolution::InstanceDestroyed } => {
            Problem::new(Code::InstanceDestroyed, "the instance was destroyed before it was made")
        }
        Status::Released { because: Resolution::ActiveInstanceExists } => {
            Problem::new(Code::InstanceAlreadyActive, "the context turned out to have its instance already")
        }
        Status::Released {
            because: Resolution::FailedBeforeProviderWork | Resolution::ProviderRejected | Resolution::AbsenceProven,
        } => not_left(operation).reservation(status),
        Status::Released { because: Resolution::OperatorOverride }
        | Status::InProgress
        | Status::NeedsReconciliation { .. }
        | Status::Completed => {
            Problem::new(Code::ProvisionFailed, format!("gave up: {}", said(operation))).reservation(status)
        }
    }
}

/// A provision that is over, and left nothing for sure.
fn not_left(operation: &Operation) -> Problem {
    if let Some(rejection) = operation.failure.as_ref().and_then(|failure| failure.rejection.as_ref()) {
        let detail = format!("the provider refused ({}): {}", rejection.class.name(), rejection.detail);
        return Problem::new(Code::ProviderRejected, detail);
    }
    let code = operation.failure.as_ref().map_or(FailureCode::ProviderProvisionFailed, |failure| failure.code);
    match code {
        FailureCode::ProviderProvisionFailed => Problem::new(
            Code::ProviderUnavailable,
            format!("{}; nothing is left at the provider, and the context is free again", said(operation)),
        ),
        FailureCode::DeadlineExceeded
        | FailureCode::InstanceRecordInsertFailed
        | FailureCode::SubscriptionBootstrapFailed
        | FailureCode::Cancelled => {
            Problem::new(Code::ProvisionFailed, format!("gave up: {}; the context is free again", said(operation)))
        }
    }
}

/// Work on an instance that was not done. The instance is as it was, or nearly.
fn not_done(operation: &Operation) -> Problem {
    match operation.failure.as_ref().and_then(|failure| failure.rejection.as_ref()) {
        Some(rejection) => Problem::new(
            Code::ProviderRejected,
            format!("the provider refused ({}): {}", rejection.class.name(), rejection.detail),
        ),
        None => Problem::new(
            Code::ProviderUnavailable,
            format!("{} was not done: {}", operation.kind.name(), said(operation)),
        ),
    }
}

fn said(operation: &Operation) -> &str {
    operation.failure.as_ref().map_or("the reason is not on record", |failure| failure.detail.as_str())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use freehold_api::v1::reservations::ReservationStatus;
    use freehold_domain::evidence::NothingSent;
    use freehold_domain::ids::{InstanceId, OperationId, SubscriptionId};
    use freehold_domain::operation::Failure;
    use freehold_domain::records::{CanonicalSuccess, InstanceRow, Subscription, SubscriptionStatus};
    use freehold_domain::resource::{Rejection, RejectionClass, Resource, ResourceKind};
    use freehold_domain::route::Endpoint;
    use freehold_domain::run::{Bid, Change, Commission, Settle, Settlement, admitted, settled};
    use freehold_domain::time::Timestamp;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(1_800_000_000_000_000 + seconds * 1_000_000)
    }

    /// A provision that was just admitted.
    pub(crate) fn begun() -> Change {
        let spec = Spec {
            template: Some("hello".into()),
            tier: "small".into(),
            image: None,
            command: vec!["hello".into()],
            env: BTreeMap::from([("A".into(), "1".into())]),
            secrets: BTreeMap::new(),
            memory_mb: 64,
            cpu_millis: 1_000,
            volume_gb: 0,
        };
        let owner = "user:alice".parse().unwrap();
        let bid = Bid {
            instance: InstanceId::mint(1, [1; 10]),
            context: freehold_domain::owner::Context::new(owner, None).unwrap(),
            provider: "local".parse().unwrap(),
            tier: "small".parse().unwrap(),
            price_version: "v1".parse().unwrap(),
            regions: vec!["eu".into(), "us".into()],
            named: None,
            spec: spec.freeze(),
        };
        let commission = Commission {
            operation: OperationId::mint(1, [2; 10]),
            actor: freehold_domain::event::Actor::Platform,
            request_id: "r-1".into(),
            deadline: at(120),
            hold: None,
        };
        admitted(bid, &commission, at(0))
    }

    pub(crate) fn registered(change: &Change) -> Registered {
        Registered {
            reservation: change.run.reservation.clone(),
            operation: change.run.operation.clone(),
            route: change.route.clone(),
        }
    }

    fn records_of(change: &Change) -> RecordsView {
        let reservation = &change.run.reservation;
        RecordsView {
            row: Some(InstanceRow {
                instance: reservation.instance,
                context: reservation.context.clone(),
                provider: reservation.provider.clone(),
                tier: reservation.tier.clone(),
                created_at: at(1),
                destroyed_at: None,
            }),
            subscription: Some(Subscription {
                id: SubscriptionId::mint(1, [3; 10]),
                instance: reservation.instance,
                status: SubscriptionStatus::Active,
                plan: "small".into(),
                price_version: reservation.price_version.clone(),
                started_at: at(1),
                ended_at: None,
                reported: true,
            }),
            closed: false,
        }
    }

    fn ended(settlement: Settlement) -> Registered {
        let mut run = begun().run;
        if matches!(settlement, Settlement::Complete { .. }) {
            let (kind, id) = (ResourceKind::Runtime, "4711".to_owned());
            run.reservation.resources.push(Resource { kind, id, region: None, handle: String::new() });
        }
        let settle = Settle { at: at(2), finding: None, settlement, check_at: Timestamp::NEVER };
        registered(&settled(&run, run.reservation.epoch, &settle).unwrap())
    }

    fn failed(code: FailureCode, rejection: Option<Rejection>) -> Failure {
        Failure { code, rejection, detail: "connection refused".into() }
    }

    fn problem(registered: &Registered) -> Problem {
        let answer = AnswerRenderer.provision(registered, &RecordsView::default());
        let problem: Problem = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(problem.status, answer.status);
        assert_eq!(problem.request_id.as_deref(), Some("r-1"), "replays name the request that did it");
        problem
    }

    fn nothing_sent() -> freehold_domain::evidence::Release {
        let run = begun().run;
        freehold_domain::evidence::Release::NothingSent(NothingSent::establish(&run.reservation).unwrap())
    }

    #[test]
    fn a_finished_provision_is_answered_with_its_instance_always_in_the_same_bytes() {
        let records = records_of(&begun());
        let proof = CanonicalSuccess::establish(&records).unwrap();
        let endpoint = Endpoint("http://127.0.0.1:40001".into());
        let registered = ended(Settlement::Complete { proof, endpoint });
        let answer = AnswerRenderer.provision(&registered, &records);
        assert_eq!(answer.status, 201);
        assert_eq!(answer, AnswerRenderer.provision(&registered, &records));
        let instance: freehold_api::v1::instances::Instance = serde_json::from_slice(&answer.body).unwrap();
        assert!(instance.routable);
        assert_eq!(instance.status.as_str(), "starting");
        assert_eq!(instance.region.as_deref(), Some("eu,us"));
        assert_eq!(instance.url, Some(format!("/i/{}/", instance.id)));
        assert_eq!(instance.subscription.unwrap().status, "active");
    }

    #[test]
    fn each_way_to_fail_has_its_code() {
        let gave_up = problem(&ended(Settlement::GiveUp(failed(FailureCode::DeadlineExceeded, None))));
        assert_eq!((gave_up.code, gave_up.status), (Code::ProvisionFailed, 502));
        assert_eq!(gave_up.reservation_status, Some(ReservationStatus::FailedRequiresReconciliation));

        let release = |failure| ended(Settlement::Release { evidence: nothing_sent(), failure: Some(failure) });
        let unsent = problem(&release(failed(FailureCode::ProviderProvisionFailed, None)));
        assert_eq!((unsent.code, unsent.status), (Code::ProviderUnavailable, 503));
        assert!(unsent.retryable);
        assert_eq!(unsent.reservation_status, Some(ReservationStatus::Released));

        let late = problem(&release(failed(FailureCode::DeadlineExceeded, None)));
        assert_eq!(late.code, Code::ProvisionFailed);

        let rejection = Rejection { class: RejectionClass::Quota, detail: "no more machines".into() };
        let rejected = problem(&release(failed(FailureCode::ProviderProvisionFailed, Some(rejection))));
        assert_eq!((rejected.code, rejected.status), (Code::ProviderRejected, 502));
        assert_eq!(rejected.detail, "the provider refused (quota): no more machines");
    }

    #[test]
    fn a_destroy_that_won_is_said() {
        let mut registered = registered(&begun());
        registered.operation.status = OperationStatus::Cancelled;
        assert_eq!(problem(&registered).code, Code::InstanceDestroyed);
    }

    #[test]
    fn an_operation_under_way_has_no_error_and_no_answer() {
        let change = begun();
        assert_eq!(failure(&change.run.reservation, &change.run.operation), None);
        assert_eq!(problem(&registered(&change)).code, Code::ProvisionCompletionPending);
    }

    #[test]
    fn work_that_a_later_request_replaced_is_no_error() {
        let mut change = begun();
        change.run.operation.kind = OperationKind::Stop;
        change.run.operation.status = OperationStatus::Cancelled;
        assert_eq!(failure(&change.run.reservation, &change.run.operation), None);
    }
}
