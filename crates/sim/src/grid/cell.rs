//! The cells of the grid: where, what happens there, and what goes wrong with the call or the commit at hand. Everything
//! is enumerated, nothing is sampled.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use freehold_domain::operation::Step;
use freehold_domain::resource::{RejectionClass, ResourceKind};
use freehold_engine::ports::Gap;
use freehold_providers::fake::{CallKind, Fault, Sight};
use freehold_store::CommitFault;

use crate::billing::{BillingCall, BillingFault};
use crate::ground::HORIZON;
use crate::places::Place;
use crate::records::{RecordsCall, RecordsFault};

/// What the provider promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Promise {
    /// Unique names, and a seal.
    NamesAndSeal,
    /// A seal only.
    SealOnly,
    /// Neither.
    Nothing,
}

impl Promise {
    /// Every sort of provider.
    pub const ALL: [Self; 3] = [Self::NamesAndSeal, Self::SealOnly, Self::Nothing];

    fn name(self) -> &'static str {
        match self {
            Self::NamesAndSeal => "names+seal",
            Self::SealOnly => "seal",
            Self::Nothing => "neither",
        }
    }

    /// Whether creation under an ident can be made impossible.
    #[must_use]
    pub fn seals(self) -> bool {
        match self {
            Self::NamesAndSeal | Self::SealOnly => true,
            Self::Nothing => false,
        }
    }
}

