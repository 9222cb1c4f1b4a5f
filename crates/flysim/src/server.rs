//! Sockets: a listener on a loopback address, and what becomes of a reply on the wire.
//!
//! The accept loop is our own, because a connection has to be closed without an answer: hyper does that for a service
//! that fails, and a framework on top of it never lets one fail.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::{SignedDuration, Timestamp};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tower::ServiceExt;

use crate::answer::Answer;
use crate::call::Call;
use crate::control;
use crate::fault::Rule;
use crate::options::Options;
use crate::sim::{self, Reply, Sim};
use crate::world::WorldView;

/// Most bytes of a request's body; more is 413.
pub(crate) const BODY_BYTES_MAX: usize = 1024 * 1024;
/// How long a connection may take to say what it wants.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long open connections have once the server ends.
const DRAIN: Duration = Duration::from_millis(500);
/// A piece of a huge answer.
const PIECE: Bytes = Bytes::from_static(&[b'x'; 64 * 1024]);

/// A simulated Fly that is listening. Dropping it closes everything.
#[derive(Debug)]
pub struct FlySim {
    sim: Sim,
    address: SocketAddr,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl FlySim {
    /// Listens, and answers from then on. Needs a tokio runtime with io and time.
    ///
    /// # Errors
    /// The address is not a loopback address or is taken, or a rule of the options cannot be carried out.
    pub async fn start(options: Options) -> io::Result<Self> {
        if !options.listen.ip().is_loopback() {
            let why = format!("{} is not a loopback address, and the control routes have no lock", options.listen);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let listener = TcpListener::bind(options.listen).await?;
        let address = listener.local_addr()?;
        let sim = Sim::new(options).map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, why))?;
        let task = tokio::spawn(accept(listener, sim.clone()));
        Ok(Self { sim, address, task: Some(task) })
    }

    /// `http://ADDRESS`, without a path.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The base of the Machines API, `http://ADDRESS/v1`.
    #[must_use]
    pub fn api_url(&self) -> String {
        format!("{}/v1", self.url())
    }

    /// Everything that exists and was counted, by now.
    #[must_use]
    pub fn world(&self) -> WorldView {
        self.sim.state().world.view()
    }

    /// Adds a rule, after those that are there.
    ///
    /// # Panics
    /// The rule cannot be carried out: a chance that is none, a status that is none, or too many rules.
    pub fn rule(&self, rule: Rule) {
        let added = self.sim.state().rules.add(vec![rule]);
        assert!(added.is_ok(), "the rule cannot be taken: {added:?}");
    }

    /// Takes away every rule.
    pub fn clear_rules(&self) {
        self.sim.state().rules.clear();
    }

    /// How often each rule matched and happened, in order.
    #[must_use]
    pub fn rules(&self) -> Vec<(Rule, u64, u64)> {
        self.sim.state().rules.list()
    }

    /// Everything as it was at the start.
    pub fn reset(&self) {
        self.sim.state().reset();
    }

    /// Lets simulated time jump ahead: everything that is due by then has happened when this returns. Rates, leases and
    /// late effects go by simulated time; delays and waits of open calls do not.
    pub fn advance(&self, time: Duration) {
        let mut state = self.sim.state();
        state.skipped = state.skipped.saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    }

    /// Takes away an app (by name or id), a machine or a volume behind the client's back. Whether it was there.
    pub fn vanish(&self, id: &str) -> bool {
        self.sim.state().world.vanish(id)
    }

    /// Makes an app in any organisation. Its id, or `None` where the name is taken.
    pub fn plant_app(&self, org: &str, name: &str) -> Option<String> {
        self.sim.state().world.plant_app(org, name)
    }

    /// Makes a started machine that the client did not ask for. Its id, or `None` where there is no such app.
    pub fn plant_machine(&self, app: &str, name: &str, metadata: &[(&str, &str)]) -> Option<String> {
        let metadata: BTreeMap<String, String> =
            metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        self.sim.state().world.plant_machine(app, name, &metadata)
    }

    /// Makes a volume that the client did not ask for. Its id, or `None` where there is no such app.
    pub fn plant_volume(&self, app: &str, name: &str) -> Option<String> {
        self.sim.state().world.plant_volume(app, name)
    }

    /// Puts a machine into a state by its name in the API, such as `stopped`. Whether both exist.
    pub fn put_state(&self, machine: &str, state: &str) -> bool {
        self.sim.state().world.put_state(machine, state)
    }

    /// A token is worth nothing from here on.
    pub fn revoke_token(&self, token: &str) {
        self.sim.state().world.revoke(token);
    }

    /// Which regions are full from here on.
    pub fn set_full_regions(&self, regions: &[&str]) {
        let regions = regions.iter().map(|region| (*region).to_owned()).collect();
        self.sim.state().world.options_mut().full_regions = regions;
    }

    /// In which regions the hosts of volumes are full from here on.
    pub fn set_full_volume_hosts(&self, regions: &[&str]) {
        let regions = regions.iter().map(|region| (*region).to_owned()).collect();
        self.sim.state().world.options_mut().full_volume_hosts = regions;
    }

    /// The value of an app's secret, which no route shows.
    #[must_use]
    pub fn secret(&self, app: &str, name: &str) -> Option<String> {
        self.sim.state().world.secret(app, name)
    }

    /// Stops listening, gives open connections half a second, and closes the rest.
    pub async fn stop(mut self) {
        self.sim.stop.cancel();
        if let Some(task) = self.task.take() {
            // The only way to fail is to be aborted, which is an end too.
            let _ = task.await;
        }
    }
}

