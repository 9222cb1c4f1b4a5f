//! The change log of the records: one line for each change, in the commit that made it.

use freehold_domain::ids::InstanceId;
use freehold_domain::records::{InstanceRow, RecordsView, Subscription};
use freehold_engine::ports::{Because, RecordChange, StoreError};
use rusqlite::params;
use serde_json::{Value, json};

use super::db::{Columns, Db, limit};
use super::tx::Tx;
use crate::shared::fields::Fields as _;

fn row(row: &InstanceRow) -> Value {
    let InstanceRow { instance: _, context, provider, tier, created_at, destroyed_at } = row;
    json!({
        "owner": context.owner().to_string(),
        "assigned_user": context.assigned_user().as_str(),
        "provider": provider.as_str(),
        "tier": tier.as_str(),
        "created_at": created_at.as_micros(),
        "destroyed_at": destroyed_at.map(|at| at.as_micros()),
    })
}

fn subscription(subscription: &Subscription) -> Value {
    let Subscription { id, instance: _, status, plan, price_version, started_at, ended_at, reported } = subscription;
    json!({
        "id": id.to_string(),
        "status": status.name(),
        "plan": plan,
        "price_version": price_version.as_str(),
        "started_at": started_at.as_micros(),
        "ended_at": ended_at.map(|at| at.as_micros()),
        "reported": reported,
    })
}

fn text(view: &RecordsView) -> Option<String> {
    let known = view.row.is_some() || view.subscription.is_some();
    known.then(|| {
        json!({
            "instance": view.row.as_ref().map(row),
            "subscription": view.subscription.as_ref().map(subscription),
        })
        .to_string()
    })
}

/// Writes down what changed, if anything did.
pub(super) fn append(
    tx: Tx<'_>,
    instance: InstanceId,
    action: &str,
    because: &Because,
    (before, after): (&RecordsView, &RecordsView),
) -> Result<(), StoreError> {
    if before == after {
        return Ok(());
    }
    let Because { actor, operation, reason } = because;
    tx.run(
        "INSERT INTO records_change_log (instance_id, action, actor, operation_id, reason, before, after, at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            instance.as_bytes(),
            action,
            actor.name(),
            operation.as_ref().map(|operation| operation.as_bytes()),
            reason,
            text(before),
            text(after),
            tx.now().as_micros(),
        ],
    )?;
    Ok(())
}

/// Replaces what earlier lines of an instance say of its owner.
pub(super) fn anonymize(tx: Tx<'_>, instance: InstanceId, owner: &str, user: &str) -> Result<(), StoreError> {
    for column in ["before", "after"] {
        tx.run(
            &format!(
                "UPDATE records_change_log SET {column} = json_set({column}, '$.instance.owner', ?2, \
                 '$.instance.assigned_user', ?3) \
                 WHERE instance_id = ?1 AND json_extract({column}, '$.instance.owner') IS NOT NULL"
            ),
            params![instance.as_bytes(), owner, user],
        )?;
    }
    Ok(())
}

pub(super) const OF_INSTANCE: &str = "\
    SELECT instance_id, action, actor, operation_id, reason, before, after, at FROM records_change_log \
    WHERE instance_id = ?1 ORDER BY position LIMIT ?2";

/// Reads the log of an instance.
pub(super) fn read(db: Db<'_>, instance: InstanceId, wanted: usize) -> Result<Vec<RecordChange>, StoreError> {
    db.all(OF_INSTANCE, params![instance.as_bytes(), limit(wanted)], |row: &mut Columns<'_>| {
        Ok(RecordChange {
            instance: row.id()?,
            action: row.get()?,
            because: Because {
                actor: row.named()?,
                operation: if row.next_is_null()? {
                    row.get::<Option<Vec<u8>>>()?;
                    None
                } else {
                    Some(row.id()?)
                },
                reason: row.get()?,
            },
            before: row.get()?,
            after: row.get()?,
            at: row.time()?,
        })
    })
}