macro_rules! occurrences {
    ($($(#[doc = $doc:literal])* $name:ident = $text:literal),* $(,)?) => {
        /// What happens while an executor is at the place.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Occurrence { $($(#[doc = $doc])* $name),* }

        impl Occurrence {
            /// Everything that can happen.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            fn name(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }
        }
    };
}

occurrences! {
    /// Nothing.
    Nothing = "nothing",
    /// Its node dies and comes back.
    Crash = "crash",
    /// Its node dies for good; another takes over.
    FailOver = "fail-over",
    /// Its node pauses for half a lease.
    ShortPause = "pause-0.5",
    /// Its node pauses for one and a half leases.
    Pause = "pause-1.5",
    /// Its node pauses for ten leases.
    LongPause = "pause-10",
    /// Another executor takes its lease by force.
    LeaseStolen = "lease-stolen",
    /// Its node's clock jumps an hour ahead.
    ClockAhead = "clock+1h",
    /// Its node's clock jumps an hour back.
    ClockBack = "clock-1h",
    /// The store's clock jumps an hour ahead.
    StoreClockAhead = "store-clock+1h",
    /// The same create again, with its key.
    SameKey = "same-key",
    /// Its key again, with another body.
    OtherBody = "other-body",
    /// Another create in the context.
    NewKey = "new-key",
    /// A destroy.
    Destroy = "destroy",
    /// A destroy, while the executor's node pauses past its lease.
    DestroyInPause = "destroy-in-pause",
    /// A destroy, while the executor's node pauses for nearly all of its lease: its call may still leave.
    DestroyInShortPause = "destroy-in-pause-0.9",
    /// The call is stuck on its way for more than two leases, which are renewed; then a destroy; then the call goes on.
    DestroyOfStuck = "destroy-of-stuck",
    /// A destroy, and at once another create.
    DestroyThenCreate = "destroy-then-create",
    /// A destroy that is asked for twice, at two nodes.
    DestroyTwice = "destroy-twice",
    /// A stop.
    Stop = "stop",
    /// An update.
    Update = "update",
    /// A janitor passes twice, a horizon apart.
    Janitor = "janitor",
    /// An operator asks for a repair.
    Repair = "repair",
    /// An operator asks for the proof of absence.
    Release = "release",
    /// An operator releases without proof.
    Override = "override",
}

impl Occurrence {
    /// Whether the instance is not wanted any more from then on.
    #[must_use]
    pub fn ends_it(self) -> bool {
        match self {
            Self::Destroy
            | Self::DestroyInPause
            | Self::DestroyInShortPause
            | Self::DestroyOfStuck
            | Self::DestroyThenCreate
            | Self::DestroyTwice
            | Self::Override => true,
            Self::Nothing
            | Self::Crash
            | Self::FailOver
            | Self::ShortPause
            | Self::Pause
            | Self::LongPause
            | Self::LeaseStolen
            | Self::ClockAhead
            | Self::ClockBack
            | Self::StoreClockAhead
            | Self::SameKey
            | Self::OtherBody
            | Self::NewKey
            | Self::Stop
            | Self::Update
            | Self::Janitor
            | Self::Repair
            | Self::Release => false,
        }
    }
}

/// What goes wrong with a call or a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing.
    None,
    /// The next call of a kind to the provider.
    Call(CallKind, Fault),
    /// Looks, for some seconds.
    Look(Sight),
    /// A resource is removed behind everybody's back before it is to be removed.
    GoneAlready(ResourceKind),
    /// The next call of a kind to billing.
    Billing(BillingCall, BillingFault),
    /// The next write of a kind to the records.
    Records(RecordsCall, RecordsFault),
    /// The next commit from then on, whoever makes it.
    Commit(CommitFault),
}

impl Trouble {
    /// Whether somebody surely refused: the instance may not come to be then.
    #[must_use]
    pub fn refuses(&self) -> bool {
        match self {
            Self::Call(_, Fault::Refused(_) | Fault::Foreign) => true,
            Self::Billing(_, BillingFault::Refused) => true,
            Self::Records(_, RecordsFault::Refused) => true,
            Self::None
            | Self::Call(..)
            | Self::Look(_)
            | Self::GoneAlready(_)
            | Self::Billing(..)
            | Self::Records(..)
            | Self::Commit(_) => false,
        }
    }

    fn name(&self) -> String {
        let parts = |span: &Duration| format!("{:.1}H", span.as_secs_f64() / HORIZON.as_secs_f64());
        match self {
            Self::None => "fine".to_owned(),
            Self::Call(_, fault) => match fault {
                Fault::AnswerLost => "answer-lost".to_owned(),
                Fault::NothingDone => "nothing-done".to_owned(),
                Fault::Late(span) => format!("late-{}", parts(span)),
                Fault::Twice => "twice".to_owned(),
                Fault::Refused(class) => format!("refused-{}", class.name()),
                Fault::NotSent => "not-sent".to_owned(),
                Fault::Foreign => "foreign".to_owned(),
                Fault::NeverFinished => "never-finished".to_owned(),
                Fault::BackAgain(span) => format!("back-again-{}", parts(span)),
            },
            Self::Look(sight) => format!("look-{sight:?}").to_lowercase(),
            Self::GoneAlready(kind) => format!("{kind}-gone-already"),
            Self::Billing(_, fault) => match fault {
                BillingFault::Late(span) => format!("billing-late-{}", parts(span)),
                BillingFault::Refused => "billing-refused".to_owned(),
                BillingFault::Down => "billing-down".to_owned(),
                BillingFault::AnswerLost => "billing-answer-lost".to_owned(),
                BillingFault::Duplicate => "billing-duplicate".to_owned(),
                BillingFault::NotSent => "billing-not-sent".to_owned(),
            },
            Self::Records(_, fault) => format!("records-{fault:?}").to_lowercase(),
            Self::Commit(CommitFault::None) => "commit-fine".to_owned(),
            Self::Commit(CommitFault::Refuse) => "commit-refused".to_owned(),
            Self::Commit(CommitFault::Lose { applied: true }) => "commit-lost-applied".to_owned(),
            Self::Commit(CommitFault::Lose { applied: false }) => "commit-lost".to_owned(),
        }
    }

    /// Everything that can go wrong at a place.
    ///
    /// What an adapter hears is told apart by its own tests; at the port, a 5xx with and without the effect, a time-out
    /// and a malformed answer are an answer that is lost and a call that is not done, and a 429 is a call that was not
    /// sent.
    #[must_use]
    pub fn at(place: Place) -> Vec<Self> {
        let Place { step, gap } = place;
        let mut all = vec![Self::None];
        let looks = [Sight::Unanswered, Sight::Inconclusive, Sight::Flapping, Sight::Stale].map(Self::Look);
        match step {
            Step::Base | Step::Storage | Step::Runtime | Step::Power | Step::Update => {
                let call = call_of(step);
                all.extend(creating_faults().into_iter().map(|fault| Self::Call(call, fault)));
                all.extend(looks);
            }
            Step::Seal => all.extend(sealing_faults().into_iter().map(|fault| Self::Call(CallKind::Seal, fault))),
            Step::Remove => {
                let call = CallKind::Destroy(ResourceKind::Runtime);
                all.extend(removing_faults().into_iter().map(|fault| Self::Call(call, fault)));
                all.push(Self::GoneAlready(ResourceKind::Runtime));
            }
            Step::Ready | Step::Absence => all.extend(looks),
            Step::Record => all.extend(records_faults(RecordsCall::Insert)),
            Step::Subscribe => {
                all.extend(billing_faults(BillingCall::Start));
                all.extend(records_faults(RecordsCall::Subscribe));
            }
            Step::EndSubscription => {
                all.extend(billing_faults(BillingCall::End));
                all.extend(records_faults(RecordsCall::Unsubscribe));
            }
            Step::MarkDestroyed => all.extend(records_faults(RecordsCall::Mark)),
            Step::CheckActive | Step::Complete | Step::Release => {}
        }
        if !(gap == Gap::Answered && ends_with_its_answer(step)) {
            all.extend([
                Self::Commit(CommitFault::Refuse),
                Self::Commit(CommitFault::Lose { applied: true }),
                Self::Commit(CommitFault::Lose { applied: false }),
            ]);
        }
        all
    }

    /// Whether it waits for a call of the step, and not for the next commit or look.
    fn waits_for_call(&self) -> bool {
        match self {
            Self::Call(..) | Self::Billing(..) | Self::Records(..) => true,
            Self::None | Self::Look(_) | Self::GoneAlready(_) | Self::Commit(_) => false,
        }
    }
}

/// Whether the commit that takes in what came of the step is the last one of its operation: no other follows it.
fn ends_with_its_answer(step: Step) -> bool {
    match step {
        Step::Subscribe | Step::Complete | Step::Power | Step::Update | Step::MarkDestroyed | Step::Release => true,
        Step::CheckActive
        | Step::Base
        | Step::Storage
        | Step::Runtime
        | Step::Ready
        | Step::Record
        | Step::Seal
        | Step::Remove
        | Step::Absence
        | Step::EndSubscription => false,
    }
}

/// Whether what happens keeps the step's call from being made, so that there is nothing to go wrong with it: the operation
/// is replaced before the intent.
fn keeps_from_calling(place: Place, occurrence: Occurrence, trouble: &Trouble) -> bool {
    let late =
        matches!(occurrence, Occurrence::DestroyInPause | Occurrence::DestroyInShortPause | Occurrence::DestroyOfStuck);
    let forward = matches!(
        place.step,
        Step::Base
            | Step::Storage
            | Step::Runtime
            | Step::Ready
            | Step::Record
            | Step::Subscribe
            | Step::Power
            | Step::Update
    );
    let on_complete = matches!(place.step, Step::Power | Step::Update);
    let replaces = occurrence.ends_it() && !(on_complete && occurrence == Occurrence::Override)
        || on_complete && matches!(occurrence, Occurrence::Stop | Occurrence::Update);
    match place.gap {
        Gap::BeforeNote => forward && replaces,
        // The subscription is written once billing has answered, which says no where the destroy has been there first.
        Gap::Noted => late && place.step == Step::Subscribe && matches!(trouble, Trouble::Records(..)),
        Gap::Sent | Gap::Answered => false,
    }
}

fn call_of(step: Step) -> CallKind {
    match step {
        Step::Storage => CallKind::Ensure(ResourceKind::Storage),
        Step::Runtime => CallKind::Ensure(ResourceKind::Runtime),
        Step::Power => CallKind::Restart,
        Step::Update => CallKind::Update,
        Step::Base
        | Step::CheckActive
        | Step::Ready
        | Step::Record
        | Step::Subscribe
        | Step::Complete
        | Step::Seal
        | Step::Remove
        | Step::Absence
        | Step::EndSubscription
        | Step::MarkDestroyed
        | Step::Release => CallKind::Ensure(ResourceKind::Base),
    }
}

/// A tenth of the horizon, all of it, and three times as much.
fn late() -> [Duration; 3] {
    [HORIZON / 10, HORIZON, HORIZON * 3]
}

fn creating_faults() -> Vec<Fault> {
    let mut all = vec![Fault::AnswerLost, Fault::NothingDone, Fault::Twice, Fault::NotSent, Fault::Foreign];
    all.extend(late().map(Fault::Late));
    let classes = [
        RejectionClass::Invalid,
        RejectionClass::Unauthorized,
        RejectionClass::Capacity { region: None },
        RejectionClass::Quota,
    ];
    all.extend(classes.map(Fault::Refused));
    all
}

fn sealing_faults() -> Vec<Fault> {
    let mut all = vec![Fault::AnswerLost, Fault::NothingDone, Fault::NotSent];
    all.extend(late().map(Fault::Late));
    all.push(Fault::Refused(RejectionClass::Unauthorized));
    all
}

fn removing_faults() -> Vec<Fault> {
    let mut all = sealing_faults();
    all.push(Fault::NeverFinished);
    all.extend(late().map(Fault::BackAgain));
    all
}

fn billing_faults(call: BillingCall) -> Vec<Trouble> {
    let mut all = vec![
        BillingFault::Refused,
        BillingFault::Down,
        BillingFault::AnswerLost,
        BillingFault::Duplicate,
        BillingFault::NotSent,
    ];
    all.extend(late().map(BillingFault::Late));
    all.into_iter().map(|fault| Trouble::Billing(call, fault)).collect()
}

fn records_faults(call: RecordsCall) -> [Trouble; 3] {
    [RecordsFault::Refused, RecordsFault::Down, RecordsFault::AnswerLost].map(|fault| Trouble::Records(call, fault))
}

/// One cell. Its name replays it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// What the provider promises.
    pub promise: Promise,
    /// Where the executor is.
    pub place: Place,
    /// What happens meanwhile.
    pub occurrence: Occurrence,
    /// What goes wrong with the call or the commit at hand.
    pub trouble: Trouble,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { promise, place, occurrence, trouble } = self;
        write!(f, "{}/{place}/{}/{}", promise.name(), occurrence.name(), trouble.name())
    }
}

/// A text that names no cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoSuchCell;

impl FromStr for Cell {
    type Err = NoSuchCell;

    fn from_str(text: &str) -> Result<Self, NoSuchCell> {
        all().into_iter().find(|cell| cell.to_string() == text).ok_or(NoSuchCell)
    }
}

/// Every cell.
#[must_use]
pub fn all() -> Vec<Cell> {
    let mut cells = Vec::new();
    for promise in Promise::ALL {
        for place in Place::all() {
            if place.step == Step::Seal && !promise.seals() {
                continue;
            }
            for &occurrence in Occurrence::ALL {
                for trouble in Trouble::at(place) {
                    if !(trouble.waits_for_call() && keeps_from_calling(place, occurrence, &trouble)) {
                        cells.push(Cell { promise, place, occurrence, trouble });
                    }
                }
            }
        }
    }
    cells
}
