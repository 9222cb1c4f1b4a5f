//! Tools the test needs beside the toolchain, at the versions it was written for.
//!
//! One that is installed is used; one that is missing is built once and kept in `target/tools`.

use crate::workspace;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// Checks licences, sources and bans against `deny.toml`.
pub(super) const CARGO_DENY: Tool = Tool { name: "cargo-deny", version: "0.20.2", accepts: "0.20." };

/// Runs the tests, each in its own process.
pub(super) const CARGO_NEXTEST: Tool = Tool { name: "cargo-nextest", version: "0.9.143", accepts: "0.9." };

/// A program that is built from source when it is missing.
pub(super) struct Tool {
    /// The crate and its program.
    name: &'static str,
    /// What is installed when it is missing.
    version: &'static str,
    /// How the version of a usable one begins.
    accepts: &'static str,
}

impl Tool {
    /// Where the program is, after building it if there is none.
    ///
    /// # Errors
    /// Where it cannot be built; cargo has said why.
    pub(super) fn path(&self) -> Result<PathBuf> {
        let kept = workspace::target_dir().join("tools");
        let ours = kept.join("bin").join(self.name);
        for candidate in [PathBuf::from(self.name), ours.clone()] {
            if self.is_usable(&candidate) {
                return Ok(candidate);
            }
        }
        eprintln!("installing {} {} into {} (once, some minutes)", self.name, self.version, kept.display());
        let mut install = workspace::cargo();
        // Unoptimised: it runs for a second, and takes one minute to build instead of two.
        install.args(["install", "--debug", "--quiet", "--locked", "--version", self.version, self.name, "--root"]);
        install.arg(&kept);
        workspace::succeed(&mut install).with_context(|| format!("{} is needed and cannot be installed", self.name))?;
        Ok(ours)
    }

    fn is_usable(&self, program: &Path) -> bool {
        let version = workspace::output(workspace::program(program).arg("--version"));
        version.is_ok_and(|text| self.accepts(&String::from_utf8_lossy(&text)))
    }

    /// Whether `name 1.2.3 (…)` is a version the test was written for.
    fn accepts(&self, said: &str) -> bool {
        said.split_whitespace().nth(1).is_some_and(|version| version.starts_with(self.accepts))
    }
}

#[cfg(test)]
mod tests {
    use super::CARGO_DENY;

    #[test]
    fn another_version_is_not_taken() {
        assert!(CARGO_DENY.accepts("cargo-deny 0.20.2"));
        assert!(!CARGO_DENY.accepts("cargo-deny 0.18.0"));
        assert!(!CARGO_DENY.accepts(""));
    }
}
