//! Ends a lab when its test ends, also when the test is killed.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

/// Reads until the other end of the pipe is closed, by whatever; then ends everything that has a file with its id in a
/// folder of `$0`, and removes the folder. A postmaster that is told to quit takes its children and its shared memory along.
const SCRIPT: &str = r#"
cat >/dev/null
for file in "$0"/*/pid "$0"/*/postmaster.pid; do
    pid=$(head -n 1 "$file" 2>/dev/null) || continue
    # A stopped process does not hear anything else.
    kill -CONT "$pid" $(cat "/proc/$pid/task/$pid/children" 2>/dev/null) 2>/dev/null
    kill -QUIT "$pid" 2>/dev/null || continue
    # A zombie has ended; its parent may be waiting for this very script.
    tries=0
    while grep -qs '^State:.[^Z]' "/proc/$pid/status" && [ $tries -lt 300 ]; do sleep 0.01; tries=$((tries + 1)); done
    kill -KILL "$pid" 2>/dev/null
done
rm -rf "$0"
"#;

/// Ends the lab when it is dropped, or when this process is no more.
#[derive(Debug)]
pub(crate) struct Watchdog(Child);

impl Watchdog {
    /// Watches over the lab in a folder.
    pub(crate) fn over(folder: &Path) -> Result<Self> {
        // In a session of its own: what ends a test may end everything that is in the test's.
        let mut command = Command::new("setsid");
        command.args(["--wait", "sh", "-c", SCRIPT]).arg(folder);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self(command.spawn().context("starting the watchdog of a lab")?))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        drop(self.0.wait());
    }
}
