//! What must hold when nothing fails any more: everything that was acknowledged, nothing twice, nothing left over, and a
//! history of each context that a register explains.
//!
//! [`Evidence`] is gathered from the servers and the provider; [`judge`] is a function of it, so that it can be shown what a
//! broken system looks like.

use std::collections::{BTreeMap, BTreeSet};

use freehold_api::v1::instances::InstanceStatus;
use freehold_api::v1::reservations::{ReservationStatus, ResolutionReason};
use uuid::Uuid;

use crate::clients::Promises;
use crate::history::{Fates, Op};
use crate::linear;

/// What the registry says of an instance.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub(crate) owner: String,
    pub(crate) reservation: ReservationStatus,
    pub(crate) because: Option<ResolutionReason>,
    /// `None` where the list of instances has it not.
    pub(crate) status: Option<InstanceStatus>,
}

impl Standing {
    fn is_live(&self) -> bool {
        matches!(self.status, Some(InstanceStatus::Running | InstanceStatus::Stopped))
    }

    fn is_settled(&self) -> bool {
        let resolved = matches!(self.reservation, ReservationStatus::Completed | ReservationStatus::Released);
        let resting = matches!(self.status, Some(InstanceStatus::Destroyed | InstanceStatus::Failed)) || self.is_live();
        resolved && resting
    }

    /// Whether its provision came to nothing, rather than somebody's destroy.
    fn has_failed(&self) -> bool {
        self.reservation == ReservationStatus::Released && self.because != Some(ResolutionReason::InstanceDestroyed)
    }
}

/// What the provider has under an instance's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct There {
    pub(crate) machines: usize,
    pub(crate) volumes: usize,
}

/// Everything that is looked at in the end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence {
    pub(crate) registry: BTreeMap<Uuid, Standing>,
    /// By instance: every app at the provider.
    pub(crate) provider: BTreeMap<Uuid, There>,
    /// Calls to the provider that are still to take effect.
    pub(crate) still_to_come: u64,
    /// The most machines that one instance ever had at once. Volumes have no unique names at this provider: what is made
    /// late is a second one for a while, is never used, and must be gone in the end like everything that is not referred to.
    pub(crate) most_at_once: u64,
    /// What else is wrong, as servers, logs and the audit trail say.
    pub(crate) complaints: Vec<String>,
}

impl Evidence {
    /// What is not as it will be in the end.
    pub(crate) fn unsettled(&self) -> Vec<String> {
        let mut unsettled = Vec::new();
        for (id, standing) in &self.registry {
            if !standing.is_settled() {
                unsettled.push(format!("unsettled: {id} is {standing:?}"));
            }
        }
        if self.still_to_come > 0 {
            unsettled.push(format!("unsettled: {} calls are still to take effect", self.still_to_come));
        }
        unsettled.extend(self.misplaced());
        unsettled
    }

    /// Where registry and provider disagree.
    fn misplaced(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (id, there) in &self.provider {
            let live = self.registry.get(id).is_some_and(Standing::is_live);
            if !live {
                let known = self.registry.get(id).map(|standing| standing.status);
                wrong.push(format!("orphan: the provider has {there:?} of {id}, which is {known:?}"));
            } else if *there != (There { machines: 1, volumes: 1 }) {
                wrong.push(format!("duplicate or loss: {id} has {there:?}"));
            }
        }
        for (id, _) in self.registry.iter().filter(|(_, standing)| standing.is_live()) {
            if !self.provider.contains_key(id) {
                wrong.push(format!("loss: {id} is live, and the provider has nothing of it"));
            }
        }
        wrong
    }

    fn fates(&self) -> BTreeMap<&str, Fates> {
        let mut fates: BTreeMap<&str, Fates> = BTreeMap::new();
        for (id, standing) in &self.registry {
            let of = fates.entry(&standing.owner).or_default();
            of.admitted.insert(*id);
            if standing.has_failed() {
                of.failed.insert(*id);
            }
        }
        fates
    }
}

