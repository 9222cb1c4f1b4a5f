//! Where requests wait for operations. Nobody waits on anybody's work here: a waiter looks at the store, sleeps until it
//! hears of a change or a second has passed, and looks again.
//!
//! A waiter subscribes before it looks, so a change between its look and its sleep wakes it. A change that is not heard
//! at all (another node made it, the process that made it died) costs at most [`RELOOK_EVERY`]. What is kept is one
//! entry per operation that somebody waits for, gone with the last waiter; connections are limited, so this is too.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use freehold_domain::ids::{InstanceId, OperationId};
use freehold_domain::operation::OperationStatus;
use freehold_engine::control_plane::{ControlPlane, ReadError};
use freehold_engine::ports::OperationView;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::limits::RELOOK_EVERY;

/// Hears of changes, and wakes whoever waits for them.
#[derive(Debug)]
pub struct Hub {
    waited_for: Mutex<HashMap<OperationId, watch::Sender<()>>>,
    anything: watch::Sender<()>,
}

impl Hub {
    /// With nobody waiting.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self { waited_for: Mutex::default(), anything: watch::Sender::new(()) })
    }

    /// Something about an operation was committed. The binary's `Driver::changed` calls this; it never blocks.
    pub fn changed(&self, _: InstanceId, operation: OperationId) {
        if let Some(waiters) = self.table().get(&operation) {
            waiters.send_replace(());
        }
        self.anything.send_replace(());
    }

    /// Waits until an operation is answered: over, turned to cleaning up, or with its answer on record. Once the
    /// deadline is past it answers with the operation as it is.
    ///
    /// # Errors
    /// [`ReadError`]: at once if there is no such operation, at the deadline if the store does not answer.
    pub async fn wait_for(
        self: &Arc<Self>,
        control_plane: &ControlPlane,
        operation: OperationId,
        deadline: Instant,
    ) -> Result<OperationView, ReadError> {
        self.wait_until(control_plane, operation, deadline, is_answered).await
    }

    pub(crate) async fn wait_until(
        self: &Arc<Self>,
        control_plane: &ControlPlane,
        operation: OperationId,
        deadline: Instant,
        enough: fn(&OperationView) -> bool,
    ) -> Result<OperationView, ReadError> {
        let mut changes = self.listen(operation);
        loop {
            let seen = control_plane.operation(operation).await;
            // Nothing is carried out in quarantine, so nobody waits for it.
            let late = Instant::now() >= deadline || !control_plane.world().standing.may_act();
            match seen {
                Ok(view) if late || enough(&view) => return Ok(view),
                Err(ReadError::NotFound) => return Err(ReadError::NotFound),
                Err(error) if late => return Err(error),
                Ok(_) | Err(_) => changes.heard(deadline).await,
            }
        }
    }

    /// Listens for changes of one operation from this moment on.
    pub(crate) fn listen(self: &Arc<Self>, operation: OperationId) -> Listening {
        let changes = self.table().entry(operation).or_default().subscribe();
        Listening { changes, of: Some((Arc::clone(self), operation)) }
    }

    /// Listens for changes of anything from this moment on.
    pub(crate) fn listen_to_all(&self) -> Listening {
        Listening { changes: self.anything.subscribe(), of: None }
    }

    fn table(&self) -> MutexGuard<'_, HashMap<OperationId, watch::Sender<()>>> {
        self.waited_for.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether there is something to tell the caller of a provision.
pub(crate) fn is_answered(view: &OperationView) -> bool {
    is_over(view) || view.answer.is_some() || view.operation.status == OperationStatus::Reconciling
}

/// Whether no executor will touch it again.
pub(crate) fn is_over(view: &OperationView) -> bool {
    view.operation.status.is_over()
}

/// An ear that was there before the look.
#[derive(Debug)]
pub(crate) struct Listening {
    changes: watch::Receiver<()>,
    of: Option<(Arc<Hub>, OperationId)>,
}

impl Listening {
    /// Returns once there was a change since the last call, it is time to look anyway, or the deadline is past.
    pub(crate) async fn heard(&mut self, deadline: Instant) {
        let until = deadline.min(Instant::now() + RELOOK_EVERY);
        // A time-out, a change, and (never, while the hub lives) a closed channel all mean: look again.
        let _ = timeout_at(until, self.changes.changed()).await;
    }

    /// The same without a deadline.
    pub(crate) async fn heard_or_due(&mut self) {
        self.heard(Instant::now() + RELOOK_EVERY).await;
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some((hub, operation)) = &self.of {
            let mut table = hub.table();
            // The ear goes while the table is held, or two that leave at once would each leave the entry to the other.
            self.changes = hub.anything.subscribe();
            if table.get(operation).is_some_and(|waiters| waiters.receiver_count() == 0) {
                table.remove(operation);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn ids(chance: u8) -> (InstanceId, OperationId) {
        (InstanceId::mint(1, [chance; 10]), OperationId::mint(1, [chance; 10]))
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_between_the_look_and_the_sleep_is_heard() {
        let hub = Hub::new();
        let (instance, operation) = ids(1);
        let mut waiter = hub.listen(operation);
        hub.changed(instance, operation);
        let begun = Instant::now();
        waiter.heard(begun + Duration::from_secs(60)).await;
        assert_eq!(begun.elapsed(), Duration::ZERO, "no wake-up is lost");
        waiter.heard(begun + Duration::from_secs(60)).await;
        assert_eq!(begun.elapsed(), RELOOK_EVERY, "silence is not trusted for longer");
        waiter.heard(begun + RELOOK_EVERY + Duration::from_millis(5)).await;
        assert_eq!(begun.elapsed(), RELOOK_EVERY + Duration::from_millis(5), "a deadline is kept");
    }

    #[tokio::test(start_paused = true)]
    async fn other_operations_make_no_noise_except_for_those_who_listen_to_all() {
        let hub = Hub::new();
        let mut waiter = hub.listen(ids(1).1);
        let mut all = hub.listen_to_all();
        hub.changed(ids(2).0, ids(2).1);
        let begun = Instant::now();
        all.heard_or_due().await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
        waiter.heard_or_due().await;
        assert_eq!(begun.elapsed(), RELOOK_EVERY);
    }

    #[test]
    fn what_nobody_waits_for_is_forgotten() {
        let hub = Hub::new();
        let (first, second) = (hub.listen(ids(1).1), hub.listen(ids(1).1));
        drop(first);
        assert_eq!(hub.table().len(), 1);
        drop(second);
        assert!(hub.table().is_empty());
    }
}
