//! Two clusters under Patroni, with etcd: who is the primary is decided there, and by nobody here.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Pid;

use super::bouncer::Bouncer;
use super::cluster::{DATABASE_ROLE, free_port, lock};
use super::family::kill_family;
use super::install::{BIN, folder, give, install, need, root, run, unprivileged};
use super::wait::until;
use super::watchdog::Watchdog;

/// Programs that are needed beside the lab's own.
const NEEDED: &[(&str, &str)] = &[
    ("/usr/bin/patroni", "patroni"),
    ("/usr/bin/etcd", "etcd-server"),
    ("/usr/lib/python3/dist-packages/etcd/__init__.py", "python3-etcd"),
];

/// How long a step may take: Patroni looks every other second, and a lost leader's key lives for twenty.
const WITHIN: Duration = Duration::from_secs(120);

/// One cluster and the Patroni over it.
#[derive(Debug)]
struct Member {
    patroni: Mutex<Option<Child>>,
    data: PathBuf,
    port: u16,
    rest: u16,
}

/// Two clusters under Patroni. Dropping it ends and removes everything.
#[derive(Debug)]
pub struct Patroni {
    // In the order in which they are to be dropped.
    watchdog: Option<Watchdog>,
    etcd: Child,
    members: [Member; 2],
    folder: PathBuf,
}

impl Patroni {
    /// Starts etcd and both members, and returns when one follows the other synchronously.
    ///
    /// # Errors
    /// Where something cannot be installed or started.
    pub fn start() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        install()?;
        need(NEEDED)?;
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let home = root()?.join(format!("{}-patroni-{number}", std::process::id()));
        drop(fs::remove_dir_all(&home));
        folder(&home)?;
        let watchdog = Some(Watchdog::over(&home)?);
        let (etcd, client) = start_etcd(&home.join("etcd"))?;
        let members = [member(&home, 0, client)?, member(&home, 1, client)?];
        let patroni = Self { watchdog, etcd, members, folder: home };
        patroni.launch(0)?;
        until(WITHIN, "there is a primary", || Ok(patroni.primary().is_some()))?;
        patroni.launch(1)?;
        patroni.until_in_sync()?;
        Ok(patroni)
    }

    /// The port of the member that takes writes on 127.0.0.1, if one does: as Patroni says it, and the member too.
    #[must_use]
    pub fn primary(&self) -> Option<u16> {
        self.leader().map(|leader| self.members[leader].port)
    }

    fn leader(&self) -> Option<usize> {
        // Patroni may say so a moment before the member has left recovery.
        let leads = |member: &Member| {
            member.is_healthy("primary")
                && member.sql("postgres", "SELECT pg_is_in_recovery()").is_ok_and(|said| said == "f")
        };
        (0..2).find(|number| leads(&self.members[*number]))
    }

    /// Makes an empty database that [`DATABASE_ROLE`] owns.
    ///
    /// # Errors
    /// If there is no primary, or it refuses.
    pub fn database(&self, name: &str) -> Result<()> {
        let primary = &self.members[self.leader().context("there is no primary")?];
        primary.sql("postgres", &format!("CREATE ROLE {DATABASE_ROLE} LOGIN"))?;
        primary.sql("postgres", &format!("CREATE DATABASE {name} OWNER {DATABASE_ROLE}")).map(drop)
    }

    /// Starts a PgBouncer before the primary, with so many connections to it for each database and role. It does not follow
    /// by itself: whoever watches [`primary`](Self::primary) points it.
    ///
    /// # Errors
    /// If there is no primary, or PgBouncer does not start.
    pub fn bouncer(&self, pooled: u32) -> Result<Bouncer> {
        Bouncer::start(&self.folder.join("bouncer"), self.primary().context("there is no primary")?, pooled)
    }

    /// Waits until there is a primary, and the other member has everything that it has and is waited for.
    ///
    /// # Errors
    /// If that does not come about.
    pub fn until_in_sync(&self) -> Result<()> {
        until(WITHIN, "a synchronous standby follows", || {
            let Some(leader) = self.leader() else { return Ok(false) };
            let asked = "SELECT count(*) FROM pg_stat_replication \
                         WHERE sync_state = 'sync' AND flush_lsn >= pg_current_wal_lsn() - 65536";
            Ok(self.members[1 - leader].is_healthy("sync") && self.members[leader].sql("postgres", asked)? == "1")
        })
    }

    /// Kills the primary and the Patroni over it, as the loss of a machine would. Answers which member that was.
    ///
    /// # Errors
    /// If there is no primary.
    pub fn kill_primary(&self) -> Result<usize> {
        let leader = self.leader().context("there is no primary")?;
        let member = &self.members[leader];
        if let Some(mut patroni) = lock(&member.patroni).take() {
            patroni.kill()?;
            patroni.wait()?;
        }
        let first = fs::read_to_string(member.data.join("postmaster.pid"))?;
        let postmaster = first.lines().next().and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw);
        kill_family(postmaster.context("a postmaster has a number")?, || Ok(()))?;
        Ok(leader)
    }

    /// Starts a killed member again: Patroni makes a standby of it.
    ///
    /// # Errors
    /// If it does not start.
    pub fn launch(&self, number: usize) -> Result<()> {
        let place = self.folder.join(format!("patroni{number}"));
        let log = File::options().create(true).append(true).open(place.join("log"))?;
        let mut command = unprivileged("/usr/bin/patroni");
        command.arg(place.join("yml")).env("PATH", "/usr/local/bin:/usr/bin:/bin").env_remove("PYTHONPATH");
        let child = command.stdout(log.try_clone()?).stderr(log).spawn().context("starting Patroni")?;
        fs::write(place.join("pid"), format!("{}\n", child.id()))?;
        *lock(&self.members[number].patroni) = Some(child);
        Ok(())
    }
}

