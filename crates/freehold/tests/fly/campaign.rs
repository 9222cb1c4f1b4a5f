//! Thousands of provisions while one call in five goes wrong, in every way that there is.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use freehold_api::client::{ClientError, Outcome};
use freehold_api::v1::instances::CreateInstance;
use freehold_api::v1::operations::OperationStatus;
use freehold_api::{Code, Prefer};
use freehold_flysim::{Endpoint, Fault, Options, Rule};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::town::{HORIZON, Town};

/// How many are under way at once.
const AT_ONCE: usize = 200;

/// Answer with the operation, rather than wait.
const AT_ONCE_ANSWER: Prefer = Prefer { respond_async: true, wait: None };

/// How likely it is that a call goes wrong.
const WRONG: f64 = 0.2;

/// How long the janitor may take to remove what came late: a few passes, and everything that fails in them.
const SWEPT_WITHIN: Duration = Duration::from_secs(180);

fn provisions() -> usize {
    std::env::var("FREEHOLD_FLY_PROVISIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000)
}

/// Every fault that a call can meet, each as likely as the others.
fn storm() -> Vec<Rule> {
    let anywhere = [
        Fault::Timeout { effect: true, cap_ms: 4_000 },
        Fault::Timeout { effect: false, cap_ms: 4_000 },
        Fault::Cut { effect: true },
        Fault::Cut { effect: false },
        Fault::Late { ms: 3_000, hold: false },
        Fault::Late { ms: 1_000, hold: true },
        Fault::status(500, true),
        Fault::status(502, false),
        Fault::status(503, true),
        Fault::status(504, false),
        Fault::status(408, true),
        Fault::conflict(),
        Fault::rate_limited(1),
        Fault::TruncatedJson,
        Fault::Html { status: 200, effect: true },
        Fault::Html { status: 502, effect: false },
        Fault::Delay { ms: 500 },
        Fault::Hidden { ms: 1_000 },
    ];
    let of_lists = [Endpoint::ListApps, Endpoint::ListMachines, Endpoint::ListVolumes];
    let of_room = [Endpoint::CreateVolume, Endpoint::CreateMachine];
    // Of what decides the answer the first one wins, so that together they are a little rarer than their sum.
    let chance = WRONG / anywhere.len() as f64;
    let mut rules: Vec<Rule> = anywhere
        .into_iter()
        .zip(1..)
        .map(|(fault, seed)| Rule::sometimes(Endpoint::Any, fault, chance, seed))
        .collect();
    rules.extend(of_lists.map(|list| Rule::sometimes(list, Fault::Flap, chance, 101)));
    rules.extend(of_room.map(|create| Rule::sometimes(create, Fault::capacity(), chance, 102)));
    rules.push(Rule::sometimes(Endpoint::Any, Fault::Huge { bytes: 50 << 20 }, 0.000_2, 103));
    rules
}

/// What one owner saw until it had its instance.
#[derive(Default)]
struct Story {
    instance: Uuid,
    tries: u32,
    doubts: Vec<Duration>,
    refused_and_admitted_again: Vec<Duration>,
    waited_for_clean_up: u32,
}

async fn live(town: &Town, owner: String) -> Story {
    let mut story = Story::default();
    let mut refused_at: Option<Instant> = None;
    loop {
        let operation = match town.client.create(&CreateInstance::for_owner(&owner), None, AT_ONCE_ANSWER).await {
            Ok(created) => match created.outcome {
                Outcome::Accepted { operation, .. } => operation,
                Outcome::Done(instance) => panic!("{} was done before it was begun", instance.id),
            },
            Err(ClientError::Problem(problem)) if problem.code == Code::ProvisionInProgress => {
                story.waited_for_clean_up += 1;
                tokio::time::sleep(Duration::from_millis(500)).await;
                continue;
            }
            Err(error) => panic!("{owner}: {error}"),
        };
        if let Some(refused_at) = refused_at.take() {
            story.refused_and_admitted_again.push(refused_at.elapsed());
        }
        story.tries += 1;
        let (over, doubts) = town.until_over(operation.id).await;
        story.doubts.extend(doubts);
        if over.status == OperationStatus::Succeeded {
            story.instance = over.instance_id;
            return story;
        }
        let nothing_was_made = over.error.as_ref().is_some_and(|problem| problem.code == Code::ProviderRejected);
        refused_at = nothing_was_made.then(Instant::now);
    }
}

fn percentile(spans: &mut [Duration], part: usize) -> Duration {
    spans.sort_unstable();
    spans.get((spans.len() * part / 100).min(spans.len().saturating_sub(1))).copied().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a few minutes: cargo xtask fly"]
async fn every_owner_gets_exactly_one_of_each_and_nothing_else_is_left() {
    let town = Arc::new(Town::found(Options::default()).await);
    storm().into_iter().for_each(|rule| town.fly.rule(rule));
    let (count, began) = (provisions(), Instant::now());
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut owners = Vec::new();
    for number in 0..count {
        let (town, places) = (town.clone(), places.clone());
        owners.push(tokio::spawn(async move {
            let _place = places.acquire_owned().await.unwrap();
            live(&town, format!("user:owner-{number}")).await
        }));
    }
    let mut stories = Vec::new();
    for owner in owners {
        stories.push(owner.await.unwrap());
    }
    let made_in = began.elapsed();
    let complete: BTreeSet<Uuid> = stories.iter().map(|story| story.instance).collect();
    assert_eq!(complete.len(), count);
    // Faults go on while the janitor works.
    town.until(SWEPT_WITHIN, |town| {
        let there: BTreeSet<Uuid> = town.instances_there().into_iter().collect();
        let world = town.fly.world();
        let (machines, volumes) = (world.machines().count(), world.volumes().count());
        if there == complete && machines == count && volumes == count && world.late.waiting == 0 {
            return Ok(());
        }
        let (extra, missing) = (there.difference(&complete).count(), complete.difference(&there).count());
        Err(format!("{extra} apps too many, {missing} too few, {machines} machines, {volumes} volumes of {count}"))
    })
    .await;
    let swept_in = began.elapsed() - made_in;
    let world = town.fly.world();
    let most = |of: fn(&freehold_flysim::Tally) -> u64| world.tallies.values().map(of).max().unwrap_or_default();
    let mut doubts: Vec<_> = stories.iter().flat_map(|story| story.doubts.clone()).collect();
    let mut again: Vec<_> = stories.iter().flat_map(|story| story.refused_and_admitted_again.clone()).collect();
    let calls: u64 = world.endpoints.values().sum();
    let faults: u64 = world.faults.values().sum();
    let tries: u32 = stories.iter().map(|story| story.tries).sum();
    let (p50, p99) = (percentile(&mut doubts, 50), percentile(&mut doubts, 99));
    let again_p100 = percentile(&mut again, 100);
    println!("{count} instances by {tries} provisions in {made_in:.1?}; {calls} calls, {faults} of them went wrong");
    println!("  faults: {:?}", world.faults);
    println!("  in doubt: {} outcomes, settled after {p50:.1?} (half), {p99:.1?} (99 of 100)", doubts.len());
    println!("  refused and admitted again: {}, the slowest after {again_p100:.1?}", again.len());
    println!("  told to wait for a clean-up: {}", stories.iter().map(|story| story.waited_for_clean_up).sum::<u32>());
    println!(
        "  one machine, volume and app for each, and nothing else, {swept_in:.1?} later; at most {} machines and {} volumes of one instance at once",
        most(|tally| tally.machines_live_max),
        most(|tally| tally.volumes_live_max)
    );
    assert!(most(|tally| tally.machines_live_max) <= 1, "two machines of one instance were live at once");
    let leaks = town.client.leaks(None).await.unwrap().leaks;
    println!("  leaks left: {}", leaks.len());
    assert!(leaks.is_empty(), "{leaks:#?}");
    // Times are told and not judged: what else the machine does is nobody's fault.
    let reached = |holds: bool| if holds { "reached" } else { "missed" };
    let (half, nearly_all) = (Duration::from_secs(5), HORIZON + Duration::from_secs(15));
    println!("  half of the doubts within {half:?}: {}", reached(p50 <= half));
    println!("  99 of 100 within {nearly_all:?}: {}", reached(p99 <= nearly_all));
    println!("  admitted again within a second: {}", reached(again_p100 < Duration::from_secs(1)));
}
