//! A limit on silence rather than on time: an upload may take hours as long as it moves, and an answer may take a while
//! once the upload is done, but nobody waits for ever for an instance that does neither.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::time::Instant;

/// A body that remembers when the other side last took something of it.
pub(super) struct Watched {
    body: Body,
    moved: Arc<Mutex<Instant>>,
}

/// When the body last moved.
pub(super) struct Moved(Arc<Mutex<Instant>>);

impl Watched {
    pub(super) fn new(body: Body) -> (Self, Moved) {
        let moved = Arc::new(Mutex::new(Instant::now()));
        (Self { body, moved: Arc::clone(&moved) }, Moved(moved))
    }
}

impl hyper::body::Body for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = hyper::body::Body::poll_frame(Pin::new(&mut self.body), context);
        if frame.is_ready() {
            *self.moved.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        hyper::body::Body::is_end_stream(&self.body)
    }

    fn size_hint(&self) -> SizeHint {
        hyper::body::Body::size_hint(&self.body)
    }
}

impl Moved {
    /// What `work` comes to; `None` once nothing moved for `span`.
    pub(super) async fn silent_for<T>(&self, span: Duration, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        loop {
            let until = *self.0.lock().unwrap_or_else(PoisonError::into_inner) + span;
            match tokio::time::timeout_at(until, work.as_mut()).await {
                Ok(done) => return Some(done),
                Err(_) if *self.0.lock().unwrap_or_else(PoisonError::into_inner) + span <= Instant::now() => {
                    return None;
                }
                Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, stream};
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_moves_may_take_long_and_what_does_not_is_given_up() {
        let second = Duration::from_secs(1);
        let slow = stream::iter(0..10).then(move |_| async move {
            tokio::time::sleep(second).await;
            Ok::<_, std::io::Error>("x")
        });
        let (mut body, moved) = Watched::new(Body::from_stream(slow));
        let upload = async move { while body.frame().await.is_some() {} };
        let begun = Instant::now();
        assert_eq!(moved.silent_for(2 * second, upload).await, Some(()));
        assert_eq!(begun.elapsed(), 10 * second);
        assert_eq!(moved.silent_for(2 * second, std::future::pending::<()>()).await, None);
        assert_eq!(begun.elapsed(), 12 * second);
    }
}