impl Member {
    /// Whether Patroni answers 200 to a question about the member.
    fn is_healthy(&self, question: &str) -> bool {
        let ask = || -> std::io::Result<String> {
            let mut socket = TcpStream::connect(("127.0.0.1", self.rest))?;
            socket.set_read_timeout(Some(Duration::from_secs(2)))?;
            socket.write_all(format!("GET /{question} HTTP/1.0\r\n\r\n").as_bytes())?;
            let mut answer = String::new();
            socket.read_to_string(&mut answer)?;
            Ok(answer)
        };
        ask().is_ok_and(|answer| answer.split(' ').nth(1) == Some("200"))
    }

    fn sql(&self, database: &str, statement: &str) -> Result<String> {
        let mut psql = Command::new(Path::new(BIN).join("psql"));
        psql.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "postgres", "-d", database]);
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statement]).env_remove("PGOPTIONS");
        psql.env("PGCONNECT_TIMEOUT", "2");
        Ok(run(&mut psql)?.trim_end().to_owned())
    }
}

impl Drop for Patroni {
    fn drop(&mut self) {
        for member in &self.members {
            if let Some(mut patroni) = lock(&member.patroni).take() {
                drop(patroni.kill());
                drop(patroni.wait());
            }
        }
        drop(self.etcd.kill());
        drop(self.etcd.wait());
        drop(self.watchdog.take());
    }
}

fn start_etcd(place: &Path) -> Result<(Child, u16)> {
    folder(place)?;
    let (client, peer) = (free_port()?, free_port()?);
    let (client_url, peer_url) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
    let log = File::options().create(true).append(true).open(place.join("log"))?;
    let mut etcd = unprivileged("/usr/bin/etcd");
    etcd.arg("--data-dir").arg(place.join("data")).args(["--name", "lab", "--unsafe-no-fsync"]);
    etcd.args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url]);
    etcd.args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url]);
    etcd.args(["--initial-cluster", &format!("lab={peer_url}")]);
    let mut child = etcd.stdout(log.try_clone()?).stderr(log).spawn().context("starting etcd")?;
    fs::write(place.join("pid"), format!("{}\n", child.id()))?;
    let listens = until(WITHIN, "etcd listens", || Ok(TcpStream::connect(("127.0.0.1", client)).is_ok()));
    if let Err(error) = listens {
        drop(child.kill());
        drop(child.wait());
        return Err(error.context(fs::read_to_string(place.join("log")).unwrap_or_default()));
    }
    Ok((child, client))
}

fn member(home: &Path, number: usize, etcd: u16) -> Result<Member> {
    let place = home.join(format!("patroni{number}"));
    folder(&place)?;
    let (port, rest) = (free_port()?, free_port()?);
    let data = home.join(format!("data{number}"));
    let yml = format!(
        "scope: lab\n\
         name: member{number}\n\
         restapi:\n  listen: 127.0.0.1:{rest}\n  connect_address: 127.0.0.1:{rest}\n\
         etcd3:\n  host: 127.0.0.1:{etcd}\n\
         bootstrap:\n\
         \x20 dcs:\n\
         \x20   ttl: 20\n    loop_wait: 2\n    retry_timeout: 5\n    maximum_lag_on_failover: 1048576\n\
         \x20   synchronous_mode: true\n\
         \x20   postgresql:\n      use_pg_rewind: true\n      use_slots: true\n\
         \x20     parameters:\n        wal_log_hints: 'on'\n        max_connections: 100\n        shared_buffers: 16MB\n\
         \x20 initdb:\n  - encoding: UTF8\n  - locale: C\n  - auth: trust\n\
         postgresql:\n\
         \x20 listen: 127.0.0.1:{port}\n  connect_address: 127.0.0.1:{port}\n\
         \x20 data_dir: {data}\n  bin_dir: {BIN}\n  pgpass: {place}/pgpass\n\
         \x20 authentication:\n    superuser:\n      username: postgres\n    replication:\n      username: postgres\n\
         \x20 pg_hba:\n  - local all all trust\n  - host all all 127.0.0.1/32 trust\n\
         \x20 - host replication all 127.0.0.1/32 trust\n\
         \x20 parameters:\n    unix_socket_directories: {place}\n",
        data = data.display(),
        place = place.display(),
    );
    fs::write(place.join("yml"), yml)?;
    give(&place)?;
    Ok(Member { patroni: Mutex::new(None), data, port, rest })
}
