//! Destroys in the middle of a provision, at every step of it: nothing is left, each time.

use std::time::Duration;

use freehold_api::Prefer;
use freehold_api::client::Outcome;
use freehold_api::v1::instances::{CreateInstance, InstanceStatus};
use freehold_flysim::{Endpoint, Fault, Options, Rule};
use futures_util::future::join_all;

use crate::town::Town;

/// How many change their mind.
const TIMES: usize = 200;

/// How many of them at once.
const AT_ONCE: usize = 20;

/// How long each call takes, so that there is a middle.
const CALL_MS: u64 = 30;

/// The moments: once this step is on record, or at once.
const MOMENTS: [&str; 7] = ["", "base", "storage", "runtime", "ready", "record", "subscribe"];

/// How long everything may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(120);

async fn changes_its_mind(town: &Town, number: usize) -> bool {
    let body = CreateInstance::for_owner(format!("user:mind-{number}"));
    let at_once = Prefer { respond_async: true, wait: None };
    let Outcome::Accepted { operation, .. } = town.client.create(&body, None, at_once).await.unwrap().outcome else {
        panic!("a create was done before it was accepted");
    };
    let moment = MOMENTS[number % MOMENTS.len()];
    let mut in_the_middle = moment.is_empty();
    while !in_the_middle {
        let seen = town.client.operation(operation.id).await.unwrap();
        in_the_middle = seen.steps.iter().any(|step| step.name == moment);
        if seen.status.is_over() {
            break;
        }
    }
    let still_making = !town.client.operation(operation.id).await.unwrap().status.is_over();
    town.client.destroy(operation.instance_id, Some("changed my mind")).await.unwrap();
    loop {
        let instance = town.client.instance(operation.instance_id).await.unwrap();
        if instance.status == InstanceStatus::Destroyed {
            assert!(!instance.routable);
            return still_making;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a few minutes: cargo xtask fly"]
async fn a_destroy_during_a_create_leaves_nothing_at_every_step() {
    let town = Town::found(Options::default()).await;
    town.fly.rule(Rule::always(Endpoint::Any, Fault::Delay { ms: CALL_MS }));
    let mut in_the_middle = 0;
    for first in (0..TIMES).step_by(AT_ONCE) {
        let minds = (first..TIMES.min(first + AT_ONCE)).map(|number| changes_its_mind(&town, number));
        in_the_middle += join_all(minds).await.into_iter().filter(|still_making| *still_making).count();
    }
    town.until(GONE_WITHIN, |town| {
        let there = town.fly.world().apps.len();
        if there == 0 { Ok(()) } else { Err(format!("{there} apps are left")) }
    })
    .await;
    let world = town.fly.world();
    println!(
        "{TIMES} destroys during a create, {in_the_middle} of them while it was being made: {} machines, {} volumes and {} apps are left",
        world.machines().count(),
        world.volumes().count(),
        world.apps.len()
    );
    assert_eq!((world.machines().count(), world.volumes().count()), (0, 0));
    assert!(in_the_middle > TIMES / 2, "only {in_the_middle} were in the middle");
}
