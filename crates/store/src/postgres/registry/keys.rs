//! What nodes share, who may ask, and which idempotency keys and messages are still known.

use freehold_domain::owner::Owner;
use freehold_domain::time::Timestamp;
use freehold_engine::ports::{Installation, KeyRecord, StoreError};

use super::loaded::{all, first};
use super::rows::Columns;
use super::time::{now, now_or_given};
use super::{PostgresStore, behind_a_write};
use crate::postgres::args::Args;
use crate::shared::corrupt;
use crate::shared::fields::Fields as _;

const KEYS: &str = "\
    SELECT id, label, role, hash, created_at, revoked_at FROM freehold_registry.api_keys ORDER BY created_at, id";
const KEY: &str = "SELECT id, label, role, hash, created_at, revoked_at FROM freehold_registry.api_keys WHERE id = $1";

fn key(columns: &mut Columns<'_>) -> Result<KeyRecord, StoreError> {
    Ok(KeyRecord {
        id: columns.text()?.to_owned(),
        label: columns.text()?.to_owned(),
        role: columns.named()?,
        hash: columns.bytes()?,
        created_at: columns.time()?,
        revoked_at: columns.time_or_null()?,
    })
}

pub(super) const FORGET: &str = "\
    WITH old AS MATERIALIZED ( \
        SELECT o.context_id, o.id FROM freehold_registry.operations o \
        WHERE o.key_scope IS NOT NULL AND o.finished_at IS NOT NULL AND o.finished_at < $1 \
        ORDER BY o.finished_at LIMIT $2 FOR UPDATE SKIP LOCKED), \
    forgotten AS ( \
        UPDATE freehold_registry.operations o \
        SET key_scope = NULL, key_fingerprint = NULL, answer_status = NULL, answer_body = NULL \
        FROM old WHERE o.context_id = old.context_id AND o.id = old.id) \
    SELECT count(*) FROM old";

impl PostgresStore {
    /// What all nodes share; the first proposal is kept.
    pub(super) async fn shared_installation(&self, proposed: &Installation) -> Result<Installation, StoreError> {
        let Installation { install, mac_key, secret_key } = proposed;
        let args = Args::default().text(install.as_str()).bytes(*mac_key).bytes(*secret_key);
        let put = "INSERT INTO freehold_registry.installation (only_row, install, mac_key, secret_key) \
                   VALUES (1, $1, $2, $3) ON CONFLICT (only_row) DO NOTHING";
        self.desk.write_again(put, &args).await?;
        let read = "SELECT install, mac_key, secret_key FROM freehold_registry.installation";
        let kept = first(&self.rows(read, Args::default()).await.map_err(behind_a_write)?, |columns| {
            Ok(Installation { install: columns.parsed()?, mac_key: columns.bytes()?, secret_key: columns.bytes()? })
        })?;
        kept.ok_or_else(|| corrupt("an installation that was written is not there"))
    }

    /// Every API key, oldest first.
    pub(super) async fn keys(&self) -> Result<Vec<KeyRecord>, StoreError> {
        all(&self.rows(KEYS, Args::default()).await?, key)
    }

    async fn key_by_id(&self, id: &str) -> Result<Option<KeyRecord>, StoreError> {
        first(&self.rows(KEY, Args::default().text(id)).await?, key)
    }

    /// Puts an API key on record. Doing it again with the same key changes nothing; an id is never used for another.
    pub(super) async fn key_put(&self, record: &KeyRecord) -> Result<(), StoreError> {
        let KeyRecord { id, label, role, hash, created_at, revoked_at } = record;
        let args = Args::default()
            .text(id)
            .text(super::rows::text(label))
            .text(role.name())
            .bytes(*hash)
            .number(created_at.as_micros())
            .number_or_null(revoked_at.map(Timestamp::as_micros));
        let put = "INSERT INTO freehold_registry.api_keys (id, label, role, hash, created_at, revoked_at) \
                   VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO NOTHING";
        self.desk.write_again(put, &args).await?;
        match self.key_by_id(id).await.map_err(behind_a_write)? {
            Some(known) if known == KeyRecord { label: super::rows::text(label), ..record.clone() } => Ok(()),
            Some(_) => Err(corrupt(format!("key {id} is on record already"))),
            None => Err(corrupt("a key that was written is not there")),
        }
    }

    /// Revokes an API key. Doing it again changes nothing.
    pub(super) async fn key_end(&self, id: &str, at: Timestamp) -> Result<KeyRecord, StoreError> {
        let end = "UPDATE freehold_registry.api_keys SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL";
        self.desk.write_again(end, &Args::default().text(id).number(at.as_micros())).await?;
        self.key_by_id(id).await.map_err(behind_a_write)?.ok_or(StoreError::Missing("key"))
    }

    /// Forgets idempotency records whose operation was over before `before`, and the answers that they led to.
    pub(super) async fn forget(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        let args = Args::default().number(before.as_micros()).limit(limit.min(super::lists::LIST_MAX));
        Ok(first(&self.desk.write_again(FORGET, &args).await?, |columns| columns.count())?.unwrap_or(0))
    }

    /// Whether the records were asked for everything that an owner has.
    pub(super) async fn is_backfilled(&self, owner: &Owner) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM freehold_registry.owners_backfilled WHERE owner = $1";
        Ok(!self.rows(sql, Args::default().text(owner.to_string())).await?.is_empty())
    }

    /// They were.
    pub(super) async fn backfilled(&self, owner: &Owner) -> Result<(), StoreError> {
        let sql = concat!(
            "INSERT INTO freehold_registry.owners_backfilled (owner, at) VALUES ($1, ",
            now!(),
            ") ON CONFLICT (owner) DO NOTHING"
        );
        self.desk.write_again(sql, &Args::default().text(owner.to_string())).await.map(drop)
    }

    /// Whether a message's id is on record.
    pub(super) async fn delivery(&self, id: &str) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM freehold_registry.deliveries WHERE id = $1";
        Ok(!self.rows(sql, Args::default().text(id)).await?.is_empty())
    }

    /// Puts a message's id on record. Messages that cannot arrive again are forgotten on the way.
    pub(super) async fn delivered(&self, id: &str, keep_until: Timestamp) -> Result<(), StoreError> {
        let sql = concat!(
            "WITH forgotten AS (DELETE FROM freehold_registry.deliveries WHERE keep_until < ",
            now_or_given!(),
            " AND id <> $2) INSERT INTO freehold_registry.deliveries (id, keep_until) VALUES ($2, $3) \
             ON CONFLICT (id) DO NOTHING"
        );
        let args = Args::default().number_or_null(self.desk.time.given()).text(id).number(keep_until.as_micros());
        self.desk.write_again(sql, &args).await.map(drop)
    }
}
