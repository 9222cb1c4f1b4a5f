//! Following an operation until it is over, through whatever happens to the connection.
//!
//! The event stream is a convenience: when it breaks, the operation is looked up and followed again, so that a server
//! that is restarted in the middle is waited for.

use std::collections::HashMap;
use std::pin::pin;
use std::time::Duration;

use clap::Args;
use freehold_api::client::{Client, ClientError};
use freehold_api::v1::operations::{EVENT_NAME, Operation, OperationStatus, Step, StepStatus};
use futures_util::StreamExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use uuid::Uuid;

use crate::config::Period;
use crate::exit::{Exit, Failure};
use crate::output::{is_watched, say, word};

/// How long to rest before a server that does not answer is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// How often the spinner turns.
const TURN: Duration = Duration::from_millis(120);

/// Whether and how long to wait for work that goes on.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Wait {
    /// Wait until the work is done (this is what happens anyway)
    #[arg(long, overrides_with = "no_wait")]
    wait: bool,
    /// Do not wait; print what was accepted
    #[arg(long)]
    no_wait: bool,
    /// How long to wait at most; the work goes on behind that
    #[arg(long, value_name = "DURATION", default_value = "10m")]
    timeout: Period,
}

impl Wait {
    /// How long to wait; `None` for not at all.
    pub(crate) fn longest(self) -> Option<Duration> {
        (self.wait || !self.no_wait).then(|| self.timeout.get())
    }
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// Nothing is left to do.
    Over,
    /// The outcome is known; what a failure left may still be cleaned up.
    Decided,
}

impl Until {
    fn is_met(self, operation: &Operation) -> bool {
        match (self, operation.status) {
            (_, OperationStatus::Succeeded | OperationStatus::Failed | OperationStatus::Cancelled) => true,
            (Self::Decided, OperationStatus::Reconciling) => operation.error.is_some(),
            (Self::Over, OperationStatus::Reconciling) => false,
            (_, OperationStatus::Running | OperationStatus::Waiting) => false,
        }
    }
}

/// Follows an operation, showing its steps on stderr.
///
/// # Errors
/// An operation that is not there, or one that goes on longer than `longest`.
pub(crate) async fn follow(client: &Client, id: Uuid, until: Until, longest: Duration) -> Result<Operation, Failure> {
    let mut progress = Progress::new();
    let followed = tokio::time::timeout(longest, follow_on(client, id, until, &mut progress)).await;
    progress.end();
    followed.unwrap_or_else(|_| {
        Err(Failure::new(Exit::Unavailable, format!("operation {id} goes on, and the time to wait is over"))
            .hint(format!("follow it with `freehold operation watch {id}`")))
    })
}

