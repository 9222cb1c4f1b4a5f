//! One signed message, and what is known of it afterwards.
//!
//! Before the first byte leaves it is [`Trouble::NotSent`]; from then on everything without a whole answer is
//! [`Trouble::Lost`].

use std::time::Duration;

use freehold_api::webhook::Secrets;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Response, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The most that is read of an answer, in bytes: an honest one has a few hundred.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A message that had no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Surely nothing left this machine.
    NotSent(String),
    /// It may have arrived.
    Lost(String),
}

impl Trouble {
    pub(crate) fn into_words(self) -> String {
        match self {
            Self::NotSent(why) | Self::Lost(why) => why,
        }
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    body: Vec<u8>,
}

impl Answer {
    pub(crate) fn is_empty(&self) -> bool {
        self.body.is_empty()
    }

    /// The body, where it is what it should be.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&self.body).ok()
    }
}

/// What goes over the wire.
#[derive(Serialize)]
struct Message<'a, T> {
    r#type: &'static str,
    id: &'a str,
    data: &'a T,
}

/// The way to the service.
pub(crate) struct Wire {
    http: Client,
    url: Url,
    secrets: Secrets,
    timeout: Duration,
}

impl Wire {
    /// To an address such as `https://billing.internal/freehold`.
    ///
    /// # Errors
    /// In words: an address that is none, or an HTTP client that cannot be built.
    pub(crate) fn new(url: &str, secrets: Secrets, timeout: Duration) -> Result<Self, String> {
        let url = Url::parse(url).map_err(|error| format!("the address cannot be used: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err("the address is neither http:// nor https://".to_owned());
        }
        let http = Client::builder()
            .timeout(timeout)
            // Shorter than the whole, so that "never reached" can be told from "never answered".
            .connect_timeout(timeout / 2)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| format!("the HTTP client cannot be built: {}", innermost(&error)))?;
        Ok(Self { http, url, secrets, timeout })
    }

    /// Sends a message at `now`, in Unix seconds.
    ///
    /// # Errors
    /// [`Trouble`] without a whole answer.
    pub(crate) async fn send<T: Serialize>(
        &self,
        r#type: &'static str,
        id: &str,
        data: &T,
        now: i64,
    ) -> Result<Answer, Trouble> {
        let body = serde_json::to_vec(&Message { r#type, id, data })
            .map_err(|error| Trouble::NotSent(format!("the message cannot be written: {error}")))?;
        let signed = self.secrets.sign(id, now, &body).map_err(|error| Trouble::NotSent(error.to_string()))?;
        let mut request = self
            .http
            .post(self.url.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(body);
        for (name, value) in signed.headers() {
            request = request.header(name, value);
        }
        let response = request.send().await.map_err(|error| {
            // No connection, no byte: the name, the port, or the certificate.
            if error.is_connect() || error.is_builder() {
                Trouble::NotSent(format!("it cannot be reached: {}", innermost(&error)))
            } else if error.is_timeout() {
                Trouble::Lost(format!("it did not answer within {:?}", self.timeout))
            } else {
                Trouble::Lost(format!("the connection broke: {}", innermost(&error)))
            }
        })?;
        self.read(response).await
    }

    async fn read(&self, mut response: Response) -> Result<Answer, Trouble> {
        let status = response.status().as_u16();
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > ANSWER_BYTES_MAX => {
                    return Err(Trouble::Lost(format!("its answer is longer than {ANSWER_BYTES_MAX} bytes")));
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => return Ok(Answer { status, body }),
                Err(error) if error.is_timeout() => {
                    return Err(Trouble::Lost(format!("it did not answer within {:?}", self.timeout)));
                }
                Err(error) => return Err(Trouble::Lost(format!("its answer broke off: {}", innermost(&error)))),
            }
        }
    }
}

/// What an error is because of, in the end. The outer ones name the address.
fn innermost(error: &reqwest::Error) -> String {
    let mut source = std::error::Error::source(error);
    let mut last = None;
    while let Some(error) = source {
        last = Some(error.to_string());
        source = error.source();
    }
    last.unwrap_or_else(|| "no reason is given".to_owned())
}
