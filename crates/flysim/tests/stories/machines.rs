//! A machine's life when nothing goes wrong.

use std::time::Duration;

use freehold_flysim::Options;
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{config, config_with, fly};

fn slow() -> Options {
    Options { boot: Duration::from_secs(3600), halt: Duration::from_secs(3600), ..Options::default() }
}

#[tokio::test]
async fn an_app_is_made_shown_listed_deleted_and_its_name_is_free_again() {
    let fly = fly(Options::default()).await;
    let made = fly.post("/v1/apps", json!({ "app_name": "one", "org_slug": "personal" })).await;
    assert!(made.status == 201 && made.body["id"].is_string() && made.body["created_at"].is_u64(), "{}", made.text);
    let shown = fly.get("/v1/apps/one").await;
    assert_eq!((shown.status, &shown.body["organization"]["slug"]), (200, &json!("personal")));
    assert_eq!(fly.get("/v1/apps?org_slug=personal").await.body["total_apps"], 1);
    assert_eq!(fly.delete("/v1/apps/one").await.status, 202);
    fly.until("/v1/apps/one", |said| said.status == 404).await;
    fly.app("one").await;
    let tally = fly.sim.world().tally("one");
    assert_eq!((tally.apps_made, tally.machines_made), (2, 0));
}

#[tokio::test]
async fn an_app_that_is_on_its_way_out_is_there_and_refuses_creates() {
    let fly = fly(Options { app_gone: Duration::from_secs(3600), ..Options::instant() }).await;
    fly.app("one").await;
    fly.machine("one", "m").await;
    assert_eq!(fly.delete("/v1/apps/one").await.status, 412, "it holds a machine");
    assert_eq!(fly.delete("/v1/apps/one?force=true").await.status, 202);
    let shown = fly.get("/v1/apps/one").await;
    assert_eq!((shown.status, &shown.body["status"]), (200, &json!("pending_delete")));
    assert_eq!(fly.post("/v1/apps/one/machines", config("n")).await.status, 422);
    assert_eq!(fly.post("/v1/apps/one/volumes", json!({ "name": "v" })).await.status, 422);
    assert_eq!(fly.post("/v1/apps", json!({ "app_name": "one" })).await.body["status"], "name_taken");
    assert_eq!(fly.delete("/v1/apps/one").await.status, 202, "deleting twice is fine");
    fly.sim.advance(Duration::from_secs(3600));
    assert_eq!(fly.get("/v1/apps/one").await.status, 404);
    assert_eq!(fly.post("/v1/apps/one/machines", config("n")).await.status, 404);
}

#[tokio::test]
async fn a_machine_boots_stops_starts_and_is_destroyed_step_by_step() {
    let fly = fly(slow()).await;
    fly.app("one").await;
    let id = fly.machine("one", "m").await;
    let path = format!("/v1/apps/one/machines/{id}");
    let state = async || fly.get(&path).await.body["state"].as_str().unwrap_or_default().to_owned();
    let advance = |seconds| fly.sim.advance(Duration::from_secs(seconds));
    let mut seen = vec![state().await];
    for seconds in [1800, 1800] {
        advance(seconds);
        seen.push(state().await);
    }
    assert_eq!(fly.post(&format!("{path}/stop"), json!({})).await.body, json!({ "ok": true }));
    seen.push(state().await);
    assert_eq!(fly.post(&format!("{path}/start"), json!({})).await.status, 412, "it is still stopping");
    advance(3600);
    seen.push(state().await);
    assert_eq!(fly.post(&format!("{path}/start"), json!({})).await.body["previous_state"], "stopped");
    seen.push(state().await);
    advance(3600);
    assert_eq!(fly.delete(&path).await.status, 412, "it runs");
    assert_eq!(fly.delete(&format!("{path}?force=true")).await.status, 200);
    seen.push(state().await);
    advance(3600);
    seen.push(state().await);
    assert_eq!(fly.delete(&path).await.status, 404);
    assert_eq!(seen, ["created", "starting", "started", "stopping", "stopped", "starting", "destroying", "destroyed"]);
    assert_eq!(fly.get("/v1/apps/one/machines").await.body, json!([]));
    let deleted = fly.get("/v1/apps/one/machines?include_deleted=true").await.body;
    assert_eq!(deleted[0]["id"], json!(id));
    advance(61);
    assert_eq!(fly.get(&path).await.status, 404, "it is forgotten");
    let tally = fly.sim.world().tally("one");
    assert_eq!((tally.machines_made, tally.machines_live, tally.machines_live_max), (1, 0, 1));
}

