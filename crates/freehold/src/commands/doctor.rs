//! `doctor`: what would keep a server from working on this machine, before it does.
//!
//! It looks, and changes nothing that a server would not change at its start. A file in the data folder and a control
//! group that it makes for trial are gone again at once.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use freehold_api::client::{Client, ClientError};
use freehold_api::v1::health::HealthStatus;
use freehold_providers::process::{self, LimitsSupport};
use freehold_store::migrate;
use rustix::process::{Resource, getrlimit};
use serde::Serialize;

use super::Context;
use super::context::OPERATOR_KEY_FILE;
use crate::config::{Config, plain};
use crate::exit::{Exit, Failure};
use crate::output::table;
use crate::serve::registry::{self, Place};

/// Below this a server stops working soon, in bytes: the registry's log alone may need it.
const DISK_FREE_MIN: u64 = 64 * 1024 * 1024;

/// Below this somebody should look, in bytes.
const DISK_FREE_GOOD: u64 = 1024 * 1024 * 1024;

/// Below this many open files a busy server may have to refuse connections.
const OPEN_FILES_GOOD: u64 = 4096;

/// Look for what would keep a server from working on this machine.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit code 2 if the configuration is wrong, 1 if something else would keep a server from working.
Warnings alone are exit code 0.

Examples:
  freehold doctor
  freehold doctor --config /etc/freehold.toml --json")]
pub(crate) struct Doctor {}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Ok,
    Warning,
    Failed,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    verdict: Verdict,
    seen: String,
    hint: Option<String>,
}

impl Check {
    fn ok(name: &'static str, seen: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, seen: seen.into(), hint: None }
    }

    fn warning(name: &'static str, seen: impl Into<String>, hint: &str) -> Self {
        Self { name, verdict: Verdict::Warning, seen: seen.into(), hint: Some(hint.to_owned()) }
    }

    fn failed(name: &'static str, seen: impl Into<String>, hint: &str) -> Self {
        Self { name, verdict: Verdict::Failed, seen: seen.into(), hint: Some(hint.to_owned()) }
    }
}

#[derive(Serialize)]
struct Report {
    ok: bool,
    checks: Vec<Check>,
}

impl Doctor {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let mut checks = Vec::new();
        let loaded = Config::load(&context.sources());
        let config_error = match &loaded {
            Ok(_) => {
                checks.push(Check::ok("configuration", "it is good"));
                None
            }
            Err(error) => {
                checks.push(Check::failed("configuration", error.to_string(), "see `freehold config check`"));
                Some(error.clone())
            }
        };
        if let Ok(config) = loaded.or_else(|_| Config::load_unchecked(&context.sources())) {
            checks.push(folder(&config.data_dir));
            checks.push(key(&config.data_dir.join(OPERATOR_KEY_FILE)));
            checks.push(disk(&config.data_dir));
            match registry::place(&config, &config.data_dir) {
                Ok(Place::Sqlite(path)) => checks.push(database(&path)),
                Ok(place @ Place::Postgres(_)) => checks.push(shared_database(&place, &config).await),
                Err(_) => {}
            }
            checks.push(listen(&config.listen).await);
        }
        checks.push(open_files(getrlimit(Resource::Nofile).current));
        checks.push(limits(&process::limits()));
        let failed = checks.iter().filter(|check| check.verdict == Verdict::Failed).count();
        let report = Report { ok: failed == 0, checks };
        context.output.show(&report, people)?;
        match (config_error, failed) {
            (Some(error), _) => Err(error.into()),
            (None, 0) => Ok(()),
            (None, _) => Err(Failure::new(Exit::Failed, format!("{failed} of these would keep a server from working"))),
        }
    }
}

fn people(report: &Report) -> String {
    let rows = report.checks.iter().map(|check| {
        let verdict = match check.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Failed => "FAILED",
        };
        let hint = check.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
        [check.name.to_owned(), verdict.to_owned(), format!("{}{hint}", check.seen)]
    });
    table(["check", "verdict", "seen"], rows)
}

/// The folder itself, or the nearest one above it that is there.
fn nearest_existing(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/")).to_owned()
}

