//! The launcher: a process of its own between the server and the program, so that neither's end is the other's.
//!
//! The server starts it with the order on standard input, so that no secret is ever an argument, and reads one line with
//! what came of it. It leaves the server's session first. Then it must win the launch: under the folder's lock it checks
//! that there is no tombstone and that nothing lives, takes the launch lock, reserves the port, starts the program and
//! writes down what it started. The program inherits the launch lock, so even one that nobody wrote down is known to be
//! there. Then it copies what the program says to the log, waits, ends what the program left behind, and writes down how
//! it ended.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use freehold_domain::ids::InstanceId;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::folder::{Folder, Layout};
use super::kernel::{self, Identity};
use super::log::{self, Log};
use super::record::{self, Exit, INSTANCE_VARIABLE, LAUNCH_VARIABLE, MAC_VARIABLE, Marker, Record};
use super::{cgroup, durable, kill, ports};

/// The largest order, in bytes: the largest set of arguments and variables that Linux starts a program with, and room
/// for its quoting.
const ORDER_BYTES_MAX: u64 = 8 << 20;

/// How long a launch waits for its turn. Whoever has it takes a few milliseconds.
const TURN_TIMEOUT: Duration = Duration::from_secs(5);

/// How long what is left of the launch before may take to end.
const LAST_LAUNCH_TIMEOUT: Duration = Duration::from_secs(2);

/// How long to wait before asking for the launch lock again.
const LOCK_POLL: Duration = Duration::from_millis(2);

/// How long the last words of a dead program may be on their way.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_millis(500);

/// The longest part of a program's last line that is shown, in characters.
const LAST_LINE_CHARS_MAX: usize = 200;

/// What to launch.
#[derive(Serialize, Deserialize)]
pub(super) struct LaunchOrder {
    pub(super) data_dir: PathBuf,
    pub(super) instance: String,
    pub(super) install: String,
    pub(super) mac: String,
    pub(super) name: String,
    pub(super) command: Vec<String>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) memory_mb: u32,
    pub(super) cpu_millis: u32,
    pub(super) first_port: u16,
    pub(super) last_port: u16,
    pub(super) cgroups: Option<PathBuf>,
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Report {
    /// It runs, and is on record.
    Started(Record),
    /// It ran already.
    Running(Record),
    /// The tombstone was there first.
    Sealed,
    /// There is no base, or not one of these tags.
    NoBase,
    /// Every port is taken.
    NoPort,
    /// The system did not start the program.
    NotExecuted { errno: Option<i32>, detail: String },
    /// Nothing was started.
    Failed(String),
    /// Something that is not on record still holds the launch lock.
    Occupied,
}

/// What the hidden subcommand `shim` of the binary does: launches what is ordered on standard input, answers with one
/// line on standard output, and stays until the program ends.
#[must_use]
pub fn shim_main() -> ExitCode {
    // Fails only if it leads a session already.
    rustix::process::setsid().ok();
    let report = |report: &Report| {
        let mut output = io::stdout().lock();
        // The server may be gone; the launch stands.
        drop(serde_json::to_writer(&mut output, report));
        drop(output.write_all(b"\n").and_then(|()| output.flush()));
    };
    let order = std::env::set_current_dir("/").and_then(|()| read_order());
    match order.and_then(|order| Launch::prepare(&order)?.win(&order)) {
        Ok(Won::Started(launch)) => {
            report(&Report::Started(launch.record.clone()));
            launch.attend()
        }
        Ok(Won::Nothing(why)) => {
            report(&why);
            ExitCode::SUCCESS
        }
        Err(error) => {
            report(&Report::Failed(error.to_string()));
            ExitCode::FAILURE
        }
    }
}

