//! The socket: signatures on the way in, faults on the way out.
//!
//! Connections are served by hyper itself, because some are to be closed without an answer: hyper does that for a service
//! that fails.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::Fault;
use super::books::{Desk, Reply};

/// The most of a message that is read, in bytes.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// The length of an answer that nobody should read to its end, in bytes.
const HUGE: usize = 256 * 1024;

/// The connection is to be closed without an answer.
#[derive(Debug)]
struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("closed on purpose")
    }
}

impl std::error::Error for Closed {}

type Shared = Arc<Mutex<Desk>>;

pub(super) async fn accept(listener: TcpListener, desk: Shared) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                // A small answer is sent at once; where it cannot be set, it is only slower.
                let _ = stream.set_nodelay(true);
                let desk = Arc::clone(&desk);
                connections.spawn(async move {
                    let service = service_fn(move |request| answer(Arc::clone(&desk), request));
                    let mut http = hyper::server::conn::http1::Builder::new();
                    // It fails where a fault closed it, or the client did.
                    let _ = http.timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).await;
                });
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn plain(status: u16, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

async fn answer(desk: Shared, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Closed> {
    let (head, body) = request.into_parts();
    if head.method != Method::POST {
        return Ok(plain(405, ""));
    }
    let Ok(body) = Limited::new(body, MESSAGE_BYTES_MAX).collect().await else { return Ok(plain(413, "")) };
    let body = body.to_bytes();
    let reply = {
        let mut desk = desk.lock().unwrap_or_else(PoisonError::into_inner);
        let header = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
        let verified = desk.secrets.verify(header, &body, now()).map(str::to_owned);
        match verified {
            Ok(id) => desk.receive(&id, &serde_json::from_slice(&body).unwrap_or_default()),
            Err(why) => {
                desk.books.unsigned += 1;
                return Ok(plain(401, serde_json::json!({"message": why.to_string()}).to_string()));
            }
        }
    };
    let Reply { status, body, fault } = reply;
    let usual = plain(status, body.to_string());
    match fault {
        Some(Fault::Down | Fault::AnswerLost) => Err(Closed),
        Some(Fault::Slow(span)) => {
            tokio::time::sleep(span).await;
            Ok(usual)
        }
        Some(Fault::Malformed) => Ok(plain(200, "<html>all is well</html>")),
        Some(Fault::Huge) => Ok(plain(200, vec![b' '; HUGE])),
        Some(Fault::Redirect) => Ok(with(plain(307, ""), header::LOCATION, "/elsewhere")),
        Some(Fault::ErrorAfter) => Ok(plain(500, "")),
        Some(Fault::Says(text)) => Ok(plain(200, text)),
        Some(Fault::Throttle) => Ok(with(usual, header::RETRY_AFTER, "1")),
        Some(Fault::Refuse | Fault::Deny(_) | Fault::ErrorBefore) | None => Ok(usual),
    }
}

fn with(mut response: Response<Full<Bytes>>, name: header::HeaderName, value: &'static str) -> Response<Full<Bytes>> {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
    response
}
