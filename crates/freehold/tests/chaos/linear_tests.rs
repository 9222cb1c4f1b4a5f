//! Histories that hold, histories that do not, and a search by trying everything that must come to the same.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::check;
use crate::chance::Chance;
use crate::history::{Call, Fates, Op, Said};

fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn create(key: Option<&str>) -> Call {
    Call::Create { key: key.map(str::to_owned) }
}

fn destroy(number: u128) -> Call {
    Call::Destroy { id: id(number) }
}

/// An operation from one moment to another; without an answer where it is told nothing.
fn op(invoked: u64, returned: u64, call: Call, said: Said) -> Op {
    Op { invoked, returned: (said != Said::Unknown).then_some(returned), call, said }
}

fn got(number: u128) -> Said {
    Said::Got(id(number))
}

fn conflict(number: u128) -> Said {
    Said::Conflict(id(number))
}

fn fates(admitted: &[u128], failed: &[u128]) -> Fates {
    let ids = |numbers: &[u128]| numbers.iter().copied().map(id).collect();
    Fates { admitted: ids(admitted), failed: ids(failed) }
}

#[test]
fn what_a_register_does_holds() {
    let stories: [(&str, Vec<Op>, Fates); 8] = [
        ("nothing", vec![], fates(&[], &[])),
        (
            "one wins, the others are told who",
            vec![
                op(0, 9, create(None), got(1)),
                op(1, 5, create(None), conflict(1)),
                op(6, 8, create(Some("k")), conflict(1)),
                op(10, 11, Call::Read, Said::Holds(Some(id(1)))),
            ],
            fates(&[1], &[]),
        ),
        (
            "a lost answer took it, and the key says so",
            vec![
                op(0, 0, create(Some("k")), Said::Unknown),
                op(1, 2, create(None), conflict(1)),
                op(3, 4, create(Some("k")), got(1)),
            ],
            fates(&[1], &[]),
        ),
        (
            "a lost answer that nobody asked for again",
            vec![op(0, 0, create(None), Said::Unknown), op(5, 6, create(None), conflict(7))],
            fates(&[7], &[]),
        ),
        (
            "a lost answer takes effect long after, or never",
            vec![
                op(0, 0, create(None), Said::Unknown),
                op(1, 2, create(None), got(1)),
                op(3, 4, destroy(1), Said::Accepted),
                op(5, 6, create(None), conflict(2)),
            ],
            fates(&[1, 2], &[]),
        ),
        (
            "a destroyed one holds on until it is gone",
            vec![
                op(0, 1, create(None), got(1)),
                op(2, 3, destroy(1), Said::Accepted),
                op(4, 5, create(None), conflict(1)),
                op(6, 7, Call::Read, Said::Holds(None)),
                op(8, 9, create(None), got(2)),
                op(10, 11, destroy(1), Said::Accepted),
            ],
            fates(&[1, 2], &[]),
        ),
        (
            "one that came to nothing frees its context",
            vec![op(0, 1, create(None), got(1)), op(2, 3, create(None), conflict(1)), op(4, 5, create(None), got(2))],
            fates(&[1, 2], &[1]),
        ),
        (
            "a destroy whose answer is lost",
            vec![op(0, 1, create(None), got(1)), op(2, 2, destroy(1), Said::Unknown), op(3, 4, create(None), got(2))],
            fates(&[1, 2], &[]),
        ),
    ];
    for (story, ops, fates) in stories {
        assert_eq!(check(&ops, &fates).map(drop), Ok(()), "{story}");
        assert!(brute(&ops, &fates), "{story}");
    }
}

