//! Records far away: what is written in them and what the writer hears are two things.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use freehold_domain::ids::InstanceId;
use freehold_domain::owner::{Context, Owner};
use freehold_domain::records::{InstanceRow, RecordsView, Subscription, SubscriptionStatus};
use freehold_domain::time::Timestamp;
use freehold_engine::ports::{Because, RecordChange, Records, RecordsError, SubscriptionTerms};

use crate::tasks::at_once;

/// The calls that can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RecordsCall {
    /// Any call that reads.
    Read,
    /// `insert`.
    Insert,
    /// `subscription_put`.
    Subscribe,
    /// `subscription_end`.
    Unsubscribe,
    /// `mark_destroyed`.
    Mark,
    /// Whatever else writes.
    Turn,
}

/// What goes wrong with one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RecordsFault {
    /// Surely refused: nothing is written.
    Refused,
    /// Nothing is written, and no answer comes.
    Down,
    /// It is written, and no answer comes.
    AnswerLost,
    /// No answer comes, and it is written this much later.
    Late(Duration),
}

impl RecordsFault {
    /// The fault's name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "records: refused",
            Self::Down => "records: down",
            Self::AnswerLost => "records: answer lost",
            Self::Late(_) => "records: late",
        }
    }
}

type Chance = Box<dyn FnMut(RecordsCall) -> Option<RecordsFault> + Send>;

/// One write, whole, so that it can arrive later.
#[derive(Clone)]
enum Write {
    Insert(InstanceRow, Because),
    Subscribe(Subscription, Because),
    Unsubscribe(InstanceId, Timestamp, Because),
    Mark(InstanceId, Timestamp, Because),
    Turn(InstanceId, SubscriptionStatus, Because),
    Report(InstanceId, SubscriptionTerms, Because),
}

impl Write {
    fn call(&self) -> RecordsCall {
        match self {
            Self::Insert(..) => RecordsCall::Insert,
            Self::Subscribe(..) => RecordsCall::Subscribe,
            Self::Unsubscribe(..) => RecordsCall::Unsubscribe,
            Self::Mark(..) => RecordsCall::Mark,
            Self::Turn(..) | Self::Report(..) => RecordsCall::Turn,
        }
    }

    async fn arrive(self, records: &dyn Records) -> Result<RecordsView, RecordsError> {
        match self {
            Self::Insert(row, because) => records.insert(row, &because).await,
            Self::Subscribe(subscription, because) => records.subscription_put(subscription, &because).await,
            Self::Unsubscribe(instance, at, because) => records.subscription_end(instance, at, &because).await,
            Self::Mark(instance, at, because) => records.mark_destroyed(instance, at, &because).await,
            Self::Turn(instance, to, because) => records.subscription_turn(instance, to, &because).await,
            Self::Report(instance, terms, because) => records.subscription_reported(instance, terms, &because).await,
        }
    }
}

/// What goes wrong next, and what is still on its way.
#[derive(Default)]
struct Trouble {
    now: Timestamp,
    late: Vec<(Timestamp, Write)>,
    script: BTreeMap<RecordsCall, RecordsFault>,
    chance: Option<Chance>,
}

/// Records, with a script of what goes wrong. Clones are the same ones.
#[derive(Clone)]
pub struct FarRecords {
    records: Arc<dyn Records>,
    trouble: Arc<Mutex<Trouble>>,
}

impl FarRecords {
    /// Over real ones.
    #[must_use]
    pub fn over(records: Arc<dyn Records>) -> Self {
        Self { records, trouble: Arc::default() }
    }

    /// Has the next call of a kind go wrong.
    pub fn script_next(&self, call: RecordsCall, fault: RecordsFault) {
        self.trouble().script.insert(call, fault);
    }

