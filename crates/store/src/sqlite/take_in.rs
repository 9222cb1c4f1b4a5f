//! Instances that exist without having been admitted here: each is taken in once, in one commit.

use freehold_domain::ids::InstanceId;
use freehold_domain::lease::ProviderName;
use freehold_domain::ledger;
use freehold_domain::owner::{Context, Owner};
use freehold_domain::resource::Resource;
use freehold_domain::run::{self, Bid, Change, Run};
use freehold_engine::ports::{Adopted, Adoption, Asked, StoreError};
use rusqlite::params;

use super::admit::{CONTEXT_ID, LEDGER};
use super::db::Db;
use super::tx::Tx;
use super::{admit, audit, rows};
use crate::shared::fields::Fields as _;

/// Takes an instance in, unless it is on record.
pub(super) fn take_in(tx: Tx<'_>, bid: &Bid, resources: &[Resource], asked: &Asked) -> Result<Option<Run>, StoreError> {
    let known = "SELECT 1 FROM reservations WHERE instance_id = ?1";
    if tx.first(known, params![bid.instance.as_bytes()], |row| row.get::<i64>())?.is_some() {
        return Ok(None);
    }
    let commission = asked.commission(tx.now(), tx.lease_until());
    let change = run::taken_in(bid.clone(), resources.to_vec(), &commission, tx.now());
    let context_id = context_id(tx, &bid.context)?;
    Ok(Some(insert(tx, context_id, change)?))
}

/// Takes in what was made elsewhere under a name of its own.
pub(super) fn adopt(tx: Tx<'_>, adoption: &Adoption) -> Result<Adopted, StoreError> {
    let Adoption { bid, resources, power, asked, limit } = adoption;
    if let Some(name) = &bid.named
        && let Some(instance) = named(*tx, &bid.provider, name)?
    {
        return Ok(Adopted::Known(instance));
    }
    let context_id = context_id(tx, &bid.context)?;
    let entries = match context_id {
        Some(id) => tx.all(LEDGER, [id], admit::entry)?,
        None => Vec::new(),
    };
    if let Err(refusal) = ledger::admit(&entries, *limit) {
        return Ok(Adopted::Conflict(refusal));
    }
    let commission = asked.commission(tx.now(), tx.lease_until());
    let change = run::adopted(bid.clone(), resources.clone(), *power, &commission, tx.now());
    Ok(Adopted::Taken(Box::new(insert(tx, context_id, change)?)))
}

pub(super) const NAMED: &str =
    "SELECT instance_id FROM reservations WHERE provider = ?1 AND named = ?2 AND status <> 'released'";

/// The instance that has a name of its own at a provider.
pub(super) fn named(db: Db<'_>, provider: &ProviderName, name: &str) -> Result<Option<InstanceId>, StoreError> {
    db.first(NAMED, params![provider.as_str(), name], |row| row.id())
}

fn context_id(tx: Tx<'_>, context: &Context) -> Result<Option<i64>, StoreError> {
    let row = params![context.owner().to_string(), context.assigned_user().as_str()];
    tx.first(CONTEXT_ID, row, |row| row.get::<i64>())
}

/// Writes what begins with this change, which touches none of what a change of a run may replace.
fn insert(tx: Tx<'_>, context_id: Option<i64>, change: Change) -> Result<Run, StoreError> {
    let Change { run, replaced: _, route: _, leak: _, events } = change;
    let context = &run.reservation.context;
    let context_id = match context_id {
        Some(id) => {
            audit::append(*tx, id, context, &events)?;
            id
        }
        None => audit::begin(*tx, context, &events)?,
    };
    rows::reservation_insert(*tx, context_id, &run.reservation)?;
    rows::operation_insert(*tx, context, &run.operation, None)?;
    Ok(run)
}

pub(super) const IS_BACKFILLED: &str = "SELECT 1 FROM owners_backfilled WHERE owner = ?1";

/// Whether an owner's instances were all taken in.
pub(super) fn is_backfilled(db: Db<'_>, owner: &Owner) -> Result<bool, StoreError> {
    Ok(db.first(IS_BACKFILLED, params![owner.to_string()], |row| row.get::<i64>())?.is_some())
}

/// They were.
pub(super) fn backfilled(tx: Tx<'_>, owner: &Owner) -> Result<(), StoreError> {
    tx.run(
        "INSERT INTO owners_backfilled (owner, at) VALUES (?1, ?2) ON CONFLICT (owner) DO NOTHING",
        params![owner.to_string(), tx.now().as_micros()],
    )?;
    Ok(())
}
