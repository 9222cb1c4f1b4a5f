//! The canonical records, where they live in the registry's database. Every write is idempotent and answers with what is
//! on record afterwards; no row is ever deleted.

use freehold_domain::ids::InstanceId;
use freehold_domain::owner::{Context, Owner};
use freehold_domain::protection::{Protection, stands};
use freehold_domain::records::{InstanceRow, RecordsView, Subscription, SubscriptionStatus};
use freehold_domain::time::Timestamp;
use freehold_engine::ports::{Because, StoreError, SubscriptionTerms};
use rusqlite::params;

use super::change_log;
use super::db::{Columns, Db, limit, micros};
use super::tx::Tx;
use crate::shared::fields::Fields as _;

/// A row with its subscription: one statement, so that both are from one moment. There is no subscription without a row.
macro_rules! view {
    ($condition:literal) => {
        concat!(
            "SELECT i.instance_id, i.owner, i.assigned_user, i.provider, i.tier, i.created_at, i.destroyed_at, s.id, \
             s.instance_id, s.status, s.plan, s.price_version, s.started_at, s.ended_at, s.reported \
             FROM records_instances i LEFT JOIN records_subscriptions s ON s.instance_id = i.instance_id WHERE ",
            $condition
        )
    };
}

pub(super) const DESCRIBE: &str = view!("i.instance_id = ?1");
pub(super) const ACTIVE: &str =
    view!("i.owner = ?1 AND i.assigned_user = ?2 AND i.destroyed_at IS NULL ORDER BY i.created_at, i.instance_id");

pub(super) const ACTIVE_OF: &str =
    view!("i.owner = ?1 AND i.destroyed_at IS NULL ORDER BY i.created_at, i.instance_id LIMIT ?2");
pub(super) const ACTIVE_AFTER: &str =
    view!("i.instance_id > ?1 AND i.destroyed_at IS NULL ORDER BY i.instance_id LIMIT ?2");
pub(super) const UNREPORTED: &str =
    view!("i.instance_id IN (SELECT instance_id FROM records_subscriptions WHERE reported = 0) LIMIT ?1");

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
        reported: row.get()?,
    })
}

fn view(columns: &mut Columns<'_>) -> Result<RecordsView, StoreError> {
    let row = row(columns)?;
    let subscription = if columns.next_is_null()? { None } else { Some(subscription(columns)?) };
    let closed = row.destroyed_at.is_some();
    Ok(RecordsView { row: Some(row), subscription, closed })
}

/// What is on record of an instance.
pub(super) fn describe(db: Db<'_>, instance: InstanceId) -> Result<RecordsView, StoreError> {
    let view = db.first(DESCRIBE, params![instance.as_bytes()], view)?;
    match view {
        Some(view) => Ok(view),
        // Where the registry is at hand it lets nobody write who comes too late. Elsewhere there is a tombstone.
        None => {
            let closed = is_unwanted(db, instance)? || is_closed(db, instance)?;
            Ok(RecordsView { closed, ..RecordsView::default() })
        }
    }
}

/// The active instances of an owner, oldest first.
pub(super) fn active_of(db: Db<'_>, owner: &Owner, wanted: usize) -> Result<Vec<RecordsView>, StoreError> {
    db.all(ACTIVE_OF, params![owner.to_string(), limit(wanted)], view)
}

/// The active instances behind an id.
pub(super) fn active_after(
    db: Db<'_>,
    after: Option<InstanceId>,
    wanted: usize,
) -> Result<Vec<RecordsView>, StoreError> {
    let after = after.map_or([0; 16], |after| *after.as_bytes());
    db.all(ACTIVE_AFTER, params![after, limit(wanted)], view)
}

/// Subscriptions that billing has not heard of.
pub(super) fn unreported(db: Db<'_>, wanted: usize) -> Result<Vec<RecordsView>, StoreError> {
    db.all(UNREPORTED, params![limit(wanted)], view)
}

