//! Doing one thing in the world, and saying honestly what came of it. Decides nothing.

use std::borrow::Cow;

use freehold_domain::plan::Action;
use freehold_domain::protection::{Protection, stands};
use freehold_domain::records::{InstanceRow, RecordsView, Subscription, SubscriptionStatus};
use freehold_domain::reservation::{Intent, Power, Reservation};
use freehold_domain::resource::{Custody, Outcome, Rejection, RejectionClass, Resource, ResourceKind};
use freehold_domain::run::{Effect, Finding, Run};
use freehold_domain::time::Timestamp;

use crate::ports::{Because, Blueprint, Ident, Made, Order, Provider, RecordsError, SubscriptionTerms};
use crate::spec::Spec;
use crate::world::World;

/// Whether the instance gets a volume.
pub(crate) fn wants_storage(run: &Run) -> bool {
    // A spec that cannot be read fails in the first step that needs it, with a reason.
    Spec::thaw(&run.reservation.spec).is_ok_and(|spec| spec.volume_gb > 0)
}

/// One run's view of the world.
pub(crate) struct Acts<'a> {
    pub(crate) world: &'a World,
    pub(crate) run: &'a Run,
    /// What the records say; kept up to date by what is written.
    pub(crate) records: &'a mut Option<RecordsView>,
    /// When the action began, by the store's clock.
    pub(crate) now: Timestamp,
}

