//! Many things at once in one thread. Every call to a port yields before and after, the scheduler polls one task at a
//! time, and which one is a matter of the seed. A task that is dropped between two polls is a process that died there.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use freehold_domain::ids::OperationId;
use freehold_domain::time::Timestamp;

use crate::places::Place;

/// Lets everybody else go first, once.
#[derive(Debug, Default)]
pub struct Yield(bool);

impl Future for Yield {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if self.0 {
            return Poll::Ready(());
        }
        self.0 = true;
        Poll::Pending
    }
}

static NEXT: AtomicU64 = AtomicU64::new(0);

/// What a task tells when it is done.
pub type Told = String;

/// Something under way on a node.
pub struct Task {
    /// Its own, in this process.
    pub number: u64,
    /// On which node, by its number.
    pub node: usize,
    /// For people who read the history.
    pub name: String,
    /// Where its executor was last.
    pub at: Option<Place>,
    /// The operation that it runs, if it runs one.
    pub operation: Option<OperationId>,
    /// Until when its call is stuck on its way, if it is.
    pub stuck_until: Option<Timestamp>,
    future: Pin<Box<dyn Future<Output = Told>>>,
}

impl Task {
    /// A task of a node.
    pub fn new(node: usize, name: impl Into<String>, future: impl Future<Output = Told> + 'static) -> Self {
        Self {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            node,
            name: name.into(),
            at: None,
            operation: None,
            stuck_until: None,
            future: Box::pin(future),
        }
    }

    /// Goes on until the next call to a port. What it tells, once it is done.
    pub fn go_on(&mut self) -> Option<Told> {
        let mut context = Context::from_waker(Waker::noop());
        match self.future.as_mut().poll(&mut context) {
            Poll::Ready(told) => Some(told),
            Poll::Pending => None,
        }
    }
}

/// The value of a future that waits for nobody.
///
/// # Panics
/// When it does wait.
pub fn at_once<T>(future: impl Future<Output = T>) -> T {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("what is asked without a wire waits for nobody"),
    }
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task").field("node", &self.node).field("name", &self.name).finish_non_exhaustive()
    }
}
