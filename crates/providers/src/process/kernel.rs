//! Processes as Linux shows them in `/proc` (proc(5)).
//!
//! A process is its pid *and* its start time: a pid alone may be somebody else by the time it is used. A zombie is dead,
//! however slowly it is reaped. A signal goes through a pidfd that was opened before the start time was compared, so it
//! cannot reach anybody else.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// A process, for as long as this boot of the machine lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Identity {
    /// The process id.
    pub(super) pid: i32,
    /// When it started, in clock ticks since boot: field 22 of `/proc/PID/stat`.
    pub(super) start: u64,
}

/// What `/proc/PID/stat` says of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) id: Identity,
    pub(super) group: i32,
    pub(super) dead: bool,
}

/// Reads what a process is. `None` if there is none.
pub(super) fn stat(pid: i32) -> io::Result<Option<Stat>> {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(text) => parse_stat(pid, &text)
            .map(Some)
            .ok_or_else(|| io::Error::new(ErrorKind::InvalidData, format!("/proc/{pid}/stat makes no sense"))),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn parse_stat(pid: i32, text: &str) -> Option<Stat> {
    // The second field is the program's name in brackets, and may itself contain brackets and spaces.
    let mut fields = text[text.rfind(')')? + 1..].split_ascii_whitespace();
    let state = fields.next()?;
    let group = fields.nth(1)?.parse().ok()?;
    let start = fields.nth(16)?.parse().ok()?;
    Some(Stat { id: Identity { pid, start }, group, dead: matches!(state, "Z" | "X" | "x") })
}

/// A process that ended between two looks.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

/// Whether the process runs. A zombie does not.
pub(super) fn is_alive(id: Identity) -> io::Result<bool> {
    Ok(stat(id.pid)?.is_some_and(|stat| stat.id == id && !stat.dead))
}

/// This process.
pub(super) fn own_identity() -> io::Result<Identity> {
    let pid = i32::try_from(std::process::id()).map_err(io::Error::other)?;
    stat(pid)?.map(|stat| stat.id).ok_or_else(|| io::Error::other("this process is not in /proc"))
}

/// This boot of the machine: pids and start times mean nothing beyond it.
pub(super) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// How long ago a process started.
pub(super) fn age(id: Identity) -> io::Result<Duration> {
    let text = fs::read_to_string("/proc/uptime")?;
    let uptime = text.split_ascii_whitespace().next().and_then(|seconds| seconds.parse::<f64>().ok());
    let uptime = uptime.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "/proc/uptime makes no sense"))?;
    #[expect(clippy::cast_precision_loss, reason = "exact for the first million years of uptime")]
    let started = id.start as f64 / rustix::param::clock_ticks_per_second() as f64;
    Ok(Duration::from_secs_f64((uptime - started).max(0.0)))
}

/// The pids there are.
fn pids() -> io::Result<Vec<i32>> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        if let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) {
            pids.push(pid);
        }
    }
    Ok(pids)
}

/// A living process that carries what was looked for, and the environment it was started with.
#[derive(Debug)]
pub(super) struct Marked {
    pub(super) stat: Stat,
    environment: Vec<u8>,
}

impl Marked {
    /// A variable of the environment it was started with.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        variables(&self.environment)
            .find_map(|(key, value)| (key == name.as_bytes()).then_some(value))
            .and_then(|value| std::str::from_utf8(value).ok())
    }
}

fn variables(environment: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    environment.split(|byte| *byte == 0).filter_map(|pair| {
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        Some((&pair[..equals], &pair[equals + 1..]))
    })
}

/// Every living process that was started with all of `marker` in its environment, oldest first.
pub(super) fn marked(marker: &[(&str, &str)]) -> io::Result<Vec<Marked>> {
    let mut found = Vec::new();
    for pid in pids()? {
        let Some(stat) = stat(pid)?.filter(|stat| !stat.dead) else { continue };
        let environment = match fs::read(format!("/proc/{pid}/environ")) {
            Ok(environment) => environment,
            // Not ours, or gone meanwhile.
            Err(error) if is_gone(&error) || error.kind() == ErrorKind::PermissionDenied => continue,
            Err(error) => return Err(error),
        };
        if carries_all(&environment, marker) {
            found.push(Marked { stat, environment });
        }
    }
    found.sort_by_key(|process| (process.stat.id.start, process.stat.id.pid));
    Ok(found)
}

/// Whether a process was started with all of `marker` in its environment. `None` if that cannot be read; a program may
/// also have overwritten it since.
pub(super) fn carries(pid: i32, marker: &[(&str, &str)]) -> io::Result<Option<bool>> {
    match fs::read(format!("/proc/{pid}/environ")) {
        Ok(environment) => Ok(Some(carries_all(&environment, marker))),
        Err(error) if is_gone(&error) => Ok(Some(false)),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(None),
        Err(error) => Err(error),
    }
}

