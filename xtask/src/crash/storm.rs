//! A storm of requests over some owners while something is done to the server, again and again.
//!
//! - Each worker has owners of its own and asks one thing at a time, so it knows what it was promised.
//! - An answer that was lost, and one that says that the registry cannot be reached, is asked for again with the same key:
//!   that is what callers do.

use anyhow::{Result, bail};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::task::LocalSet;

use super::Told;
use super::api::{Api, instance_named};
use super::chance::Chance;
use super::house::House;
use super::verdict::Tally;
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

/// How long a caller waits before it asks again.
const AGAIN_AFTER: Duration = Duration::from_millis(10);

/// How long a worker lets the server take its time before it wants to hear that it is at it, in seconds.
const WAIT: u32 = 2;

/// The kills between two verdicts: what was found true is not looked at again, so that a long run costs no more per kill
/// than a short one.
const LEG_KILLS: usize = 500;

/// What the server acknowledged.
#[derive(Debug, Default)]
pub(super) struct Promises {
    /// Instances that a create was acknowledged for and no destroy was asked for, by owner.
    pub(super) kept: BTreeMap<String, Kept>,
    /// Instances whose destroy was acknowledged.
    pub(super) destroyed: Vec<String>,
    /// What was wrong with answers, in words.
    pub(super) broken: Vec<String>,
}

/// An instance that was acknowledged, and under which key.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) key: String,
    pub(super) instance: String,
}

/// The storm, as the one who does something to the server sees it.
pub(super) struct Storm {
    api: RefCell<Api>,
    over: Cell<bool>,
    paused: Cell<bool>,
    promises: RefCell<Promises>,
    waiting: Cell<usize>,
    answered: Cell<usize>,
    unavailable: Cell<usize>,
}

impl Storm {
    /// Requests that are not answered yet.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.get()
    }

    /// Requests that were answered with what was asked for, or with why not.
    pub(super) fn answered(&self) -> usize {
        self.answered.get()
    }

    /// How often it was answered that the registry cannot be reached.
    pub(super) fn unavailable(&self) -> usize {
        self.unavailable.get()
    }

    /// Asks nothing further until it is called again with `false`. What is asked already stays open.
    pub(super) fn pause(&self, paused: bool) {
        self.paused.set(paused);
    }

    /// Sends further requests to this life of the server.
    pub(super) fn turn_to(&self, server: &Server) {
        *self.api.borrow_mut() = impatient(server);
    }
}

/// Nobody waits for longer than a fault takes, so that there is always somebody who asks.
fn impatient(server: &Server) -> Api {
    Api { wait: WAIT, ..Api::of(server) }
}

/// Kills the server at random moments, at least `kills` times.
pub(super) async fn play(house: &House, mut chance: Chance, kills: usize, tally: &mut Tally) -> Result<Told> {
    let mut server = house.start(None)?;
    let mut promises = Promises::default();
    let (mut done, began) = (0, Instant::now());
    while done < kills {
        let leg = LEG_KILLS.min(kills - done);
        promises = rage(house, &mut server, leg, &mut chance, promises, async |server: &mut Server, _: &Storm| {
            house.restart(server, None)
        })
        .await?;
        done += leg;
        house.settle(&server, &promises, tally).await?;
        if tally.failed > 0 {
            break;
        }
        promises.destroyed.clear();
        if done < kills {
            house.forget_log()?;
            println!("{done} kills of {kills} in the storm, {} ms each", began.elapsed().as_millis() / done as u128);
        }
    }
    let line = format!("killed {done} times under a storm of requests");
    Ok(Told { line, count: None, kills: done })
}

/// Rages over a living server while `fault` is done `rounds` times, at random moments. Goes on from what was promised
/// `before`.
pub(super) async fn rage(
    house: &House,
    server: &mut Server,
    rounds: usize,
    chance: &mut Chance,
    before: Promises,
    mut fault: impl AsyncFnMut(&mut Server, &Storm) -> Result<()>,
) -> Result<Promises> {
    let storm = Rc::new(Storm {
        api: RefCell::new(impatient(server)),
        over: Cell::new(false),
        paused: Cell::new(false),
        promises: RefCell::new(before),
        waiting: Cell::default(),
        answered: Cell::default(),
        unavailable: Cell::default(),
    });
    // Keys of their own for each rage of a run.
    let rage = format!("{:08x}", chance.below(1 << 32));
    let local = LocalSet::new();
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| local.spawn_local(work(storm.clone(), worker, rage.clone(), chance.branch())))
        .collect();
    let raged = local
        .run_until(async {
            for _ in 0..rounds {
                tokio::time::sleep(Duration::from_millis(10 + chance.below(LIFE_MS_MAX))).await;
                fault(server, &storm).await?;
                storm.turn_to(server);
            }
            storm.over.set(true);
            for worker in workers {
                worker.await??;
            }
            anyhow::Ok(())
        })
        .await;
    raged.map_err(|error| error.context(format!("under the storm over {}", house.folder().display())))?;
    Ok(std::mem::take(&mut *storm.promises.borrow_mut()))
}

