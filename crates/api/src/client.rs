//! The typed client: one method per route, no retries of its own, no state but its connections.
//!
//! What the server refuses comes back as [`ClientError::Problem`], as the server said it. A request whose answer does
//! not arrive may have happened: creates are safe to repeat with their idempotency key, everything else by nature.
//!
//! TLS comes from whatever rustls provider the program installs as its first act; without one, building a client panics.

mod error;
mod sse;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::StreamExt as _;
use futures_util::TryStreamExt as _;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

pub use self::error::ClientError;
pub use self::sse::{Sse, SseReader};
use crate::idempotency::{self, IdempotencyKey};
use crate::prefer::{self, Prefer};
use crate::v1::adoptions::{Adopt, Adoption};
use crate::v1::audit::{AuditPage, ListAudit};
use crate::v1::health::Health;
use crate::v1::instances::{
    Accepted, Changed, CreateInstance, Destroyed, Instance, InstanceList, ListInstances, UpdateInstance,
};
use crate::v1::leaks::{Leak, LeakList, ResolveLeak};
use crate::v1::nodes::{DrainNode, Node, NodeList};
use crate::v1::operations::Operation;
use crate::v1::owners::{Anonymized, Owner};
use crate::v1::reservations::{
    ListReservations, ReleaseReservation, ReleasedReservation, Reservation, ReservationList,
};
use crate::v1::restore::{ConfirmRestore, RestoreConfirmed, RestoreStatus};
use crate::v1::routes::Route;

/// How long a connection may take to come about.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a comparison with every provider, or the end of a quarantine, may take: both grow with the registry.
pub const RESTORE_TIMEOUT: Duration = Duration::from_secs(1_800);

/// How long an answer may take, beyond what the request asks the server to wait: the server's own default wait (25 s)
/// and room for a slow network.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(40);

/// How long a connection may be silent: longer than a server lets any create wait. On streams servers send a comment
/// more often than that.
pub const SILENCE_MAX: Duration = prefer::WAIT_MAX.saturating_add(ANSWER_TIMEOUT);

/// A bearer token. It is not shown when debugged.
#[derive(Clone)]
pub struct Token(HeaderValue);

impl Token {
    /// Takes a token; blanks around it, such as a line end in a file, are cut off.
    ///
    /// # Errors
    /// [`ClientError::Setup`] if it is empty or cannot be a header.
    pub fn new(secret: &str) -> Result<Self, ClientError> {
        let secret = secret.trim();
        let fits = !secret.is_empty() && secret.bytes().all(|byte| byte.is_ascii_graphic());
        let mut value = HeaderValue::from_str(&format!("Bearer {secret}"))
            .ok()
            .filter(|_| fits)
            .ok_or_else(|| ClientError::setup("the token is empty or has characters that no token has"))?;
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token([redacted])")
    }
}

/// What came of a call that may be answered before its work is done.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome<T> {
    /// The work is done.
    Done(T),
    /// The work goes on; the operation says how far it is.
    Accepted {
        /// The operation.
        operation: Operation,
        /// When to look again.
        retry_after: Option<Duration>,
    },
}

/// What came of a create.
#[derive(Clone, Debug, PartialEq)]
pub struct Created {
    /// The instance, or the operation that makes it.
    pub outcome: Outcome<Instance>,
    /// Whether this answer was given before, to the same key.
    pub replayed: bool,
}

/// A client of one server.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<Token>,
}

