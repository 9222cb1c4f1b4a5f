//! What the demo shows. Each scene does one thing to the server, checks what came of it, and says it with its timings; a
//! promise that did not hold ends the demo.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use freehold_api::client::{Client, ClientError, Created, Outcome};
use freehold_api::v1::PAGE_MAX;
use freehold_api::v1::instances::{CreateInstance, Instance, InstanceStatus, ListInstances};
use freehold_api::v1::operations::{Operation, OperationStatus};
use freehold_api::{Code, IdempotencyKey, Prefer};
use futures_util::future::join_all;
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client as Http;
use hyper_util::rt::TokioExecutor;
use serde::Serialize;
use uuid::Uuid;

use super::processes::programs;
use crate::exit::Failure;

/// How many clients ask for the same context at once.
pub(super) const STAMPEDE: usize = 50;

/// How many provisions are under way when the server is killed.
pub(super) const IN_FLIGHT: usize = 10;

/// How long any work may take before the demo calls it lost.
const WORK_MAX: Duration = Duration::from_secs(60);

/// How long to rest between two looks at work that goes on.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Answer with the operation, rather than wait.
const AT_ONCE: Prefer = Prefer { respond_async: true, wait: None };

/// A promise that did not hold.
pub(super) fn broken(what: impl Into<String>) -> Failure {
    Failure::failed(format!("a promise did not hold: {}", what.into()))
}

/// What the stampede came to.
#[derive(Debug, Serialize)]
pub(super) struct Stampede {
    clients: usize,
    admitted: usize,
    conflicts: usize,
    pub(super) instance_id: Uuid,
    pub(super) answered_ms: u128,
    pub(super) running_ms: u128,
}

/// Many clients create for one owner at the same moment: one gets the instance, all others its id.
pub(super) async fn stampede(client: &Client, owner: &str) -> Result<Stampede, Failure> {
    let body = CreateInstance::for_owner(owner);
    let began = Instant::now();
    let answers = join_all((0..STAMPEDE).map(|_| client.create(&body, None, AT_ONCE))).await;
    let answered = began.elapsed();
    let (mut admitted, mut named) = (BTreeSet::new(), Vec::new());
    for answer in answers {
        match answer {
            Ok(Created { outcome: Outcome::Accepted { operation, .. }, .. }) => {
                admitted.insert(operation.instance_id);
            }
            Ok(Created { outcome: Outcome::Done(instance), .. }) => {
                admitted.insert(instance.id);
            }
            Err(ClientError::Problem(problem))
                if matches!(problem.code, Code::ProvisionInProgress | Code::InstanceAlreadyActive) =>
            {
                named.push(problem.instance_id);
            }
            Err(error) => return Err(error.into()),
        }
    }
    let Some(winner) = admitted.first().copied().filter(|_| admitted.len() == 1) else {
        return Err(broken(format!("{} instances were admitted for {owner}", admitted.len())));
    };
    if named.len() != STAMPEDE - 1 || named.iter().any(|id| *id != Some(winner)) {
        return Err(broken(format!("not all others were told of {winner}: {named:?}")));
    }
    let instance = until_routable(client, winner).await?;
    Ok(Stampede {
        clients: STAMPEDE,
        admitted: 1,
        conflicts: named.len(),
        instance_id: instance.id,
        answered_ms: answered.as_millis(),
        running_ms: began.elapsed().as_millis(),
    })
}

/// What came back through the proxy.
#[derive(Debug, Serialize)]
pub(super) struct Proxied {
    pub(super) url: String,
    pub(super) pid: u32,
    pub(super) answered_ms: u128,
}

