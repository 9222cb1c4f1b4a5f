//! What the janitor asks for: the removal of what nothing refers to, as an operation like any other.

use crate::event::EventKind;
use crate::ids::LeakId;
use crate::lease::Epoch;
use crate::operation::OperationKind;
use crate::protection::{Protection, stands};
use crate::reservation::{IllegalTransition, Status};
use crate::resource::Resource;
use crate::time::Timestamp;

use super::accept::replace;
use super::{Change, Commission, LeakChange, Refused, Run, fence};

/// Begins a sweep: what was found goes on record behind what is there, so that the instance's own stays the first of its
/// kind, and an operation removes it. Of a kind of which a complete instance has none on record it stays on record. What
/// is found after a release is a leak until it is gone.
///
/// # Errors
/// [`Refused::Fenced`] if the instance changed hands since it was judged; [`Refused::Illegal`] while anything is at work
/// or left to do, for what is a complete instance's own, and for nothing.
pub fn swept(
    run: &Run,
    held: Epoch,
    found: &[Resource],
    leak: LeakId,
    commission: &Commission,
    at: Timestamp,
) -> Result<Change, Refused> {
    fence(run, held)?;
    let from = run.reservation.status.name();
    let illegal = |change| Err(Refused::Illegal(IllegalTransition { from, change }));
    if !run.operation.status.is_over() && stands(Protection::BusyIsNotSwept) {
        return illegal("be swept while an operation is at work");
    }
    let released = match run.reservation.status {
        Status::InProgress | Status::NeedsReconciliation { .. } if !stands(Protection::BusyIsNotSwept) => false,
        Status::InProgress | Status::NeedsReconciliation { .. } => return illegal("be swept"),
        Status::Completed if run.reservation.intent.is_destroy() => return illegal("be swept: it is to be destroyed"),
        Status::Completed
            if found.iter().any(|resource| run.reservation.owns(resource)) && stands(Protection::OwnIsNotSwept) =>
        {
            return illegal("be swept of what is its own");
        }
        Status::Completed => false,
        Status::Released { .. } => true,
    };
    if found.is_empty() {
        return illegal("be swept of nothing");
    }
    let mut reservation = run.reservation.clone();
    for resource in found {
        if !reservation.resources.iter().any(|known| known.same_thing(resource)) {
            reservation.resources.push(resource.clone());
        }
    }
    // What was looked up before speaks of a world in which it was not there. Something was made, whatever was heard of
    // it, and has to be proven gone.
    reservation.lookups.clear();
    if released {
        reservation.unanswered = reservation.unanswered.max(1);
        reservation.last_sent_at.get_or_insert(at);
    }
    let mut change = replace(run, reservation, OperationKind::Sweep, None, commission, at);
    let things: Vec<_> = found.iter().map(|resource| format!("{} {}", resource.kind, resource.id)).collect();
    let things = things.join(", ");
    if released {
        let reason = format!("found after its release: {things}");
        change.leak = Some(LeakChange::Open { id: leak, reason: reason.clone() });
        change.tell(EventKind::ResourceLeaked, commission.actor, at, reason);
    } else {
        change.tell(EventKind::ResourceAdopted, commission.actor, at, format!("nothing refers to it: {things}"));
    }
    Ok(change)
}