impl Drop for FlySim {
    fn drop(&mut self) {
        self.sim.stop.cancel();
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn accept(listener: TcpListener, sim: Sim) {
    let control = control::routes(sim.clone());
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = sim.stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve(stream, sim.clone(), control.clone()));
                }
                // Out of descriptors, most likely: they come back as connections end.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
    drop(listener);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(DRAIN, all_ended).await;
}

async fn serve(stream: TcpStream, sim: Sim, control: Router) {
    // A small answer is sent at once; where it cannot be set, it is only slower.
    let _ = stream.set_nodelay(true);
    let stop = sim.stop.clone();
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let (sim, control) = (sim.clone(), control.clone());
        async move {
            let request = request.map(Body::new);
            if request.uri().path().starts_with("/_sim/") {
                let answered: Result<Response<Body>, Infallible> = control.oneshot(request).await;
                return answered.map_err(|never| match never {});
            }
            machines(&sim, request).await
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        // It fails where a fault closed it, or the client did.
        _ = connection.as_mut() => return,
        () = stop.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

/// The connection is to be closed without an answer.
#[derive(Debug)]
struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("closed on purpose")
    }
}

impl std::error::Error for Closed {}

/// One request of the Machines API.
async fn machines(sim: &Sim, request: Request<Body>) -> Result<Response<Body>, Closed> {
    let (head, body) = request.into_parts();
    let call = Call::route(head.method.as_str(), head.uri.path(), head.uri.query().unwrap_or_default());
    let call = match (call, to_bytes(body, BODY_BYTES_MAX).await) {
        (Ok(call), Ok(body)) => Ok(dress(call, &head.headers, &body)),
        // What is left of the body is not read, and hyper closes the connection.
        (Ok(_), Err(_)) => Err(Answer::error(413, "request body too large")),
        (Err(refusal), _) => Err(refusal),
    };
    let (response, clock_off) = match sim.take(call).await {
        Reply::Whole(answer, off) => (response(answer.status, sim::text(&answer, off), answer.retry_after), off),
        Reply::Truncated(answer, off) => {
            let text = sim::text(&answer, off).unwrap_or_else(|| "{}".to_owned());
            let half: String = text.chars().take((text.chars().count() / 2).max(1)).collect();
            (response(answer.status, Some(half), None), off)
        }
        Reply::Html(status) => (page(status), 0),
        Reply::Huge(bytes) => (huge(bytes), 0),
        Reply::Cut => return Err(Closed),
    };
    Ok(stamp(response, sim, clock_off))
}

fn dress(mut call: Call, headers: &HeaderMap, body: &Bytes) -> Call {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    // Fly takes both schemes; the second is how its macaroons are sent.
    let token = header("authorization").and_then(|value| {
        value.strip_prefix("Bearer ").or_else(|| value.strip_prefix("bearer ")).or_else(|| value.strip_prefix("FlyV1 "))
    });
    call.token = token.map(|token| token.trim().to_owned());
    call.nonce = header("fly-machine-lease-nonce").map(str::to_owned);
    call.body = body.to_vec();
    call.name_from_body();
    call
}

fn response(status: u16, text: Option<String>, retry_after: Option<u64>) -> Response<Body> {
    let mut response = Response::new(text.clone().map_or_else(Body::empty, Body::from));
    *response.status_mut() = status_code(status);
    if text.is_some() {
        let json = HeaderValue::from_static("application/json; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
    }
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn page(status: u16) -> Response<Body> {
    let title = status_code(status).canonical_reason().unwrap_or("Error");
    let page = format!("<!DOCTYPE html><html><head><title>{status} {title}</title></head><body>{title}</body></html>");
    let mut response = Response::new(Body::from(page));
    *response.status_mut() = status_code(status);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}

/// Valid JSON without a length: one text that goes on and on.
fn huge(bytes: u64) -> Response<Body> {
    const START: &str = "{\"error\":\"";
    const END: &str = "\"}";
    let middle = bytes.saturating_sub((START.len() + END.len()) as u64);
    let pieces = stream::unfold((0_u64, 0_u8), move |(sent, part)| async move {
        let left = middle - sent;
        let (piece, next) = match part {
            0 => (Bytes::from_static(START.as_bytes()), (0, 1)),
            1 if left > 0 => {
                let piece = PIECE.slice(..usize::try_from(left).unwrap_or(usize::MAX).min(PIECE.len()));
                let sent = sent + piece.len() as u64;
                (piece, (sent, 1))
            }
            1 => (Bytes::from_static(END.as_bytes()), (sent, 2)),
            _ => return None,
        };
        Some((Ok::<_, Infallible>(piece), next))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// What every response carries.
fn stamp(mut response: Response<Body>, sim: &Sim, clock_off: i64) -> Response<Body> {
    let (number, now) = {
        let mut state = sim.state();
        (state.number(), state.world.now())
    };
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&format!("{number:026X}-flysim")) {
        headers.insert("fly-request-id", id);
    }
    if let Ok(id) = HeaderValue::from_str(&format!("{number:032x}")) {
        headers.insert("fly-trace-id", id);
    }
    let now = Timestamp::from_millisecond(i64::try_from(now).unwrap_or(i64::MAX)).unwrap_or(Timestamp::MAX);
    let now = now.checked_add(SignedDuration::from_secs(clock_off)).unwrap_or(now);
    if let Ok(date) = HeaderValue::from_str(&now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()) {
        headers.insert(header::DATE, date);
    }
    response
}

fn status_code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}