fn read_order() -> io::Result<LaunchOrder> {
    let mut text = Vec::new();
    io::stdin().lock().take(ORDER_BYTES_MAX).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

struct Launch {
    layout: Layout,
    folder: Folder,
    instance: InstanceId,
    marker: Marker,
}

enum Won {
    Started(Running),
    Nothing(Report),
}

struct Running {
    folder: Folder,
    marker: Marker,
    record: Record,
    child: Child,
    /// Held for as long as the program lives, and a little longer.
    lock: File,
}

impl Launch {
    fn prepare(order: &LaunchOrder) -> io::Result<Self> {
        let instance: InstanceId = order.instance.parse().map_err(io::Error::other)?;
        let layout = Layout::new(order.data_dir.clone());
        let folder = layout.folder(instance);
        Ok(Self { layout, folder, instance, marker: Marker::new(&order.instance, &order.mac) })
    }

    /// Everything up to the record happens under the folder's lock. An error means that nothing was started.
    fn win(self, order: &LaunchOrder) -> io::Result<Won> {
        let Some(turn) = durable::there(self.folder.lock(Instant::now() + TURN_TIMEOUT)).transpose() else {
            return Ok(Won::Nothing(Report::NoBase));
        };
        let Some(_turn) = turn? else {
            return Ok(Won::Nothing(Report::Failed("another launch or clean-up takes too long".to_owned())));
        };
        if self.folder.is_sealed()? {
            return Ok(Won::Nothing(Report::Sealed));
        }
        if !self.folder.owner_tags()?.is_some_and(|tags| tags.mac == order.mac && tags.instance == order.instance) {
            return Ok(Won::Nothing(Report::NoBase));
        }
        let known = Record::read(&self.folder)?;
        if let Some(record) = &known
            && record.is_alive(&self.folder, &self.marker)?
        {
            if !record::is_to_stop(&self.folder, record)? {
                return Ok(Won::Nothing(Report::Running(record.clone())));
            }
            if !see_off(record)? {
                return Ok(Won::Nothing(Report::Failed("the program that is to stop does not end".to_owned())));
            }
        }
        if let Some(found) = record::unrecorded(known.as_ref(), &self.marker.processes()?)? {
            durable::replace_record(&self.folder.runtime(), &found)?;
            return Ok(Won::Nothing(Report::Running(found)));
        }
        let Some(lock) = self.take_over(known.map_or(0, |record| record.launch))? else {
            return Ok(Won::Nothing(Report::Occupied));
        };
        let range = order.first_port..=order.last_port;
        let Some(port) = ports::reserve(&self.layout, &self.folder, self.instance, &range)? else {
            return Ok(Won::Nothing(Report::NoPort));
        };
        if let Some(base) = &order.cgroups {
            cgroup::enter(&self.folder, base, &order.name, order.memory_mb, order.cpu_millis)?;
        }
        self.start(order, lock, port)
    }

    /// Ends what is left of the launch before, and takes the launch lock.
    fn take_over(&self, last_launch: u64) -> io::Result<Option<File>> {
        let deadline = Instant::now() + LAST_LAUNCH_TIMEOUT;
        kill::leftovers(&self.marker, last_launch, deadline)?;
        if let Some(lock) = self.await_launch_lock(deadline)? {
            return Ok(Some(lock));
        }
        for holder in kernel::appending_to(&self.folder.launch_lock())? {
            kernel::signal(holder, Signal::KILL)?;
        }
        self.await_launch_lock(Instant::now() + LAST_LAUNCH_TIMEOUT)
    }

    fn await_launch_lock(&self, deadline: Instant) -> io::Result<Option<File>> {
        loop {
            if let Some(lock) = self.folder.take_launch_lock()? {
                return Ok(Some(lock));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            thread::sleep(LOCK_POLL);
        }
    }

    fn start(self, order: &LaunchOrder, lock: File, port: u16) -> io::Result<Won> {
        let launch = record::next_launch(&self.folder)?;
        let shim = kernel::own_identity()?;
        let boot = kernel::boot_id()?;
        // From here on a program that we start has the lock as well, however this process ends.
        fcntl_setfd(&lock, FdFlags::empty())?;
        let mut child = match self.command(order, launch, port)?.spawn() {
            Ok(child) => child,
            Err(error) => {
                let (errno, detail) = (error.raw_os_error(), error.to_string());
                return Ok(Won::Nothing(Report::NotExecuted { errno, detail }));
            }
        };
        let written = identity_of(&child).and_then(|main| {
            let record = Record { launch, boot, shim: Some(shim), main, port };
            durable::replace_record(&self.folder.runtime(), &record).map(|()| record)
        });
        match written {
            Ok(record) => Ok(Won::Started(Running { folder: self.folder, marker: self.marker, record, child, lock })),
            Err(error) => {
                // What is not on record must not live. Our own child cannot be anybody else: we did not wait for it.
                child.kill()?;
                child.wait()?;
                kill::leftovers(&self.marker, launch, Instant::now() + LAST_LAUNCH_TIMEOUT)?;
                Err(error)
            }
        }
    }

    fn command(&self, order: &LaunchOrder, launch: u64, port: u16) -> io::Result<Command> {
        let Some((program, arguments)) = order.command.split_first() else {
            return Err(io::Error::other("the command is empty"));
        };
        let volume = self.folder.volume();
        let has_volume = durable::is_there(&volume)?;
        let place = if has_volume { volume } else { self.folder.work() };
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("HOME", &place).envs(&order.env);
        if has_volume {
            command.env("FREEHOLD_VOLUME", &place);
        }
        command
            .env("PORT", port.to_string())
            .env("FREEHOLD_INSTALL", &order.install)
            .env(INSTANCE_VARIABLE, &order.instance)
            .env(MAC_VARIABLE, &order.mac)
            .env(LAUNCH_VARIABLE, launch.to_string())
            .current_dir(&place)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Ok(command)
    }
}

/// Waits for the end of a program that was asked to stop, and kills it where whoever asked went away. Says whether it
/// is dead.
fn see_off(record: &Record) -> io::Result<bool> {
    if !kernel::await_death(record.main, Instant::now() + super::GRACE)? {
        kernel::signal(record.main, Signal::KILL)?;
    }
    kernel::await_death(record.main, Instant::now() + LAST_LAUNCH_TIMEOUT)
}

fn identity_of(child: &Child) -> io::Result<Identity> {
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    kernel::stat(pid)?.map(|stat| stat.id).ok_or_else(|| io::Error::other("the program is not in /proc"))
}

impl Running {
    /// Copies, waits, tidies up, writes down how it ended.
    fn attend(mut self) -> ExitCode {
        let log = Arc::new(Log::open(self.folder.logs(), log::FILE_BYTES_MAX));
        let (finished, last_words) = mpsc::channel();
        let copy = |source: Option<Box<dyn Read + Send>>, is_error: bool| {
            let (log, finished) = (Arc::clone(&log), finished.clone());
            thread::spawn(move || {
                let last = source.map(|source| log::pump(source, &log)).unwrap_or_default();
                // Nobody listens any more if the program is long dead and something else kept its output open.
                drop(finished.send((is_error, last)));
            });
        };
        copy(self.child.stdout.take().map(|stream| Box::new(stream) as _), false);
        copy(self.child.stderr.take().map(|stream| Box::new(stream) as _), true);
        let status = self.child.wait();
        let deadline = Instant::now() + LAST_WORDS_TIMEOUT;
        let tidied = kill::leftovers(&self.marker, self.record.launch, deadline);
        let mut last_line = Vec::new();
        for _ in 0..2 {
            match last_words.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok((true, line)) => last_line = line,
                Ok((false, _)) => {}
                Err(_) => break,
            }
        }
        let how = match status {
            Ok(status) => describe(status, &last_line),
            Err(error) => format!("nobody saw how it ended: {error}"),
        };
        let written = durable::replace_record(&self.folder.exit(), &Exit { launch: self.record.launch, how });
        drop(self.lock);
        if written.is_ok() && tidied.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// How a program ended, in words.
fn describe(status: ExitStatus, last_line: &[u8]) -> String {
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "it ended in a way that has no name".to_owned(),
    };
    let line = String::from_utf8_lossy(last_line);
    let line: String = line.trim().chars().filter(|one| !one.is_control()).take(LAST_LINE_CHARS_MAX).collect();
    if line.is_empty() { how } else { format!("{how}: {line}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_in_words() {
        assert_eq!(
            describe(ExitStatus::from_raw(127 << 8), b"sh: foo: not found\r"),
            "exit status 127: sh: foo: not found"
        );
        assert_eq!(describe(ExitStatus::from_raw(9), b""), "killed by signal 9");
        let long = describe(ExitStatus::from_raw(1 << 8), "\u{1b}[31m\u{fc}".repeat(500).as_bytes());
        assert_eq!(long.chars().count(), "exit status 1: ".len() + LAST_LINE_CHARS_MAX);
    }
}
