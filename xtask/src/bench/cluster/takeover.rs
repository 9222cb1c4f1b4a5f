//! How long the work of a killed node has nobody.
//!
//! Two nodes share a registry. One is asked for instances; once it has them in hand, in the middle of slow calls, it is
//! killed with SIGKILL. What it held is then taken over by the other, and the audit trail says when, by the clock of the
//! same machine. Then the other is the next to be killed, and a node of a new name takes the place of the dead one: a
//! returning node would find its own work at once.

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use std::time::Duration;

use super::nodes::{Ground, Node, Registry, now_micros, until};
use super::report::Row;

/// How many operations a node is asked for before it is killed.
const IN_HAND: i64 = 8;

/// How long a provider's call takes: a kill falls into the middle of one.
const LATENCY: Duration = Duration::from_secs(3);

/// How long a lease lasts where nothing is said, in seconds.
const LEASE: f64 = 10.0;

/// What is aimed at: the lease and this, in seconds.
const BEYOND: f64 = 5.0;

/// How many kills the goal speaks of.
const KILLS: usize = 200;

/// How long it is waited for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// One node killed: how long until the other had each operation that it held, in seconds.
type Kill = Vec<f64>;

pub(super) fn measure(ground: &Ground, kills: usize, pairs: usize) -> Result<Row> {
    ensure!(kills > 0 && pairs > 0, "nothing is to be killed");
    eprintln!("killing {kills} nodes, from {pairs} pairs at a time …");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let killed: Vec<Kill> = runtime.block_on(async {
        let registries = (0..pairs).map(|_| ground.registry()).collect::<Result<Vec<_>>>()?;
        let share = |pair: usize| kills / pairs + usize::from(pair < kills % pairs);
        let all = registries.iter().enumerate().map(|(pair, registry)| pair_of_nodes(registry, share(pair)));
        anyhow::Ok(try_join_all(all).await?.into_iter().flatten().collect())
    })?;
    let mut slowest: Vec<f64> = killed.iter().map(|kill| kill.iter().copied().fold(0.0, f64::max)).collect();
    slowest.sort_unstable_by(f64::total_cmp);
    let mut each: Vec<f64> = killed.into_iter().flatten().collect();
    each.sort_unstable_by(f64::total_cmp);
    let p99 = at(&slowest, 0.99);
    Ok(Row {
        figure: "takeover".to_owned(),
        goal: "p99 within the lease and 5 s (15 s with the default lease) over 200 kills".to_owned(),
        measured: format!("p99 {p99:.2} s, worst {:.2} s", at(&slowest, 1.0)),
        beside: format!("lease {LEASE:.0} s"),
        value: p99,
        unit: "s".to_owned(),
        reached: p99 <= LEASE + BEYOND && slowest.len() >= KILLS,
        notes: vec![
            format!(
                "{} processes were killed with SIGKILL, {pairs} pairs of nodes at the same time, each pair with a database of its own",
                slowest.len()
            ),
            format!(
                "they held {} operations, {:.1} each; a kill counts until the last of them is taken over",
                each.len(),
                each.len() as f64 / slowest.len() as f64
            ),
            format!(
                "kills: p50 {:.2} s, p99 {p99:.2} s; single operations: p50 {:.2} s, p99 {:.2} s",
                at(&slowest, 0.5),
                at(&each, 0.5),
                at(&each, 0.99)
            ),
            format!("the provider is the fake one, and takes {} s for each call", LATENCY.as_secs()),
        ],
    })
}

/// The value below which a part of what was seen lies.
fn at(sorted: &[f64], part: f64) -> f64 {
    let index = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(index.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(0.0)
}

/// Kills so many nodes of one registry, one after the other.
async fn pair_of_nodes(registry: &Registry<'_>, kills: usize) -> Result<Vec<Kill>> {
    let mut victim = registry.node("node-0", LATENCY)?;
    let mut other = registry.node("node-1", LATENCY)?;
    let mut seen = Vec::new();
    for kill in 0..kills {
        seen.push(kill_one(registry, &mut victim, kill).await.with_context(|| format!("killing {}", victim.name))?);
        let fresh = registry.node(&format!("node-{}", kill + 2), LATENCY)?;
        victim = std::mem::replace(&mut other, fresh);
    }
    Ok(seen)
}

async fn kill_one(registry: &Registry<'_>, victim: &mut Node, kill: usize) -> Result<Kill> {
    let Node { name, .. } = &*victim;
    let name = name.clone();
    let holds = format!("holder_node = '{name}' AND due_at IS NOT NULL");
    victim.ask_for((0..IN_HAND).map(|number| format!("kill-{kill}-{number}"))).await?;
    let count = format!("SELECT count(*) FROM freehold_registry.operations WHERE {holds}");
    until("work in hand", PATIENCE, || Ok(registry.number(&count)? >= IN_HAND)).await?;
    let killed_at = now_micros()?;
    victim.server.end();
    let held = registry.rows(&format!("SELECT id FROM freehold_registry.operations WHERE {holds}"))?;
    ensure!(!held.is_empty(), "{name} held nothing when it was killed");
    until("a takeover", PATIENCE, || Ok(registry.number(&count)? == 0)).await?;
    let ids = held.iter().map(|id| format!("'{id}'")).collect::<Vec<_>>().join(", ");
    let taken_at = registry.rows(&format!(
        "SELECT min(at) FROM freehold_registry.audit WHERE kind = 'instance.executor_taken_over' \
         AND at >= {killed_at} AND operation_id IN ({ids}) GROUP BY operation_id"
    ))?;
    ensure!(
        taken_at.len() == held.len(),
        "{} of {} operations have a takeover on their trail",
        taken_at.len(),
        held.len()
    );
    let seconds = |at: &String| Ok((at.parse::<i64>()? - killed_at) as f64 / 1e6);
    taken_at.iter().map(seconds).collect()
}
