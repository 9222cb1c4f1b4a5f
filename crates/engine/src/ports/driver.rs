//! What drives the engine, and what listens to it. The engine never spawns, sleeps or selects: it says what could run
//! now, and the binary's loops (or the simulator's) run it. Losing a hint costs time, never correctness.

use freehold_domain::ids::{InstanceId, OperationId};
use freehold_domain::operation::Step;

use super::store::{Answer, Claimed, Registered};
use freehold_domain::records::RecordsView;

/// Takes hints from the engine.
pub trait Driver: Send + Sync {
    /// This operation was claimed for this node in the commit that admitted it: run it. A lost hint is a lapsed lease.
    fn run(&self, claimed: Claimed);

    /// Something about an operation was committed: whoever waits for it may look again.
    fn changed(&self, instance: InstanceId, operation: OperationId);
}

/// Turns what became of a provision into the answer that its caller, and every replay of its key, gets.
pub trait Render: Send + Sync {
    /// The answer for a provision that completed, gave up or was released. The records are those of the instance.
    fn provision(&self, registered: &Registered, records: &RecordsView) -> Answer;
}

/// The places in the life of a step where an executor can die.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gap {
    /// Before the intent is committed.
    BeforeNote,
    /// The intent is committed, and nothing was sent.
    Noted,
    /// The call came back, and nothing is committed of it.
    Sent,
    /// What came of it is committed.
    Answered,
}

impl Gap {
    /// Every gap, in the order in which a step lives through them.
    pub const ALL: [Self; 4] = [Self::BeforeNote, Self::Noted, Self::Sent, Self::Answered];

    /// The gap's name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BeforeNote => "before_note",
            Self::Noted => "noted",
            Self::Sent => "sent",
            Self::Answered => "answered",
        }
    }
}

/// Told of every gap that an executor passes, so that crash tests can end the process there.
pub trait Gaps: Send + Sync {
    /// The executor is in this gap of this step.
    fn passing(&self, step: Step, gap: Gap);
}

/// Lets every gap pass.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoGaps;

impl Gaps for NoGaps {
    fn passing(&self, _: Step, _: Gap) {}
}
