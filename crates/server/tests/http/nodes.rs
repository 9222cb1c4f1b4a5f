//! The list of nodes, and asking one of them to be drained.

use freehold_domain::lease::Holder;
use freehold_engine::duty::LaidDown;
use freehold_engine::ports::NodeBeat;
use http::Method;
use serde_json::json;

use crate::server::{PLATFORM, Server};

fn beat(name: &str) -> NodeBeat {
    NodeBeat {
        holder: Holder { node: name.parse().unwrap(), incarnation: 0xab },
        roles: "http,executor".into(),
        version: "1.2.3".into(),
        address: "10.0.0.5:7788".into(),
        providers: vec!["docker".parse().unwrap(), "fly".parse().unwrap()],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_listed_and_drained() {
    let server = Server::start().await;
    assert_eq!(server.get("/v1/nodes").await.with(200).json(), json!({"nodes": []}));
    for name in ["node-b", "node-a"] {
        server.world.store.node_start(beat(name)).await.unwrap();
    }
    let listed = server.get("/v1/nodes").await.with(200).json();
    let node = &listed["nodes"][0];
    assert_eq!((&node["name"], &listed["nodes"][1]["name"]), (&json!("node-a"), &json!("node-b")));
    assert_eq!(node["incarnation"], "00000000000000ab");
    assert_eq!(node["roles"], json!(["http", "executor"]));
    assert_eq!(node["providers"], json!(["docker", "fly"]));
    assert_eq!((&node["version"], &node["address"]), (&json!("1.2.3"), &json!("10.0.0.5:7788")));
    assert_eq!((&node["draining"], &node["operations"]), (&json!(false), &json!(0)));
    assert!(node["started_at"].is_string() && node["seen_at"].is_string(), "{node:#}");
    assert_eq!(node.as_object().unwrap().len(), 10, "{node:#}");

    let drain = || server.post("/v1/nodes/node-a/drain");
    for call in [drain(), drain().json(&json!({})), drain().json(&json!({"draining": true}))] {
        assert_eq!(call.send().await.with(200).json()["draining"], true);
    }
    assert_eq!(server.get("/v1/nodes").await.json()["nodes"][1]["draining"], false, "and no other");
    assert_eq!(drain().json(&json!({"draining": false})).send().await.with(200).json()["draining"], false);

    drain().json(&json!({"drain": true})).send().await.problem(400, "invalid_request");
    drain().json(&json!({"draining": "yes"})).send().await.problem(400, "invalid_request");
    server.post("/v1/nodes/node-c/drain").send().await.problem(404, "node_not_found");
    server.post("/v1/nodes/no%20node/drain").send().await.problem(400, "invalid_request");
    for (method, path) in [(Method::GET, "/v1/nodes"), (Method::POST, "/v1/nodes/node-a/drain")] {
        server.call(method, path).key(PLATFORM).send().await.problem(403, "forbidden");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_laid_down_its_duty_is_not_ready_and_serves_on() {
    let server = Server::paused().await;
    server.get("/readyz").await.with(200);
    for (why, said) in
        [(LaidDown::Draining, "draining"), (LaidDown::Superseded, "another process has this node's name")]
    {
        server.world.duty.set(Some(why));
        let ready = server.get("/readyz?verbose").await.with(503).json();
        let serving = ready["checks"].as_array().unwrap().iter().find(|check| check["name"] == "serving").unwrap();
        assert!(serving["detail"].as_str().unwrap().contains(said), "{ready:#}");
    }
    server.get("/healthz").await.with(200);
    let accepted = server.create("user:alice").header("prefer", "respond-async").send().await.with(202).json();
    assert_eq!(accepted["operation"]["holder"], json!(null), "it is the next executor's");
    server.world.duty.set(None);
    let accepted = server.create("user:bob").header("prefer", "respond-async").send().await.with(202).json();
    assert_eq!(accepted["operation"]["holder"], "node-a", "the twin: a duty that is taken up holds what it accepts");
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_was_held_when_the_duty_was_laid_down_sends_nothing() {
    let server = Server::paused().await;
    server.create("user:alice").header("prefer", "respond-async").send().await.with(202);
    server.world.duty.set(Some(LaidDown::Draining));
    server.run();
    let owner =
        server.until("/v1/owners/user:alice", |shown| shown["reservations"][0]["work_started"].is_boolean()).await;
    let operation = format!("/v1/operations/{}", owner["reservations"][0]["operation_id"].as_str().unwrap());
    let given_back = server.until(&operation, |shown| shown["holder"].is_null()).await;
    assert_eq!(given_back["status"], "waiting", "{given_back:#}");
    assert_eq!(server.cloud.calls().len(), 0, "nothing was sent");
    server.world.duty.set(None);
    server.until(&operation, |shown| shown["status"] == "succeeded").await;
    assert!(!server.cloud.calls().is_empty(), "the twin: a duty that is taken up sends");
}
