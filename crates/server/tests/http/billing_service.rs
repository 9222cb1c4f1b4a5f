//! What billing says by itself, and what it is told late.

use std::time::{SystemTime, UNIX_EPOCH};

use freehold_billing::lab::{BillingLab, Fault, Message};
use freehold_domain::event::Actor;
use freehold_domain::ids::InstanceId;
use freehold_domain::records::SubscriptionStatus;
use freehold_engine::ports::Because;
use freehold_engine::reconcilers::billing::{self, Waits};
use freehold_engine::reconcilers::drift;
use http::Method;
use serde_json::{Value, json};

use crate::client::Call;
use crate::server::{Options, Server, billing_at};

const PATH: &str = "/v1/billing/events";
const SUSPENDED: &str = "subscription.suspended";
const RESUMED: &str = "subscription.resumed";

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// An event as the lab sends it.
fn event(server: &Server, lab: &BillingLab, id: &str, kind: &str, instance: &str) -> Call {
    at(server, lab, id, kind, instance, now())
}

fn at(server: &Server, lab: &BillingLab, id: &str, kind: &str, instance: &str, now: i64) -> Call {
    let (signed, body) = lab.event(id, kind, instance, now);
    let call = server.call(Method::POST, PATH).body(body);
    signed.headers().into_iter().fold(call, |call, (name, value)| call.header(name, value))
}

async fn status(server: &Server, instance: &str) -> Value {
    server.get(&format!("/v1/instances/{instance}")).await.with(200).json()["status"].clone()
}

fn id_of(made: &Value) -> String {
    made["id"].as_str().unwrap().to_owned()
}

/// How often each kind of event is on an instance's trail.
async fn told(server: &Server, instance: &str, kind: &str) -> usize {
    let trail = server.get(&format!("/v1/audit?instance_id={instance}&limit=200")).await.with(200).json();
    trail["events"].as_array().unwrap().iter().filter(|event| event["kind"] == format!("instance.{kind}")).count()
}

