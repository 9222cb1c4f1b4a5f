//! What really runs: the process table, searched by the marker that every instance carries in its environment.

use anyhow::Result;
use std::collections::BTreeMap;
use std::process::Command;

/// Process ids by instance, of this installation. Dead processes that nobody has waited for have no environment, and so
/// are not counted.
pub(super) fn by_instance(install: &str) -> Result<BTreeMap<String, Vec<u32>>> {
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
pub(super) fn end(install: &str) -> Result<()> {
    for pid in by_instance(install)?.into_values().flatten() {
        let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
    }
    Ok(())
}
