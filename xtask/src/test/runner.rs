//! The test runner, `cargo nextest`, and its summary.
//!
//! Its output passes through as it comes; the summary is kept so that it can stand at the end of everything.

use super::stage::Failure;
use super::tools;
use crate::workspace;
use anyhow::{Context, anyhow};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;

/// Runs every test of the workspace. Finding none is a failure.
pub(super) fn run() -> Result<Option<String>, Failure> {
    let mut nextest = workspace::program(tools::CARGO_NEXTEST.path()?);
    nextest.args(["nextest", "run", "--workspace", "--locked", "--no-tests", "fail"]);
    // The models are searched in full by the stage `proof`, optimised.
    nextest.args(["--filterset", "not binary(=model)"]);
    nextest.stderr(Stdio::piped());
    let mut child = nextest.spawn().context("cannot start cargo-nextest")?;
    let stderr = child.stderr.take().expect("stderr is piped, one line above");
    let closing = pass_on(stderr, &mut std::io::stderr().lock()).context("cannot read the test runner's output")?;
    let status = child.wait().context("cannot wait for cargo-nextest")?;
    match (status.success(), closing) {
        (true, Some(closing)) => Ok(Some(closing)),
        (true, None) => Err(anyhow!("`{}` printed no summary", workspace::shown(&nextest)).into()),
        (false, closing) => {
            Err(Failure { cause: anyhow!("`{}` ended with {status}", workspace::shown(&nextest)), closing })
        }
    }
}

/// Copies lines from one to the other until the end, and returns the runner's summary if it was among them.
fn pass_on(from: impl Read, to: &mut impl Write) -> std::io::Result<Option<String>> {
    let mut summary = None;
    for line in BufReader::new(from).split(b'\n') {
        let line = line?;
        to.write_all(&line)?;
        to.write_all(b"\n")?;
        let text = String::from_utf8_lossy(&line);
        if text.trim_start().starts_with("Summary [") {
            summary = Some(text.trim().to_owned());
        }
    }
    Ok(summary)
}

#[cfg(test)]
mod tests {
    use super::pass_on;

    #[test]
    fn the_summary_is_kept_and_every_line_passed_on() {
        let said = "    Starting 2 tests\n     Summary [   0.01s] 2 tests run: 2 passed, 0 skipped\n  bye\n";
        let mut copy = Vec::new();
        let summary = pass_on(said.as_bytes(), &mut copy).expect("memory does not fail");
        assert_eq!(summary.as_deref(), Some("Summary [   0.01s] 2 tests run: 2 passed, 0 skipped"));
        assert_eq!(copy, said.as_bytes());
    }

    #[test]
    fn a_run_without_summary_has_none() {
        assert_eq!(pass_on(&b"error: no tests\n"[..], &mut Vec::new()).expect("memory does not fail"), None);
    }
}
