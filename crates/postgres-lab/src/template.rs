//! The cluster that every other is a copy of: made once on a machine, under a lock, and never started again.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use super::cluster::{DATABASE_ROLE, PASSWORD, PASSWORD_ROLE};
use super::install::{BIN, folder, lock, root, run, unprivileged};

/// Changes with whatever a template is made of.
const VERSION: u32 = 1;

/// Small, and quick to start and to end. What is committed is written before it is answered, and not synced: a killed
/// process loses nothing.
const CONF: &str = "
fsync = off
full_page_writes = off
synchronous_commit = on
shared_buffers = 16MB
max_connections = 60
max_wal_size = 256MB
min_wal_size = 8MB
autovacuum = off
listen_addresses = '127.0.0.1'
ssl = on
ssl_cert_file = 'server.crt'
ssl_key_file = 'server.key'
ssl_ca_file = 'ca.crt'
log_line_prefix = '%m [%p] %u@%d '
log_connections = off
";

fn hba() -> String {
    format!(
        "local all all trust\n\
         host all {PASSWORD_ROLE} 127.0.0.1/32 scram-sha-256\n\
         host all all 127.0.0.1/32 trust\n"
    )
}

/// The folder of the template.
pub(crate) fn ready() -> Result<PathBuf> {
    let template = root()?.join(format!("template-{VERSION}"));
    if template.exists() {
        return Ok(template);
    }
    let _lock = lock("template.lock")?;
    if template.exists() {
        return Ok(template);
    }
    let making = root()?.join(format!("making-{VERSION}"));
    drop(fs::remove_dir_all(&making));
    folder(&making)?;
    make(&making).context("making the template of the clusters")?;
    fs::rename(&making, &template)?;
    Ok(template)
}

fn make(data: &Path) -> Result<()> {
    let mut initdb = unprivileged(Path::new(BIN).join("initdb"));
    initdb.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--wal-segsize=4", "-D"]);
    run(initdb.arg(data))?;
    let conf = data.join("postgresql.conf");
    fs::write(&conf, fs::read_to_string(&conf)? + CONF)?;
    fs::write(data.join("pg_hba.conf"), hba())?;
    certificates(data)?;
    // Single-user mode reads statements to an empty line.
    let roles =
        format!("CREATE ROLE {DATABASE_ROLE} LOGIN;\n\nCREATE ROLE {PASSWORD_ROLE} LOGIN PASSWORD '{PASSWORD}';\n\n");
    let mut single = unprivileged(Path::new(BIN).join("postgres"));
    single.args(["--single", "-j", "-D"]).arg(data).arg("postgres").stdin(Stdio::piped());
    let mut process = single.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    process.stdin.take().context("it has an input")?.write_all(roles.as_bytes())?;
    let output = process.wait_with_output()?;
    ensure!(output.status.success(), "PostgreSQL made no roles: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// An authority, and a server's certificate for `localhost` that it signed.
fn certificates(data: &Path) -> Result<()> {
    let openssl = |args: &[&str]| run(unprivileged("/usr/bin/openssl").current_dir(data).args(args));
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "3650"];
    let authority = ["req", "-x509", "-subj", "/CN=freehold lab", "-keyout", "ca.key", "-out", "ca.crt"];
    openssl(&[&authority[..], &key[..]].concat())?;
    let request = ["req", "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr"];
    openssl(&[&request[..], &key[..5]].concat())?;
    fs::write(data.join("san"), "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n")?;
    openssl(&[
        "x509",
        "-req",
        "-in",
        "server.csr",
        "-CA",
        "ca.crt",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        "3650",
        "-extfile",
        "san",
        "-out",
        "server.crt",
    ])?;
    fs::set_permissions(data.join("server.key"), Permissions::from_mode(0o600))?;
    Ok(())
}
