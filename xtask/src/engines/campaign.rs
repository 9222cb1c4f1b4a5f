//! The real server over a real engine that dies: instances are made, answer through the proxy, and are destroyed, while the
//! engine is killed and comes back. At the end nothing is left of them but seals.

use anyhow::{Context, Result, bail, ensure};
use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::task::LocalSet;

use super::engine::Engine;
use super::socket::IMAGE;
use crate::http::{self, Answer, Connection};
use crate::server::Server;

/// How many callers there are at most. Each has several lives behind one another, so that a kill finds some in each of
/// their steps.
const CALLERS: usize = 6;
const LIVES_OF_A_CALLER: usize = 3;

/// How long a life has gone on when the engine is killed.
const INTO_A_LIFE: Duration = Duration::from_millis(200);

/// How long one thing may take: an engine that comes back, and all that waited for it.
const PATIENCE: Duration = Duration::from_secs(90);

/// How long a running instance may be out of reach before its caller has it restarted: longer than an engine is away.
const UNREACHED: Duration = Duration::from_secs(15);

/// How long before a caller asks again.
const AGAIN_AFTER: Duration = Duration::from_millis(50);

/// Patient enough for an engine that is away for a while, and quick to try again.
fn config(install: &str, host: &str) -> String {
    format!(
        r#"
install_id = "{install}"
[timing]
retry_min = "100ms"
retry_max = "2s"
[provision]
default_provider = "engine"
max_attempts = 40
deadline = "60s"
[limits]
requests_per_second_per_caller = 100000
[providers.engine]
kind = "docker"
host = "{host}"
stop_grace = "1s"
settle_horizon = "2s"
[templates.hello]
image = "{IMAGE}"
command = []
[tiers.small]
rank = 1
memory_mb = 32
cpus = 0.5
volume_gb = 1
"#
    )
}

/// What the callers saw.
#[derive(Default)]
struct Seen {
    killed: Cell<usize>,
    begun: Cell<usize>,
    ended: Cell<usize>,
    /// Lives that came to nothing because the server gave up on them, and said so.
    failed: Cell<usize>,
    /// Instances whose container ran and could not be reached until it was restarted.
    restarted: Cell<usize>,
    /// Requests that were asked again because the engine was away.
    again: Cell<usize>,
}

fn add(count: &Cell<usize>) {
    count.set(count.get() + 1);
}

/// Plays `lives` at an engine that is killed `kills` times. Answers the line that a report can quote.
pub(super) fn run(engine: &mut Engine, program: &Path, folder: &Path, lives: usize, kills: usize) -> Result<String> {
    std::fs::create_dir_all(folder.join("data"))?;
    let kind = format!("{:?}", engine.kind);
    let install = format!("{}-{}", kind.to_lowercase(), std::process::id());
    let config_file = folder.join("freehold.toml");
    std::fs::write(&config_file, config(&install, &engine.socket.host()))?;
    let config_file = config_file.to_str().context("a folder whose name is no text")?;
    let server = Server::start(program, &folder.join("data"), &["--config", config_file], &[("RUST_LOG", "info")])?;
    let began = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let seen = Rc::new(Seen::default());
    let played = LocalSet::new().block_on(&runtime, play(engine, &server, &seen, lives, kills));
    let log = || std::fs::read_to_string(folder.join("data.log")).unwrap_or_default();
    let tail = || log().lines().rev().take(40).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n");
    played.with_context(|| format!("at {kind}; the server says:\n{}", tail()))?;
    let took = began.elapsed().as_secs_f64();
    let things = engine.socket.things(Some(&install))?;
    let left: Vec<_> = things.iter().filter(|thing| !thing.is_tombstone).collect();
    ensure!(left.is_empty(), "{} things are left at {kind}: {left:?}; the server says:\n{}", left.len(), tail());
    let running = running(&install)?;
    ensure!(running.is_empty(), "programs of {kind} go on where it does not see them: {running:?}");
    engine.socket.remove(&things)?;
    ensure!(engine.socket.things(Some(&install))?.is_empty(), "seals of {kind} are left");
    ensure!(!log().contains("panicked at"), "the server panicked:\n{}", log());
    Ok(format!(
        "{kind}: {} lives, {} failed, {} restarted, {} requests asked again, {} kills, nothing left but {} parts of seals, in {took:.0} s",
        seen.ended.get(),
        seen.failed.get(),
        seen.restarted.get(),
        seen.again.get(),
        seen.killed.get(),
        things.len(),
    ))
}

