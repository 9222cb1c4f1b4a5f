//! A cluster of one's own.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use super::bouncer::Bouncer;
use super::family::{family, kill_family};
use super::install::{BIN, folder, install, root, run, unprivileged};
use super::template;
use super::watchdog::Watchdog;

/// Who owns the databases that [`Lab::database`] makes: no superuser, and has no password.
pub const DATABASE_ROLE: &str = "freehold";

/// A role that may do nothing but log in, with [`PASSWORD`].
pub const PASSWORD_ROLE: &str = "guarded";

/// The password of [`PASSWORD_ROLE`].
pub const PASSWORD: &str = "open-sesame";

/// How long a cluster may take to start, recovery after a kill included.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// How many connections to a cluster its own PgBouncer has: fewer than clients.
const POOLED: u32 = 4;

/// How many ports are tried.
const PORTS_TRIED: u32 = 50;

/// Ports from here on, below those that systems give to outgoing connections: a restarted cluster finds its own free.
const PORTS: std::ops::Range<u32> = 11_000..31_000;

/// A throw-away PostgreSQL cluster, and a PgBouncer if one is asked for. Dropping it ends and removes both.
#[derive(Debug)]
pub struct Lab {
    // In the order in which they are to be dropped.
    watchdog: Option<Watchdog>,
    process: Mutex<Option<Child>>,
    bouncer: Mutex<Option<Bouncer>>,
    folder: PathBuf,
    port: u16,
    databases: AtomicU32,
    /// What differs from the template's settings: `name=value`.
    settings: Vec<String>,
}