/// The instances of a context whose rows are active, oldest first.
pub(super) fn active_in(db: Db<'_>, context: &Context) -> Result<Vec<RecordsView>, StoreError> {
    db.all(ACTIVE, params![context.owner().to_string(), context.assigned_user().as_str()], view)
}

/// Whether an instance's registry says that it is still wanted. An executor that lost its right may write late; what
/// it writes for an instance that is to be removed, or is gone, would stand in its context's way for ever. An instance
/// that the registry does not know comes from elsewhere, and is not its to judge.
fn is_wanted(tx: Tx<'_>, instance: InstanceId) -> Result<bool, StoreError> {
    Ok(!is_unwanted(*tx, instance)? || !stands(Protection::RecordsRefuseLate))
}

pub(super) const UNWANTED: &str = "\
    SELECT 1 FROM reservations \
    WHERE instance_id = ?1 AND (status NOT IN ('in_progress', 'completed') OR destroy_at IS NOT NULL)";

pub(super) const CLOSED: &str = "SELECT 1 FROM records_closed WHERE instance_id = ?1";

fn is_closed(db: Db<'_>, instance: InstanceId) -> Result<bool, StoreError> {
    Ok(db.first(CLOSED, params![instance.as_bytes()], |row| row.get::<i64>())?.is_some())
}

fn is_unwanted(db: Db<'_>, instance: InstanceId) -> Result<bool, StoreError> {
    Ok(db.first(UNWANTED, params![instance.as_bytes()], |row| row.get::<i64>())?.is_some())
}

