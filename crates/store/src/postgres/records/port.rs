//! The port, sentence by sentence.

use async_trait::async_trait;
use freehold_domain::ids::InstanceId;
use freehold_domain::owner::{Context, Owner};
use freehold_domain::records::{InstanceRow, RecordsView, Subscription, SubscriptionStatus};
use freehold_domain::time::Timestamp;
use freehold_engine::ports::{Because, RecordChange, Records, RecordsError, SubscriptionTerms};

use super::rows::{change, columns, view};
use super::{Args, Kind, PostgresRecords};

/// A function of the database that answers what is on record.
macro_rules! function {
    ($call:literal) => {
        concat!("SELECT ", columns!(), " FROM freehold.", $call)
    };
}

const DESCRIBE: &str = function!("records_describe($1)");
const ACTIVE_IN: &str = function!("records_active_in($1, $2)");
const ACTIVE_OF: &str = function!("records_active_of($1, $2)");
const ACTIVE_AFTER: &str = function!("records_active_after($1, $2)");
const UNREPORTED: &str = function!("records_unreported($1)");
const INSERT: &str = function!("instance_insert($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)");
const CLOSE: &str = function!("instance_close($1, $2, $3, $4, $5)");
const PUT: &str = function!("subscription_put($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)");
const TURN: &str = function!("subscription_turn($1, $2, $3, $4, $5)");
const END: &str = function!("subscription_end($1, $2, $3, $4, $5)");
const REPORTED: &str = function!("subscription_reported($1, $2, $3, $4, $5, $6, $7)");
const CHANGES: &str = "\
    SELECT instance_id, action, actor_type, actor_id, reason, before::text, after::text, at \
    FROM freehold.records_changes($1, $2)";
const ANONYMIZE: &str = "SELECT freehold.owner_anonymize($1, $2, $3, $4, $5, $6)";

/// Smaller than every id.
const BEFORE_ALL: [u8; 16] = [0; 16];

impl Args {
    fn because(self, because: &Because) -> Self {
        let Because { actor, operation, reason } = because;
        self.text(actor.name()).id_or_null(operation.as_ref().map(|operation| operation.as_bytes())).text(reason)
    }
}

impl PostgresRecords {
    async fn views(&self, kind: Kind, sql: &str, args: Args) -> Result<Vec<RecordsView>, RecordsError> {
        self.database.call(kind, sql, &args).await?.iter().map(view).collect()
    }

    async fn view(&self, kind: Kind, sql: &str, args: Args) -> Result<RecordsView, RecordsError> {
        Ok(self.views(kind, sql, args).await?.pop().unwrap_or_default())
    }
}

#[async_trait]
impl Records for PostgresRecords {
    async fn describe(&self, instance: InstanceId) -> Result<RecordsView, RecordsError> {
        self.view(Kind::Read, DESCRIBE, Args::default().id(instance.as_bytes())).await
    }

    async fn active_in(&self, context: &Context) -> Result<Vec<RecordsView>, RecordsError> {
        let args = Args::default().text(context.owner().to_string()).text(context.assigned_user().as_str());
        self.views(Kind::Read, ACTIVE_IN, args).await
    }

    async fn active_of(&self, owner: &Owner, limit: usize) -> Result<Vec<RecordsView>, RecordsError> {
        self.views(Kind::Read, ACTIVE_OF, Args::default().text(owner.to_string()).limit(limit)).await
    }

    async fn active_after(&self, after: Option<InstanceId>, limit: usize) -> Result<Vec<RecordsView>, RecordsError> {
        let after = after.map_or(BEFORE_ALL, |after| *after.as_bytes());
        self.views(Kind::Read, ACTIVE_AFTER, Args::default().id(&after).limit(limit)).await
    }

    async fn insert(&self, row: InstanceRow, because: &Because) -> Result<RecordsView, RecordsError> {
        let InstanceRow { instance, context, provider, tier, created_at, destroyed_at } = row;
        let args = Args::default()
            .id(instance.as_bytes())
            .text(context.owner().to_string())
            .text(context.assigned_user().as_str())
            .text(provider.as_str())
            .text(tier.as_str())
            .at(created_at)
            .at_or_null(destroyed_at);
        self.view(Kind::Write, INSERT, args.because(because)).await
    }

    async fn subscription_put(
        &self,
        subscription: Subscription,
        because: &Because,
    ) -> Result<RecordsView, RecordsError> {
        let Subscription { id, instance, status, plan, price_version, started_at, ended_at, reported } = subscription;
        let args = Args::default()
            .id(instance.as_bytes())
            .id(id.as_bytes())
            .text(status.name())
            .text(plan)
            .text(price_version.as_str())
            .at(started_at)
            .at_or_null(ended_at)
            .flag(reported);
        self.view(Kind::Write, PUT, args.because(because)).await
    }

    async fn subscription_turn(
        &self,
        instance: InstanceId,
        to: SubscriptionStatus,
        because: &Because,
    ) -> Result<RecordsView, RecordsError> {
        match to {
            SubscriptionStatus::Active | SubscriptionStatus::Suspended => {}
            SubscriptionStatus::Ended => {
                return Err(RecordsError::Refused("a subscription does not end by being turned".to_owned()));
            }
        }
        let args = Args::default().id(instance.as_bytes()).text(to.name());
        self.view(Kind::Write, TURN, args.because(because)).await
    }

    async fn subscription_end(
        &self,
        instance: InstanceId,
        at: Timestamp,
        because: &Because,
    ) -> Result<RecordsView, RecordsError> {
        self.view(Kind::Write, END, Args::default().id(instance.as_bytes()).at(at).because(because)).await
    }

    async fn unreported(&self, limit: usize) -> Result<Vec<RecordsView>, RecordsError> {
        self.views(Kind::Read, UNREPORTED, Args::default().limit(limit)).await
    }

    async fn subscription_reported(
        &self,
        instance: InstanceId,
        terms: SubscriptionTerms,
        because: &Because,
    ) -> Result<RecordsView, RecordsError> {
        let SubscriptionTerms { id, plan, price_version } = terms;
        let args = Args::default().id(instance.as_bytes()).id(id.as_bytes()).text(plan).text(price_version.as_str());
        self.view(Kind::Write, REPORTED, args.because(because)).await
    }

    async fn mark_destroyed(
        &self,
        instance: InstanceId,
        at: Timestamp,
        because: &Because,
    ) -> Result<RecordsView, RecordsError> {
        self.view(Kind::Write, CLOSE, Args::default().id(instance.as_bytes()).at(at).because(because)).await
    }

    async fn changes(&self, instance: InstanceId, limit: usize) -> Result<Vec<RecordChange>, RecordsError> {
        let args = Args::default().id(instance.as_bytes()).limit(limit);
        self.database.call(Kind::Read, CHANGES, &args).await?.iter().map(change).collect()
    }

    async fn anonymize(&self, owner: &Owner, pseudonym: &Owner, because: &Because) -> Result<u64, RecordsError> {
        let (Owner::User(user) | Owner::Org(user)) = pseudonym;
        let args = Args::default().text(owner.to_string()).text(pseudonym.to_string()).text(user.as_str());
        let rows = self.database.call(Kind::Write, ANONYMIZE, &args.because(because)).await?;
        let count = rows.first().map(|row| row.try_get::<_, i64>(0));
        let count = count.transpose().map_err(|error| RecordsError::Unavailable(error.to_string()))?;
        Ok(count.and_then(|count| u64::try_from(count).ok()).unwrap_or(0))
    }
}
