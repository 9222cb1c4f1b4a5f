//! Every refusal that Fly documents or is known for, and its words.

use std::collections::BTreeMap;

use freehold_flysim::Options;
use reqwest::Method;
use serde_json::json;

use crate::client::{config, config_with, fly};

#[tokio::test]
async fn without_a_token_that_counts_nothing_is_said() {
    let mut fly = fly(Options::instant()).await;
    fly.token = None;
    let said = fly.get("/v1/apps").await;
    assert_eq!((said.status, said.error()), (401, "unauthorized"));
    fly.token = Some("stolen");
    assert_eq!(fly.get("/v1/apps").await.status, 401);
    fly.token = Some("flysim");
    assert_eq!(fly.get("/v1/apps").await.status, 200);
    fly.sim.revoke_token("flysim");
    assert_eq!(fly.get("/v1/apps").await.status, 401);
}

#[tokio::test]
async fn an_app_of_another_organisation_is_forbidden_and_its_name_is_taken() {
    let tokens = [("flysim", "personal"), ("theirs", "acme")];
    let tokens: BTreeMap<_, _> = tokens.map(|(token, org)| (token.to_owned(), org.to_owned())).into();
    let mut fly = fly(Options { tokens, ..Options::instant() }).await;
    fly.token = Some("theirs");
    assert_eq!(fly.post("/v1/apps", json!({ "app_name": "shared", "org_slug": "acme" })).await.status, 201);
    fly.token = Some("flysim");
    let shown = fly.get("/v1/apps/shared").await;
    assert_eq!((shown.status, shown.error()), (403, "unauthorized"));
    assert_eq!(fly.get("/v1/apps/shared/machines").await.status, 403);
    assert_eq!(fly.post("/v1/apps/shared/machines", config("m")).await.status, 403);
    assert_eq!(fly.delete("/v1/apps/shared").await.status, 403);
    let taken = fly.post("/v1/apps", json!({ "app_name": "shared" })).await;
    assert_eq!(taken.status, 422);
    assert_eq!(taken.body, json!({ "error": "Name has already been taken", "status": "name_taken" }));
    assert_eq!(fly.get("/v1/apps?org_slug=acme").await.status, 403);
    assert_eq!(fly.get("/v1/apps").await.body["total_apps"], 0);
}

#[tokio::test]
async fn a_machine_name_is_unique_and_the_refusal_names_its_bearer() {
    let fly = fly(Options::instant()).await;
    fly.app("one").await;
    let id = fly.machine("one", "m").await;
    let again = fly.post("/v1/apps/one/machines", config("m")).await;
    assert_eq!(again.status, 409);
    assert_eq!(
        again.error(),
        format!("already_exists: unique machine name violation, machine ID {id} already exists with name \"m\"")
    );
    fly.delete(&format!("/v1/apps/one/machines/{id}?force=true")).await;
    fly.machine("one", "m").await;
    let tally = fly.sim.world().tally("one");
    assert_eq!((tally.machines_made, tally.machines_live_max), (2, 1));
}

#[tokio::test]
async fn what_is_not_there_is_404_and_what_makes_no_sense_is_4xx() {
    let fly = fly(Options::instant()).await;
    fly.app("one").await;
    for path in ["/v1/apps/none", "/v1/apps/one/machines/none", "/v1/apps/one/volumes/none", "/v1/planets"] {
        assert_eq!(fly.get(path).await.status, 404, "{path}");
    }
    assert_eq!(fly.try_send(Method::PATCH, "/v1/apps", None).await.expect("an answer").status, 405);
    let machines = "/v1/apps/one/machines";
    for (body, status) in [
        (json!({ "region": "moon", "config": { "image": "a" } }), 422),
        (json!({ "config": {} }), 422),
        (json!({}), 422),
        (json!([]), 400),
        (json!({ "config": { "image": "missing/a:1" } }), 400),
        (json!({ "name": "Not A Name", "config": { "image": "a" } }), 422),
        (json!({ "name": 5, "config": { "image": "a" } }), 422),
        (config_with("m", "vol_none"), 422),
    ] {
        assert_eq!(fly.post(machines, body.clone()).await.status, status, "{body}");
    }
    for (body, status) in [
        (json!({ "name": "Not-A-Name" }), 422),
        (json!({ "name": "a".repeat(31) }), 422),
        (json!({ "name": "data", "region": "moon" }), 422),
        (json!({ "name": "data", "size_gb": 0 }), 422),
        (json!({}), 422),
    ] {
        assert_eq!(fly.post("/v1/apps/one/volumes", body.clone()).await.status, status, "{body}");
    }
    assert_eq!(fly.post("/v1/apps", json!({ "app_name": "No Name" })).await.status, 422);
    assert_eq!(fly.sim.world().made.len(), 1, "nothing was made of all that");
}

