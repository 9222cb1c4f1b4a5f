//! The janitor against a provider that brings back what was deleted, and makes two where one was asked for.

use std::time::Duration;

use freehold_domain::ids::InstanceId;
use freehold_domain::operation::OperationKind;
use freehold_domain::resource::{RejectionClass, ResourceKind, RuntimeState};
use freehold_engine::reconcilers::drift;
use freehold_engine::reconcilers::janitor::{Seen, Tally, pass};
use freehold_providers::fake::{CallKind, Fault, Sight};
use serde_json::Value;

use crate::client::PATIENCE;
use crate::server::Server;

const RUNTIME: CallKind = CallKind::Destroy(ResourceKind::Runtime);

/// How many resources an instance of these tests has.
const OWN: u64 = 3;

/// An instance whose runtime was back when nobody looked any more.
async fn haunted(server: &Server) -> Value {
    let made = server.made("user:alice").await;
    server.cloud.script_next(RUNTIME, Fault::BackAgain(Duration::from_secs(1)));
    server.delete(&format!("/v1/instances/{}", made["id"].as_str().unwrap())).await.with(200);
    assert!(server.cloud.live().is_empty());
    server.cloud.settle_late();
    assert_eq!(server.cloud.live().len(), 1, "it is back");
    made
}

async fn gone(server: &Server) {
    let begun = std::time::Instant::now();
    while !server.cloud.live().is_empty() {
        assert!(begun.elapsed() < PATIENCE, "{:?} is left", server.cloud.live());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.until("/v1/leaks", |leaks| leaks["leaks"].as_array().unwrap().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_back_after_a_destroy_is_removed_in_the_second_pass() {
    let server = Server::start().await;
    let world = server.world_without_horizon(Duration::ZERO);
    let bystander = server.made("user:bob").await;
    let instance: InstanceId = bystander["id"].as_str().unwrap().parse().unwrap();
    let mut seen = Seen::default();
    let bobs = || server.cloud.live().into_iter().filter(|one| one.instance == instance).count() as u64;
    for _ in 0..2 {
        let made = server.made("user:alice").await;
        server.cloud.script_next(RUNTIME, Fault::BackAgain(Duration::from_secs(1)));
        let path = format!("/v1/instances/{}", made["id"].as_str().unwrap());
        server.delete(&path).await.with(200);
        server.cloud.settle_late();
        assert_eq!(server.cloud.live().len() as u64, OWN + 1);
        let first = pass(&world, &mut seen).await.unwrap();
        assert_eq!(first, Tally { referenced: OWN, young: 1, ..Tally::default() });
        let second = pass(&world, &mut seen).await.unwrap();
        assert_eq!(second, Tally { referenced: OWN, swept: 1, ..Tally::default() });
        let begun = std::time::Instant::now();
        while server.cloud.live().len() as u64 > OWN {
            assert!(begun.elapsed() < PATIENCE, "{:?} is left", server.cloud.live());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(bobs(), OWN, "nobody else's is touched");
        let shown = server.get(&path).await.with(200).json();
        assert_eq!(shown["status"], "destroyed", "{shown:#}");
    }
    let metrics = String::from_utf8(server.get("/metrics").await.with(200).body.to_vec()).unwrap();
    assert!(metrics.contains("freehold_janitor_resources{state=\"swept\"} 1"), "{metrics}");
    assert!(!metrics.contains("freehold_invariant_violations_total{"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_counts_and_removes_nothing() {
    let server = Server::start().await;
    haunted(&server).await;
    let dry = server.world_without_horizon(Duration::MAX);
    let mut seen = Seen::default();
    for would_sweep in [0, 1, 1] {
        let tally = pass(&dry, &mut seen).await.unwrap();
        assert_eq!(tally, Tally { would_sweep, young: 1 - would_sweep, ..Tally::default() });
    }
    assert_eq!(server.cloud.live().len(), 1);
    let metrics = String::from_utf8(server.get("/metrics").await.with(200).body.to_vec()).unwrap();
    for line in ["{state=\"would_sweep\"} 1", "{state=\"swept\"} 0"] {
        assert!(metrics.contains(&format!("freehold_janitor_resources{line}")), "{metrics}");
    }
    // What was seen counts: the same memory goes on where the dry run ends.
    assert_eq!(pass(&server.world_without_horizon(Duration::ZERO), &mut seen).await.unwrap().swept, 1);
    gone(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_ends_by_itself() {
    let server = Server::start().await;
    haunted(&server).await;
    let ends_at = server.world.clock.monotonic() + Duration::from_millis(300);
    let world = server.world_without_horizon(ends_at);
    let (begun, mut seen) = (std::time::Instant::now(), Seen::default());
    while pass(&world, &mut seen).await.unwrap().swept == 0 {
        assert!(begun.elapsed() < PATIENCE, "it only looks");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(world.clock.monotonic() >= ends_at, "it swept in its dry run");
    gone(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_ours_or_not_known_is_reported_and_never_touched() {
    let server = Server::start().await;
    let world = server.world_without_horizon(Duration::ZERO);
    let made = server.made("user:alice").await;
    let instance: InstanceId = made["id"].as_str().unwrap().parse().unwrap();
    let context = freehold_domain::owner::Context::new("user:alice".parse().unwrap(), None).unwrap();
    server.cloud.plant_foreign(ResourceKind::Runtime, &world.idents.of(instance, &context));
    let stranger = InstanceId::mint(1, [9; 10]);
    server.cloud.plant(ResourceKind::Base, &world.idents.of(stranger, &context));
    let mut seen = Seen::default();
    for _ in 0..4 {
        let tally = pass(&world, &mut seen).await.unwrap();
        assert_eq!(tally, Tally { referenced: OWN, foreign: 1, unknown: 1, ..Tally::default() });
    }
    assert_eq!(server.cloud.live().len() as u64, OWN + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extra_copy_beside_a_complete_instance_is_removed_and_the_instance_stays_up() {
    let server = Server::start().await;
    let world = server.world_without_horizon(Duration::ZERO);
    let made = server.made("user:alice").await;
    let instance: InstanceId = made["id"].as_str().unwrap().parse().unwrap();
    let context = freehold_domain::owner::Context::new("user:alice".parse().unwrap(), None).unwrap();
    let ident = world.idents.of(instance, &context);
    let own = server.cloud.live_of(&ident);
    server.cloud.plant(ResourceKind::Runtime, &ident);
    let path = format!("/v1/instances/{instance}");
    let mut seen = Seen::default();
    pass(&world, &mut seen).await.unwrap();
    assert_eq!(pass(&world, &mut seen).await.unwrap().swept, 1);
    let swept = server.until(&path, |shown| shown["operation_id"] != made["operation_id"]).await;
    let operation = format!("/v1/operations/{}", swept["operation_id"].as_str().unwrap());
    let over = server.until(&operation, |shown| shown["status"] == "succeeded").await;
    assert_eq!(over["kind"], "sweep");
    assert_eq!(server.cloud.live_of(&ident), own);
    let shown = server.get(&path).await.with(200).json();
    assert_eq!((&shown["status"], &shown["url"]), (&made["status"], &made["url"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_that_does_not_see_everything_forgets_nothing() {
    let server = Server::start().await;
    haunted(&server).await;
    let world = server.world_without_horizon(Duration::ZERO);
    let mut seen = Seen::default();
    assert_eq!(pass(&world, &mut seen).await.unwrap().young, 1);
    server.cloud.impair(Sight::Unanswered, freehold_domain::time::Timestamp::NEVER);
    assert_eq!(pass(&world, &mut seen).await.unwrap(), Tally { unanswered: 1, ..Tally::default() });
    server.cloud.heal();
    assert_eq!(pass(&world, &mut seen).await.unwrap().swept, 1);
    gone(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_that_is_stuck_keeps_no_crashed_runtime_down() {
    let server = Server::start().await;
    let world = server.world_without_horizon(Duration::ZERO);
    let made = server.made("user:alice").await;
    let instance: InstanceId = made["id"].as_str().unwrap().parse().unwrap();
    let context = freehold_domain::owner::Context::new("user:alice".parse().unwrap(), None).unwrap();
    let ident = world.idents.of(instance, &context);
    let own = server.cloud.live_of(&ident);
    let extra = server.cloud.plant(ResourceKind::Runtime, &ident);
    server.cloud.set_chance(|call| (call.kind == RUNTIME).then_some(Fault::Refused(RejectionClass::Quota)));
    let mut seen = Seen::default();
    pass(&world, &mut seen).await.unwrap();
    assert_eq!(pass(&world, &mut seen).await.unwrap().swept, 1);
    server.cloud.set_runtime(instance, RuntimeState::Exited("exit status 1".to_owned()));
    let begun = std::time::Instant::now();
    loop {
        let registered = world.store.instance_describe(instance).await.unwrap().unwrap();
        if registered.operation.kind == OperationKind::Recover {
            break;
        }
        // The look is due at once; the sweep is retried and changes hands meanwhile, and then it is not.
        let (epoch, now) = (registered.reservation.epoch, world.clock.now());
        drop(world.store.watched(instance, epoch, RuntimeState::Running, now, now, Duration::MAX).await);
        drift::pass(&world, 16).await.unwrap();
        assert!(begun.elapsed() < PATIENCE, "nobody brings it back: {registered:?}");
    }
    let path = format!("/v1/instances/{instance}");
    server.until(&path, |shown| shown["status"] == "running").await;
    assert!(server.cloud.live_of(&ident).contains(&extra), "it cannot be removed");
    server.cloud.heal();
    while server.cloud.live_of(&ident) != own {
        pass(&world, &mut seen).await.unwrap();
        assert!(begun.elapsed() < PATIENCE, "{:?} is left", server.cloud.live_of(&ident));
    }
}
