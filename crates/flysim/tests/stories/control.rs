//! The routes below `/_sim/`.

use freehold_flysim::{FlySim, Options, WorldView};
use serde_json::json;

use crate::client::fly;

#[tokio::test]
async fn a_rule_is_set_seen_and_taken_away_over_http() {
    let fly = fly(Options::instant()).await;
    let rule = json!({ "endpoint": "get_app", "fault": { "kind": "status", "status": 503 }, "count": 5 });
    assert_eq!(fly.post("/_sim/rules", rule.clone()).await.status, 201);
    assert_eq!(fly.post("/_sim/rules", json!([rule, rule])).await.body["rules"], 3);
    assert_eq!(fly.get("/v1/apps/none").await.status, 503);
    let listed = fly.get("/_sim/rules").await.body;
    assert_eq!((&listed["rules"][0]["happened"], &listed["rules"][1]["happened"]), (&json!(1), &json!(0)));
    assert_eq!(fly.delete("/_sim/rules").await.status, 204);
    assert_eq!(fly.get("/v1/apps/none").await.status, 404);
}

#[tokio::test]
async fn a_rule_that_makes_no_sense_is_refused_whole() {
    let fly = fly(Options::instant()).await;
    let good = json!({ "endpoint": "any", "fault": { "kind": "flap" } });
    for bad in [
        json!({ "endpoint": "make_tea", "fault": { "kind": "flap" } }),
        json!({ "endpoint": "any", "fault": { "kind": "fire" } }),
        json!({ "endpoint": "any", "fault": { "kind": "status", "status": 99 } }),
        json!({ "endpoint": "any", "fault": { "kind": "flap" }, "chance": 2.0 }),
        json!({ "endpoint": "any", "fault": { "kind": "flap" }, "often": true }),
    ] {
        let said = fly.post("/_sim/rules", json!([good, bad])).await;
        assert!(said.status == 422 && !said.error().is_empty(), "{bad}: {}", said.text);
    }
    assert_eq!(fly.get("/_sim/rules").await.body, json!({ "rules": [] }));
}

#[tokio::test]
async fn the_world_is_the_same_from_inside_and_outside() {
    let fly = fly(Options::instant()).await;
    fly.app("one").await;
    fly.machine("one", "m").await;
    fly.volume("one", "data").await;
    let outside: WorldView = serde_json::from_value(fly.get("/_sim/world").await.body).expect("a world");
    let inside = fly.sim.world();
    assert_eq!(WorldView { now: 0, ..outside }, WorldView { now: 0, ..inside.clone() });
    assert_eq!((inside.made.len(), inside.machines().count(), inside.volumes().count()), (3, 1, 1));
    assert_eq!((inside.statuses[&200], inside.statuses[&201]), (2, 1));
}

#[tokio::test]
async fn things_are_planted_and_vanish_behind_the_clients_back() {
    let fly = fly(Options::instant()).await;
    let plant = async |what| fly.post("/_sim/plant", what).await;
    assert_eq!(plant(json!({ "kind": "app", "org": "acme", "name": "theirs" })).await.status, 201);
    assert_eq!(fly.get("/v1/apps/theirs").await.status, 403);
    fly.app("one").await;
    let foreign = json!({ "kind": "machine", "app": "one", "name": "m", "metadata": { "owner": "x" } });
    let id = plant(foreign.clone()).await.body["id"].as_str().expect("an id").to_owned();
    let machine = fly.get(&format!("/v1/apps/one/machines/{id}")).await.body;
    assert_eq!((&machine["state"], &machine["config"]["metadata"]["owner"]), (&json!("started"), &json!("x")));
    let volume = plant(json!({ "kind": "volume", "app": "one", "name": "v" })).await.body["id"].clone();
    assert_eq!(plant(json!({ "kind": "volume", "app": "none", "name": "v" })).await.status, 422);
    assert_eq!(fly.post("/_sim/state", json!({ "machine": id, "state": "failed" })).await.status, 204);
    assert_eq!(fly.get(&format!("/v1/apps/one/machines/{id}")).await.body["state"], "failed");
    for gone in [json!(id), volume, json!("theirs")] {
        assert_eq!(fly.post("/_sim/vanish", json!({ "id": gone })).await.status, 204, "{gone}");
        assert_eq!(fly.post("/_sim/vanish", json!({ "id": gone })).await.status, 404, "{gone}");
    }
    assert_eq!(fly.sim.world().tally("one").machines_live, 0);
}

#[tokio::test]
async fn regions_fill_time_jumps_tokens_end_and_all_is_reset() {
    let fly = fly(Options::default()).await;
    fly.app("one").await;
    assert_eq!(fly.put("/_sim/full", json!({ "regions": ["ams"] })).await.status, 204);
    assert_eq!(fly.post("/v1/apps/one/volumes", json!({ "name": "v", "region": "ams" })).await.status, 422);
    let before = fly.sim.world().now;
    assert!(
        fly.post("/_sim/advance", json!({ "ms": 3_600_000 })).await.body["now"].as_u64() >= Some(before + 3_600_000)
    );
    fly.post("/_sim/revoke", json!({ "token": "flysim" })).await;
    assert_eq!(fly.get("/v1/apps").await.status, 401);
    assert_eq!(fly.post("/_sim/reset", json!({})).await.status, 204);
    let world = fly.sim.world();
    assert!(world.made.is_empty() && world.endpoints.is_empty());
    fly.app("one").await;
    fly.volume("one", "v").await;
}

#[tokio::test]
async fn nobody_listens_where_others_could_reach_the_control_routes() {
    let options = Options { listen: ([0, 0, 0, 0], 0).into(), ..Options::default() };
    assert!(FlySim::start(options).await.is_err());
}

#[tokio::test]
async fn a_stop_ends_what_is_held_open() {
    let fly = fly(Options::default()).await;
    fly.app("one").await;
    let id = fly.machine("one", "m").await;
    let url = fly.sim.url();
    let path = format!("{url}/v1/apps/one/machines/{id}/wait?state=suspended");
    let client = reqwest::Client::new();
    let held = tokio::spawn(client.get(path).bearer_auth("flysim").send());
    while fly.sim.world().calls(freehold_flysim::Endpoint::WaitMachine) == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    fly.sim.stop().await;
    let ended = tokio::time::timeout(std::time::Duration::from_secs(5), held).await;
    assert!(ended.is_ok(), "the wait goes on");
}
