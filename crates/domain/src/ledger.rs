//! Admission: who may create an instance in a context. The rule lives here, once; a store's unique index only asserts
//! it a second time.

use crate::ids::{InstanceId, OperationId};
use crate::protection::{Protection, stands};
use crate::reservation::{Reservation, Status};

/// What a context's ledger says of one reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The instance.
    pub instance: InstanceId,
    /// The operation that works on it, or did last.
    pub operation: OperationId,
    /// How far its reservation is.
    pub status: Status,
    /// Whether destroy was accepted.
    pub destroying: bool,
}

impl From<&Reservation> for Entry {
    fn from(reservation: &Reservation) -> Self {
        Self {
            instance: reservation.instance,
            operation: reservation.operation,
            status: reservation.status,
            destroying: reservation.intent.is_destroy(),
        }
    }
}

/// Why nobody may create in a context at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// An unresolved reservation holds the context.
    InProgress {
        /// Whose.
        instance: InstanceId,
        /// Who works on it.
        operation: OperationId,
        /// Its status.
        status: Status,
        /// Whether things are being removed rather than made.
        cleaning_up: bool,
    },
    /// The context has as many instances as it may.
    AlreadyActive {
        /// The one that has it.
        instance: InstanceId,
        /// The operation that worked on it last.
        operation: OperationId,
    },
}

/// Decides whether a context may take one more reservation.
///
/// `entries` are the context's reservations that are not released, in any order; `limit` is how many instances it may
/// have.
///
/// # Errors
/// The [`Refusal`], naming what is in the way; an unresolved reservation comes before a complete one.
pub fn admit(entries: &[Entry], limit: u32) -> Result<(), Refusal> {
    let holds = |entry: &&Entry| entry.status.is_unresolved() && stands(Protection::UnresolvedCounts);
    if let Some(entry) = entries.iter().find(holds) {
        return Err(Refusal::InProgress {
            instance: entry.instance,
            operation: entry.operation,
            status: entry.status,
            cleaning_up: entry.destroying || matches!(entry.status, Status::NeedsReconciliation { .. }),
        });
    }
    let mut active = entries.iter().filter(|entry| entry.status == Status::Completed && !entry.destroying);
    let count = active.clone().count();
    match active.next() {
        Some(entry) if count >= limit as usize && stands(Protection::LimitCounts) => {
            Err(Refusal::AlreadyActive { instance: entry.instance, operation: entry.operation })
        }
        Some(_) | None => Ok(()),
    }
}
