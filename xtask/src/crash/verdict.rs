//! Whether every promise was kept: what the API says, what really runs, what was acknowledged, and the audit trail.

use anyhow::{Result, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::api::{Api, instance_named};
use super::house::House;
use super::processes;
use super::storm::{Kept, Promises};
use crate::server::Server;

/// How many checks held and how many did not.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) passed: usize,
    pub(super) failed: usize,
}

impl Tally {
    pub(super) fn check(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if holds {
            self.passed += 1;
        } else {
            self.failed += 1;
            println!("BROKEN: {}", otherwise());
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} checks passed, {} failed", self.passed, self.failed)
    }
}

/// Waits until nothing is unresolved and nothing is on its way, as the API tells it.
pub(super) async fn come_to_rest(api: &Api, within: Duration) -> Result<()> {
    let deadline = Instant::now() + within;
    loop {
        let unresolved = unresolved(api).await?;
        let moving = moving(api).await?;
        if unresolved.is_empty() && moving.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "not at rest after {within:?}: {unresolved:?} {moving:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// How many instances are on their way somewhere.
pub(super) async fn on_their_way(api: &Api) -> Result<usize> {
    Ok(moving(api).await?.len())
}

async fn unresolved(api: &Api) -> Result<Vec<Value>> {
    let mut unresolved = api.all("/v1/reservations?status=in_progress", "reservations").await?;
    unresolved.extend(api.all("/v1/reservations?status=failed_requires_reconciliation", "reservations").await?);
    Ok(unresolved)
}

async fn moving(api: &Api) -> Result<Vec<String>> {
    let instances = api.all("/v1/instances", "instances").await?;
    let resting = |instance: &Value| matches!(instance["status"].as_str(), Some("running" | "stopped"));
    Ok(instances
        .iter()
        .filter(|instance| !resting(instance))
        .map(|i| format!("{} is {}", i["id"], i["status"]))
        .collect())
}

/// No context with two processes, no process without a context, no running instance without its process.
pub(super) async fn check_processes(house: &House, api: &Api, tally: &mut Tally) -> Result<()> {
    let running = processes::by_instance(&house.install)?;
    let instances = api.all("/v1/instances", "instances").await?;
    let mut by_context: BTreeMap<String, usize> = BTreeMap::new();
    for instance in &instances {
        let id = instance["id"].as_str().unwrap_or_default();
        let count = running.get(id).map_or(0, Vec::len);
        *by_context.entry(format!("{}/{}", instance["owner"], instance["assigned_user"])).or_default() += count;
        let wanted = usize::from(instance["status"] != "stopped");
        tally.check(count == wanted, || format!("{id} is {} and has {count} processes", instance["status"]));
    }
    for (context, count) in by_context {
        tally.check(count <= 1, || format!("{context} has {count} processes"));
    }
    for (id, pids) in running {
        let known = instances.iter().any(|instance| instance["id"] == id.as_str());
        tally.check(known, || format!("processes {pids:?} of {id} belong to no instance"));
    }
    Ok(())
}

/// Every acknowledged create and destroy is true.
pub(super) async fn settle_accounts(house: &House, api: &Api, promises: &Promises, tally: &mut Tally) -> Result<()> {
    check_processes(house, api, tally).await?;
    for wrong in &promises.broken {
        tally.check(false, || wrong.clone());
    }
    for (owner, Kept { key, instance: id }) in &promises.kept {
        let again = instance_named(&api.create(owner, key).await?)?;
        tally.check(again == *id, || format!("{key} was answered with {id} and is answered with {again}"));
        let instance = api.instance(id).await?;
        // A create that was answered 202 may have failed since; it must say so, and have nothing left.
        let status = instance["status"].as_str().unwrap_or_default();
        tally.check(matches!(status, "running" | "stopped" | "failed"), || format!("{id} of {owner} is {status}"));
    }
    for id in &promises.destroyed {
        let instance = api.instance(id).await?;
        tally.check(instance["status"] == "destroyed", || format!("{id} was destroyed and is {}", instance["status"]));
        let route = api.call("GET", &format!("/v1/routes/{id}"), &[], None).await?.status;
        tally.check(route == 410, || format!("the route of destroyed {id} is answered {route}"));
    }
    let metrics = api.call("GET", "/metrics", &[], None).await?;
    for line in
        String::from_utf8_lossy(&metrics.body).lines().filter(|l| l.starts_with("freehold_invariant_violations_total"))
    {
        tally.check(line.ends_with(" 0"), || format!("the server counted a violation: {line}"));
    }
    Ok(())
}

/// The audit chain of every context, recomputed by the program.
pub(super) fn check_audit(house: &House, server: &Server, tally: &mut Tally) -> Result<()> {
    let output = Command::new(house.program())
        .args(["audit", "verify", "--server", &format!("http://{}", server.address)])
        .env("FREEHOLD_TOKEN", &server.key)
        .stdin(Stdio::null())
        .output()?;
    tally.check(output.status.success(), || {
        format!("the audit chain: {}", String::from_utf8_lossy(&output.stderr).trim().to_owned())
    });
    Ok(())
}
