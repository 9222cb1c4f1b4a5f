//! Two nodes beside one, where the database is not the limit: a provider so slow that the places of a node are.

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use std::time::Duration;

use super::nodes::{Ground, Registry, now_micros};
use super::report::Row;

/// How many instances more two nodes complete than one.
const GOAL: f64 = 1.5;

/// How long a provider's call takes.
const LATENCY: Duration = Duration::from_millis(2_000);

/// How many instances are asked for, for each node: more than it completes meanwhile, fewer than it may have waiting.
const ASKED: usize = 4_000;

/// Over how many connections.
const CONNECTIONS: usize = 16;

/// How long the first ones are not counted.
const WARM_UP: Duration = Duration::from_secs(10);

/// How long completions are counted.
const COUNTED: Duration = Duration::from_secs(30);

pub(super) fn measure(ground: &Ground, rounds: usize) -> Result<Row> {
    ensure!(rounds > 0, "nothing is to be measured");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut one, mut two) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        eprintln!("one node, two nodes …");
        one.push(runtime.block_on(completed(&ground.registry()?, 1))?);
        two.push(runtime.block_on(completed(&ground.registry()?, 2))?);
    }
    let list = |rates: &[f64]| rates.iter().map(|rate| format!("{rate:.0}")).collect::<Vec<_>>().join(", ");
    let notes = vec![
        format!("instances completed a second, by round: one node {}; two nodes {}", list(&one), list(&two)),
        format!(
            "the provider is the fake one, and takes {} ms for each call; {ASKED} instances are asked for, for each node, in the first seconds, and {} s are counted from the {}th second on",
            LATENCY.as_millis(),
            COUNTED.as_secs(),
            WARM_UP.as_secs()
        ),
    ];
    let (one, two) = (median(one), median(two));
    Ok(Row {
        figure: "nodes".to_owned(),
        goal: "two nodes at least 1.5 times one where the database is not the limit".to_owned(),
        measured: format!("two nodes {two:.0} instances a second"),
        beside: format!("one node {one:.0}"),
        value: two / one,
        unit: "times one".to_owned(),
        reached: two / one >= GOAL,
        notes,
    })
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_unstable_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or(0.0)
}

/// How many instances so many nodes complete a second.
async fn completed(registry: &Registry<'_>, count: usize) -> Result<f64> {
    let nodes = (0..count).map(|node| registry.node(&format!("node-{node}"), LATENCY)).collect::<Result<Vec<_>>>()?;
    let asked = nodes.iter().flat_map(|node| {
        (0..CONNECTIONS).map(move |connection| {
            let owners = (connection..ASKED).step_by(CONNECTIONS);
            node.ask_for(owners.map(move |number| format!("{}-{number}", node.name)))
        })
    });
    try_join_all(asked).await?;
    tokio::time::sleep(WARM_UP).await;
    let from = now_micros()?;
    tokio::time::sleep(COUNTED).await;
    let to = now_micros()?;
    let completed = registry.number(&format!(
        "SELECT count(*) FROM freehold_registry.audit WHERE kind = 'instance.provision_reservation_completed' \
         AND at >= {from} AND at < {to}"
    ))?;
    let left = registry.number("SELECT count(*) FROM freehold_registry.operations WHERE due_at IS NOT NULL")?;
    ensure!(left > 0, "everything was complete before it was counted: ask for more");
    Ok(completed as f64 / COUNTED.as_secs_f64())
}
