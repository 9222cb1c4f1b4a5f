//! What readers are told an instance is doing: derived from the registry and the records, stored nowhere.

use crate::operation::{Operation, OperationKind};
use crate::records::{CanonicalSuccess, RecordsView};
use crate::reservation::{Power, Reservation, Resolution, Status};
use crate::resource::RuntimeState;

/// What an instance is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InstanceStatus {
    /// It is being made.
    Provisioning,
    /// It exists, and its runtime is on its way up.
    Starting,
    /// It is up.
    Running,
    /// Its runtime goes down and up again.
    Restarting,
    /// It is down because somebody asked.
    Stopped,
    /// Its runtime went away by itself and is being brought back.
    Recovering,
    /// It is being removed.
    Destroying,
    /// It is gone, for ever.
    Destroyed,
    /// It exists and is not paid for: not routable until it is.
    Quarantined,
    /// It could not be made, or its runtime does not come back.
    Failed,
}

impl InstanceStatus {
    /// Every status.
    pub const ALL: [Self; 10] = [
        Self::Provisioning,
        Self::Starting,
        Self::Running,
        Self::Restarting,
        Self::Stopped,
        Self::Recovering,
        Self::Destroying,
        Self::Destroyed,
        Self::Quarantined,
        Self::Failed,
    ];

    /// The status's name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Provisioning => "provisioning",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Restarting => "restarting",
            Self::Stopped => "stopped",
            Self::Recovering => "recovering",
            Self::Destroying => "destroying",
            Self::Destroyed => "destroyed",
            Self::Quarantined => "quarantined",
            Self::Failed => "failed",
        }
    }

    /// What an instance is doing, by its reservation, the operation that works on it or did last, and its records.
    #[must_use]
    pub fn of(reservation: &Reservation, operation: &Operation, records: &RecordsView) -> Self {
        match reservation.status {
            Status::Released { because: Resolution::InstanceDestroyed } => return Self::Destroyed,
            Status::Released { .. } => return Self::Failed,
            Status::InProgress | Status::NeedsReconciliation { .. } | Status::Completed
                if reservation.intent.is_destroy() =>
            {
                return Self::Destroying;
            }
            Status::InProgress => return Self::Provisioning,
            Status::NeedsReconciliation { .. } => return Self::Failed,
            Status::Completed => {}
        }
        if CanonicalSuccess::establish(records).is_none() {
            return Self::Quarantined;
        }
        if !operation.status.is_over() {
            match operation.kind {
                OperationKind::Start => return Self::Starting,
                OperationKind::Restart | OperationKind::Update => return Self::Restarting,
                OperationKind::Recover => return Self::Recovering,
                OperationKind::Adopt => return Self::Quarantined,
                OperationKind::Stop
                | OperationKind::Provision
                | OperationKind::Destroy
                | OperationKind::Sweep
                | OperationKind::Mend => {}
            }
        }
        let seen = reservation.runtime.as_ref().map(|(state, _)| state);
        match (reservation.power, seen) {
            (Power::Off, _) => Self::Stopped,
            (Power::On, Some(RuntimeState::Running)) => Self::Running,
            (Power::On, Some(RuntimeState::Starting) | None) => Self::Starting,
            (Power::On, Some(RuntimeState::Stopped | RuntimeState::Exited(_) | RuntimeState::Missing)) => Self::Failed,
        }
    }
}
