//! A PgBouncer before a cluster: in transaction mode, with fewer connections to the server than it has clients.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::cluster::{DATABASE_ROLE, free_port};
use super::install::{PGBOUNCER, folder, unprivileged};

/// How long it may take to listen.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// A running PgBouncer. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Bouncer {
    process: Child,
    port: u16,
}

fn configuration(place: &Path, port: u16, server: u16) -> String {
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
         default_pool_size = 4\n\
         max_client_conn = 500\n\
         server_login_retry = 0.2\n"
    )
}

impl Bouncer {
    /// Starts one in a folder, before the cluster at a port.
    pub(crate) fn start(place: &Path, server: u16) -> Result<Self> {
        folder(place)?;
        let port = free_port()?;
        fs::write(place.join("ini"), configuration(place, port, server))?;
        fs::write(place.join("users"), format!("\"{DATABASE_ROLE}\" \"\"\n\"postgres\" \"\"\n"))?;
        drop(fs::remove_file(place.join("pid")));
        let log = File::options().create(true).append(true).open(place.join("log"))?;
        let mut command = unprivileged(PGBOUNCER);
        let mut process = command
            .arg(place.join("ini"))
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting PgBouncer")?;
        let deadline = Instant::now() + READY_WITHIN;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if process.try_wait()?.is_some() || Instant::now() > deadline {
                drop(process.kill());
                drop(process.wait());
                bail!("PgBouncer does not start: {}", fs::read_to_string(place.join("log")).unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(Self { process, port })
    }

    /// Where it listens, on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
