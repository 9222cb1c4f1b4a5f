//! Destroy, start, stop and status.

use freehold_domain::resource::ResourceKind;
use freehold_providers::fake::{CallKind, Fault};
use freehold_server::Settings;
use http::Method;
use serde_json::{Value, json};

use super::{CREATING, DESTROYED, NOT_FOUND, begun, call, get, made, post};
use crate::server::{Options, Server};

#[tokio::test(flavor = "multi_thread")]
async fn a_destroy_is_final_and_repeating_it_is_success() {
    let server = Server::start().await;
    post(&server, "destroy", json!({"userId": "alice"})).await.error(404, NOT_FOUND, "instance_not_found");
    let id = made(&server, "alice").await;
    let first = post(&server, "destroy", json!({"userId": "alice", "reason": "moved away"})).await.with(200).json();
    assert_eq!((&first["ok"], &first["finalized"], &first["instanceId"]), (&json!(true), &json!(true), &json!(id)));
    assert!(first["destroyedAt"].is_string(), "{first}");
    let trail = server.get(&format!("/v1/audit?instance_id={id}&limit=100")).await.with(200);
    assert!(trail.text().contains("moved away"), "{}", trail.text());
    for body in [json!({"userId": "alice"}), json!({"userId": "alice", "instanceId": id})] {
        let again = post(&server, "destroy", body).await.with(200).json();
        assert_eq!(again, first, "also without its id: the context's last one");
    }
    let body = json!({"userId": "bob", "instanceId": id});
    post(&server, "destroy", body).await.error(404, NOT_FOUND, "instance_not_found");
    assert_ne!(made(&server, "alice").await, id, "the context is free");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destroy_that_takes_longer_is_accepted_and_goes_on() {
    let settings = Settings { default_wait: std::time::Duration::ZERO, ..Settings::default() };
    let server = Server::with(Options { settings, ..Options::default() }).await;
    let id = made(&server, "alice").await;
    server
        .cloud
        .set_chance(|call| (call.kind == CallKind::Destroy(ResourceKind::Runtime)).then_some(Fault::NothingDone));
    for _ in 0..2 {
        let pending = post(&server, "destroy", json!({"userId": "alice"})).await.with(200).json();
        assert_eq!((&pending["ok"], &pending["finalized"]), (&json!(true), &json!(false)));
        assert_eq!(pending["instanceId"], id.as_str());
        assert!(pending["operationId"].is_string(), "{pending}");
    }
    assert_eq!(get(&server, "status?userId=alice").await.with(200).json()["status"], "destroying");
    for verb in ["start", "stop"] {
        post(&server, verb, json!({"userId": "alice"})).await.error(409, DESTROYED, "instance_destroyed");
    }
    server.cloud.heal();
    server.until(&format!("/v1/instances/{id}"), |shown| shown["status"] == "destroyed").await;
    assert_eq!(post(&server, "destroy", json!({"userId": "alice"})).await.with(200).json()["finalized"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn start_and_stop_tell_what_was_and_what_is() {
    let server = Server::start().await;
    let id = made(&server, "alice").await;
    let seen = |answer: Value| {
        assert_eq!((&answer["ok"], &answer["instanceId"]), (&json!(true), &json!(id)));
        let text = |name: &str| answer[name].as_str().unwrap().to_owned();
        (text("previousStatus"), text("currentStatus"), answer["changed"].as_bool().unwrap())
    };
    let is = |before: &str, after: &str, changed| (before.to_owned(), after.to_owned(), changed);
    let by_query = |verb: &str| call(&server, Method::POST, &format!("{verb}?userId=alice&instanceId={id}")).send();
    let (before, _, changed) = seen(post(&server, "start", json!({"userId": "alice"})).await.with(200).json());
    assert!(["starting", "running"].contains(&before.as_str()) && !changed);
    let stopped = seen(by_query("stop").await.with(200).json());
    assert_eq!((stopped.1.as_str(), stopped.2), ("stopped", true));
    assert_eq!(seen(by_query("stop").await.with(200).json()), is("stopped", "stopped", false));
    let body = json!({"userId": "alice", "instanceId": id, "extra": 1});
    assert_eq!(seen(post(&server, "start", body).await.with(200).json()), is("stopped", "running", true));
    let mixed = call(&server, Method::POST, "stop?userId=alice").json(&json!({"instanceId": id})).send().await;
    assert_eq!(seen(mixed.with(200).json()), is("running", "stopped", true));
    let empty = call(&server, Method::POST, "start?userId=alice").header("content-type", "application/json");
    assert_eq!(seen(empty.send().await.with(200).json()), is("stopped", "running", true));
}

#[tokio::test(flavor = "multi_thread")]
async fn start_and_stop_need_an_instance_that_is_there() {
    let server = Server::paused().await;
    let nothing = "01990000-0000-7000-8000-000000000001";
    for verb in ["start", "stop"] {
        post(&server, verb, json!({"userId": "alice"})).await.error(404, NOT_FOUND, "instance_not_found");
        let body = json!({"userId": "alice", "instanceId": nothing});
        post(&server, verb, body).await.error(404, NOT_FOUND, "instance_not_found");
    }
    let id = begun(&server, "alice").await.to_string();
    for verb in ["start", "stop"] {
        post(&server, verb, json!({"userId": "alice"})).await.error(409, CREATING, "provision_in_progress");
        let body = json!({"userId": "bob", "instanceId": id});
        post(&server, verb, body).await.error(404, NOT_FOUND, "instance_not_found");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_the_provider_refuses_says_so() {
    let server = Server::start().await;
    made(&server, "alice").await;
    post(&server, "stop", json!({"userId": "alice"})).await.with(200);
    server.cloud.set_chance(|_| Some(Fault::NotSent));
    post(&server, "start", json!({"userId": "alice"})).await.code(503, "provider_unavailable");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_is_null_where_there_is_no_instance() {
    let server = Server::start().await;
    let none = json!({"userId": "alice", "status": null});
    assert_eq!(get(&server, "status?userId=alice").await.with(200).json(), none);
    let id = made(&server, "alice").await;
    let theirs = made(&server, "bob").await;
    let seen = get(&server, "status?userId=alice").await.with(200).json();
    assert_eq!(get(&server, &format!("status?userId=alice&instanceId={id}")).await.with(200).json(), seen);
    assert_eq!((&seen["instanceId"], &seen["status"]), (&json!(id), &json!("running")));
    assert_eq!(seen["sandboxId"], format!("ki_{}", id.replace('-', "")));
    assert_eq!((&seen["userId"], &seen["owner"]), (&json!("alice"), &json!("user:alice")));
    assert_eq!((&seen["routable"], &seen["url"]), (&json!(true), &json!(format!("/i/{id}/"))));
    assert!(seen["operationId"].is_string() && seen["createdAt"].is_string() && seen["readyAt"].is_string());
    for other in [theirs.as_str(), "01990000-0000-7000-8000-000000000001", "123e4567-e89b-42d3-a456-426614174000"] {
        let answer = get(&server, &format!("status?userId=alice&instanceId={other}")).await.with(200);
        assert_eq!(answer.json(), none, "{other}");
    }
    assert_eq!(get(&server, "status?userId=alice&orgId=acme").await.with(200).json(), none);
    post(&server, "destroy", json!({"userId": "alice"})).await.with(200);
    assert_eq!(get(&server, "status?userId=alice").await.with(200).json(), none);
    let gone = get(&server, &format!("status?userId=alice&instanceId={id}")).await.with(200).json();
    assert_eq!(gone["status"], "destroyed");
    assert!(gone["destroyedAt"].is_string());
}
