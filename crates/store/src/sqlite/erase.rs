//! Forgetting an owner: a pseudonym takes its place wherever the registry names it. No row goes away.
//!
//! The audit chain of a context covers whose it is, so it is made anew with the pseudonym: whoever kept an old head sees
//! that it was. What people wrote as reasons stays.

use freehold_domain::ids::InstanceId;
use freehold_domain::owner::{Context, Owner};
use freehold_domain::reservation::FrozenSpec;
use freehold_engine::ports::{StillThere, StoreError};
use rusqlite::params;

use super::tx::Tx;
use super::{audit, db::Columns};
use crate::shared::corrupt;
use crate::shared::fields::Fields as _;

/// Puts `pseudonym` in the place of `owner`. Answers how many instances that were.
pub(super) fn owner(
    tx: Tx<'_>,
    owner: &Owner,
    pseudonym: &Owner,
    spec: &FrozenSpec,
) -> Result<Result<u64, StillThere>, StoreError> {
    let name = owner.to_string();
    let there = "SELECT r.instance_id FROM reservations r JOIN contexts c ON c.id = r.context_id \
                 WHERE c.owner = ?1 AND r.released_at IS NULL LIMIT 1";
    if let Some(instance) = tx.first(there, params![name], |row: &mut Columns<'_>| row.id::<InstanceId>())? {
        return Ok(Err(StillThere(instance)));
    }
    let contexts = tx.all("SELECT id FROM contexts WHERE owner = ?1", params![name], |row| row.get::<i64>())?;
    let mut instances = 0;
    for (number, context_id) in contexts.into_iter().enumerate() {
        // An organisation has a context for each of its people, and their pseudonyms differ.
        let user = match pseudonym {
            Owner::User(_) => None,
            Owner::Org(id) => {
                let user = format!("{}-{number}", id.as_str());
                Some(user.parse().map_err(|error| corrupt(format!("a pseudonym {user:?}: {error}")))?)
            }
        };
        let context = Context::new(pseudonym.clone(), user).map_err(|error| corrupt(error.to_string()))?;
        tx.run(
            "UPDATE contexts SET owner = ?2, assigned_user = ?3 WHERE id = ?1",
            params![context_id, pseudonym.to_string(), context.assigned_user().as_str()],
        )?;
        audit::chain_anew(tx, context_id, &context)?;
        instances +=
            tx.run("UPDATE reservations SET spec = ?2 WHERE context_id = ?1", params![context_id, &*spec.0])?;
        // Answers and keys name the owner, and what was asked for.
        tx.run(
            "UPDATE operations SET spec = NULL, key_scope = NULL, key_fingerprint = NULL, answer_status = NULL, \
             answer_body = NULL WHERE instance_id IN (SELECT instance_id FROM reservations WHERE context_id = ?1)",
            params![context_id],
        )?;
    }
    tx.run("DELETE FROM owners_backfilled WHERE owner = ?1", params![name])?;
    Ok(Ok(instances as u64))
}
