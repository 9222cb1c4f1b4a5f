//! What happened: the trail, and the streams.

use freehold_domain::event::{Actor, Event, EventKind};
use freehold_domain::lease::Epoch;
use freehold_domain::owner::Context;
use freehold_domain::time::Timestamp;
use freehold_engine::audit::{GENESIS, hash};
use http::Method;
use serde_json::Value;

use crate::client::Events;
use crate::server::{OPERATOR, Server};

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_is_followed_to_its_end() {
    let server = Server::paused().await;
    let created = server.create("user:alice").header("prefer", "respond-async").send().await.with(202);
    let path = format!("{}/events", created.header("location"));
    let mut events = Events::of(server.call(Method::GET, &path).key(OPERATOR)).await;
    let first = events.next().await.unwrap();
    assert_eq!((first.name.as_str(), &first.data["status"]), ("operation", &"running".into()));
    server.run();
    let mut last = first;
    while let Some(event) = events.next().await {
        assert_ne!(event, last, "an event is told once");
        last = event;
    }
    assert_eq!(last.data["status"], "succeeded");
    assert!(last.data["steps"].as_array().unwrap().len() > 3);
    // It is over: the stream of a finished operation is one event.
    let mut events = Events::of(server.call(Method::GET, &path).key(OPERATOR)).await;
    assert_eq!(events.next().await.unwrap().data, last.data);
    assert!(events.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_followed_and_resumed_without_a_gap() {
    let server = Server::start().await;
    let stream =
        |after: &str| Events::of(server.call(Method::GET, "/v1/events").key(OPERATOR).header("last-event-id", after));
    let mut events = stream("").await;
    server.made("user:alice").await;
    let mut seen = Vec::new();
    while seen
        .last()
        .is_none_or(|event: &crate::client::Event| event.name != "instance.provision_reservation_completed")
    {
        seen.push(events.next().await.unwrap());
    }
    assert_eq!(seen[0].name, "instance.provision_reservation_started");
    assert_eq!(seen[0].id, seen[0].data["id"].as_str().unwrap());
    let mut resumed = stream(&seen[1].id).await;
    for expected in &seen[2..] {
        assert_eq!(&resumed.next().await.unwrap(), expected);
    }
    let mut after =
        Events::of(server.call(Method::GET, &format!("/v1/events?after={}", seen[0].id)).key(OPERATOR)).await;
    assert_eq!(after.next().await.unwrap(), seen[1]);
    let bad = server.call(Method::GET, "/v1/events").key(OPERATOR).header("last-event-id", "x").send().await;
    bad.problem(400, "invalid_request");
}

/// Recomputes the hash of an event from nothing but what the wire says.
fn recomputed(event: &Value) -> String {
    let text = |name: &str| event[name].as_str().unwrap();
    let user = text("assigned_user").parse().unwrap();
    let context = Context::new(text("owner").parse().unwrap(), Some(user)).unwrap();
    let at: jiff::Timestamp = text("at").parse().unwrap();
    let status = ["in_progress", "failed_requires_reconciliation", "completed", "released"];
    let line = Event {
        kind: *EventKind::ALL.iter().find(|kind| kind.name() == text("kind")).unwrap(),
        instance: text("instance_id").parse().unwrap(),
        operation: text("operation_id").parse().unwrap(),
        epoch: Epoch::new(event["epoch"].as_u64().unwrap()),
        status: status.into_iter().find(|name| *name == text("status")).unwrap(),
        actor: Actor::ALL.into_iter().find(|actor| actor.name() == text("actor")).unwrap(),
        at: Timestamp::from_micros(at.as_microsecond()),
        detail: text("detail").to_owned(),
    };
    let previous = event["previous_hash"].as_str().map_or(GENESIS, |hex| {
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        }
        bytes
    });
    let hash = hash(&previous, &context, event["context_seq"].as_u64().unwrap(), &line);
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trail_can_be_verified_from_outside() {
    let server = Server::start().await;
    let made = server.made("user:alice").await;
    server.made("user:bob").await;
    server.delete(&format!("/v1/instances/{}", made["id"].as_str().unwrap())).await.with(200);
    let mut after = "0".to_owned();
    let mut events = Vec::new();
    loop {
        let page = server.get(&format!("/v1/audit?limit=3&after={after}")).await.with(200).json();
        events.extend(page["events"].as_array().unwrap().clone());
        match page["next_cursor"].as_str() {
            Some(next) if !page["events"].as_array().unwrap().is_empty() => next.clone_into(&mut after),
            _ => break,
        }
    }
    assert!(events.len() > 6);
    for event in &events {
        assert_eq!(event["hash"], recomputed(event), "{event:#}");
    }
    let path = format!("/v1/audit?instance_id={}", made["id"].as_str().unwrap());
    let his = server.get(&path).await.with(200).json();
    assert!(his["events"].as_array().unwrap().iter().all(|event| event["instance_id"] == made["id"]));
    assert_eq!(his["events"][0]["previous_hash"], Value::Null);
    let bad = server.get("/v1/audit?after=x").await.problem(400, "invalid_request");
    assert!(bad["detail"].as_str().unwrap().contains("`after`: takes the `id` of an event"), "{bad}");
}
