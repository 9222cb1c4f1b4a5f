//! The runs: everything at once for a while, and fail-overs alone. Both end in the same verdict.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use freehold_api::client::{Client, ClientError};
use freehold_api::v1::audit::ListAudit;
use freehold_api::v1::instances::{Instance, InstanceStatus, ListInstances};
use freehold_api::v1::reservations::ListReservations;
use freehold_postgres_lab::{Bouncer, Pair, Patroni};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::chance::Chance;
use crate::clients::{self, Crowd, Shared};
use crate::faults::{self, Counts};
use crate::node::KEY;
use crate::town::{NODES, POOLED, Town};
use crate::verdict::{Evidence, Standing, There, judge};

/// How long the world may take to come to rest when nothing fails any more: the deadline of a provision, its clean-up, a
/// few passes of the janitor, and a margin for a slow machine.
const RESTS_WITHIN: Duration = Duration::from_secs(90);

/// How often it is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How often it is looked whether something was acknowledged.
const LOOK_OFTEN: Duration = Duration::from_millis(20);

/// How many acknowledgements the twin loses, at the least.
const LOST_MIN: usize = 15;

/// How many fail-overs there are in the run of them alone.
const FAIL_OVERS: usize = 5;

/// How many faults a run has at the least.
const FAULTS_MIN: u64 = 300;

const CROWD: Crowd = Crowd { clients: 24, contexts: 150, hot: 12 };

/// What the trail tells where somebody's work was gone on with, or what came late was found.
const RECOVERY: &[&str] = &[
    "instance.executor_taken_over",
    "instance.resource_adopted",
    "instance.orphan_removed",
    "instance.provision_reservation_repaired",
    "instance.provision_reservation_failed",
];

