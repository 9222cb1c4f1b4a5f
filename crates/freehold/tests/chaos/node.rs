//! One server over all its lives: killed, frozen, and with a clock that somebody turns.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// The operator's key of every server.
pub(crate) const KEY: &str = "the-operators-key-of-the-chaos-campaign";

/// Debian puts the library below a folder that is named by the machine.
fn faketime() -> PathBuf {
    freehold_postgres_lab::need(&[("/usr/bin/faketime", "faketime")]).unwrap();
    let machines = std::fs::read_dir("/usr/lib").unwrap().flatten();
    let places = machines.map(|machine| machine.path().join("faketime/libfaketimeMT.so.1"));
    places.into_iter().find(|place| place.exists()).expect("the package `faketime` has its library")
}

/// A server, alive or not.
#[derive(Debug)]
pub(crate) struct Node {
    folder: PathBuf,
    config: PathBuf,
    registry: String,
    faketime: PathBuf,
    life: Option<Child>,
}

impl Node {
    /// In a folder of its own, with the others' configuration and its own way to the registry. It does not run.
    pub(crate) fn new(folder: &Path, config: &Path, registry: String) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let node =
            Self { folder: folder.to_owned(), config: config.to_owned(), registry, faketime: faketime(), life: None };
        node.turn_clock(0);
        node
    }

    /// Starts a life, and answers where it listens; `None` if the server ended first, because its registry was away.
    pub(crate) fn start(&mut self) -> Option<SocketAddr> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_freehold"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--config"]).arg(&self.config);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("FREEHOLD") {
                command.env_remove(name);
            }
        }
        command.env("FREEHOLD__DATA_DIR", self.folder.join("data"));
        command.env("FREEHOLD__REGISTRY__URL", &self.registry);
        command.env("FREEHOLD_OPERATOR_KEY", KEY).env("FLY_TOKEN", "flysim").env("RUST_LOG", "info");
        // The wall clock only: what a node measures with the other one is real.
        command.env("LD_PRELOAD", &self.faketime).env("FAKETIME_TIMESTAMP_FILE", self.clock());
        command.env("FAKETIME_CACHE_DURATION", "1").env("DONT_FAKE_MONOTONIC", "1");
        command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("NO_FAKE_STAT", "1");
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        // The program says one line, or ends: either way this read ends.
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").and_then(|address| address.parse().ok());
        if address.is_none() {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        self.life = Some(child);
        address
    }

    /// Kills it, as nothing can be prepared for.
    pub(crate) fn kill(&mut self) {
        if let Some(mut life) = self.life.take() {
            let _ = life.kill();
            let _ = life.wait();
        }
    }

    /// Whether it runs. It ends by itself only where something is wrong.
    pub(crate) fn runs(&mut self) -> bool {
        self.life.as_mut().is_some_and(|life| life.try_wait().unwrap().is_none())
    }

    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        if let Some(life) = &self.life {
            kill_process(Pid::from_child(life), signal).unwrap();
        }
    }

    /// Turns its wall clock, in seconds against the real one. It reads that once a second.
    pub(crate) fn turn_clock(&self, seconds: i64) {
        let fresh = self.clock().with_extension("new");
        std::fs::write(&fresh, format!("{seconds:+}\n")).unwrap();
        std::fs::rename(fresh, self.clock()).unwrap();
    }

    fn clock(&self) -> PathBuf {
        self.folder.join("clock")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// The lines of its log, of all its lives, that have some words in them.
    pub(crate) fn lines_with(&self, words: &str) -> Vec<String> {
        let log = std::fs::read(self.log()).unwrap_or_default();
        String::from_utf8_lossy(&log).lines().filter(|line| line.contains(words)).map(str::to_owned).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}
