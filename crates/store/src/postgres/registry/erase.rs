//! Forgetting an owner: a pseudonym takes its place wherever the registry names it. No row goes away.
//!
//! A context's rows are found by an id that is made of its names, so they move under the pseudonym's. All of it is one
//! transaction, behind the locks of every guard of the owner.

use std::time::Duration;

use deadpool_postgres::Transaction;
use freehold_domain::ids::InstanceId;
use freehold_domain::owner::{Context, Owner};
use freehold_domain::reservation::FrozenSpec;
use freehold_engine::ports::{StillThere, StoreError};
use tokio::time::timeout;
use tokio_postgres::types::Type;
use tokio_postgres::{IsolationLevel, Row};

use super::audit::{OF_CONTEXT, event};
use super::loaded::{all, first};
use super::rows::count;
use super::{PostgresStore, context_id, of_write, shard};
use crate::postgres::args::Args;
use crate::postgres::pool::Trouble;
use crate::shared::chain::Chain;
use crate::shared::corrupt;
use crate::shared::fields::Fields as _;

/// A transaction, and how its errors are told.
struct Tx<'t> {
    tx: Transaction<'t>,
    store: &'t PostgresStore,
}

/// Why a transaction that is not committed broke off. Nothing of it was written.
enum Broken {
    /// It crossed another one, and may do at once what it did not now.
    Crossed,
    Failed(StoreError),
}

impl From<StoreError> for Broken {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

impl From<Trouble> for Broken {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Crossed(_) => Self::Crossed,
            // Nothing is committed yet, whatever became of the connection.
            Trouble::Blocked(said) | Trouble::Away(said) | Trouble::Unknown(said) | Trouble::Refused { said, .. } => {
                Self::Failed(StoreError::Unavailable(said))
            }
        }
    }
}

impl Tx<'_> {
    async fn run(&self, sql: &str, args: Args) -> Result<Vec<Row>, Broken> {
        let rows = self.tx.query_typed(sql, &args.typed()).await;
        rows.map_err(|error| self.store.desk.database.trouble_within(&error).into())
    }
}

/// How long all of it may take.
const WITHIN: Duration = Duration::from_secs(60);

/// The same in the database, for a node that dies in the middle: the guards that it has must not stay locked.
const BOUNDS: &str = "SELECT set_config('lock_timeout', '2s', true), set_config('statement_timeout', '30s', true), \
    set_config('idle_in_transaction_session_timeout', '10s', true)";

const CONTEXTS: &str = "\
    SELECT context_id, assigned_user FROM freehold_registry.contexts WHERE owner = $1 ORDER BY context_id FOR UPDATE";

const IS_THERE: &str = "\
    SELECT r.instance_id FROM freehold_registry.reservations r \
    JOIN freehold_registry.contexts c ON c.context_id = r.context_id \
    WHERE c.owner = $1 AND r.released_at IS NULL LIMIT 1";

impl PostgresStore {
    /// Puts `pseudonym` in the place of `owner`. Answers how many instances that were.
    pub(super) async fn anonymized(
        &self,
        owner: &Owner,
        pseudonym: &Owner,
        spec: &FrozenSpec,
    ) -> Result<Result<u64, StillThere>, StoreError> {
        let mut tries = self.desk.tries();
        loop {
            let renaming = timeout(WITHIN, self.anonymized_once(owner, pseudonym, spec)).await;
            match renaming.map_err(|_| StoreError::Unknown(format!("it was not done within {WITHIN:?}")))? {
                Ok(renamed) => return Ok(renamed),
                Err(Broken::Failed(error)) => return Err(error),
                Err(Broken::Crossed) => tries.another().await?,
            }
        }
    }

    async fn anonymized_once(
        &self,
        owner: &Owner,
        pseudonym: &Owner,
        spec: &FrozenSpec,
    ) -> Result<Result<u64, StillThere>, Broken> {
        let database = &self.desk.database;
        let mut client = database.lend_for_transaction().await?;
        let begin = client.build_transaction().isolation_level(IsolationLevel::ReadCommitted);
        let tx = begin.start().await.map_err(|error| database.trouble_within(&error))?;
        let tx = Tx { tx, store: self };
        tx.run(BOUNDS, Args::default()).await?;
        let renamed = renamed(&tx, owner, pseudonym, spec).await?;
        if renamed.is_ok() {
            tx.tx.commit().await.map_err(|error| Broken::Failed(of_write(database.trouble_within(&error))))?;
        }
        Ok(renamed)
    }
}

