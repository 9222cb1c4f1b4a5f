//! Servers in folders of their own, and what is left of them afterwards: nothing.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// How long anything may take before a test gives up.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// A folder for one test's servers. Dropping it ends every process that was started from it.
pub(crate) struct Home {
    folder: tempfile::TempDir,
    install: String,
    env: Vec<(String, String)>,
    program: PathBuf,
}

impl Home {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let install = format!("test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let env = vec![("FREEHOLD__INSTALL_ID".to_owned(), install.clone())];
        Self { folder: tempfile::tempdir().unwrap(), install, env, program: env!("CARGO_BIN_EXE_freehold").into() }
    }

    /// Another folder for the same installation, with the same settings.
    pub(crate) fn elsewhere(&self) -> Self {
        let Self { folder: _, install, env, program } = self;
        let folder = tempfile::tempdir().unwrap();
        Self { folder, install: install.clone(), env: env.clone(), program: program.clone() }
    }

    /// With a setting, by the name of its variable behind `FREEHOLD__`.
    pub(crate) fn with(mut self, setting: &str, value: &str) -> Self {
        self.set(setting, value);
        self
    }

    pub(crate) fn set(&mut self, setting: &str, value: &str) {
        self.env.push((format!("FREEHOLD__{setting}"), value.to_owned()));
    }

    /// With another program than this tree's.
    pub(crate) fn put_in_place(&mut self, program: impl Into<PathBuf>) {
        self.program = program.into();
    }

    /// With a variable of the surroundings.
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) fn key(&self) -> String {
        std::fs::read_to_string(self.data().join("operator.key")).unwrap().trim().to_owned()
    }

    /// The program with this home's settings and none of the surroundings'.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("FREEHOLD") {
                command.env_remove(name);
            }
        }
        command.args(args).envs(self.env.iter().map(|(name, value)| (name, value)));
        command.env("FREEHOLD__DATA_DIR", self.data()).env_remove("RUST_LOG").env_remove("RUST_BACKTRACE");
        command.stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    pub(crate) fn serving(&self) -> Command {
        let mut command = self.command(&["serve", "--listen", "127.0.0.1:0"]);
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path().join("log")).unwrap();
        command.stdout(Stdio::piped()).stderr(log);
        command
    }

    pub(crate) fn serve(&self) -> Server {
        self.serve_with(self.serving())
    }

    pub(crate) fn serve_with(&self, mut serving: Command) -> Server {
        Server::when_ready(serving.spawn().unwrap(), self)
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path().join("log")).unwrap_or_default()
    }

    /// The processes of this home's instances, by the machine's own list: instance and pid.
    pub(crate) fn programs(&self) -> Vec<(String, u32)> {
        let mut programs = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            let variables: Vec<&str> =
                environment.split(|byte| *byte == 0).filter_map(|pair| std::str::from_utf8(pair).ok()).collect();
            let ours = format!("FREEHOLD_INSTALL={}", self.install);
            let instance = variables.iter().find_map(|pair| pair.strip_prefix("FREEHOLD_INSTANCE_ID="));
            if let (true, Some(instance)) = (variables.contains(&ours.as_str()), instance) {
                programs.push((instance.to_owned(), pid));
            }
        }
        programs
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // The launchers end with their programs, and so may have started another one in between.
        let deadline = Instant::now() + LONG;
        loop {
            let programs = self.programs();
            if programs.is_empty() || Instant::now() > deadline {
                break;
            }
            for (_, pid) in programs {
                let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
                // One that is gone is what was wanted.
                let _ = pid.map(|pid| kill_process(pid, Signal::KILL));
            }
        }
        if std::thread::panicking() {
            eprintln!("the servers' log:\n{}", self.log());
        }
    }
}

/// A server that answers. Dropping it kills it.
pub(crate) struct Server {
    child: Child,
    said: BufReader<std::process::ChildStdout>,
    pub(crate) address: String,
    key: String,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Server {
    fn when_ready(mut child: Child, home: &Home) -> Self {
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        let Some(address) = line.trim().strip_prefix("listening on http://").map(str::to_owned) else {
            let status = child.wait().unwrap();
            panic!("the server did not come up ({status}):\n{}", home.log());
        };
        Self { child, said, address, key: home.key() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Opens a connection and sends a request with the operator's key.
    pub(crate) fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> TcpStream {
        let mut socket = TcpStream::connect(&self.address).unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        let (key, length) = (&self.key, body.len());
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {key}\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
        );
        socket.write_all(request.as_bytes()).unwrap();
        socket
    }

    pub(crate) fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let mut text = String::new();
        self.send(method, path, headers, body).read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{text}"));
        Answer { status, body: serde_json::from_str(body).unwrap_or(Value::String(body.to_owned())) }
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "", "")
    }

    /// Asks for an instance, and does not wait for it. Answers the operation.
    pub(crate) fn begin(&self, owner: &str) -> Value {
        let body = serde_json::json!({ "owner": owner }).to_string();
        let answer = self.ask("POST", "/v1/instances", "prefer: respond-async\r\n", &body);
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.body["operation"].clone()
    }

    /// Waits until what a path shows is as wanted.
    pub(crate) fn until(&self, path: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
        let deadline = Instant::now() + LONG;
        loop {
            let answer = self.get(path);
            if wanted(&answer) {
                return answer;
            }
            assert!(Instant::now() < deadline, "{path} stays {answer:?}");
            std::thread::yield_now();
        }
    }

    /// Waits until an operation is over.
    pub(crate) fn until_over(&self, operation: &Value) -> Value {
        let path = format!("/v1/operations/{}", operation["id"].as_str().unwrap());
        let over = |answer: &Answer| {
            let status = answer.body["status"].as_str();
            ["succeeded", "failed", "cancelled"].contains(&status.unwrap_or_else(|| panic!("{answer:?}")))
        };
        self.until(&path, over).body
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Kills it as a power cut would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it has ended. Answers how, and what it said on stdout beside its first line.
    pub(crate) fn ended(mut self) -> (ExitStatus, String) {
        let mut rest = String::new();
        self.said.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap(), rest)
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn end(self) -> (ExitStatus, String) {
        self.signal(Signal::TERM);
        self.ended()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that ended already is what the test wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}
