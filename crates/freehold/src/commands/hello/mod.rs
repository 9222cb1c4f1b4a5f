//! What the `hello` template runs: a small server that shows what reached it.
//!
//! Every path answers with JSON about the request. `/echo` sends the body back as it comes, `/stream` sends events
//! slowly, `/ws` is a WebSocket that echoes. It listens on `$PORT` of this machine only, logs one line per request to
//! stdout, and ends at SIGTERM.

mod websocket;

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::Failure;
use crate::output::{Output, say};

/// How much of a body is shown, in bytes; the rest is counted.
const BODY_SHOWN_MAX: usize = 64 * 1024;

/// How many events `/stream` sends unless `count` says otherwise.
const STREAM_COUNT: u64 = 10;

/// How long it waits between them, in milliseconds, unless `interval_ms` says otherwise.
const STREAM_INTERVAL_MS: u64 = 100;

/// The longest that a head of a request may take.
const HEADER_READ_MAX: Duration = Duration::from_secs(10);

type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// No usable `PORT`, or a port that is taken.
pub(crate) async fn run() -> Result<(), Failure> {
    let port = std::env::var("PORT").unwrap_or_default();
    let port: u16 = port.parse().map_err(|_| {
        Failure::usage(format!("PORT is {port:?}, and should be a port number"))
            .hint("a provider sets it; by hand: PORT=8080 freehold hello-instance")
    })?;
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .await
        .map_err(|error| Failure::failed(format!("cannot listen on port {port}: {}", crate::config::plain(&error))))?;
    let output = Output { json: false };
    output.text(&format!("listening on http://{}", listener.local_addr()?))?;
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => {
                    tokio::spawn(async move {
                        let connection = hyper::server::conn::http1::Builder::new()
                            .timer(TokioTimer::new())
                            .header_read_timeout(HEADER_READ_MAX)
                            .serve_connection(TokioIo::new(socket), service_fn(answer))
                            .with_upgrades();
                        // A caller that leaves in the middle is its own affair.
                        let _ = connection.await;
                    });
                }
                Err(error) => say(&format!("cannot accept: {error}")),
            },
            _ = term.recv() => break,
            _ = int.recv() => break,
        }
    }
    output.text("asked to end")
}

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    // A log that nobody keeps is no reason to stop serving.
    let _ = Output { json: false }.text(&format!("{} {}", request.method(), request.uri()));
    let answer = match request.uri().path() {
        "/ws" if websocket::is_wanted(request.headers()) => websocket::accept(request),
        "/echo" => echo(request),
        "/stream" => events(&request),
        _ => about(request).await,
    };
    Ok(answer)
}

fn echo(request: Request<Incoming>) -> Response<Body> {
    let kind = request.headers().get(CONTENT_TYPE).cloned();
    let mut response = Response::new(request.into_body().boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, kind.unwrap_or(HeaderValue::from_static("application/octet-stream")));
    response
}

fn events(request: &Request<Incoming>) -> Response<Body> {
    let number = |name: &str| {
        let query = request.uri().query().unwrap_or_default();
        query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')?.parse::<u64>().ok())
    };
    let count = number("count").unwrap_or(STREAM_COUNT);
    let interval = Duration::from_millis(number("interval_ms").unwrap_or(STREAM_INTERVAL_MS));
    let events = stream::iter(0..count).then(move |index| async move {
        if index > 0 {
            tokio::time::sleep(interval).await;
        }
        Ok(Frame::data(Bytes::from(format!("id: {index}\nevent: tick\ndata: {{\"tick\":{index}}}\n\n"))))
    });
    let mut response = Response::new(StreamBody::new(events).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

async fn about(request: Request<Incoming>) -> Response<Body> {
    let (head, mut body) = request.into_parts();
    let (mut shown, mut length) = (Vec::new(), 0_u64);
    while !body.is_end_stream() {
        match body.frame().await {
            Some(Ok(frame)) => {
                let data = frame.into_data().unwrap_or_default();
                length += data.len() as u64;
                let room = BODY_SHOWN_MAX - shown.len();
                shown.extend_from_slice(&data[..data.len().min(room)]);
            }
            // The caller went away; the answer goes nowhere.
            Some(Err(_)) | None => break,
        }
    }
    let about = serde_json::json!({
        "instance_id": std::env::var("FREEHOLD_INSTANCE_ID").ok(),
        "pid": std::process::id(),
        "method": head.method.as_str(),
        "path": head.uri.path(),
        "query": head.uri.query(),
        "headers": headers(&head.headers),
        "body_bytes": length,
        "body": String::from_utf8_lossy(&shown),
    });
    json(StatusCode::OK, &about)
}

fn headers(headers: &HeaderMap) -> serde_json::Map<String, serde_json::Value> {
    let mut shown = serde_json::Map::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        match shown.get_mut(name.as_str()) {
            Some(serde_json::Value::String(before)) => *before = format!("{before}, {value}"),
            Some(_) | None => {
                shown.insert(name.to_string(), value.into());
            }
        }
    }
    shown
}

fn json(status: StatusCode, value: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(full(format!("{value}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never| match never {}).boxed_unsync()
}
