//! Real nodes on one database, behind a provider that takes its time.

use anyhow::{Context, Result};
use freehold_postgres_lab::Lab;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::http::{self, Connection};
use crate::server::{self, Server};

/// What differs from the lab's settings: everything that keeps what was committed, and room for every node.
const SETTINGS: &[(&str, &str)] = &[
    ("fsync", "on"),
    ("full_page_writes", "on"),
    ("synchronous_commit", "on"),
    ("autovacuum", "on"),
    ("shared_buffers", "1GB"),
    ("max_connections", "400"),
    ("max_wal_size", "8GB"),
];

/// A cluster, the program, and a folder for its nodes.
pub(super) struct Ground {
    lab: Lab,
    program: PathBuf,
    folder: tempfile::TempDir,
}

impl Ground {
    /// Over a program, or over the one of this tree.
    pub(super) fn new(program: Option<PathBuf>) -> Result<Self> {
        let program = program.map_or_else(|| server::build("release"), Ok)?;
        let folder =
            tempfile::Builder::new().prefix("freehold-bench-cluster-").tempdir_in(crate::workspace::target_dir())?;
        Ok(Self { lab: Lab::start_with(SETTINGS)?, program, folder })
    }

    /// An empty registry.
    pub(super) fn registry(&self) -> Result<Registry<'_>> {
        let url = self.lab.database()?;
        let name =
            url.rsplit('/').next().and_then(|rest| rest.split('?').next()).context("a URL without a database")?;
        Ok(Registry { ground: self, name: name.to_owned(), url })
    }
}

/// A database that nodes share.
pub(super) struct Registry<'g> {
    ground: &'g Ground,
    name: String,
    url: String,
}

/// A node that runs.
pub(super) struct Node {
    pub(super) name: String,
    pub(super) server: Server,
}

impl Registry<'_> {
    /// Starts a node of that name. Each call of its provider takes `latency`.
    pub(super) fn node(&self, name: &str, latency: Duration) -> Result<Node> {
        let data_dir = self.ground.folder.path().join(format!("{}-{name}", self.name));
        std::fs::create_dir_all(&data_dir)?;
        let config = data_dir.with_extension("toml");
        std::fs::write(
            &config,
            format!(
                "node_id = \"{name}\"\n[registry]\nurl = \"{}\"\n\
                 [providers.local]\nkind = \"fake\"\nlatency = \"{}ms\"\n\
                 [limits]\nrequests_per_second_per_caller = 1000000\n[provision]\ndeadline = \"10m\"\n",
                self.url,
                latency.as_millis()
            ),
        )?;
        let config = text(&config)?;
        let server = Server::start(&self.ground.program, &data_dir, &["--config", &config], &[("RUST_LOG", "warn")])?;
        Ok(Node { name: name.to_owned(), server })
    }

    /// The first column of every row.
    pub(super) fn rows(&self, select: &str) -> Result<Vec<String>> {
        Ok(self.ground.lab.sql(&self.name, select)?.lines().map(str::to_owned).collect())
    }

    /// A number.
    pub(super) fn number(&self, select: &str) -> Result<i64> {
        let said = self.ground.lab.sql(&self.name, select)?;
        said.trim().parse().with_context(|| format!("{said:?} is no number: {select}"))
    }
}

impl Node {
    /// Asks for an instance for each owner, over one connection, and does not wait for any of them.
    pub(super) async fn ask_for(&self, owners: impl Iterator<Item = String>) -> Result<()> {
        let mut connection = Connection::open(&self.server.address).await?;
        for owner in owners {
            let body = format!(r#"{{"owner":"user:{owner}"}}"#);
            let request =
                http::request("POST", "/v1/instances", &self.server.key, &["prefer: respond-async"], Some(&body));
            let answer = connection.send(&request).await?;
            anyhow::ensure!(
                answer.status == 202,
                "{owner} was answered {}: {}",
                answer.status,
                String::from_utf8_lossy(&answer.body)
            );
        }
        Ok(())
    }
}

fn text(path: &Path) -> Result<String> {
    Ok(path.to_str().context("a folder whose name is no text")?.to_owned())
}

/// Microseconds since the Unix epoch, by the clock that the database of this machine has too.
pub(super) fn now_micros() -> Result<i64> {
    Ok(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros())?)
}

/// Looks again until it is so.
pub(super) async fn until(what: &str, patience: Duration, is_so: impl Fn() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + patience;
    while !is_so()? {
        anyhow::ensure!(Instant::now() < deadline, "{what}: not within {patience:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}
