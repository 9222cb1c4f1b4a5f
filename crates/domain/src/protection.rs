//! The protections, by name: each is one place in the code that stands between a fault and a broken promise.
//!
//! [`stands`] is always true in a program that is built to be used: the compiler leaves nothing of it. Built with the
//! feature `twins`, one protection at a time can be taken out on the thread at hand, so that the proof can show that
//! somebody notices. A protection that could be taken out without anybody noticing would be decoration.

macro_rules! protections {
    ($($(#[doc = $doc:literal])* $name:ident: $without:literal),* $(,)?) => {
        /// Every protection that the proof takes out once.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Protection { $($(#[doc = $doc])* $name),* }

        impl Protection {
            /// Every protection.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Its name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),* }
            }

            /// What the program does without it.
            #[must_use]
            pub fn without(self) -> &'static str {
                match self { $(Self::$name => $without),* }
            }
        }
    };
}

protections! {
    /// Admission counts unresolved reservations.
    UnresolvedCounts: "admission does not see an unresolved reservation",
    /// Admission counts complete instances.
    LimitCounts: "admission does not see complete instances",
    /// A write names the epoch it is made under.
    EpochFence: "a write under an old epoch is taken",
    /// A claim raises the epoch.
    ClaimRaisesEpoch: "a claim leaves the epoch as it is, and the old executor goes on writing",
    /// What replaces an operation raises the epoch.
    ReplacingRaisesEpoch: "a destroy leaves the epoch as it is, and the old executor goes on writing",
    /// A lease that has not lapsed is not taken.
    LeaseIsRespected: "a live lease is taken by whoever looks",
    /// A lease is given back by its holder only.
    LeaseIsItsHolders: "a lease is released by somebody else's failure",
    /// An operation that is over takes no more findings.
    OverIsOver: "a finding is taken in for an operation that is over",
    /// A step that its executor left without a finding is in doubt.
    CrashLeavesDoubt: "a step that was under way at a crash counts as not begun",
    /// The last possible send of a step in doubt is when its executor was fenced.
    SendsUntilFenced: "a call that a stalled executor may still make counts as made when it was noted",
    /// Creating calls without an answer are counted.
    UnansweredCount: "a call without an answer counts as one that never left",
    /// Nothing is created for an instance that is not wanted.
    UnwantedIsNotMade: "a creating step is noted although destroy was accepted",
    /// Nothing that makes an instance canonical is undone while it is wanted.
    WantedIsNotUndone: "a seal is noted for an instance that is wanted",
    /// An id is on record as soon as it is known.
    IdBeforeReady: "the id of a runtime is saved only once it is ready",
    /// A delete without an answer is not a delete.
    ErrorIsNotGone: "an error on delete is treated as gone",
    /// Completion looks for a destroy.
    DestroyBeatsCompletion: "a late success revives an instance that is to be destroyed",
    /// Completion looks whether what was made is being removed.
    UndoneIsNotCompleted: "an instance is completed while it is being removed",
    /// A destroy buries the route in its own commit.
    DestroyBuriesRoute: "traffic goes on until the destroy is finished",
    /// `Released` is terminal.
    ReleasedIsOver: "a released reservation is completed by a late success",
    /// A release by seal needs a look after the seal.
    LookAfterSeal: "what is sealed counts as empty without a look",
    /// The provider is asked for the seal.
    SealIsAsked: "the seal is put down without asking the provider",
    /// Two looks that prove absence are a settle horizon apart.
    SettleHorizon: "absence is proven by two looks in a row",
    /// Absence without a seal needs a second look.
    SecondLook: "a reservation is released on the first \"not found\"",
    /// The first look that counts is after the last possible send.
    LooksAfterLastSend: "a look counts that was made while a call could still leave",
    /// What may be there is there until the opposite is proven.
    MaybeIsThere: "cleaning up is skipped where no id is known yet",
    /// An inconclusive look proves nothing.
    OnlyConclusiveLooks: "a look that proves nothing counts as absence",
    /// What is in doubt is not sent again where a second one could come of it.
    NoSecondSend: "a call without an answer is sent again at once",
    /// A subscription that may have been started is ended.
    DoubtfulBillingEnds: "a subscription whose start had no answer is never ended",
    /// A destroy ends the subscription.
    DestroyEndsBilling: "a destroyed instance is paid for",
    /// A found resource is ours only by its MAC.
    MacIsChecked: "a resource is adopted by its name",
    /// The intent is committed before the call leaves.
    IntentBeforeEffect: "a call leaves before its intent is committed",
    /// A call leaves only while its lease has a margin left.
    SendDeadline: "a call leaves on a lease that has lapsed",
    /// An executor whose renewal was refused sends no more.
    LostLeaseStops: "an executor that was told that its lease is lost goes on sending",
    /// Every attempt sends the same bytes.
    SpecIsFrozen: "a retry is sent with slightly different parameters",
    /// What exists already under our ident is taken on.
    ExistingIsAdopted: "\"already exists\" is treated as a failure",
    /// Each transition's event is in its commit.
    AuditInCommit: "a transition is committed without its event",
    /// Each event's hash covers the one before it.
    AuditIsChained: "an event is chained to nothing",
    /// A key leads to its operation.
    KeyIsKept: "a retry with the same key is a new request",
    /// A key is good for one body.
    FingerprintIsChecked: "a key with another body gets the answer to the first",
    /// The first answer to a key stays.
    FirstAnswerStays: "the answer to a key is written over",
    /// Nobody is answered before the commit.
    AnswerAfterCommit: "success is answered although the commit failed",
    /// A commit without an answer is unknown.
    LostCommitIsUnknown: "a commit whose answer was lost counts as refused",
    /// What is swept was seen in two passes.
    SweptIsSeenTwice: "the janitor sweeps what it sees for the first time",
    /// What is swept is older than a settle horizon.
    SweptIsOld: "the janitor sweeps what a call under way may have made",
    /// What an operation works on is not swept.
    BusyIsNotSwept: "the janitor sweeps what is being created",
    /// What is an instance's own is not swept.
    OwnIsNotSwept: "the janitor begins sweeps of what a complete instance runs on, for ever",
    /// The records refuse who comes late.
    RecordsRefuseLate: "a row is written for an instance that is being removed",
    /// What is taken in is published only where its context has a place for it.
    OneIsPublished: "two instances that the records know in one context are both published",
    /// Records of their own are closed before a release, whether a row is in them or not.
    RecordsAreClosed: "a row that arrives after the release of its instance stays active",
    /// Nothing is undone while canonical success may be on record and the records do not answer.
    SilenceIsNoAnswer: "records that do not answer count as empty",
    /// Behind a backup every epoch is higher than it can have been.
    RestoreRaisesEpoch: "an executor that was given its lease after the backup goes on writing",
    /// Behind a backup a call may have left that is not on record.
    RestoreLeavesDoubt: "what was sent after the backup counts as never sent",
    /// Nothing is changed at a provider while the registry is in quarantine.
    QuarantineIsKept: "a registry from a backup is acted upon before anybody compared it with the providers",
}

/// Whether a protection is in its place.
#[cfg(not(feature = "twins"))]
#[inline(always)]
#[must_use]
pub const fn stands(_: Protection) -> bool {
    true
}

#[cfg(feature = "twins")]
pub use switched::{stands, without};

/// The switch of tests that want to see a protection missed.
#[cfg(feature = "twins")]
mod switched {
    use super::Protection;
    use std::cell::Cell;

    thread_local! {
        static OUT: Cell<Option<Protection>> = const { Cell::new(None) };
    }

    /// Whether a protection is in its place on this thread.
    #[inline]
    #[must_use]
    pub fn stands(protection: Protection) -> bool {
        OUT.get() != Some(protection)
    }

    /// Puts back what was out before, however the test ended.
    struct PutBack(Option<Protection>);

    impl Drop for PutBack {
        fn drop(&mut self) {
            OUT.set(self.0);
        }
    }

    /// Runs something on this thread without one protection.
    pub fn without<T>(protection: Protection, run: impl FnOnce() -> T) -> T {
        let _put_back = PutBack(OUT.replace(Some(protection)));
        run()
    }
}
