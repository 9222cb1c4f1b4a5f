//! What every request passes, once its route is known: an id, a key, a role, a rate; then the endpoint, whose panics end
//! here; then, on the way out, the problem's text, the metrics and the headers that are the same for all.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use freehold_api::Code;
use freehold_engine::ports::Entropy;
use futures_util::FutureExt as _;
use http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderName, HeaderValue};
use tracing::Instrument as _;

use super::access::{Guarded, Wire};
use super::extract::Caller;
use super::state::App;
use crate::auth::{Access, Door};
use crate::platform;
use crate::problems::{self, Refusal};
use crate::trpc::Shape;

/// Names a request, in the answer, in problems, in the log and in the operations that it asks for.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is taken over from a caller, in bytes.
const REQUEST_ID_BYTES_MAX: usize = 64;

/// The id of a request: the caller's, if it is sane, or one of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestId(pub(crate) HeaderValue);

impl RequestId {
    fn of(headers: &HeaderMap, entropy: &dyn Entropy) -> Self {
        let sane = |value: &&HeaderValue| {
            let bytes = value.as_bytes();
            (1..=REQUEST_ID_BYTES_MAX).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
        };
        headers.get(&REQUEST_ID).filter(sane).map_or_else(|| Self::mint(entropy), |value| Self(value.clone()))
    }

    fn mint(entropy: &dyn Entropy) -> Self {
        let mut chance = [0; 16];
        entropy.fill(&mut chance);
        let id = format!("{:032x}", u128::from_be_bytes(chance));
        Self(HeaderValue::from_maybe_shared(bytes::Bytes::from(id)).unwrap_or(HeaderValue::from_static("none")))
    }

    /// The id as text.
    pub(crate) fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

/// The middleware.
pub(crate) async fn edge(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let id = RequestId::of(request.headers(), app.control_plane.world().entropy.as_ref());
    let pattern = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let guarded = pattern.and_then(|pattern| app.access.find(pattern));
    let route = guarded.map_or("none", |guarded| guarded.route.as_ref());
    let shape = guarded
        .filter(|guarded| guarded.wire == Wire::Trpc)
        .map(|_| Arc::new(Shape::of(request.uri(), request.headers())));
    if let Some(shape) = &shape {
        request.extensions_mut().insert(Arc::clone(shape));
    }
    let span = tracing::info_span!("request", id = id.as_str(), method = %request.method(), route);
    let served = async {
        match admit(&app, guarded, &id, &mut request).await {
            Ok(()) => AssertUnwindSafe(next.run(request))
                .catch_unwind()
                .await
                .unwrap_or_else(|_| Refusal::broken(&"a handler panicked").into_response()),
            Err(refusal) => refusal.into_response(),
        }
    };
    let mut response = served.instrument(span.clone()).await;
    span.in_scope(|| finish(&app, guarded, shape.as_deref(), &id, begun, &mut response));
    response
}

/// Lets a request in, or says why not.
async fn admit(app: &App, guarded: Option<&Guarded>, id: &RequestId, request: &mut Request) -> Result<(), Refusal> {
    // What is no route has nothing to guard; it ends in 404.
    let door = guarded.map_or(Door::OPEN, |guarded| guarded.door(request.method()));
    if door.key != Access::Open {
        let bearer = match guarded.map(|guarded| guarded.wire).unwrap_or_default() {
            Wire::V1 | Wire::Trpc => app.keys.identify(request.headers()).await?,
            Wire::Platform => app.keys.identify_key(platform::key(request.headers())?).await?,
        };
        door.check(&bearer.role)?;
        let caller = Caller::new(&bearer, id);
        count(app, &caller)?;
        request.extensions_mut().insert(caller);
    }
    request.extensions_mut().insert(id.clone());
    Ok(())
}

/// Counts a request, or what is as much work as one.
pub(crate) fn count(app: &App, caller: &Caller) -> Result<(), Refusal> {
    if !caller.role.is_rate_limited() {
        return Ok(());
    }
    app.limiter.take(&caller.id).map_err(|wait| {
        let detail = "too many requests from this caller; slow down";
        freehold_api::Problem::new(Code::RateLimited, detail).retry_after(wait).into()
    })
}

fn finish(
    app: &App,
    guarded: Option<&Guarded>,
    shape: Option<&Shape>,
    id: &RequestId,
    begun: Instant,
    response: &mut Response,
) {
    if let Some(Refusal(mut problem)) = response.extensions_mut().remove::<Refusal>() {
        if problem.code == Code::ProvisionCompletionPending {
            app.metrics.completion_pending();
        }
        problem.request_id.get_or_insert_with(|| id.as_str().to_owned());
        match (shape, guarded.map(|guarded| guarded.wire).unwrap_or_default()) {
            (Some(shape), _) => shape.refuse(&problem, response),
            (None, Wire::Platform) => platform::write(&problem, response),
            (None, Wire::V1 | Wire::Trpc) => problems::write(&problem, response),
        }
    }
    let proxied = response.extensions_mut().remove::<Proxied>().is_some();
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id.0.clone());
    if !proxied {
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    }
    let status = response.status();
    if let Some(guarded) = guarded {
        app.metrics.http_request(&guarded.route, status.as_u16(), begun.elapsed());
    }
    if status.is_server_error() {
        tracing::warn!(status = status.as_u16(), "answered");
    } else {
        tracing::debug!(status = status.as_u16(), "answered");
    }
}

/// Marks an answer that is an instance's own: its headers are left alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Proxied;

#[cfg(test)]
mod tests {
    use super::*;

    struct Ones;

    impl Entropy for Ones {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(0x11);
        }
    }

    fn id(value: &'static str) -> String {
        let headers = HeaderMap::from_iter([(REQUEST_ID, HeaderValue::from_static(value))]);
        RequestId::of(&headers, &Ones).as_str().to_owned()
    }

    #[test]
    fn a_sane_request_id_is_kept_and_any_other_replaced() {
        let minted = "11".repeat(16);
        assert_eq!(RequestId::of(&HeaderMap::new(), &Ones).as_str(), minted);
        assert_eq!(id("abc-123"), "abc-123");
        assert_eq!(id(""), minted);
        assert_eq!(id("two words"), minted);
        assert_eq!(id("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"), minted, "65 bytes");
    }
}
