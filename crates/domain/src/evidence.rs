//! What proves that a reservation may be released. Each value can be built only from the facts that prove it, so that
//! "unknown" cannot release.

use std::time::Duration;

use crate::ids::LeakId;
use crate::protection::{Protection, stands};
use crate::records::RecordsView;
use crate::reservation::{Reservation, Resolution, Status};
use crate::resource::Footprint;
use crate::time::Timestamp;

/// How many look-ups a reservation remembers: enough for two conclusive ones among some that were not.
pub const LOOKUPS_KEPT: usize = 8;

/// The longest reason an operator may give, in bytes.
pub const OVERRIDE_REASON_BYTES_MAX: usize = 1_000;

/// One look at the provider while proving absence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// When the question was asked.
    pub at: Timestamp,
    /// Whether the answer proves that nothing of ours was there at that time; for a step that makes something, nothing
    /// of the kind it makes.
    pub absent: bool,
    /// What was seen, in words.
    pub detail: String,
}

/// Nothing was ever allowed to leave, or all that left was surely refused.
#[derive(Debug)]
pub struct NothingSent(());

impl NothingSent {
    /// The evidence, if the reservation is untouched.
    #[must_use]
    pub fn establish(reservation: &Reservation) -> Option<Self> {
        let untouched = match reservation.footprint() {
            Footprint::Untouched => true,
            Footprint::MaybeThere => !stands(Protection::MaybeIsThere),
            Footprint::There | Footprint::Sealed => false,
        };
        untouched.then_some(Self(()))
    }
}

/// Creation is impossible since a known time, and a later look found nothing.
#[derive(Debug)]
pub struct Sealed(());

impl Sealed {
    /// The evidence, if the last look-up was asked after the seal held, found nothing, and nothing is on record.
    #[must_use]
    pub fn establish(reservation: &Reservation) -> Option<Self> {
        let sealed_at = reservation.sealed_at?;
        if !stands(Protection::LookAfterSeal) {
            return reservation.resources.is_empty().then_some(Self(()));
        }
        let last = reservation.lookups.last()?;
        (last.absent && last.at >= sealed_at && reservation.resources.is_empty()).then_some(Self(()))
    }
}

/// Two conclusive looks, a settle horizon apart, found nothing.
#[derive(Debug)]
pub struct ProvenAbsent(());

impl ProvenAbsent {
    /// The evidence, if the last two conclusive look-ups found nothing, the first was asked after the last possible
    /// send, they are at least `horizon` apart, nothing was found in between, and nothing is on record.
    ///
    /// `last_send_possible_until` is when the last executor that may have been allowed to send had to stop.
    #[must_use]
    pub fn establish(
        reservation: &Reservation,
        last_send_possible_until: Timestamp,
        horizon: Duration,
    ) -> Option<Self> {
        let since_found = reservation.lookups.iter().rev().take_while(|lookup| lookup.absent);
        let late_enough =
            |lookup: &&Lookup| lookup.at >= last_send_possible_until || !stands(Protection::LooksAfterLastSend);
        let first = since_found.filter(late_enough).last()?;
        let last = reservation.lookups.last()?;
        let twice = last.at > first.at || !stands(Protection::SecondLook);
        let apart = last.at.since(first.at) >= horizon;
        // One look is no span: without the second one the horizon is not asked for.
        let proven = twice && (apart || !stands(Protection::SecondLook));
        (proven && reservation.resources.is_empty()).then_some(Self(()))
    }
}

/// The context turned out to have its instance before anything was sent for this one.
#[derive(Debug)]
pub struct ActiveInstanceExists(());

impl ActiveInstanceExists {
    /// The evidence, if another instance of the context has an active row and this one is untouched.
    #[must_use]
    pub fn establish(reservation: &Reservation, other: &RecordsView) -> Option<Self> {
        let row = other.row.as_ref().filter(|_| other.row_is_active())?;
        let another = row.instance != reservation.instance && row.context == reservation.context;
        (another && reservation.footprint() == Footprint::Untouched).then_some(Self(()))
    }
}

/// An operator released it without proof, said why, and a leak is on record.
#[derive(Debug)]
pub struct OperatorOverride {
    reason: String,
    leak: LeakId,
}

impl OperatorOverride {
    /// The evidence; `None` unless the reason has 1 to [`OVERRIDE_REASON_BYTES_MAX`] bytes that are not all blank.
    #[must_use]
    pub fn establish(reason: &str, leak: LeakId) -> Option<Self> {
        let said = !reason.trim().is_empty() && reason.len() <= OVERRIDE_REASON_BYTES_MAX;
        said.then(|| Self { reason: reason.to_owned(), leak })
    }

    /// What the operator said.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The leak record that is opened with the release.
    #[must_use]
    pub fn leak(&self) -> LeakId {
        self.leak
    }
}

/// Evidence for a release, of any sort.
#[derive(Debug)]
pub enum Release {
    /// Nothing was sent.
    NothingSent(NothingSent),
    /// Sealed, then found empty.
    Sealed(Sealed),
    /// Found empty twice, a settle horizon apart.
    ProvenAbsent(ProvenAbsent),
    /// The context has its instance.
    ActiveInstanceExists(ActiveInstanceExists),
    /// On an operator's word.
    OperatorOverride(OperatorOverride),
}

impl Release {
    /// The evidence's name in the audit trail.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::NothingSent(_) => "nothing_sent",
            Self::Sealed(_) => "sealed",
            Self::ProvenAbsent(_) => "proven_absent",
            Self::ActiveInstanceExists(_) => "active_instance_exists",
            Self::OperatorOverride(_) => "operator_override",
        }
    }

    /// The reason to put on a reservation that this evidence releases.
    #[must_use]
    pub fn resolution(&self, reservation: &Reservation, was_rejected: bool) -> Resolution {
        match self {
            Self::OperatorOverride(_) => Resolution::OperatorOverride,
            Self::ActiveInstanceExists(_) => Resolution::ActiveInstanceExists,
            Self::NothingSent(_) | Self::Sealed(_) | Self::ProvenAbsent(_) if reservation.intent.is_destroy() => {
                Resolution::InstanceDestroyed
            }
            // Given up with work started, and every call was surely refused: nothing was ever made.
            Self::NothingSent(_) if matches!(reservation.status, Status::NeedsReconciliation { .. }) => {
                Resolution::AbsenceProven
            }
            Self::NothingSent(_) if was_rejected => Resolution::ProviderRejected,
            Self::NothingSent(_) => Resolution::FailedBeforeProviderWork,
            Self::Sealed(_) | Self::ProvenAbsent(_) => Resolution::AbsenceProven,
        }
    }
}