fn variable<T: std::str::FromStr>(name: &str, otherwise: T) -> T {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// What a run is of.
struct Run {
    name: &'static str,
    seed: u64,
    folder: PathBuf,
    town: Arc<Town>,
    shared: Arc<Shared>,
    counts: Arc<Counts>,
    chance: Chance,
    clients: Vec<tokio::task::JoinHandle<()>>,
    began: Instant,
}

impl Run {
    /// Starts a town over a database, with its clients.
    async fn begin(name: &'static str, bouncer: Bouncer, database: &str) -> Self {
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let seed = variable("FREEHOLD_CHAOS_SEED", clock);
        println!("{name}: seed {seed}, which decides requests and faults; the moments follow the machine");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("chaos-{}-{seed}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        println!("  servers and their logs, until all is well: {}", folder.display());
        let town = Arc::new(Town::found(&folder, seed, bouncer, database).await);
        let (shared, mut chance) = (Shared::new(), Chance::of(seed));
        let clients = (0..CROWD.clients)
            .map(|number| tokio::spawn(clients::live(shared.clone(), town.client(), CROWD, number, chance.branch())))
            .collect();
        let (counts, began) = (Arc::new(Counts::default()), Instant::now());
        Self { name, seed, folder, town, shared, counts, chance, clients, began }
    }

    /// Lets everything come to rest, which must keep every promise. Answers what there is to tell.
    async fn end(self) -> String {
        let (seed, folder) = (self.seed, self.folder.clone());
        let (told, wrong) = self.judged(RESTS_WITHIN).await;
        for line in &wrong {
            println!("BROKEN: {line}");
        }
        println!("{told}");
        assert!(wrong.is_empty(), "{} promises are broken; seed {seed}", wrong.len());
        std::fs::remove_dir_all(folder).unwrap();
        told
    }

    /// Lets everything come to rest, and judges. Answers what there is to tell, and what is broken.
    async fn judged(self, rests_within: Duration) -> (String, Vec<String>) {
        self.shared.end();
        for client in self.clients {
            client.await.unwrap();
        }
        let raged = self.began.elapsed();
        let died: Vec<String> = (0..NODES)
            .filter(|number| !self.town.nodes[*number].lock().unwrap().runs())
            .map(|number| format!("server {number} ended by itself"))
            .collect();
        // What is counted at the provider and on the ways goes on counting.
        let faults = faults_of(&self.town, &self.counts);
        let town = self.town.clone();
        tokio::task::spawn_blocking(move || town.heal()).await.unwrap();
        let settling = Instant::now();
        let mut evidence = loop {
            let evidence = gather(&self.town).await;
            let unsettled = match &evidence {
                Ok(evidence) => evidence.unsettled(),
                Err(error) => vec![format!("{error:?}")],
            };
            if unsettled.is_empty() || settling.elapsed() > rests_within {
                break evidence.unwrap();
            }
            tokio::time::sleep(LOOK_EVERY).await;
        };
        let rested = settling.elapsed();
        let owners: BTreeSet<&str> = evidence.registry.values().map(|standing| standing.owner.as_str()).collect();
        let (complaints, audit) = examine(&self.town, owners.len()).await;
        evidence.complaints.extend(died);
        evidence.complaints.extend(complaints);
        let events = told_of(&self.town.clients()[0], RECOVERY).await;
        let promises = self.shared.promises.lock().unwrap().clone();
        let histories = self.shared.recorder.histories();
        let wrong = judge(&evidence, &promises, &histories);
        let ops: usize = histories.values().map(Vec::len).sum();
        let open = histories.values().flatten().filter(|op| op.returned.is_none()).count();
        let live = evidence.provider.len();
        let injected: u64 = faults.values().sum();
        let mut told = format!("## {}\n\n", self.name);
        let row = |told: &mut String, what: &str, value: String| writeln!(told, "| {what} | {value} |").unwrap();
        told += "| | |\n|---|---|\n";
        row(&mut told, "seed", self.seed.to_string());
        row(&mut told, "under faults", format!("{:.0} s", raged.as_secs_f64()));
        row(&mut told, "at rest after the last one", format!("{:.1} s", rested.as_secs_f64()));
        row(&mut told, "faults injected", injected.to_string());
        row(
            &mut told,
            "clients, contexts (of them hot)",
            format!("{}, {} ({})", CROWD.clients, CROWD.contexts, CROWD.hot),
        );
        row(&mut told, "operations in histories, without an answer", format!("{ops}, {open}"));
        row(&mut told, "instances admitted, live in the end", format!("{}, {live}", evidence.registry.len()));
        row(&mut told, "acknowledged: made (201), admitted (202), destroyed", {
            format!("{}, {}, {}", promises.made.len(), promises.admitted.len(), promises.destroyed.len())
        });
        row(&mut told, "audit chain", audit);
        row(&mut told, "promises broken", wrong.len().to_string());
        told += &table("fault", &faults);
        let answers: BTreeMap<String, u64> =
            self.shared.answers.lock().unwrap().iter().map(|(what, times)| ((*what).to_owned(), *times)).collect();
        told += &table("what clients met", &answers);
        told += &table("what the audit trail tells of", &events);
        (told, wrong)
    }
}

fn table(of: &str, counts: &BTreeMap<String, u64>) -> String {
    let mut table = format!("\n| {of} | times |\n|---|---|\n");
    for (what, times) in counts {
        writeln!(table, "| {what} | {times} |").unwrap();
    }
    table
}

/// Everything that was injected, by sort.
fn faults_of(town: &Town, counts: &Counts) -> BTreeMap<String, u64> {
    use std::sync::atomic::Ordering::Relaxed;
    let mut faults: BTreeMap<String, u64> =
        counts.all().into_iter().map(|(what, times)| (what.to_owned(), times)).collect();
    let ways = [
        ("between servers and database", &town.roads[..]),
        ("between clients and servers", std::slice::from_ref(&town.front)),
    ];
    for (way, roads) in ways {
        let sum = |of: fn(&crate::proxy::Tally) -> u64| roads.iter().map(|road| of(road.tally())).sum::<u64>();
        faults.insert(format!("{way}: question lost"), sum(|tally| tally.lost_before.load(Relaxed)));
        faults.insert(format!("{way}: answer lost"), sum(|tally| tally.answers_lost.load(Relaxed)));
        faults.insert(format!("{way}: delayed"), sum(|tally| tally.delayed.load(Relaxed)));
    }
    for (what, times) in town.fly.world().faults {
        faults.insert(format!("provider: {what}"), times);
    }
    faults.retain(|_, times| *times > 0);
    faults
}

async fn instances(client: &Client, status: Option<InstanceStatus>) -> Result<Vec<Instance>, ClientError> {
    let mut query = ListInstances { status, limit: Some(500), ..ListInstances::default() };
    let mut all = Vec::new();
    loop {
        let page = client.instances(&query).await?;
        all.extend(page.instances);
        match page.next_cursor {
            Some(cursor) => query.cursor = Some(cursor),
            None => return Ok(all),
        }
    }
}

/// Reads registry and provider.
async fn gather(town: &Town) -> Result<Evidence, ClientError> {
    let client = &town.clients()[0];
    let mut registry = BTreeMap::new();
    let mut query = ListReservations { status: None, older_than: None, limit: Some(500), cursor: None };
    loop {
        let page = client.reservations(&query).await?;
        for one in page.reservations {
            let (owner, because) = (one.owner, one.resolution_reason);
            registry.insert(one.instance_id, Standing { owner, reservation: one.status, because, status: None });
        }
        match page.next_cursor {
            Some(cursor) => query.cursor = Some(cursor),
            None => break,
        }
    }
    for status in [None, Some(InstanceStatus::Destroyed), Some(InstanceStatus::Failed)] {
        for instance in instances(client, status).await? {
            if let Some(standing) = registry.get_mut(&instance.id) {
                standing.status = Some(instance.status);
            }
        }
    }
    let world = town.fly.world();
    let mut provider = BTreeMap::new();
    for (name, app) in &world.apps {
        // One that is on its way out is gone in a moment.
        let id = name.strip_prefix("fh-").and_then(|id| Uuid::parse_str(id).ok()).filter(|_| !app.deleting);
        let Some(id) = id else { continue };
        let machines = app.machines.iter().filter(|machine| machine.state != "destroyed").count();
        provider.insert(id, There { machines, volumes: app.volumes.len() });
    }
    let most = world.tallies.values().map(|tally| tally.machines_live_max).max();
    Ok(Evidence {
        registry,
        provider,
        still_to_come: world.late.waiting,
        most_at_once: most.unwrap_or_default(),
        complaints: Vec::new(),
    })
}

/// How often the trail tells of something.
async fn told_of(client: &Client, kinds: &[&'static str]) -> BTreeMap<String, u64> {
    let mut times = BTreeMap::new();
    let mut query = ListAudit { after: None, instance_id: None, limit: Some(500) };
    loop {
        let page = client.audit(&query).await.unwrap();
        for event in page.events.iter().filter(|event| kinds.contains(&event.kind.as_str())) {
            *times.entry(format!("`{}`", event.kind)).or_default() += 1;
        }
        match page.next_cursor {
            Some(cursor) => query.after = Some(cursor),
            None => return times,
        }
    }
}

/// What a server counts.
async fn metrics(client: &Client) -> String {
    let (host, port) = (client.base().host_str().unwrap(), client.base().port().unwrap());
    let mut socket = TcpStream::connect((host, port)).await.unwrap();
    let request =
        format!("GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {KEY}\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("# EOF"), "{answer}");
    answer
}

/// What servers, logs and the audit trail have to complain of; and how long the trail is.
async fn examine(town: &Town, contexts: usize) -> (Vec<String>, String) {
    let mut complaints = Vec::new();
    for (number, client) in town.clients().into_iter().enumerate() {
        let metrics = metrics(&client).await;
        let violated = |line: &&str| line.starts_with("freehold_invariant_violations_total") && !line.ends_with(" 0");
        complaints.extend(metrics.lines().filter(violated).map(|line| format!("server {number} says: {line}")));
        let node = town.nodes[number].lock().unwrap();
        for words in ["an invariant is violated", "panicked at"] {
            complaints.extend(node.lines_with(words).into_iter().map(|line| format!("server {number} said: {line}")));
        }
    }
    let client = &town.clients()[0];
    for leak in client.leaks(None).await.unwrap().leaks {
        complaints.push(format!("a leak is open: {leak:?}"));
    }
    let mut verify = Command::new(env!("CARGO_BIN_EXE_freehold"));
    verify.args(["audit", "verify", "--json", "--server", client.base().as_str()]).env("FREEHOLD_TOKEN", KEY);
    let output = tokio::task::spawn_blocking(move || verify.output().unwrap()).await.unwrap();
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        complaints.push(format!("the audit chain is broken: {said}"));
    }
    let verified: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    if verified["contexts"] != contexts {
        complaints.push(format!("the audit trail has not the {contexts} contexts of the registry: {verified}"));
    }
    (complaints, format!("{} lines of {} contexts, whole", verified["events"], verified["contexts"]))
}

/// Puts what there is to tell where the caller wants it.
fn tell(name: &str, told: &str) {
    if let Some(folder) = std::env::var_os("FREEHOLD_CHAOS_REPORTS") {
        std::fs::write(Path::new(&folder).join(name), told).unwrap();
    }
}

/// The first database of a pair.
const DATABASE: &str = "db0";

fn pair() -> (Arc<Pair>, Bouncer) {
    let pair = Pair::start().unwrap();
    pair.primary().database().unwrap();
    let bouncer = pair.bouncer(POOLED).unwrap();
    (Arc::new(pair), bouncer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a few minutes: cargo xtask chaos"]
async fn everything_fails_at_once_and_nothing_acknowledged_is_lost_or_doubled() {
    let (pair, bouncer) = pair();
    let mut run = Run::begin("Everything at once", bouncer, DATABASE).await;
    let lasts = Duration::from_secs(variable("FREEHOLD_CHAOS_SECONDS", 60));
    run.town.lose_messages();
    faults::provider_storm(&mut run.chance).into_iter().for_each(|rule| run.town.fly.rule(rule));
    let mut troubles = Vec::new();
    for number in 0..NODES {
        let (town, counts, chance) = (run.town.clone(), run.counts.clone(), run.chance.branch());
        troubles.push(tokio::spawn(faults::trouble_node(town, number, counts, chance)));
    }
    let (town, counts, chance) = (run.town.clone(), run.counts.clone(), run.chance.branch());
    troubles.push(tokio::spawn(faults::trouble_database(town, pair.clone(), counts, chance)));
    tokio::time::sleep(lasts).await;
    run.counts.stop();
    for trouble in troubles {
        trouble.await.unwrap();
    }
    let (missing, injected) = (run.counts.missing(), faults_of(&run.town, &run.counts).values().sum::<u64>());
    let told = run.end().await;
    assert!(missing.is_empty(), "these faults never happened: {missing:?}");
    assert!(injected >= FAULTS_MIN, "{injected} faults are fewer than {FAULTS_MIN}");
    tell("everything", &told);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a minute: cargo xtask chaos"]
async fn a_primary_dies_again_and_again_under_load() {
    let (pair, bouncer) = pair();
    let mut run = Run::begin("Fail-overs alone", bouncer, DATABASE).await;
    for _ in 0..FAIL_OVERS {
        tokio::time::sleep(Duration::from_millis(500 + run.chance.below(1_500))).await;
        faults::fail_over(&run.town, &pair, &run.counts, &mut run.chance).await;
    }
    tell("fail-overs", &run.end().await);
}

/// The twin: where an acknowledgement is lost, it is found.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a minute: cargo xtask chaos"]
async fn a_standby_that_nobody_waited_for_is_found_out() {
    let (pair, bouncer) = pair();
    let run = Run::begin("A standby that nobody waited for", bouncer, DATABASE).await;
    let folder = run.folder.clone();
    let shared = run.shared.clone();
    let acknowledged = || shared.promises.lock().unwrap().admitted.len();
    let more = async || {
        let (before, began) = (acknowledged(), Instant::now());
        while acknowledged() < before + LOST_MIN {
            assert!(began.elapsed() < RESTS_WITHIN, "nothing is acknowledged");
            tokio::time::sleep(LOOK_OFTEN).await;
        }
    };
    more().await;
    faults::lose_what_nobody_waited_for(&run.town, &pair, more()).await;
    let (_, wrong) = run.judged(Duration::from_secs(1)).await;
    let found = |what: &str| wrong.iter().filter(|line| line.starts_with(what)).count();
    let (lost, histories) = (found("lost acknowledgement"), found("history of"));
    println!("  {lost} lost acknowledgements found, {histories} histories that nothing explains");
    assert!(lost > 0 && histories > 0, "{wrong:#?}");
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a few minutes, Patroni and etcd: cargo xtask failover --patroni"]
async fn patroni_fails_over_again_and_again_under_load() {
    let patroni = Patroni::start().unwrap();
    patroni.database(DATABASE).unwrap();
    let bouncer = patroni.bouncer(POOLED).unwrap();
    let patroni = Arc::new(patroni);
    let run = Run::begin("Fail-overs by Patroni", bouncer, DATABASE).await;
    let follower = tokio::spawn(faults::follow_patroni(run.town.clone(), patroni.clone(), run.counts.clone()));
    for _ in 0..FAIL_OVERS {
        tokio::time::sleep(Duration::from_secs(2)).await;
        faults::patroni_fails_over(&patroni, &run.counts).await;
    }
    run.counts.stop();
    follower.await.unwrap();
    tell("patroni", &run.end().await);
}
