//! What a machine needs, and how it gets it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// Where Debian puts the programs of PostgreSQL 15.
pub(crate) const BIN: &str = "/usr/lib/postgresql/15/bin";

/// Where Debian puts PgBouncer.
pub(crate) const PGBOUNCER: &str = "/usr/sbin/pgbouncer";

/// Programs that are needed, and the Debian packages that have them.
const NEEDED: &[(&str, &str)] = &[
    ("/usr/lib/postgresql/15/bin/postgres", "postgresql-15"),
    (PGBOUNCER, "pgbouncer"),
    ("/usr/bin/openssl", "openssl"),
    ("/usr/bin/setpriv", "util-linux"),
];

/// The folder of all labs: where another user may enter.
pub(crate) fn root() -> Result<PathBuf> {
    let root = std::env::temp_dir().join("freehold-postgres-lab");
    fs::create_dir_all(&root).with_context(|| format!("making {}", root.display()))?;
    Ok(root)
}

/// Waits until nobody else has the lock of that name, and has it until it is dropped.
pub(crate) fn lock(name: &str) -> Result<File> {
    let path = root()?.join(name);
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.with_context(|| format!("opening {}", path.display()))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)?;
    Ok(file)
}

/// Installs what the lab itself needs.
pub(crate) fn install() -> Result<()> {
    need(NEEDED)
}

/// Installs the Debian packages of programs that are missing: each is a path and its package. Tests that need the same
/// wait for one another.
///
/// # Errors
/// Where it is missing and this is not root, or the package manager complains.
pub fn need(needed: &[(&str, &str)]) -> Result<()> {
    let missing = || needed.iter().filter(|(place, _)| !Path::new(place).exists()).map(|(_, package)| *package);
    if missing().next().is_none() {
        return Ok(());
    }
    let _lock = lock("install.lock")?;
    let packages: Vec<&str> = missing().collect();
    if packages.is_empty() {
        return Ok(());
    }
    ensure!(is_root(), "{} must be installed, and only root may", packages.join(", "));
    // The package would start a cluster of its own.
    let common = Path::new("/etc/postgresql-common");
    if !common.join("createcluster.conf").exists() {
        fs::create_dir_all(common)?;
        fs::write(common.join("createcluster.conf"), "create_main_cluster = false\n")?;
    }
    let mut install = Command::new("apt-get");
    install.env("DEBIAN_FRONTEND", "noninteractive").args(["install", "-y", "-qq", "--no-install-recommends"]);
    install.args(["-o", "Dpkg::Options::=--force-confold"]).args(&packages);
    if run(&mut install).is_err() {
        // The lists of packages may be missing or old.
        run(Command::new("apt-get").args(["update", "-qq"]))?;
        run(&mut install)?;
    }
    Ok(())
}

/// Whether this process is root, which PostgreSQL refuses to be.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A program, to be run as a user that PostgreSQL accepts.
pub(crate) fn unprivileged(program: impl AsRef<Path>) -> Command {
    let program = program.as_ref();
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.stdin(Stdio::null());
    command
}

/// Makes a folder that only the user of [`unprivileged`] may enter.
pub(crate) fn folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("making {}", path.display()))?;
    give(path)
}

/// Gives a file, or a folder with everything in it, to the user of [`unprivileged`].
pub(crate) fn give(path: &Path) -> Result<()> {
    if is_root() {
        run(Command::new("chown").args(["-R", "postgres:postgres"]).arg(path))?;
    }
    Ok(())
}

/// Runs a program to its end. Answers what it said.
///
/// # Errors
/// With what it complained of, if it failed.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("starting {command:?}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} failed: {}", said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