#[tokio::test]
async fn a_machine_looks_as_documented() {
    let fly = fly(Options { private_ip: Some("127.0.0.1".to_owned()), ..Options::instant() }).await;
    fly.app("one").await;
    let said = fly.post("/v1/apps/one/machines", config("m")).await;
    let machine = &said.body;
    assert_eq!((&machine["state"], &machine["private_ip"]), (&json!("started"), &json!("127.0.0.1")));
    assert_eq!(machine["instance_id"].as_str().map(str::len), Some(26));
    assert_eq!(machine["id"].as_str().map(str::len), Some(14));
    assert_eq!(machine["image_ref"]["registry"], "registry.fly.io");
    assert!(machine["created_at"].as_str().is_some_and(|at| at.starts_with("20")));
    assert!(said.headers.contains_key("fly-request-id") && said.headers.contains_key("date"));
    let summary = fly.get("/v1/apps/one/machines?summary=true").await.body;
    assert!(summary[0]["config"].is_null() && summary[0]["events"].is_null() && summary[0]["id"].is_string());
    let path = format!("/v1/apps/one/machines/{}", machine["id"].as_str().expect("an id"));
    let events = fly.get(&format!("{path}/events?limit=1")).await.body;
    assert_eq!(events.as_array().map(Vec::len), Some(1));
    assert_eq!(fly.get(&format!("{path}/events?limit=51")).await.status, 400);
}

#[tokio::test]
async fn lists_filter_by_region_state_and_metadata() {
    let fly = fly(Options::instant()).await;
    fly.app("one").await;
    let mine = fly.machine("one", "m").await;
    let mut other = config("n");
    other["region"] = json!("fra");
    other["config"]["metadata"] = json!({ "owner": "another" });
    fly.post("/v1/apps/one/machines", other).await;
    for query in ["region=ams", "metadata.owner=somebody", "state=stopped,started&region=ams"] {
        let list = fly.get(&format!("/v1/apps/one/machines?{query}")).await.body;
        let ids: Vec<&Value> = list.as_array().expect("a list").iter().map(|machine| &machine["id"]).collect();
        assert_eq!(ids, [&json!(mine)], "{query}");
    }
    for query in ["metadata.owner=nobody", "state=stopped,created", "region=iad"] {
        assert_eq!(fly.get(&format!("/v1/apps/one/machines?{query}")).await.body, json!([]), "{query}");
    }
}

#[tokio::test]
async fn an_update_makes_a_version_and_refuses_an_older_one() {
    let fly = fly(slow()).await;
    fly.app("one").await;
    let id = fly.machine("one", "m").await;
    let path = format!("/v1/apps/one/machines/{id}");
    fly.sim.advance(Duration::from_secs(3600));
    let first = fly.get(&path).await.body["instance_id"].clone();
    let mut update = config("m");
    update["config"]["image"] = json!("registry.fly.io/app:2");
    update["current_version"] = first.clone();
    let updated = fly.post(&path, update.clone()).await;
    assert_eq!((updated.status, &updated.body["state"]), (200, &json!("replacing")));
    assert_ne!(updated.body["instance_id"], first);
    let early = fly.post(&format!("{path}/start"), json!({})).await;
    assert_eq!(early.status, 412);
    assert!(early.error().contains("unable to start machine from current state: 'replacing'"));
    let late = fly.post(&path, update.clone()).await;
    assert_eq!((late.status, late.error()), (409, "aborted: machine update failed due to concurrent update"));
    fly.sim.advance(Duration::from_secs(3600));
    assert_eq!(fly.get(&path).await.body["state"], "started");
    update["current_version"] = Value::Null;
    update["name"] = json!("another");
    assert_eq!(fly.post(&path, update).await.status, 422, "a name is for life");
}

