//! The process provider: a real program per instance, on this machine.
//!
//! A program outlives the server that launched it, and is found again by pid *and* start time *and* its marker, never by
//! pid alone. One instance has at most one program: whoever launches must hold the instance's locks, and a lock goes
//! with the processes that hold it. Creation is sealed by a tombstone that every launch must get past, under the same
//! lock. All that is known is in the instance's folder and in `/proc`, so a look is always conclusive.
//!
//! It is no security boundary: programs run as the server's user and can see each other.

mod cgroup;
mod durable;
mod folder;
mod kernel;
mod kill;
mod log;
mod logs;
mod ports;
mod record;
mod shim;
mod work;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use freehold_domain::plan::{Capabilities, Names};
use freehold_domain::resource::{Observation, Outcome, RejectionClass, Resource, ResourceKind, RuntimeState};
use freehold_domain::route::Endpoint;
use freehold_engine::ident::Idents;
use freehold_engine::ports::{
    Blueprint, Ident, LogQuery, LogReader, LogsUnavailable, Made, Order, OwnedPage, Provider, Unanswered,
};
use rustix::io::Errno;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

pub use cgroup::{LimitsSupport, limits};
pub use shim::shim_main;

use folder::{Layout, Standing};
use record::{Handle, Marker};
use shim::{LaunchOrder, Report};
use work::{Place, rejected};

/// The ports that instances get unless told otherwise: below those that Linux gives to outgoing connections.
pub const PORTS: RangeInclusive<u16> = 20_000..=29_999;

/// How long a program may take to end when asked, unless told otherwise: as long as Docker gives a container.
pub const GRACE: Duration = Duration::from_secs(10);

/// When a call gives its answer at the latest, unless told otherwise.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// Where the provider keeps its instances below a data folder.
#[must_use]
pub fn instances(data_dir: &Path) -> PathBuf {
    Layout::new(data_dir.to_owned()).instances()
}

/// Whether the provider was ever opened over a data folder: whatever it made for that one is there.
#[must_use]
pub fn was_here(data_dir: &Path) -> bool {
    // A folder that cannot be looked at is not taken for one that is not there.
    !matches!(instances(data_dir).try_exists(), Ok(false))
}

/// What is kept back of a call's time for the killing after the grace, and for the answer.
const MARGIN: Duration = Duration::from_secs(2);

/// The longest line that a launcher answers with, in bytes.
const REPORT_BYTES_MAX: u64 = 64 << 10;

/// The longest single argument or variable, in bytes: Linux takes no more (execve(2), `MAX_ARG_STRLEN`).
const ARGUMENT_BYTES_MAX: usize = 128 << 10;

/// What of the server's own environment programs get to see. Everything else may be a secret.
const PASSED_ON: &[&str] = &["PATH", "LANG", "LC_ALL", "TZ"];

/// The program that launches: one whose `main` calls [`shim_main`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launcher {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

impl Launcher {
    /// This very program, whatever has become of its file, with the hidden subcommand `shim`.
    #[must_use]
    pub fn this_program() -> Self {
        Self { program: "/proc/self/exe".into(), arguments: vec!["shim".into()] }
    }
}

/// Settings of the process provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessOptions {
    /// Where `instances/` and `ports/` are.
    pub data_dir: PathBuf,
    /// What launches.
    pub launcher: Launcher,
    /// Which ports instances get.
    pub ports: RangeInclusive<u16>,
    /// How long a program may take to end when asked; never longer than a call.
    pub grace: Duration,
    /// When a call gives its answer at the latest.
    pub call_timeout: Duration,
}

impl ProcessOptions {
    /// The usual settings.
    #[must_use]
    pub fn new(data_dir: PathBuf) -> Self {
        Self { data_dir, launcher: Launcher::this_program(), ports: PORTS, grace: GRACE, call_timeout: CALL_TIMEOUT }
    }
}

/// Runs instances as programs on this machine.
#[derive(Clone, Debug)]
pub struct ProcessProvider {
    layout: Layout,
    launcher: Launcher,
    ports: RangeInclusive<u16>,
    grace: Duration,
    call_timeout: Duration,
    limits: LimitsSupport,
    idents: Idents,
}

impl ProcessProvider {
    /// Opens the provider over a data folder, and clears away what dead processes left half made there.
    ///
    /// # Errors
    /// Where the folder cannot be made or read.
    pub fn open(options: ProcessOptions, idents: Idents) -> io::Result<Self> {
        let ProcessOptions { data_dir, launcher, ports, grace, call_timeout } = options;
        durable::make_folder(&data_dir)?;
        let layout = Layout::new(data_dir.canonicalize()?);
        durable::make_folder(&layout.instances())?;
        durable::make_folder(&layout.ports())?;
        durable::sync_folder(layout.data_dir())?;
        let is_alive = |pid| i32::try_from(pid).is_ok_and(|pid| kernel::stat(pid).is_ok_and(|stat| stat.is_some()));
        durable::remove_leftovers(&layout.instances(), is_alive)?;
        let grace = grace.min(call_timeout.saturating_sub(2 * MARGIN));
        Ok(Self { layout, launcher, ports, grace, call_timeout, limits: cgroup::limits(), idents })
    }