pub(crate) fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A port that nobody has.
pub(crate) fn free_port() -> Result<u16> {
    let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.subsec_nanos();
    let seed = nanos.wrapping_mul(2_654_435_761).wrapping_add(std::process::id().wrapping_mul(40_503));
    for attempt in 0..PORTS_TRIED {
        let span = PORTS.end - PORTS.start;
        let port = u16::try_from(PORTS.start + seed.wrapping_add(attempt.wrapping_mul(7_919)) % span)?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port of {PORTS_TRIED} is free")
}

impl Lab {
    /// Starts a cluster, installing what is missing.
    ///
    /// # Errors
    /// Where PostgreSQL cannot be installed or started.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// Starts a cluster with settings of its own, each a name and a value: for whoever measures, the ones of a server
    /// that keeps its promises.
    ///
    /// # Errors
    /// As [`start`](Self::start), and with what PostgreSQL says of a setting.
    pub fn start_with(settings: &[(&str, &str)]) -> Result<Self> {
        install()?;
        let template = template::ready()?;
        Self::over(settings, |data| run(Command::new("cp").arg("-a").arg(&template).arg(data)).map(drop))
    }

    /// Starts a cluster over a data folder that somebody makes.
    pub(crate) fn over(settings: &[(&str, &str)], make: impl FnOnce(&Path) -> Result<()>) -> Result<Self> {
        static LABS: AtomicU32 = AtomicU32::new(0);
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let home = root()?.join(format!("{}-{number}", std::process::id()));
        // Of a process of the same id, long ago.
        drop(fs::remove_dir_all(&home));
        folder(&home)?;
        let mut watchdog = Some(Watchdog::over(&home)?);
        make(&home.join("data"))?;
        let mut last = None;
        for _ in 0..3 {
            let mut lab = Self {
                watchdog: None,
                process: Mutex::new(None),
                bouncer: Mutex::new(None),
                folder: home.clone(),
                port: free_port()?,
                databases: AtomicU32::new(0),
                settings: settings.iter().map(|(name, value)| format!("{name}={value}")).collect(),
            };
            match lab.launch() {
                Ok(()) => {
                    lab.watchdog = watchdog.take();
                    return Ok(lab);
                }
                // Somebody else may have been quicker to take the port.
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("nothing was tried")?)
    }

    /// The cluster's data folder.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The folder that goes with the lab.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The log of the cluster.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// The log of the PgBouncer.
    #[must_use]
    pub fn bouncer_log(&self) -> PathBuf {
        self.folder.join("bouncer").join("log")
    }

    /// The certificate of the authority that signed the cluster's own, which is for `localhost`.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.data().join("ca.crt")
    }

    /// Where the cluster listens, on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    fn launch(&self) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut command = unprivileged(Path::new(BIN).join("postgres"));
        command.arg("-D").arg(self.data()).arg("-k").arg(&self.folder).args(["-p", &self.port.to_string()]);
        for setting in &self.settings {
            command.arg("-c").arg(setting);
        }
        command.stdout(log.try_clone()?).stderr(log);
        let mut child = command.spawn().context("starting PostgreSQL")?;
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            // The eighth line says so.
            let said = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
            let mut lines = said.lines();
            if lines.next() == Some(&child.id().to_string())
                && matches!(lines.nth(6).map(str::trim), Some("ready" | "standby"))
            {
                *lock(&self.process) = Some(child);
                return Ok(());
            }
            if child.try_wait()?.is_some() || Instant::now() > deadline {
                drop(child.kill());
                drop(child.wait());
                bail!("PostgreSQL does not start: {}", fs::read_to_string(self.log()).unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether it was started and not ended.
    pub(crate) fn runs(&self) -> bool {
        lock(&self.process).is_some()
    }

    /// The ids of the processes of the cluster, the postmaster's first.
    fn processes(&self) -> Result<Vec<Pid>> {
        let postmaster = lock(&self.process).as_ref().map(Pid::from_child).context("the cluster does not run")?;
        family(postmaster)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        for pid in self.processes()? {
            match kill_process(pid, signal) {
                // A child may have ended meanwhile.
                Ok(()) | Err(Errno::SRCH) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn reap(&self) -> Result<()> {
        if let Some(mut process) = lock(&self.process).take() {
            process.wait()?;
        }
        Ok(())
    }

    /// Kills every process of the cluster at once, as nothing can be prepared for.
    ///
    /// # Errors
    /// If it does not run.
    pub fn kill(&self) -> Result<()> {
        let postmaster = *self.processes()?.first().context("the cluster does not run")?;
        kill_family(postmaster, || self.reap())
    }

    /// Ends the cluster as its operator would who does not wait for clients. Returns when it has ended.
    ///
    /// # Errors
    /// If it does not run.
    pub fn stop(&self) -> Result<()> {
        let postmaster = *self.processes()?.first().context("the cluster does not run")?;
        kill_process(postmaster, Signal::INT)?;
        self.reap()
    }

    /// Starts the cluster again after [`kill`](Self::kill) or [`stop`](Self::stop), at the same place.
    ///
    /// # Errors
    /// If it runs, or does not start.
    pub fn restart(&self) -> Result<()> {
        ensure!(lock(&self.process).is_none(), "the cluster runs");
        self.launch()
    }

    /// Stops every process of the cluster where it is: connections stay open, and nothing is answered.
    ///
    /// # Errors
    /// If it does not run.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets a frozen cluster go on.
    ///
    /// # Errors
    /// If it does not run.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Makes an empty database that [`DATABASE_ROLE`] owns. Answers its URL, straight to the cluster and without TLS.
    ///
    /// # Errors
    /// If the cluster does not answer.
    pub fn database(&self) -> Result<String> {
        let name = format!("db{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name} OWNER {DATABASE_ROLE}"))?;
        Ok(self.url(&name))
    }

    /// The URL of a database of the cluster.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{DATABASE_ROLE}@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }

    /// The same database through a PgBouncer in transaction mode with few connections of its own, which is started if
    /// it does not run.
    ///
    /// # Errors
    /// If PgBouncer does not start, or the URL is not one of this cluster.
    pub fn bouncer(&self, url: &str) -> Result<String> {
        let mut bouncer = lock(&self.bouncer);
        if bouncer.is_none() {
            *bouncer = Some(Bouncer::start(&self.folder.join("bouncer"), self.port, POOLED)?);
        }
        let port = bouncer.as_ref().map(Bouncer::port).context("PgBouncer runs")?;
        let direct = format!("@127.0.0.1:{}/", self.port);
        ensure!(url.contains(&direct), "{url} is not of this cluster");
        Ok(url.replace(&direct, &format!("@127.0.0.1:{port}/")))
    }

    /// Kills the PgBouncer; the next [`bouncer`](Self::bouncer) starts another one, elsewhere.
    pub fn kill_bouncer(&self) {
        drop(lock(&self.bouncer).take());
    }

    /// Runs statements as superuser. Answers their rows, columns separated by `|`.
    ///
    /// # Errors
    /// With what PostgreSQL said.
    pub fn sql(&self, database: &str, statements: &str) -> Result<String> {
        self.sql_as("postgres", database, statements)
    }

    /// Runs statements as some role.
    ///
    /// # Errors
    /// With what PostgreSQL said.
    pub fn sql_as(&self, role: &str, database: &str, statements: &str) -> Result<String> {
        let said = run(self.psql(role, database).args(["-c", statements]))?;
        Ok(said.trim_end().to_owned())
    }

    /// Runs statements as superuser, and leaves the session as it is until what this answers is dropped: with an open
    /// transaction, say, whose locks others wait for.
    ///
    /// # Errors
    /// If the cluster does not answer.
    pub fn hold(&self, database: &str, statements: &str) -> Result<Held> {
        use std::io::{BufRead, BufReader, Write};
        let mut command = self.psql("postgres", database);
        let mut session = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("starting psql")?;
        let mut input = session.stdin.take().context("psql has an input")?;
        writeln!(input, "{statements};\n\\echo held")?;
        let output = BufReader::new(session.stdout.take().context("psql has an output")?);
        let held = output.lines().map_while(Result::ok).any(|line| line == "held");
        ensure!(held, "the statements were refused: {statements}");
        session.stdin = Some(input);
        Ok(Held(session))
    }

    fn psql(&self, role: &str, database: &str) -> Command {
        let mut command = Command::new(Path::new(BIN).join("psql"));
        command.arg("-h").arg(&self.folder).args(["-p", &self.port.to_string(), "-U", role, "-d", database]);
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]).env_remove("PGOPTIONS");
        command
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        drop(lock(&self.bouncer).take());
        drop(self.watchdog.take());
        // It has ended by now, and is only to be reaped.
        drop(self.reap());
    }
}

/// A session that is left open.
#[derive(Debug)]
pub struct Held(Child);

impl Drop for Held {
    fn drop(&mut self) {
        // At the end of its input psql ends, and with it the session and its transaction.
        drop(self.0.stdin.take());
        drop(self.0.wait());
    }
}