/// Asks an instance something through the server, and looks whether it is what the machine says it is.
pub(super) async fn proxied(address: &str, key: &str, instance: Uuid, install: &str) -> Result<Proxied, Failure> {
    let url = format!("http://{address}/i/{instance}/hello");
    let request = Request::get(&url)
        .header("authorization", format!("Bearer {key}"))
        .body(Empty::<Bytes>::new())
        .map_err(|error| Failure::failed(error.to_string()))?;
    let began = Instant::now();
    let http = Http::builder(TokioExecutor::new()).build_http();
    let answer = http.request(request).await.map_err(|error| broken(format!("{url} does not answer: {error}")))?;
    let status = answer.status();
    let body = answer.into_body().collect().await.map_err(|error| broken(format!("{url}: {error}")))?.to_bytes();
    let about: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let pid = about["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
    let (Some(pid), true) = (pid, about["instance_id"] == instance.to_string()) else {
        return Err(broken(format!("{url} answered {status}: {}", String::from_utf8_lossy(&body))));
    };
    if programs(install)?.get(&instance) != Some(&vec![pid]) {
        return Err(broken(format!("process {pid} answered, and is not the one process of {instance}")));
    }
    Ok(Proxied { url: format!("/i/{instance}/hello"), pid, answered_ms: began.elapsed().as_millis() })
}

/// Provisions that were acknowledged, with the keys that they were asked for under.
pub(super) struct InFlight {
    pub(super) accepted: Vec<(CreateInstance, IdempotencyKey, Operation)>,
}

impl InFlight {
    /// Starts ten provisions, and returns while they are in the middle: something is being made at the provider for one
    /// of them at least, and not all are done.
    pub(super) async fn begin(client: &Client, round: usize) -> Result<Option<Self>, Failure> {
        let asks = (0..IN_FLIGHT).map(|number| async move {
            let body = CreateInstance::for_owner(format!("user:crash-{round}-{number}"));
            let key: IdempotencyKey =
                format!("demo-{round}-{number}").parse().map_err(|_| Failure::failed("a key of the demo is none"))?;
            match client.create(&body, Some(&key), AT_ONCE).await?.outcome {
                Outcome::Accepted { operation, .. } => Ok::<_, Failure>((body, key, operation)),
                Outcome::Done(instance) => Err(broken(format!("{} was done before it was accepted", instance.id))),
            }
        });
        let accepted = join_all(asks).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        let in_flight = Self { accepted };
        let deadline = Instant::now() + WORK_MAX;
        while Instant::now() < deadline {
            let operations = in_flight.operations(client).await?;
            if operations.iter().all(|operation| operation.status.is_over()) {
                return Ok(None);
            }
            if operations.iter().any(|operation| operation.steps.iter().any(|step| step.name == "runtime")) {
                return Ok(Some(in_flight));
            }
        }
        Err(broken(format!("nothing was being made within {WORK_MAX:?}")))
    }

    async fn operations(&self, client: &Client) -> Result<Vec<Operation>, Failure> {
        let looks = join_all(self.accepted.iter().map(|(_, _, operation)| client.operation(operation.id))).await;
        Ok(looks.into_iter().collect::<Result<_, _>>()?)
    }

    /// Waits until each is finished or cleaned up, and looks whether its answer is still the same.
    pub(super) async fn settle(self, client: &Client, since: Instant) -> Result<Crash, Failure> {
        let deadline = Instant::now() + WORK_MAX;
        let operations = loop {
            let operations = self.operations(client).await?;
            if operations.iter().all(|operation| operation.status.is_over()) {
                break operations;
            }
            if Instant::now() > deadline {
                return Err(broken(format!("work of before the crash is not settled after {WORK_MAX:?}")));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        };
        let settled_ms = since.elapsed().as_millis();
        let mut crash = Crash { provisions: operations.len(), taken_over: 0, finished: 0, cleaned: 0, settled_ms };
        for ((body, key, _), operation) in self.accepted.iter().zip(&operations) {
            crash.taken_over += usize::from(operation.attempt > 1);
            let instance = client.instance(operation.instance_id).await?;
            match operation.status {
                OperationStatus::Succeeded if instance.routable => {
                    crash.finished += 1;
                    let again = client.create(body, Some(key), AT_ONCE).await?;
                    let same = matches!(&again.outcome, Outcome::Done(same) if same.id == instance.id);
                    if !(again.replayed && same) {
                        return Err(broken(format!(
                            "the create of {} has another answer after the crash",
                            instance.id
                        )));
                    }
                }
                OperationStatus::Failed if !instance.routable => crash.cleaned += 1,
                status => return Err(broken(format!("{} ended as {status:?} after the crash", instance.id))),
            }
        }
        Ok(crash)
    }
}

/// What became of the provisions that the server was killed in.
#[derive(Debug, Serialize)]
pub(super) struct Crash {
    pub(super) provisions: usize,
    pub(super) taken_over: usize,
    pub(super) finished: usize,
    pub(super) cleaned: usize,
    pub(super) settled_ms: u128,
}

/// What became of the instance that was destroyed while it was made.
#[derive(Debug, Serialize)]
pub(super) struct Race {
    instance_id: Uuid,
    pub(super) provision: OperationStatus,
    pub(super) destroyed_ms: u128,
}

/// Destroys an instance while it is being made: it ends destroyed, and was never reachable.
pub(super) async fn destroy_wins(client: &Client, owner: &str, install: &str) -> Result<Race, Failure> {
    let Outcome::Accepted { operation, .. } =
        client.create(&CreateInstance::for_owner(owner), None, AT_ONCE).await?.outcome
    else {
        return Err(broken("a create was done before it was accepted"));
    };
    let (id, began) = (operation.instance_id, Instant::now());
    client.destroy(id, Some("the demo changed its mind")).await?;
    until_destroyed(client, &[id]).await?;
    let destroyed_ms = began.elapsed().as_millis();
    let instance = client.instance(id).await?;
    if instance.status != InstanceStatus::Destroyed || instance.routable || instance.ready_at.is_some() {
        return Err(broken(format!("{id} is {:?} although it was destroyed while it was made", instance.status)));
    }
    match client.route(id).await {
        Err(ClientError::Problem(problem)) if problem.code == Code::Gone => {}
        other => return Err(broken(format!("the route of {id} is not gone: {other:?}"))),
    }
    if let Some(pids) = programs(install)?.get(&id) {
        return Err(broken(format!("{id} is destroyed, and still has processes: {pids:?}")));
    }
    let provision = client.operation(operation.id).await?.status;
    if !provision.is_over() || provision == OperationStatus::Succeeded {
        return Err(broken(format!("the provision of {id} ended as {provision:?}")));
    }
    Ok(Race { instance_id: id, provision, destroyed_ms })
}

/// What the server says, beside what the machine says.
#[derive(Debug, Serialize)]
pub(super) struct Census {
    pub(super) contexts: usize,
    pub(super) instances: usize,
    pub(super) processes: usize,
}

/// Compares the server's instances with the machine's processes: one each, and none over on either side.
pub(super) async fn census(client: &Client, install: &str) -> Result<Census, Failure> {
    let instances = instances(client).await?;
    let programs = programs(install)?;
    let mut contexts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for instance in &instances {
        let running = programs.get(&instance.id).map_or(0, Vec::len);
        if running != 1 || !instance.routable {
            let seen =
                format!("is {:?}, routable: {}, and has {running} processes", instance.status, instance.routable);
            return Err(broken(format!("{} {seen}", instance.id)));
        }
        *contexts.entry((&instance.owner, &instance.assigned_user)).or_default() += running;
    }
    if let Some(((owner, user), count)) = contexts.iter().find(|(_, count)| **count > 1) {
        return Err(broken(format!("{owner} for {user} has {count} processes")));
    }
    let known: BTreeSet<Uuid> = instances.iter().map(|instance| instance.id).collect();
    if let Some((id, pids)) = programs.iter().find(|(id, _)| !known.contains(id)) {
        return Err(broken(format!("processes {pids:?} run for {id}, which the server does not have")));
    }
    let processes = programs.values().map(Vec::len).sum();
    Ok(Census { contexts: contexts.len(), instances: instances.len(), processes })
}

/// Every instance that is not destroyed.
pub(super) async fn instances(client: &Client) -> Result<Vec<Instance>, Failure> {
    let mut all = Vec::new();
    let mut cursor = None;
    loop {
        let query = ListInstances { limit: Some(PAGE_MAX), cursor, ..ListInstances::default() };
        let page = client.instances(&query).await?;
        all.extend(page.instances);
        match page.next_cursor {
            Some(next) => cursor = Some(next),
            None => return Ok(all),
        }
    }
}

/// Destroys every instance, and waits until nothing of them is left.
pub(super) async fn destroy_all(client: &Client, install: &str) -> Result<usize, Failure> {
    let ids: Vec<Uuid> = instances(client).await?.into_iter().map(|instance| instance.id).collect();
    for answer in join_all(ids.iter().map(|id| client.destroy(*id, Some("the demo is over")))).await {
        answer?;
    }
    until_destroyed(client, &ids).await?;
    match programs(install)?.into_iter().next() {
        None => Ok(ids.len()),
        Some((id, pids)) => Err(broken(format!("everything is destroyed, and {pids:?} still run for {id}"))),
    }
}

async fn until_routable(client: &Client, id: Uuid) -> Result<Instance, Failure> {
    let deadline = Instant::now() + WORK_MAX;
    while Instant::now() < deadline {
        let instance = client.instance(id).await?;
        if instance.routable {
            return Ok(instance);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Err(broken(format!("{id} does not run after {WORK_MAX:?}")))
}

async fn until_destroyed(client: &Client, ids: &[Uuid]) -> Result<(), Failure> {
    let deadline = Instant::now() + WORK_MAX;
    for id in ids {
        while client.instance(*id).await?.destroyed_at.is_none() {
            if Instant::now() > deadline {
                return Err(broken(format!("{id} is not destroyed after {WORK_MAX:?}")));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
    Ok(())
}