    /// Whether memory and CPU limits are enforced, and if not, why.
    #[must_use]
    pub fn limits(&self) -> &LimitsSupport {
        &self.limits
    }

    fn place(&self, ident: &Ident) -> Place {
        Place { layout: self.layout.clone(), idents: self.idents.clone(), ident: ident.clone() }
    }

    /// Does blocking work on a place, for as long as a call may take.
    async fn blocking<T: Send + 'static>(
        &self,
        ident: &Ident,
        work: impl FnOnce(Place, Instant) -> T + Send + 'static,
    ) -> Result<T, String> {
        let place = self.place(ident);
        let deadline = Instant::now() + self.call_timeout.saturating_sub(MARGIN);
        let task = tokio::task::spawn_blocking(move || work(place, deadline));
        match tokio::time::timeout(self.call_timeout, task).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(format!("the call did not end well: {error}")),
            Err(_) => Err(format!("no answer within {:?}", self.call_timeout)),
        }
    }

    async fn changing<T: Send + 'static>(
        &self,
        ident: &Ident,
        work: impl FnOnce(Place, Instant) -> Outcome<T> + Send + 'static,
    ) -> Outcome<T> {
        self.blocking(ident, work).await.unwrap_or_else(Outcome::Unknown)
    }

    async fn launch(&self, order: &Order<'_>) -> Outcome<Made> {
        let place = self.place(order.ident);
        match place.standing(&place.folder()) {
            Ok(Standing::Foreign) => return work::foreign(&place.folder()),
            Ok(Standing::Ours { sealed: true, .. }) => return rejected(RejectionClass::Invalid, work::SEALED),
            Ok(Standing::Missing | Standing::Ours { .. }) => {}
            Err(error) => return Outcome::NotSent(format!("the instance's folder cannot be read: {error}")),
        }
        if let Err(why) = self.accepts(order.blueprint) {
            return rejected(RejectionClass::Invalid, why);
        }
        if let Some(refusal) = place.without_its_volume(order.resources) {
            return refusal;
        }
        let text = match serde_json::to_vec(&self.launch_order(order)) {
            Ok(text) => text,
            Err(error) => return Outcome::NotSent(format!("the launch cannot be put into words: {error}")),
        };
        match tokio::time::timeout(self.call_timeout, self.ask_launcher(order.ident, &text)).await {
            Err(_) => Outcome::Unknown(format!("the launcher did not answer within {:?}", self.call_timeout)),
            Ok(Ok(report)) => self.judge(report, order).await,
            Ok(Err(outcome)) => outcome,
        }
    }

    fn launch_order(&self, order: &Order<'_>) -> LaunchOrder {
        let Blueprint { command, image: _, env, secrets: _, memory_mb, cpu_millis, volume_gb: _, region: _ } =
            order.blueprint;
        let mut variables: BTreeMap<String, String> =
            PASSED_ON.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?))).collect();
        variables.extend(env.clone());
        LaunchOrder {
            data_dir: self.layout.data_dir().to_owned(),
            instance: order.ident.tags.instance.clone(),
            install: order.ident.tags.install.clone(),
            mac: order.ident.tags.mac.clone(),
            name: order.ident.name.clone(),
            command: command.clone(),
            env: variables,
            memory_mb: *memory_mb,
            cpu_millis: *cpu_millis,
            first_port: *self.ports.start(),
            last_port: *self.ports.end(),
            cgroups: self.limits.base().map(PathBuf::from),
        }
    }

    /// Starts the launcher and reads its one line. It carries the instance's marker, so that a clean-up finds it too.
    async fn ask_launcher(&self, ident: &Ident, order: &[u8]) -> Result<Report, Outcome<Made>> {
        let marker = Marker::of(ident);
        let spawned = Command::new(&self.launcher.program)
            .args(&self.launcher.arguments)
            .env_clear()
            .envs(marker.variables())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut launcher = match spawned {
            Ok(launcher) => launcher,
            Err(error) => return Err(Outcome::NotSent(format!("the launcher could not be started: {error}"))),
        };
        if let Some(mut input) = launcher.stdin.take() {
            // A launcher that died says so below, by saying nothing.
            drop(input.write_all(order).await);
            drop(input.shutdown().await);
        }
        let mut line = String::new();
        if let Some(output) = launcher.stdout.take() {
            let mut output = BufReader::new(tokio::io::AsyncReadExt::take(output, REPORT_BYTES_MAX));
            if let Err(error) = output.read_line(&mut line).await {
                return Err(Outcome::Unknown(format!("the launcher's answer cannot be read: {error}")));
            }
        }
        let report = serde_json::from_str(&line)
            .map_err(|_| Outcome::Unknown("the launcher died before it answered".to_owned()));
        match report {
            // It stays with its program. Nobody waits for it but the runtime, which reaps it.
            Ok(Report::Started(_)) => {}
            // It ends, and must not be taken for a launch under way by whoever looks next.
            Ok(_) | Err(_) => drop(launcher.wait().await),
        }
        report
    }

    /// What a launcher's report means.
    async fn judge(&self, report: Report, order: &Order<'_>) -> Outcome<Made> {
        match report {
            Report::Started(record) => {
                Outcome::Done(self.place(order.ident).runtime(Some(&record), RuntimeState::Starting))
            }
            Report::Running(record) => {
                let looked = self.blocking(order.ident, move |place, _| {
                    let seen = record::look(&place.folder(), &Marker::of(&place.ident)).ok().flatten();
                    let (record, state) =
                        seen.map_or((Some(record), RuntimeState::Starting), |seen| (seen.record, seen.state));
                    Outcome::Done(place.runtime(record.as_ref(), state))
                });
                looked.await.unwrap_or_else(Outcome::Unknown)
            }
            Report::Sealed => rejected(RejectionClass::Invalid, work::SEALED),
            Report::NoBase => rejected(RejectionClass::Invalid, "there is no base; make that first"),
            Report::NoPort => rejected(
                RejectionClass::Capacity { region: None },
                format!("every port from {} to {} is taken", self.ports.start(), self.ports.end()),
            ),
            Report::NotExecuted { errno, detail } => not_executed(errno, &detail, &order.blueprint.command),
            Report::Failed(why) => Outcome::NotSent(why),
            Report::Occupied => Outcome::Unknown("something of the instance that is not on record lives".to_owned()),
        }
    }

    async fn halt(&self, ident: &Ident) -> Outcome<Made> {
        let grace = self.grace;
        self.changing(ident, move |place, deadline| place.stop(grace, deadline)).await
    }

    async fn relaunch(&self, order: &Order<'_>) -> Outcome<Made> {
        // What surely cannot be launched is refused before anything is stopped.
        if let Err(why) = self.accepts(order.blueprint) {
            return rejected(RejectionClass::Invalid, why);
        }
        if let Some(errno) = cannot_run(order.blueprint) {
            return not_executed(Some(errno.raw_os_error()), "", &order.blueprint.command);
        }
        if let Some(refusal) = self.place(order.ident).without_its_volume(order.resources) {
            return refusal;
        }
        match self.halt(order.ident).await {
            Outcome::Done(_) => self.launch(order).await,
            other => other,
        }
    }
}

