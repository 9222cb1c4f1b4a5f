//! Whether a history of one context can be put into one order that a register explains.
//!
//! The register says which instance holds the context. An admission takes it when it is free, and is told the holder when it
//! is not; a key that took it once, and of which anybody heard, says the same for ever. A destroy that was accepted, or a provision that came to
//! nothing, lets the context become free at some later moment, by itself. What is not on record in the end was never there:
//! nobody can have been told of it. Every operation has its effect between its call
//! and its answer; one without an answer at any time after its call, or never. Contexts share nothing, so that a history
//! holds when it holds for each of them (Herlihy and Wing, 1990).
//!
//! The search goes through calls and answers in the order of time with every state in which the register may be, and each
//! state is looked at once (Wing and Gong, 1993; Lowe, 2017). Three things keep the states few:
//!
//! - what changes nothing (a conflict, a read) has happened as soon as it may have;
//! - a destroy has happened as soon as it may have, for nothing can show that it has not;
//! - nothing is taken before an answer asks for it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;

use uuid::Uuid;

use crate::history::{Call, Fates, Nanos, Op, Said};

/// More states than any history of a register that works comes to.
const STATES_MAX: usize = 200_000;

/// Why a history does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    /// The operation that nothing explains; `None` for what stands at the end.
    pub(crate) at: Option<usize>,
    pub(crate) why: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some(at) => write!(f, "operation {at}: {}", self.why),
            None => write!(f, "at the end: {}", self.why),
        }
    }
}

fn broken(at: impl Into<Option<usize>>, why: impl Into<String>) -> Broken {
    Broken { at: at.into(), why: why.into() }
}

/// One state in which the register may be, and which of the open operations have had their effect.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    holder: Option<usize>,
    taken: Bits,
    leaving: Bits,
    done: BTreeSet<usize>,
}

/// A set of small numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Bits(Vec<u64>);

impl Bits {
    fn of(count: usize) -> Self {
        Self(vec![0; count.div_ceil(64)])
    }

    fn has(&self, at: usize) -> bool {
        self.0[at / 64] & (1 << (at % 64)) != 0
    }

    fn put(&mut self, at: usize) {
        self.0[at / 64] |= 1 << (at % 64);
    }
}

/// A history, taken apart; and how far the search has come in it.
struct Search<'h> {
    ops: &'h [Op],
    ids: Vec<Uuid>,
    /// By instance.
    admitted: Vec<bool>,
    fails: Vec<bool>,
    /// Instances that nobody was told of as its own.
    unclaimed: Vec<usize>,
    /// For each operation with a key: the instance that the key is for, if anybody was told.
    keyed: Vec<Option<usize>>,
    /// By operation: the instance in its call or answer.
    named: Vec<Option<usize>>,
    /// Operations that were called and not answered yet, and will be.
    open: BTreeSet<usize>,
    /// By instance: how many operations that are under way, or were told nothing, may have taken the context for it.
    sources: BTreeMap<usize, usize>,
    /// How many of the instances that nobody was told of may have been taken by now.
    anyones: usize,
    /// Keys that are counted in that.
    counted: BTreeSet<&'h str>,
    /// Instances of which a destroy was told nothing.
    destroys_lost: BTreeSet<usize>,
}

/// Holds a history against the register. Answers the most states that it could be in at once.
pub(crate) fn check(ops: &[Op], fates: &Fates) -> Result<usize, Broken> {
    let mut search = Search::new(ops, fates)?;
    let count = search.ids.len();
    let start = State { holder: None, taken: Bits::of(count), leaving: Bits::of(count), done: BTreeSet::new() };
    let (mut states, mut most) = (HashSet::from([start]), 1);
    for (is_answer, at) in events(ops) {
        if is_answer {
            states = search.answered(states, at)?;
        } else {
            states = search.called(states, at);
        }
        most = most.max(states.len());
    }
    let explains = |state: &State| (0..count).all(|id| !search.admitted[id] || state.taken.has(id));
    if search.reach(states, explains, None)?.is_empty() {
        let ids: Vec<String> = fates.admitted.iter().map(Uuid::to_string).collect();
        return Err(broken(None, format!("the registry has {}, and nothing explains all of them", ids.join(", "))));
    }
    Ok(most)
}