#[tokio::test]
async fn a_volume_pins_its_machine_to_a_region() {
    let fly = fly(Options::instant()).await;
    fly.app("one").await;
    let volume = fly.volume("one", "data").await;
    let mut elsewhere = config_with("m", &volume);
    elsewhere["region"] = json!("fra");
    assert_eq!(fly.post("/v1/apps/one/machines", elsewhere).await.status, 422);
}

#[tokio::test]
async fn a_full_region_refuses_in_three_ways() {
    let fly = fly(Options::instant()).await;
    fly.app("one").await;
    let volume = fly.volume("one", "data").await;
    fly.sim.set_full_regions(&["ams"]);
    let machines = "/v1/apps/one/machines";
    let bare = fly.post(machines, config("m")).await;
    assert_eq!((bare.status, &bare.body["status"]), (422, &json!("insufficient_capacity")));
    let pinned = fly.post(machines, config_with("m", &volume)).await;
    assert_eq!(pinned.status, 412);
    assert_eq!(
        pinned.body,
        json!({
            "error": format!("insufficient resources to create new machine with existing volume '{volume}'"),
            "status": "insufficient_capacity",
        })
    );
    let more = fly.post("/v1/apps/one/volumes", json!({ "name": "more", "region": "ams" })).await;
    assert_eq!((more.status, &more.body["status"]), (422, &json!("insufficient_capacity")));
    fly.sim.set_full_regions(&[]);
    fly.sim.set_full_volume_hosts(&["ams"]);
    let host = fly.post(machines, config_with("m", &volume)).await;
    assert_eq!((host.status, &host.body["status"]), (412, &json!("volume_placement_capacity")));
    assert_eq!(fly.post(machines, config("m")).await.status, 200, "there is room elsewhere in the region");
}

#[tokio::test]
async fn a_body_that_is_too_large_is_413() {
    let fly = fly(Options::instant()).await;
    let said = fly.post("/v1/apps", json!({ "app_name": "a".repeat(2 * 1024 * 1024) })).await;
    assert_eq!((said.status, said.error()), (413, "request body too large"));
}

#[tokio::test]
async fn an_action_has_three_calls_at_once_and_no_more() {
    let fly = fly(Options { rate_limits: true, ..Options::instant() }).await;
    fly.app("one").await;
    fly.app("two").await;
    let mut allowed = 0;
    let refused = loop {
        let said = fly.get("/v1/apps/one/machines").await;
        match said.status {
            200 => allowed += 1,
            _ => break said,
        }
    };
    // More than three only where the machine is so busy that seconds went by.
    assert!((3..20).contains(&allowed), "{allowed}");
    assert_eq!((refused.status, refused.headers["retry-after"].to_str().expect("a number")), (429, "1"));
    assert_eq!(fly.get("/v1/apps/two/machines").await.status, 200, "another app has a bucket of its own");
    fly.sim.advance(std::time::Duration::from_secs(1));
    assert_eq!(fly.get("/v1/apps/one/machines").await.status, 200);
}

#[tokio::test]
async fn of_many_creates_at_once_one_is_carried_out() {
    let fly = fly(Options::default()).await;
    fly.app("one").await;
    let create = || fly.post("/v1/apps/one/machines", config("m"));
    let said = tokio::join!(create(), create(), create(), create(), create(), create());
    let mut statuses = [said.0, said.1, said.2, said.3, said.4, said.5].map(|said| said.status);
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409, 409, 409, 409, 409]);
    assert_eq!(fly.sim.world().tally("one").machines_made, 1);
}
