//! What happened, as the audit trail, the event stream and the logs name it. Each transition has one event of its own,
//! written in the commit that made it true; what it means for a caller or for billing may be another one beside it.

use crate::ids::{InstanceId, OperationId};
use crate::lease::Epoch;
use crate::time::Timestamp;

macro_rules! events {
    ($($(#[$doc:meta])* $variant:ident = $name:literal),* $(,)?) => {
        /// The kinds of event. Names are part of the contract.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum EventKind { $($(#[$doc])* $variant),* }

        impl EventKind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The kind's name on the wire and in the store.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => concat!("instance.", $name)),* }
            }
        }
    };
}

events! {
    /// A reservation was taken.
    ReservationStarted = "provision_reservation_started",
    /// A reservation was refused because the context has one or has its instance.
    ReservationConflict = "provision_reservation_conflict",
    /// A reservation was completed and its route published.
    ReservationCompleted = "provision_reservation_completed",
    /// The subscription is on record, or may be, and the reservation is still to be completed from the records.
    ReservationRepairRequired = "provision_reservation_repair_required",
    /// Such a reservation was completed after all.
    ReservationRepaired = "provision_reservation_repaired",
    /// A provision gave up; cleaning up goes on.
    ReservationFailed = "provision_reservation_failed",
    /// An operator asked for a reservation to be released on proof, and said why.
    ReleaseAsked = "provision_reservation_release_asked",
    /// A reservation was released, on evidence.
    ReservationReleased = "provision_reservation_released",
    /// A start, stop, restart, update or recovery gave up.
    OperationFailed = "operation_failed",
    /// A provision failed for good: its context is free again.
    ProvisioningFailed = "provisioning_failed",
    /// The canonical row was written.
    RecordInserted = "record_inserted",
    /// The canonical row could not be written.
    RecordInsertFailed = "record_insert_failed",
    /// The subscription was started.
    SubscriptionBootstrapped = "subscription_bootstrapped",
    /// The subscription could not be started.
    SubscriptionBootstrapFailed = "subscription_bootstrap_failed",
    /// An active row has no subscription: its instance is not routable, and is only if one appears.
    SubscriptionBootstrapQuarantined = "subscription_bootstrap_quarantined",
    /// An instance that the records know was taken in: the registry had not seen it.
    Backfilled = "backfilled",
    /// The records lost something of a complete instance, and it was written again.
    RecordsMended = "records_mended",
    /// Billing suspended the subscription: the instance is to stop.
    Suspended = "subscription_suspended",
    /// Billing resumed the subscription.
    Resumed = "subscription_resumed",
    /// Billing has heard of a subscription that was started without it.
    SubscriptionReported = "subscription_reported",
    /// Billing could not be told of one: it is told again later.
    SubscriptionReportFailed = "subscription_report_failed",
    /// A start, stop, restart or update was accepted.
    OperationStarted = "operation_started",
    /// The runtime was started.
    Started = "started",
    /// The runtime was stopped.
    Stopped = "stopped",
    /// The runtime was restarted.
    Restarted = "restarted",
    /// Another spec was applied.
    Updated = "updated",
    /// The runtime went away by itself and was brought back.
    Recovered = "recovered",
    /// Destroy was accepted.
    DestroyStarted = "destroy_started",
    /// A destroy does not end with the executor that began it: it goes on until it does.
    DestroyPending = "destroy_pending",
    /// Destroy does not get on.
    DestroyStuck = "destroy_stuck",
    /// Destroy is finished.
    Destroyed = "destroyed",
    /// Another executor took over.
    ExecutorTakenOver = "executor_taken_over",
    /// A resource of ours was found and taken on.
    ResourceAdopted = "resource_adopted",
    /// A resource with our name is somebody else's.
    ResourceQuarantined = "resource_quarantined",
    /// The storage or the base of a complete instance is gone, and nobody here removed it.
    ResourceLost = "resource_lost",
    /// A resource was given up on and is on the leak list.
    ResourceLeaked = "resource_leaked",
    /// A resource that nothing referred to was removed.
    OrphanRemoved = "orphan_removed",
    /// The registry came from a backup: whoever held the instance after the backup holds nothing any more.
    EpochRaised = "epoch_raised",
}

/// Who made something happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Actor {
    /// The customer's backend.
    Platform,
    /// An operator.
    Operator,
    /// An end user: the one whose context it is.
    User,
    /// Freehold itself.
    System,
}

impl Actor {
    /// Every actor.
    pub const ALL: [Self; 4] = [Self::Platform, Self::Operator, Self::User, Self::System];

    /// The actor's name on the wire and in the store.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Operator => "operator",
            Self::User => "user",
            Self::System => "system",
        }
    }
}

/// One line of the audit trail, before it is chained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// To which instance.
    pub instance: InstanceId,
    /// In which operation.
    pub operation: OperationId,
    /// Under which epoch.
    pub epoch: Epoch,
    /// The reservation's status from then on.
    pub status: &'static str,
    /// Who made it happen.
    pub actor: Actor,
    /// When.
    pub at: Timestamp,
    /// The rest, in words; no secrets.
    pub detail: String,
}
