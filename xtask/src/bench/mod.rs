//! `cargo xtask bench`: what the release program does per second over HTTP on loopback, and beside it, in the same run,
//! what bare SQLite does with the very rows that the program wrote.
//!
//! Figures are reported as they come; nothing here passes or fails. Client and server share the machine.

mod cluster;
mod load;
mod raw;
mod report;

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::http::{self, Connection};
use crate::server::{self, Server};
use crate::workspace;
use load::{Load, Sample};
use report::Row;

/// How many creates run against one context.
const CONFLICTS: usize = 10_000;

/// How many owners there are when start-up and memory are measured.
const OWNERS: usize = 100_000;

/// How many connections the larger loads have.
const CONNECTIONS: usize = 64;

/// How long a rate is measured.
const MEASURED: Duration = Duration::from_secs(5);

#[derive(Args)]
pub(crate) struct Options {
    /// Print a JSON list instead of a table
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    other: Option<Other>,
}

#[derive(Subcommand)]
enum Other {
    /// The registry in PostgreSQL, and several nodes on it, beside what they are compared with
    Cluster(cluster::Options),
}

pub(crate) fn run(options: &Options) -> Result<()> {
    if let Some(Other::Cluster(options)) = &options.other {
        return cluster::run(options);
    }
    let program = server::build("release")?;
    let folder = tempfile::Builder::new().prefix("freehold-bench-").tempdir_in(workspace::target_dir())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let rows = runtime.block_on(Bench { program, folder: folder.path().to_owned() }.measure())?;
    if options.json { report::json(&rows) } else { report::table(&rows) }
}

struct Bench {
    program: PathBuf,
    folder: PathBuf,
}

impl Bench {
    async fn measure(&self) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        for connections in [1, 16, CONNECTIONS] {
            rows.push(self.admissions(connections).await?);
        }
        rows.push(self.conflicts().await?);
        rows.push(self.cycles().await?);
        rows.extend(self.lookups_and_replays().await?);
        rows.extend(self.start_and_memory().await?);
        Ok(rows)
    }

    fn server(&self, name: &str, roles: &str) -> Result<(Server, PathBuf)> {
        let data_dir = self.folder.join(name);
        std::fs::create_dir_all(&data_dir)?;
        let config = self.folder.join("bench.toml");
        let instant = "[providers.local]\nkind = \"fake\"\n[limits]\nrequests_per_second_per_caller = 1000000\n";
        std::fs::write(&config, instant)?;
        let config = config.to_str().context("a folder whose name is no text")?;
        let quiet = [("RUST_LOG", "warn")];
        let server = Server::start(&self.program, &data_dir, &["--config", config, "--roles", roles], &quiet)?;
        Ok((server, data_dir))
    }

    /// Durable admissions of distinct owners, nobody executing them.
    async fn admissions(&self, connections: usize) -> Result<Row> {
        let (server, data_dir) = self.server(&format!("admissions-{connections}"), "http,proxy")?;
        let syncs = commits(&server).await?;
        let sample = Load::new(&server, connections)
            .for_a_while(MEASURED, |worker, turn| create(&server.key, &format!("user:w{worker}-{turn}"), None), 202)
            .await?;
        let syncs = commits(&server).await? - syncs;
        drop(server);
        let raw = raw::per_second(&data_dir.join("registry.db"))?;
        let mut row = Row::rate("admissions", &sample);
        row.raw_per_second = Some(raw);
        row.syncs_per_op = Some(syncs / sample.done as f64);
        Ok(row)
    }

    /// Creates against one context: one is admitted, the others are told by whom it is held.
    async fn conflicts(&self) -> Result<Row> {
        let (server, _) = self.server("conflicts", "http,proxy")?;
        let sample = Load::new(&server, CONNECTIONS)
            .so_often(CONFLICTS, |_, _| create(&server.key, "user:hot", None), 409)
            .await?;
        let admitted = sample.others.iter().filter(|status| **status == 202).count();
        ensure!(admitted == 1 && sample.others.len() == 1, "{admitted} of {CONFLICTS} creates were admitted, not one");
        Ok(Row::rate("conflicts", &sample))
    }

    /// From the request to a routable instance, with a provider that answers at once.
    async fn cycles(&self) -> Result<Row> {
        let (server, data_dir) = self.server("cycles", "http,executor,reconcilers,proxy")?;
        let syncs = commits(&server).await?;
        let sample = Load::new(&server, CONNECTIONS)
            .for_a_while(
                MEASURED,
                |worker, turn| create(&server.key, &format!("user:w{worker}-{turn}"), Some("wait=25")),
                201,
            )
            .await?;
        let syncs = commits(&server).await? - syncs;
        drop(server);
        let mut row = Row::rate("cycles", &sample);
        row.raw_per_second = Some(raw::per_second(&data_dir.join("registry.db"))?);
        row.syncs_per_op = Some(syncs / sample.done as f64);
        Ok(row)
    }

    async fn lookups_and_replays(&self) -> Result<[Row; 2]> {
        let (server, _) = self.server("lookups", "http,executor,reconcilers,proxy")?;
        let body = r#"{"owner":"user:known"}"#;
        let headers = ["idempotency-key: bench", "prefer: wait=25"];
        let replay = http::request("POST", "/v1/instances", &server.key, &headers, Some(body));
        let answer = Connection::open(&server.address).await?.send(&replay).await?;
        ensure!(answer.status == 201, "the instance to look up was answered {}", answer.status);
        let id = answer.json()?["id"].as_str().context("an instance without an id")?.to_owned();
        let lookup = http::request("GET", &format!("/v1/routes/{id}"), &server.key, &[], None);
        let lookups = Load::new(&server, CONNECTIONS).for_a_while(MEASURED, |_, _| lookup.clone(), 200).await?;
        let replays = Load::new(&server, CONNECTIONS).for_a_while(MEASURED, |_, _| replay.clone(), 201).await?;
        Ok([Row::rate("lookups", &lookups), Row::rate("replays", &replays)])
    }

    async fn start_and_memory(&self) -> Result<[Row; 2]> {
        let (server, _) = self.server("start", "http,proxy")?;
        let each = OWNERS / CONNECTIONS + 1;
        Load::new(&server, CONNECTIONS)
            .so_often(
                each * CONNECTIONS,
                |worker, turn| create(&server.key, &format!("user:w{worker}-{turn}"), None),
                202,
            )
            .await?;
        drop(server);
        let (server, _) = self.server("start", "http,proxy")?;
        let mut connection = Connection::open(&server.address).await?;
        let began = Instant::now();
        let ready = connection.send(&http::request("GET", "/readyz", &server.key, &[], None)).await?;
        ensure!(ready.status == 200, "the started server is not ready: {}", ready.status);
        let start = server.ready_after + began.elapsed();
        Load::new(&server, CONNECTIONS)
            .so_often(
                each * CONNECTIONS,
                |worker, turn| create(&server.key, &format!("user:w{worker}-{turn}"), None),
                409,
            )
            .await?;
        let mebibytes = server.resident_bytes()? as f64 / (1024.0 * 1024.0);
        Ok([Row::value("start", start.as_secs_f64() * 1_000.0, "ms"), Row::value("memory", mebibytes, "MiB")])
    }
}

