//! Each fault, and whether the call had its effect.

use std::time::{Duration, Instant};

use freehold_flysim::{Endpoint, Fault, Options, Rule};
use reqwest::Method;
use serde_json::json;

use crate::client::{Fly, config, fly};

/// When a client gives up: long enough for its call to arrive on a busy machine.
const LEAVES: Duration = Duration::from_millis(500);

/// An app, and one fault for the next create of a machine.
async fn with(fault: Fault) -> Fly {
    let fly = fly(Options::instant()).await;
    fly.app("one").await;
    fly.sim.rule(Rule::once(Endpoint::CreateMachine, fault));
    fly
}

fn made(fly: &Fly) -> u64 {
    fly.sim.world().tally("one").machines_made
}

async fn create(fly: &Fly) -> Option<crate::client::Said> {
    fly.try_send(Method::POST, "/v1/apps/one/machines", Some(config("m"))).await
}

#[tokio::test]
async fn a_cut_call_has_its_effect_or_not_and_no_answer() {
    for effect in [false, true] {
        let fly = with(Fault::Cut { effect }).await;
        assert!(create(&fly).await.is_none(), "effect: {effect}");
        assert_eq!(made(&fly), u64::from(effect));
        let world = fly.sim.world();
        assert_eq!((world.faults["cut"], world.calls(Endpoint::CreateMachine)), (1, 1));
        let again = create(&fly).await.expect("an answer");
        assert_eq!(again.status, if effect { 409 } else { 200 }, "the rule was for one call");
    }
}

#[tokio::test]
async fn a_call_that_times_out_is_held_until_the_client_leaves() {
    for effect in [false, true] {
        let mut fly = with(Fault::timeout(effect)).await;
        fly.timeout = LEAVES;
        let begun = Instant::now();
        assert!(create(&fly).await.is_none());
        assert!(begun.elapsed() >= LEAVES, "it was held");
        assert_eq!(made(&fly), u64::from(effect));
    }
}

#[tokio::test]
async fn a_call_that_times_out_is_cut_at_its_cap() {
    let fly = with(Fault::Timeout { effect: false, cap_ms: 20 }).await;
    assert!(create(&fly).await.is_none());
}

#[tokio::test]
async fn a_delayed_call_is_carried_out_although_the_client_left() {
    let mut fly = with(Fault::Delay { ms: 1500 }).await;
    fly.timeout = Duration::from_millis(300);
    assert!(create(&fly).await.is_none());
    assert_eq!(made(&fly), 0);
    fly.timeout = Duration::from_secs(10);
    fly.until("/v1/apps/one/machines", |said| said.body[0]["name"] == "m").await;
}

#[tokio::test]
async fn a_delayed_call_is_answered() {
    let fly = with(Fault::Delay { ms: 30 }).await;
    let begun = Instant::now();
    assert_eq!(create(&fly).await.expect("an answer").status, 200);
    assert!(begun.elapsed() >= Duration::from_millis(30));
}

#[tokio::test]
async fn a_late_effect_comes_although_the_app_was_made_again() {
    let fly = with(Fault::Late { ms: 3_600_000, hold: false }).await;
    assert!(create(&fly).await.is_none());
    assert_eq!((made(&fly), fly.sim.world().late.waiting), (0, 1));
    fly.delete("/v1/apps/one").await;
    fly.app("one").await;
    fly.sim.advance(Duration::from_secs(3600));
    let world = fly.sim.world();
    assert_eq!((world.late.waiting, world.late.done, world.tally("one").machines_made), (0, 1, 1));
}

#[tokio::test]
async fn a_late_effect_on_an_app_that_is_gone_is_refused_and_counted() {
    let mut fly = with(Fault::Late { ms: 3_600_000, hold: true }).await;
    fly.timeout = LEAVES;
    assert!(create(&fly).await.is_none());
    fly.timeout = Duration::from_secs(10);
    fly.delete("/v1/apps/one").await;
    fly.sim.advance(Duration::from_secs(3600));
    let world = fly.sim.world();
    assert_eq!((world.late.done, world.late.refused, world.tally("one").machines_made), (0, 1, 0));
}