/// Why the system surely will not run a blueprint's program: it is not there, or it is not to be run. `None` where that
/// is not sure, as for a path that begins in the instance's own folder.
fn cannot_run(blueprint: &Blueprint) -> Option<Errno> {
    let program = blueprint.command.first()?;
    if program.starts_with('/') {
        return refusal(Path::new(program));
    }
    if program.contains('/') {
        return None;
    }
    let path = blueprint.env.get("PATH").map(Into::into).or_else(|| std::env::var_os("PATH"))?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    if folders.iter().any(|folder| folder.is_relative()) {
        // They begin in the instance's own folder too.
        return None;
    }
    let mut refused = Errno::NOENT;
    for folder in folders {
        match refusal(&folder.join(program)) {
            None => return None,
            Some(Errno::ACCESS) => refused = Errno::ACCESS,
            Some(_) => {}
        }
    }
    Some(refused)
}

/// What stands in the way of running a file; `None` if nothing surely does.
fn refusal(program: &Path) -> Option<Errno> {
    match rustix::fs::access(program, rustix::fs::Access::EXEC_OK) {
        // Folders may be entered, which is the same permission.
        Ok(()) => program.is_dir().then_some(Errno::ACCESS),
        Err(errno @ (Errno::NOENT | Errno::ACCESS | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG)) => Some(errno),
        Err(_) => None,
    }
}

