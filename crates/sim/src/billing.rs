//! A billing service far away: what it does and what its callers hear are two things.
//!
//! It is idempotent by instance, as the contract asks of one: a second start finds the first, and what was ended once is
//! never started again, however late a start arrives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use freehold_domain::ids::{InstanceId, SubscriptionId};
use freehold_domain::lease::{PriceVersion, TierName};
use freehold_domain::owner::Context;
use freehold_domain::resource::{Outcome, Rejection, RejectionClass};
use freehold_domain::time::Timestamp;
use freehold_engine::local_billing::LocalBilling;
use freehold_engine::ports::{Billing, Entitlement, EntitlementRefused, SubscriptionTerms};

/// The calls that change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BillingCall {
    /// `subscription.start`.
    Start,
    /// `subscription.end`.
    End,
}

/// What goes wrong with one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BillingFault {
    /// Surely refused.
    Refused,
    /// Nothing happens, and no answer comes.
    Down,
    /// It happens, and no answer comes.
    AnswerLost,
    /// The message arrives twice.
    Duplicate,
    /// No answer comes, and it happens this much later.
    Late(Duration),
    /// It never leaves.
    NotSent,
}

impl BillingFault {
    /// The fault's name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "billing: refused",
            Self::Down => "billing: down",
            Self::AnswerLost => "billing: answer lost",
            Self::Duplicate => "billing: duplicate",
            Self::Late(_) => "billing: late",
            Self::NotSent => "billing: not sent",
        }
    }
}

type Chance = Box<dyn FnMut(BillingCall) -> Option<BillingFault> + Send>;

#[derive(Default)]
struct Books {
    now: Timestamp,
    active: BTreeMap<InstanceId, SubscriptionId>,
    ended: BTreeSet<InstanceId>,
    /// How many different subscriptions an instance ever had.
    started: BTreeMap<InstanceId, u32>,
    late: Vec<(Timestamp, BillingCall, InstanceId, SubscriptionId)>,
    script: BTreeMap<BillingCall, BillingFault>,
    chance: Option<Chance>,
}

impl Books {
    fn happen(&mut self, call: BillingCall, instance: InstanceId, proposed: SubscriptionId) {
        match call {
            BillingCall::Start if !self.ended.contains(&instance) => {
                if let std::collections::btree_map::Entry::Vacant(vacant) = self.active.entry(instance) {
                    vacant.insert(proposed);
                    *self.started.entry(instance).or_default() += 1;
                }
            }
            BillingCall::Start => {}
            BillingCall::End => {
                self.active.remove(&instance);
                self.ended.insert(instance);
            }
        }
    }

    fn fault(&mut self, call: BillingCall) -> Option<BillingFault> {
        self.script.remove(&call).or_else(|| self.chance.as_mut().and_then(|chance| chance(call)))
    }

    /// What happens of a call, and what is heard of it if that is not the plain answer.
    fn receive(
        &mut self,
        call: BillingCall,
        instance: InstanceId,
        proposed: SubscriptionId,
    ) -> Result<(), Outcome<()>> {
        let fault = self.fault(call);
        match fault {
            Some(BillingFault::Refused) => {
                return Err(Outcome::Rejected(Rejection {
                    class: RejectionClass::Invalid,
                    detail: "billing says no".to_owned(),
                }));
            }
            Some(BillingFault::Down) => return Err(Outcome::Unknown("billing does not answer".to_owned())),
            Some(BillingFault::NotSent) => return Err(Outcome::NotSent("billing cannot be reached".to_owned())),
            Some(BillingFault::Late(span)) => {
                self.late.push((self.now.plus(span), call, instance, proposed));
                return Err(Outcome::Unknown("billing does not answer yet".to_owned()));
            }
            Some(BillingFault::Duplicate) => self.happen(call, instance, proposed),
            Some(BillingFault::AnswerLost) | None => {}
        }
        self.happen(call, instance, proposed);
        match fault {
            Some(BillingFault::AnswerLost) => Err(Outcome::Unknown("billing's answer was lost".to_owned())),
            Some(_) | None => Ok(()),
        }
    }
}

/// The service. Clones are the same one.
#[derive(Clone)]
pub struct FarBilling {
    books: Arc<Mutex<Books>>,
    plans: LocalBilling,
}

impl std::fmt::Debug for FarBilling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FarBilling").field("active", &self.books().active).finish_non_exhaustive()
    }
}

impl FarBilling {
    /// With nobody subscribed; `plans` says who may have what.
    #[must_use]
    pub fn new(plans: LocalBilling) -> Self {
        Self { books: Arc::default(), plans }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the next call of a kind go wrong.
    pub fn script_next(&self, call: BillingCall, fault: BillingFault) {
        self.books().script.insert(call, fault);
    }

    /// Whether a scripted fault has not happened yet.
    #[must_use]
    pub fn has_script(&self) -> bool {
        !self.books().script.is_empty()
    }

    /// Has `chance` decide about every call that the script says nothing of.
    pub fn set_chance(&self, chance: impl FnMut(BillingCall) -> Option<BillingFault> + Send + 'static) {
        self.books().chance = Some(Box::new(chance));
    }

    /// From now on nothing goes wrong any more; what is late still comes.
    pub fn heal(&self) {
        let mut books = self.books();
        books.script.clear();
        books.chance = None;
    }

    /// Lets time pass: what is late by then happens, in order.
    pub fn advance(&self, now: Timestamp) {
        let mut books = self.books();
        books.now = now;
        let mut late = std::mem::take(&mut books.late);
        late.sort_by_key(|(due, ..)| *due);
        for (due, call, instance, proposed) in late {
            if due <= now {
                books.happen(call, instance, proposed);
            } else {
                books.late.push((due, call, instance, proposed));
            }
        }
    }

    /// Whether anything is still to come.
    #[must_use]
    pub fn has_late(&self) -> bool {
        !self.books().late.is_empty()
    }

    /// Whether an instance is paid for.
    #[must_use]
    pub fn is_active(&self, instance: InstanceId) -> bool {
        self.books().active.contains_key(&instance)
    }

    /// How many different subscriptions an instance ever had.
    #[must_use]
    pub fn ever_started(&self, instance: InstanceId) -> u32 {
        self.books().started.get(&instance).copied().unwrap_or(0)
    }
}

#[async_trait]
impl Billing for FarBilling {
    async fn entitlement(
        &self,
        context: &Context,
        requested: Option<&TierName>,
    ) -> Result<Entitlement, EntitlementRefused> {
        self.plans.entitlement(context, requested).await
    }

    async fn start(
        &self,
        instance: InstanceId,
        context: &Context,
        expected: &PriceVersion,
        proposed: SubscriptionId,
    ) -> Outcome<SubscriptionTerms> {
        let heard = {
            let mut books = self.books();
            books.receive(BillingCall::Start, instance, proposed).map(|()| books.active.get(&instance).copied())
        };
        match heard {
            Err(outcome) => outcome.map(|()| unreachable!("an error is no success")),
            Ok(None) => Outcome::Rejected(Rejection {
                class: RejectionClass::Invalid,
                detail: "that subscription is over".to_owned(),
            }),
            Ok(Some(id)) => {
                let terms = self.plans.start(instance, context, expected, id).await;
                terms.map(|terms| SubscriptionTerms { id, ..terms })
            }
        }
    }

    async fn end(&self, instance: InstanceId, _: &str) -> Outcome<()> {
        let nobody = SubscriptionId::mint(0, [0; 10]);
        match self.books().receive(BillingCall::End, instance, nobody) {
            Ok(()) => Outcome::Done(()),
            Err(outcome) => outcome,
        }
    }
}
