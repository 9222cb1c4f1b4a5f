//! Programs that a stage needs and that a machine may not have: installed from Debian's packages, as root.

use anyhow::Result;
use std::path::Path;
use std::process::Command;

use crate::workspace;

/// Installs the packages whose place is missing. Each pair is a path that is there once the package is, and its name.
pub(crate) fn install(needed: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<&str> =
        needed.iter().filter(|(place, _)| !Path::new(place).exists()).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("installing {} …", missing.join(", "));
    let mut install = Command::new("apt-get");
    install.env("DEBIAN_FRONTEND", "noninteractive").args(["install", "-y", "-qq", "--no-install-recommends"]);
    let installed = workspace::succeed(install.args(&missing));
    if installed.is_err() {
        // The lists of packages may be missing or old.
        workspace::succeed(Command::new("apt-get").args(["update", "-qq"]))?;
        return workspace::succeed(&mut install);
    }
    installed
}
