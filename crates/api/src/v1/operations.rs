//! Operations: durable runs of work on an instance, each with the journal of its steps.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::problem::Problem;

/// The name of the server-sent events of `GET /v1/operations/{id}/events`. Each one's data is the whole [`Operation`] as
/// it is then; the stream ends behind the one whose status is final.
pub const EVENT_NAME: &str = "operation";

/// What an operation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OperationKind {
    /// Make the instance, or clean up after failing to.
    Provision,
    /// Remove it for ever.
    Destroy,
    /// Start its program.
    Start,
    /// Stop its program.
    Stop,
    /// Stop and start its program.
    Restart,
    /// Give it another spec or tier.
    Update,
    /// Bring back a program that went away by itself.
    Recover,
    /// Remove resources that nothing refers to.
    Sweep,
    /// Take in an instance that the records know and the registry did not.
    Adopt,
    /// Write again what the records lost.
    Mend,
}

/// How far an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OperationStatus {
    /// An executor holds it.
    Running,
    /// It rests until its timer.
    Waiting,
    /// It gave up and is cleaning up.
    Reconciling,
    /// It did what it was for.
    Succeeded,
    /// It did not, and nothing of it is left to do.
    Failed,
    /// Something stronger replaced it.
    Cancelled,
}

impl OperationStatus {
    /// Whether it is final.
    #[must_use]
    pub fn is_over(self) -> bool {
        match self {
            Self::Running | Self::Waiting | Self::Reconciling => false,
            Self::Succeeded | Self::Failed | Self::Cancelled => true,
        }
    }
}

/// How far a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    /// Its intent is committed; its effect may be under way.
    Noted,
    /// It is done.
    Done,
    /// It had no effect, and may be tried again.
    Failed,
    /// It was surely refused.
    Rejected,
    /// It may have happened.
    Unknown,
}

/// One line of an operation's journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Step {
    /// Which step.
    #[schema(example = "runtime")]
    pub name: String,
    /// How far it is.
    pub status: StepStatus,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was first tried.
    pub started_at: Timestamp,
    /// When its last outcome was known.
    #[schema(required)]
    pub finished_at: Option<Timestamp>,
    /// What went wrong last.
    #[schema(required)]
    pub last_error: Option<String>,
}

/// An operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Operation {
    /// Its id.
    pub id: Uuid,
    /// What it is for.
    pub kind: OperationKind,
    /// What it works on.
    pub instance_id: Uuid,
    /// Whose that is.
    #[schema(example = "user:alice")]
    pub owner: String,
    /// How far it is.
    pub status: OperationStatus,
    /// The step at hand, in a word.
    #[schema(example = "runtime")]
    pub phase: String,
    /// How often an executor took it up.
    pub attempt: u32,
    /// How often the instance's work changed hands.
    pub epoch: u64,
    /// The node that runs it.
    #[schema(required)]
    pub holder: Option<String>,
    /// When it stops trying to get forward.
    #[schema(required)]
    pub deadline: Option<Timestamp>,
    /// When it was admitted.
    pub started_at: Timestamp,
    /// When it was over.
    #[schema(required)]
    pub finished_at: Option<Timestamp>,
    /// Its journal, in order.
    pub steps: Vec<Step>,
    /// What went wrong, where something did.
    #[schema(required)]
    pub error: Option<Problem>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::code::Code;

    #[test]
    fn an_operation_has_the_contracts_members() {
        let mut wire = json!({
            "id": "01990000-0000-7000-8000-000000000002", "kind": "provision",
            "instance_id": "01990000-0000-7000-8000-000000000001", "owner": "user:alice", "status": "reconciling",
            "phase": "seal", "attempt": 3, "epoch": 4, "holder": "node-a", "deadline": "2026-11-23T10:02:00Z",
            "started_at": "2026-11-23T10:00:00Z", "finished_at": null,
            "steps": [{"name": "runtime", "status": "unknown", "attempts": 5, "started_at": "2026-11-23T10:00:00Z",
                       "finished_at": "2026-11-23T10:00:20Z", "last_error": "no answer within 20 s"}],
            "error": null,
        });
        let mut operation: Operation = serde_json::from_value(wire.clone()).unwrap();
        assert_eq!(serde_json::to_value(&operation).unwrap(), wire);
        assert!(!operation.status.is_over());

        let problem = Problem::new(Code::ProvisionFailed, "gave up after 5 attempts");
        wire["error"] = serde_json::to_value(&problem).unwrap();
        operation.error = Some(problem);
        assert_eq!(serde_json::from_value::<Operation>(wire).unwrap(), operation);
    }
}
