//! What people and the janitor ask for: destroy, work, sweep, repair, release.

use freehold_domain::event::Actor;
use freehold_domain::evidence::OperatorOverride;
use freehold_domain::ids::{InstanceId, LeakId};
use freehold_domain::lease::Epoch;
use freehold_domain::records::CanonicalSuccess;
use freehold_domain::reservation::IllegalTransition;
use freehold_domain::resource::Resource;
use freehold_domain::route::Endpoint;
use freehold_domain::run::{self, Begin, Destroy, Run, Work};
use freehold_domain::time::Timestamp;
use freehold_engine::ports::{Answer, Asked, DestroyAccepted, StoreError, WorkAccepted};

use super::error::corrupt;
use super::tx::Tx;

/// Accepts a destroy.
pub(super) fn destroy(
    tx: Tx<'_>,
    instance: InstanceId,
    reason: Option<&str>,
    asked: &Asked,
) -> Result<DestroyAccepted, StoreError> {
    let loaded = tx.run_of(instance)?;
    match run::destroyed(
        &loaded.run,
        reason.map(str::to_owned),
        &asked.commission(tx.now(), tx.lease_until()),
        tx.now(),
    ) {
        Destroy::Finished => Ok(DestroyAccepted::Finished),
        Destroy::Underway(operation) => Ok(DestroyAccepted::Underway(operation)),
        Destroy::Accepted(change) => {
            tx.write(&loaded, &change, None)?;
            let replaced = change.replaced.map(|operation| operation.id);
            Ok(DestroyAccepted::Accepted { run: Box::new(change.run), replaced })
        }
    }
}

/// Accepts work on a complete instance.
pub(super) fn work(tx: Tx<'_>, instance: InstanceId, work: &Work, asked: &Asked) -> Result<WorkAccepted, StoreError> {
    let loaded = tx.run_of(instance)?;
    match run::begun(&loaded.run, work.clone(), &asked.commission(tx.now(), tx.lease_until()), tx.now()) {
        Err(refused) => Ok(WorkAccepted::Refused(refused)),
        Ok(Begin::NothingToDo) => Ok(WorkAccepted::NothingToDo),
        Ok(Begin::Underway(operation)) => Ok(WorkAccepted::Underway(operation)),
        Ok(Begin::Accepted(change)) => {
            tx.write(&loaded, &change, None)?;
            let replaced = change.replaced.map(|operation| operation.id);
            Ok(WorkAccepted::Accepted { run: Box::new(change.run), replaced })
        }
    }
}

/// Begins a sweep of what nothing refers to.
pub(super) fn sweep(
    tx: Tx<'_>,
    instance: InstanceId,
    held: Epoch,
    found: &[Resource],
    leak: LeakId,
    asked: &Asked,
) -> Result<Run, StoreError> {
    let loaded = tx.run_of(instance)?;
    let change = run::swept(&loaded.run, held, found, leak, &asked.commission(tx.now(), tx.lease_until()), tx.now())?;
    tx.write(&loaded, &change, None)?;
    Ok(change.run)
}

/// Completes a reservation whose canonical success is proven.
pub(super) fn repair(
    tx: Tx<'_>,
    proof: &CanonicalSuccess,
    endpoint: &Endpoint,
    actor: Actor,
    at: Timestamp,
    check_at: Timestamp,
    answer: Option<&Answer>,
) -> Result<Result<Run, IllegalTransition>, StoreError> {
    let loaded = tx.run_of(proof.instance())?;
    match run::repaired(&loaded.run, proof, endpoint, actor, at, check_at) {
        Err(illegal) => Ok(Err(illegal)),
        Ok(change) => {
            tx.write(&loaded, &change, answer)?;
            Ok(Ok(change.run))
        }
    }
}

/// Releases a reservation on an operator's word, if it still is what the operator saw.
pub(super) fn release_override(
    tx: Tx<'_>,
    instance: InstanceId,
    expected: &str,
    said: &OperatorOverride,
    asked: &Asked,
) -> Result<Result<Run, IllegalTransition>, StoreError> {
    let loaded = tx.run_of(instance)?;
    let from = loaded.run.reservation.status.name();
    if from != expected {
        return Ok(Err(IllegalTransition { from, change: "be released as what it was when it was looked at" }));
    }
    // Evidence is not copied; what was said and the leak it opens establish it again.
    let said = OperatorOverride::establish(said.reason(), said.leak())
        .ok_or_else(|| corrupt("an override that was established and is not"))?;
    match run::overridden(&loaded.run, said, &asked.commission(tx.now(), tx.lease_until()), tx.now()) {
        Err(illegal) => Ok(Err(illegal)),
        Ok(change) => {
            tx.write(&loaded, &change, None)?;
            Ok(Ok(change.run))
        }
    }
}
