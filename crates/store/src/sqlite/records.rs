//! The canonical records, where they live in the registry's database. Every write is idempotent and answers with what is
//! on record afterwards; no row is ever deleted.

use freehold_domain::ids::InstanceId;
use freehold_domain::owner::Context;
use freehold_domain::protection::{Protection, stands};
use freehold_domain::records::{InstanceRow, RecordsView, Subscription, SubscriptionStatus};
use freehold_domain::time::Timestamp;
use freehold_engine::ports::StoreError;
use rusqlite::params;

use super::db::{Columns, Db, micros};
use super::tx::Tx;

/// A row with its subscription: one statement, so that both are from one moment. There is no subscription without a row.
macro_rules! view {
    ($condition:literal) => {
        concat!(
            "SELECT i.instance_id, i.owner, i.assigned_user, i.provider, i.tier, i.created_at, i.destroyed_at, s.id, \
             s.instance_id, s.status, s.plan, s.price_version, s.started_at, s.ended_at \
             FROM records_instances i LEFT JOIN records_subscriptions s ON s.instance_id = i.instance_id WHERE ",
            $condition
        )
    };
}

pub(super) const DESCRIBE: &str = view!("i.instance_id = ?1");
pub(super) const ACTIVE: &str =
    view!("i.owner = ?1 AND i.assigned_user = ?2 AND i.destroyed_at IS NULL ORDER BY i.created_at, i.instance_id");

fn row(row: &mut Columns<'_>) -> Result<InstanceRow, StoreError> {
    Ok(InstanceRow {
        instance: row.id()?,
        context: row.context()?,
        provider: row.parsed()?,
        tier: row.parsed()?,
        created_at: row.time()?,
        destroyed_at: row.time_or_null()?,
    })
}

fn subscription(row: &mut Columns<'_>) -> Result<Subscription, StoreError> {
    Ok(Subscription {
        id: row.id()?,
        instance: row.id()?,
        status: row.named()?,
        plan: row.get()?,
        price_version: row.parsed()?,
        started_at: row.time()?,
        ended_at: row.time_or_null()?,
    })
}

fn view(columns: &mut Columns<'_>) -> Result<RecordsView, StoreError> {
    let row = row(columns)?;
    let subscription = if columns.next_is_null()? { None } else { Some(subscription(columns)?) };
    Ok(RecordsView { row: Some(row), subscription })
}

/// What is on record of an instance.
pub(super) fn describe(db: Db<'_>, instance: InstanceId) -> Result<RecordsView, StoreError> {
    Ok(db.first(DESCRIBE, params![instance.as_bytes()], view)?.unwrap_or_default())
}

/// The instances of a context whose rows are active, oldest first.
pub(super) fn active_in(db: Db<'_>, context: &Context) -> Result<Vec<RecordsView>, StoreError> {
    db.all(ACTIVE, params![context.owner().to_string(), context.assigned_user().as_str()], view)
}

/// Whether an instance's registry says that it is still being made. An executor that lost its right may write late; what
/// it writes for an instance that is to be removed, or is gone, would stand in its context's way for ever. An instance
/// that the registry does not know comes from elsewhere, and is not its to judge.
fn is_wanted(tx: Tx<'_>, instance: InstanceId) -> Result<bool, StoreError> {
    let unwanted =
        "SELECT 1 FROM reservations WHERE instance_id = ?1 AND (status <> 'in_progress' OR destroy_at IS NOT NULL)";
    let found = tx.first(unwanted, params![instance.as_bytes()], |row| row.get::<i64>())?;
    Ok(found.is_none() || !stands(Protection::RecordsRefuseLate))
}

/// Writes the row, unless it is there.
pub(super) fn insert(tx: Tx<'_>, row: &InstanceRow) -> Result<RecordsView, StoreError> {
    let InstanceRow { instance, context, provider, tier, created_at, destroyed_at } = row;
    let known = describe(*tx, *instance)?;
    if known.row.is_some() {
        return Ok(known);
    }
    if !is_wanted(tx, *instance)? {
        return Err(StoreError::Missing("instance in the making"));
    }
    tx.run(
        "INSERT INTO records_instances (instance_id, owner, assigned_user, provider, tier, created_at, destroyed_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (instance_id) DO NOTHING",
        params![
            instance.as_bytes(),
            context.owner().to_string(),
            context.assigned_user().as_str(),
            provider.as_str(),
            tier.as_str(),
            created_at.as_micros(),
            micros(*destroyed_at),
        ],
    )?;
    describe(*tx, *instance)
}

/// Writes the subscription, unless the instance has one. Nothing is billed that has no row.
pub(super) fn subscription_put(tx: Tx<'_>, subscription: &Subscription) -> Result<RecordsView, StoreError> {
    let Subscription { id, instance, status, plan, price_version, started_at, ended_at } = subscription;
    let known = describe(*tx, *instance)?;
    if known.subscription.is_some() {
        return Ok(known);
    }
    if !known.row_is_active() || !is_wanted(tx, *instance)? {
        return Err(StoreError::Missing("canonical row to subscribe for"));
    }
    tx.run(
        "INSERT INTO records_subscriptions (instance_id, id, status, plan, price_version, started_at, ended_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (instance_id) DO NOTHING",
        params![
            instance.as_bytes(),
            id.as_bytes(),
            status.name(),
            plan,
            price_version.as_str(),
            started_at.as_micros(),
            micros(*ended_at),
        ],
    )?;
    describe(*tx, *instance)
}

/// Ends the subscription, if there is one that runs.
pub(super) fn subscription_end(tx: Tx<'_>, instance: InstanceId, at: Timestamp) -> Result<RecordsView, StoreError> {
    tx.run(
        "UPDATE records_subscriptions SET status = ?3, ended_at = ?2 WHERE instance_id = ?1 AND ended_at IS NULL",
        params![instance.as_bytes(), at.as_micros(), SubscriptionStatus::Ended.name()],
    )?;
    describe(*tx, instance)
}

/// Marks the row destroyed, if there is one that is not.
pub(super) fn mark_destroyed(tx: Tx<'_>, instance: InstanceId, at: Timestamp) -> Result<RecordsView, StoreError> {
    tx.run(
        "UPDATE records_instances SET destroyed_at = ?2 WHERE instance_id = ?1 AND destroyed_at IS NULL",
        params![instance.as_bytes(), at.as_micros()],
    )?;
    describe(*tx, instance)
}