async fn work(storm: Rc<Storm>, worker: u64, rage: String, mut chance: Chance) -> Result<()> {
    let mut turn = 0;
    while !storm.over.get() {
        let owner = format!("user:storm-{worker}-{}", chance.below(OWNERS_PER_WORKER));
        turn += 1;
        let kept = storm.promises.borrow().kept.get(&owner).cloned();
        match kept {
            None => create(&storm, &owner, &format!("{owner}-{rage}-{turn}"), &mut chance).await?,
            Some(Kept { instance, .. }) => match chance.below(4) {
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
    let answer = until_answered(storm, async |api: Api| api.create(owner, key).await).await?;
    match answer.status {
        201 | 202 => {
            let instance = instance_named(&answer)?;
            let kept = Kept { key: key.to_owned(), instance: instance.clone() };
            storm.promises.borrow_mut().kept.insert(owner.to_owned(), kept);
            if chance.below(3) == 0 {
                destroy(storm, owner, &instance).await?;
            }
        }
        // The destroy of the one before goes on; what it left is being removed.
        409 => {}
        // Only a provision that a failing server could not finish in time may fail.
        502 | 503 => {}
        other => broken(storm, &format!("a create for {owner}"), other, &answer),
    }
    Ok(())
}

async fn destroy(storm: &Storm, owner: &str, instance: &str) -> Result<()> {
    // From here on nobody may count on it, whatever the answer will be.
    storm.promises.borrow_mut().kept.remove(owner);
    let answer = until_answered(storm, async |api: Api| api.destroy(instance).await).await?;
    match answer.status {
        200 | 202 => storm.promises.borrow_mut().destroyed.push(instance.to_owned()),
        other => broken(storm, "a destroy", other, &answer),
    }
    Ok(())
}

async fn work_on(storm: &Storm, instance: &str, verb: &str) -> Result<()> {
    let answer = until_answered(storm, async |api: Api| api.work(instance, verb).await).await?;
    // An instance that is still being made can be told to wait, and one that could not be worked on in time says so.
    if !matches!(answer.status, 200 | 202 | 409 | 502 | 503) {
        broken(storm, &format!("a {verb}"), answer.status, &answer);
    }
    Ok(())
}

/// Puts down an answer that should not be.
fn broken(storm: &Storm, what: &str, status: u16, answer: &Answer) {
    let body = String::from_utf8_lossy(&answer.body);
    storm.promises.borrow_mut().broken.push(format!("{what} is answered {status}: {body}"));
}

async fn until_answered<F: Future<Output = Result<Answer>>>(storm: &Storm, ask: impl Fn(Api) -> F) -> Result<Answer> {
    let deadline = Instant::now() + ANSWERED_WITHIN;
    loop {
        while storm.paused.get() {
            tokio::time::sleep(AGAIN_AFTER).await;
        }
        let api = storm.api.borrow().clone();
        storm.waiting.set(storm.waiting.get() + 1);
        let asked = ask(api).await;
        storm.waiting.set(storm.waiting.get() - 1);
        let why = match asked {
            Ok(answer) if is_unavailable(&answer) => {
                storm.unavailable.set(storm.unavailable.get() + 1);
                String::from_utf8_lossy(&answer.body).into_owned()
            }
            Ok(answer) => {
                storm.answered.set(storm.answered.get() + 1);
                return Ok(answer);
            }
            Err(error) => format!("{error:#}"),
        };
        if Instant::now() > deadline {
            bail!("no answer within {ANSWERED_WITHIN:?}; the last was: {why}");
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

/// Whether the registry could not be reached, which says nothing of the request.
fn is_unavailable(answer: &Answer) -> bool {
    answer.status == 503 && answer.json().is_ok_and(|problem| problem["code"] == "store_unavailable")
}
