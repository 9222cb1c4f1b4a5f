//! What was removed at the provider behind our back: brought back where nothing is lost, told of where something is.

use freehold_domain::ids::InstanceId;
use freehold_domain::resource::{Resource, ResourceKind, RuntimeState};
use freehold_engine::reconcilers::drift;
use freehold_providers::fake::CallKind;
use serde_json::Value;

use crate::client::PATIENCE;
use crate::server::Server;

/// Has every instance looked after now, whenever its next look would be.
async fn look(server: &Server, instance: InstanceId) {
    let world = &server.world;
    let registered = world.store.instance_describe(instance).await.unwrap().unwrap();
    let (epoch, now) = (registered.reservation.epoch, world.clock.now());
    let (state, _) = registered.reservation.runtime.unwrap();
    // It may change hands meanwhile; the next look is as good.
    drop(world.store.watched(instance, epoch, state, now, now, std::time::Duration::MAX).await);
    drift::pass(world, 16).await.unwrap();
}

async fn told(server: &Server, instance: InstanceId) -> Vec<Value> {
    let trail = server.get(&format!("/v1/audit?instance_id={instance}&limit=100")).await.with(200).json();
    let lost = |event: &&Value| event["kind"] == "instance.resource_lost";
    trail["events"].as_array().unwrap().iter().filter(lost).cloned().collect()
}

fn starts(server: &Server) -> usize {
    server.cloud.calls().iter().filter(|call| call.kind == CallKind::Start).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_whose_storage_or_base_is_gone_is_told_of_once_and_not_brought_back_without_it() {
    for kind in [ResourceKind::Storage, ResourceKind::Base] {
        let server = Server::start().await;
        let made = server.made("user:alice").await;
        let instance: InstanceId = made["id"].as_str().unwrap().parse().unwrap();
        let own: Vec<Resource> = server.cloud.live().into_iter().map(|one| one.resource).collect();
        server.cloud.vanish(instance, kind);
        // Its program went down too: what stood on nothing would begin anew.
        server.cloud.set_runtime(instance, RuntimeState::Exited("exit status 1".to_owned()));
        for _ in 0..3 {
            look(&server, instance).await;
        }
        let shown = server.get(&format!("/v1/instances/{instance}")).await.with(200).json();
        assert_eq!(shown["status"], "failed", "{shown:#}");
        assert_eq!(shown["operation_id"], made["operation_id"], "nobody begins to bring it back");
        assert_eq!(starts(&server), 0);
        let events = told(&server, instance).await;
        let gone = own.iter().find(|resource| resource.kind == kind).unwrap();
        assert_eq!(events.len(), 1, "{events:#?}");
        assert_eq!(events[0]["detail"], format!("{kind} {}", gone.id));
        let left: Vec<Resource> = server.cloud.live().into_iter().map(|one| one.resource).collect();
        let expected: Vec<Resource> = own.into_iter().filter(|resource| resource.kind != kind).collect();
        assert_eq!(left, expected, "nothing is made in its place");
        // An operator decides: a destroy is as good as ever.
        server.delete(&format!("/v1/instances/{instance}")).await.with(200);
        assert!(server.cloud.live().is_empty(), "{:?}", server.cloud.live());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_runs_on_without_its_storage_is_told_of() {
    let server = Server::start().await;
    let made = server.made("user:alice").await;
    let instance: InstanceId = made["id"].as_str().unwrap().parse().unwrap();
    server.cloud.vanish(instance, ResourceKind::Storage);
    look(&server, instance).await;
    let shown = server.get(&format!("/v1/instances/{instance}")).await.with(200).json();
    assert_eq!(shown["status"], "failed", "{shown:#}");
    assert_eq!(told(&server, instance).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_that_is_gone_is_never_replaced_by_another_instance() {
    let server = Server::start().await;
    let made = server.made("user:alice").await;
    let instance: InstanceId = made["id"].as_str().unwrap().parse().unwrap();
    server.cloud.vanish(instance, ResourceKind::Runtime);
    look(&server, instance).await;
    let shown =
        server.until(&format!("/v1/instances/{instance}"), |shown| shown["operation_id"] != made["operation_id"]).await;
    let operation = format!("/v1/operations/{}", shown["operation_id"].as_str().unwrap());
    let over = server.until(&operation, |shown| !shown["finished_at"].is_null()).await;
    // The fake starts no runtime that is not there. What is on record stays, and it is tried again.
    assert_eq!((&over["kind"], &over["status"]), (&"recover".into(), &"failed".into()), "{over:#}");
    // Between two tries a look puts down what it sees.
    let begun = std::time::Instant::now();
    while server.get(&format!("/v1/instances/{instance}")).await.with(200).json()["status"] != "failed" {
        assert!(begun.elapsed() < PATIENCE, "it looks well");
        look(&server, instance).await;
    }
    assert_eq!(told(&server, instance).await, Vec::<Value>::new(), "a runtime holds nothing that could be lost");
    assert_eq!(server.cloud.live().len(), 2, "its base and its storage are as they were");
}
