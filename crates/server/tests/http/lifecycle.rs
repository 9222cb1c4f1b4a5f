//! What happens to an instance after it was made.

use http::Method;
use serde_json::json;

use crate::server::{OPERATOR, PLATFORM, Server};

fn path(instance: &serde_json::Value, verb: &str) -> String {
    format!("/v1/instances/{}{verb}", instance["id"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_stopped_started_restarted_and_changed() {
    let server = Server::start().await;
    let made = server.made("user:alice").await;
    let act = |verb: &str| server.call(Method::POST, &path(&made, verb)).key(PLATFORM).send();

    let nothing = act("/start").await.with(200).json();
    assert_eq!(nothing["changed"], false, "{nothing:#}");
    let stopped = act("/stop").await.with(200).json();
    assert_eq!((&stopped["changed"], &stopped["instance"]["status"]), (&json!(true), &json!("stopped")));
    assert_eq!(act("/stop").await.with(200).json()["changed"], false);
    let started = act("/start").await.with(200).json();
    assert_eq!((&started["changed"], &started["instance"]["status"]), (&json!(true), &json!("running")));
    let restarted = act("/restart").await.with(200).json();
    assert_eq!((&restarted["changed"], &restarted["instance"]["status"]), (&json!(true), &json!("running")));

    let patch = |body: serde_json::Value| server.call(Method::PATCH, &path(&made, "")).key(PLATFORM).json(&body).send();
    let changed = patch(json!({"spec": {"env": {"A": "2"}}, "tier": "large"})).await.with(200).json();
    assert_eq!((&changed["spec"]["env"], &changed["tier"]), (&json!({"A": "2"}), &json!("large")));
    assert_eq!(changed["id"], made["id"]);
    let problem = patch(json!({})).await.problem(400, "invalid_request");
    assert_eq!(problem["errors"][0]["pointer"], "#");
    patch(json!({"tier": "huge"})).await.problem(400, "tier_exceeds_entitlement");
    patch(json!({"owner": "user:b"})).await.problem(400, "invalid_request");
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_takes_longer_than_the_wait_is_answered_with_its_operation() {
    let server = Server::start().await;
    let made = server.made("user:alice").await;
    // Nobody answers any more: the work goes on behind the answer.
    server.cloud.set_chance(|_| Some(freehold_providers::fake::Fault::NothingDone));
    let stop = server.post(&path(&made, "/stop")).header("prefer", "respond-async").send().await.with(202);
    assert_eq!(stop.json()["changed"], true);
    assert!(stop.header("location").starts_with("/v1/operations/"), "{:?}", stop.headers);
    let patch = server.call(Method::PATCH, &path(&made, "")).key(PLATFORM).header("prefer", "wait=0");
    let patched = patch.json(&json!({"spec": {"env": {"A": "9"}}})).send().await.with(202);
    assert_eq!(patched.json()["operation"]["kind"], "update");
    assert!(patched.headers.contains_key("retry-after"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destroy_is_final_and_repeating_it_is_success() {
    let server = Server::start().await;
    let made = server.made("user:alice").await;
    let gone = server.delete(&path(&made, "?reason=done%20with%20it")).await.with(200).json();
    assert_eq!((&gone["finalized"], &gone["instance_id"]), (&json!(true), &made["id"]));
    assert!(gone["destroyed_at"].is_string());
    assert_eq!(server.delete(&path(&made, "")).await.with(200).json()["finalized"], true);

    let shown = server.get(&path(&made, "")).await.with(200).json();
    assert_eq!((&shown["status"], &shown["routable"]), (&json!("destroyed"), &json!(false)));
    let id = made["id"].as_str().unwrap();
    server.get(&format!("/v1/routes/{id}")).await.problem(410, "gone");
    assert_eq!(server.get("/v1/instances").await.with(200).json()["instances"], json!([]));
    let listed = server.get("/v1/instances?status=destroyed").await.with(200).json();
    assert_eq!(listed["instances"][0]["id"], made["id"]);
    let owner = server.get("/v1/owners/user%3Aalice").await.with(200).json();
    assert_eq!(owner["entries"][0]["instance_id"], made["id"]);
    assert!(owner["entries"][0]["destroyed_at"].is_string());
    assert_eq!(owner["reservations"][0]["resolution_reason"], "instance_destroyed");
    for verb in ["/start", "/stop", "/restart"] {
        server.post(&path(&made, verb)).send().await.problem(409, "instance_destroyed");
    }
    let patch = server.call(Method::PATCH, &path(&made, "")).key(OPERATOR).json(&json!({"tier": "large"}));
    patch.send().await.problem(409, "instance_destroyed");
    let again = server.made("user:alice").await;
    assert_ne!(again["id"], made["id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destroy_wins_over_a_provision_and_says_what_is_left() {
    let server = Server::paused().await;
    let create = server.create("user:alice").header("idempotency-key", "k").header("prefer", "respond-async");
    let operation = create.send().await.with(202).json()["operation"].clone();
    let instance = operation["instance_id"].as_str().unwrap();
    let pending = server.call(Method::DELETE, &format!("/v1/instances/{instance}")).key(PLATFORM);
    let pending = pending.header("prefer", "wait=0").send().await.with(202);
    let body = pending.json();
    assert_eq!((&body["finalized"], &body["pending"]), (&json!(false), &json!([])));
    assert_eq!(pending.header("location"), format!("/v1/operations/{}", body["operation_id"].as_str().unwrap()));

    server.run();
    server.until(&format!("/v1/instances/{instance}"), |instance| instance["status"] == "destroyed").await;
    let replayed = server.create("user:alice").header("idempotency-key", "k").send().await;
    assert_eq!(replayed.header("idempotency-replayed"), "true");
    replayed.problem(409, "instance_destroyed");
    let cut_short = server.get(&format!("/v1/operations/{}", operation["id"].as_str().unwrap())).await.json();
    assert_eq!(
        (&cut_short["status"], &cut_short["error"]["code"]),
        (&json!("cancelled"), &json!("instance_destroyed"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_paged_in_the_order_of_admission() {
    let server = Server::start().await;
    let mut ids = Vec::new();
    for owner in ["user:a", "user:b", "user:c"] {
        ids.push(server.made(owner).await["id"].clone());
    }
    let first = server.get("/v1/instances?limit=2").await.with(200).json();
    let second = server.get(&format!("/v1/instances?limit=2&cursor={}", first["next_cursor"].as_str().unwrap())).await;
    let second = second.with(200).json();
    let seen: Vec<_> = [&first, &second].iter().flat_map(|page| page["instances"].as_array().unwrap()).collect();
    assert_eq!(seen.iter().map(|instance| instance["id"].clone()).collect::<Vec<_>>(), ids);
    assert_eq!(second["next_cursor"], json!(null));
    let one = server.get("/v1/instances?owner=user:b&assigned_user=b&status=running").await.with(200).json();
    assert_eq!(one["instances"][0]["id"], ids[1]);
    for query in
        ["limit=0", "limit=501", "limit=x", "cursor=x", "owner=admin:x", "status=odd", "colour=red", "limit=1&limit=2"]
    {
        server.get(&format!("/v1/instances?{query}")).await.problem(400, "invalid_request");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_not_found() {
    let server = Server::start().await;
    let id = "01990000-0000-7000-8000-000000000001";
    for (path, code) in [
        (format!("/v1/instances/{id}"), "instance_not_found"),
        (format!("/v1/instances/{id}/logs"), "instance_not_found"),
        (format!("/v1/routes/{id}"), "instance_not_found"),
        (format!("/v1/operations/{id}"), "operation_not_found"),
        (format!("/v1/operations/{id}/events"), "operation_not_found"),
        (format!("/v1/reservations/{id}"), "reservation_not_found"),
        (format!("/i/{id}/"), "instance_not_found"),
        ("/v1/instances/123e4567-e89b-42d3-a456-426614174000".to_owned(), "instance_not_found"),
        ("/v1/owners/user:nobody".to_owned(), "owner_not_found"),
        ("/v1/nothing".to_owned(), "not_found"),
    ] {
        server.get(&path).await.problem(404, code);
    }
    server.delete(&format!("/v1/instances/{id}")).await.problem(404, "instance_not_found");
    for path in ["/v1/instances/nonsense", "/v1/operations/nonsense", "/v1/routes/nonsense", "/i/nonsense/"] {
        server.get(path).await.problem(400, "invalid_request");
    }
    server.get("/v1/owners/admin:x").await.problem(400, "invalid_request");
    let made = server.made("user:alice").await;
    server.get(&path(&made, "/logs")).await.problem(501, "not_supported");
    server.get(&path(&made, "/logs?tail=99999")).await.problem(400, "invalid_request");
}