#[tokio::test]
async fn a_wait_ends_when_the_state_comes_or_the_time_is_over() {
    let fly = fly(Options::default()).await;
    fly.app("one").await;
    let id = fly.machine("one", "m").await;
    let path = format!("/v1/apps/one/machines/{id}");
    assert_eq!(fly.get(&format!("{path}/wait?state=started&timeout=10")).await.status, 200);
    for bad in ["state=happy", "state=stopped", "timeout=61", "timeout=soon"] {
        assert_eq!(fly.get(&format!("{path}/wait?{bad}")).await.status, 400, "{bad}");
    }
    let version = fly.get(&path).await.body["instance_id"].as_str().expect("a version").to_owned();
    let over = fly.get(&format!("{path}/wait?state=stopped&version={version}&timeout=0")).await;
    assert_eq!(over.status, 408);
    assert_eq!(over.error(), "deadline_exceeded: machine failed to reach desired state, stopped, currently started");
    fly.post(&format!("{path}/stop"), json!({ "timeout": "1s" })).await;
    assert_eq!(fly.get(&format!("{path}/wait?state=stopped&version={version}")).await.status, 200);
    assert_eq!(fly.delete(&path).await.status, 200);
    assert_eq!(fly.get(&format!("{path}/wait?state=destroyed")).await.status, 200);
    assert_eq!(fly.get("/v1/apps/one/machines/gone/wait").await.status, 404);
}

#[tokio::test]
async fn suspend_restart_and_cordon_are_done() {
    let fly = fly(Options::instant()).await;
    fly.app("one").await;
    let id = fly.machine("one", "m").await;
    let path = format!("/v1/apps/one/machines/{id}");
    let state = async || fly.get(&path).await.body["state"].clone();
    for (verb, expected) in [
        ("suspend", "suspended"),
        ("start", "started"),
        ("restart", "started"),
        ("cordon", "started"),
        ("uncordon", "started"),
        ("stop", "stopped"),
        ("stop", "stopped"),
    ] {
        assert_eq!(fly.post(&format!("{path}/{verb}"), json!({})).await.status, 200, "{verb}");
        assert_eq!(state().await, expected, "{verb}");
    }
    assert_eq!(fly.post(&format!("{path}/suspend"), json!({})).await.status, 412);
    assert_eq!(fly.try_send(Method::POST, &format!("{path}/stop"), None).await.expect("an answer").status, 200);
}

#[tokio::test]
async fn a_machine_that_is_not_launched_ends_up_stopped() {
    let fly = fly(Options::default()).await;
    fly.app("one").await;
    let mut body = config("m");
    body["skip_launch"] = json!(true);
    let id = fly.post("/v1/apps/one/machines", body).await.body["id"].as_str().expect("an id").to_owned();
    let path = format!("/v1/apps/one/machines/{id}");
    fly.until(&path, |said| said.body["state"] == "stopped").await;
}

#[tokio::test]
async fn a_lease_keeps_others_out_until_it_is_over() {
    let mut fly = fly(Options::instant()).await;
    fly.app("one").await;
    let id = fly.machine("one", "m").await;
    let path = format!("/v1/apps/one/machines/{id}");
    assert_eq!(fly.get(&format!("{path}/lease")).await.status, 404);
    let taken = fly.post(&format!("{path}/lease"), json!({ "ttl": 60 })).await;
    assert_eq!((taken.status, &taken.body["status"]), (201, &json!("success")));
    let nonce = taken.body["data"]["nonce"].as_str().expect("a nonce").to_owned();
    for (method, sub) in [(Method::POST, "/stop"), (Method::POST, "/lease"), (Method::DELETE, "/lease")] {
        let said = fly.try_send(method, &format!("{path}{sub}"), None).await.expect("an answer");
        assert_eq!(said.status, 409, "{sub}");
        assert!(said.error().contains("lease currently held by"), "{}", said.text);
    }
    fly.nonce = Some(nonce.clone());
    let again = fly.post(&format!("{path}/lease"), json!({ "ttl": 60 })).await;
    assert_eq!((again.status, &again.body["data"]["nonce"]), (201, &json!(nonce)), "it is prolonged");
    assert_eq!(fly.post(&format!("{path}/stop"), json!({})).await.status, 200);
    fly.nonce = None;
    fly.sim.advance(Duration::from_secs(61));
    assert_eq!(fly.post(&format!("{path}/start"), json!({})).await.status, 200, "it has run out");
    let mut body = config("leased");
    body["lease_ttl"] = json!(60);
    let made = fly.post("/v1/apps/one/machines", body).await.body;
    let other = format!("/v1/apps/one/machines/{}", made["id"].as_str().expect("an id"));
    assert_eq!(fly.delete(&format!("{other}?force=true")).await.status, 409);
    fly.nonce = made["nonce"].as_str().map(str::to_owned);
    assert_eq!(fly.delete(&format!("{other}/lease")).await.status, 200);
}