/// Has an instance looked after now, whenever its next look would be.
async fn look(server: &Server, instance: &str) {
    let world = &server.world;
    let id: InstanceId = instance.parse().unwrap();
    let registered = world.store.instance_describe(id).await.unwrap().unwrap();
    let (epoch, now) = (registered.reservation.epoch, world.clock.now());
    let (state, _) = registered.reservation.runtime.unwrap();
    // It may change hands meanwhile; the next look is as good.
    drop(world.store.watched(id, epoch, state, now, now, std::time::Duration::MAX).await);
    drift::pass(world, 16).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_nobody_pays_for_is_stopped_and_kept_until_somebody_does() {
    let (server, lab) = (Server::start().await, BillingLab::start().await.unwrap());
    let instance = id_of(&server.made("user:alice").await);
    let taken = event(&server, &lab, "msg_1", SUSPENDED, &instance).send().await.with(200).json();
    assert_eq!(taken, json!({"changed": true}));
    let path = format!("/v1/instances/{instance}");
    let stopped = server.until(&path, |shown| shown["status"] == "stopped").await;
    assert_eq!(stopped["subscription"]["status"], "suspended");

    for way in ["start", "restart"] {
        let refused = server.post(&format!("{path}/{way}")).send().await.with(403).json();
        assert_eq!(refused["code"], "entitlement_denied");
        assert!(refused["detail"].as_str().unwrap().contains("suspended"), "{refused:#}");
    }
    look(&server, &instance).await;
    assert_eq!(status(&server, &instance).await, "stopped", "nobody brings it back");
    let again = event(&server, &lab, "msg_2", SUSPENDED, &instance).send().await.with(200).json();
    assert_eq!(again, json!({"changed": false}));

    let taken = event(&server, &lab, "msg_3", RESUMED, &instance).send().await.with(200).json();
    assert_eq!(taken, json!({"changed": true}));
    server.until(&path, |shown| shown["status"] == "running").await;

    // Somebody listened, or it comes late: what came after it stands.
    let late = event(&server, &lab, "msg_1", SUSPENDED, &instance).send().await.with(200).json();
    assert_eq!(late, json!({"changed": false}));
    assert_eq!(status(&server, &instance).await, "running");
    assert_eq!(told(&server, &instance, "subscription_suspended").await, 1);
    assert_eq!(told(&server, &instance, "subscription_resumed").await, 1);
    let changes = server.world.records.changes(instance.parse().unwrap(), 16).await.unwrap();
    let turns: Vec<_> =
        changes.iter().map(|change| change.action.as_str()).filter(|action| action.ends_with("ed")).collect();
    assert!(turns.ends_with(&["subscription_suspended", "subscription_resumed"]), "{turns:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_without_a_good_signature_has_no_effect() {
    let (server, lab) = (Server::start().await, BillingLab::start().await.unwrap());
    let instance = id_of(&server.made("user:alice").await);
    let other = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    let stranger = BillingLab::start_at("127.0.0.1:0".parse().unwrap(), other).await.unwrap();
    let (signed, _) = lab.event("msg_1", SUSPENDED, &instance, now());
    let (_, changed) = lab.event("msg_1", SUSPENDED, "somebody else", now());
    for call in [
        server.call(Method::POST, PATH).body("{}"),
        server.post(PATH).body("{}"),
        event(&server, &stranger, "msg_1", SUSPENDED, &instance),
        at(&server, &lab, "msg_1", SUSPENDED, &instance, now() - 301),
        at(&server, &lab, "msg_1", SUSPENDED, &instance, now() + 330),
        signed
            .headers()
            .into_iter()
            .fold(server.call(Method::POST, PATH).body(changed), |call, (name, value)| call.header(name, value)),
        event(&server, &lab, "msg_1", SUSPENDED, &instance).header("webhook-id", "msg_2"),
    ] {
        let refused = call.send().await.with(401).json();
        assert_eq!(refused["code"], "unauthorized");
    }
    assert_eq!(status(&server, &instance).await, "running");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_makes_no_sense_says_so() {
    let (server, lab) = (Server::start().await, BillingLab::start().await.unwrap());
    let ignored = event(&server, &lab, "msg_1", "invoice.paid", "x").send().await.with(200).json();
    assert_eq!(ignored, json!({"ignored": true}));
    for (number, instance) in ["01990000-0000-7000-8000-000000000001", "nonsense"].into_iter().enumerate() {
        let missing = event(&server, &lab, &format!("msg_{number}"), RESUMED, instance).send().await.with(404).json();
        assert_eq!(missing["code"], "instance_not_found");
    }
    let secrets: freehold_api::webhook::Secrets = freehold_billing::lab::SECRET.parse().unwrap();
    let raw = |body: String| {
        let signed = secrets.sign("msg_9", now(), body.as_bytes()).unwrap();
        let call = server.call(Method::POST, PATH).body(body);
        signed.headers().into_iter().fold(call, |call, (name, value)| call.header(name, value))
    };
    assert_eq!(raw("{".into()).send().await.with(400).json()["code"], "malformed_json");
    let unnamed = raw(json!({"type": SUSPENDED}).to_string()).send().await.with(400).json();
    assert_eq!(unnamed["errors"][0]["pointer"], "#/data/instance_id");
    raw(" ".repeat(64 * 1024 + 1)).send().await.with(413);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_of_an_instance_in_the_making_is_not_lost() {
    let (server, lab) = (Server::paused().await, BillingLab::start().await.unwrap());
    let begun = server.create("user:alice").header("prefer", "respond-async").send().await.with(202).json();
    let instance = begun["operation"]["instance_id"].as_str().unwrap().to_owned();
    let early = event(&server, &lab, "msg_1", SUSPENDED, &instance).send().await.with(409);
    assert_eq!(early.json()["code"], "provision_in_progress");
    assert!(early.headers.contains_key("retry-after"));
    server.run();
    let path = format!("/v1/instances/{instance}");
    server.until(&path, |shown| shown["status"] == "running").await;
    let again = event(&server, &lab, "msg_1", SUSPENDED, &instance).send().await.with(200).json();
    assert_eq!(again, json!({"changed": true}));
    server.until(&path, |shown| shown["status"] == "stopped").await;

    server.delete(&path).await.with(200);
    let gone = event(&server, &lab, "msg_2", RESUMED, &instance).send().await.with(200).json();
    assert_eq!(gone, json!({"changed": false}), "what is destroyed gets no start");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_was_left_running_although_nobody_pays_is_stopped() {
    let server = Server::start().await;
    let instance = id_of(&server.made("user:alice").await);
    // As after a crash between the two halves of a suspension.
    let because = Because { actor: Actor::Platform, operation: None, reason: "a story".into() };
    let suspended = SubscriptionStatus::Suspended;
    server.world.records.subscription_turn(instance.parse().unwrap(), suspended, &because).await.unwrap();
    look(&server, &instance).await;
    server.until(&format!("/v1/instances/{instance}"), |shown| shown["status"] == "stopped").await;
    look(&server, &instance).await;
    assert_eq!(status(&server, &instance).await, "stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_started_without_billing_is_reported_once_it_answers() {
    let lab = BillingLab::start().await.unwrap();
    let options = Options { billing: Some(billing_at(&lab, true)), falls_back: true, ..Options::default() };
    lab.entitle("2026-01-01", "large");
    let server = Server::with(options).await;
    lab.fail_always(Message::Start, Fault::Down);
    let made = server.made("user:alice").await;
    let instance = id_of(&made);
    assert_eq!(made["subscription"]["plan"], "large");
    assert!(lab.books().active.is_empty());

    let mut waits = Waits::default();
    assert_eq!(billing::pass(&server.world, &mut waits, 16).await, Ok(0));
    let asked = lab.books().received["subscription.start"];
    assert_eq!(billing::pass(&server.world, &mut waits, 16).await, Ok(0));
    assert_eq!(lab.books().received["subscription.start"], asked, "it waits before it asks again");
    assert_eq!(told(&server, &instance, "subscription_report_failed").await, 1);

    lab.heal();
    assert_eq!(billing::pass(&server.world, &mut Waits::default(), 16).await, Ok(1));
    assert_eq!(billing::pass(&server.world, &mut Waits::default(), 16).await, Ok(0));
    assert_eq!(lab.books().started[&instance], 1);
    assert_eq!(told(&server, &instance, "subscription_reported").await, 1);
    let shown = server.get(&format!("/v1/instances/{instance}")).await.with(200).json();
    assert_ne!(shown["subscription"]["id"], made["subscription"]["id"], "it has billing's id");
    server.delete(&format!("/v1/instances/{instance}")).await.with(200);
    assert!(lab.books().active.is_empty() && lab.books().ended.contains(&instance));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_destroyed_before_billing_heard_of_it_is_started_and_ended_there_and_never_again() {
    let lab = BillingLab::start().await.unwrap();
    let options = Options { billing: Some(billing_at(&lab, true)), falls_back: true, ..Options::default() };
    lab.entitle("2026-01-01", "large");
    let server = Server::with(options).await;
    lab.fail_always(Message::Start, Fault::Down);
    let instance = id_of(&server.made("user:alice").await);
    lab.heal();
    server.delete(&format!("/v1/instances/{instance}")).await.with(200);
    let asked = lab.books();
    assert_eq!((asked.started[&instance], asked.active.len(), asked.ended.len()), (1, 0, 1));
    billing::pass(&server.world, &mut Waits::default(), 16).await.unwrap();
    assert_eq!(server.world.records.unreported(16).await.unwrap(), []);
    assert_eq!(lab.books(), asked, "nobody asks again for what is over");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_fallback_an_instance_that_billing_does_not_take_is_undone_and_its_context_free() {
    let lab = BillingLab::start().await.unwrap();
    let options = Options { billing: Some(billing_at(&lab, false)), ..Options::default() };
    lab.entitle("2026-01-01", "large");
    let server = Server::with(options).await;
    lab.fail_always(Message::Start, Fault::Down);
    let failed = server.create("user:alice").send().await.with(502).json();
    assert_eq!(failed["code"], "provision_failed");
    let instance = failed["instance_id"].as_str().unwrap().to_owned();
    server
        .until(&format!("/v1/reservations/{instance}"), |shown| {
            shown["status"].as_str().unwrap().starts_with("released")
        })
        .await;
    assert!(server.cloud.live().is_empty() && lab.books().ended.contains(&instance));
    lab.heal();
    let made = id_of(&server.made("user:alice").await);
    assert_eq!(lab.books().active.keys().collect::<Vec<_>>(), [&made]);

    lab.fail_next(Message::Resolve, Fault::Deny("your card has expired".into()));
    let denied = server.create("user:bob").send().await.with(403).json();
    assert_eq!((&denied["code"], &denied["detail"]), (&json!("entitlement_denied"), &json!("your card has expired")));
    lab.entitle("2027-01-01", "large");
    assert_eq!(server.create("user:bob").send().await.with(503).json()["code"], "billing_unavailable");
}
