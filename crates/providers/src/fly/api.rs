//! One call to the Machines API, and what is known of it afterwards.
//!
//! - A call is sent once. Nothing here tries again.
//! - Before the first byte leaves it is [`Trouble::NotSent`]; from then on everything without an answer is [`Trouble::Lost`].
//! - The token is in one header that is never shown. Answers are read up to a limit, and every one names its request id.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::DefaultClock;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Client, Method, Response};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::outcome::{Call, Complaint, Meaning, meaning};

/// The most that is read of an answer, in bytes: a list of ten thousand apps is a tenth of it.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// How much of a complaint is passed on, in characters.
const SHOWN_MAX: usize = 300;

/// The longest a call waits for its turn: the fence was looked at before, and what was looked at must still hold.
const TURN_MAX: Duration = Duration::from_secs(1);

/// From how many keys on the limiters forget those that have their full burst again.
const KEYS_MAX: usize = 10_000;

type Limiter = RateLimiter<String, HashMapStateStore<String>, DefaultClock>;

/// A call that had no answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Surely nothing left this machine.
    NotSent(String),
    /// It may have arrived.
    Lost(String),
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotSent(why) | Self::Lost(why) => f.write_str(why),
        }
    }
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// `None` where it is not JSON.
    body: Option<Value>,
    empty: bool,
    /// The provider's name for the call.
    pub(super) request_id: String,
}

impl Answer {
    /// What the API complains of, in its own format.
    pub(super) fn complaint(&self) -> Option<Complaint> {
        self.body.as_ref().and_then(|body| serde_json::from_value(body.clone()).ok())
    }

    /// What it means as the answer to a changing call.
    pub(super) fn meaning(&self, call: Call) -> Meaning {
        let done = (200..300).contains(&self.status);
        // A proxy's page is no success either.
        if done && self.body.is_none() && !self.empty {
            return Meaning::Unknown;
        }
        meaning(call, self.status, self.complaint().as_ref())
    }

    /// The body as what it should be.
    ///
    /// # Errors
    /// What is wrong with it, with the request id.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, String> {
        let body = self.body.clone().ok_or_else(|| format!("the answer is not JSON{}", self.asked()))?;
        serde_json::from_value(body).map_err(|error| format!("the answer makes no sense: {error}{}", self.asked()))
    }

    /// What it says, for people.
    pub(super) fn in_words(&self) -> String {
        let status = self.status;
        let said = match self.complaint() {
            Some(complaint) => format!(": {}", complaint.error.chars().take(SHOWN_MAX).collect::<String>()),
            None => " without an explanation".to_owned(),
        };
        format!("{status}{said}{}", self.asked())
    }

    fn asked(&self) -> String {
        if self.request_id.is_empty() { String::new() } else { format!(" (fly-request-id {})", self.request_id) }
    }
}

/// The Machines API.
pub(super) struct Api {
    http: Client,
    base: String,
    authorization: HeaderValue,
    timeout: Duration,
    /// What each action on each thing may take.
    actions: Limiter,
    /// Looks at one thing: five times as many.
    looks: Limiter,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").field("base", &self.base).finish_non_exhaustive()
    }
}

fn quota(per_second: u32, burst: u32) -> Quota {
    let at_least_one = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
    Quota::per_second(at_least_one(per_second)).allow_burst(at_least_one(burst))
}

impl Api {
    /// For an address such as `https://api.machines.dev/v1` and a token.
    ///
    /// # Errors
    /// A token that cannot stand in a header, or an HTTP client that cannot be built.
    pub(super) fn new(base: &str, token: &str, timeout: Duration, changes_per_second: u32) -> Result<Self, String> {
        let mut authorization = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| "the token has characters that no token has".to_owned())?;
        authorization.set_sensitive(true);
        let http = Client::builder()
            .timeout(timeout)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| format!("the HTTP client cannot be built: {}", chain(&error)))?;
        Ok(Self {
            http,
            base: base.trim_end_matches('/').to_owned(),
            authorization,
            timeout,
            actions: RateLimiter::hashmap(quota(changes_per_second, changes_per_second.saturating_mul(3))),
            looks: RateLimiter::hashmap(quota(
                changes_per_second.saturating_mul(5),
                changes_per_second.saturating_mul(10),
            )),
        })
    }

    /// Reads something. `about` is what the rate limit is counted for.
    ///
    /// # Errors
    /// [`Trouble`] without an answer.
    pub(super) async fn get(&self, about: &str, path: &str, query: &[(&str, &str)]) -> Result<Answer, Trouble> {
        self.turn(&self.looks, format!("GET {about}")).await?;
        self.send(Method::GET, path, query, None).await
    }

    /// Changes something. `about` is the app or machine that the rate limit is counted for.
    ///
    /// # Errors
    /// [`Trouble`] without an answer.
    pub(super) async fn change(
        &self,
        call: Call,
        about: &str,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Answer, Trouble> {
        self.turn(&self.actions, format!("{call:?} {about}")).await?;
        let method = match call {
            Call::DeleteApp | Call::DeleteMachine | Call::DeleteVolume => Method::DELETE,
            Call::TagMachine => Method::PUT,
            Call::AwaitMachine => Method::GET,
            Call::CreateApp
            | Call::SetSecrets
            | Call::CreateVolume
            | Call::CreateMachine
            | Call::UpdateMachine
            | Call::StartMachine
            | Call::StopMachine
            | Call::RestartMachine => Method::POST,
        };
        self.send(method, path, query, body).await
    }

    async fn turn(&self, limiter: &Limiter, key: String) -> Result<(), Trouble> {
        if limiter.len() > KEYS_MAX {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
        let turn = tokio::time::timeout(TURN_MAX, limiter.until_key_ready(&key)).await;
        turn.map_err(|_| Trouble::NotSent(format!("the provider's rate limit leaves no room for {key} now")))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Answer, Trouble> {
        let url = format!("{}{path}", self.base);
        let mut request = self.http.request(method, url).query(query).header(AUTHORIZATION, self.authorization.clone());
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|error| {
            // No connection, no byte: the name, the port, or the certificate.
            if error.is_connect() || error.is_builder() {
                Trouble::NotSent(format!("the Machines API cannot be reached: {}", chain(&error)))
            } else if error.is_timeout() {
                Trouble::Lost(format!("no answer within {:?}", self.timeout))
            } else {
                Trouble::Lost(format!("the connection broke: {}", chain(&error)))
            }
        })?;
        read(response).await
    }
}

async fn read(mut response: Response) -> Result<Answer, Trouble> {
    let status = response.status().as_u16();
    let request_id = response.headers().get("fly-request-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
    let request_id: String = request_id.chars().filter(char::is_ascii_graphic).take(64).collect();
    let mut bytes = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if bytes.len() + chunk.len() > ANSWER_BYTES_MAX => {
                return Err(Trouble::Lost(format!("an answer of more than {ANSWER_BYTES_MAX} bytes ({request_id})")));
            }
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(error) => return Err(Trouble::Lost(format!("the answer broke off: {}", chain(&error)))),
        }
    }
    let empty = bytes.is_empty();
    Ok(Answer { status, body: serde_json::from_slice(&bytes).ok(), empty, request_id })
}

/// An error and what it is because of: reqwest says the last of it in its sources. Without the address, which is known.
fn chain(error: &reqwest::Error) -> String {
    let mut source = std::error::Error::source(error);
    let mut last = None;
    while let Some(error) = source {
        last = Some(error.to_string());
        source = error.source();
    }
    last.unwrap_or_else(|| error.to_string())
}
