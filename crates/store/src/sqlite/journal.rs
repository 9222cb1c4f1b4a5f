//! What an executor commits: findings, intents and ends, each under its epoch.

use std::time::Duration;

use freehold_domain::ids::InstanceId;
use freehold_domain::lease::{Epoch, Lease};
use freehold_domain::resource::RuntimeState;
use freehold_domain::run::{self, Note, Refused, Run, Settle};
use freehold_domain::time::Timestamp;
use freehold_engine::ports::{Answer, StoreError};

use super::tx::Tx;

/// Commits a finding and what follows from it.
pub(super) fn note(tx: Tx<'_>, lease: &Lease, note: &Note) -> Result<Run, StoreError> {
    let loaded = tx.run_of(lease.instance)?;
    let change = run::noted(&loaded.run, lease.epoch, note)?;
    tx.write(&loaded, &change, None)?;
    Ok(change.run)
}

/// Commits an end, or the turn to cleaning up.
pub(super) fn settle(tx: Tx<'_>, lease: &Lease, settle: &Settle, answer: Option<&Answer>) -> Result<Run, StoreError> {
    let loaded = tx.run_of(lease.instance)?;
    let change = run::settled(&loaded.run, lease.epoch, settle)?;
    tx.write(&loaded, &change, answer)?;
    Ok(change.run)
}

/// Puts down what a look at a runtime saw between operations.
pub(super) fn watched(
    tx: Tx<'_>,
    instance: InstanceId,
    epoch: Epoch,
    state: &RuntimeState,
    at: Timestamp,
    check_at: Timestamp,
    settled_after: Duration,
) -> Result<(), StoreError> {
    let loaded = tx.run_of(instance)?;
    let change =
        run::watched(&loaded.run, epoch, state.clone(), at, check_at, settled_after).map_err(Refused::Fenced)?;
    tx.write(&loaded, &change, None)
}