impl Acts<'_> {
    pub(crate) async fn act(&mut self, action: &Action) -> Finding {
        match action {
            Action::InsertRecord => self.insert_record().await,
            Action::Subscribe => self.subscribe().await,
            Action::SubscribeLocally => self.subscribe_locally().await,
            Action::EndSubscription => self.end_subscription().await,
            Action::MarkDestroyed => self.mark_destroyed().await,
            Action::Ensure(_)
            | Action::Look(_)
            | Action::Seal
            | Action::Remove(_)
            | Action::Start
            | Action::Stop
            | Action::Restart
            | Action::Update => self.ask_provider(action).await,
        }
    }

    async fn ask_provider(&self, action: &Action) -> Finding {
        let Run { reservation, operation } = self.run;
        let Some(provider) = self.world.provider(&reservation.provider) else {
            return Finding::NotSent(format!("provider `{}` is not configured on this node", reservation.provider));
        };
        let ident = self.world.idents.of_reservation(reservation);
        let spec = operation.spec.as_ref().unwrap_or(&reservation.spec);
        match action {
            Action::Look(_) => self.look(provider.as_ref(), &ident).await,
            Action::Seal if !stands(Protection::SealIsAsked) => Finding::Done(Effect::Sealed),
            Action::Seal => {
                let sealed = provider.seal(&ident).await;
                self.answered("seal", sealed.map(|()| Effect::Sealed))
            }
            Action::Remove(resource) => {
                let removed = provider.destroy(&ident, resource).await;
                let found = self.answered("destroy", removed.map(|()| Effect::Removed(resource.clone())));
                if stands(Protection::ErrorIsNotGone) {
                    found
                } else {
                    Finding::Done(Effect::Removed(resource.clone()))
                }
            }
            Action::Ensure(_) | Action::Start | Action::Stop | Action::Restart | Action::Update => {
                let region = reservation.regions.get(operation.regions_full as usize).cloned();
                let blueprint = Spec::thaw(spec).and_then(|spec| spec.blueprint(&self.world.vault, &ident, region));
                match blueprint {
                    Ok(blueprint) => self.make(provider.as_ref(), action, &ident, &blueprint, reservation).await,
                    Err(error) => rejected(error.to_string()),
                }
            }
            Action::InsertRecord
            | Action::Subscribe
            | Action::SubscribeLocally
            | Action::EndSubscription
            | Action::MarkDestroyed => Finding::NotSent("the provider has no part in this".to_owned()),
        }
    }

    async fn make(
        &self,
        provider: &dyn Provider,
        action: &Action,
        ident: &Ident,
        blueprint: &Blueprint,
        reservation: &Reservation,
    ) -> Finding {
        let mut blueprint = Cow::Borrowed(blueprint);
        if !stands(Protection::SpecIsFrozen) {
            blueprint.to_mut().env.insert("SENT_AT".to_owned(), self.now.as_micros().to_string());
        }
        let order = Order { ident, blueprint: &blueprint, resources: &reservation.resources };
        let (op, outcome) = match action {
            Action::Ensure(ResourceKind::Base) => ("ensure_base", provider.ensure_base(&order).await),
            Action::Ensure(ResourceKind::Storage) => ("ensure_storage", provider.ensure_storage(&order).await),
            Action::Ensure(ResourceKind::Runtime) => ("ensure_runtime", provider.ensure_runtime(&order).await),
            Action::Start => ("start", provider.start(&order).await),
            Action::Stop => ("stop", provider.stop(&order).await),
            Action::Restart => ("restart", provider.restart(&order).await),
            Action::Update => ("update", provider.update(&order, reservation.power == Power::On).await),
            Action::Look(_)
            | Action::InsertRecord
            | Action::Subscribe
            | Action::SubscribeLocally
            | Action::Seal
            | Action::Remove(_)
            | Action::EndSubscription
            | Action::MarkDestroyed => ("none", Outcome::NotSent("nothing to make".to_owned())),
        };
        self.answered(op, outcome.map(|Made { resource, runtime }| Effect::Made { resource, runtime }))
    }

    async fn look(&self, provider: &dyn Provider, ident: &Ident) -> Finding {
        let asked_at = self.now;
        let seen = provider.observe(ident).await;
        let outcome = if seen.is_ok() { "answered" } else { "unanswered" };
        self.world.meter.provider_request(self.run.reservation.provider.as_str(), "observe", outcome);
        match seen {
            Ok(observation) => {
                let ours: Vec<&Resource> = observation
                    .found
                    .iter()
                    .filter(|found| found.custody == Custody::Ours)
                    .map(|found| &found.resource)
                    .collect();
                for (position, resource) in ours.iter().enumerate() {
                    if ours[..position].iter().any(|earlier| earlier.kind == resource.kind) {
                        self.world.meter.duplicate_resource();
                    }
                }
                Finding::Done(Effect::Seen { asked_at, observation })
            }
            Err(unanswered) => Finding::Unknown(unanswered.to_string()),
        }
    }

    fn answered(&self, op: &'static str, outcome: Outcome<Effect>) -> Finding {
        self.world.meter.provider_request(self.run.reservation.provider.as_str(), op, outcome.name());
        found(outcome)
    }

    async fn insert_record(&mut self) -> Finding {
        let Reservation { instance, context, provider, tier, .. } = &self.run.reservation;
        let row = InstanceRow {
            instance: *instance,
            context: context.clone(),
            provider: provider.clone(),
            tier: tier.clone(),
            created_at: self.now,
            destroyed_at: None,
        };
        let written = self.world.records.insert(row, &self.because("its infrastructure exists")).await;
        self.recorded(written)
    }

    async fn subscribe(&mut self) -> Finding {
        let reservation = &self.run.reservation;
        let instance = reservation.instance;
        let proposed = self.world.mint_subscription();
        let price = &reservation.price_version;
        match self.world.billing.start(instance, &reservation.context, price, proposed).await {
            Outcome::Done(terms) => self.subscription_put(terms, true).await,
            Outcome::NotSent(why) => Finding::NotSent(why),
            Outcome::Rejected(rejection) => Finding::Rejected(rejection),
            Outcome::Unknown(why) => Finding::Unknown(why),
        }
    }

    /// Without billing, which hears of it later.
    async fn subscribe_locally(&mut self) -> Finding {
        let proposed = self.world.mint_subscription();
        match self.world.billing.fallback(&self.run.reservation.price_version, proposed) {
            Some(terms) => self.subscription_put(terms, false).await,
            None => rejected("nothing may be started without billing".to_owned()),
        }
    }

    async fn subscription_put(&mut self, terms: SubscriptionTerms, reported: bool) -> Finding {
        let subscription = Subscription {
            id: terms.id,
            instance: self.run.reservation.instance,
            status: SubscriptionStatus::Active,
            plan: terms.plan,
            price_version: terms.price_version,
            started_at: self.now,
            ended_at: None,
            reported,
        };
        let why = if reported { "its row is on record" } else { "billing does not answer; it is reported later" };
        let written = self.world.records.subscription_put(subscription, &self.because(why)).await;
        self.recorded(written)
    }

    async fn end_subscription(&mut self) -> Finding {
        let reservation = &self.run.reservation;
        let instance = reservation.instance;
        // What billing never heard of was used all the same: it hears of the start before the end.
        if let Some(unreported) = self
            .records
            .as_ref()
            .and_then(|records| records.subscription.as_ref())
            .filter(|subscription| !subscription.reported)
        {
            let price = &unreported.price_version;
            match self.world.billing.start(instance, &reservation.context, price, unreported.id).await {
                Outcome::Done(_) | Outcome::Rejected(_) => {}
                Outcome::NotSent(why) => return Finding::NotSent(why),
                Outcome::Unknown(why) => return Finding::Unknown(why),
            }
        }
        match self.world.billing.end(instance, "instance_destroyed").await {
            Outcome::Done(()) => {}
            Outcome::NotSent(why) => return Finding::NotSent(why),
            Outcome::Rejected(rejection) => return Finding::Rejected(rejection),
            Outcome::Unknown(why) => return Finding::Unknown(why),
        }
        let written = self.world.records.subscription_end(instance, self.now, &self.because(&self.why_undone())).await;
        self.recorded(written)
    }

    async fn mark_destroyed(&mut self) -> Finding {
        let instance = self.run.reservation.instance;
        let written = self.world.records.mark_destroyed(instance, self.now, &self.because(&self.why_undone())).await;
        self.recorded(written)
    }

    fn because(&self, why: &str) -> Because {
        Because::of(self.run.operation.id, why)
    }

    fn why_undone(&self) -> String {
        match &self.run.reservation.intent {
            Intent::Destroy { reason: Some(reason), .. } => format!("destroyed: {reason}"),
            Intent::Destroy { reason: None, .. } => "destroyed".to_owned(),
            Intent::Keep => "making it was given up".to_owned(),
        }
    }

    fn recorded(&mut self, written: Result<RecordsView, RecordsError>) -> Finding {
        match written {
            Ok(view) => {
                *self.records = Some(view);
                Finding::Done(Effect::Nothing)
            }
            Err(RecordsError::Refused(why)) => rejected(why),
            Err(RecordsError::Unavailable(why)) => Finding::Unknown(why),
        }
    }
}

fn found(outcome: Outcome<Effect>) -> Finding {
    match outcome {
        Outcome::NotSent(why) => Finding::NotSent(why),
        Outcome::Rejected(rejection) => Finding::Rejected(rejection),
        Outcome::Done(effect) => Finding::Done(effect),
        Outcome::Unknown(why) => Finding::Unknown(why),
    }
}

fn rejected(detail: String) -> Finding {
    Finding::Rejected(Rejection { class: RejectionClass::Invalid, detail })
}
