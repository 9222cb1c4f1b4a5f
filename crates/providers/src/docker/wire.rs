//! One request to an engine and its answer, over a connection of its own.
//!
//! - What failed before the request was on its way is [`Trouble::NotSent`]; whatever failed later may have happened.
//! - Every call has a deadline, and every answer a length that it may not pass.
//! - Nothing of a request is logged: the environment of a container is in it.

use std::time::Instant;

use freehold_domain::resource::Outcome;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::host::{DockerHost, Secured};

/// The longest answer that is read, in bytes: a list of thousands of containers.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// The longest message of an engine that is passed on, in bytes.
const MESSAGE_BYTES_MAX: usize = 500;

/// A call without an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It surely did not leave.
    NotSent(String),
    /// It may have arrived.
    Cut(String),
}

impl Trouble {
    /// Why, in words.
    pub(super) fn why(self) -> String {
        match self {
            Self::NotSent(why) | Self::Cut(why) => why,
        }
    }

    /// What it means for a call that changes something.
    pub(super) fn outcome<T>(self) -> Outcome<T> {
        match self {
            Self::NotSent(why) => Outcome::NotSent(why),
            Self::Cut(why) => Outcome::Unknown(why),
        }
    }
}

/// A request.
#[derive(Debug)]
pub(super) struct Ask {
    method: Method,
    path: String,
    query: String,
    content_type: Option<&'static str>,
    body: Bytes,
}

impl Ask {
    pub(super) fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), query: String::new(), content_type: None, body: Bytes::new() }
    }

    /// Adds a parameter; the value may be anything.
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.query.push(if self.query.is_empty() { '?' } else { '&' });
        self.query.push_str(name);
        self.query.push('=');
        self.query.push_str(&escaped(value));
        self
    }

    pub(super) fn json(mut self, body: &Value) -> Self {
        self.content_type = Some("application/json");
        self.body = body.to_string().into();
        self
    }

    pub(super) fn tar(mut self, body: Vec<u8>) -> Self {
        self.content_type = Some("application/x-tar");
        self.body = body.into();
        self
    }
}

/// A part of a path or a value in a query, with everything but letters, digits and `-_.~` escaped.
pub(super) fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut escaped, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
        escaped
    })
}

/// An answer, whole.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// The engine's own time, as it says it.
    pub(super) date: Option<String>,
    /// The highest version of the interface that the engine speaks, where it says so.
    pub(super) version: Option<String>,
    pub(super) body: Bytes,
}

impl Answer {
    /// What the engine says about a failure, shortened.
    pub(super) fn message(&self) -> String {
        let said = serde_json::from_slice::<Value>(&self.body).ok();
        let said = said.as_ref().and_then(|said| said["message"].as_str());
        let said = said.map_or_else(|| String::from_utf8_lossy(&self.body).into_owned(), str::to_owned);
        shortened(said.trim())
    }
}

/// Words of somebody else's, at a bearable length.
pub(super) fn shortened(said: &str) -> String {
    let end = (0..=MESSAGE_BYTES_MAX.min(said.len())).rev().find(|&at| said.is_char_boundary(at)).unwrap_or(0);
    if end < said.len() { format!("{}…", &said[..end]) } else { said.to_owned() }
}

/// An answer whose body is still to come.
#[derive(Debug)]
pub(super) struct Opened {
    status: u16,
    date: Option<String>,
    version: Option<String>,
    body: Incoming,
}

impl Opened {
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The next piece; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, String>> {
        loop {
            match self.body.frame().await? {
                Ok(frame) => {
                    if let Ok(data) = frame.into_data() {
                        return Some(Ok(data));
                    }
                }
                Err(error) => return Some(Err(chain(&error))),
            }
        }
    }