/// Writes the row, unless it is there.
pub(super) fn insert(tx: Tx<'_>, row: &InstanceRow, because: &Because) -> Result<RecordsView, StoreError> {
    let InstanceRow { instance, context, provider, tier, created_at, destroyed_at } = row;
    let known = describe(*tx, *instance)?;
    if known.row.is_some() {
        return Ok(known);
    }
    if !is_wanted(tx, *instance)? || is_closed(*tx, *instance)? {
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
    logged(tx, *instance, "instance_inserted", because, &known)
}

/// What is on record since a change, which is put down in the change log.
fn logged(
    tx: Tx<'_>,
    instance: InstanceId,
    action: &str,
    because: &Because,
    before: &RecordsView,
) -> Result<RecordsView, StoreError> {
    let after = describe(*tx, instance)?;
    change_log::append(tx, instance, action, because, (before, &after))?;
    Ok(after)
}

/// Writes the subscription, unless the instance has one. Nothing is billed that has no row.
pub(super) fn subscription_put(
    tx: Tx<'_>,
    subscription: &Subscription,
    because: &Because,
) -> Result<RecordsView, StoreError> {
    let Subscription { id, instance, status, plan, price_version, started_at, ended_at, reported } = subscription;
    let known = describe(*tx, *instance)?;
    if known.subscription.is_some() {
        return Ok(known);
    }
    if !known.row_is_active() || !is_wanted(tx, *instance)? {
        return Err(StoreError::Missing("canonical row to subscribe for"));
    }
    tx.run(
        "INSERT INTO records_subscriptions (instance_id, id, status, plan, price_version, started_at, ended_at, \
         reported) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (instance_id) DO NOTHING",
        params![
            instance.as_bytes(),
            id.as_bytes(),
            status.name(),
            plan,
            price_version.as_str(),
            started_at.as_micros(),
            micros(*ended_at),
            reported,
        ],
    )?;
    logged(tx, *instance, "subscription_started", because, &known)
}

/// Suspends the subscription, or resumes it; one that ended stays so.
pub(super) fn subscription_turn(
    tx: Tx<'_>,
    instance: InstanceId,
    to: SubscriptionStatus,
    because: &Because,
) -> Result<RecordsView, StoreError> {
    let action = match to {
        SubscriptionStatus::Active => "subscription_resumed",
        SubscriptionStatus::Suspended => "subscription_suspended",
        SubscriptionStatus::Ended => return Err(StoreError::Missing("way to end a subscription like this")),
    };
    let before = describe(*tx, instance)?;
    tx.run(
        "UPDATE records_subscriptions SET status = ?2 WHERE instance_id = ?1 AND ended_at IS NULL",
        params![instance.as_bytes(), to.name()],
    )?;
    logged(tx, instance, action, because, &before)
}

/// Billing has heard of it, and has it under these terms.
pub(super) fn subscription_reported(
    tx: Tx<'_>,
    instance: InstanceId,
    terms: &SubscriptionTerms,
    because: &Because,
) -> Result<RecordsView, StoreError> {
    let SubscriptionTerms { id, plan, price_version } = terms;
    let before = describe(*tx, instance)?;
    tx.run(
        "UPDATE records_subscriptions SET id = ?2, plan = ?3, price_version = ?4, reported = 1 \
         WHERE instance_id = ?1 AND reported = 0",
        params![instance.as_bytes(), id.as_bytes(), plan, price_version.as_str()],
    )?;
    logged(tx, instance, "subscription_reported", because, &before)
}

/// Puts a pseudonym in the place of an owner, in rows and change log.
pub(super) fn anonymize(tx: Tx<'_>, owner: &Owner, pseudonym: &Owner, because: &Because) -> Result<u64, StoreError> {
    let name = owner.to_string();
    if !active_of(*tx, owner, 1)?.is_empty() {
        return Err(StoreError::Missing("owner without an active instance of that name"));
    }
    let of = "SELECT instance_id FROM records_instances WHERE owner = ?1";
    let instances = tx.all(of, params![name], |row: &mut Columns<'_>| row.id::<InstanceId>())?;
    let user = match pseudonym {
        Owner::User(id) | Owner::Org(id) => id.as_str().to_owned(),
    };
    for instance in &instances {
        let before = describe(*tx, *instance)?;
        tx.run(
            "UPDATE records_instances SET owner = ?2, assigned_user = ?3 WHERE instance_id = ?1",
            params![instance.as_bytes(), pseudonym.to_string(), user],
        )?;
        logged(tx, *instance, "owner_anonymized", because, &before)?;
        change_log::anonymize(tx, *instance, &pseudonym.to_string(), &user)?;
    }
    Ok(instances.len() as u64)
}

/// Ends the subscription, if there is one that runs.
pub(super) fn subscription_end(
    tx: Tx<'_>,
    instance: InstanceId,
    at: Timestamp,
    because: &Because,
) -> Result<RecordsView, StoreError> {
    let before = describe(*tx, instance)?;
    tx.run(
        "UPDATE records_subscriptions SET status = ?3, ended_at = ?2 WHERE instance_id = ?1 AND ended_at IS NULL",
        params![instance.as_bytes(), at.as_micros(), SubscriptionStatus::Ended.name()],
    )?;
    logged(tx, instance, "subscription_ended", because, &before)
}

/// Marks the row destroyed, if there is one that is not.
pub(super) fn mark_destroyed(
    tx: Tx<'_>,
    instance: InstanceId,
    at: Timestamp,
    because: &Because,
) -> Result<RecordsView, StoreError> {
    let before = describe(*tx, instance)?;
    if before.row.is_none() && !before.closed {
        tx.run(
            "INSERT INTO records_closed (instance_id, at) VALUES (?1, ?2)",
            params![instance.as_bytes(), at.as_micros()],
        )?;
        return logged(tx, instance, "instance_closed", because, &before);
    }
    tx.run(
        "UPDATE records_instances SET destroyed_at = ?2 WHERE instance_id = ?1 AND destroyed_at IS NULL",
        params![instance.as_bytes(), at.as_micros()],
    )?;
    logged(tx, instance, "instance_destroyed", because, &before)
}
