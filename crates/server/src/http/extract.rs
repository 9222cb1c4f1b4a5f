//! What endpoints take from a request, each with the problem of a request that does not have it.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use bytes::Bytes;
use freehold_api::idempotency::{self, IdempotencyKey};
use freehold_api::{Code, Prefer, prefer};
use freehold_domain::ids::{InstanceId, LeakId, OperationId};
use freehold_domain::lease::NodeId;
use freehold_domain::owner::Owner;
use freehold_engine::control_plane;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout};

use super::edge::RequestId;
use super::state::App;
use crate::auth::{Bearer, Role};
use crate::limits::{BODY_BYTES_MAX, BODY_READ_MAX};
use crate::problems::{self, Refusal};
use crate::users::{Scope, User};

/// Who asks, and in which request. Only requests that showed a key or a token have one.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// As the engine knows it.
    pub(crate) engine: control_plane::Caller,
    /// Names the caller among all.
    pub(crate) id: Arc<str>,
    /// What it may do.
    pub(crate) role: Role,
    /// What it sees.
    pub(crate) scope: Scope,
}

impl Caller {
    pub(crate) fn new(bearer: &Bearer, request: &RequestId) -> Self {
        let engine = control_plane::Caller { actor: bearer.role.actor(), request_id: request.as_str().to_owned() };
        Self { engine, id: Arc::clone(&bearer.id), role: bearer.role.clone(), scope: bearer.role.scope() }
    }

    /// What it names, once it is sure that it may know of it.
    ///
    /// # Errors
    /// Whatever is not its own is answered like what is not there.
    pub(crate) async fn named<T: Named>(&self, app: &App, text: &str) -> Result<T, Refusal> {
        let named = T::read(text)?;
        match &self.scope {
            Scope::Everything => {}
            Scope::Of(user) => named.is_own(app, user).await?,
        }
        Ok(named)
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        parts
            .extensions
            .get()
            .cloned()
            .ok_or_else(|| Refusal::broken(&"an endpoint that needs a caller is open to all"))
    }
}

/// A JSON body of at most [`BODY_BYTES_MAX`].
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        if !says_json(request.headers()) {
            return Err(not_json());
        }
        Ok(Self(freehold_api::json::read(&bytes_of(request).await?)?))
    }
}

/// A JSON body of at most [`BODY_BYTES_MAX`], or none.
pub(crate) struct OptionalBody<T>(pub(crate) Option<T>);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for OptionalBody<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        if request.headers().contains_key(CONTENT_TYPE) {
            return JsonBody::from_request(request, state).await.map(|JsonBody(body)| Self(Some(body)));
        }
        let body = bytes_of(request).await?;
        if body.is_empty() { Ok(Self(None)) } else { Err(not_json()) }
    }
}

/// A body of at most [`BODY_BYTES_MAX`], byte for byte.
pub(crate) struct RawBody(pub(crate) Bytes);

impl<S: Sync> FromRequest<S> for RawBody {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        bytes_of(request).await.map(Self)
    }
}

/// A body of at most [`BODY_BYTES_MAX`], whatever it is.
pub(crate) async fn bytes_of(request: Request) -> Result<Bytes, Refusal> {
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|bytes: u64| bytes > BODY_BYTES_MAX as u64) {
        return Err(too_large());
    }
    match timeout(BODY_READ_MAX, Limited::new(request.into_body(), BODY_BYTES_MAX).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Refusal::new(Code::MalformedJson, "the body was cut off")),
        Err(_) => {
            let detail = format!("the body did not arrive within {} s", BODY_READ_MAX.as_secs());
            Err(Refusal::new(Code::RequestTimeout, detail))
        }
    }
}

/// Whether a body is said to be JSON.
pub(crate) fn says_json(headers: &HeaderMap) -> bool {
    let said = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    said.split(';').next().is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

fn not_json() -> Refusal {
    Refusal::new(Code::UnsupportedMediaType, "send the body as `content-type: application/json`")
}

fn too_large() -> Refusal {
    Refusal::new(Code::PayloadTooLarge, format!("the body is longer than {BODY_BYTES_MAX} bytes"))
}

/// A query that has nothing but what the route knows.
pub(crate) struct Params<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(params)) => Ok(Self(params)),
            Err(rejection) => {
                let why =
                    std::error::Error::source(&rejection).map_or_else(|| rejection.to_string(), ToString::to_string);
                Err(Refusal::new(Code::InvalidRequest, format!("the query is not what this route takes: {why}")))
            }
        }
    }
}

/// A parameter of the query, or a header that stands for one, that cannot be used.
pub(crate) fn bad_param(name: &str, why: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::InvalidRequest, format!("`{name}`: {why}"))
}

