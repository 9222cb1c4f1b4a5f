//! Complete instances whose runtime does something else than it should: what went away by itself is brought back, with
//! growing waits, and the rest is put down for readers.
//!
//! An instance that nobody pays for at the moment is not brought back, and is stopped where it was left running.
//!
//! An instance whose storage or base was removed behind our back is told of and left as it is: a runtime that is brought
//! back without them would begin anew and look well.

use std::time::Duration;

use freehold_domain::event::{Actor, EventKind};
use freehold_domain::ids::InstanceId;
use freehold_domain::operation::OperationKind;
use freehold_domain::reservation::{Power, Reservation};
use freehold_domain::resource::{Custody, Observation, Resource, RuntimeState};
use freehold_domain::run::Work;
use freehold_domain::time::Timestamp;

use super::records;
use crate::ports::{Claimed, Registered, StoreError, WorkAccepted};
use crate::world::World;

/// Looks at every instance that is to be looked at, at most `limit`. Answers how many it looked at. One that cannot be
/// looked at holds up none behind it. Nothing is looked at while the registry is in quarantine.
///
/// # Errors
/// The first [`StoreError`], once all had their turn; what was not looked at stays due.
pub async fn pass(world: &World, limit: usize) -> Result<usize, StoreError> {
    if !world.standing.may_act() {
        return Ok(0);
    }
    let due = world.store.checks_due(limit, &world.duty.elsewhere().watched).await?;
    let mut outcome = Ok(due.len());
    for &instance in &due {
        if let Err(error) = look_after(world, instance).await {
            tracing::warn!(%instance, %error, "an instance could not be looked after");
            outcome = outcome.and(Err(error));
        }
    }
    outcome
}

/// Looks at one instance, whether it is due or not.
///
/// # Errors
/// [`StoreError`].
pub async fn look_after(world: &World, instance: InstanceId) -> Result<(), StoreError> {
    let Some(registered) = world.store.instance_describe(instance).await? else { return Ok(()) };
    compare(world, &registered).await;
    let reservation = registered.reservation;
    // A sweep works on other resources than the instance's own: a runtime is looked after meanwhile as before.
    let sweeping = registered.operation.kind == OperationKind::Sweep;
    let begun_at = if sweeping { registered.operation.started_at } else { reservation.updated_at };
    let since = registered.operation.finished_at.unwrap_or(begun_at);
    // A clock that is behind the others does not turn back what is on record.
    let now = world.clock.now().max(reservation.updated_at);
    let mut seen = look(world, &reservation).await;
    if seen.as_ref().is_some_and(|observation| reservation.lost(observation).is_some()) {
        // A list that leaves something out once is no reason to alarm anybody.
        seen = look(world, &reservation).await;
    }
    let lost = seen.as_ref().and_then(|observation| reservation.lost(observation));
    // By its tags it may be somebody else's by now.
    let is_taken = seen.as_ref().zip(lost).is_some_and(|(observation, lost)| {
        let mut foreign = observation.found.iter().filter(|found| found.custody == Custody::Foreign);
        foreign.any(|found| found.resource.same_thing(lost))
    });
    let seen = match lost {
        Some(Resource { kind, id, region: _, handle: _ }) if is_taken => {
            Some(RuntimeState::Exited(format!("its {kind} {id} does not carry its tags any more")))
        }
        Some(Resource { kind, id, region: _, handle: _ }) => {
            Some(RuntimeState::Exited(format!("its {kind} {id} is gone, and nobody here removed it")))
        }
        None => seen.map(|observation| observation.runtime),
    };
    // No answer proves nothing: keep what was known, and look again.
    let known = reservation.runtime.as_ref().map_or(RuntimeState::Starting, |(state, _)| state.clone());
    let state = seen.clone().unwrap_or(known);
    let down = matches!(seen, Some(RuntimeState::Exited(_) | RuntimeState::Missing | RuntimeState::Stopped));
    let too_slow = seen == Some(RuntimeState::Starting) && now.since(since) >= world.policy.starting_timeout;
    let idle = registered.operation.status.is_over() || sweeping;
    let is_standing = reservation.is_active() && idle;
    let wanted = reservation.power == Power::On && is_standing && lost.is_none();
    let check_at = world.policy.check_at(now, Some(&state), since, instance.as_bytes()[15]);
    if is_standing && reservation.power == Power::On && is_suspended(world, instance).await {
        return hold(world, instance).await;
    }
    if wanted && (down || too_slow) && now >= patience_over(world, &reservation, since) {
        let why = "the runtime went away by itself; bringing it back";
        return begin(world, instance, Work::Recover, why).await;
    }
    // Only a runtime that was seen to stay up has earned short waits again.
    let settled_after = if seen.is_some() { world.policy.running_check } else { Duration::MAX };
    match world.store.watched(instance, reservation.epoch, state.clone(), now, check_at, settled_after).await {
        Ok(()) => match lost.filter(|_| is_standing) {
            Some(resource) => {
                let kind = if is_taken { EventKind::ResourceQuarantined } else { EventKind::ResourceLost };
                tell_lost(world, &reservation, kind, resource, &state).await
            }
            None => Ok(()),
        },
        // It changed hands while it was looked at: whoever has it now knows better, and may have removed what is gone.
        Err(StoreError::Refused(_) | StoreError::Missing(_)) => Ok(()),
        Err(
            error @ (StoreError::Unavailable(_)
            | StoreError::Unknown(_)
            | StoreError::Corrupt(_)
            | StoreError::Quarantined(_)),
        ) => Err(error),
    }
}

