//! Names in rows, and what they stand for. Every map is made from the domain's own lists, so a name that the domain
//! learns is known here too.

use freehold_domain::event::{Actor, EventKind};
use freehold_domain::operation::{FailureCode, OperationKind, OperationStatus, Step, StepStatus};
use freehold_domain::records::SubscriptionStatus;
use freehold_domain::reservation::{Power, Resolution, Status};
use freehold_domain::resource::{RejectionClass, ResourceKind, RuntimeState};
use freehold_engine::ports::KeyRole;

/// Something with a name that can be read back.
pub(crate) trait Named: Sized {
    /// What it is, for messages.
    const WHAT: &'static str;
    /// The thing that has this name.
    fn from_name(name: &str) -> Option<Self>;
}

macro_rules! named {
    ($($type:ident = $what:literal),* $(,)?) => {$(
        impl Named for $type {
            const WHAT: &'static str = $what;
            fn from_name(name: &str) -> Option<Self> {
                $type::ALL.iter().copied().find(|known| known.name() == name)
            }
        }
    )*};
}

named! {
    Actor = "actor",
    EventKind = "kind of event",
    FailureCode = "failure code",
    KeyRole = "role",
    OperationKind = "kind of operation",
    OperationStatus = "operation status",
    Resolution = "resolution",
    ResourceKind = "kind of resource",
    Step = "step",
    StepStatus = "step status",
    SubscriptionStatus = "subscription status",
}

/// The name of a power.
pub(crate) fn power(power: Power) -> &'static str {
    match power {
        Power::On => "on",
        Power::Off => "off",
    }
}

impl Named for Power {
    const WHAT: &'static str = "power";
    fn from_name(name: &str) -> Option<Self> {
        [Self::On, Self::Off].into_iter().find(|known| power(*known) == name)
    }
}

/// The reason that a status carries, by name.
pub(crate) fn status_reason(status: &Status) -> Option<&'static str> {
    match status {
        Status::InProgress | Status::Completed => None,
        Status::NeedsReconciliation { code } => Some(code.name()),
        Status::Released { because } => Some(because.name()),
    }
}

/// The status of a name and a reason.
pub(crate) fn status(name: &str, reason: Option<&str>) -> Option<Status> {
    let bare = [Status::InProgress, Status::Completed];
    match reason {
        None => bare.into_iter().find(|status| status.name() == name),
        Some(reason) => {
            let failed = FailureCode::from_name(reason).map(|code| Status::NeedsReconciliation { code });
            let released = Resolution::from_name(reason).map(|because| Status::Released { because });
            failed.into_iter().chain(released).find(|status| status.name() == name)
        }
    }
}

/// The name of a status, as the domain spells it.
pub(crate) fn status_name(name: &str) -> Option<&'static str> {
    [
        Status::InProgress,
        Status::Completed,
        Status::NeedsReconciliation { code: FailureCode::ALL[0] },
        Status::Released { because: Resolution::ALL[0] },
    ]
    .iter()
    .map(Status::name)
    .find(|known| *known == name)
}

/// A runtime's state by name, and its detail.
pub(crate) fn runtime_parts(state: &RuntimeState) -> (&'static str, Option<&str>) {
    match state {
        RuntimeState::Starting => ("starting", None),
        RuntimeState::Running => ("running", None),
        RuntimeState::Stopped => ("stopped", None),
        RuntimeState::Exited(how) => ("exited", Some(how)),
        RuntimeState::Missing => ("missing", None),
    }
}

/// The state of a name and a detail.
pub(crate) fn runtime(name: &str, detail: Option<String>) -> Option<RuntimeState> {
    let exited = RuntimeState::Exited(detail.unwrap_or_default());
    [RuntimeState::Starting, RuntimeState::Running, RuntimeState::Stopped, exited, RuntimeState::Missing]
        .into_iter()
        .find(|state| runtime_parts(state).0 == name)
}

/// The class of a name and a region.
pub(crate) fn rejection_class(name: &str, region: Option<String>) -> Option<RejectionClass> {
    [
        RejectionClass::Invalid,
        RejectionClass::Unauthorized,
        RejectionClass::Capacity { region },
        RejectionClass::Quota,
        RejectionClass::ConflictForeign,
    ]
    .into_iter()
    .find(|class| class.name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: Named + Copy + PartialEq + std::fmt::Debug>(all: &[T], name: impl Fn(T) -> &'static str) {
        for one in all {
            assert_eq!(T::from_name(name(*one)), Some(*one));
        }
        assert_eq!(T::from_name("no such thing"), None);
    }

    #[test]
    fn every_name_reads_back_as_what_it_stands_for() {
        check(&Actor::ALL, Actor::name);
        check(EventKind::ALL, EventKind::name);
        check(&FailureCode::ALL, FailureCode::name);
        check(&KeyRole::ALL, KeyRole::name);
        check(&OperationKind::ALL, OperationKind::name);
        check(&OperationStatus::ALL, OperationStatus::name);
        check(&Resolution::ALL, Resolution::name);
        check(&ResourceKind::ALL, ResourceKind::name);
        check(&Step::ALL, Step::name);
        check(&StepStatus::ALL, StepStatus::name);
        check(&[Power::On, Power::Off], power);
        check(&SubscriptionStatus::ALL, SubscriptionStatus::name);
    }

    #[test]
    fn every_status_reads_back_with_its_reason() {
        let failed = FailureCode::ALL.map(|code| Status::NeedsReconciliation { code });
        let released = Resolution::ALL.map(|because| Status::Released { because });
        for one in [Status::InProgress, Status::Completed].into_iter().chain(failed).chain(released) {
            assert_eq!(status(one.name(), status_reason(&one)), Some(one));
            assert_eq!(status_name(one.name()), Some(one.name()));
        }
        assert_eq!(status("completed", Some("cancelled")), None, "a reason where none belongs");
        assert_eq!(status("released", None), None, "no reason where one belongs");
    }

    #[test]
    fn every_runtime_state_and_rejection_reads_back() {
        for state in [
            RuntimeState::Starting,
            RuntimeState::Running,
            RuntimeState::Stopped,
            RuntimeState::Exited("exit status 1".to_owned()),
            RuntimeState::Missing,
        ] {
            let (name, detail) = runtime_parts(&state);
            assert_eq!(runtime(name, detail.map(str::to_owned)), Some(state.clone()));
        }
        for region in [None, Some("ams".to_owned())] {
            let class = RejectionClass::Capacity { region: region.clone() };
            assert_eq!(rejection_class(class.name(), region), Some(class));
        }
    }
}