/// Calls and answers in the order of time, calls first where that is the same.
fn events(ops: &[Op]) -> Vec<(bool, usize)> {
    let calls = ops.iter().enumerate().map(|(at, op)| (op.invoked, false, at));
    let answers = ops.iter().enumerate().filter_map(|(at, op)| Some((op.returned?, true, at)));
    let mut events: Vec<(Nanos, bool, usize)> = calls.chain(answers).collect();
    events.sort_unstable();
    events.into_iter().map(|(_, is_answer, at)| (is_answer, at)).collect()
}

impl<'h> Search<'h> {
    fn new(ops: &'h [Op], fates: &Fates) -> Result<Self, Broken> {
        let named = |op: &Op| match (&op.call, op.said) {
            (Call::Destroy { id }, _) => Some(*id),
            (_, Said::Got(id) | Said::Conflict(id) | Said::Holds(Some(id))) => Some(id),
            (_, Said::Accepted | Said::Missing | Said::Holds(None) | Said::Unknown) => None,
        };
        let ids: BTreeSet<Uuid> = ops.iter().filter_map(named).chain(fates.admitted.iter().copied()).collect();
        let ids: Vec<Uuid> = ids.into_iter().collect();
        let place = |id: Uuid| ids.binary_search(&id).ok();
        let (claimed, keyed) = claims(ops, &ids)?;
        Ok(Self {
            ops,
            admitted: ids.iter().map(|id| fates.admitted.contains(id)).collect(),
            fails: ids.iter().map(|id| fates.failed.contains(id)).collect(),
            unclaimed: (0..ids.len()).filter(|id| !claimed.contains(id)).collect(),
            keyed,
            named: ops.iter().map(|op| named(op).and_then(place)).collect(),
            open: BTreeSet::new(),
            sources: BTreeMap::new(),
            anyones: 0,
            counted: BTreeSet::new(),
            destroys_lost: BTreeSet::new(),
            ids,
        })
    }

    fn called(&mut self, states: HashSet<State>, at: usize) -> HashSet<State> {
        let ops = self.ops;
        match (&ops[at].call, ops[at].said, self.named[at], self.keyed[at]) {
            (Call::Create { .. }, Said::Unknown, _, Some(id)) => *self.sources.entry(id).or_default() += 1,
            // All with one key come to one instance at most.
            (Call::Create { key }, Said::Unknown, _, None) => {
                if key.as_deref().is_none_or(|key| self.counted.insert(key)) {
                    self.anyones += 1;
                }
            }
            (Call::Destroy { .. }, Said::Unknown, Some(id), _) => drop(self.destroys_lost.insert(id)),
            (_, Said::Unknown, _, _) => {}
            (_, said, named, _) => {
                if let (Said::Got(_), Some(id)) = (said, named) {
                    *self.sources.entry(id).or_default() += 1;
                }
                self.open.insert(at);
            }
        }
        states.into_iter().map(|state| self.settled(state)).collect()
    }

    fn answered(&mut self, states: HashSet<State>, at: usize) -> Result<HashSet<State>, Broken> {
        let mut after = self.reach(states, |state| state.done.contains(&at), Some(at))?;
        self.open.remove(&at);
        if let (Said::Got(_), Some(id)) = (self.ops[at].said, self.named[at])
            && let Some(count) = self.sources.get_mut(&id)
        {
            *count -= 1;
            if *count == 0 {
                self.sources.remove(&id);
            }
        }
        if after.is_empty() {
            let op = &self.ops[at];
            return Err(broken(
                at,
                format!("{:?} is answered {:?}, which nothing before it explains", op.call, op.said),
            ));
        }
        after = after
            .into_iter()
            .map(|mut state| {
                state.done.remove(&at);
                state
            })
            .collect();
        Ok(after)
    }