#[tokio::test]
async fn a_made_up_status_has_its_effect_or_not() {
    for status in [500, 502, 503, 504, 408, 409, 429] {
        for effect in [false, true] {
            let fly = with(Fault::status(status, effect)).await;
            let said = create(&fly).await.expect("an answer");
            assert_eq!((said.status, made(&fly)), (status, u64::from(effect)), "{status} {effect}");
            assert!(said.body["error"].is_string(), "{}", said.text);
            assert_eq!(said.headers.contains_key("retry-after"), status == 429);
        }
    }
}

#[tokio::test]
async fn a_refusal_carries_its_words() {
    let fly = with(Fault::capacity()).await;
    let said = create(&fly).await.expect("an answer");
    assert_eq!((said.status, &said.body["status"]), (412, &json!("insufficient_capacity")));
    fly.sim.rule(Rule::once(Endpoint::CreateMachine, Fault::conflict()));
    let said = create(&fly).await.expect("an answer");
    assert_eq!((said.status, said.error()), (409, "aborted: machine update failed due to concurrent update"));
    fly.sim.rule(Rule::once(Endpoint::CreateMachine, Fault::rate_limited(7)));
    let said = create(&fly).await.expect("an answer");
    assert_eq!((said.status, said.headers["retry-after"].to_str().expect("a number")), (429, "7"));
    fly.sim.rule(Rule::once(Endpoint::CreateMachine, Fault::refusal(400, "no capacity", "unknown")));
    let said = create(&fly).await.expect("an answer");
    assert_eq!((said.status, said.error()), (400, "no capacity"));
}

#[tokio::test]
async fn json_that_stops_in_the_middle_has_had_its_effect() {
    let fly = with(Fault::TruncatedJson).await;
    let said = create(&fly).await.expect("an answer");
    assert!(said.status == 200 && said.body.is_null() && said.text.starts_with('{'), "{}", said.text);
    assert_eq!(made(&fly), 1);
}

#[tokio::test]
async fn a_page_for_humans_comes_with_any_status() {
    for status in [200, 502] {
        let fly = with(Fault::Html { status, effect: status == 200 }).await;
        let said = create(&fly).await.expect("an answer");
        assert!(said.status == status && said.text.contains("<html>") && said.body.is_null());
        assert_eq!(made(&fly), u64::from(status == 200));
    }
}

#[tokio::test]
async fn a_huge_answer_is_as_long_as_it_says() {
    let fly = with(Fault::Huge { bytes: 50 * 1024 * 1024 }).await;
    let said = create(&fly).await.expect("an answer");
    assert_eq!((said.status, said.text.len(), said.body["error"].is_string()), (200, 50 * 1024 * 1024, true));
    assert_eq!(made(&fly), 1);
}

#[tokio::test]
async fn an_id_is_hidden_for_a_while() {
    let fly = fly(Options::instant()).await;
    fly.app("one").await;
    let id = fly.machine("one", "m").await;
    for endpoint in [Endpoint::GetMachine, Endpoint::ListMachines] {
        fly.sim.rule(Rule::always(endpoint, Fault::Hidden { ms: 3_600_000 }));
    }
    let path = format!("/v1/apps/one/machines/{id}");
    assert_eq!(fly.get(&path).await.status, 404);
    assert_eq!(fly.get("/v1/apps/one/machines").await.body, json!([]));
    assert_eq!(create(&fly).await.expect("an answer").status, 409, "it is there all the same");
    fly.sim.advance(Duration::from_secs(3600));
    assert_eq!(fly.get(&path).await.status, 200);
    assert_eq!(fly.get("/v1/apps/one/machines").await.body[0]["id"], json!(id));
}

