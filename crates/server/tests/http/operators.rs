//! Operators' tools.

use std::time::Duration;

use freehold_domain::ids::{InstanceId, SubscriptionId};
use freehold_domain::operation::Step;
use freehold_domain::records::{InstanceRow, Subscription, SubscriptionStatus};
use freehold_domain::resource::{Resource, ResourceKind, RuntimeState};
use freehold_domain::run::{Effect, Finding, Note, Run, Then};
use freehold_engine::ports::Registered;
use freehold_providers::fake::{CallKind, Fault};
use serde_json::{Value, json};

use crate::server::Server;

/// A reservation that needs reconciliation, because nothing can be created or sealed.
async fn stuck(server: &Server) -> String {
    server.cloud.set_chance(|call| match call.kind {
        CallKind::Ensure(ResourceKind::Runtime) | CallKind::Seal => Some(Fault::NothingDone),
        _ => None,
    });
    let problem = server.create("user:alice").send().await.problem(502, "provision_failed");
    problem["instance_id"].as_str().unwrap().to_owned()
}

fn release(expected: &str, without_proof: bool) -> Value {
    json!({"expected_status": expected, "reason": "looked myself", "override": without_proof})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_reservation_shows_its_evidence_and_is_released_on_proof() {
    let server = Server::start().await;
    let id = stuck(&server).await;
    let shown = server.get(&format!("/v1/reservations/{id}")).await.with(200).json();
    assert_eq!(shown["status"], "failed_requires_reconciliation");
    assert_eq!(shown["failure_code"], "provider_provision_failed");
    assert_eq!(shown["work_started"], true);
    assert_eq!(shown["evidence"][0]["kind"], "sent", "{shown:#}");
    let listed = server.get("/v1/reservations?status=failed_requires_reconciliation&older_than=0s").await.with(200);
    assert_eq!(listed.json()["reservations"][0]["instance_id"], id.as_str());
    let young = server.get("/v1/reservations?older_than=1h").await.with(200).json();
    assert_eq!(young["reservations"], json!([]));
    server.get("/v1/reservations?older_than=soon").await.problem(400, "invalid_request");

    let path = format!("/v1/reservations/{id}/release");
    let ask = |body: Value, wait: &str| server.post(&path).header("prefer", wait).json(&body).send();
    ask(release("in_progress", false), "wait=0").await.problem(409, "reservation_status_changed");
    ask(json!({"expected_status": "in_progress", "reason": " "}), "wait=0").await.problem(400, "invalid_request");
    let held = ask(release("failed_requires_reconciliation", false), "wait=0").await;
    let held = held.problem(503, "provider_check_unavailable");
    assert!(held["detail"].as_str().unwrap().contains("seal: "), "it says what has no answer: {held:#}");
    let shown = server.get(&format!("/v1/reservations/{id}")).await.with(200).json();
    let tried = shown["evidence"].as_array().unwrap().iter().find(|item| item["kind"] == "tried");
    let tried = tried.unwrap_or_else(|| panic!("what was tried is missing: {shown:#}"));
    assert!(tried["detail"].as_str().unwrap().starts_with("seal, attempt "), "{tried:#}");
    let repair = server.post(&format!("/v1/reservations/{id}/repair")).send().await;
    repair.problem(409, "provision_repair_unavailable");

    server.cloud.heal();
    let released = ask(release("failed_requires_reconciliation", false), "wait=20").await.with(200).json();
    assert_eq!(released, json!({"previous_status": "failed_requires_reconciliation"}));
    let shown = server.get(&format!("/v1/reservations/{id}")).await.with(200).json();
    assert_eq!((&shown["status"], &shown["resolution_reason"]), (&json!("released"), &json!("absence_proven")));
    let found = shown["evidence"].as_array().unwrap().iter().any(|item| item["kind"] == "absent");
    assert!(found, "the look that proved it is shown: {shown:#}");
    let trail = server.get(&format!("/v1/audit?instance_id={id}&limit=100")).await.with(200).json();
    let asked =
        trail["events"].as_array().unwrap().iter().find(|event| {
            event["kind"] == "instance.provision_reservation_release_asked" && event["actor"] == "operator"
        });
    assert_eq!(asked.unwrap_or_else(|| panic!("{trail:#}"))["detail"], "looked myself");
    ask(release("released", false), "wait=0").await.problem(409, "reservation_not_releasable");
    server.made("user:alice").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_complete_reservation_is_repaired_already_and_not_releasable() {
    let server = Server::start().await;
    let made = server.made("user:alice").await;
    let path = format!("/v1/reservations/{}", made["id"].as_str().unwrap());
    let repaired = server.post(&format!("{path}/repair")).send().await.with(200).json();
    assert_eq!(repaired["status"], "completed");
    let active = server.post(&format!("{path}/release")).json(&release("completed", true)).send().await;
    active.problem(409, "reservation_active");
}

/// Everything that a provision makes is there and on record, and its executor is gone.
pub(crate) async fn finished_by_nobody(server: &Server, instance: InstanceId) {
    let (store, records) = (&server.world.store, &server.world.records);
    let Registered { reservation, operation, .. } = store.instance_describe(instance).await.unwrap().unwrap();
    let run = Run { reservation, operation };
    let (lease, at) = (run.lease().unwrap(), server.world.clock.now());
    for kind in ResourceKind::ALL {
        let resource = Resource { kind, id: "4711".into(), region: None, handle: String::new() };
        let made = Finding::Done(Effect::Made { resource, runtime: Some(RuntimeState::Starting) });
        let note = Note { at, finding: Some((Step::making(kind), made)), then: Then::Look };
        store.note(&lease, note).await.unwrap();
    }
    let reservation = run.reservation;
    let row = InstanceRow {
        instance,
        context: reservation.context,
        provider: reservation.provider,
        tier: reservation.tier,
        created_at: at,
        destroyed_at: None,
    };
    let because = freehold_engine::ports::Because::of(lease.operation, "as an executor does");
    let subscription = Subscription {
        id: SubscriptionId::mint(1, [1; 10]),
        instance,
        status: SubscriptionStatus::Active,
        plan: "large".into(),
        price_version: reservation.price_version,
        started_at: at,
        ended_at: None,
        reported: true,
    };
    records.insert(row, &because).await.unwrap();
    records.subscription_put(subscription, &because).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_that_was_repaired_gets_the_same_bytes_again() {
    let server = Server::paused().await;
    let ask = || server.create("user:alice").header("idempotency-key", "k").header("prefer", "wait=0").send();
    let begun = ask().await.with(202).json();
    let id = begun["operation"]["instance_id"].as_str().unwrap();
    let instance: InstanceId = id.parse().unwrap();
    finished_by_nobody(&server, instance).await;
    server.post(&format!("/v1/reservations/{id}/repair")).send().await.with(200);
    let first = ask().await.with(201);
    assert_eq!(first.json()["status"], "starting");

    let store = &server.world.store;
    let Registered { reservation, .. } = store.instance_describe(instance).await.unwrap().unwrap();
    let (at, later) = (server.world.clock.now(), Duration::from_secs(300));
    store.watched(instance, reservation.epoch, RuntimeState::Running, at, at.plus(later), later).await.unwrap();
    assert_eq!(server.get(&format!("/v1/instances/{id}")).await.json()["status"], "running");
    assert_eq!(ask().await.with(201).body, first.body, "whatever has become of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_override_opens_a_leak_that_somebody_answers_for() {
    let server = Server::start().await;
    let id = stuck(&server).await;
    let path = format!("/v1/reservations/{id}/release");
    server.post(&path).json(&release("failed_requires_reconciliation", true)).send().await.with(200);
    // Cleaning up behind the override still does not get on.
    server.cloud.set_chance(|call| (call.kind == CallKind::Seal).then_some(Fault::NothingDone));
    let leaks = server.get("/v1/leaks").await.with(200).json();
    let leak = &leaks["leaks"][0];
    assert_eq!((&leak["instance_id"], &leak["provider"]), (&json!(id), &json!("local")), "{leaks:#}");
    assert_eq!(leak["reason"], "looked myself");
    server.made("user:alice").await;

    let resolve = format!("/v1/leaks/{}/resolve", leak["id"].as_str().unwrap());
    server.post(&resolve).json(&json!({"reason": ""})).send().await.problem(400, "invalid_request");
    let resolved = server.post(&resolve).json(&json!({"reason": "deleted by hand"})).send().await.with(200).json();
    assert!(resolved["resolved_at"].is_string());
    assert_eq!(resolved["resolution"], "deleted by hand");
    assert_eq!(server.get("/v1/leaks").await.with(200).json()["leaks"], json!([]));
    let all = server.get("/v1/leaks?resolved=true").await.with(200).json();
    assert_eq!(all["leaks"][0]["id"], leak["id"]);
    let missing = "/v1/leaks/01990000-0000-7000-8000-000000000001/resolve";
    server.post(missing).json(&json!({"reason": "x"})).send().await.problem(404, "not_found");
}

/// The context is released on an operator's word, and what is left cannot be removed. Answers the instance and its leak.
async fn overridden_with_something_left(server: &Server) -> (String, Value) {
    server.cloud.set_chance(|call| match call.kind {
        CallKind::Ensure(ResourceKind::Runtime) | CallKind::Destroy(_) => Some(Fault::NothingDone),
        _ => None,
    });
    let problem = server.create("user:alice").send().await.problem(502, "provision_failed");
    let id = problem["instance_id"].as_str().unwrap().to_owned();
    let path = format!("/v1/reservations/{id}/release");
    server.post(&path).json(&release("failed_requires_reconciliation", true)).send().await.with(200);
    let leaks = server.get("/v1/leaks").await.with(200).json();
    assert_eq!(leaks["leaks"][0]["instance_id"], id.as_str());
    (id, leaks["leaks"][0].clone())
}

/// Waits until the clean-up was tried more often than a step going forward may be.
async fn tried_and_tried(server: &Server, id: &str) {
    server
        .until(&format!("/v1/reservations/{id}"), |shown| {
            let tried = shown["evidence"].as_array().unwrap().iter().filter(|item| item["kind"] == "tried");
            let attempts = tried.filter_map(|item| {
                let rest = item["detail"].as_str()?.strip_prefix("remove, attempt ")?;
                rest.split(':').next()?.parse::<u32>().ok()
            });
            attempts.max().is_some_and(|attempts| attempts > server.world.policy.max_attempts + 2)
        })
        .await;
}

async fn until_told(server: &Server, id: &str, kind: &str) -> Value {
    let path = format!("/v1/audit?instance_id={id}&limit=100");
    let of_kind =
        |trail: &Value| trail["events"].as_array().unwrap().iter().find(|event| event["kind"] == kind).cloned();
    let trail = server.until(&path, |trail| of_kind(trail).is_some()).await;
    of_kind(&trail).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_override_left_is_retried_until_it_is_gone_and_then_its_leak_closes_by_itself() {
    let server = Server::start().await;
    let (id, leak) = overridden_with_something_left(&server).await;
    tried_and_tried(&server, &id).await;
    assert!(!server.cloud.live().is_empty());
    assert_eq!(server.get("/v1/leaks").await.json()["leaks"][0]["id"], leak["id"], "it stays on the list");
    server.cloud.heal();
    let told = until_told(&server, &id, "instance.orphan_removed").await;
    assert_eq!(told["actor"], "system");
    assert!(server.cloud.live().is_empty(), "{:?} is left", server.cloud.live());
    assert_eq!(server.get("/v1/leaks").await.json()["leaks"], json!([]));
    let closed = server.get("/v1/leaks?resolved=true").await.with(200).json();
    assert_eq!(closed["leaks"][0]["id"], leak["id"]);
    assert!(closed["leaks"][0]["resolved_at"].is_string(), "{closed:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn resolving_a_leak_while_its_clean_up_runs_loses_nothing() {
    let server = Server::start().await;
    let (id, leak) = overridden_with_something_left(&server).await;
    tried_and_tried(&server, &id).await;
    let resolve = format!("/v1/leaks/{}/resolve", leak["id"].as_str().unwrap());
    server.post(&resolve).json(&json!({"reason": "not ours any more"})).send().await.with(200);
    let shown = server.get(&format!("/v1/reservations/{id}")).await.with(200).json();
    let on_record = shown["evidence"].as_array().unwrap().iter().filter(|item| item["kind"] == "resource").count();
    assert_eq!(on_record, server.cloud.live().len(), "what is there stays on record: {shown:#}");
    server.cloud.heal();
    until_told(&server, &id, "instance.orphan_removed").await;
    assert!(server.cloud.live().is_empty(), "{:?} is left", server.cloud.live());
    let metrics = String::from_utf8(server.get("/metrics").await.with(200).body.to_vec()).unwrap();
    assert!(!metrics.contains("freehold_invariant_violations_total{"), "{metrics}");
}
