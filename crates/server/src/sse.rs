//! Server-sent events: every stream ends when the server stops, and says now and then that it is alive.

use std::convert::Infallible;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::{Stream, StreamExt as _};
use http::{HeaderName, HeaderValue};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::limits::KEEP_ALIVE_EVERY;

/// Asks nginx and its kin not to hold events back.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// An event whose data is JSON.
pub(crate) fn event<T: Serialize>(name: &str, data: &T) -> Event {
    let json = serde_json::to_string(data).unwrap_or_default();
    Event::default().event(name).data(json)
}

/// The answer that streams events until there are no more or the server stops.
pub(crate) fn response(events: impl Stream<Item = Event> + Send + 'static, shutdown: CancellationToken) -> Response {
    let events = events.take_until(shutdown.cancelled_owned()).map(Ok::<_, Infallible>);
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE_EVERY)).into_response();
    response.headers_mut().insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_silent_stream_says_that_it_is_alive_and_ends_with_the_server() {
        let shutdown = CancellationToken::new();
        let one = stream::iter([event("greeting", &"hi")]).chain(stream::pending());
        let mut body = response(one, shutdown.clone()).into_body();
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(frame, "event: greeting\ndata: \"hi\"\n\n");
        let begun = tokio::time::Instant::now();
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(frame.starts_with(b":"), "{frame:?}");
        assert_eq!(begun.elapsed(), KEEP_ALIVE_EVERY);
        shutdown.cancel();
        assert!(body.frame().await.is_none());
    }
}
