//! What a call does at the provider, in the records and at billing when it arrives there, and its answer.

use freehold_domain::plan::Action;
use freehold_domain::records::SubscriptionStatus;
use freehold_domain::reservation::Status;
use freehold_domain::resource::{Custody, Found, Observation, Rejection, RejectionClass, ResourceKind, RuntimeState};
use freehold_domain::run::{Effect, Finding};

use crate::common::{START, resource, row, subscription};
use crate::state::{Billing, Instance};
use crate::{Freehold, Without};

pub(crate) fn refused() -> Finding {
    Finding::Rejected(Rejection { class: RejectionClass::Invalid, detail: String::new() })
}

/// What a call does when it arrives, and its answer.
pub(crate) fn happen(model: &Freehold, of: &mut Instance, action: &Action) -> Finding {
    let instance = of.run.reservation.instance;
    let in_progress = of.run.reservation.status == Status::InProgress && !of.run.reservation.intent.is_destroy();
    let may_write = in_progress || model.without == Without::RecordsFence || model.without == Without::DestroyIntent;
    match action {
        // A late create of the base may land after the seal: it is found, or swept.
        Action::Ensure(ResourceKind::Base) => {
            of.provider.base = true;
            let effect = Effect::Made { resource: resource(ResourceKind::Base, 1), runtime: None };
            return Finding::Done(effect);
        }
        Action::Ensure(ResourceKind::Storage) => unreachable!("nobody wants storage"),
        Action::Ensure(ResourceKind::Runtime) => {
            if of.provider.sealed {
                return refused();
            }
            of.provider.runtime = true;
            let runtime = Some(RuntimeState::Running);
            return Finding::Done(Effect::Made { resource: resource(ResourceKind::Runtime, 1), runtime });
        }
        Action::Look(_) => {
            let there = ResourceKind::ALL.into_iter().filter(|kind| of.has(*kind));
            let found = there.map(|kind| Found { resource: resource(kind, 1), custody: Custody::Ours }).collect();
            let runtime = if of.provider.runtime { RuntimeState::Running } else { RuntimeState::Missing };
            let observation = Observation { conclusive: true, found, runtime, reference: String::new() };
            return Finding::Done(Effect::Seen { asked_at: START, observation });
        }
        Action::Seal => {
            of.provider.sealed = model.without != Without::Seal;
            return Finding::Done(Effect::Sealed);
        }
        Action::Remove(resource) => {
            match resource.kind {
                ResourceKind::Base => of.provider.base = false,
                ResourceKind::Storage => {}
                ResourceKind::Runtime => of.provider.runtime = false,
            }
            return Finding::Done(Effect::Removed(resource.clone()));
        }
        Action::InsertRecord | Action::Subscribe if !may_write => {
            if *action == Action::Subscribe && of.billing == Billing::Never {
                of.billing = Billing::Running;
            }
            return refused();
        }
        Action::InsertRecord => {
            of.records.row.get_or_insert_with(|| row(instance, START));
        }
        Action::Subscribe => {
            if of.billing == Billing::Ended {
                return refused();
            }
            of.billing = Billing::Running;
            of.records.subscription.get_or_insert_with(|| subscription(instance, START));
        }
        Action::EndSubscription => {
            of.billing = Billing::Ended;
            if let Some(subscription) = &mut of.records.subscription {
                subscription.status = SubscriptionStatus::Ended;
            }
        }
        Action::MarkDestroyed => {
            if let Some(row) = &mut of.records.row {
                row.destroyed_at.get_or_insert(START);
            }
            of.records.closed = true;
        }
        Action::Start | Action::Stop | Action::Restart | Action::Update => unreachable!("nobody asks for work"),
        Action::SubscribeLocally => unreachable!("nothing falls back"),
    }
    Finding::Done(Effect::Nothing)
}
