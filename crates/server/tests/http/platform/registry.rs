//! The registry: entries, and the tools for reservations.

use freehold_domain::resource::ResourceKind;
use freehold_providers::fake::{CallKind, Fault};
use freehold_server::Settings;
use serde_json::{Value, json};

use super::{begun, get, made, post};
use crate::client::Answer;
use crate::operators::finished_by_nobody;
use crate::server::{Options, Server};

async fn repair(server: &Server, user: &str, id: &str) -> Answer {
    post(server, "provision/repair-reservation", json!({"userId": user, "instanceId": id})).await
}

async fn release(server: &Server, user: &str, id: &str) -> Answer {
    let body = json!({"userId": user, "instanceId": id, "acknowledgeCleanupVerified": true});
    post(server, "provision/release-reservation", body).await
}

/// A reservation that needs reconciliation, because nothing can be created or sealed.
async fn stuck(server: &Server) -> String {
    server.cloud.set_chance(|call| match call.kind {
        CallKind::Ensure(ResourceKind::Runtime) | CallKind::Seal => Some(Fault::NothingDone),
        _ => None,
    });
    post(server, "provision", json!({"userId": "alice"})).await.error(500, "provision failed", "");
    let seen = get(server, "status?userId=alice").await.with(200).json();
    assert_eq!(seen["status"], "failed", "{seen}");
    seen["instanceId"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_is_repaired_if_its_instance_is_on_record() {
    let server = Server::paused().await;
    let instance = begun(&server, "alice").await;
    let id = instance.to_string();
    repair(&server, "alice", &id).await.code(409, "provision_repair_unavailable");
    repair(&server, "bob", &id).await.code(404, "reservation_not_found");
    repair(&server, "alice", "123e4567-e89b-42d3-a456-426614174000").await.code(404, "reservation_not_found");
    finished_by_nobody(&server, instance).await;
    for _ in 0..2 {
        assert_eq!(repair(&server, "alice", &id).await.with(200).json(), json!({"ok": true}));
    }
    assert_eq!(server.get(&format!("/v1/reservations/{id}")).await.json()["status"], "completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_is_released_on_proof_only() {
    let settings = Settings { default_wait: std::time::Duration::from_millis(300), ..Settings::default() };
    let server = Server::with(Options { settings, ..Options::default() }).await;
    let id = stuck(&server).await;
    release(&server, "bob", &id).await.code(404, "reservation_not_found");
    release(&server, "alice", "01990000-0000-7000-8000-000000000001").await.code(404, "reservation_not_found");
    // It was acknowledged, and the provider does not let it be proven: nothing is released on somebody's word.
    release(&server, "alice", &id).await.code(503, "provider_check_unavailable");
    server.cloud.heal();
    let begun = std::time::Instant::now();
    let released = loop {
        let answer = release(&server, "alice", &id).await;
        if answer.status != 503 {
            break answer;
        }
        assert!(begun.elapsed() < crate::client::PATIENCE, "{}", answer.text());
    };
    match released.status {
        200 => {
            let body = json!({"ok": true, "previousStatus": "failed_requires_reconciliation"});
            assert_eq!(released.json(), body);
        }
        // It was proven between two asks.
        _ => released.code(409, "reservation_not_releasable"),
    }
    release(&server, "alice", &id).await.code(409, "reservation_not_releasable");
    assert!(server.cloud.live().is_empty());
    made(&server, "alice").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_waits_for_its_proof() {
    let server = Server::start().await;
    let id = stuck(&server).await;
    server.cloud.set_chance(|call| (call.kind == CallKind::Seal).then_some(Fault::NothingDone));
    let healing = server.cloud.clone();
    let body = json!({"userId": "alice", "instanceId": id, "acknowledgeCleanupVerified": true});
    let waiting = super::call(&server, http::Method::POST, "provision/release-reservation").json(&body);
    let waiting = tokio::spawn(waiting.send());
    let asked = |trail: &Value| trail.to_string().contains("the web application acknowledged");
    server.until(&format!("/v1/audit?instance_id={id}&limit=100"), asked).await;
    healing.heal();
    let body = json!({"ok": true, "previousStatus": "failed_requires_reconciliation"});
    assert_eq!(waiting.await.unwrap().with(200).json(), body);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_being_made_or_is_there_is_not_released() {
    let server = Server::paused().await;
    let id = begun(&server, "alice").await.to_string();
    release(&server, "alice", &id).await.code(409, "reservation_active");
    server.run();
    server.until(&format!("/v1/instances/{id}"), |shown| shown["status"] == "running").await;
    release(&server, "alice", &id).await.code(409, "reservation_active");
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_are_shown_by_registry_with_tombstones() {
    let server = Server::start().await;
    let empty = json!({"registryKey": "user:alice", "entries": [], "reservations": [], "migrated": true});
    assert_eq!(get(&server, "registry-entries?userId=alice").await.with(200).json(), json!({"registries": [empty]}));
    let id = made(&server, "alice").await;
    post(&server, "destroy", json!({"userId": "alice"})).await.with(200);
    post(&server, "provision", json!({"userId": "alice", "orgId": "acme"})).await.with(201);
    let shown = get(&server, "registry-entries?userId=alice&orgId=acme").await.with(200).json();
    let keys: Vec<_> = shown["registries"].as_array().unwrap().iter().map(|one| one["registryKey"].clone()).collect();
    assert_eq!(keys, ["user:alice", "org:acme"]);
    let own = &shown["registries"][0];
    assert_eq!((&own["entries"][0]["instanceId"], &own["entries"][0]["assignedUser"]), (&json!(id), &json!("alice")));
    assert!(own["entries"][0]["destroyedAt"].is_string() && own["entries"][0]["createdAt"].is_string());
    assert_eq!(own["reservations"][0]["resolutionReason"], "instance_destroyed");
    assert_eq!(shown["registries"][1]["entries"][0]["destroyedAt"], json!(null));
    assert!(names(&shown).iter().all(|name| !name.contains('_')), "{shown}");
}

/// The names of all members, at every depth.
fn names(value: &Value) -> Vec<&str> {
    match value {
        Value::Object(members) => {
            members.iter().flat_map(|(name, value)| [vec![name.as_str()], names(value)].concat()).collect()
        }
        Value::Array(items) => items.iter().flat_map(names).collect(),
        _ => Vec::new(),
    }
}
