//! What was asked, what was answered, and what must therefore be true. Every line is part of the trace: two runs of one
//! seed have the same lines.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use freehold_domain::ids::{InstanceId, OperationId};

use crate::time::VirtualTime;

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
#[derive(Clone, Debug)]
pub struct History {
    time: VirtualTime,
    lines: Rc<RefCell<Vec<String>>>,
    promises: Rc<RefCell<Promises>>,
}

impl History {
    /// An empty one, whose lines begin with the time that has passed.
    #[must_use]
    pub fn new(time: VirtualTime) -> Self {
        Self { time, lines: Rc::default(), promises: Rc::default() }
    }

    /// Puts down a line.
    pub fn tell(&self, line: impl AsRef<str>) {
        let passed = self.time.passed().as_secs_f64();
        self.lines.borrow_mut().push(format!("{passed:10.3} s  {}", line.as_ref()));
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

/// The lines of a trace as people read them: every id is a number, in the order of appearance, and what came to nothing is
/// left out.
#[must_use]
pub fn story(trace: &[String]) -> Vec<String> {
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    let idle = [" renew: ", " timers: ", " watch: Ok(0)", ": Elsewhere", "return: Ok(0)"];
    let told = trace.iter().filter(|line| !idle.iter().any(|idle| line.trim_end().ends_with(idle.trim_end())));
    told.map(|line| with_short_ids(line, &mut names)).collect()
}

/// How many characters an id has.
const ID_LENGTH: usize = 36;

fn with_short_ids(line: &str, names: &mut BTreeMap<String, usize>) -> String {
    let is_id = |text: &str| {
        text.char_indices().all(|(at, c)| match at {
            8 | 13 | 18 | 23 => c == '-',
            _ => c.is_ascii_hexdigit(),
        })
    };
    let mut short = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        match rest.get(..ID_LENGTH).filter(|text| is_id(text)) {
            Some(id) => {
                let next = names.len() + 1;
                let number = *names.entry(id.to_owned()).or_insert(next);
                short.push_str(&format!("#{number}"));
                rest = &rest[ID_LENGTH..];
            }
            None => {
                short.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_numbers_its_ids_and_leaves_out_what_came_to_nothing() {
        let id = "019b76da-a800-7893-a2ee-fb32555e71c1";
        let trace = ["1 s  node-a renew: ".to_owned(), format!("2 s  destroy {id}: Ok({id})"), "3 s  ü".to_owned()];
        assert_eq!(story(&trace), ["2 s  destroy #1: Ok(#1)", "3 s  ü"]);
    }
}
