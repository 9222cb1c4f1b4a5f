//! A storm of requests over some owners while the server is killed at random moments.
//!
//! Each worker has owners of its own and asks one thing at a time, so it knows what it was promised. An answer that a
//! kill took away is asked for again with the same key in the next life: that is what callers do.

use anyhow::{Result, bail};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::task::LocalSet;

use super::House;
use super::api::{Api, instance_named};
use super::chance::Chance;
use super::points::restart;
use crate::http::Answer;
use crate::server::Server;

/// How many workers ask at once.
const WORKERS: u64 = 8;

/// How many owners each worker has.
const OWNERS_PER_WORKER: u64 = 3;

/// The longest life of a server between two kills.
const LIFE_MS_MAX: u64 = 400;

/// How long one request may be asked again and again: far more lives than it takes.
const ANSWERED_WITHIN: Duration = Duration::from_secs(120);

/// What the server acknowledged.
#[derive(Debug, Default)]
pub(super) struct Promises {
    pub(super) kills: usize,
    /// Instances that a create was acknowledged for and no destroy was asked for, by owner.
    pub(super) kept: BTreeMap<String, String>,
    /// Instances whose destroy was acknowledged.
    pub(super) destroyed: Vec<String>,
    /// What was wrong with answers, in words.
    pub(super) broken: Vec<String>,
}

struct Storm {
    api: RefCell<Api>,
    over: Cell<bool>,
    promises: RefCell<Promises>,
}

/// Rages for `kills` lives of the server.
pub(super) async fn rage(house: &House, server: &mut Server, kills: usize, mut chance: Chance) -> Result<Promises> {
    let storm =
        Rc::new(Storm { api: RefCell::new(Api::of(server)), over: Cell::new(false), promises: RefCell::default() });
    let local = LocalSet::new();
    let workers: Vec<_> =
        (0..WORKERS).map(|worker| local.spawn_local(work(storm.clone(), worker, chance.branch()))).collect();
    local
        .run_until(async {
            for kill in 1..=kills {
                tokio::time::sleep(Duration::from_millis(10 + chance.below(LIFE_MS_MAX))).await;
                restart(house, server, None)?;
                *storm.api.borrow_mut() = Api::of(server);
                storm.promises.borrow_mut().kills = kill;
            }
            storm.over.set(true);
            for worker in workers {
                worker.await??;
            }
            anyhow::Ok(())
        })
        .await?;
    Ok(std::mem::take(&mut *storm.promises.borrow_mut()))
}

async fn work(storm: Rc<Storm>, worker: u64, mut chance: Chance) -> Result<()> {
    let mut turn = 0;
    while !storm.over.get() {
        let owner = format!("user:storm-{worker}-{}", chance.below(OWNERS_PER_WORKER));
        turn += 1;
        let kept = storm.promises.borrow().kept.get(&owner).cloned();
        match kept {
            None => create(&storm, &owner, &format!("{owner}-{turn}"), &mut chance).await?,
            Some(instance) => match chance.below(4) {
                0 => destroy(&storm, &owner, &instance).await?,
                1 => work_on(&storm, &instance, "stop").await?,
                2 => work_on(&storm, &instance, "start").await?,
                _ => work_on(&storm, &instance, "restart").await?,
            },
        }
    }
    Ok(())
}

async fn create(storm: &Storm, owner: &str, key: &str, chance: &mut Chance) -> Result<()> {
    let answer = until_answered(storm, || async {
        let api = storm.api.borrow().clone();
        api.create(owner, key).await
    })
    .await?;
    match answer.status {
        201 | 202 => {
            let instance = instance_named(&answer)?;
            storm.promises.borrow_mut().kept.insert(owner.to_owned(), instance.clone());
            if chance.below(3) == 0 {
                destroy(storm, owner, &instance).await?;
            }
        }
        // The destroy of the one before goes on; what it left is being removed.
        409 => {}
        // Only a provision that a dying server could not finish in time may fail.
        502 | 503 => {}
        other => {
            let body = String::from_utf8_lossy(&answer.body).into_owned();
            storm.promises.borrow_mut().broken.push(format!("a create for {owner} is answered {other}: {body}"));
        }
    }
    Ok(())
}

async fn destroy(storm: &Storm, owner: &str, instance: &str) -> Result<()> {
    // From here on nobody may count on it, whatever the answer will be.
    storm.promises.borrow_mut().kept.remove(owner);
    expect(storm, "destroy", &[200, 202], || async {
        let api = storm.api.borrow().clone();
        api.destroy(instance).await
    })
    .await?;
    storm.promises.borrow_mut().destroyed.push(instance.to_owned());
    Ok(())
}

async fn work_on(storm: &Storm, instance: &str, verb: &str) -> Result<()> {
    expect(storm, verb, &[200, 202], || async {
        let api = storm.api.borrow().clone();
        api.work(instance, verb).await
    })
    .await
}

/// Asks until there is an answer, and puts down an answer that should not be.
async fn expect<F: Future<Output = Result<Answer>>>(
    storm: &Storm,
    what: &str,
    statuses: &[u16],
    ask: impl Fn() -> F,
) -> Result<()> {
    let answer = until_answered(storm, ask).await?;
    // An instance that is still being made can be told to wait, and a busy store to come again.
    if !statuses.contains(&answer.status) && !matches!(answer.status, 409 | 503) {
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        storm.promises.borrow_mut().broken.push(format!("a {what} is answered {}: {body}", answer.status));
    }
    Ok(())
}

async fn until_answered<F: Future<Output = Result<Answer>>>(storm: &Storm, ask: impl Fn() -> F) -> Result<Answer> {
    let deadline = Instant::now() + ANSWERED_WITHIN;
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) if Instant::now() > deadline => {
                bail!("no answer within {ANSWERED_WITHIN:?} and {} kills: {error:#}", storm.promises.borrow().kills)
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}
