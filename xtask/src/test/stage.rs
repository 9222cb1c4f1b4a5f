//! The stages, cheap ones first, and what each of them runs.

use super::{examples, runner, tools};
use crate::{tidy, workspace};
use clap::ValueEnum;

/// How many seeds the proof of a test run has; `cargo xtask proof` has more. The grid, the scenes, the twins and the models
/// are whole.
const PROOF_SEEDS: u32 = 8_000;

/// How many provisions the Fly campaign of a test run has; `cargo xtask fly` has twice as many.
const FLY_PROVISIONS: u32 = 1_000;

/// How often the crash test kills the server.
const CRASH_KILLS: &str = "100";

/// One part of the whole test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Stage {
    /// The formatting is rustfmt's
    Fmt,
    /// Rules of the tree, as `cargo xtask tidy`
    Tidy,
    /// Licences, sources and banned crates
    Deny,
    /// The workspace has no warning
    Clippy,
    /// Every test of the workspace
    Tests,
    /// The examples in the documentation
    Doc,
    /// The grid, the seeds, the twins and the models
    Proof,
    /// The server is killed, frozen and has a disk that fails
    Crash,
    /// The Docker provider at a real Docker Engine and a real Podman service
    Engines,
    /// The server on a Machines API that fails
    Fly,
    /// The server with records and billing that fail
    Records,
    /// Three servers on one PostgreSQL, while everything fails
    Chaos,
    /// The example web application in a real browser
    Webapp,
}

/// A stage that did not pass.
pub(super) struct Failure {
    /// What went wrong.
    pub(super) cause: anyhow::Error,
    /// What the stage still has to say at the very end.
    pub(super) closing: Option<String>,
}

impl From<anyhow::Error> for Failure {
    fn from(cause: anyhow::Error) -> Self {
        Self { cause, closing: None }
    }
}

impl Stage {
    /// Every stage in the order of a whole run.
    pub(super) const ALL: [Self; 13] = [
        Self::Fmt,
        Self::Tidy,
        Self::Deny,
        Self::Clippy,
        Self::Tests,
        Self::Doc,
        Self::Proof,
        Self::Crash,
        Self::Engines,
        Self::Fly,
        Self::Records,
        Self::Chaos,
        Self::Webapp,
    ];

    /// What `--only` calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Fmt => "fmt",
            Self::Tidy => "tidy",
            Self::Deny => "deny",
            Self::Clippy => "clippy",
            Self::Tests => "tests",
            Self::Proof => "proof",
            Self::Doc => "doc",
            Self::Crash => "crash",
            Self::Engines => "engines",
            Self::Fly => "fly",
            Self::Records => "records",
            Self::Chaos => "chaos",
            Self::Webapp => "webapp",
        }
    }

    /// What it looks at, for the line printed before it runs.
    pub(super) fn about(self) -> &'static str {
        match self {
            Self::Fmt => "formatting, as rustfmt has it",
            Self::Tidy => "rules of the tree",
            Self::Deny => "licences, sources and banned crates",
            Self::Clippy => "lints of the whole workspace, warnings are errors",
            Self::Tests => "every test of the workspace",
            Self::Proof => "the grid, the seeds, the twins and the models",
            Self::Doc => "examples in the documentation",
            Self::Crash => "the server, killed, frozen and with a disk that fails",
            Self::Engines => "the Docker provider at a Docker Engine and a Podman service",
            Self::Fly => "the server on a Machines API that fails",
            Self::Records => "the server with its records in PostgreSQL and a billing service, while both fail",
            Self::Chaos => "three servers on one PostgreSQL that fails over, while everything else fails too",
            Self::Webapp => "the example web application in a real browser",
        }
    }

    /// Runs it to its end. On success, what it wants to have said last.
    pub(super) fn run(self) -> Result<Option<String>, Failure> {
        match self {
            Self::Fmt => cargo("fmt --all --check"),
            Self::Tidy => Ok(tidy::run().map(|()| None)?),
            Self::Deny => deny(),
            Self::Clippy => {
                cargo("clippy --workspace --all-targets --locked -- -D warnings")?;
                // The proof is built with switches that nothing else has.
                cargo("clippy --package freehold-sim --all-targets --features twins --locked -- -D warnings")
            }
            Self::Tests => runner::run(),
            Self::Doc if examples::any()? => cargo("test --workspace --doc --locked"),
            Self::Doc => Ok(Some("doc: the documentation has no examples to run".to_owned())),
            Self::Proof => cargo(&format!("xtask proof --seeds {PROOF_SEEDS}")),
            Self::Crash => cargo(&format!("xtask crash --kills {CRASH_KILLS}")),
            Self::Engines => cargo("xtask engines"),
            Self::Fly => cargo(&format!("xtask fly --provisions {FLY_PROVISIONS}")),
            Self::Records => cargo("xtask records"),
            Self::Chaos => cargo("xtask chaos --short"),
            Self::Webapp => cargo("xtask webapp"),
        }
    }
}

/// One cargo command, its words separated by spaces.
fn cargo(words: &str) -> Result<Option<String>, Failure> {
    Ok(workspace::succeed(workspace::cargo().args(words.split(' '))).map(|()| None)?)
}

/// The advisory database is left out: it changes without the tree, and a test does not.
fn deny() -> Result<Option<String>, Failure> {
    let mut deny = workspace::program(tools::CARGO_DENY.path()?);
    deny.args(["--locked", "check", "bans", "licenses", "sources"]);
    Ok(workspace::succeed(&mut deny).map(|()| None)?)
}

#[cfg(test)]
mod tests {
    use super::Stage;
    use clap::ValueEnum;

    #[test]
    fn a_stage_is_called_what_the_command_line_calls_it() {
        assert_eq!(Stage::value_variants(), Stage::ALL);
        for stage in Stage::ALL {
            assert_eq!(Stage::from_str(stage.name(), false), Ok(stage));
        }
    }
}
