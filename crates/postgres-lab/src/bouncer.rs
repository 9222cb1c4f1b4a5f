//! A PgBouncer before a cluster: in transaction mode, with fewer connections to the server than it has clients. It can be
//! killed and started again where it was, and pointed at another cluster while clients are connected.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::cluster::{DATABASE_ROLE, free_port};
use super::install::{PGBOUNCER, folder, unprivileged};

/// How long it may take to listen.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// A PgBouncer. Dropping it kills it.
#[derive(Debug)]
pub struct Bouncer {
    process: Option<Child>,
    place: PathBuf,
    port: u16,
    pooled: u32,
}

fn configuration(place: &Path, port: u16, server: u16, pooled: u32) -> String {
    let place = place.display();
    format!(
        "[databases]\n\
         * = host=127.0.0.1 port={server}\n\
         [pgbouncer]\n\
         listen_addr = 127.0.0.1\n\
         listen_port = {port}\n\
         unix_socket_dir =\n\
         auth_type = trust\n\
         auth_file = {place}/users\n\
         pidfile = {place}/pid\n\
         pool_mode = transaction\n\
         default_pool_size = {pooled}\n\
         max_client_conn = 500\n\
         server_login_retry = 0.2\n"
    )
}

impl Bouncer {
    /// Starts one in a folder, before the cluster at a port of 127.0.0.1, with so many connections to it for each database
    /// and role.
    pub(crate) fn start(place: &Path, server: u16, pooled: u32) -> Result<Self> {
        folder(place)?;
        let mut bouncer = Self { process: None, place: place.to_owned(), port: free_port()?, pooled };
        fs::write(place.join("users"), format!("\"{DATABASE_ROLE}\" \"\"\n\"postgres\" \"\"\n"))?;
        bouncer.aim(server)?;
        bouncer.restart()?;
        Ok(bouncer)
    }

    /// Where it listens, on 127.0.0.1: the same over all its lives.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills it; whoever is connected loses the connection.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            drop(process.kill());
            drop(process.wait());
        }
    }

    /// Starts it at the same port, ending the one that runs.
    ///
    /// # Errors
    /// If it does not start.
    pub fn restart(&mut self) -> Result<()> {
        self.kill();
        drop(fs::remove_file(self.place.join("pid")));
        let log = File::options().create(true).append(true).open(self.place.join("log"))?;
        let mut command = unprivileged(PGBOUNCER);
        let mut process = command
            .arg(self.place.join("ini"))
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting PgBouncer")?;
        let deadline = Instant::now() + READY_WITHIN;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            if process.try_wait()?.is_some() || Instant::now() > deadline {
                drop(process.kill());
                drop(process.wait());
                bail!("PgBouncer does not start: {}", fs::read_to_string(self.place.join("log")).unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.process = Some(process);
        Ok(())
    }

    /// Points it at the cluster at another port of 127.0.0.1. Clients stay connected; connections to the cluster before are
    /// closed as soon as their transactions end.
    ///
    /// # Errors
    /// If its configuration cannot be written.
    pub fn repoint(&mut self, server: u16) -> Result<()> {
        self.aim(server)?;
        // One that is killed reads it when it starts.
        if let Some(process) = &self.process {
            kill_process(Pid::from_child(process), Signal::HUP)?;
        }
        Ok(())
    }

    fn aim(&self, server: u16) -> Result<()> {
        Ok(fs::write(self.place.join("ini"), configuration(&self.place, self.port, server, self.pooled))?)
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        self.kill();
    }
}