/// Everything that does not hold, in words.
pub(crate) fn judge(evidence: &Evidence, promises: &Promises, histories: &BTreeMap<String, Vec<Op>>) -> Vec<String> {
    let mut wrong = evidence.unsettled();
    wrong.extend(evidence.complaints.iter().cloned());
    wrong.extend(promises.wrong.iter().map(|answer| format!("wrong answer: {answer}")));
    wrong.extend(acknowledgements(evidence, promises));
    wrong.extend(doubles(evidence));
    let fates = evidence.fates();
    let owners: BTreeSet<&str> = histories.keys().map(String::as_str).chain(fates.keys().copied()).collect();
    for owner in owners {
        let ops = histories.get(owner).map_or(&[][..], Vec::as_slice);
        if let Err(broken) = linear::check(ops, &fates.get(owner).cloned().unwrap_or_default()) {
            wrong.push(format!("history of {owner}: {broken}\n{}", around(ops, broken.at)));
        }
    }
    wrong
}

/// The operations before the one that does not fit, for people.
fn around(ops: &[Op], at: Option<usize>) -> String {
    let until = at.and_then(|at| ops[at].returned).unwrap_or(u64::MAX);
    let mut before: Vec<(usize, &Op)> = ops.iter().enumerate().filter(|(_, op)| op.invoked <= until).collect();
    before.sort_by_key(|(_, op)| op.returned.unwrap_or(op.invoked));
    let shown = before.iter().rev().take(40).rev();
    shown.map(|(at, op)| format!("    {at}: {op:?}\n")).collect()
}

fn acknowledgements(evidence: &Evidence, promises: &Promises) -> Vec<String> {
    let mut wrong = Vec::new();
    let made = promises.made.iter().map(|made| (made, true));
    for ((id, owner), complete) in made.chain(promises.admitted.iter().map(|admitted| (admitted, false))) {
        let code = if complete { 201 } else { 202 };
        let Some(standing) = evidence.registry.get(id) else {
            wrong.push(format!("lost acknowledgement: {id} of {owner} was answered {code}, and is not on record"));
            continue;
        };
        let by_the_book = standing.is_live()
            || promises.asked_to_destroy.contains(id)
            || (!complete && !promises.made.contains_key(id) && standing.has_failed());
        if !by_the_book || standing.owner != *owner {
            wrong.push(format!("lost acknowledgement: {id} of {owner} was answered {code}, and is {standing:?}"));
        }
    }
    for id in &promises.destroyed {
        let ended = |standing: &Standing| !standing.is_live();
        if !evidence.registry.get(id).is_some_and(ended) {
            let is = evidence.registry.get(id);
            wrong.push(format!("lost acknowledgement: the destroy of {id} was accepted, and it is {is:?}"));
        }
    }
    wrong
}

