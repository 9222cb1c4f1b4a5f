//! The demo's server: this very program, in a process of its own, so that it can really be killed.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::exit::Failure;

/// How long the server may take until it answers: a thousand times what it needs.
const READY_MAX: Duration = Duration::from_secs(30);

/// How long the server may take to end after it was asked to.
const END_MAX: Duration = Duration::from_secs(30);

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    /// Kept open: a server that cannot say anything any more is another test.
    _said: Lines<BufReader<ChildStdout>>,
    /// Where it answers: `127.0.0.1:7788`.
    pub(super) address: String,
    /// How long it took until it did.
    pub(super) ready_after: Duration,
}

/// Where a demo's things are.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The demo's folder.
    pub(super) folder: PathBuf,
}

impl Place {
    pub(super) fn config(&self) -> PathBuf {
        self.folder.join("freehold.toml")
    }

    pub(super) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("server.log")
    }
}

impl Server {
    /// Starts a server at `listen`, or at a free port where somebody else has that one: nobody keeps a port between two
    /// lives of a server.
    ///
    /// # Errors
    /// A server that does not come up; its log says why.
    pub(super) async fn start_at_best(place: &Place, listen: &str) -> Result<Self, Failure> {
        let is_free = std::net::TcpListener::bind(listen).is_ok();
        match if is_free { Some(Self::start(place, listen).await) } else { None } {
            Some(Ok(server)) => Ok(server),
            // It may have been taken since.
            Some(Err(_)) | None => Self::start(place, "127.0.0.1:0").await,
        }
    }

    /// Starts a server and waits until it answers.
    ///
    /// # Errors
    /// A server that does not come up; its log says why.
    async fn start(place: &Place, listen: &str) -> Result<Self, Failure> {
        let began = Instant::now();
        let program = std::env::current_exe()?;
        let mut child = command(&program, place, listen)?.spawn()?;
        let stdout = child.stdout.take().ok_or_else(|| Failure::failed("the server has no standard output"))?;
        let mut said = BufReader::new(stdout).lines();
        let line = tokio::time::timeout(READY_MAX, said.next_line()).await;
        let line = line.map_err(|_| died(place, &format!("said nothing within {READY_MAX:?}")))??;
        let address = line.as_deref().and_then(|line| line.strip_prefix("listening on http://"));
        let Some(address) = address.map(str::to_owned) else {
            let status = child.wait().await?;
            return Err(died(place, &format!("did not come up ({status})")));
        };
        Ok(Self { child, _said: said, address, ready_after: began.elapsed() })
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }

    /// Whether it has not ended.
    pub(super) fn is_up(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Kills it with −9.
    ///
    /// # Errors
    /// A process that cannot be killed.
    pub(super) async fn kill(&mut self) -> Result<(), Failure> {
        Ok(self.child.kill().await?)
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// A process that cannot be waited for.
    pub(super) async fn ended(&mut self) -> Result<ExitStatus, Failure> {
        Ok(self.child.wait().await?)
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Errors
    /// A server that does not end, or ends badly.
    pub(super) async fn end(mut self, place: &Place) -> Result<(), Failure> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            kill_process(pid, Signal::TERM).map_err(std::io::Error::from)?;
        }
        match tokio::time::timeout(END_MAX, self.child.wait()).await {
            Ok(status) if status.as_ref().is_ok_and(ExitStatus::success) => Ok(()),
            Ok(status) => Err(died(place, &format!("ended badly ({})", status?))),
            Err(_) => Err(died(place, &format!("did not end within {END_MAX:?}"))),
        }
    }
}

fn command(program: &Path, place: &Place, listen: &str) -> Result<Command, Failure> {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(place.log())?;
    let mut command = Command::new(program);
    command
        .args(["serve", "--listen", listen, "--config"])
        .arg(place.config())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        // Ctrl-C is for the demo, which ends the server when it has cleaned up.
        .process_group(0)
        .kill_on_drop(true);
    // What is set for another server is not for this one.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FREEHOLD") {
            command.env_remove(name);
        }
    }
    Ok(command)
}

fn died(place: &Place, how: &str) -> Failure {
    Failure::failed(format!("the demo's server {how}")).hint(format!("its log is {}", place.log().display()))
}