async fn follow_on(client: &Client, id: Uuid, until: Until, progress: &mut Progress) -> Result<Operation, Failure> {
    loop {
        match client.operation_events(id).await {
            Ok(events) => {
                let mut events = pin!(events);
                while let Some(Ok(event)) = events.next().await {
                    if event.event != EVENT_NAME {
                        continue;
                    }
                    let operation: Operation = event.json()?;
                    progress.show(&operation);
                    if until.is_met(&operation) {
                        return Ok(operation);
                    }
                }
            }
            Err(error) => progress.outage(error)?,
        }
        match client.operation(id).await {
            Ok(operation) => {
                progress.show(&operation);
                if until.is_met(&operation) {
                    return Ok(operation);
                }
            }
            Err(error) => progress.outage(error)?,
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// What an operation that is over, or decided, means for the command that waited for it.
///
/// # Errors
/// An operation that did not succeed, as its problem says.
pub(crate) fn outcome(operation: &Operation) -> Result<(), Failure> {
    let failure = match operation.status {
        OperationStatus::Succeeded => return Ok(()),
        OperationStatus::Cancelled | OperationStatus::Failed => match &operation.error {
            Some(problem) => Failure::of_problem(problem.clone()),
            None => Failure::failed(format!("operation {} is {}", operation.id, word(operation.status))),
        },
        OperationStatus::Running | OperationStatus::Waiting | OperationStatus::Reconciling => {
            let failure = match &operation.error {
                Some(problem) => Failure::of_problem(problem.clone()),
                None => Failure::new(Exit::Unavailable, format!("operation {} goes on", operation.id)),
            };
            failure
                .hint(format!("it is being cleaned up: follow that with `freehold operation watch {}`", operation.id))
        }
    };
    Err(failure)
}

/// Something that turns while a person waits; `None` where nobody watches.
pub(crate) fn spinner() -> Option<ProgressBar> {
    is_watched().then(|| {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed:.dim}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(TURN);
        bar
    })
}

/// The steps of an operation as they happen: a spinner for a person, lines for a file.
struct Progress {
    bar: Option<ProgressBar>,
    told: HashMap<String, (StepStatus, u32)>,
    is_out: bool,
}

impl Progress {
    fn new() -> Self {
        Self { bar: spinner(), told: HashMap::new(), is_out: false }
    }

    fn show(&mut self, operation: &Operation) {
        self.is_out = false;
        for step in &operation.steps {
            let seen = (step.status, step.attempts);
            if self.told.insert(step.name.clone(), seen) != Some(seen) {
                self.tell(&line(step));
            }
        }
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{}: {} ({})", word(operation.kind), operation.phase, word(operation.status)));
        }
    }

    /// Says once that the server does not answer; everything else ends the wait.
    fn outage(&mut self, error: ClientError) -> Result<(), Failure> {
        match error {
            ClientError::Unreachable { .. } => {
                if !self.is_out {
                    self.tell("the server does not answer; waiting for it");
                }
                self.is_out = true;
                Ok(())
            }
            ClientError::Problem(problem) if problem.retryable => Ok(()),
            ClientError::Problem(_) | ClientError::Setup(_) | ClientError::Unexpected { .. } => Err(error.into()),
        }
    }

    fn tell(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => say(text),
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A step in a line: `runtime: unknown after 2 attempts (no answer within 20 s)`.
fn line(step: &Step) -> String {
    let status = match step.status {
        StepStatus::Noted => "under way".to_owned(),
        StepStatus::Done | StepStatus::Failed | StepStatus::Rejected | StepStatus::Unknown => word(step.status),
    };
    let attempts = if step.attempts > 1 { format!(", attempt {}", step.attempts) } else { String::new() };
    let error = match (&step.last_error, step.status) {
        (Some(error), StepStatus::Failed | StepStatus::Rejected | StepStatus::Unknown) => format!(" ({error})"),
        (Some(_), StepStatus::Noted | StepStatus::Done) | (None, _) => String::new(),
    };
    format!("  {}: {status}{attempts}{error}", step.name)
}

#[cfg(test)]
mod tests {
    use freehold_api::{Code, Problem};
    use serde_json::json;

    use super::*;

    fn operation(status: OperationStatus, error: Option<Code>) -> Operation {
        let mut operation: Operation = serde_json::from_value(json!({
            "id": Uuid::from_u128(2), "kind": "provision", "instance_id": Uuid::from_u128(1), "owner": "user:alice",
            "status": "running", "phase": "runtime", "attempt": 1, "epoch": 1, "holder": null, "deadline": null,
            "started_at": "2026-11-23T10:00:00Z", "finished_at": null, "steps": [], "error": null,
        }))
        .unwrap();
        operation.status = status;
        operation.error = error.map(|code| Problem::new(code, "as it is"));
        operation
    }

    #[test]
    fn a_create_waits_for_the_outcome_and_a_watch_for_the_end() {
        let cleaning = operation(OperationStatus::Reconciling, Some(Code::ProvisionFailed));
        assert!(Until::Decided.is_met(&cleaning));
        assert!(!Until::Over.is_met(&cleaning));
        assert!(!Until::Decided.is_met(&operation(OperationStatus::Waiting, None)));
        assert!(Until::Over.is_met(&operation(OperationStatus::Cancelled, None)));
    }

    #[test]
    fn an_outcome_has_the_exit_code_of_its_problem() {
        assert!(outcome(&operation(OperationStatus::Succeeded, None)).is_ok());
        for (status, code, exit) in [
            (OperationStatus::Failed, Code::ProviderRejected, Exit::Failed),
            (OperationStatus::Failed, Code::ProviderUnavailable, Exit::Unavailable),
            (OperationStatus::Cancelled, Code::InstanceDestroyed, Exit::Conflict),
            (OperationStatus::Reconciling, Code::ProvisionFailed, Exit::Failed),
        ] {
            assert_eq!(outcome(&operation(status, Some(code))).unwrap_err().exit, exit, "{code}");
        }
        assert_eq!(outcome(&operation(OperationStatus::Cancelled, None)).unwrap_err().exit, Exit::Failed);
    }
}