fn create(key: &str, owner: &str, prefer: Option<&str>) -> Vec<u8> {
    let prefer = format!("prefer: {}", prefer.unwrap_or("respond-async"));
    http::request("POST", "/v1/instances", key, &[&prefer], Some(&format!(r#"{{"owner":"{owner}"}}"#)))
}

/// How many commits the server has synced so far: each is one sync.
async fn commits(server: &Server) -> Result<f64> {
    let request = http::request("GET", "/metrics", &server.key, &[], None);
    let answer = Connection::open(&server.address).await?.send(&request).await?;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("freehold_store_commit_seconds_count"))
        .context("no freehold_store_commit_seconds_count in /metrics")?;
    line.rsplit(' ').next().context("a metric without a value")?.parse().context("a metric that is no number")
}

/// The value below which `percent` of what was seen lies, in milliseconds; `sorted` is in microseconds.
fn percentile(sorted: &[u32], percent: f64) -> f64 {
    let at = ((sorted.len() as f64 * percent / 100.0) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(at).map_or(0.0, |micros| f64::from(*micros) / 1_000.0)
}

impl Row {
    fn rate(figure: &'static str, sample: &Sample) -> Self {
        let mut latencies = sample.latencies.clone();
        latencies.sort_unstable();
        Self {
            figure,
            connections: Some(sample.connections),
            per_second: Some(sample.done as f64 / sample.took.as_secs_f64()),
            p50_ms: Some(percentile(&latencies, 50.0)),
            p99_ms: Some(percentile(&latencies, 99.0)),
            raw_per_second: None,
            syncs_per_op: None,
            value: None,
            unit: None,
        }
    }

    fn value(figure: &'static str, value: f64, unit: &'static str) -> Self {
        Self {
            figure,
            connections: None,
            per_second: None,
            p50_ms: None,
            p99_ms: None,
            raw_per_second: None,
            syncs_per_op: None,
            value: Some(value),
            unit: Some(unit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_was_seen() {
        assert_eq!(percentile(&[], 50.0), 0.0);
        assert_eq!(percentile(&[1_000], 99.0), 1.0);
        let many: Vec<u32> = (1..=1_000).map(|ms| ms * 1_000).collect();
        assert_eq!(percentile(&many, 50.0), 501.0);
        assert_eq!(percentile(&many, 99.0), 991.0);
    }

    #[test]
    fn a_create_is_one_whole_request() {
        let text = String::from_utf8(create("k", "user:a", None)).expect("text");
        assert!(text.contains("prefer: respond-async\r\n"));
        assert!(text.ends_with("\r\n\r\n{\"owner\":\"user:a\"}"));
    }
}