fn doubles(evidence: &Evidence) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut live: BTreeMap<&str, Vec<Uuid>> = BTreeMap::new();
    for (id, standing) in evidence.registry.iter().filter(|(_, standing)| standing.is_live()) {
        live.entry(&standing.owner).or_default().push(*id);
    }
    for (owner, ids) in live.into_iter().filter(|(_, ids)| ids.len() > 1) {
        wrong.push(format!("duplicate: {owner} has {ids:?}"));
    }
    if evidence.most_at_once > 1 {
        wrong.push(format!("duplicate: an instance had {} machines at once", evidence.most_at_once));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::{Evidence, Standing, There, judge};
    use crate::clients::Promises;
    use crate::history::{Call, Op, Said};
    use freehold_api::v1::instances::InstanceStatus;
    use freehold_api::v1::reservations::{ReservationStatus, ResolutionReason};
    use std::collections::BTreeMap;
    use uuid::Uuid;

    const ALICE: &str = "user:alice";

    fn id(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn standing(status: InstanceStatus, reservation: ReservationStatus, because: Option<ResolutionReason>) -> Standing {
        Standing { owner: ALICE.to_owned(), reservation, because, status: Some(status) }
    }

    /// One was made and destroyed, the next one lives.
    fn healthy() -> (Evidence, Promises, BTreeMap<String, Vec<Op>>) {
        let destroyed = Some(ResolutionReason::InstanceDestroyed);
        let registry = BTreeMap::from([
            (id(1), standing(InstanceStatus::Destroyed, ReservationStatus::Released, destroyed)),
            (id(2), standing(InstanceStatus::Running, ReservationStatus::Completed, None)),
        ]);
        let provider = BTreeMap::from([(id(2), There { machines: 1, volumes: 1 })]);
        let promises = Promises {
            made: BTreeMap::from([(id(1), ALICE.to_owned())]),
            admitted: BTreeMap::from([(id(2), ALICE.to_owned())]),
            asked_to_destroy: [id(1)].into(),
            destroyed: [id(1)].into(),
            wrong: Vec::new(),
        };
        let op = |at, call, said| Op { invoked: at, returned: Some(at + 1), call, said };
        let ops = vec![
            op(0, Call::Create { key: None }, Said::Got(id(1))),
            op(2, Call::Destroy { id: id(1) }, Said::Accepted),
            op(4, Call::Create { key: Some("k".to_owned()) }, Said::Got(id(2))),
        ];
        let evidence = Evidence { registry, provider, most_at_once: 1, ..Evidence::default() };
        (evidence, promises, BTreeMap::from([(ALICE.to_owned(), ops)]))
    }

    #[test]
    fn a_world_in_order_is_found_so() {
        let (evidence, promises, histories) = healthy();
        assert_eq!(judge(&evidence, &promises, &histories), Vec::<String>::new());
    }

    #[test]
    fn every_broken_promise_is_found() {
        type World = (Evidence, Promises, BTreeMap<String, Vec<Op>>);
        type Deed = fn(&mut World);
        let deeds: [(&str, Deed, &str); 11] = [
            ("an acknowledged one is not on record", |world| drop(world.0.registry.remove(&id(2))), "lost ack"),
            (
                "an acknowledged one failed after 201",
                |world| {
                    let nothing = Some(ResolutionReason::AbsenceProven);
                    let failed = standing(InstanceStatus::Failed, ReservationStatus::Released, nothing);
                    world.0.registry.insert(id(2), failed);
                    world.0.provider.clear();
                    world.1.made.insert(id(2), ALICE.to_owned());
                },
                "lost ack",
            ),
            (
                "an acknowledged one was destroyed by nobody",
                |world| {
                    let destroyed = Some(ResolutionReason::InstanceDestroyed);
                    let gone = standing(InstanceStatus::Destroyed, ReservationStatus::Released, destroyed);
                    world.0.registry.insert(id(2), gone);
                    world.0.provider.clear();
                },
                "lost ack",
            ),
            (
                "a destroyed one lives",
                |world| {
                    let alive = standing(InstanceStatus::Running, ReservationStatus::Completed, None);
                    world.0.registry.insert(id(1), alive);
                    world.0.provider.insert(id(1), There { machines: 1, volumes: 1 });
                },
                "the destroy of",
            ),
            (
                "a context has two",
                |world| {
                    let alive = standing(InstanceStatus::Running, ReservationStatus::Completed, None);
                    world.0.registry.insert(id(3), alive);
                    world.0.provider.insert(id(3), There { machines: 1, volumes: 1 });
                },
                "duplicate: user:alice",
            ),
            ("two machines", |world| world.0.provider.get_mut(&id(2)).unwrap().machines = 2, "duplicate or loss"),
            ("two machines at some time", |world| world.0.most_at_once = 2, "at once"),
            (
                "what a zombie sent is left over",
                |world| assert!(world.0.provider.insert(id(1), There { machines: 0, volumes: 1 }).is_none()),
                "orphan",
            ),
            ("nothing is there of a live one", |world| world.0.provider.clear(), "loss"),
            (
                "an operation hangs",
                |world| world.0.registry.get_mut(&id(2)).unwrap().status = Some(InstanceStatus::Provisioning),
                "unsettled",
            ),
            (
                "a client was told of two at once",
                |world| {
                    let double = Op {
                        invoked: 5,
                        returned: Some(9),
                        call: Call::Create { key: Some("l".to_owned()) },
                        said: Said::Got(id(3)),
                    };
                    world.2.get_mut(ALICE).unwrap().push(double);
                    let destroyed = Some(ResolutionReason::InstanceDestroyed);
                    let gone = standing(InstanceStatus::Destroyed, ReservationStatus::Released, destroyed);
                    world.0.registry.insert(id(3), gone);
                },
                "history of user:alice",
            ),
        ];
        for (name, deed, says) in deeds {
            let mut world = healthy();
            deed(&mut world);
            let wrong = judge(&world.0, &world.1, &world.2);
            assert!(wrong.iter().any(|line| line.contains(says)), "{name}: {wrong:?}");
        }
    }
}