#[tokio::test]
async fn metadata_is_read_and_written_by_key_and_as_a_whole() {
    let fly = fly(Options::instant()).await;
    fly.app("one").await;
    let id = fly.machine("one", "m").await;
    let path = format!("/v1/apps/one/machines/{id}/metadata");
    assert_eq!(fly.post(&format!("{path}/colour"), json!({ "value": "red" })).await.status, 204);
    assert_eq!(fly.post(&format!("{path}/colour"), json!({})).await.status, 400);
    assert_eq!(fly.get(&path).await.body, json!({ "owner": "somebody", "colour": "red" }));
    assert_eq!(fly.get(&format!("{path}/colour")).await.body, json!({ "value": "red" }));
    assert_eq!(fly.delete(&format!("{path}/owner")).await.status, 204);
    assert_eq!(fly.get(&format!("{path}/owner")).await.status, 404);
    let wrong = json!({ "metadata": { "a": "b" }, "machine_version": "01OLD" });
    assert_eq!(fly.put(&path, wrong).await.status, 412);
    assert_eq!(fly.get(&path).await.body, json!({ "colour": "red" }));
    assert_eq!(fly.put(&path, json!({ "metadata": { "a": "b" } })).await.status, 204);
    assert_eq!(fly.get(&path).await.body, json!({ "a": "b" }));
}

#[tokio::test]
async fn volumes_share_names_and_are_held_by_one_machine() {
    let fly = fly(Options { halt: Duration::from_secs(3600), ..Options::default() }).await;
    fly.app("one").await;
    let first = fly.volume("one", "data").await;
    let second = fly.volume("one", "data").await;
    assert_ne!(first, second);
    let made = fly.post("/v1/apps/one/machines", config_with("m", &first)).await;
    let machine = made.body["id"].as_str().expect("an id").to_owned();
    let path = format!("/v1/apps/one/volumes/{first}");
    assert_eq!(fly.get(&path).await.body["attached_machine_id"], json!(machine));
    assert_eq!(fly.post("/v1/apps/one/machines", config_with("n", &first)).await.status, 412);
    let held = fly.delete(&path).await;
    assert_eq!(held.status, 412);
    assert_eq!(held.error(), format!("failed_precondition: volume is currently bound to machine: {machine}"));
    let grown = fly.put(&format!("{path}/extend"), json!({ "size_gb": 9 })).await.body;
    assert_eq!((&grown["volume"]["size_gb"], &grown["needs_restart"]), (&json!(9), &json!(true)));
    assert_eq!(fly.put(&path, json!({ "snapshot_retention": 7 })).await.body["snapshot_retention"], 7);
    assert_eq!(fly.put(&format!("{path}/extend"), json!({ "size_gb": 1 })).await.status, 422);
    fly.delete(&format!("/v1/apps/one/machines/{machine}?force=true")).await;
    assert_eq!(fly.delete(&path).await.status, 412, "the machine is still on its way out");
    fly.sim.advance(Duration::from_secs(3600));
    assert_eq!(fly.delete(&path).await.body["state"], "pending_destroy");
    let tally = fly.sim.world().tally("one");
    assert_eq!((tally.volumes_made, tally.volumes_live_max), (2, 2));
    fly.until(&path, |said| said.status == 404).await;
    assert_eq!(fly.get("/v1/apps/one/volumes").await.body.as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn secrets_are_written_and_only_their_digests_are_shown() {
    let fly = fly(Options::instant()).await;
    fly.app("one").await;
    let path = "/v1/apps/one/secrets";
    let set = fly.post(path, json!({ "values": { "A": "hidden-a", "B": "hidden-b" } })).await;
    assert_eq!((set.status, &set.body["version"]), (200, &json!(1)));
    assert_eq!(fly.post(&format!("{path}/C"), json!({ "value": "hidden-c" })).await.status, 201);
    assert_eq!(fly.delete(&format!("{path}/B")).await.status, 200);
    assert_eq!(fly.delete(&format!("{path}/B")).await.status, 404);
    fly.post(path, json!({ "values": { "A": null } })).await;
    assert_eq!(fly.post(path, json!({ "values": { "not a name": "x" } })).await.status, 422);
    let listed = fly.get(path).await;
    let names: Vec<&Value> =
        listed.body["secrets"].as_array().expect("a list").iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["C"]);
    let world = serde_json::to_string(&fly.sim.world()).expect("it is JSON");
    assert!(!listed.text.contains("hidden") && !world.contains("hidden"));
    assert_eq!(fly.sim.secret("one", "C").as_deref(), Some("hidden-c"));
}