/// Reads a parameter of the query.
pub(crate) fn param<T: FromStr<Err: std::fmt::Display>>(name: &str, text: Option<&str>) -> Result<Option<T>, Refusal> {
    text.map(str::parse).transpose().map_err(|why| bad_param(name, why))
}

/// How many rows to answer with at most.
pub(crate) fn page(limit: Option<u32>) -> Result<usize, Refusal> {
    use freehold_api::v1::{PAGE_DEFAULT, PAGE_MAX};
    let limit = limit.unwrap_or(PAGE_DEFAULT);
    let fits = (1..=PAGE_MAX).contains(&limit);
    fits.then_some(limit as usize).ok_or_else(|| bad_param("limit", format!("takes 1 to {PAGE_MAX}")))
}

/// What the path names. An end user gets nothing here but what is its own, so no handler can forget to ask.
pub(crate) struct At<T>(pub(crate) T);

/// Something that a path can name.
pub(crate) trait Named: Sized + Send + Sync {
    /// Reads the name.
    fn read(text: &str) -> Result<Self, Refusal>;

    /// Whether it is an end user's own; if not, the same refusal as for what is not there.
    fn is_own(&self, app: &App, user: &User) -> impl Future<Output = Result<(), Refusal>> + Send;
}

fn read_id<T: FromStr<Err: std::fmt::Display>>(text: &str, missing: Code) -> Result<T, Refusal> {
    text.parse().map_err(|why| match text.parse::<uuid::Uuid>() {
        // An id, only none of ours.
        Ok(_) => problems::not_found(missing).into(),
        Err(_) => Refusal::new(Code::InvalidRequest, format!("`{}` is {why}", shown(text))),
    })
}

fn own(is: bool, missing: Code) -> Result<(), Refusal> {
    if is { Ok(()) } else { Err(problems::not_found(missing).into()) }
}

impl Named for InstanceId {
    fn read(text: &str) -> Result<Self, Refusal> {
        read_id(text, Code::InstanceNotFound)
    }

    async fn is_own(&self, app: &App, user: &User) -> Result<(), Refusal> {
        let found = app.control_plane.world().store.route_lookup(*self).await;
        let found = found.map_err(|error| problems::store(&error, Code::InstanceNotFound))?;
        own(found.is_some_and(|entry| user.has(&entry.context)), Code::InstanceNotFound)
    }
}

impl Named for OperationId {
    fn read(text: &str) -> Result<Self, Refusal> {
        read_id(text, Code::OperationNotFound)
    }

    async fn is_own(&self, app: &App, user: &User) -> Result<(), Refusal> {
        let found = app.control_plane.world().store.operation_describe(*self).await;
        let found = found.map_err(|error| problems::store(&error, Code::OperationNotFound))?;
        own(found.is_some_and(|view| user.has(&view.reservation.context)), Code::OperationNotFound)
    }
}

impl Named for LeakId {
    fn read(text: &str) -> Result<Self, Refusal> {
        read_id(text, Code::NotFound)
    }

    async fn is_own(&self, _: &App, _: &User) -> Result<(), Refusal> {
        own(false, Code::NotFound)
    }
}

impl Named for NodeId {
    fn read(text: &str) -> Result<Self, Refusal> {
        text.parse().map_err(|why| Refusal::new(Code::InvalidRequest, format!("the node in the path: {why}")))
    }

    async fn is_own(&self, _: &App, _: &User) -> Result<(), Refusal> {
        own(false, Code::NodeNotFound)
    }
}

impl Named for Owner {
    fn read(text: &str) -> Result<Self, Refusal> {
        text.parse().map_err(|why| Refusal::new(Code::InvalidRequest, format!("the owner in the path: {why}")))
    }

    async fn is_own(&self, _: &App, user: &User) -> Result<(), Refusal> {
        own(user.may_be(self), Code::OwnerNotFound)
    }
}

/// What a caller wrote, short enough to be repeated.
fn shown(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_default).collect()
}

impl<T: Named> FromRequestParts<Arc<App>> for At<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<App>) -> Result<Self, Refusal> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|why| Refusal::new(Code::InvalidRequest, format!("the path cannot be read: {why}")))?;
        match parts.extensions.get::<Caller>().cloned() {
            Some(caller) => caller.named(state, &text).await.map(Self),
            // A route that is open to all names nothing that is anybody's.
            None => T::read(&text).map(Self),
        }
    }
}

/// How long the caller wants to wait for the outcome.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait(Prefer);

impl Wait {
    /// When waiting ends.
    pub(crate) fn deadline(self, app: &App) -> Instant {
        Instant::now() + self.span(app)
    }

    pub(crate) fn span(self, app: &App) -> Duration {
        self.0.wait_or(app.settings.default_wait)
    }
}