impl Client {
    /// A client of the server at `base`, such as `http://127.0.0.1:7788`.
    ///
    /// # Errors
    /// [`ClientError::Setup`] if the address is no http or https URL, or TLS cannot be set up.
    pub fn new(base: &str, token: Option<Token>) -> Result<Self, ClientError> {
        let base = Url::parse(base)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| ClientError::setup(format!("`{base}` is no address; write http://HOST:PORT")))?;
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(SILENCE_MAX)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| ClientError::setup(format!("the HTTP client cannot be set up: {error}")))?;
        Ok(Self { http, base, token })
    }

    /// The server's address.
    #[must_use]
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// Creates an instance, and waits for it as `prefer` says.
    ///
    /// # Errors
    /// [`ClientError`]. If it is `Unreachable` the create may have happened: repeat it with the same key.
    pub async fn create(
        &self,
        body: &CreateInstance,
        key: Option<&IdempotencyKey>,
        prefer: Prefer,
    ) -> Result<Created, ClientError> {
        let mut request = self.request(Method::POST, &["v1", "instances"]).json(body);
        if let Some(key) = key {
            request = request.header(idempotency::HEADER, key.to_header());
        }
        if let Some(header) = prefer.to_header() {
            request = request.header(prefer::HEADER, header);
        }
        let wait = prefer.wait.unwrap_or_default().min(prefer::WAIT_MAX);
        let answer = self.answer(request.timeout(ANSWER_TIMEOUT + wait)).await?;
        let replayed = answer.headers().get(idempotency::REPLAYED_HEADER).is_some_and(|value| value == "true");
        Ok(Created { outcome: self.outcome(answer).await?, replayed })
    }

    /// Makes an instance of what an older system made, or says what that would do. Repeating it is success.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn adopt(&self, body: &Adopt) -> Result<Adoption, ClientError> {
        self.json(self.request(Method::POST, &["v1", "adoptions"]).json(body)).await
    }

    /// Lists instances.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn instances(&self, query: &ListInstances) -> Result<InstanceList, ClientError> {
        self.json(self.get(&["v1", "instances"]).query(query)).await
    }

    /// Shows an instance.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn instance(&self, id: Uuid) -> Result<Instance, ClientError> {
        self.json(self.get(&["v1", "instances", &id.to_string()])).await
    }

    /// Gives an instance another spec or tier.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn update(&self, id: Uuid, body: &UpdateInstance) -> Result<Outcome<Instance>, ClientError> {
        let request = self.request(Method::PATCH, &["v1", "instances", &id.to_string()]).json(body);
        let answer = self.answer(request.timeout(ANSWER_TIMEOUT)).await?;
        self.outcome(answer).await
    }

    /// Starts an instance. One that is up is success.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn start(&self, id: Uuid) -> Result<Changed, ClientError> {
        self.power(id, "start").await
    }

    /// Stops an instance. One that is down is success.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn stop(&self, id: Uuid) -> Result<Changed, ClientError> {
        self.power(id, "stop").await
    }

    /// Restarts an instance.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn restart(&self, id: Uuid) -> Result<Changed, ClientError> {
        self.power(id, "restart").await
    }

    async fn power(&self, id: Uuid, verb: &str) -> Result<Changed, ClientError> {
        self.json(self.request(Method::POST, &["v1", "instances", &id.to_string(), verb])).await
    }

    /// Destroys an instance, from any state. Repeating it is success.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn destroy(&self, id: Uuid, reason: Option<&str>) -> Result<Destroyed, ClientError> {
        let request = self.request(Method::DELETE, &["v1", "instances", &id.to_string()]);
        self.json(match reason {
            Some(reason) => request.query(&[("reason", reason)]),
            None => request,
        })
        .await
    }

    /// Reads an instance's logs: the last `tail` lines, and with `follow` what comes after them.
    ///
    /// # Errors
    /// [`ClientError`], at first or while reading.
    pub async fn logs(
        &self,
        id: Uuid,
        tail: Option<u32>,
        follow: bool,
    ) -> Result<impl Stream<Item = Result<Bytes, ClientError>> + Send + use<>, ClientError> {
        let mut request = self.get(&["v1", "instances", &id.to_string(), "logs"]);
        if let Some(tail) = tail {
            request = request.query(&[("tail", tail)]);
        }
        if follow {
            request = request.query(&[("follow", true)]);
        }
        let url = self.base.to_string();
        let answer = self.answer(request).await?;
        Ok(answer.bytes_stream().map_err(move |source| ClientError::Unreachable { url: url.clone(), source }))
    }

    /// Shows an operation.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn operation(&self, id: Uuid) -> Result<Operation, ClientError> {
        self.json(self.get(&["v1", "operations", &id.to_string()])).await
    }

    /// Follows an operation: one event per change, each with the whole operation ([`Sse::json`]), until it is over.
    ///
    /// # Errors
    /// [`ClientError`], at first or while reading.
    pub async fn operation_events(
        &self,
        id: Uuid,
    ) -> Result<impl Stream<Item = Result<Sse, ClientError>> + Send + use<>, ClientError> {
        self.events_at(self.get(&["v1", "operations", &id.to_string(), "events"])).await
    }

    /// Shows what the registry knows of an owner.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn owner(&self, owner: &str) -> Result<Owner, ClientError> {
        self.json(self.get(&["v1", "owners", owner])).await
    }

    /// Lists reservations.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn reservations(&self, query: &ListReservations) -> Result<ReservationList, ClientError> {
        self.json(self.get(&["v1", "reservations"]).query(query)).await
    }

    /// Shows a reservation, with the evidence so far.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn reservation(&self, instance: Uuid) -> Result<Reservation, ClientError> {
        self.json(self.get(&["v1", "reservations", &instance.to_string()])).await
    }

    /// Completes a reservation whose instance is on record.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn repair(&self, instance: Uuid) -> Result<Reservation, ClientError> {
        self.json(self.request(Method::POST, &["v1", "reservations", &instance.to_string(), "repair"])).await
    }

    /// Releases a reservation: on proof of absence, or on the operator's word.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn release(&self, instance: Uuid, body: &ReleaseReservation) -> Result<ReleasedReservation, ClientError> {
        self.json(self.request(Method::POST, &["v1", "reservations", &instance.to_string(), "release"]).json(body))
            .await
    }

    /// Looks a route up.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn route(&self, instance: Uuid) -> Result<Route, ClientError> {
        self.json(self.get(&["v1", "routes", &instance.to_string()])).await
    }

    /// Lists audit events.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn audit(&self, query: &ListAudit) -> Result<AuditPage, ClientError> {
        self.json(self.get(&["v1", "audit"]).query(query)).await
    }

    /// Follows everything that happens, from behind `last_event_id` on. Each event's data is an
    /// [`AuditEvent`](crate::v1::audit::AuditEvent).
    ///
    /// # Errors
    /// [`ClientError`], at first or while reading. To go on, call again with the id of the last event.
    pub async fn events(
        &self,
        last_event_id: Option<&str>,
    ) -> Result<impl Stream<Item = Result<Sse, ClientError>> + Send + use<>, ClientError> {
        let request = self.get(&["v1", "events"]);
        self.events_at(match last_event_id {
            Some(id) => request.header("last-event-id", id),
            None => request,
        })
        .await
    }

    /// Lists leaks.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn leaks(&self, cursor: Option<&str>) -> Result<LeakList, ClientError> {
        let request = self.get(&["v1", "leaks"]);
        self.json(match cursor {
            Some(cursor) => request.query(&[("cursor", cursor)]),
            None => request,
        })
        .await
    }

    /// Lists the nodes.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn nodes(&self) -> Result<NodeList, ClientError> {
        self.json(self.get(&["v1", "nodes"])).await
    }

    /// Asks a node to be drained, or not to be.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn drain_node(&self, name: &str, body: &DrainNode) -> Result<Node, ClientError> {
        self.json(self.request(Method::POST, &["v1", "nodes", name, "drain"]).json(body)).await
    }

    /// Resolves a leak.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn resolve_leak(&self, id: Uuid, body: &ResolveLeak) -> Result<Leak, ClientError> {
        self.json(self.request(Method::POST, &["v1", "leaks", &id.to_string(), "resolve"]).json(body)).await
    }

    /// Where a registry from a backup stands; with `compare` every provider is asked what is there.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn restore(&self, compare: bool) -> Result<RestoreStatus, ClientError> {
        let request = self.get(&["v1", "restore"]).query(&[("compare", compare)]);
        let answer = self.answer(request.timeout(RESTORE_TIMEOUT)).await?;
        self.body(answer).await
    }

    /// Ends the quarantine of a registry from a backup.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn confirm_restore(&self, body: &ConfirmRestore) -> Result<RestoreConfirmed, ClientError> {
        let request = self.request(Method::POST, &["v1", "restore", "confirm"]).json(body);
        let answer = self.answer(request.timeout(RESTORE_TIMEOUT)).await?;
        self.body(answer).await
    }

    /// Forgets an owner.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn anonymize(&self, owner: &str) -> Result<Anonymized, ClientError> {
        self.json(self.request(Method::POST, &["v1", "owners", owner, "anonymize"])).await
    }

    /// Whether the server is alive.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn health(&self) -> Result<Health, ClientError> {
        self.json(self.get(&["healthz"])).await
    }

    /// Whether the server can do its work, check by check. A server that cannot is an answer, not an error.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn ready(&self) -> Result<Health, ClientError> {
        let request = self.get(&["readyz"]).query(&[("verbose", "")]).timeout(ANSWER_TIMEOUT);
        let answer = self.send(request).await?;
        match answer.status() {
            StatusCode::OK | StatusCode::SERVICE_UNAVAILABLE => self.body(answer).await,
            _ => Err(self.refusal(answer).await),
        }
    }

    fn get(&self, path: &[&str]) -> RequestBuilder {
        self.request(Method::GET, path)
    }

    /// A request; each segment of the path is escaped, so that an owner's id may hold any character.
    fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let request = self.http.request(method, url);
        match &self.token {
            Some(Token(value)) => request.header(AUTHORIZATION, value.clone()),
            None => request,
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        request.send().await.map_err(|source| self.unreachable(source))
    }

    /// Sends, and turns a refusal into an error.
    async fn answer(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let answer = self.send(request).await?;
        if answer.status().is_success() { Ok(answer) } else { Err(self.refusal(answer).await) }
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ClientError> {
        let answer = self.answer(request.timeout(ANSWER_TIMEOUT)).await?;
        self.body(answer).await
    }

    async fn body<T: DeserializeOwned>(&self, answer: Response) -> Result<T, ClientError> {
        let status = answer.status();
        let body = answer.bytes().await.map_err(|source| self.unreachable(source))?;
        serde_json::from_slice(&body).map_err(|_| ClientError::unexpected(status, &body))
    }

    async fn outcome<T: DeserializeOwned + Serialize>(&self, answer: Response) -> Result<Outcome<T>, ClientError> {
        if answer.status() != StatusCode::ACCEPTED {
            return Ok(Outcome::Done(self.body(answer).await?));
        }
        let seconds = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let Accepted { operation } = self.body(answer).await?;
        Ok(Outcome::Accepted { operation, retry_after: seconds.map(Duration::from_secs) })
    }

    async fn events_at(
        &self,
        request: RequestBuilder,
    ) -> Result<impl Stream<Item = Result<Sse, ClientError>> + Send + use<>, ClientError> {
        let url = self.base.to_string();
        let answer = self.answer(request.header(ACCEPT, "text/event-stream")).await?;
        let mut reader = SseReader::default();
        let events = answer
            .bytes_stream()
            .map(move |chunk| match chunk {
                Ok(chunk) => reader.push(&chunk).into_iter().map(Ok).collect::<Vec<_>>(),
                Err(source) => vec![Err(ClientError::Unreachable { url: url.clone(), source })],
            })
            .flat_map(futures_util::stream::iter);
        Ok(events)
    }

    async fn refusal(&self, answer: Response) -> ClientError {
        let status = answer.status();
        match answer.bytes().await {
            Ok(body) => match serde_json::from_slice(&body) {
                Ok(problem) => ClientError::Problem(Box::new(problem)),
                Err(_) => ClientError::unexpected(status, &body),
            },
            Err(source) => self.unreachable(source),
        }
    }

    fn unreachable(&self, source: reqwest::Error) -> ClientError {
        ClientError::Unreachable { url: self.base.to_string(), source }
    }
}

#[cfg(test)]
mod tests;
