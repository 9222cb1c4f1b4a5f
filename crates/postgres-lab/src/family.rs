//! A postmaster and its children, which die together.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

/// How long a killed process may be there.
const GONE_WITHIN: Duration = Duration::from_secs(30);

/// A process and its children, itself first.
pub(crate) fn family(parent: Pid) -> Result<Vec<Pid>> {
    let id = parent.as_raw_nonzero();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
    let children = children.split_whitespace().filter_map(|child| child.parse().ok().and_then(Pid::from_raw));
    Ok(std::iter::once(parent).chain(children).collect())
}

/// Kills a process and its children at once, and returns when none is there. `reap` waits for the parent, where that is
/// this process's business.
pub(crate) fn kill_family(parent: Pid, reap: impl FnOnce() -> Result<()>) -> Result<()> {
    // One that is stopped starts no other meanwhile.
    kill_process(parent, Signal::STOP)?;
    let all = family(parent)?;
    for pid in &all {
        match kill_process(*pid, Signal::KILL) {
            // A child may have ended meanwhile.
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => return Err(error.into()),
        }
    }
    reap()?;
    // While one of them is there a cluster does not start again.
    let deadline = Instant::now() + GONE_WITHIN;
    while all.iter().any(|pid| is_alive(*pid)) {
        ensure!(Instant::now() < deadline, "a killed process is still there");
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Whether a process is there, and has not ended.
fn is_alive(process: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", process.as_raw_nonzero())).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}
