//! The machine's own list of processes, read to check what the server says.

use std::collections::BTreeMap;
use std::fs;

use uuid::Uuid;

/// The programs of an installation's instances, by instance. Read from `/proc/*/environ`, not from the server.
///
/// Processes that end while they are looked at, and those of other users, are not among them.
pub(super) fn programs(install: &str) -> std::io::Result<BTreeMap<Uuid, Vec<u32>>> {
    let mut programs: BTreeMap<Uuid, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { continue };
        let ours = variable(&environment, "FREEHOLD_INSTALL").is_some_and(|name| name == install);
        let instance = variable(&environment, "FREEHOLD_INSTANCE_ID").and_then(|id| id.parse().ok());
        if let (true, Some(instance)) = (ours, instance) {
            programs.entry(instance).or_default().push(pid);
        }
    }
    Ok(programs)
}

fn variable<'a>(environment: &'a [u8], name: &str) -> Option<&'a str> {
    environment.split(|byte| *byte == 0).find_map(|pair| {
        let value = pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        std::str::from_utf8(value).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_found_by_its_whole_name() {
        let environment = b"XFREEHOLD_INSTALL=x\0FREEHOLD_INSTALL_2=y\0FREEHOLD_INSTALL=z=1\0";
        assert_eq!(variable(environment, "FREEHOLD_INSTALL"), Some("z=1"));
        assert_eq!(variable(environment, "FREEHOLD"), None);
    }
}
