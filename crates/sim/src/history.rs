//! What was asked, what was answered, and what must therefore be true. Every line is part of the trace: two runs of one
//! seed have the same lines.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use freehold_domain::ids::{InstanceId, OperationId};

/// What the world acknowledged so far.
#[derive(Debug, Default)]
pub struct Promises {
    /// Everything that was ever admitted, in the order of the answers.
    pub admitted: Vec<InstanceId>,
    /// Which operation each key has.
    pub keys: BTreeMap<String, OperationId>,
    /// Whose destroy was acknowledged.
    pub destroyed: BTreeSet<InstanceId>,
    /// What was wrong with answers.
    pub broken: Vec<String>,
}

/// The lines of a history, and the promises made in it.
#[derive(Clone, Debug, Default)]
pub struct History {
    lines: Rc<RefCell<Vec<String>>>,
    promises: Rc<RefCell<Promises>>,
}

impl History {
    /// Puts down a line.
    pub fn tell(&self, line: impl Into<String>) {
        self.lines.borrow_mut().push(line.into());
    }

    /// Changes what was promised.
    pub fn promise<T>(&self, change: impl FnOnce(&mut Promises) -> T) -> T {
        change(&mut self.promises.borrow_mut())
    }

    /// The lines so far.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.lines.borrow().clone()
    }
}

impl Promises {
    /// A create under a key was answered with an operation: the same key has the same one for ever.
    pub fn keyed(&mut self, key: &str, operation: OperationId) {
        let known = *self.keys.entry(key.to_owned()).or_insert(operation);
        if known != operation {
            self.broken.push(format!("SameAnswer: key {key} has operation {known}, and then {operation}"));
        }
    }
}
