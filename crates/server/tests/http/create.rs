//! Creating: one instance, one answer, and every way to be refused.

use std::sync::Arc;

use freehold_domain::event::Actor;
use freehold_domain::owner::Context;
use freehold_domain::resource::{RejectionClass, ResourceKind};
use freehold_engine::control_plane::{Caller, ControlPlane, Provision, ProvisionRefused, SpecRequest};
use freehold_engine::ports::IdempotencyKey;
use freehold_providers::fake::{CallKind, Fault};
use http::Method;
use serde_json::{Value, json};

use crate::client::{Answer, PATIENCE};
use crate::server::{OPERATOR, PLATFORM, Server};

const BASE: CallKind = CallKind::Ensure(ResourceKind::Base);

#[tokio::test(flavor = "multi_thread")]
async fn a_create_is_answered_with_a_routable_instance() {
    let server = Server::start().await;
    let answer = server.create("user:alice").send().await.with(201);
    let instance = answer.json();
    assert_eq!(answer.header("location"), format!("/v1/instances/{}", instance["id"].as_str().unwrap()));
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(instance["owner"], "user:alice");
    assert_eq!(instance["routable"], true);
    assert_eq!(instance["subscription"]["status"], "active");
    assert_eq!(instance["resources"].as_array().unwrap().len(), 3);
    let shown = server.get(answer.header("location")).await.with(200);
    assert_eq!(shown.json(), instance, "the answer is what is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_context_says_what_is_in_the_way() {
    let server = Server::paused().await;
    let first = server.create("user:alice").header("prefer", "respond-async").send().await.with(202);
    let operation = first.json()["operation"].clone();
    assert_eq!(first.header("location"), format!("/v1/operations/{}", operation["id"].as_str().unwrap()));
    assert_eq!(first.header("retry-after"), "1");

    let problem = server.create("user:alice").send().await.problem(409, "provision_in_progress");
    assert_eq!(problem["instance_id"], operation["instance_id"]);
    assert_eq!(problem["operation_id"], operation["id"]);
    assert_eq!(problem["reservation_status"], "in_progress");
    assert!(problem["detail"].as_str().unwrap().contains("being created"), "{problem}");
    let route = format!("/v1/routes/{}", operation["instance_id"].as_str().unwrap());
    server.get(&route).await.problem(409, "not_routable_yet");

    server.run();
    let shown = first.header("location").to_owned();
    let done = server.until(&shown, |operation| operation["status"] == "succeeded").await;
    assert_eq!(done["phase"], "succeeded");
    let problem = server.create("user:alice").send().await.problem(409, "instance_already_active");
    assert_eq!(problem["instance_id"], operation["instance_id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stampede_gets_one_instance() {
    let server = std::sync::Arc::new(Server::start().await);
    let calls: Vec<_> = (0..40)
        .map(|_| {
            let server = std::sync::Arc::clone(&server);
            tokio::spawn(async move { server.create("user:bob").send().await })
        })
        .collect();
    let mut made = Vec::new();
    for call in calls {
        let answer = call.await.unwrap();
        match answer.status {
            201 => made.push(answer.json()["id"].clone()),
            409 => assert!(answer.json()["instance_id"].is_string()),
            other => panic!("{other}: {}", answer.text()),
        }
    }
    assert_eq!(made.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_gets_the_same_bytes_again() {
    let server = Server::start().await;
    let ask = |key: &str, body: Value| {
        server.call(Method::POST, "/v1/instances").key(PLATFORM).header("idempotency-key", key).json(&body).send()
    };
    let body = json!({"owner": "user:alice", "spec": {"env": {"A": "1", "B": "2"}}});
    let first = ask("k1", body.clone()).await.with(201);
    assert_eq!(first.header("idempotency-replayed"), "");
    let again = ask("\"k1\"", body.clone()).await.with(201);
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!((&again.body, again.header("location")), (&first.body, first.header("location")));

    ask("k1", json!({"owner": "user:alice"})).await.problem(422, "idempotency_key_reused");
    ask("k2", body.clone()).await.problem(409, "instance_already_active");
    ask(&"k".repeat(256), body.clone()).await.problem(400, "idempotency_key_invalid");
    let operator = server.post("/v1/instances").header("idempotency-key", "k1").json(&body).send().await;
    operator.problem(409, "instance_already_active");

    // The answer outlives its instance.
    let id = first.json()["id"].as_str().unwrap().to_owned();
    server.delete(&format!("/v1/instances/{id}")).await.with(200);
    let later = ask("k1", body).await.with(201);
    assert_eq!(later.body, first.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_known_whatever_is_offered_by_now() {
    let server = Server::start().await;
    let request = Provision {
        caller: Caller { actor: Actor::Platform, request_id: "r".into() },
        context: Context::new("user:alice".parse().unwrap(), None).unwrap(),
        provider: Some("local".parse().unwrap()),
        tier: Some("small".parse().unwrap()),
        regions: Vec::new(),
        spec: SpecRequest { template: Some("hello".into()), ..SpecRequest::default() },
        idempotency: Some(IdempotencyKey { scope: [1; 32], fingerprint: [2; 32] }),
    };
    let first = ControlPlane::new(Arc::clone(&server.world)).provision(request.clone()).await.unwrap();
    let restarted = ControlPlane::new(Arc::new(server.world_that_offers_nothing()));
    let again = restarted.provision(request.clone()).await.unwrap();
    assert_eq!((again.operation, again.replayed), (first.operation, true));
    let other_key = Provision { idempotency: None, ..request };
    assert_eq!(restarted.provision(other_key).await, Err(ProvisionRefused::ProviderUnknown("local".into())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_of_a_running_create_gets_the_same_operation() {
    let server = Server::paused().await;
    let ask = || server.create("user:alice").header("idempotency-key", "k").header("prefer", "wait=0").send();
    let first = ask().await.with(202).json();
    let again = ask().await.with(202);
    assert_eq!(again.json()["operation"]["id"], first["operation"]["id"]);
    let waiting = tokio::spawn(server.create("user:alice").header("idempotency-key", "k").send());
    server.run();
    let answer = waiting.await.unwrap().with(201);
    assert_eq!(answer.header("idempotency-replayed"), "true");
    assert_eq!(answer.json()["operation_id"], first["operation"]["id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_by_the_provider_frees_the_context_and_is_replayed_with_its_first_request_id() {
    let server = Server::start().await;
    server.cloud.script_next(BASE, Fault::Refused(RejectionClass::Quota));
    let ask = |request: &str| {
        server.create("user:alice").header("idempotency-key", "k").header("x-request-id", request).send()
    };
    let first = ask("first").await;
    let problem = first.clone().problem(502, "provider_rejected");
    assert_eq!(problem["request_id"], "first");
    assert_eq!(problem["reservation_status"], "released");
    let again = ask("second").await;
    assert_eq!(again.body, first.body);
    assert_eq!((again.header("idempotency-replayed"), again.header("x-request-id")), ("true", "second"));
    server.made("user:alice").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_cannot_be_reached_is_unavailable() {
    let server = Server::start().await;
    server.cloud.set_chance(|call| (call.kind == BASE).then_some(Fault::NotSent));
    let problem = server.create("user:alice").send().await.problem(503, "provider_unavailable");
    assert_eq!(problem["retryable"], true);
    server.cloud.heal();
    server.made("user:alice").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provision_that_gave_up_says_that_cleaning_goes_on() {
    let server = Server::start().await;
    server.cloud.set_chance(|call| match call.kind {
        CallKind::Ensure(ResourceKind::Runtime) => Some(Fault::NothingDone),
        CallKind::Seal => Some(Fault::NothingDone),
        _ => None,
    });
    let problem = server.create("user:alice").send().await.problem(502, "provision_failed");
    assert_eq!(problem["reservation_status"], "failed_requires_reconciliation");
    let held = server.create("user:alice").send().await.problem(409, "provision_in_progress");
    assert!(held["detail"].as_str().unwrap().contains("cleaned up"), "{held}");
    let operation = format!("/v1/operations/{}", problem["operation_id"].as_str().unwrap());
    assert_eq!(server.get(&operation).await.json()["error"]["code"], "provision_failed");
    server.cloud.heal();
    server.until(&operation, |operation| operation["status"] == "failed").await;
    server.made("user:alice").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_gets_its_instance_all_the_same() {
    use tokio::io::AsyncWriteExt as _;
    let server = Server::start().await;
    let body = r#"{"owner":"user:alice"}"#;
    let request = format!(
        "POST /v1/instances HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {PLATFORM}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    drop(stream);
    // The connection's end may be seen before its request; then nothing was begun, and nothing is owed.
    let begun = std::time::Instant::now();
    loop {
        let owner = server.get("/v1/owners/user:alice").await;
        if owner.status == 200 {
            server.until("/v1/owners/user:alice", |owner| owner["entries"][0]["instance_id"].is_string()).await;
            return;
        }
        owner.problem(404, "owner_not_found");
        if begun.elapsed() > PATIENCE / 10 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

async fn refused(server: &Server, body: &str) -> Answer {
    server.post("/v1/instances").header("content-type", "application/json").body(body.to_owned()).send().await
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_bodies_are_told_what_is_wrong_and_where() {
    let server = Server::start().await;
    for body in ["", "{", "nonsense", r#"{"owner":"user:a"} x"#] {
        refused(&server, body).await.problem(400, "malformed_json");
    }
    let long = format!(r#"{{"owner":"user:{}"}}"#, "x".repeat(300));
    for (body, at) in [
        (r#"{}"#, "#"),
        (r#"{"owner":"user:a","owner":"user:b"}"#, "#"),
        (r#"{"owner":"user:a","colour":"red"}"#, "#/colour"),
        (r#"{"owner":5}"#, "#/owner"),
        (r#"{"owner":"user:"}"#, "#/owner"),
        (r#"{"owner":"admin:x"}"#, "#/owner"),
        (r#"{"owner":"user:a\u0000"}"#, "#/owner"),
        (long.as_str(), "#/owner"),
        (r#"{"owner":"org:a"}"#, "#/assigned_user"),
        (r#"{"owner":"user:a","instance_id":"01990000-0000-7000-8000-000000000001"}"#, "#/instance_id"),
        (r#"{"owner":"user:a","spec":{"template":"nope"}}"#, "#/spec/template"),
        (r#"{"owner":"user:a","spec":{"secrets":{"FREEHOLD_X":"1"}}}"#, "#/spec/secrets/FREEHOLD_X"),
    ] {
        let problem = refused(&server, body).await.problem(400, "invalid_request");
        assert_eq!(problem["errors"][0]["pointer"], at, "{body}: {problem}");
    }
    for (body, code) in [
        (r#"{"owner":"user:a","tier":"gigantic"}"#, "tier_not_offered"),
        (r#"{"owner":"user:a","tier":"huge"}"#, "tier_exceeds_entitlement"),
        (r#"{"owner":"user:a","provider":"moon"}"#, "provider_unknown"),
    ] {
        refused(&server, body).await.problem(400, code);
    }
    let megabyte = format!(r#"{{"owner":"user:a","spec":{{"image":"{}"}}}}"#, "x".repeat(1 << 20));
    refused(&server, &megabyte).await.problem(413, "payload_too_large");
    let plain =
        server.call(Method::POST, "/v1/instances").key(OPERATOR).header("content-type", "text/plain").body("{}");
    plain.send().await.problem(415, "unsupported_media_type");
    let silent = server.call(Method::POST, "/v1/instances").key(OPERATOR).body("{}");
    silent.send().await.problem(415, "unsupported_media_type");
    server.get("/v1/owners/user:a").await.problem(404, "owner_not_found");
}