/// The ids of the processes of an installation, as the machine knows them, whatever an engine says.
fn running(install: &str) -> Result<Vec<u32>> {
    let variable = format!("FREEHOLD_INSTALL={install}");
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        if environment.split(|byte| *byte == 0).any(|one| one == variable.as_bytes()) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// Kills are spread over the lives: each is due when a life of its own begins, and no other begins before it was dealt.
fn kill_is_due(seen: &Seen, lives: usize, kills: usize) -> bool {
    let killed = seen.killed.get();
    killed < kills && seen.begun.get() > lives * (killed + 1) / (kills + 1)
}

async fn play(engine: &mut Engine, server: &Server, seen: &Rc<Seen>, lives: usize, kills: usize) -> Result<()> {
    let callers: Vec<_> = (0..lives.div_ceil(LIVES_OF_A_CALLER).min(CALLERS))
        .map(|_| {
            let caller = Caller { address: server.address.clone(), key: server.key.clone(), seen: seen.clone() };
            tokio::task::spawn_local(async move {
                while caller.seen.begun.get() < lives {
                    if kill_is_due(&caller.seen, lives, kills) {
                        tokio::time::sleep(AGAIN_AFTER).await;
                        continue;
                    }
                    add(&caller.seen.begun);
                    caller.live(caller.seen.begun.get()).await?;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    while callers.iter().any(|caller| !caller.is_finished()) {
        if kill_is_due(seen, lives, kills) {
            tokio::time::sleep(INTO_A_LIFE).await;
            engine.kill()?;
            // The others go on asking meanwhile.
            tokio::time::sleep(Duration::from_millis(100)).await;
            engine.come_back()?;
            add(&seen.killed);
        }
        tokio::time::sleep(Duration::from_millis(7)).await;
    }
    for caller in callers {
        caller.await??;
    }
    let killed = seen.killed.get();
    ensure!(killed == kills, "only {killed} kills of {kills} fell into the lives");
    Ok(())
}

struct Caller {
    address: String,
    key: String,
    seen: Rc<Seen>,
}

impl Caller {
    async fn ask(&self, method: &str, path: &str, headers: &[&str], body: Option<&str>) -> Result<Answer> {
        let request = http::request(method, path, &self.key, headers, body);
        Connection::open(&self.address).await?.send(&request).await
    }

    /// Asks until the answer is one of these.
    async fn until(
        &self,
        method: &str,
        path: &str,
        headers: &[&str],
        body: Option<&str>,
        wanted: impl Fn(&Answer) -> bool,
    ) -> Result<Answer> {
        self.until_within(PATIENCE, method, path, headers, body, wanted).await
    }

    async fn until_within(
        &self,
        patience: Duration,
        method: &str,
        path: &str,
        headers: &[&str],
        body: Option<&str>,
        wanted: impl Fn(&Answer) -> bool,
    ) -> Result<Answer> {
        let deadline = Instant::now() + patience;
        loop {
            let answer = self.ask(method, path, headers, body).await?;
            if wanted(&answer) {
                return Ok(answer);
            }
            if Instant::now() > deadline {
                bail!("{method} {path} is answered {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
            }
            add(&self.seen.again);
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    /// What the server tells of the operation that an instance is in, or was in last.
    async fn story(&self, at: &str) -> Result<String> {
        let instance = self.ask("GET", at, &[], None).await?.json()?;
        let operation = instance["operation_id"].as_str().unwrap_or_default();
        let told = self.ask("GET", &format!("/v1/operations/{operation}"), &[], None).await?;
        Ok(String::from_utf8_lossy(&told.body).into_owned())
    }

    /// One life: made, answered, destroyed.
    async fn live(&self, number: usize) -> Result<()> {
        let body = format!(r#"{{"owner":"user:life-{number}"}}"#);
        let key = format!("idempotency-key: life-{number}");
        let made = self.ask("POST", "/v1/instances", &[&key, "prefer: wait=20"], Some(&body)).await?;
        if ![201, 202].contains(&made.status) {
            println!("a create is answered {}: {}", made.status, String::from_utf8_lossy(&made.body));
            add(&self.seen.failed);
            return Ok(());
        }
        let named = made.json()?;
        let named = [&named["id"], &named["operation"]["instance_id"], &named["instance_id"]];
        let id = named.into_iter().find_map(|id| id.as_str()).context("an answer that names no instance")?;
        let at = format!("/v1/instances/{id}");
        let up = |answer: &Answer| {
            answer.json().is_ok_and(|seen| {
                seen["routable"] == true || seen["status"] == "failed" || seen["status"] == "destroyed"
            })
        };
        let seen = self.until("GET", &at, &[], None, up).await?.json()?;
        if seen["routable"] == true {
            let hello = format!("hello from {id}");
            let greets =
                |answer: &Answer| answer.status == 200 && String::from_utf8_lossy(&answer.body).trim() == hello;
            let path = format!("/i/{id}/");
            let answered = self.until_within(UNREACHED, "GET", &path, &[], None, greets).await;
            if answered.is_err() {
                // An engine that was killed in the middle of a start may have forgotten the container's network. It says
                // that it runs, so that only somebody who asks the program itself can know.
                add(&self.seen.restarted);
                let accepted = |answer: &Answer| [200, 202].contains(&answer.status);
                self.until("POST", &format!("{at}/restart"), &["prefer: wait=20"], None, accepted).await?;
                self.until("GET", &path, &[], None, greets).await.with_context(|| format!("life {number}"))?;
            }
        } else {
            println!("an instance came to nothing: {}", self.story(&at).await?);
            add(&self.seen.failed);
        }
        let accepted = |answer: &Answer| [200, 202].contains(&answer.status);
        self.until("DELETE", &at, &["prefer: wait=20"], None, accepted).await?;
        // One that failed and left nothing stays what it is: there is nothing to destroy.
        let ends = if seen["routable"] == true { &["destroyed"][..] } else { &["destroyed", "failed"] };
        let ended =
            |answer: &Answer| answer.json().is_ok_and(|seen| ends.iter().any(|status| seen["status"] == *status));
        if let Err(why) = self.until("GET", &at, &[], None, ended).await {
            bail!("life {number}: {why:#}\nits operation: {}", self.story(&at).await?);
        }
        if seen["routable"] == true {
            add(&self.seen.ended);
        }
        Ok(())
    }
}
