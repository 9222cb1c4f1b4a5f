//! What clients asked of one context and what they were told, with times of one clock that never goes back.
//!
//! An answer is put down only where it says something for certain. Whatever may have happened and may not (no answer, 5xx)
//! is an operation without an end: it may take effect at any later time, or never.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use uuid::Uuid;

/// Nanoseconds since the run began.
pub(crate) type Nanos = u64;

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Call {
    /// For an instance, with a key of this context or without one.
    Create { key: Option<String> },
    /// For its end.
    Destroy { id: Uuid },
    /// Which instance holds the context.
    Read,
}

/// What was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Said {
    /// The instance was admitted for this request, or for an earlier one with its key.
    Got(Uuid),
    /// Another one holds the context.
    Conflict(Uuid),
    /// The destroy is accepted.
    Accepted,
    /// There is no such instance.
    Missing,
    /// This one holds the context, or none does.
    Holds(Option<Uuid>),
    /// Nothing that can be relied on.
    Unknown,
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Op {
    pub(crate) invoked: Nanos,
    /// When the answer was there; `None` goes with [`Said::Unknown`], and with nothing else.
    pub(crate) returned: Option<Nanos>,
    pub(crate) call: Call,
    pub(crate) said: Said,
}

/// What the registry says in the end of the instances of a context.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fates {
    /// Every instance that was ever admitted.
    pub(crate) admitted: BTreeSet<Uuid>,
    /// Those whose provision came to nothing: they freed the context by themselves.
    pub(crate) failed: BTreeSet<Uuid>,
}

/// The histories of all contexts, while they are made.
#[derive(Debug)]
pub(crate) struct Recorder {
    began: Instant,
    ops: Mutex<BTreeMap<String, Vec<Op>>>,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), ops: Mutex::default() }
    }

    pub(crate) fn now(&self) -> Nanos {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Puts down an operation whose answer has just come, or will not come.
    pub(crate) fn add(&self, owner: &str, call: Call, invoked: Nanos, said: Said) {
        let returned = (said != Said::Unknown).then(|| self.now());
        let mut ops = self.ops.lock().unwrap_or_else(PoisonError::into_inner);
        ops.entry(owner.to_owned()).or_default().push(Op { invoked, returned, call, said });
    }

    /// Every history so far, by owner.
    pub(crate) fn histories(&self) -> BTreeMap<String, Vec<Op>> {
        self.ops.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
