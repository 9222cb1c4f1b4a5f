//! The provider, the records and billing: what a call does when it arrives there, and what it answers.

use freehold_domain::plan::Action;
use freehold_domain::records::{RecordsView, SubscriptionStatus};
use freehold_domain::reservation::Status;
use freehold_domain::resource::{Custody, Found, Observation, Rejection, RejectionClass, ResourceKind, RuntimeState};
use freehold_domain::run::{Effect, Finding};

use super::plot::Fault;
use super::{Billing, HORIZON, Live, START_UP, World};
use crate::common::{resource, row, subscription};

impl World {
    pub(super) fn answer(&mut self, action: &Action, fault: Option<Fault>) -> Finding {
        let refusal = |class| Finding::Rejected(Rejection { class, detail: "no".to_owned() });
        match fault {
            Some(Fault::NotSent) => Finding::NotSent("no connection".to_owned()),
            Some(Fault::Rejected) if !action.only_reads() => refusal(RejectionClass::Invalid),
            Some(Fault::Full) if !action.only_reads() => refusal(RejectionClass::Capacity { region: None }),
            Some(Fault::Rejected | Fault::Full | Fault::UnknownNever) => Finding::Unknown("no answer".to_owned()),
            Some(Fault::UnknownLate) => {
                self.late.push((self.now.plus(HORIZON), action.clone()));
                Finding::Unknown("no answer".to_owned())
            }
            Some(Fault::UnknownNow) => {
                if *action == Action::Subscribe {
                    // Billing knows, and the records do not.
                    self.bill();
                } else {
                    let _ = self.happen(action);
                }
                Finding::Unknown("no answer".to_owned())
            }
            Some(
                Fault::CrashBeforeNote
                | Fault::CrashNoted
                | Fault::StallNoted
                | Fault::CrashSent
                | Fault::CrashAnswered,
            )
            | None => self.happen(action),
        }
    }

    /// Effects that were on their way arrive. Where nobody holds the step any more, a write to the records is refused by
    /// the statement that writes it.
    pub(super) fn land(&mut self) {
        while let Some(position) = self.late.iter().position(|(at, _)| *at <= self.now) {
            let (_, action) = self.late.remove(position);
            let wanted = self.run.reservation.status == Status::InProgress && !self.run.reservation.intent.is_destroy();
            match action {
                Action::InsertRecord if !wanted => {}
                Action::Subscribe => {
                    self.bill();
                }
                _ => {
                    let _ = self.happen(&action);
                }
            }
        }
    }

    pub(super) fn bill(&mut self) -> bool {
        if self.billing == Billing::Never {
            self.billing = Billing::Running;
        }
        self.billing == Billing::Running
    }

    pub(super) fn write(&mut self, records: RecordsView) {
        self.records = records.clone();
        self.read.push((self.now.plus(self.plot.records_lag), records));
    }

    pub(super) fn records_read(&self) -> RecordsView {
        let known = self.read.iter().rev().find(|(at, _)| *at <= self.now);
        known.map(|(_, records)| records.clone()).unwrap_or_default()
    }

    fn happen(&mut self, action: &Action) -> Finding {
        let nothing = Finding::Done(Effect::Nothing);
        let instance = self.run.reservation.instance;
        let mut records = self.records.clone();
        match action {
            Action::Ensure(kind) => return self.make(*kind),
            Action::Look(_) => return self.look(),
            Action::Seal => {
                self.sealed = true;
                return Finding::Done(Effect::Sealed);
            }
            Action::Remove(resource) => {
                self.live.retain(|live| !live.resource.same_thing(resource));
                self.gone.push(resource.clone());
                return Finding::Done(Effect::Removed(resource.clone()));
            }
            Action::Start | Action::Restart => return self.power(RuntimeState::Running),
            Action::Update => return self.power_kept(),
            Action::Stop => return self.power(RuntimeState::Stopped),
            Action::InsertRecord => {
                records.row.get_or_insert_with(|| row(instance, self.now));
            }
            Action::Subscribe | Action::SubscribeLocally => {
                if *action == Action::Subscribe && !self.bill() {
                    let detail = "the subscription is over".to_owned();
                    return Finding::Rejected(Rejection { class: RejectionClass::Invalid, detail });
                }
                records.subscription.get_or_insert_with(|| subscription(instance, self.now));
            }
            Action::EndSubscription => {
                self.billing = Billing::Ended;
                if let Some(subscription) = &mut records.subscription {
                    subscription.status = SubscriptionStatus::Ended;
                    subscription.ended_at = Some(self.now);
                }
            }
            Action::MarkDestroyed => {
                if let Some(row) = &mut records.row {
                    row.destroyed_at.get_or_insert(self.now);
                }
                records.closed = true;
            }
        }
        self.write(records);
        nothing
    }