    /// Reads it to its end.
    pub(super) async fn whole(mut self) -> Result<Answer, Trouble> {
        let mut body = Vec::new();
        while let Some(piece) = self.next().await {
            let piece = piece.map_err(|why| Trouble::Cut(format!("the answer was cut off: {why}")))?;
            if body.len() + piece.len() > ANSWER_BYTES_MAX {
                return Err(Trouble::Cut(format!("the answer is longer than {ANSWER_BYTES_MAX} bytes")));
            }
            body.extend_from_slice(&piece);
        }
        Ok(Answer { status: self.status, date: self.date, version: self.version, body: body.into() })
    }
}

/// The way to an engine.
#[derive(Clone, Debug)]
pub(super) struct Wire {
    pub(super) host: DockerHost,
    pub(super) secured: Option<Secured>,
}

impl Wire {
    /// Sends a request and reads the whole answer.
    pub(super) async fn send(&self, ask: Ask, deadline: Instant) -> Result<Answer, Trouble> {
        let answered = async { self.opened(ask, deadline).await?.whole().await };
        within(deadline, answered).await.unwrap_or_else(|| Err(Trouble::Cut("no answer in time".to_owned())))
    }

    /// Sends a request and reads the head of the answer.
    pub(super) async fn opened(&self, ask: Ask, deadline: Instant) -> Result<Opened, Trouble> {
        let not_sent = |why: String| Trouble::NotSent(format!("{}: {why}", self.host));
        let connecting = async {
            match &self.host {
                DockerHost::Unix(path) => handshake(UnixStream::connect(path).await?).await,
                DockerHost::Tcp(host, port) => handshake(tcp(host, *port).await?).await,
                DockerHost::Tls(host, port) => {
                    let secured = self.secured.as_ref().ok_or_else(|| std::io::Error::other("no files for TLS"))?;
                    let connector = TlsConnector::from(secured.config.clone());
                    handshake(connector.connect(secured.name.clone(), tcp(host, *port).await?).await?).await
                }
            }
        };
        let mut sender = match within(deadline, connecting).await {
            Some(Ok(sender)) => sender,
            Some(Err(error)) => return Err(not_sent(chain(&error))),
            None => return Err(not_sent("no connection in time".to_owned())),
        };
        let mut request = Request::builder()
            .method(ask.method)
            .uri(format!("{}{}", ask.path, ask.query))
            .header(header::HOST, "docker")
            .header(header::CONNECTION, "close");
        if let Some(content_type) = ask.content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        let request = request.body(Full::new(ask.body)).map_err(|error| not_sent(chain(&error)))?;
        let answer = match within(deadline, sender.send_request(request)).await {
            Some(Ok(answer)) => answer,
            Some(Err(error)) => return Err(Trouble::Cut(format!("{}: {}", self.host, chain(&error)))),
            None => return Err(Trouble::Cut(format!("{}: no answer in time", self.host))),
        };
        let said = |name: &str| answer.headers().get(name)?.to_str().ok().map(str::to_owned);
        let (date, version) = (said("date"), said("api-version"));
        Ok(Opened { status: answer.status().as_u16(), date, version, body: answer.into_body() })
    }
}

/// The whole of an error: each link says one thing.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut link = error.source();
    while let Some(cause) = link {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        link = cause.source();
    }
    text
}

async fn within<T>(deadline: Instant, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout_at(deadline.into(), work).await.ok()
}

async fn tcp(host: &str, port: u16) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn handshake(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> std::io::Result<http1::SendRequest<Full<Bytes>>> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
    // It ends with the answer, or when nobody reads that any more.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

/// Whether a status says that all went well.
pub(super) fn is_ok(status: u16) -> bool {
    status == StatusCode::OK.as_u16()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_asked_for_stays_one_parameter() {
        let ask = Ask::new(Method::GET, "/x").with("a", "b c&d=é").with("e", "1");
        assert_eq!(ask.query, "?a=b%20c%26d%3D%C3%A9&e=1");
    }

    #[test]
    fn long_words_are_cut_between_characters() {
        let long = "é".repeat(400);
        assert_eq!(shortened(&long).chars().count(), 251);
        assert_eq!(shortened("short"), "short");
    }
}