#[test]
fn what_no_register_does_is_found_where_it_shows() {
    let stories: [(&str, Vec<Op>, Fates, Option<usize>); 12] = [
        (
            "a double",
            vec![op(0, 3, create(None), got(1)), op(1, 4, create(None), got(2))],
            fates(&[1, 2], &[]),
            Some(1),
        ),
        (
            "a double of which one is not acknowledged",
            vec![op(0, 0, create(None), Said::Unknown), op(1, 4, create(None), got(2))],
            fates(&[1, 2], &[]),
            None,
        ),
        (
            "a lost acknowledgement: the context is free again",
            vec![op(0, 1, create(None), got(1)), op(2, 3, Call::Read, Said::Holds(None))],
            fates(&[1], &[]),
            Some(1),
        ),
        (
            "a lost acknowledgement: another one holds it",
            vec![op(0, 1, create(None), got(1)), op(2, 3, create(None), got(2))],
            fates(&[2], &[]),
            Some(0),
        ),
        (
            "a lost acknowledgement: there is no such instance",
            vec![op(0, 1, create(None), got(1)), op(2, 3, destroy(1), Said::Missing)],
            fates(&[1], &[]),
            Some(1),
        ),
        (
            "a lost destroy: it holds the context after another one did",
            vec![
                op(0, 1, create(None), got(1)),
                op(2, 3, destroy(1), Said::Accepted),
                op(4, 5, create(None), got(2)),
                op(6, 7, create(None), conflict(1)),
            ],
            fates(&[1, 2], &[]),
            Some(3),
        ),
        (
            "a key with two instances",
            vec![
                op(0, 1, create(Some("k")), got(1)),
                op(2, 3, destroy(1), Said::Accepted),
                op(4, 5, create(Some("k")), got(2)),
            ],
            fates(&[1, 2], &[]),
            Some(2),
        ),
        (
            "an instance for two requests",
            vec![op(0, 1, create(Some("k")), got(1)), op(2, 3, create(Some("l")), got(1))],
            fates(&[1], &[]),
            Some(1),
        ),
        (
            "a key that is forgotten",
            vec![op(0, 1, create(Some("k")), got(1)), op(2, 3, create(Some("k")), conflict(1))],
            fates(&[1], &[]),
            Some(1),
        ),
        ("a conflict with what nobody asked for", vec![op(0, 1, create(None), conflict(9))], fates(&[9], &[]), Some(0)),
        (
            "a conflict before the instance was asked for",
            vec![op(0, 1, create(None), conflict(1)), op(2, 3, create(None), got(1))],
            fates(&[1], &[]),
            Some(0),
        ),
        ("an instance that nobody asked for", vec![], fates(&[1], &[]), None),
    ];
    for (story, ops, fates, at) in stories {
        let found = check(&ops, &fates);
        assert_eq!(found.as_ref().err().map(|broken| broken.at), Some(at), "{story}: {found:?}");
        assert!(!brute(&ops, &fates), "{story}");
    }
}

/// The register, as one would write it down.
#[derive(Clone, Default)]
struct Register {
    /// Keys that somebody was told an instance for.
    heard: BTreeSet<String>,
    holder: Option<Uuid>,
    taken: BTreeSet<Uuid>,
    leaving: BTreeSet<Uuid>,
    keys: BTreeMap<String, Uuid>,
}

impl Register {
    fn take(&self, key: Option<&String>, id: Uuid, fates: &Fates) -> Option<Self> {
        if self.holder.is_some() || !fates.admitted.contains(&id) || self.taken.contains(&id) {
            return None;
        }
        let mut next = self.clone();
        next.holder = Some(id);
        next.taken.insert(id);
        next.keys.extend(key.map(|key| (key.clone(), id)));
        Some(next)
    }

    fn leave(&self, id: Uuid) -> Option<Self> {
        let mut next = self.clone();
        next.leaving.insert(id);
        self.taken.contains(&id).then_some(next)
    }

    fn may_free(&self, fates: &Fates) -> bool {
        self.holder.is_some_and(|holder| self.leaving.contains(&holder) || fates.failed.contains(&holder))
    }

    /// Every register that an operation can leave behind.
    fn after(&self, op: &Op, fates: &Fates) -> Vec<Self> {
        let same = |holds: bool| if holds { vec![self.clone()] } else { Vec::new() };
        match (&op.call, op.said) {
            (Call::Create { key }, said) => {
                let known = key.as_ref().and_then(|key| self.keys.get(key)).copied();
                match (known, said) {
                    (Some(known), Said::Got(id)) => same(known == id),
                    (Some(_), Said::Conflict(id)) => {
                        same(key.as_ref().is_some_and(|key| !self.heard.contains(key)) && self.holder == Some(id))
                    }
                    (Some(_), _) => same(said == Said::Unknown),
                    (None, Said::Got(id)) => self.take(key.as_ref(), id, fates).into_iter().collect(),
                    (None, Said::Conflict(id)) => same(self.holder == Some(id)),
                    (None, Said::Unknown) => {
                        fates.admitted.iter().filter_map(|id| self.take(key.as_ref(), *id, fates)).collect()
                    }
                    (None, _) => Vec::new(),
                }
            }
            (Call::Destroy { id }, Said::Accepted | Said::Unknown) => self.leave(*id).into_iter().collect(),
            (Call::Destroy { id }, said) => same(said == Said::Missing && !self.taken.contains(id)),
            (Call::Read, Said::Holds(holder)) => same(self.holder == holder),
            (Call::Read, _) => Vec::new(),
        }
    }
}

/// Tries every order.
fn brute(ops: &[Op], fates: &Fates) -> bool {
    fn go(ops: &[&Op], register: &Register, fates: &Fates) -> bool {
        let ends = ops.iter().filter_map(|op| op.returned).min();
        if ends.is_none() && fates.admitted.is_subset(&register.taken) {
            // What is left was told nothing, and need not have happened.
            return true;
        }
        if register.may_free(fates) && go(ops, &Register { holder: None, ..register.clone() }, fates) {
            return true;
        }
        (0..ops.len()).filter(|at| ends.is_none_or(|end| ops[*at].invoked <= end)).any(|at| {
            let rest: Vec<&Op> = ops.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, op)| *op).collect();
            register.after(ops[at], fates).iter().any(|next| go(&rest, next, fates))
        })
    }
    let heard = |op: &Op| match (&op.call, op.said) {
        (Call::Create { key }, Said::Got(_)) => key.clone(),
        _ => None,
    };
    let register = Register { heard: ops.iter().filter_map(heard).collect(), ..Register::default() };
    go(&ops.iter().collect::<Vec<_>>(), &register, fates)
}