    /// Has `chance` decide about every call that the script says nothing of.
    pub fn set_chance(&self, chance: impl FnMut(RecordsCall) -> Option<RecordsFault> + Send + 'static) {
        self.trouble().chance = Some(Box::new(chance));
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(&self, call: RecordsCall) -> Option<RecordsFault> {
        let mut trouble = self.trouble();
        trouble.script.remove(&call).or_else(|| trouble.chance.as_mut().and_then(|chance| chance(call)))
    }

    async fn read<T>(&self, read: impl Future<Output = Result<T, RecordsError>>) -> Result<T, RecordsError> {
        match self.fault(RecordsCall::Read) {
            Some(_) => Err(RecordsError::Unavailable("the records do not answer".to_owned())),
            None => read.await,
        }
    }

    /// Whether a scripted fault has not happened yet.
    #[must_use]
    pub fn has_script(&self) -> bool {
        !self.trouble().script.is_empty()
    }

    /// From now on nothing goes wrong any more; what is late still comes.
    pub fn heal(&self) {
        let mut trouble = self.trouble();
        trouble.script.clear();
        trouble.chance = None;
    }

    async fn write(&self, write: Write) -> Result<RecordsView, RecordsError> {
        match self.fault(write.call()) {
            Some(RecordsFault::Refused) => Err(RecordsError::Refused("the records say no".to_owned())),
            Some(RecordsFault::Down) => Err(RecordsError::Unavailable("the records do not answer".to_owned())),
            Some(RecordsFault::AnswerLost) => {
                let _written = write.arrive(&*self.records).await;
                Err(RecordsError::Unavailable("the records' answer was lost".to_owned()))
            }
            Some(RecordsFault::Late(span)) => {
                let mut trouble = self.trouble();
                let due = trouble.now.plus(span);
                trouble.late.push((due, write));
                Err(RecordsError::Unavailable("the records do not answer yet".to_owned()))
            }
            None => write.arrive(&*self.records).await,
        }
    }

    /// Lets time pass: what is late by then arrives, in order. Answers which instances that was of.
    pub fn advance(&self, now: Timestamp) -> Vec<InstanceId> {
        let mut late = {
            let mut trouble = self.trouble();
            trouble.now = now;
            std::mem::take(&mut trouble.late)
        };
        late.sort_by_key(|(due, _)| *due);
        let (arrived, still): (Vec<_>, Vec<_>) = late.into_iter().partition(|(due, _)| *due <= now);
        self.trouble().late.extend(still);
        let arrive = |(_, write): (Timestamp, Write)| {
            let instance = match &write {
                Write::Insert(row, _) => row.instance,
                Write::Subscribe(subscription, _) => subscription.instance,
                Write::Unsubscribe(instance, ..)
                | Write::Mark(instance, ..)
                | Write::Turn(instance, ..)
                | Write::Report(instance, ..) => *instance,
            };
            let _refused_or_not = at_once(write.arrive(&*self.records));
            instance
        };
        arrived.into_iter().map(arrive).collect()
    }

    /// Whether anything is still on its way.
    #[must_use]
    pub fn has_late(&self) -> bool {
        !self.trouble().late.is_empty()
    }
}

#[async_trait]
impl Records for FarRecords {
    async fn describe(&self, instance: InstanceId) -> Result<RecordsView, RecordsError> {
        self.read(self.records.describe(instance)).await
    }

    async fn active_in(&self, context: &Context) -> Result<Vec<RecordsView>, RecordsError> {
        self.read(self.records.active_in(context)).await
    }

    async fn active_of(&self, owner: &Owner, limit: usize) -> Result<Vec<RecordsView>, RecordsError> {
        self.read(self.records.active_of(owner, limit)).await
    }

    async fn active_after(&self, after: Option<InstanceId>, limit: usize) -> Result<Vec<RecordsView>, RecordsError> {
        self.read(self.records.active_after(after, limit)).await
    }

    async fn insert(&self, row: InstanceRow, because: &Because) -> Result<RecordsView, RecordsError> {
        self.write(Write::Insert(row, because.clone())).await
    }

    async fn subscription_put(
        &self,
        subscription: Subscription,
        because: &Because,
    ) -> Result<RecordsView, RecordsError> {
        self.write(Write::Subscribe(subscription, because.clone())).await
    }

    async fn subscription_turn(
        &self,
        instance: InstanceId,
        to: SubscriptionStatus,
        because: &Because,
    ) -> Result<RecordsView, RecordsError> {
        self.write(Write::Turn(instance, to, because.clone())).await
    }

    async fn subscription_end(
        &self,
        instance: InstanceId,
        at: Timestamp,
        because: &Because,
    ) -> Result<RecordsView, RecordsError> {
        self.write(Write::Unsubscribe(instance, at, because.clone())).await
    }

    async fn unreported(&self, limit: usize) -> Result<Vec<RecordsView>, RecordsError> {
        self.read(self.records.unreported(limit)).await
    }

    async fn subscription_reported(
        &self,
        instance: InstanceId,
        terms: SubscriptionTerms,
        because: &Because,
    ) -> Result<RecordsView, RecordsError> {
        self.write(Write::Report(instance, terms, because.clone())).await
    }

    async fn mark_destroyed(
        &self,
        instance: InstanceId,
        at: Timestamp,
        because: &Because,
    ) -> Result<RecordsView, RecordsError> {
        self.write(Write::Mark(instance, at, because.clone())).await
    }

    async fn changes(&self, instance: InstanceId, limit: usize) -> Result<Vec<RecordChange>, RecordsError> {
        self.read(self.records.changes(instance, limit)).await
    }

    async fn anonymize(&self, owner: &Owner, pseudonym: &Owner, because: &Because) -> Result<u64, RecordsError> {
        self.records.anonymize(owner, pseudonym, because).await
    }
}