#[tokio::test]
async fn a_list_flaps() {
    let fly = fly(Options::instant()).await;
    fly.app("one").await;
    fly.machine("one", "m").await;
    fly.sim.rule(Rule::always(Endpoint::ListMachines, Fault::Flap));
    let mut lengths = Vec::new();
    for _ in 0..4 {
        lengths.push(fly.get("/v1/apps/one/machines").await.body.as_array().map(Vec::len));
    }
    assert_eq!(lengths, [Some(0), Some(1), Some(0), Some(1)]);
}

#[tokio::test]
async fn a_token_is_revoked_half_way() {
    let fly = fly(Options::instant()).await;
    fly.sim.rule(Rule::always(Endpoint::Any, Fault::status(401, false)).after(2));
    fly.app("one").await;
    fly.machine("one", "m").await;
    assert_eq!(fly.get("/v1/apps/one").await.status, 401);
    assert_eq!(fly.get("/v1/apps/one/machines").await.status, 401);
}

#[tokio::test]
async fn a_clock_is_an_hour_off() {
    let fly = fly(Options::instant()).await;
    fly.app("one").await;
    let id = fly.machine("one", "m").await;
    let path = format!("/v1/apps/one/machines/{id}");
    let right = fly.get(&path).await;
    fly.sim.rule(Rule::once(Endpoint::GetMachine, Fault::ClockOff { seconds: 3600 }));
    let wrong = fly.get(&path).await;
    let time = |said: &crate::client::Said| {
        let at: jiff::Timestamp = said.body["created_at"].as_str().expect("a time").parse().expect("a time");
        at.as_second()
    };
    let date = |said: &crate::client::Said| {
        let text = said.headers["date"].to_str().expect("text");
        jiff::fmt::rfc2822::parse(text).expect("a date").timestamp().as_second()
    };
    assert_eq!(time(&wrong) - time(&right), 3600);
    assert!((3600..3700).contains(&(date(&wrong) - date(&right))));
}

#[tokio::test]
async fn a_rule_for_one_app_leaves_the_others_alone() {
    let fly = fly(Options::instant()).await;
    fly.sim.rule(Rule::always(Endpoint::CreateApp, Fault::status(503, false)).in_app("two"));
    fly.app("one").await;
    assert_eq!(fly.post("/v1/apps", json!({ "app_name": "two" })).await.status, 503);
    fly.sim.clear_rules();
    fly.app("two").await;
}

#[tokio::test]
async fn a_fault_meets_every_endpoint_alike() {
    for (endpoint, name, method, path) in Endpoint::TABLE {
        let fly = fly(Options::instant()).await;
        fly.sim.rule(Rule::once(*endpoint, Fault::status(503, false)));
        let path = format!("/v1{}", path.replace("{app}", "a").replace("{id}", "b").replace("{key}", "c"));
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let said = fly.try_send(method, &path, None).await.expect("an answer");
        let world = fly.sim.world();
        assert_eq!((said.status, world.faults["status"], world.endpoints[*name]), (503, 1, 1), "{name}");
    }
}

#[tokio::test]
async fn the_same_seed_meets_the_same_faults() {
    let storm = async |seed| {
        let fly = fly(Options::instant()).await;
        fly.app("one").await;
        fly.sim.rule(Rule::sometimes(Endpoint::Any, Fault::Cut { effect: true }, 0.2, seed));
        fly.sim.rule(Rule::sometimes(Endpoint::Any, Fault::status(500, false), 0.3, seed));
        let mut met = Vec::new();
        for round in 0..40 {
            let body = config(&format!("m{round}"));
            let said = fly.try_send(Method::POST, "/v1/apps/one/machines", Some(body)).await;
            met.push(said.map(|said| (said.status, said.body["id"].clone())));
        }
        (met, fly.sim.world().faults)
    };
    assert_eq!(storm(11).await, storm(11).await);
    assert_ne!(storm(11).await, storm(12).await);
}
