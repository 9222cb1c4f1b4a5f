//! Registry and records as two databases: one is lost, restored, or says something else.

use std::sync::Arc;

use freehold_domain::event::Actor;
use freehold_domain::ids::InstanceId;
use freehold_domain::records::{RecordsView, Subscription, SubscriptionStatus};
use freehold_engine::executor::Executor;
use freehold_engine::ports::{Because, Records as _};
use freehold_engine::reconcilers::records::Walk;
use freehold_engine::world::World;
use freehold_store::SqliteStore;
use serde_json::{Value, json};

use crate::billing::Mood;
use crate::server::{Land, Options, Server};

fn because() -> Because {
    Because { actor: Actor::System, operation: None, reason: "a test".to_owned() }
}

async fn over(land: &Land) -> Server {
    Server::with(Options { land: Some(land.clone()), ..Options::default() }).await
}

fn id_of(instance: &Value) -> InstanceId {
    instance["id"].as_str().unwrap().parse().unwrap()
}

async fn view(records: &SqliteStore, instance: InstanceId) -> RecordsView {
    records.describe(instance).await.unwrap()
}

/// Works on an instance in a world until nothing is left to do.
async fn work(world: &Arc<World>, instance: InstanceId) {
    let executor = Executor::new(world.clone());
    for _ in 0..50 {
        let registered = world.store.instance_describe(instance).await.unwrap().unwrap();
        if registered.operation.status.is_over() {
            return;
        }
        executor.work_once(registered.operation.id).await;
    }
    panic!("it goes on and on");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_a_new_registry_has_never_seen_is_taken_in_from_the_records() {
    let land = Land::new();
    let made = over(&land).await.made("user:alice").await;
    let id = id_of(&made).to_string();
    let server = over(&land).await;
    server.create("user:alice").send().await.problem(409, "instance_already_active");
    let shown = server.until(&format!("/v1/instances/{id}"), |shown| shown["status"] == "running").await;
    assert_eq!(shown["endpoint"], made["endpoint"]);
    assert_eq!(shown["resources"].as_array().unwrap().len(), 3, "{shown:#}");
    server.get(&format!("/v1/routes/{id}")).await.with(200);
    let owner = server.get("/v1/owners/user:alice").await.with(200).json();
    assert_eq!((&owner["backfilled"], &owner["entries"][0]["instance_id"]), (&json!(true), &json!(id)));
    server.destroyed(&id).await;
    assert!(view(&land.records, id.parse().unwrap()).await.closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_pays_for_is_quarantined_until_somebody_does() {
    let land = Land::new();
    let made = over(&land).await.made("user:alice").await;
    let instance = id_of(&made);
    let known = view(&land.records, instance).await;
    // The same instance in records that have lost its subscription.
    let bare = Land { records: Land::new().records, ..land.clone() };
    bare.records.insert(known.row.unwrap(), &because()).await.unwrap();
    let server = over(&bare).await;
    let owner = server.get("/v1/owners/user:alice").await.with(200).json();
    assert_eq!(owner["backfilled"], true);
    let path = format!("/v1/instances/{instance}");
    assert_eq!(server.get(&path).await.with(200).json()["status"], "quarantined");
    server.get(&format!("/v1/routes/{instance}")).await.problem(409, "not_routable_yet");
    server.create("user:alice").send().await.problem(409, "instance_already_active");
    bare.records.subscription_put(known.subscription.unwrap(), &because()).await.unwrap();
    server.until(&path, |shown| shown["status"] == "running").await;
    server.get(&format!("/v1/routes/{instance}")).await.with(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_in_one_context_the_older_one_is_published_and_the_other_one_takes_its_place() {
    let land = Land::new();
    let first = id_of(&over(&land).await.made("user:alice").await);
    // Another registry that never saw the first one, over records that show it to nobody.
    let apart = Land { records: Land::new().records, ..land.clone() };
    let second = id_of(&over(&apart).await.made("user:alice").await);
    let known = view(&apart.records, second).await;
    land.records.insert(known.row.unwrap(), &because()).await.unwrap();
    land.records.subscription_put(known.subscription.unwrap(), &because()).await.unwrap();

    let server = over(&land).await;
    assert_eq!(server.get("/v1/owners/user:alice").await.with(200).json()["backfilled"], true);
    server.until(&format!("/v1/instances/{first}"), |shown| shown["status"] == "running").await;
    let other = format!("/v1/instances/{second}");
    assert_eq!(server.get(&other).await.with(200).json()["status"], "quarantined");
    server.get(&format!("/v1/routes/{second}")).await.problem(409, "not_routable_yet");
    server.destroyed(&first.to_string()).await;
    server.until(&other, |shown| shown["status"] == "running").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_records_lost_is_written_again() {
    let land = Land::new();
    let server = over(&land).await;
    let instance = id_of(&server.made("user:alice").await);
    let before = view(&land.records, instance).await;
    server.pause();
    // Restored from a backup of before.
    let restored = Land::new().records;
    let world = server.world_over(restored.clone());
    // The server may still take the work in hand, and find nothing missing in the records of before: then it is found
    // again.
    let mut after = view(&restored, instance).await;
    for _ in 0..50 {
        agree(&world, instance).await;
        work(&world, instance).await;
        after = view(&restored, instance).await;
        if after.subscription_is_active() {
            break;
        }
    }
    assert!(after.row_is_active() && after.subscription_is_active());
    assert_eq!(after.row.unwrap().context, before.row.unwrap().context);
    agree(&world, instance).await;
    work(&world, instance).await;
    let changes = restored.changes(instance, 10).await.unwrap();
    let actions: Vec<&str> = changes.iter().map(|change| change.action.as_str()).collect();
    assert_eq!(actions, ["instance_inserted", "subscription_started"], "once");
    assert_eq!(changes[0].because.actor, Actor::System);
    assert!(changes[0].before.is_none() && changes[0].after.as_ref().unwrap().contains("user:alice"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_released_instance_whose_row_came_back_is_marked_again() {
    let land = Land::new();
    let server = over(&land).await;
    let instance = id_of(&server.made("user:alice").await);
    let before = view(&land.records, instance).await;
    server.destroyed(&instance.to_string()).await;
    // Restored from a backup of when it lived.
    let restored = Land::new().records;
    restored.insert(before.row.unwrap(), &because()).await.unwrap();
    restored.subscription_put(before.subscription.unwrap(), &because()).await.unwrap();
    let world = server.world_over(restored.clone());
    server.billing.send_replace(Mood::Denies);
    assert!(Walk::default().pass(&world, 10).await.is_err());
    let kept = view(&restored, instance).await;
    assert!(kept.subscription_is_active(), "what billing has not ended is not marked as ended");
    server.billing.send_replace(Mood::Well);
    assert_eq!(Walk::default().pass(&world, 10).await, Ok(1));
    let after = view(&restored, instance).await;
    assert!(after.closed && !after.subscription_is_active(), "{after:?}");
    assert_eq!(Walk::default().pass(&world, 10).await, Ok(0));
    server.made("user:alice").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_the_records_call_destroyed_is_destroyed() {
    let land = Land::new();
    let server = over(&land).await;
    let instance = id_of(&server.made("user:alice").await);
    land.records.mark_destroyed(instance, server.world.clock.now(), &because()).await.unwrap();
    agree(&server.world, instance).await;
    let shown = server.until(&format!("/v1/instances/{instance}"), |shown| shown["status"] == "destroyed").await;
    assert!(shown["destroyed_at"].is_string());
    server.get(&format!("/v1/routes/{instance}")).await.problem(410, "gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_whose_subscription_the_records_ended_is_stopped() {
    let land = Land::new();
    let server = over(&land).await;
    let instance = id_of(&server.made("user:alice").await);
    land.records.subscription_end(instance, server.world.clock.now(), &because()).await.unwrap();
    assert_eq!(Walk::default().pass(&server.world, 10).await, Ok(1));
    let reservation = format!("/v1/instances/{instance}");
    server.until(&reservation, |shown| shown["status"] == "quarantined").await;
    let registered = || async { server.world.store.instance_describe(instance).await.unwrap().unwrap() };
    while !registered().await.operation.status.is_over() {
        tokio::task::yield_now().await;
    }
    assert_eq!(registered().await.reservation.power, freehold_domain::reservation::Power::Off);
    server.destroyed(&instance.to_string()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_only_the_records_know_is_found_by_the_walk() {
    let land = Land::new();
    let made = over(&land).await.made("user:alice").await;
    let server = over(&land).await;
    assert_eq!(Walk::default().pass(&server.world, 10).await, Ok(1));
    server.until(&format!("/v1/instances/{}", id_of(&made)), |shown| shown["status"] == "running").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_forgotten_is_forgotten_everywhere_and_what_was_billed_stays() {
    let land = Land::new();
    let server = over(&land).await;
    let instance = id_of(&server.made("user:alice").await);
    let ask = || server.post("/v1/owners/user:alice/anonymize").send();
    ask().await.problem(409, "instance_already_active");
    server.destroyed(&instance.to_string()).await;
    let forgotten = ask().await.with(200).json();
    assert_eq!(forgotten["instances"], 1);
    let pseudonym = forgotten["pseudonym"].as_str().unwrap();
    assert!(pseudonym.starts_with("user:erased-"), "{pseudonym}");
    server.get("/v1/owners/user:alice").await.problem(404, "owner_not_found");
    ask().await.problem(404, "owner_not_found");
    let shown = server.get(&format!("/v1/instances/{instance}")).await.with(200).json();
    assert_eq!(shown["owner"], pseudonym);
    let row = view(&land.records, instance).await;
    assert_eq!(row.row.unwrap().context.owner().to_string(), pseudonym);
    assert_eq!(row.subscription.map(|it: Subscription| it.status), Some(SubscriptionStatus::Ended));
    let log = land.records.changes(instance, 100).await.unwrap();
    assert!(!format!("{log:?}").contains("alice"), "{log:?}");
    assert_eq!(log.last().unwrap().action, "owner_anonymized");
    let trail = server.get("/v1/audit?limit=500").await.with(200).json();
    assert!(!trail.to_string().contains("alice"), "{trail:#}");
    server.made("user:alice").await;
}

/// What drift does with an instance, whenever its time comes.
async fn agree(world: &World, instance: InstanceId) {
    freehold_engine::reconcilers::drift::look_after(world, instance).await.unwrap();
}
