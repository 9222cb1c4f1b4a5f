//! Waiting for what another process does.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Waits until something holds, and says what the last look said where it does not in time.
pub(crate) fn until(within: Duration, what: &str, holds: impl Fn() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + within;
    loop {
        let last = match holds() {
            Ok(true) => return Ok(()),
            Ok(false) => String::new(),
            Err(error) => format!(": {error:#}"),
        };
        if Instant::now() > deadline {
            bail!("waited {within:?} until {what}{last}");
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