    fn make(&mut self, kind: ResourceKind) -> Finding {
        // A late create of the base may land after the seal: an empty app, that costs nothing and is swept.
        if self.sealed && kind != ResourceKind::Base {
            let detail = "creation under this name is impossible".to_owned();
            return Finding::Rejected(Rejection { class: RejectionClass::Invalid, detail });
        }
        let known =
            self.live.iter().find(|live| live.resource.kind == kind && self.capabilities.names.are_unique(kind));
        if let Some(live) = known {
            let runtime = (kind == ResourceKind::Runtime).then(|| live.state.clone());
            return Finding::Done(Effect::Made { resource: live.resource.clone(), runtime });
        }
        let copies = if self.plot.extra && kind == ResourceKind::Runtime { 2 } else { 1 };
        for _ in 0..copies {
            self.made += 1;
            let mut resource = resource(kind, self.made);
            let full = self.run.operation.regions_full as usize;
            resource.region = self.run.reservation.regions.get(full).cloned();
            self.live.push(Live { resource, state: RuntimeState::Starting, since: self.now });
        }
        let made = &self.live[self.live.len() - 1];
        let runtime = (kind == ResourceKind::Runtime).then_some(RuntimeState::Starting);
        Finding::Done(Effect::Made { resource: made.resource.clone(), runtime })
    }

    fn power(&mut self, state: RuntimeState) -> Finding {
        if let Some(live) = self.live.iter_mut().find(|live| live.resource.kind == ResourceKind::Runtime) {
            live.state = state;
            live.since = self.now;
        }
        self.power_kept()
    }

    fn power_kept(&mut self) -> Finding {
        match self.live.iter().find(|live| live.resource.kind == ResourceKind::Runtime) {
            Some(live) => {
                let runtime = Some(live.state.clone());
                Finding::Done(Effect::Made { resource: live.resource.clone(), runtime })
            }
            None => {
                let detail = "there is no runtime".to_owned();
                Finding::Rejected(Rejection { class: RejectionClass::Invalid, detail })
            }
        }
    }

    fn look(&mut self) -> Finding {
        if self.plot.blind_looks > 0 {
            self.plot.blind_looks -= 1;
            let observation = Observation {
                conclusive: false,
                found: Vec::new(),
                runtime: RuntimeState::Missing,
                reference: String::new(),
            };
            return Finding::Done(Effect::Seen { asked_at: self.now, observation });
        }
        for live in self.live.iter_mut().filter(|live| live.resource.kind == ResourceKind::Runtime) {
            if live.state == RuntimeState::Starting && self.now >= live.since.plus(START_UP) {
                live.state = RuntimeState::Running;
            }
        }
        let mut things: Vec<_> = self.live.iter().map(|live| live.resource.clone()).collect();
        if self.plot.stale_looks > 0 && !self.gone.is_empty() {
            self.plot.stale_looks -= 1;
            things.extend(self.gone.first().cloned());
        }
        let found = things.into_iter().map(|resource| Found { resource, custody: Custody::Ours }).collect();
        let runtime = self.live.iter().find(|live| live.resource.kind == ResourceKind::Runtime);
        let runtime = runtime.map_or(RuntimeState::Missing, |live| live.state.clone());
        let observation = Observation { conclusive: true, found, runtime, reference: String::new() };
        Finding::Done(Effect::Seen { asked_at: self.now, observation })
    }
}
