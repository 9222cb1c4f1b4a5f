//! A thousand provisions while one message in five to records and billing goes wrong and the database is killed. Then
//! registry, records, change log and billing are read side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use freehold_api::client::{Client, ClientError, Outcome, Token};
use freehold_api::idempotency::IdempotencyKey;
use freehold_api::v1::instances::{CreateInstance, InstanceStatus, ListInstances};
use freehold_api::v1::operations::OperationStatus;
use freehold_api::{Code, Prefer};
use freehold_billing::lab::{BillingLab, SECRET};
use freehold_postgres_lab::Lab;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::proxy::Proxy;
use crate::support::{Home, Server};

/// How many are under way at once.
const AT_ONCE: usize = 48;

/// Of 100 messages: how many go wrong.
const WRONG: u8 = 20;

/// One owner in so many destroys what it got.
const DESTROYED_ONE_IN: usize = 5;

/// How long an owner tries, and how long everything may take to come to rest.
const PATIENCE: Duration = Duration::from_secs(240);

/// How often to look again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

fn provisions() -> usize {
    std::env::var("FREEHOLD_RECORDS_PROVISIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000)
}

/// What the campaign is about.
struct Town {
    client: Client,
    billing: BillingLab,
    proxy: Proxy,
}

/// What one owner saw.
#[derive(Default)]
struct Story {
    tries: u32,
    waited: u32,
    server_away: u32,
    instance: Option<Uuid>,
    destroyed: bool,
}

/// Asks until the owner has its instance, and destroys some.
async fn live(town: &Town, number: usize) -> Story {
    let owner = format!("user:owner-{number}");
    let mut story = Story::default();
    let began = Instant::now();
    let in_time = || assert!(began.elapsed() < PATIENCE, "{owner} tries since {:?}", began.elapsed());
    let instance = 'made: loop {
        in_time();
        story.tries += 1;
        let key: IdempotencyKey = format!("{number}-{}", story.tries).parse().unwrap();
        let operation = loop {
            in_time();
            let prefer = Prefer { respond_async: true, wait: None };
            match town.client.create(&CreateInstance::for_owner(&owner), Some(&key), prefer).await {
                Ok(created) => match created.outcome {
                    Outcome::Accepted { operation, .. } => break operation.id,
                    Outcome::Done(instance) => break 'made instance.id,
                },
                Err(ClientError::Problem(problem)) if problem.code == Code::ProvisionInProgress => {
                    story.waited += 1;
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                Err(ClientError::Problem(problem)) if problem.code == Code::InstanceAlreadyActive => {
                    break 'made problem.instance_id.unwrap();
                }
                // Billing did not answer, or this was the answer to an earlier try with the key.
                Err(ClientError::Problem(problem)) if problem.status >= 500 => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                    continue 'made;
                }
                Err(ClientError::Problem(problem)) => panic!("{owner}: {problem:?}"),
                Err(_) => {
                    story.server_away += 1;
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            }
        };
        loop {
            in_time();
            match town.client.operation(operation).await {
                Ok(operation) if operation.status == OperationStatus::Succeeded => break 'made operation.instance_id,
                Ok(operation) if operation.status.is_over() => break,
                Ok(_) | Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    };
    story.instance = Some(instance);
    if number.is_multiple_of(DESTROYED_ONE_IN) {
        while !matches!(town.client.destroy(instance, Some("enough")).await, Ok(done) if done.finalized) {
            in_time();
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        story.destroyed = true;
    }
    story
}

fn start(home: &Home) -> (Server, Client) {
    let mut serving = home.serving();
    serving.args(["--config"]).arg(home.path().join("freehold.toml")).env("BILLING_WEBHOOK_SECRET", SECRET);
    let server = home.serve_with(serving);
    let client = Client::new(&server.url(), Some(Token::new(&home.key()).unwrap())).unwrap();
    (server, client)
}

/// What a question to the records answers: a line for each row, its columns separated by `|`.
fn rows(lab: &Lab, database: &str, question: &str) -> Vec<Vec<String>> {
    let text = lab.sql(database, question).unwrap();
    text.lines().filter(|line| !line.is_empty()).map(|line| line.split('|').map(str::to_owned).collect()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a few minutes: cargo xtask records"]
async fn registry_records_and_billing_agree_whatever_was_lost_between_them() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let lab = Lab::start().unwrap();
    let url = lab.database().unwrap();
    let database = url.rsplit('/').next().unwrap().split('?').next().unwrap().to_owned();
    let bouncer = lab.bouncer(&url).unwrap();
    let (before, rest) = bouncer.split_once('@').unwrap();
    let (place, after) = rest.split_once('/').unwrap();
    let upstream: SocketAddr = place.replace("localhost", "127.0.0.1").parse().unwrap();
    let proxy = Proxy::to(upstream, u64::from(WRONG), 7).await;
    let records = format!("{before}@{}/{after}", proxy.address);
    let billing = BillingLab::start().await.unwrap();

    let home = Home::new().with("RECORDS__URL", &records).with("LIMITS__REQUESTS_PER_SECOND_PER_CALLER", "100000");
    let config = format!(
        "[provision]\ndefault_provider = \"fake\"\ndeadline = \"60s\"\n\
         [timing]\njanitor_interval = \"3s\"\nretry_max = \"5s\"\n\
         [providers.fake]\nkind = \"fake\"\n\
         [billing]\nkind = \"http\"\nurl = \"{}\"\nsecret_env = \"BILLING_WEBHOOK_SECRET\"\n",
        billing.url()
    );
    std::fs::write(home.path().join("freehold.toml"), config).unwrap();
    let (server, client) = start(&home);
    billing.fail_by_chance(WRONG, 11);
    let town = Arc::new(Town { client, billing, proxy });

    let (count, began) = (provisions(), Instant::now());
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let owners: Vec<_> = (0..count)
        .map(|number| {
            let (town, places) = (town.clone(), places.clone());
            tokio::spawn(async move {
                let _place = places.acquire_owned().await.unwrap();
                live(&town, number).await
            })
        })
        .collect();

    // While that goes on: the database dies and comes back, twice.
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_secs(5)).await;
        lab.kill().unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        lab.restart().unwrap();
    }
    let mut stories = Vec::new();
    for owner in owners {
        stories.push(owner.await.unwrap());
    }
    let made_in = began.elapsed();

    town.proxy.heal();
    town.billing.heal();
    let client = &town.client;
    let began = Instant::now();
    loop {
        let metrics = server.get("/metrics").body.to_string();
        let unresolved: f64 = metrics
            .split("\\n")
            .filter(|line| line.starts_with("freehold_unresolved_reservations{"))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum();
        let destroying = client
            .instances(&ListInstances { status: Some(InstanceStatus::Destroying), ..ListInstances::default() })
            .await
            .unwrap();
        if unresolved == 0.0 && destroying.instances.is_empty() {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{unresolved} unresolved\n{}", home.log());
        tokio::time::sleep(LOOK_AGAIN).await;
    }

    // Side by side.
    let mut running = BTreeMap::new();
    let mut query = ListInstances { limit: Some(500), ..ListInstances::default() };
    loop {
        let page = client.instances(&query).await.unwrap();
        running.extend(page.instances.into_iter().map(|instance| (instance.id, instance)));
        match page.next_cursor {
            Some(cursor) => query.cursor = Some(cursor),
            None => break,
        }
    }
    let expected: BTreeSet<Uuid> =
        stories.iter().filter(|story| !story.destroyed).filter_map(|story| story.instance).collect();
    assert_eq!(running.keys().copied().collect::<BTreeSet<_>>(), expected, "the registry");
    for instance in running.values() {
        assert!(instance.routable, "{instance:?}");
        assert!(instance.subscription.is_some(), "{instance:?}");
    }
    let ids = |lines: Vec<Vec<String>>| -> BTreeSet<Uuid> { lines.iter().map(|row| row[0].parse().unwrap()).collect() };
    let active =
        ids(rows(&lab, &database, "SELECT instance_id FROM freehold.freehold_instances WHERE destroyed_at IS NULL"));
    assert_eq!(active, expected, "the records' rows");
    let paid =
        ids(rows(&lab, &database, "SELECT instance_id FROM freehold.freehold_subscriptions WHERE status <> 'ended'"));
    assert_eq!(paid, expected, "the records' subscriptions");
    let books = town.billing.books();
    let billed: BTreeSet<Uuid> = books.active.keys().map(|id| id.parse().unwrap()).collect();
    assert_eq!(billed, expected, "billing's books");
    assert!(books.started.values().all(|times| *times == 1), "somebody pays twice: {:?}", books.started);
    assert_eq!(books.unsigned, 0);
    for (message, ids) in books.ids.iter().filter(|((name, _), _)| *name != "entitlement.resolve") {
        assert_eq!(ids.len(), 1, "{message:?} came under several ids");
    }
    let logged = "SELECT instance_id, string_agg(action, ' ' ORDER BY position) \
                  FROM freehold.freehold_subscription_change_log GROUP BY instance_id";
    let logs: BTreeMap<Uuid, String> =
        rows(&lab, &database, logged).into_iter().map(|row| (row[0].parse().unwrap(), row[1].clone())).collect();
    for instance in &expected {
        assert_eq!(logs[instance], "instance_inserted subscription_started", "{instance}");
    }
    let lived = "instance_inserted subscription_started subscription_ended instance_destroyed";
    for story in stories.iter().filter(|story| story.destroyed) {
        assert_eq!(logs[&story.instance.unwrap()], lived);
    }
    assert!(client.leaks(None).await.unwrap().leaks.is_empty());

    let tries: u32 = stories.iter().map(|story| story.tries).sum();
    let sum = |of: fn(&Story) -> u32| stories.iter().map(of).sum::<u32>();
    println!(
        "{count} instances by {tries} provisions in {made_in:.1?}, {} of them destroyed",
        stories.iter().filter(|story| story.destroyed).count()
    );
    println!(
        "  records: {} questions, {} lost on the way or back, {:?}",
        town.proxy.tally().carried.load(std::sync::atomic::Ordering::Relaxed),
        town.proxy.tally().lost(),
        town.proxy.tally()
    );
    println!("  billing: {:?}, {} of them went wrong", books.received, books.failed);
    println!(
        "  PostgreSQL was killed twice; told to wait {} times, no answer {} times",
        sum(|story| story.waited),
        sum(|story| story.server_away)
    );
    println!(
        "  at rest {:.1?} later: registry, rows, subscriptions, change log and books agree: 0 differences",
        began.elapsed()
    );
}