/// What the system's refusal to start a program means: the program is wrong, or this is a bad moment.
fn not_executed(errno: Option<i32>, detail: &str, command: &[String]) -> Outcome<Made> {
    let program = command.first().map_or("", String::as_str);
    let invalid = |what: &str| rejected(RejectionClass::Invalid, format!("{what}: {program}"));
    match errno.map(Errno::from_raw_os_error) {
        Some(Errno::NOENT) => invalid("command not found"),
        Some(Errno::ACCESS | Errno::PERM) => invalid("permission denied"),
        Some(Errno::NOEXEC) => invalid("not executable on this machine"),
        Some(Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG | Errno::ISDIR) => invalid("not a command"),
        Some(Errno::TOOBIG) => invalid("its arguments and environment are too large"),
        Some(_) => Outcome::NotSent(format!("{program} was not started: {detail}")),
        None => rejected(RejectionClass::Invalid, format!("{program} cannot be started: {detail}")),
    }
}

#[async_trait]
impl Provider for ProcessProvider {
    fn kind(&self) -> &'static str {
        "process"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { names: Names::Unique, seals: true, storage: true, logs: true, settle_horizon: Duration::ZERO }
    }

    fn accepts(&self, blueprint: &Blueprint) -> Result<(), String> {
        if blueprint.command.first().is_none_or(String::is_empty) {
            return Err("the process provider needs a command".to_owned());
        }
        let pairs = blueprint.env.iter().flat_map(|(name, value)| [name, value]);
        for text in blueprint.command.iter().chain(pairs) {
            if text.contains('\0') {
                return Err("commands and variables contain no NUL character".to_owned());
            }
            if text.len() >= ARGUMENT_BYTES_MAX {
                return Err(format!("arguments and variables are shorter than {ARGUMENT_BYTES_MAX} bytes"));
            }
        }
        if blueprint.env.keys().any(|name| name.is_empty() || name.contains('=')) {
            return Err("names of variables are not empty and contain no `=`".to_owned());
        }
        Ok(())
    }

    async fn ensure_base(&self, order: &Order<'_>) -> Outcome<Made> {
        self.changing(order.ident, |place, _| place.ensure_base()).await
    }

    async fn ensure_storage(&self, order: &Order<'_>) -> Outcome<Made> {
        self.changing(order.ident, |place, deadline| place.ensure_storage(deadline)).await
    }

    async fn ensure_runtime(&self, order: &Order<'_>) -> Outcome<Made> {
        self.launch(order).await
    }

    async fn start(&self, order: &Order<'_>) -> Outcome<Made> {
        self.launch(order).await
    }

    async fn stop(&self, order: &Order<'_>) -> Outcome<Made> {
        self.halt(order.ident).await
    }

    async fn restart(&self, order: &Order<'_>) -> Outcome<Made> {
        self.relaunch(order).await
    }

    async fn update(&self, order: &Order<'_>, running: bool) -> Outcome<Made> {
        // Nothing of a blueprint is kept here: each launch brings its own.
        if running { self.relaunch(order).await } else { self.halt(order.ident).await }
    }

    async fn observe(&self, ident: &Ident) -> Result<Observation, Unanswered> {
        let observed = self.blocking(ident, |place, _| place.observe()).await.map_err(Unanswered)?;
        observed.map_err(|error| Unanswered(error.to_string()))
    }

    async fn seal(&self, ident: &Ident) -> Outcome<()> {
        self.changing(ident, |place, deadline| place.seal(deadline)).await
    }

    async fn destroy(&self, ident: &Ident, resource: &Resource) -> Outcome<()> {
        let resource = resource.clone();
        self.changing(ident, move |place, deadline| place.destroy(&resource, deadline)).await
    }

    async fn list_owned(&self, install: &str, page: Option<&str>) -> Result<OwnedPage, Unanswered> {
        let (layout, install, page) = (self.layout.clone(), install.to_owned(), page.map(str::to_owned));
        let list = tokio::task::spawn_blocking(move || work::list_owned(&layout, &install, page.as_deref()));
        match tokio::time::timeout(self.call_timeout, list).await {
            Ok(Ok(Ok(page))) => Ok(page),
            Ok(Ok(Err(error))) => Err(Unanswered(error.to_string())),
            Ok(Err(error)) => Err(Unanswered(error.to_string())),
            Err(_) => Err(Unanswered(format!("no answer within {:?}", self.call_timeout))),
        }
    }

    fn endpoint(&self, resources: &[Resource]) -> Option<Endpoint> {
        let runtime = resources.iter().find(|resource| resource.kind == ResourceKind::Runtime)?;
        let handle: Handle = serde_json::from_str(&runtime.handle).ok()?;
        Some(Endpoint(format!("http://127.0.0.1:{}", handle.port)))
    }

    async fn logs(&self, ident: &Ident, query: LogQuery) -> Result<Box<dyn LogReader>, LogsUnavailable> {
        let opened = self.blocking(ident, move |place, _| logs::Reader::open(&place, query)).await;
        let reader = opened.and_then(|opened| opened).map_err(LogsUnavailable::Unreadable)?;
        Ok(Box::new(reader))
    }
}
