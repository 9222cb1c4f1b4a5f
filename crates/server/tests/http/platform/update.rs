//! Provisions with `instanceId`: updates and recoveries. None takes a reservation, and a destroy wins over each.

use freehold_domain::resource::RuntimeState;
use freehold_providers::fake::Fault;
use http::Method;
use serde_json::{Value, json};

use super::{CREATING, DESTROYED, NOT_FOUND, PENDING, begun, call, get, made, post};
use crate::operators::finished_by_nobody;
use crate::server::Server;

async fn provision(server: &Server, id: &str, rest: Value) -> crate::client::Answer {
    let mut body = json!({"userId": "alice", "instanceId": id});
    body.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    post(server, "provision", body).await
}

async fn shown(server: &Server, id: &str) -> Value {
    server.get(&format!("/v1/instances/{id}")).await.with(200).json()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_replaces_the_environment_and_leaves_the_tier() {
    let server = Server::start().await;
    let id = made(&server, "alice").await;
    let before = shown(&server, &id).await;
    let answer = provision(&server, &id, json!({"envVars": {"A": "1", "B": "2"}})).await.with(201).json();
    assert_eq!(answer, json!({"sandboxId": format!("ki_{}", id.replace('-', "")), "instanceId": id}));
    provision(&server, &id, json!({"envVars": {"C": "3"}, "provider": "local", "region": "us"})).await.with(201);
    let after = shown(&server, &id).await;
    assert_eq!((&after["spec"]["env"], &after["tier"]), (&json!({"C": "3"}), &before["tier"]));
    assert_eq!(after["spec"]["command"], before["spec"]["command"]);
    provision(&server, &id, json!({"instanceType": "small"})).await.with(201);
    let smaller = shown(&server, &id).await;
    assert_eq!((&smaller["tier"], &smaller["spec"]["env"]), (&json!("small"), &json!({"C": "3"})));
    provision(&server, &id, json!({"instanceType": "huge"})).await.code(400, "tier_exceeds_entitlement");
    provision(&server, &id, json!({"instanceType": "gigantic"})).await.code(400, "tier_not_offered");
    provision(&server, &id, json!({"provider": "moon"})).await.wrong(&["provider"]);
    let owner = server.get("/v1/owners/user:alice").await.with(200).json();
    assert_eq!(owner["reservations"].as_array().unwrap().len(), 1, "no update takes one");
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_of_others_are_not_there() {
    let server = Server::start().await;
    let theirs = made(&server, "bob").await;
    let of_org = post(&server, "provision", json!({"userId": "alice", "orgId": "acme"})).await.with(201).json();
    let of_org = of_org["instanceId"].as_str().unwrap();
    let nothing = ["01990000-0000-7000-8000-000000000001", "123e4567-e89b-42d3-a456-426614174000"];
    for id in [theirs.as_str(), nothing[0], nothing[1]] {
        for rest in [json!({}), json!({"envVars": {}}), json!({"bootstrapSubscription": true})] {
            provision(&server, id, rest).await.error(404, NOT_FOUND, "instance_not_found");
        }
    }
    provision(&server, of_org, json!({"orgId": "other"})).await.error(404, NOT_FOUND, "instance_not_found");
    provision(&server, of_org, json!({"orgId": "acme"})).await.with(201);
    provision(&server, of_org, json!({})).await.with(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destroy_before_or_during_an_update_wins() {
    let server = Server::start().await;
    let id = made(&server, "alice").await;
    server.cloud.set_chance(|_| Some(Fault::NothingDone));
    let body = json!({"userId": "alice", "instanceId": id, "envVars": {"A": "1"}});
    let waiting = tokio::spawn(call(&server, Method::POST, "provision").json(&body).send());
    server.until(&format!("/v1/instances/{id}"), |shown| shown["status"] == "restarting").await;
    let destroying = tokio::spawn(call(&server, Method::POST, "destroy").json(&json!({"userId": "alice"})).send());
    waiting.await.unwrap().error(409, DESTROYED, "instance_destroyed");
    for rest in [json!({}), json!({"envVars": {}}), json!({"bootstrapSubscription": true})] {
        provision(&server, &id, rest.clone()).await.error(409, DESTROYED, "instance_destroyed");
    }
    server.cloud.heal();
    assert_eq!(destroying.await.unwrap().with(200).json()["finalized"], true);
    for rest in [json!({}), json!({"envVars": {}}), json!({"bootstrapSubscription": true})] {
        provision(&server, &id, rest).await.error(409, DESTROYED, "instance_destroyed");
    }
    assert_eq!(get(&server, "status?userId=alice").await.with(200).json()["status"], json!(null));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_the_provider_refuses_is_a_failure() {
    let server = Server::start().await;
    let id = made(&server, "alice").await;
    server.cloud.set_chance(|_| Some(Fault::NotSent));
    provision(&server, &id, json!({"envVars": {"A": "1"}})).await.error(500, "provision failed", "");
    server.cloud.heal();
    provision(&server, &id, json!({"envVars": {"A": "1"}})).await.with(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_record_is_completed_before_it_is_updated() {
    for rest in [json!({"envVars": {"A": "1"}}), json!({"bootstrapSubscription": true}), json!({})] {
        let server = Server::paused().await;
        let id = begun(&server, "alice").await;
        finished_by_nobody(&server, id).await;
        let body = rest.as_object().unwrap().clone();
        let mut whole = json!({"userId": "alice", "instanceId": id.to_string()});
        whole.as_object_mut().unwrap().extend(body);
        let waiting = tokio::spawn(call(&server, Method::POST, "provision").json(&whole).send());
        let path = format!("/v1/reservations/{id}");
        server.until(&path, |shown| shown["status"] == "completed").await;
        let trail = server.get(&format!("/v1/audit?instance_id={id}&limit=100")).await.with(200).json();
        let repaired = "instance.provision_reservation_repaired";
        assert!(trail["events"].as_array().unwrap().iter().any(|event| event["kind"] == repaired), "{trail:#}");
        drop(waiting);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_complete_is_pending_for_a_recovery_and_in_the_way_of_an_update() {
    let server = Server::paused().await;
    let id = begun(&server, "alice").await.to_string();
    let recovery = provision(&server, &id, json!({"bootstrapSubscription": true})).await;
    recovery.error(503, PENDING, "provision_completion_pending");
    provision(&server, &id, json!({"envVars": {}})).await.error(409, CREATING, "provision_in_progress");
    provision(&server, &id, json!({})).await.error(409, CREATING, "provision_in_progress");
    server.run();
    server.until(&format!("/v1/instances/{id}"), |shown| shown["status"] == "running").await;
    provision(&server, &id, json!({"bootstrapSubscription": true})).await.with(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_whose_subscription_is_gone_is_pending() {
    let server = Server::start().await;
    let id = made(&server, "alice").await;
    let (records, now) = (&server.world.records, server.world.clock.now());
    let because = freehold_engine::ports::Because {
        actor: freehold_domain::event::Actor::System,
        operation: None,
        reason: "ended".into(),
    };
    records.subscription_end(id.parse().unwrap(), now, &because).await.unwrap();
    let recovery = provision(&server, &id, json!({"bootstrapSubscription": true})).await;
    recovery.error(503, PENDING, "provision_completion_pending");
    assert_eq!(get(&server, "status?userId=alice").await.with(200).json()["status"], "quarantined");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_starts_what_is_down_and_an_update_leaves_it() {
    let server = Server::start().await;
    let id = made(&server, "alice").await;
    for rest in [json!({}), json!({"bootstrapSubscription": true, "envVars": {"B": "2"}})] {
        post(&server, "stop", json!({"userId": "alice"})).await.with(200);
        provision(&server, &id, json!({"envVars": {"A": "1"}})).await.with(201);
        assert_eq!(shown(&server, &id).await["status"], "stopped");
        provision(&server, &id, rest).await.with(201);
        assert_eq!(shown(&server, &id).await["status"], "running");
    }
    let instance = id.parse().unwrap();
    server.cloud.set_runtime(instance, RuntimeState::Exited("exit status 1".to_owned()));
    let registered = server.world.store.instance_describe(instance).await.unwrap().unwrap();
    let (epoch, now) = (registered.reservation.epoch, server.world.clock.now());
    let (state, far) = (RuntimeState::Exited("exit status 1".to_owned()), std::time::Duration::from_secs(300));
    server.world.store.watched(instance, epoch, state, now, now.plus(far), far).await.unwrap();
    assert_eq!(shown(&server, &id).await["status"], "failed");
    provision(&server, &id, json!({})).await.with(201);
    assert_eq!(shown(&server, &id).await["status"], "running");
}