fn carries_all(environment: &[u8], marker: &[(&str, &str)]) -> bool {
    marker.iter().all(|(name, value)| {
        variables(environment).any(|(key, found)| key == name.as_bytes() && found == value.as_bytes())
    })
}

/// Every living process that has a file open for appending: how a launch lock is held, and no other look at it is.
pub(super) fn appending_to(file: &Path) -> io::Result<Vec<Identity>> {
    let Some(wanted) = super::durable::there(fs::metadata(file))? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for pid in pids()? {
        let Some(stat) = stat(pid)?.filter(|stat| !stat.dead) else { continue };
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        let holds = descriptors.flatten().any(|descriptor| {
            let same = fs::metadata(descriptor.path())
                .is_ok_and(|open| (open.dev(), open.ino()) == (wanted.dev(), wanted.ino()));
            same && opened_for_appending(pid, &descriptor.file_name().to_string_lossy())
        });
        if holds {
            found.push(stat.id);
        }
    }
    Ok(found)
}

fn opened_for_appending(pid: i32, descriptor: &str) -> bool {
    let Ok(text) = fs::read_to_string(format!("/proc/{pid}/fdinfo/{descriptor}")) else { return false };
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:")).map(str::trim);
    let flags = flags.and_then(|flags| u32::from_str_radix(flags, 8).ok()).unwrap_or(0);
    flags & rustix::fs::OFlags::APPEND.bits() != 0
}

fn open(id: Identity) -> io::Result<Option<OwnedFd>> {
    let Some(pid) = Pid::from_raw(id.pid) else { return Ok(None) };
    let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(rustix::io::Errno::SRCH) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // Only after it is held: from here on the number cannot become somebody else behind our back.
    Ok(is_alive(id)?.then_some(pidfd))
}

/// Sends a signal to exactly this process. Nothing happens if it is gone.
pub(super) fn signal(id: Identity, signal: Signal) -> io::Result<()> {
    let Some(pidfd) = open(id)? else { return Ok(()) };
    match pidfd_send_signal(&pidfd, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Waits until a process is dead, at most until `deadline`. Says whether it is.
pub(super) fn await_death(id: Identity, deadline: Instant) -> io::Result<bool> {
    let Some(pidfd) = open(id)? else { return Ok(true) };
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)) {
            Ok(0) if left.is_zero() => return Ok(false),
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_name_with_brackets_and_spaces_is_read_right() {
        let text = "7 (a) b (c)) S 1 42 43 0 -1 4194560 1 0 0 0 2 3 0 0 20 0 1 0 777 1 2";
        let stat = parse_stat(7, text).unwrap();
        assert_eq!(stat, Stat { id: Identity { pid: 7, start: 777 }, group: 42, dead: false });
        assert!(parse_stat(7, &text.replace(") S", ") Z")).unwrap().dead);
        assert_eq!(parse_stat(7, "7 (a"), None);
    }

    #[test]
    fn a_process_of_another_start_time_is_somebody_else_and_gets_no_signal() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let id = stat(i32::try_from(child.id()).unwrap()).unwrap().unwrap().id;
        let before = Identity { start: id.start - 1, ..id };
        assert!(is_alive(id).unwrap() && !is_alive(before).unwrap());
        signal(before, Signal::KILL).unwrap();
        assert!(await_death(before, Instant::now()).unwrap(), "the earlier one is dead");
        assert!(!await_death(id, Instant::now()).unwrap(), "this one is not");
        signal(id, Signal::KILL).unwrap();
        assert!(await_death(id, Instant::now() + Duration::from_secs(10)).unwrap());
        assert!(!is_alive(id).unwrap(), "a zombie is dead");
        assert!(stat(id.pid).unwrap().unwrap().dead);
        child.wait().unwrap();
        assert_eq!(stat(id.pid).unwrap(), None);
    }

    #[test]
    fn marked_processes_are_found_by_the_whole_marker() {
        let nonce = format!("kernel-test-{}", std::process::id());
        let mut child =
            Command::new("sleep").arg("60").env("A", &nonce).env("B", "2").stdin(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        let found = loop {
            // Between fork and exec the child still has our environment.
            let found = marked(&[("A", &nonce), ("B", "2")]).unwrap();
            if !found.is_empty() {
                break found;
            }
            assert!(Instant::now() < deadline, "the child never showed up");
            std::thread::yield_now();
        };
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].variable("B"), Some("2"));
        assert!(age(found[0].stat.id).unwrap() < Duration::from_secs(60));
        assert!(marked(&[("A", &nonce), ("B", "3")]).unwrap().is_empty());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(marked(&[("A", &nonce)]).unwrap().is_empty());
    }
}
