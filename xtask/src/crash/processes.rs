//! What really runs: the process table, searched by the marker that every instance carries in its environment.

use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

/// Process ids by instance, of this installation. Dead processes that nobody has waited for have no environment, and so
/// are not counted.
pub(crate) fn by_instance(install: &str) -> Result<BTreeMap<String, Vec<u32>>> {
    let mut found: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // A process may end between the listing and this.
        let Ok(environ) = std::fs::read(entry.path().join("environ")) else { continue };
        let value = |name: &str| {
            environ
                .split(|byte| *byte == 0)
                .find_map(|pair| pair.strip_prefix(name.as_bytes()))
                .map(|value| String::from_utf8_lossy(value).into_owned())
        };
        if value("FREEHOLD_INSTALL=").as_deref() == Some(install)
            && let Some(instance) = value("FREEHOLD_INSTANCE_ID=")
        {
            found.entry(instance).or_default().push(pid);
        }
    }
    Ok(found)
}

/// Ends everything of this installation: what a failed run leaves behind is nobody's.
pub(crate) fn end(install: &str) -> Result<()> {
    for pid in by_instance(install)?.into_values().flatten() {
        let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
    }
    Ok(())
}

/// Sends a signal, by its name without `SIG`.
pub(super) fn signal(pid: u32, name: &str) -> Result<()> {
    let status = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status()?;
    ensure!(status.success(), "SIG{name} cannot be sent to {pid}");
    Ok(())
}

/// Whether a process is stopped by a signal.
pub(super) fn is_stopped(pid: u32) -> Result<bool> {
    Ok(stat(pid)?.first().is_some_and(|state| state == "T"))
}

/// The processor time a process has used.
pub(super) fn cpu_time(pid: u32) -> Result<Duration> {
    // Fields 14 and 15 of the line, in hundredths of a second on every Linux.
    let ticks = stat(pid)?.iter().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum::<u64>();
    Ok(Duration::from_millis(ticks * 10))
}

/// What `/proc` says of a process, from field 3 on, its state. The name before it may hold anything.
fn stat(pid: u32) -> Result<Vec<String>> {
    let line = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = line.rsplit_once(") ").context("a process without a name")?;
    Ok(fields.split_whitespace().map(str::to_owned).collect())
}
