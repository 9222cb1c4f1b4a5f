//! Records far away: what is written in them and what the writer hears are two things.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use freehold_domain::ids::InstanceId;
use freehold_domain::owner::Context;
use freehold_domain::records::{InstanceRow, RecordsView, Subscription};
use freehold_domain::time::Timestamp;
use freehold_engine::ports::{Records, RecordsError};

/// The calls that write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RecordsCall {
    /// `insert`.
    Insert,
    /// `subscription_put`.
    Subscribe,
    /// `subscription_end`.
    Unsubscribe,
    /// `mark_destroyed`.
    Mark,
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
}

/// Records, with a script of what goes wrong. Clones are the same ones.
#[derive(Clone)]
pub struct FarRecords {
    records: Arc<dyn Records>,
    script: Arc<Mutex<BTreeMap<RecordsCall, RecordsFault>>>,
}

impl FarRecords {
    /// Over real ones.
    #[must_use]
    pub fn over(records: Arc<dyn Records>) -> Self {
        Self { records, script: Arc::default() }
    }

    /// Has the next call of a kind go wrong.
    pub fn script_next(&self, call: RecordsCall, fault: RecordsFault) {
        self.script.lock().unwrap_or_else(PoisonError::into_inner).insert(call, fault);
    }

    /// Whether a scripted fault has not happened yet.
    #[must_use]
    pub fn has_script(&self) -> bool {
        !self.script.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// From now on nothing goes wrong any more.
    pub fn heal(&self) {
        self.script.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    async fn write(
        &self,
        call: RecordsCall,
        write: impl Future<Output = Result<RecordsView, RecordsError>>,
    ) -> Result<RecordsView, RecordsError> {
        let fault = self.script.lock().unwrap_or_else(PoisonError::into_inner).remove(&call);
        match fault {
            Some(RecordsFault::Refused) => Err(RecordsError::Refused("the records say no".to_owned())),
            Some(RecordsFault::Down) => Err(RecordsError::Unavailable("the records do not answer".to_owned())),
            Some(RecordsFault::AnswerLost) => {
                let _written = write.await;
                Err(RecordsError::Unavailable("the records' answer was lost".to_owned()))
            }
            None => write.await,
        }
    }
}

#[async_trait]
impl Records for FarRecords {
    async fn describe(&self, instance: InstanceId) -> Result<RecordsView, RecordsError> {
        self.records.describe(instance).await
    }

    async fn active_in(&self, context: &Context) -> Result<Vec<RecordsView>, RecordsError> {
        self.records.active_in(context).await
    }

    async fn insert(&self, row: InstanceRow) -> Result<RecordsView, RecordsError> {
        self.write(RecordsCall::Insert, self.records.insert(row)).await
    }

    async fn subscription_put(&self, subscription: Subscription) -> Result<RecordsView, RecordsError> {
        self.write(RecordsCall::Subscribe, self.records.subscription_put(subscription)).await
    }

    async fn subscription_end(&self, instance: InstanceId, at: Timestamp) -> Result<RecordsView, RecordsError> {
        self.write(RecordsCall::Unsubscribe, self.records.subscription_end(instance, at)).await
    }

    async fn mark_destroyed(&self, instance: InstanceId, at: Timestamp) -> Result<RecordsView, RecordsError> {
        self.write(RecordsCall::Mark, self.records.mark_destroyed(instance, at)).await
    }
}
