//! A process provider over a temporary folder, and a view of its processes that is not its own.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use freehold_domain::ids::InstanceId;
use freehold_domain::owner::Context;
use freehold_domain::resource::{Outcome, Resource, ResourceKind, RuntimeState};
use freehold_engine::ident::Idents;
use freehold_engine::ports::{Blueprint, Ident, Made, Order, Provider};
use freehold_providers::process::{Launcher, ProcessOptions, ProcessProvider};
use rustix::process::{Pid, Signal, kill_process};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a program gets to end in tests.
const GRACE: Duration = Duration::from_secs(1);

pub(crate) fn on_two_threads(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(test);
}

/// Waits until something holds.
pub(crate) async fn eventually(what: &str, holds: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) struct World {
    data_dir: PathBuf,
    owned: Option<tempfile::TempDir>,
    idents: Idents,
    pub(crate) provider: ProcessProvider,
}

fn open(data_dir: &Path, launcher: Launcher, idents: &Idents) -> ProcessProvider {
    // Test binaries run at the same time, each with a folder of its own, so their ranges are kept apart as well.
    let first = 20_000 + (std::process::id() % 390) as u16 * 25;
    let ports = first..=first + 24;
    let options = ProcessOptions { launcher, ports, grace: GRACE, ..ProcessOptions::new(data_dir.to_owned()) };
    ProcessProvider::open(options, idents.clone()).unwrap()
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut world = Self::over(dir.path().to_owned());
        world.owned = Some(dir);
        world
    }

    /// A world in a folder that somebody else cleans up.
    pub(crate) fn over(data_dir: PathBuf) -> Self {
        let idents = Idents::new("test".parse().unwrap(), &[1; 32]);
        Self { provider: open(&data_dir, shim(), &idents), data_dir, owned: None, idents }
    }

    pub(crate) fn use_launcher(&mut self, program: &str, arguments: &[&str]) {
        let launcher = Launcher { program: program.into(), arguments: arguments.iter().map(Into::into).collect() };
        self.provider = open(&self.data_dir, launcher, &self.idents);
    }

    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    pub(crate) fn ident(&self, n: u8) -> Ident {
        let context = Context::new("user:alice".parse().unwrap(), None).unwrap();
        // The folder's name tells worlds apart: markers are looked for on the whole machine.
        let name = self.data_dir.file_name().unwrap().as_encoded_bytes();
        let mut chance = [n; 10];
        chance[4..].copy_from_slice(&name[name.len() - 6..]);
        self.idents.of(InstanceId::mint(1, chance), &context)
    }

    pub(crate) fn folder(&self, ident: &Ident) -> PathBuf {
        self.data_dir.join("instances").join(ident.instance.to_string())
    }

    pub(crate) async fn ensure_base(&self, ident: &Ident) {
        let blueprint = blueprint(&["sleep", "3600"]);
        let order = Order { ident, blueprint: &blueprint, resources: &[] };
        assert!(matches!(self.provider.ensure_base(&order).await, Outcome::Done(_)));
    }

    pub(crate) async fn ensure_runtime(&self, ident: &Ident) -> Made {
        match self.try_runtime(ident, &["sleep", "3600"]).await {
            Outcome::Done(made) => made,
            other => panic!("{other:?}"),
        }
    }

    /// Base, storage and a runtime that sleeps.
    pub(crate) async fn ensure(&self, ident: &Ident) -> Made {
        self.ensure_base(ident).await;
        let blueprint = blueprint(&["sleep", "3600"]);
        let order = Order { ident, blueprint: &blueprint, resources: &[] };
        assert!(matches!(self.provider.ensure_storage(&order).await, Outcome::Done(_)));
        self.ensure_runtime(ident).await
    }

    pub(crate) async fn try_runtime(&self, ident: &Ident, command: &[&str]) -> Outcome<Made> {
        let blueprint = blueprint(command);
        self.provider.ensure_runtime(&Order { ident, blueprint: &blueprint, resources: &[] }).await
    }

    pub(crate) async fn try_update(&self, ident: &Ident, command: &[&str]) -> Outcome<Made> {
        self.try_update_with(ident, command, ("GREETING", "hi")).await
    }

    pub(crate) async fn try_update_with(
        &self,
        ident: &Ident,
        command: &[&str],
        variable: (&str, &str),
    ) -> Outcome<Made> {
        let mut blueprint = blueprint(command);
        blueprint.env.insert(variable.0.to_owned(), variable.1.to_owned());
        self.provider.update(&Order { ident, blueprint: &blueprint, resources: &[] }, true).await
    }

    /// Where an instance's program begins, once it has a volume.
    pub(crate) fn volume(&self, ident: &Ident) -> PathBuf {
        self.data_dir().join("instances").join(ident.instance.to_string()).join("volume")
    }

    pub(crate) async fn stop(&self, ident: &Ident) {
        let blueprint = blueprint(&[]);
        let outcome = self.provider.stop(&Order { ident, blueprint: &blueprint, resources: &[] }).await;
        assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
    }

    pub(crate) async fn try_destroy(&self, ident: &Ident, kind: ResourceKind) -> Outcome<()> {
        let resource = Resource { kind, id: ident.name.clone(), region: None, handle: String::new() };
        self.provider.destroy(ident, &resource).await
    }

    pub(crate) async fn destroy(&self, ident: &Ident, kind: ResourceKind) {
        assert_eq!(self.try_destroy(ident, kind).await, Outcome::Done(()));
    }

    /// Seals and removes everything.
    pub(crate) async fn remove(&self, ident: &Ident) {
        assert_eq!(self.provider.seal(ident).await, Outcome::Done(()));
        for kind in ResourceKind::ALL.into_iter().rev() {
            self.destroy(ident, kind).await;
        }
        let seen = self.provider.observe(ident).await.unwrap();
        assert!(seen.proves_absence(), "{seen:?}");
    }

    pub(crate) async fn until(&self, ident: &Ident, state: RuntimeState) {
        let what = format!("{state:?}");
        eventually(&what, async || self.provider.observe(ident).await.unwrap().runtime == state).await;
    }

    pub(crate) fn record(&self, ident: &Ident) -> serde_json::Value {
        serde_json::from_slice(&fs::read(self.folder(ident).join("runtime")).unwrap()).unwrap()
    }

    pub(crate) fn set_record(&self, ident: &Ident, record: &serde_json::Value) {
        fs::write(self.folder(ident).join("runtime"), record.to_string()).unwrap();
    }

    pub(crate) fn log(&self, ident: &Ident) -> String {
        fs::read_to_string(self.folder(ident).join("logs/current.log")).unwrap_or_default()
    }

    /// The pids of the programs of an instance, launchers aside.
    pub(crate) fn programs(&self, ident: &Ident) -> Vec<i32> {
        marked(ident).into_iter().filter(|(_, is_shim)| !is_shim).map(|(pid, _)| pid).collect()
    }

    /// The pids of its launchers.
    pub(crate) fn shims(&self, ident: &Ident) -> Vec<i32> {
        marked(ident).into_iter().filter(|(_, is_shim)| *is_shim).map(|(pid, _)| pid).collect()
    }

    /// As a crash of all of it would.
    pub(crate) fn kill_everything(&self, ident: &Ident) {
        let deadline = Instant::now() + PATIENCE;
        while !marked(ident).is_empty() {
            assert!(Instant::now() < deadline, "it does not die");
            for (pid, _) in marked(ident) {
                signal(pid, Signal::KILL);
            }
            std::thread::yield_now();
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if self.owned.is_none() {
            return;
        }
        for n in 0..10 {
            self.kill_everything(&self.ident(n));
        }
    }
}

