//! Where a scene's server lives, over all its lives, and what it leaves behind.

use anyhow::{Context, Result, ensure};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::api::Api;
use super::processes;
use super::storm::Promises;
use super::verdict::{self, Tally};
use crate::server::Server;

/// How long the world may take to come to rest after a restart: the deadline of a provision, clean-up, and a margin for
/// a slow machine.
pub(super) const REST_WITHIN: Duration = Duration::from_secs(90);

/// How long a lease is good for: [`CONFIG`] says the same.
pub(super) const LEASE: Duration = Duration::from_secs(2);

/// How often what is waited for is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Fast timers, so that a crash costs moments; the order of everything is that of production.
const CONFIG: &str = r#"
[timing]
lease = "2s"
renew = "500ms"
retry_min = "50ms"
retry_max = "1s"
[provision]
deadline = "30s"
[janitor]
dry_run = "never"
[limits]
requests_per_second_per_caller = 100000
"#;

/// A data folder, and the server over it.
pub(super) struct House {
    program: PathBuf,
    folder: PathBuf,
    config: PathBuf,
    /// Variables of every life of the server.
    pub(super) env: Vec<(&'static str, String)>,
    pub(super) install: String,
}

impl House {
    /// In `folder`, which is made. `install` is a name of its own, so that the process table can be searched for what was
    /// left behind.
    pub(super) fn new(program: &Path, folder: &Path, install: String) -> Result<Self> {
        std::fs::create_dir_all(folder.join("data"))?;
        let config = folder.join("crash.toml");
        std::fs::write(&config, format!("install_id = \"{install}\"\n{CONFIG}"))?;
        Ok(Self { program: program.to_owned(), folder: folder.to_owned(), config, env: Vec::new(), install })
    }

    /// What is the scene's own, outside the server's folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The server's data folder.
    pub(super) fn data_dir(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The registry's database, whose log is beside it.
    pub(super) fn database(&self) -> PathBuf {
        self.data_dir().join("registry.db")
    }

    /// The database's log, which exists once something was written.
    pub(super) fn database_log(&self) -> PathBuf {
        self.data_dir().join("registry.db-wal")
    }

    /// What the server says, over all its lives.
    pub(super) fn log(&self) -> PathBuf {
        self.data_dir().with_extension("log")
    }

    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    /// Starts a server, with one variable of its own if it is given.
    pub(super) fn start(&self, variable: Option<(&str, &str)>) -> Result<Server> {
        let mut env = vec![("RUST_LOG", "info")];
        env.extend(self.env.iter().map(|(name, value)| (*name, value.as_str())));
        env.extend(variable);
        Server::start(&self.program, &self.data_dir(), &["--config", text(&self.config)?], &env)
    }

    /// Ends a life of the server, if it is not over, and begins the next.
    pub(super) fn restart(&self, server: &mut Server, variable: Option<(&str, &str)>) -> Result<()> {
        server.end();
        *server = self.start(variable)?;
        Ok(())
    }

    /// Waits until the world is at rest, and holds it against everything that was promised.
    pub(super) async fn settle(&self, server: &Server, promises: &Promises, tally: &mut Tally) -> Result<()> {
        let api = Api::of(server);
        verdict::come_to_rest(&api, REST_WITHIN).await?;
        verdict::settle_accounts(self, &api, promises, tally).await?;
        verdict::check_audit(self, server, tally)?;
        let panics = self.lines_with("panicked at")?;
        tally.check(panics.is_empty(), || format!("the server panicked: {}", panics.join("; ")));
        Ok(())
    }

    /// Whether a start that was refused has said to look after the disk.
    pub(super) fn was_told_of_the_disk(&self) -> Result<bool> {
        Ok(self.lines_with("hint: ")?.last().is_some_and(|hint| hint.contains("disk")))
    }

    /// Empties the server's log. It is opened for appending, so a living server goes on in it.
    pub(super) fn forget_log(&self) -> Result<()> {
        File::create(self.log())?;
        Ok(())
    }

    /// The lines of the server's log that have `words` in them.
    pub(super) fn lines_with(&self, words: &str) -> Result<Vec<String>> {
        let lines = BufReader::new(OpenOptions::new().read(true).open(self.log())?).lines();
        Ok(lines.collect::<std::io::Result<Vec<_>>>()?.into_iter().filter(|line| line.contains(words)).collect())
    }
}

impl Drop for House {
    fn drop(&mut self) {
        // What a failed scene leaves behind is nobody's.
        if let Err(error) = processes::end(&self.install) {
            eprintln!("warning: instances of {} may still run: {error:#}", self.install);
        }
    }
}

/// A path as text, for variables and arguments.
pub(super) fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is no text; move the tree to a folder whose name is", path.display()))
}

/// Waits until `holds`, which is asked often.
pub(super) async fn until(what: &str, within: Duration, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + within;
    while !holds().with_context(|| format!("waiting until {what}"))? {
        ensure!(Instant::now() < deadline, "waited {within:?} until {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}
