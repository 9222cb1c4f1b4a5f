//! Forgetting a person or an organisation. Rows stay, because what was billed must stay explicable; whose they were goes.

use freehold_domain::owner::Owner;

use super::{Caller, ControlPlane};
use crate::ports::{Because, RecordsError, StillThere, StoreError};
use crate::spec::Spec;

/// What came of forgetting an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forgotten {
    /// What stands in its place.
    pub pseudonym: Owner,
    /// How many instances were its.
    pub instances: u64,
}

/// Why an owner was not forgotten, or not everywhere: asking again goes on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForgetError {
    /// There is no such owner.
    #[error("there is no such owner")]
    NotFound,
    /// Something of it is there.
    #[error(transparent)]
    StillThere(#[from] StillThere),
    /// The records refused, or did not answer.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// The registry did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ControlPlane {
    /// Puts a pseudonym in the place of an owner whose instances are all gone: in the records, then in the registry.
    ///
    /// # Errors
    /// [`ForgetError`]. The registry knows the owner until the records have forgotten it, so asking again goes on.
    pub async fn anonymize(&self, caller: &Caller, owner: &Owner) -> Result<Forgotten, ForgetError> {
        let world = &self.world;
        // What is destroyed by a registry from a backup may live.
        world.standing.check()?;
        let registered = world.store.owner_describe(owner).await?;
        if registered.is_empty() {
            return Err(ForgetError::NotFound);
        }
        let there = |reservation: &freehold_domain::reservation::Reservation| reservation.released_at.is_none();
        if let Some(one) = registered.iter().map(|one| &one.reservation).find(|reservation| there(reservation)) {
            return Err(StillThere(one.instance).into());
        }
        let kind = match owner {
            Owner::User(_) => "user",
            Owner::Org(_) => "org",
        };
        let pseudonym = format!("{kind}:erased-{}", world.mint_instance().simple());
        let pseudonym: Owner = pseudonym.parse().map_err(|_| StoreError::Corrupt("a pseudonym".to_owned()))?;
        let because =
            Because { actor: caller.actor, operation: None, reason: "its owner is to be forgotten".to_owned() };
        world.records.anonymize(owner, &pseudonym, &because).await?;
        let instances = world.store.owner_anonymize(owner, &pseudonym, Spec::bare().freeze()).await??;
        Ok(Forgotten { pseudonym, instances })
    }
}
