//! Work that outlives the connection that asked for it.
//!
//! A client that goes away makes the server drop the future that serves it. Between a commit and the hint that wakes the
//! executor that would cost a lease; so such work is finished in the background instead.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Runs a future where it is awaited, and goes on in a task of its own if it is dropped half done.
pub(crate) fn finishing<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Finishing<T> {
    Finishing { work: Some(Box::pin(work)), begun: false }
}

/// See [`finishing`].
pub(crate) struct Finishing<T: Send + 'static> {
    work: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    begun: bool,
}

impl<T: Send + 'static> Future for Finishing<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        self.begun = true;
        let Some(work) = self.work.as_mut() else { return Poll::Pending };
        let done = work.as_mut().poll(context);
        if done.is_ready() {
            self.work = None;
        }
        done
    }
}

impl<T: Send + 'static> Drop for Finishing<T> {
    fn drop(&mut self) {
        let Some(work) = self.work.take().filter(|_| self.begun && !std::thread::panicking()) else { return };
        // Without a runtime the process is ending, and the lease does what the hint would have done.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let span = tracing::Span::current();
            runtime.spawn(tracing::Instrument::instrument(work, span));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn what_was_begun_is_finished_without_its_caller() {
        let (go, gone) = oneshot::channel::<()>();
        let (told, heard) = oneshot::channel();
        let work = finishing(async move {
            gone.await.unwrap();
            told.send("done").unwrap();
        });
        assert!(tokio::time::timeout(Duration::from_millis(1), work).await.is_err(), "the caller goes away");
        go.send(()).unwrap();
        assert_eq!(heard.await, Ok("done"));
    }

    #[tokio::test]
    async fn what_was_never_begun_is_not_begun() {
        let (told, heard) = oneshot::channel::<()>();
        drop(finishing(async move { told.send(()) }));
        assert!(heard.await.is_err());
    }
}
