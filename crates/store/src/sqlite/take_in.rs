//! Instances that exist without having been admitted here: each is taken in once, in one commit.

use freehold_domain::owner::Owner;
use freehold_domain::resource::Resource;
use freehold_domain::run::{self, Bid, Change, Run};
use freehold_engine::ports::{Asked, StoreError};
use rusqlite::params;

use super::admit::CONTEXT_ID;
use super::db::Db;
use super::tx::Tx;
use super::{audit, rows};

/// Takes an instance in, unless it is on record.
pub(super) fn take_in(tx: Tx<'_>, bid: &Bid, resources: &[Resource], asked: &Asked) -> Result<Option<Run>, StoreError> {
    let known = "SELECT 1 FROM reservations WHERE instance_id = ?1";
    if tx.first(known, params![bid.instance.as_bytes()], |row| row.get::<i64>())?.is_some() {
        return Ok(None);
    }
    let Change { run, replaced: _, route: _, leak: _, events } =
        run::taken_in(bid.clone(), resources.to_vec(), &asked.commission(tx.now(), tx.lease_until()), tx.now());
    let context = &run.reservation.context;
    let row = params![context.owner().to_string(), context.assigned_user().as_str()];
    let context_id = match tx.first(CONTEXT_ID, row, |row| row.get::<i64>())? {
        Some(id) => {
            audit::append(*tx, id, context, &events)?;
            id
        }
        None => audit::begin(*tx, context, &events)?,
    };
    rows::reservation_insert(*tx, context_id, &run.reservation)?;
    rows::operation_insert(*tx, &run.operation, None)?;
    Ok(Some(run))
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
