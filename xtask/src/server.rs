//! The real program, started in a folder of its own, for measuring and for crash tests.

use anyhow::{Context, Result, bail, ensure};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::workspace;

/// How long the program may take until it says that it listens.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// A running server. Dropping it kills it.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: String,
    pub(crate) key: String,
    pub(crate) ready_after: Duration,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// Builds the program in `profile` and answers where it is.
pub(crate) fn build(profile: &str) -> Result<PathBuf> {
    eprintln!("building freehold ({profile}) …");
    let arguments = ["build", "--quiet", "--locked", "--package", "freehold", "--profile", profile];
    workspace::succeed(workspace::cargo().args(arguments))?;
    // The folder of the profile `dev` has another name, for reasons of age.
    let folder = if profile == "dev" { "debug" } else { profile };
    Ok(workspace::target_dir().join(folder).join("freehold"))
}

impl Server {
    /// Starts `program` over `data_dir` and waits until it listens. `arguments` come behind `serve`.
    pub(crate) fn start(program: &Path, data_dir: &Path, arguments: &[&str], env: &[(&str, &str)]) -> Result<Self> {
        let began = Instant::now();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(data_dir.with_extension("log"))?;
        let mut child = Command::new(program)
            .arg("serve")
            .args(["--listen", "127.0.0.1:0"])
            .arg("--data-dir")
            .arg(data_dir)
            .args(arguments)
            .envs(env.iter().copied())
            .env_remove("FREEHOLD_PLATFORM_KEY")
            .env_remove("FREEHOLD_OPERATOR_KEY")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let stdout = child.stdout.take().context("a server without a standard output")?;
        let mut line = String::new();
        // The program says one line, or ends: either way this read ends.
        BufReader::new(stdout).read_line(&mut line)?;
        let Some(address) = line.trim().strip_prefix("listening on http://").map(str::to_owned) else {
            let status = child.wait()?;
            bail!("the server did not come up ({status}); its log is {}", data_dir.with_extension("log").display());
        };
        let ready_after = began.elapsed();
        ensure!(ready_after < READY_WITHIN, "the server took {ready_after:?} to come up");
        let key = std::fs::read_to_string(data_dir.join("operator.key")).context("reading the operator key")?;
        Ok(Self { child, address, key: key.trim().to_owned(), ready_after })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it, as nothing can be prepared for, and waits until it is gone.
    pub(crate) fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Whether it went away by itself.
    pub(crate) fn is_dead(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Resident memory, in bytes.
    pub(crate) fn resident_bytes(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a process without VmRSS")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse().context("VmRSS that is no number")?;
        Ok(kib * 1024)
    }
}
