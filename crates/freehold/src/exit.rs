//! How a command ends when it does not succeed: an exit code, what went wrong, and what to do about it.
//!
//! The codes are part of the contract: 1 failed, 2 usage or configuration, 3 conflict, 4 not found, 5 unavailable. A
//! backtrace is never among them.

use std::io::{self, Write as _};
use std::process::ExitCode;

use freehold_api::client::ClientError;
use freehold_api::{Code, Problem};

use crate::config::ConfigError;

/// Why a command did not succeed, as its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The reader of our output went away; there is nobody to tell.
    Unread = 0,
    /// It failed.
    Failed = 1,
    /// It was called wrongly, or the configuration is wrong.
    Usage = 2,
    /// Something else is in the way.
    Conflict = 3,
    /// It does not exist.
    NotFound = 4,
    /// Try again.
    Unavailable = 5,
}

/// A command's failure.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) exit: Exit,
    /// What went wrong: one line, or one per finding.
    pub(crate) lines: Vec<String>,
    /// What to do.
    pub(crate) hint: Option<String>,
    /// What the server said, for `--json`.
    pub(crate) problem: Option<Box<Problem>>,
}

impl Failure {
    /// A failure of a kind.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, lines: vec![message.into()], hint: None, problem: None }
    }

    /// Wrong use.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// A failure of no other kind.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// Says what to do.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What a problem means for a command.
    pub(crate) fn of_problem(problem: Problem) -> Self {
        let exit = match problem.status {
            400 | 413 | 415 => Exit::Usage,
            404 | 410 => Exit::NotFound,
            409 | 422 => Exit::Conflict,
            408 | 429 | 503 => Exit::Unavailable,
            _ if problem.retryable => Exit::Unavailable,
            _ => Exit::Failed,
        };
        let mut lines = vec![problem.to_string()];
        if problem.errors.len() > 1 {
            lines.extend(problem.errors.iter().map(|error| format!("{}: {}", error.pointer, error.detail)));
        }
        Self { exit, lines, hint: hint_for(&problem), problem: Some(Box::new(problem)) }
    }

    /// Tells the operator on stderr, and a program on stdout.
    pub(crate) fn tell(&self, json: bool) -> ExitCode {
        if self.exit != Exit::Unread {
            // Nothing can be done about a stderr or stdout that is gone.
            let mut stderr = io::stderr().lock();
            for line in &self.lines {
                let _ = writeln!(stderr, "error: {line}");
            }
            if let Some(hint) = &self.hint {
                let _ = writeln!(stderr, "hint: {hint}");
            }
            if let (true, Some(problem)) = (json, &self.problem)
                && let Ok(text) = serde_json::to_string_pretty(problem)
            {
                let _ = writeln!(io::stdout().lock(), "{text}");
            }
        }
        ExitCode::from(self.exit as u8)
    }
}

/// What to do about a problem, where a command can help.
fn hint_for(problem: &Problem) -> Option<String> {
    let of_code = match problem.code {
        Code::Unauthorized => {
            Some("give a key in FREEHOLD_TOKEN or with --token-file, or run this on the server's machine with its --data-dir".to_owned())
        }
        Code::Forbidden => Some("use a key with the operator's role".to_owned()),
        Code::ProvisionInProgress | Code::ReservationActive => {
            problem.operation_id.map(|id| format!("follow it with `freehold operation watch {id}`"))
        }
        Code::InstanceAlreadyActive => problem.instance_id.map(|id| format!("look at it with `freehold instance show {id}`")),
        Code::ReservationNotReleasable | Code::ProviderResourcesPresent | Code::ReservationStatusChanged => {
            problem.instance_id.map(|id| format!("look at the evidence with `freehold reservation show {id}`"))
        }
        _ => None,
    };
    let wait = problem.retry_after_seconds().map(|seconds| format!("try again in {seconds} s"));
    of_code.or(wait).or_else(|| Some(format!("the server explains it at {}", problem.kind)))
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Problem(problem) => Self::of_problem(*problem),
            ClientError::Setup(message) => Self::usage(message),
            ClientError::Unreachable { url, source } => {
                let why = innermost(&source);
                Self::new(Exit::Unavailable, format!("no answer from {url}: {why}"))
                    .hint("start a server with `freehold serve`, or name one with --server or FREEHOLD_SERVER")
            }
            ClientError::Unexpected { status, body } => {
                let exit = if matches!(status, 502..=504) { Exit::Unavailable } else { Exit::Failed };
                let begins: String = body.lines().next().unwrap_or_default().chars().take(80).collect();
                let said = if begins.is_empty() { String::new() } else { format!(": {begins}") };
                Self::new(exit, format!("the answer is not from a Freehold of this version (status {status}{said})"))
                    .hint("see what listens there, or name the server with --server or FREEHOLD_SERVER")
            }
        }
    }
}

/// The last link of a chain of errors: the one that says what happened.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    let text = last.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let findings = error.findings();
        if let [only] = findings {
            return Self { hint: only.hint.clone(), ..Self::usage(only.to_string()) };
        }
        let lines = findings.iter().map(|finding| match &finding.hint {
            Some(hint) => format!("{finding} ({hint})"),
            None => finding.to_string(),
        });
        Self { lines: lines.collect(), ..Self::usage("") }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::new(Exit::Unread, ""),
            _ => Self::failed(crate::config::plain(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn every_problem_has_the_exit_code_of_the_contract() {
        for (code, exit) in [
            (Code::InvalidRequest, Exit::Usage),
            (Code::Unauthorized, Exit::Failed),
            (Code::InstanceNotFound, Exit::NotFound),
            (Code::Gone, Exit::NotFound),
            (Code::InstanceAlreadyActive, Exit::Conflict),
            (Code::IdempotencyKeyReused, Exit::Conflict),
            (Code::RateLimited, Exit::Unavailable),
            (Code::StoreUnavailable, Exit::Unavailable),
            (Code::ProvisionCompletionPending, Exit::Unavailable),
            (Code::InternalError, Exit::Failed),
            (Code::ProviderRejected, Exit::Failed),
        ] {
            assert_eq!(Failure::of_problem(Problem::new(code, "x")).exit, exit, "{code}");
        }
    }

    #[test]
    fn a_conflict_says_where_to_look() {
        let id = Uuid::from_u128(7);
        let failure = Failure::of_problem(Problem::new(Code::ProvisionInProgress, "being created").operation(id));
        assert_eq!(failure.lines, ["being created (provision_in_progress)"]);
        assert_eq!(failure.hint.unwrap(), format!("follow it with `freehold operation watch {id}`"));
    }

    #[test]
    fn an_invalid_request_lists_every_place_when_there_are_several() {
        let errors = ["#/a", "#/b"].map(|at| freehold_api::FieldError::new(at, "is wrong"));
        let failure = Failure::of_problem(Problem::invalid(errors.to_vec()));
        assert_eq!(failure.lines[1..], ["#/a: is wrong", "#/b: is wrong"]);
        let one = Failure::of_problem(Problem::invalid(errors[..1].to_vec()));
        assert_eq!(one.lines, ["#/a: is wrong (invalid_request)"]);
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        assert_eq!(Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)).exit, Exit::Unread);
        assert_eq!(Failure::from(io::Error::from(io::ErrorKind::StorageFull)).exit, Exit::Failed);
    }
}