    /// Every state in which `wanted` holds, on the shortest ways from these.
    fn reach(
        &self,
        states: HashSet<State>,
        wanted: impl Fn(&State) -> bool,
        at: Option<usize>,
    ) -> Result<HashSet<State>, Broken> {
        let mut seen = HashSet::new();
        let mut found = HashSet::new();
        let mut ahead: Vec<State> = states.into_iter().collect();
        while let Some(state) = ahead.pop() {
            if wanted(&state) {
                found.insert(state);
                continue;
            }
            if !seen.insert(state.clone()) {
                continue;
            }
            if seen.len() > STATES_MAX {
                return Err(broken(at, format!("more than {STATES_MAX} states: the history is too open to be judged")));
            }
            match state.holder {
                Some(holder) if state.leaving.has(holder) || self.fails[holder] => {
                    ahead.push(self.settled(State { holder: None, ..state }));
                }
                Some(_) => {}
                None => ahead.extend(self.takers(&state).map(|id| {
                    let mut next = state.clone();
                    next.holder = Some(id);
                    next.taken.put(id);
                    self.settled(next)
                })),
            }
        }
        Ok(found)
    }

    /// The instances that an admission may take the free context for.
    fn takers<'s>(&'s self, state: &'s State) -> impl Iterator<Item = usize> + 's {
        let taken = self.unclaimed.iter().filter(|id| state.taken.has(**id)).count();
        let anyones = if taken < self.anyones { &self.unclaimed[..] } else { &[] };
        let all = self.sources.keys().chain(anyones).copied();
        all.filter(|id| !state.taken.has(*id) && self.admitted[*id])
    }

    /// The state once everything that may have happened without changing what can be seen has happened.
    fn settled(&self, mut state: State) -> State {
        let has = |state: &State, id: Option<usize>| id.is_some_and(|id| state.taken.has(id));
        for &id in self.destroys_lost.iter().filter(|id| state.taken.has(**id)) {
            state.leaving.put(id);
        }
        for &at in &self.open {
            let op = &self.ops[at];
            let happened = match (&op.call, op.said) {
                (Call::Create { .. }, Said::Conflict(_)) => {
                    state.holder == self.named[at] && !has(&state, self.keyed[at])
                }
                (Call::Read, Said::Holds(_)) => state.holder == self.named[at],
                (Call::Destroy { .. }, Said::Missing) => !has(&state, self.named[at]),
                (Call::Create { .. }, Said::Got(_)) | (Call::Destroy { .. }, Said::Accepted) => {
                    has(&state, self.named[at])
                }
                // Answers that no such question has.
                (Call::Create { .. } | Call::Destroy { .. } | Call::Read, _) => false,
            };
            if happened {
                state.done.insert(at);
                if let (Call::Destroy { .. }, Said::Accepted, Some(id)) = (&op.call, op.said, self.named[at]) {
                    state.leaving.put(id);
                }
            }
        }
        state
    }
}

/// The instances that somebody was told of as its own, and for each operation with a key the instance that the key is for.
fn claims(ops: &[Op], ids: &[Uuid]) -> Result<(BTreeSet<usize>, Vec<Option<usize>>), Broken> {
    let mut by_key: BTreeMap<&str, usize> = BTreeMap::new();
    let mut claimed: BTreeMap<usize, Option<&str>> = BTreeMap::new();
    for (at, op) in ops.iter().enumerate() {
        let (Call::Create { key }, Said::Got(id)) = (&op.call, op.said) else { continue };
        let id = ids.binary_search(&id).map_err(|_| broken(at, "an instance without a number"))?;
        if let Some(key) = key
            && *by_key.entry(key).or_insert(id) != id
        {
            return Err(broken(at, format!("{key} is answered with another instance than before")));
        }
        let before = claimed.insert(id, key.as_deref());
        if before.is_some_and(|before| before != key.as_deref() || key.is_none()) {
            return Err(broken(at, format!("{} was given to two requests", ids[id])));
        }
    }
    let key_of = |op: &Op| match &op.call {
        Call::Create { key: Some(key) } => by_key.get(key.as_str()).copied(),
        Call::Create { key: None } | Call::Destroy { .. } | Call::Read => None,
    };
    Ok((claimed.into_keys().collect(), ops.iter().map(key_of).collect()))
}

#[cfg(test)]
#[path = "linear_tests.rs"]
mod tests;
