//! The audit trail: events go in with the transition they tell of, chained by hash in their context.

use freehold_domain::event::{Actor, Event, EventKind};
use freehold_domain::ids::InstanceId;
use freehold_domain::owner::Context;
use freehold_domain::time::Timestamp;
use freehold_engine::ports::{AuditPage, AuditQuery, AuditRecord, Listed, StoreError};
use rusqlite::params;

use super::db::{Columns, Db, count, limit};
use super::tx::Tx;
use crate::shared::chain::{Chain, Link};
use crate::shared::corrupt;
use crate::shared::fields::Fields as _;
use crate::shared::names;
use crate::shared::sentences;

const INSERT: &str = "\
    INSERT INTO audit (context_id, seq, kind, instance_id, operation_id, epoch, status, actor, at, detail, prev_hash, \
        hash) \
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

fn insert(db: Db<'_>, context_id: i64, link: &Link) -> Result<(), StoreError> {
    let Link { seq, prev, hash, event } = link;
    let Event { kind, instance, operation, epoch, status, actor, at, detail } = event;
    db.run(
        INSERT,
        params![
            context_id,
            count(*seq),
            kind.name(),
            instance.as_bytes(),
            operation.as_bytes(),
            count(epoch.get()),
            status,
            actor.name(),
            at.as_micros(),
            detail,
            prev,
            hash,
        ],
    )?;
    Ok(())
}

/// Appends events to the chain of a context that is on record.
pub(super) fn append(db: Db<'_>, context_id: i64, context: &Context, events: &[Event]) -> Result<(), StoreError> {
    if events.is_empty() {
        return Ok(());
    }
    let read = |row: &mut Columns<'_>| Ok(Chain { seq: row.count()?, head: row.bytes()? });
    let mut chain = db
        .first("SELECT audit_seq, audit_head FROM contexts WHERE id = ?1", [context_id], read)?
        .ok_or_else(|| corrupt("a reservation without a context"))?;
    for event in events {
        insert(db, context_id, &chain.link(context, event))?;
    }
    db.run(
        "UPDATE contexts SET audit_seq = ?2, audit_head = ?3 WHERE id = ?1",
        params![context_id, count(chain.seq), chain.head],
    )?;
    Ok(())
}

/// Puts a context on record that was never seen, with its first events. Answers its row.
pub(super) fn begin(db: Db<'_>, context: &Context, events: &[Event]) -> Result<i64, StoreError> {
    let mut chain = Chain::NEW;
    let links: Vec<_> = events.iter().map(|event| chain.link(context, event)).collect();
    db.run(
        "INSERT INTO contexts (owner, assigned_user, audit_seq, audit_head) VALUES (?1, ?2, ?3, ?4)",
        params![context.owner().to_string(), context.assigned_user().as_str(), count(chain.seq), chain.head],
    )?;
    let context_id = db.0.last_insert_rowid();
    for link in &links {
        insert(db, context_id, link)?;
    }
    Ok(context_id)
}

/// Makes the chain of a context anew, because whose it is has another name now.
pub(super) fn chain_anew(tx: Tx<'_>, context_id: i64, context: &Context) -> Result<(), StoreError> {
    let lines = tx.all(OF_CONTEXT, params![context_id], record)?;
    let mut chain = Chain::NEW;
    for AuditRecord { position, event, .. } in &lines {
        let Link { prev, hash, .. } = chain.link(context, event);
        tx.run(
            "UPDATE audit SET prev_hash = ?2, hash = ?3 WHERE position = ?1",
            params![count(*position), prev, hash],
        )?;
    }
    tx.run(
        "UPDATE contexts SET audit_seq = ?2, audit_head = ?3 WHERE id = ?1",
        params![context_id, count(chain.seq), chain.head],
    )?;
    Ok(())
}

/// Puts an event on an instance's trail that no transition makes.
pub(super) fn witness(
    tx: Tx<'_>,
    instance: InstanceId,
    kind: EventKind,
    actor: Actor,
    at: Timestamp,
    detail: &str,
) -> Result<(), StoreError> {
    let loaded = tx.run_of(instance)?;
    let event = sentences::witness(&loaded.run, kind, actor, at, detail);
    append(*tx, loaded.context_id, &loaded.run.reservation.context, &[event])
}

macro_rules! select {
    ($condition:literal) => {
        concat!(
            "SELECT a.position, c.owner, c.assigned_user, a.seq, a.kind, a.instance_id, a.operation_id, a.epoch, \
             a.status, a.actor, a.at, a.detail, a.prev_hash, a.hash ",
            $condition,
            " AND a.position > ?1 ORDER BY a.position LIMIT ?2"
        )
    };
}

pub(super) const OF_ALL: &str = select!("FROM audit a CROSS JOIN contexts c ON c.id = a.context_id WHERE 1");

const OF_CONTEXT: &str = "\
    SELECT a.position, c.owner, c.assigned_user, a.seq, a.kind, a.instance_id, a.operation_id, a.epoch, a.status, \
        a.actor, a.at, a.detail, a.prev_hash, a.hash \
    FROM audit a JOIN contexts c ON c.id = a.context_id WHERE a.context_id = ?1 ORDER BY a.seq";

/// By way of the context, whose lines are numbered in the order of positions.
pub(super) const OF_INSTANCE: &str = select!(
    "FROM reservations r CROSS JOIN audit a ON a.context_id = r.context_id CROSS JOIN contexts c ON c.id = \
     a.context_id WHERE r.instance_id = ?3 AND a.instance_id = r.instance_id"
);

fn record(row: &mut Columns<'_>) -> Result<AuditRecord, StoreError> {
    Ok(AuditRecord {
        position: row.count()?,
        context: row.context()?,
        context_seq: row.count()?,
        event: Event {
            kind: row.named()?,
            instance: row.id()?,
            operation: row.id()?,
            epoch: freehold_domain::lease::Epoch::new(row.count()?),
            status: {
                let name = row.text()?;
                names::status_name(name).ok_or_else(|| corrupt(format!("{name:?} is no status")))?
            },
            actor: row.named()?,
            at: row.time()?,
            detail: row.get()?,
        },
        prev_hash: row.bytes()?,
        hash: row.bytes()?,
    })
}

/// Reads the trail in the order of commits. Lines are committed in the order of their positions, so what a reader sees
/// has no gaps.
pub(super) fn read(db: Db<'_>, query: &AuditQuery) -> Result<AuditPage, StoreError> {
    let AuditQuery { after, instance, limit: wanted } = query;
    let (after, rows) = (count(*after), limit(*wanted) + 1);
    let items = match instance {
        None => db.all(OF_ALL, params![after, rows], record)?,
        Some(instance) => db.all(OF_INSTANCE, params![after, rows, instance.as_bytes()], record)?,
    };
    Ok(page(items, *wanted, |record| record.position))
}

/// A page of what was read with one row more than the page has.
pub(super) fn page<T, C>(mut items: Vec<T>, wanted: usize, place: impl Fn(&T) -> C) -> Listed<T, C> {
    let size = wanted.min(super::db::LIST_MAX);
    let more = items.len() > size;
    items.truncate(size);
    let next = items.last().filter(|_| more).map(place);
    Listed { items, next }
}