/// What a register would have said, with answers lost; and then, every other time, one thing changed.
fn told(chance: &mut Chance) -> (Vec<Op>, Fates) {
    let count = 1 + chance.below(6) as usize;
    let mut ops = Vec::new();
    for _ in 0..count {
        let call = match chance.below(6) {
            0 => create(None),
            1..=3 => create(Some(if chance.below(2) == 0 { "k" } else { "l" })),
            4 => destroy(1 + u128::from(chance.below(3))),
            _ => Call::Read,
        };
        let invoked = chance.below(20);
        ops.push(op(invoked, invoked + chance.below(8), call, Said::Holds(None)));
    }
    let mut fates = fates(&[], &[]);
    let mut register = Register::default();
    let mut next = 1;
    let mut order: Vec<(u64, usize)> = ops
        .iter()
        .enumerate()
        .map(|(at, op)| (op.invoked + chance.below(op.returned.unwrap_or(0) - op.invoked + 1), at))
        .collect();
    order.sort_unstable();
    for (_, at) in order {
        if let Some(holder) = register.holder
            && chance.below(6) == 0
        {
            fates.failed.insert(holder);
        }
        if register.may_free(&fates) && chance.below(2) == 0 {
            register.holder = None;
        }
        let said = match &ops[at].call {
            Call::Create { key } => {
                let known = key.as_ref().and_then(|key| register.keys.get(key)).copied();
                match (known, register.holder) {
                    (Some(known), _) => Said::Got(known),
                    (None, Some(holder)) => Said::Conflict(holder),
                    (None, None) => {
                        fates.admitted.insert(id(next));
                        register = register.take(key.as_ref(), id(next), &fates).unwrap();
                        next += 1;
                        Said::Got(id(next - 1))
                    }
                }
            }
            Call::Destroy { id } => match register.leave(*id) {
                Some(left) => {
                    register = left;
                    Said::Accepted
                }
                None => Said::Missing,
            },
            Call::Read => Said::Holds(register.holder),
        };
        ops[at].said = said;
        if chance.below(4) == 0 {
            ops[at].said = Said::Unknown;
            ops[at].returned = None;
        }
    }
    if chance.below(2) == 0 {
        let at = chance.below(count as u64) as usize;
        let some = id(1 + u128::from(chance.below(3)));
        ops[at].said = match (&ops[at].call, chance.below(3)) {
            (Call::Create { .. }, 0) => Said::Got(some),
            (Call::Create { .. }, _) => Said::Conflict(some),
            (Call::Destroy { .. }, 0) => Said::Missing,
            (Call::Destroy { .. }, _) => Said::Accepted,
            (Call::Read, 0) => Said::Holds(None),
            (Call::Read, _) => Said::Holds(Some(some)),
        };
        ops[at].returned = Some(ops[at].invoked + chance.below(8));
    }
    (ops, fates)
}

#[test]
fn the_search_comes_to_what_trying_everything_comes_to() {
    let (mut holds, mut breaks) = (0, 0);
    for seed in 0..20_000 {
        let (ops, fates) = told(&mut Chance::of(seed));
        let expected = brute(&ops, &fates);
        let found = check(&ops, &fates);
        assert_eq!(found.is_ok(), expected, "seed {seed}: {found:?}\n{ops:#?}\n{fates:?}");
        *if expected { &mut holds } else { &mut breaks } += 1;
    }
    assert!(holds > 5_000 && breaks > 2_000, "{holds} hold and {breaks} do not");
}

#[test]
fn a_long_history_of_a_hot_context_is_judged_quickly() {
    let mut ops = Vec::new();
    let mut admitted = Vec::new();
    for round in 0..1_000_u64 {
        let number = u128::from(round) + 1;
        let (from, key) = (round * 100, format!("k{round}"));
        admitted.push(number);
        ops.push(op(from, from, create(None), Said::Unknown));
        ops.push(op(from, from, create(Some(&key)), Said::Unknown));
        for client in 0..20 {
            ops.push(op(from + 2 + client, from + 60 + client, create(None), conflict(number)));
        }
        ops.push(op(from + 10, from + 50, create(Some(&key)), got(number)));
        ops.push(op(from + 85, from + 90, destroy(number), Said::Accepted));
    }
    let most = check(&ops, &fates(&admitted, &[])).expect("it holds");
    assert!(most < 1_000, "{most} states at once");
}
