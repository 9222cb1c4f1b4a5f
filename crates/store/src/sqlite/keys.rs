//! What nodes share, who may ask, and which idempotency keys are still known.

use freehold_domain::time::Timestamp;
use freehold_engine::ports::{Installation, KeyRecord, StoreError};
use rusqlite::params;

use super::db::{Columns, Db, limit, micros};
use super::tx::Tx;
use crate::shared::corrupt;
use crate::shared::fields::Fields as _;

/// What all nodes share; the first proposal is kept.
pub(super) fn installation(tx: Tx<'_>, proposed: &Installation) -> Result<Installation, StoreError> {
    let Installation { install, mac_key, secret_key } = proposed;
    tx.run(
        "INSERT INTO installation (only_row, install, mac_key, secret_key) VALUES (1, ?1, ?2, ?3) \
         ON CONFLICT (only_row) DO NOTHING",
        params![install.as_str(), mac_key, secret_key],
    )?;
    let read = |row: &mut Columns<'_>| {
        Ok(Installation { install: row.parsed()?, mac_key: row.bytes()?, secret_key: row.bytes()? })
    };
    tx.first("SELECT install, mac_key, secret_key FROM installation", [], read)?
        .ok_or_else(|| corrupt("an installation that was written is not there"))
}

fn key(row: &mut Columns<'_>) -> Result<KeyRecord, StoreError> {
    Ok(KeyRecord {
        id: row.get()?,
        label: row.get()?,
        role: row.named()?,
        hash: row.bytes()?,
        created_at: row.time()?,
        revoked_at: row.time_or_null()?,
    })
}

/// Every API key, oldest first.
pub(super) fn list(db: Db<'_>) -> Result<Vec<KeyRecord>, StoreError> {
    db.all("SELECT id, label, role, hash, created_at, revoked_at FROM api_keys ORDER BY created_at, id", [], key)
}

fn by_id(db: Db<'_>, id: &str) -> Result<Option<KeyRecord>, StoreError> {
    db.first("SELECT id, label, role, hash, created_at, revoked_at FROM api_keys WHERE id = ?1", [id], key)
}

/// Puts an API key on record. Doing it again with the same key changes nothing; an id is never used for another.
pub(super) fn create(tx: Tx<'_>, record: &KeyRecord) -> Result<(), StoreError> {
    if let Some(known) = by_id(*tx, &record.id)? {
        let same = known == *record;
        return if same { Ok(()) } else { Err(corrupt(format!("key {} is on record already", record.id))) };
    }
    let KeyRecord { id, label, role, hash, created_at, revoked_at } = record;
    tx.run(
        "INSERT INTO api_keys (id, label, role, hash, created_at, revoked_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![id, label, role.name(), hash, created_at.as_micros(), micros(*revoked_at)],
    )?;
    Ok(())
}

/// Revokes an API key. Doing it again changes nothing.
pub(super) fn revoke(tx: Tx<'_>, id: &str, at: Timestamp) -> Result<KeyRecord, StoreError> {
    tx.run("UPDATE api_keys SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL", params![id, at.as_micros()])?;
    by_id(*tx, id)?.ok_or(StoreError::Missing("key"))
}

pub(super) const TO_FORGET: &str = "\
    SELECT id FROM operations WHERE key_scope IS NOT NULL AND finished_at IS NOT NULL AND finished_at < ?1 \
    ORDER BY finished_at LIMIT ?2";

/// Forgets idempotency records whose operation was over before `before`, and the answers that they led to.
pub(super) fn purge(tx: Tx<'_>, before: Timestamp, wanted: usize) -> Result<u64, StoreError> {
    let old: Vec<[u8; 16]> = tx.all(TO_FORGET, params![before.as_micros(), limit(wanted)], |row| row.bytes())?;
    for operation in &old {
        tx.run(
            "UPDATE operations SET key_scope = NULL, key_fingerprint = NULL, answer_status = NULL, answer_body = NULL \
             WHERE id = ?1",
            [operation],
        )?;
    }
    Ok(old.len() as u64)
}

/// Whether a message's id is on record.
pub(super) fn delivery_is_known(db: Db<'_>, id: &str) -> Result<bool, StoreError> {
    let found = db.first("SELECT 1 FROM deliveries WHERE id = ?1", params![id], |row| row.get::<i64>())?;
    Ok(found.is_some())
}

/// Puts a message's id on record. Messages that cannot arrive again are forgotten on the way.
pub(super) fn delivery_put(tx: Tx<'_>, id: &str, keep_until: Timestamp) -> Result<(), StoreError> {
    tx.run("DELETE FROM deliveries WHERE keep_until < ?1", params![tx.now().as_micros()])?;
    tx.run(
        "INSERT INTO deliveries (id, keep_until) VALUES (?1, ?2) ON CONFLICT (id) DO NOTHING",
        params![id, keep_until.as_micros()],
    )?;
    Ok(())
}