/// Looks whether the records still say the same. That they do not answer holds up nothing: they are asked again.
async fn compare(world: &World, registered: &Registered) {
    let instance = registered.reservation.instance;
    let compared = async {
        let view = world.records.describe(instance).await?;
        records::agree(world, registered, &view).await
    };
    if let Err(error) = compared.await {
        tracing::warn!(%instance, %error, "an instance could not be compared with its records");
    }
}

/// What is there, if that is sure.
async fn look(world: &World, reservation: &Reservation) -> Option<Observation> {
    let provider = world.provider(&reservation.provider)?;
    let seen = provider.observe(&world.idents.of_reservation(reservation)).await;
    let outcome = if seen.is_ok() { "answered" } else { "unanswered" };
    world.meter.provider_request(reservation.provider.as_str(), "observe", outcome);
    seen.ok().filter(|observation| observation.conclusive)
}

/// Tells of what is gone, or somebody else's: once, because the state that says so is on record from then on.
async fn tell_lost(
    world: &World,
    reservation: &Reservation,
    kind: EventKind,
    lost: &Resource,
    state: &RuntimeState,
) -> Result<(), StoreError> {
    if reservation.runtime.as_ref().is_some_and(|(known, _)| known == state) {
        return Ok(());
    }
    let (instance, detail) = (reservation.instance, format!("{} {}", lost.kind, lost.id));
    tracing::error!(%instance, lost = detail, "what an instance stands on is gone or taken, and nobody here did that");
    world.store.witness(instance, kind, Actor::System, world.clock.now(), detail).await
}

/// When a runtime that keeps going down may be brought back again: doubling waits, so that a program that cannot run
/// does not keep the machine busy.
fn patience_over(world: &World, reservation: &Reservation, since: Timestamp) -> Timestamp {
    let doublings = reservation.recoveries.min(16);
    let wait = world.policy.retry_min.saturating_mul(1 << doublings).min(world.policy.retry_max);
    since.plus(if reservation.recoveries == 0 { Duration::ZERO } else { wait })
}

/// Whether the records say that it is not to run. Records that do not answer change nothing: it is asked again.
async fn is_suspended(world: &World, instance: InstanceId) -> bool {
    world.records.describe(instance).await.is_ok_and(|records| records.is_suspended())
}

/// Stops what nobody pays for. Where it was resumed between the look and the stop, the stop came too late and is undone.
async fn hold(world: &World, instance: InstanceId) -> Result<(), StoreError> {
    begin(world, instance, Work::Stop, "nobody pays for it at the moment; stopping it").await?;
    match world.records.describe(instance).await {
        Ok(records) if records.subscription_is_active() && !records.is_suspended() => {
            begin(world, instance, Work::Start, "it is paid for again; starting it").await
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

async fn begin(world: &World, instance: InstanceId, work: Work, why: &str) -> Result<(), StoreError> {
    let asked_at = world.clock.monotonic();
    let asked = world.asked_by_itself("drift");
    match world.store.work_begin(instance, work, asked).await {
        Ok(WorkAccepted::Accepted { run, .. }) => {
            tracing::info!(%instance, "{why}");
            world.driver.changed(instance, run.operation.id);
            if let Some(lease) = run.lease() {
                world.driver.run(Claimed { run: *run, lease, asked_at });
            }
            Ok(())
        }
        Ok(WorkAccepted::NothingToDo | WorkAccepted::Underway(_) | WorkAccepted::Refused(_)) => Ok(()),
        Err(StoreError::Missing(_)) => Ok(()),
        Err(error) => Err(error),
    }
}
