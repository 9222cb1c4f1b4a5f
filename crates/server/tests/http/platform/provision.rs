//! Provisions without `instanceId`: one instance for a context, answered when it is over.

use std::time::Duration;

use freehold_domain::resource::{RejectionClass, ResourceKind};
use freehold_providers::fake::{CallKind, Fault};
use freehold_server::Settings;
use http::Method;
use serde_json::json;

use super::{ACTIVE, CREATING, DESTROYED, PENDING, begun, call, get, made, post};
use crate::billing::Mood;
use crate::server::{Options, Server};

const BASE: CallKind = CallKind::Ensure(ResourceKind::Base);

#[tokio::test(flavor = "multi_thread")]
async fn a_provision_is_answered_with_its_ids_and_makes_what_was_asked_for() {
    let server = Server::start().await;
    let body = json!({"userId": "alice", "envVars": {"A": "1"}, "instanceType": "small", "region": "eu,us",
                      "provider": "local", "bootstrapSubscription": true, "somethingOld": {"a": 1}});
    let answer = post(&server, "provision", body).await.with(201).json();
    let id = answer["instanceId"].as_str().unwrap();
    assert_eq!(answer, json!({"sandboxId": format!("ki_{}", id.replace('-', "")), "instanceId": id}));
    let shown = server.get(&format!("/v1/instances/{id}")).await.with(200).json();
    assert_eq!((&shown["owner"], &shown["assigned_user"]), (&json!("user:alice"), &json!("alice")));
    assert_eq!((&shown["tier"], &shown["spec"]["env"]), (&json!("small"), &json!({"A": "1"})));
    assert_eq!((&shown["provider"], &shown["routable"]), (&json!("local"), &json!(true)));
    assert_eq!(shown["subscription"]["status"], "active");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organisations_instance_is_another_context_of_its_user() {
    let server = Server::start().await;
    let own = made(&server, "alice").await;
    let body = json!({"userId": "alice", "orgId": "acme"});
    let answer = post(&server, "provision", body.clone()).await.with(201).json();
    assert_ne!(answer["instanceId"], own.as_str());
    let shown = server.get(&format!("/v1/instances/{}", answer["instanceId"].as_str().unwrap())).await.json();
    assert_eq!((&shown["owner"], &shown["assigned_user"]), (&json!("org:acme"), &json!("alice")));
    post(&server, "provision", body).await.error(409, ACTIVE, "instance_already_active");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_context_is_told_in_sentences() {
    let server = Server::paused().await;
    let id = begun(&server, "alice").await;
    let held = post(&server, "provision", json!({"userId": "alice"})).await;
    assert_eq!(held.header("retry-after"), "1");
    held.error(409, CREATING, "provision_in_progress");
    server.run();
    server.until(&format!("/v1/instances/{id}"), |shown| shown["status"] == "running").await;
    let taken = post(&server, "provision", json!({"userId": "alice"})).await;
    taken.error(409, ACTIVE, "instance_already_active");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stampede_gets_one_instance_and_sentences() {
    let server = std::sync::Arc::new(Server::start().await);
    let calls = (0..20).map(|_| {
        let server = std::sync::Arc::clone(&server);
        tokio::spawn(async move { post(&server, "provision", json!({"userId": "bob"})).await })
    });
    let calls: Vec<_> = calls.collect();
    let mut made = 0;
    for call in calls {
        let answer = call.await.unwrap();
        match (answer.status, answer.json()["code"].as_str()) {
            (201, None) => made += 1,
            (409, Some("provision_in_progress" | "instance_already_active")) => {}
            other => panic!("{other:?}: {}", answer.text()),
        }
    }
    assert_eq!(made, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_waits_longer_than_a_create_of_version_1_and_never_answers_202() {
    let settings = Settings { default_wait: Duration::ZERO, ..Settings::default() };
    let server = Server::with(Options { running: false, settings, ..Options::default() }).await;
    let body = json!({"userId": "alice"});
    let waiting = call(&server, Method::POST, "provision").header("prefer", "respond-async").json(&body);
    let waiting = tokio::spawn(waiting.send());
    server.until("/v1/instances?owner=user:alice", |listed| listed["instances"][0]["id"].is_string()).await;
    server.run();
    waiting.await.unwrap().with(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_over_in_time_goes_on_behind_the_answer() {
    let deadline = Duration::from_secs(1);
    let server = Server::with(Options { deadline, ..Options::default() }).await;
    server.billing.send_replace(Mood::Slow);
    let late = post(&server, "provision", json!({"userId": "alice"})).await;
    assert_eq!(late.header("retry-after"), "1");
    late.error(503, PENDING, "provision_completion_pending");
    let seen = get(&server, "status?userId=alice").await.with(200).json();
    assert_eq!(seen["status"], "provisioning", "{seen}");
    let metrics = server.get("/metrics").await.with(200);
    assert!(metrics.text().contains("freehold_provision_completion_pending_total 1"), "{}", metrics.text());
    let named = r#"route="/api/platform/provision",status="503""#;
    assert!(metrics.text().contains(named), "{}", metrics.text());
    server.billing.send_replace(Mood::Well);
    let path = format!("/v1/instances/{}", seen["instanceId"].as_str().unwrap());
    server.until(&path, |shown| shown["status"] == "running").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_does_not_let_its_callers_wait() {
    let server = Server::paused().await;
    let waiting = tokio::spawn(call(&server, Method::POST, "provision").json(&json!({"userId": "alice"})).send());
    server.until("/v1/instances?owner=user:alice", |listed| listed["instances"][0]["id"].is_string()).await;
    server.shutdown.cancel();
    waiting.await.unwrap().error(503, PENDING, "provision_completion_pending");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_surely_failed_has_one_answer_and_frees_the_context() {
    let server = Server::start().await;
    server.cloud.script_next(BASE, Fault::Refused(RejectionClass::Quota));
    post(&server, "provision", json!({"userId": "alice"})).await.error(500, "provision failed", "");
    server.cloud.set_chance(|call| (call.kind == BASE).then_some(Fault::NotSent));
    post(&server, "provision", json!({"userId": "alice"})).await.error(500, "provision failed", "");
    server.cloud.set_chance(|call| match call.kind {
        CallKind::Ensure(ResourceKind::Runtime) | CallKind::Seal => Some(Fault::NothingDone),
        _ => None,
    });
    post(&server, "provision", json!({"userId": "alice"})).await.error(500, "provision failed", "");
    // What the last one may have left is being removed: the context is not free before that.
    post(&server, "provision", json!({"userId": "alice"})).await.error(409, CREATING, "provision_in_progress");
    server.cloud.heal();
    let free = |listed: &serde_json::Value| listed["reservations"] == json!([]);
    server.until("/v1/reservations?status=failed_requires_reconciliation", free).await;
    made(&server, "alice").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destroy_wins_over_a_provision() {
    let server = Server::paused().await;
    let waiting = tokio::spawn(call(&server, Method::POST, "provision").json(&json!({"userId": "alice"})).send());
    server.until("/v1/instances?owner=user:alice", |listed| listed["instances"][0]["id"].is_string()).await;
    let destroying = tokio::spawn(call(&server, Method::POST, "destroy").json(&json!({"userId": "alice"})).send());
    waiting.await.unwrap().error(409, DESTROYED, "instance_destroyed");
    server.run();
    assert_eq!(destroying.await.unwrap().with(200).json()["finalized"], true);
    assert!(server.cloud.live().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_billing_says_comes_before_anything_is_taken() {
    let server = Server::start().await;
    let ask = |body| post(&server, "provision", body);
    server.billing.send_replace(Mood::Denies);
    ask(json!({"userId": "alice"})).await.code(403, "entitlement_denied");
    server.billing.send_replace(Mood::Away);
    ask(json!({"userId": "alice"})).await.code(503, "billing_unavailable");
    server.billing.send_replace(Mood::Well);
    ask(json!({"userId": "alice", "instanceType": "gigantic"})).await.code(400, "tier_not_offered");
    ask(json!({"userId": "alice", "instanceType": "huge"})).await.code(400, "tier_exceeds_entitlement");
    ask(json!({"userId": "alice", "provider": "moon"})).await.code(400, "provider_unknown");
    server.get("/v1/owners/user:alice").await.problem(404, "owner_not_found");
}