impl<S: Sync> FromRequestParts<S> for Wait {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let wishes = parts.headers.get_all(prefer::HEADER).iter();
        Ok(Self(Prefer::parse(wishes.filter_map(|value| value.to_str().ok()))))
    }
}

/// The caller's idempotency key, if it sent one.
pub(crate) struct Key(pub(crate) Option<IdempotencyKey>);

impl<S: Sync> FromRequestParts<S> for Key {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        read_key(&parts.headers).map(Self)
    }
}

fn read_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Refusal> {
    let invalid = |why: &dyn std::fmt::Display| Refusal::new(Code::IdempotencyKeyInvalid, why.to_string());
    let mut values = headers.get_all(idempotency::HEADER).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => IdempotencyKey::parse(value.as_bytes()).map(Some).map_err(|why| invalid(&why)),
        (Some(_), Some(_)) => Err(invalid(&"the header is there more than once")),
    }
}

/// An answer in JSON.
pub(crate) fn json<T: serde::Serialize>(status: http::StatusCode, value: &T) -> axum::response::Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => bytes_as(status, HeaderValue::from_static("application/json"), Body::from(bytes)),
        Err(error) => axum::response::IntoResponse::into_response(Refusal::broken(&error)),
    }
}

/// An answer of a media type.
pub(crate) fn bytes_as(status: http::StatusCode, media_type: HeaderValue, body: Body) -> axum::response::Response {
    let mut response = axum::response::Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn body(content_type: &'static str, body: &'static str) -> Result<serde_json::Value, Code> {
        let request = Request::builder().header(CONTENT_TYPE, content_type).body(Body::from(body)).unwrap();
        JsonBody::from_request(request, &()).await.map(|JsonBody(value)| value).map_err(|refusal| refusal.0.code)
    }

    #[tokio::test]
    async fn a_body_is_json_and_says_so() {
        assert!(body("application/json", "{}").await.is_ok());
        assert!(body("Application/JSON; charset=utf-8", "{}").await.is_ok());
        for other in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""] {
            assert_eq!(body(other, "{}").await, Err(Code::UnsupportedMediaType), "{other}");
        }
        assert_eq!(body("application/json", "{").await, Err(Code::MalformedJson));
    }

    #[tokio::test]
    async fn a_long_body_is_refused_whether_it_is_announced_or_not() {
        for announced in [true, false] {
            let long = vec![b' '; BODY_BYTES_MAX + 1];
            let chunks = futures_util::stream::iter([Ok::<_, std::io::Error>(long.clone())]);
            let request = Request::builder().header(CONTENT_TYPE, "application/json");
            let request = if announced {
                request.header(CONTENT_LENGTH, long.len()).body(Body::from(long)).unwrap()
            } else {
                request.body(Body::from_stream(chunks)).unwrap()
            };
            let refusal = JsonBody::<serde_json::Value>::from_request(request, &()).await.err().unwrap();
            assert_eq!(refusal.0.code, Code::PayloadTooLarge, "announced: {announced}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_not_waited_for() {
        let never = futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>();
        let request =
            Request::builder().header(CONTENT_TYPE, "application/json").body(Body::from_stream(never)).unwrap();
        let refusal = JsonBody::<serde_json::Value>::from_request(request, &()).await.err().unwrap();
        assert_eq!(refusal.0.code, Code::RequestTimeout);
    }

    #[test]
    fn what_is_no_id_is_invalid_and_what_is_none_of_ours_is_missing() {
        assert_eq!(InstanceId::read("nonsense\u{7}").unwrap_err().0.code, Code::InvalidRequest);
        let other = "123e4567-e89b-42d3-a456-426614174000";
        assert_eq!(InstanceId::read(other).unwrap_err().0.code, Code::InstanceNotFound);
        assert!(InstanceId::read("01990000-0000-7000-8000-000000000001").is_ok());
        assert_eq!(Owner::read("admin:x").unwrap_err().0.code, Code::InvalidRequest);
    }

    #[test]
    fn two_keys_are_none() {
        let mut headers = HeaderMap::new();
        assert!(read_key(&headers).unwrap().is_none());
        headers.append(idempotency::HEADER, HeaderValue::from_static("\"a\""));
        assert_eq!(read_key(&headers).unwrap().unwrap().as_str(), "a");
        headers.append(idempotency::HEADER, HeaderValue::from_static("b"));
        assert_eq!(read_key(&headers).unwrap_err().0.code, Code::IdempotencyKeyInvalid);
    }

    #[test]
    fn pages_have_bounds() {
        assert_eq!(page(None).unwrap(), 50);
        assert_eq!(page(Some(500)).unwrap(), 500);
        assert!(page(Some(0)).is_err() && page(Some(501)).is_err());
    }
}