async fn renamed(
    tx: &Tx<'_>,
    owner: &Owner,
    pseudonym: &Owner,
    spec: &FrozenSpec,
) -> Result<Result<u64, StillThere>, Broken> {
    let name = owner.to_string();
    let contexts = tx.run(CONTEXTS, Args::default().text(&name)).await?;
    let contexts = all(&contexts, |columns| columns.id_bytes())?;
    let there = tx.run(IS_THERE, Args::default().text(&name)).await?;
    if let Some(instance) = first(&there, |columns| columns.id::<InstanceId>())? {
        return Ok(Err(StillThere(instance)));
    }
    let mut instances = 0;
    for (number, old) in contexts.into_iter().enumerate() {
        // An organisation has a context for each of its people, and their pseudonyms differ.
        let user = match pseudonym {
            Owner::User(_) => None,
            Owner::Org(id) => {
                let user = format!("{}-{number}", id.as_str());
                Some(user.parse().map_err(|error| corrupt(format!("a pseudonym {user:?}: {error}")))?)
            }
        };
        let context = Context::new(pseudonym.clone(), user).map_err(|error| corrupt(error.to_string()))?;
        let new = context_id(&context);
        let ids = || Args::default().id(&old).id(&new);
        let lines = tx.run(OF_CONTEXT, Args::default().id(&old)).await?;
        let mut chain = Chain::NEW;
        let (mut seqs, mut heads, mut hashes) = (Vec::new(), Vec::new(), Vec::new());
        for line in all(&lines, event)? {
            let link = chain.link(&context, &line);
            seqs.push(count(link.seq));
            heads.push(link.prev.to_vec());
            hashes.push(link.hash.to_vec());
        }
        let args =
            ids().column(seqs, Type::INT8_ARRAY).column(heads, Type::BYTEA_ARRAY).column(hashes, Type::BYTEA_ARRAY);
        let chained = "UPDATE freehold_registry.audit a SET context_id = $2, prev_hash = n.prev_hash, hash = n.hash \
                       FROM unnest($3::bigint[], $4::bytea[], $5::bytea[]) AS n(seq, prev_hash, hash) \
                       WHERE a.context_id = $1 AND a.seq = n.seq";
        tx.run(chained, args).await?;
        let args = ids()
            .text(pseudonym.to_string())
            .text(context.assigned_user().as_str())
            .number(i64::from(shard(pseudonym)))
            .number(count(chain.seq))
            .bytes(chain.head);
        let moved = "UPDATE freehold_registry.contexts SET context_id = $2, owner = $3, assigned_user = $4, \
                     shard = $5::bigint::smallint, version = version + 1, audit_seq = $6, audit_head = $7 \
                     WHERE context_id = $1";
        tx.run(moved, args).await?;
        let spec_args = ids().bytes(spec.0.to_vec());
        let moved = "WITH moved AS (UPDATE freehold_registry.reservations SET context_id = $2, spec = $3 \
                     WHERE context_id = $1 RETURNING 1) SELECT count(*) FROM moved";
        instances += first(&tx.run(moved, spec_args).await?, |columns| columns.count::<u64>())?.unwrap_or(0);
        // Answers and keys name the owner, and what was asked for.
        let moved = "UPDATE freehold_registry.operations SET context_id = $2, shard = $3::bigint::smallint, \
                     spec = NULL, key_scope = NULL, key_fingerprint = NULL, answer_status = NULL, \
                     answer_body = NULL WHERE context_id = $1";
        tx.run(moved, ids().number(i64::from(shard(pseudonym)))).await?;
        tx.run("UPDATE freehold_registry.leaks SET context_id = $2 WHERE context_id = $1", ids()).await?;
    }
    tx.run("DELETE FROM freehold_registry.owners_backfilled WHERE owner = $1", Args::default().text(name)).await?;
    Ok(Ok(instances))
}