fn folder(data_dir: &Path) -> Check {
    const NAME: &str = "data folder";
    let hint = "choose another with --data-dir, or let the server's user write there";
    let there = nearest_existing(data_dir);
    if !there.is_dir() {
        return Check::failed(NAME, format!("{} is not a folder", there.display()), hint);
    }
    let probe = there.join(format!(".freehold-doctor-{}", std::process::id()));
    let written =
        fs::OpenOptions::new().write(true).create_new(true).open(&probe).and_then(|_| fs::remove_file(&probe));
    match written {
        Ok(()) if data_dir.is_dir() => Check::ok(NAME, format!("{} can be written", data_dir.display())),
        Ok(()) => Check::ok(NAME, format!("{} can be made", data_dir.display())),
        Err(error) => Check::failed(NAME, format!("{} cannot be written: {}", there.display(), plain(&error)), hint),
    }
}

fn key(path: &Path) -> Check {
    const NAME: &str = "operator key";
    match fs::metadata(path) {
        Ok(about) => {
            let mode = about.permissions().mode() & 0o777;
            let seen = format!("{} has mode {mode:04o}", path.display());
            if mode & 0o077 == 0 {
                Check::ok(NAME, seen)
            } else {
                Check::warning(NAME, seen, "others can read it: chmod 600 it, and make a new key if they may have")
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Check::ok(NAME, "the first start writes it"),
        Err(error) => {
            let seen = format!("{}: {}", path.display(), plain(&error));
            Check::warning(NAME, seen, "run this as the server's user")
        }
    }
}

fn disk(data_dir: &Path) -> Check {
    const NAME: &str = "disk space";
    let there = nearest_existing(data_dir);
    match rustix::fs::statvfs(&there) {
        Ok(about) => {
            let free = about.f_bavail.saturating_mul(about.f_frsize);
            let seen = format!("{} MiB free at {}", free / (1024 * 1024), there.display());
            if free < DISK_FREE_MIN {
                Check::failed(NAME, seen, "make room, or move the data folder")
            } else if free < DISK_FREE_GOOD {
                Check::warning(NAME, seen, "make room soon")
            } else {
                Check::ok(NAME, seen)
            }
        }
        Err(error) => {
            let error = io::Error::from(error);
            Check::warning(NAME, format!("{}: {}", there.display(), plain(&error)), "look at the disk")
        }
    }
}

/// Whether the registry is one that this program can open. Where it is missing the first start makes it.
fn database(path: &Path) -> Check {
    const NAME: &str = "database";
    match migrate::status(path) {
        Ok(status) if status.database == 0 => Check::ok(NAME, "the first start makes it"),
        Ok(status) if status.pending.is_empty() => {
            Check::ok(NAME, format!("{} is at schema {}", path.display(), status.database))
        }
        Ok(status) => {
            let (database, program) = (status.database, status.program);
            let seen = format!("{} is at schema {database}; the next start brings it to {program}", path.display());
            Check::ok(NAME, seen)
        }
        Err(error) => {
            let failure = registry::unmigratable(path, error);
            Check { name: NAME, verdict: Verdict::Failed, seen: failure.lines.join("; "), hint: failure.hint }
        }
    }
}

/// Whether the registry that nodes share answers and can be used.
async fn shared_database(place: &Place, config: &Config) -> Check {
    const NAME: &str = "database";
    match place.open_beside(config).await {
        Ok(_) => Check::ok(NAME, "the shared registry answers, and takes writes"),
        Err(failure) => {
            Check { name: NAME, verdict: Verdict::Failed, seen: failure.lines.join("; "), hint: failure.hint }
        }
    }
}

async fn listen(address: &str) -> Check {
    const NAME: &str = "address";
    let Ok(socket) = address.parse::<SocketAddr>() else {
        return Check::failed(NAME, format!("`{address}` is not an address"), "write ADDRESS:PORT");
    };
    match TcpListener::bind(socket) {
        Ok(_) => Check::ok(NAME, format!("{socket} is free; no server runs here")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let client = match Client::new(&format!("http://{socket}"), None) {
                Ok(client) => client,
                Err(error) => {
                    return Check::failed(NAME, format!("{socket} is taken: {error}"), "choose another with `listen`");
                }
            };
            match client.ready().await {
                Ok(health) => match health.status {
                    HealthStatus::Ok => Check::ok(NAME, format!("a Freehold answers at {socket} and is ready")),
                    HealthStatus::Unavailable => {
                        let seen = format!("a Freehold answers at {socket} and is not ready");
                        Check::failed(NAME, seen, "see its log, and /readyz?verbose")
                    }
                },
                Err(ClientError::Unreachable { .. }) => Check::failed(
                    NAME,
                    format!("{socket} is taken, and nobody answers"),
                    "choose another with `listen`",
                ),
                Err(ClientError::Problem(_) | ClientError::Setup(_) | ClientError::Unexpected { .. }) => {
                    Check::failed(NAME, format!("{socket} is taken by something else"), "choose another with `listen`")
                }
            }
        }
        Err(error) => Check::failed(NAME, format!("{socket}: {}", plain(&error)), "choose another with `listen`"),
    }
}

/// Whether instances of the process provider can be held to the limits of their tier. Without that they run unlimited.
fn limits(support: &LimitsSupport) -> Check {
    const NAME: &str = "process limits";
    if support.enforced() {
        Check::ok(NAME, support.to_string())
    } else {
        let hint = "instances of the process provider run without them; a systemd unit hands them down with \
                    Delegate=yes and DelegateSubgroup=freehold-server";
        Check::warning(NAME, support.to_string(), hint)
    }
}

/// Whether there are file descriptors for as many connections as a server takes.
fn open_files(limit: Option<u64>) -> Check {
    const NAME: &str = "open files";
    match limit {
        None => Check::ok(NAME, "without limit"),
        Some(limit) if limit >= OPEN_FILES_GOOD => Check::ok(NAME, format!("{limit} at once")),
        Some(limit) => {
            let hint = "each connection takes one, and each to an instance another: raise it with `ulimit -n` or the service manager";
            Check::warning(NAME, format!("{limit} at once"), hint)
        }
    }
}

#[cfg(test)]
mod tests {
    use freehold_domain::time::Timestamp;

    use super::*;

    #[test]
    fn a_folder_that_cannot_be_made_is_found_out() {
        let temp = tempfile::tempdir().unwrap();
        assert_eq!(folder(&temp.path().join("a/b")).verdict, Verdict::Ok);
        fs::write(temp.path().join("file"), "").unwrap();
        assert_eq!(folder(&temp.path().join("file/x")).verdict, Verdict::Failed);
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1, "nothing of the look is left");
    }

    #[test]
    fn a_key_that_others_can_read_is_noticed() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join(OPERATOR_KEY_FILE);
        assert_eq!(key(&path).verdict, Verdict::Ok);
        fs::write(&path, "k").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(key(&path).verdict, Verdict::Warning);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(key(&path).verdict, Verdict::Ok);
    }

    #[test]
    fn a_database_that_is_not_ours_is_found_out() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("registry.db");
        assert_eq!(database(&path).verdict, Verdict::Ok, "none yet");
        assert!(!path.exists(), "to look makes nothing");
        migrate::up(&path, Timestamp::from_micros(0)).unwrap();
        assert_eq!(database(&path).verdict, Verdict::Ok);
        fs::write(&path, "notes of somebody else, long enough to be mistaken for a database ".repeat(100)).unwrap();
        let check = database(&path);
        assert_eq!(check.verdict, Verdict::Failed);
        assert!(check.hint.is_some(), "{check:?}");
    }

    #[test]
    fn few_open_files_are_a_warning() {
        assert_eq!(open_files(None).verdict, Verdict::Ok);
        assert_eq!(open_files(Some(1_048_576)).verdict, Verdict::Ok);
        assert_eq!(open_files(Some(256)).verdict, Verdict::Warning);
    }

    #[test]
    fn limits_that_are_not_enforced_are_a_warning_that_says_why() {
        let support = freehold_providers::process::limits();
        let check = limits(&support);
        assert_eq!(check.verdict == Verdict::Ok, support.enforced(), "{check:?}");
        assert_eq!(check.seen, support.to_string());
    }

    #[tokio::test]
    async fn an_address_that_something_else_holds_is_found_out() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let free = listen("127.0.0.1:0").await;
        assert_eq!(free.verdict, Verdict::Ok, "{free:?}");
        let holder = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = holder.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((socket, _)) = holder.accept().await {
                drop(socket);
            }
        });
        assert_eq!(listen(&address).await.verdict, Verdict::Failed);
    }
}