fn shim() -> Launcher {
    Launcher { program: env!("CARGO_BIN_EXE_freehold-shim").into(), arguments: Vec::new() }
}

pub(crate) fn blueprint(command: &[&str]) -> Blueprint {
    Blueprint {
        command: command.iter().map(|&word| word.to_owned()).collect(),
        image: None,
        env: BTreeMap::from([("GREETING", "hi"), ("TEST_LISTENS", "1")].map(|(a, b)| (a.to_owned(), b.to_owned()))),
        secrets: BTreeSet::new(),
        memory_mb: 64,
        cpu_millis: 1000,
        volume_gb: 1,
        region: None,
    }
}

/// What marks the processes of an instance.
pub(crate) fn marker(ident: &Ident) -> [(&'static str, String); 2] {
    [("FREEHOLD_INSTANCE_ID", ident.instance.to_string()), ("FREEHOLD_MAC", ident.tags.mac.clone())]
}

pub(crate) fn signal(pid: i32, signal: Signal) {
    // It may be gone.
    kill_process(Pid::from_raw(pid).unwrap(), signal).ok();
}

fn is_dead(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_none_or(|rest| rest.is_empty() || rest.starts_with('Z'))
}

fn pids() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn marked(ident: &Ident) -> Vec<(i32, bool)> {
    let mut found = Vec::new();
    for pid in pids().filter(|pid| !is_dead(*pid)) {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let has = |pair: &str| environment.split(|byte| *byte == 0).any(|one| one == pair.as_bytes());
        if marker(ident).iter().all(|(name, value)| has(&format!("{name}={value}"))) {
            let is_program = environment.split(|byte| *byte == 0).any(|one| one.starts_with(b"FREEHOLD_LAUNCH="));
            found.push((pid, !is_program));
        }
    }
    found
}

/// Living processes with an argument, but for shells that only mention it.
pub(crate) fn processes_with_argument(argument: &str) -> Vec<i32> {
    let has = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|one| one == argument.as_bytes())
    };
    pids().filter(|pid| !is_dead(*pid)).filter(has).collect()
}
