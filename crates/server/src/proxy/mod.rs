//! The way to the instances: `/i/{instance_id}/…`, any method, streamed both ways, upgrades included.
//!
//! The route is looked up for every request, so a destroyed instance is gone at once. What the instance gets is the
//! request without our prefix, our credential and whatever is meant for the next hop only; what the client gets is the
//! instance's own answer.

mod headers;
mod upgrade;
mod watch;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use freehold_api::{Code, Problem};
use freehold_domain::ids::InstanceId;
use freehold_domain::route::Endpoint;
use http::header::{AUTHORIZATION, HOST, LOCATION};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use self::watch::Watched;
use crate::convert::uuid;
use crate::http::App;
use crate::http::edge::{Proxied, REQUEST_ID, RequestId};
use crate::http::extract::{Caller, Named as _};
use crate::http::routes::show::live;
use crate::limits::{PROXY_CONNECT_MAX, PROXY_SILENCE_MAX};
use crate::platform;
use crate::problems::Refusal;
use crate::users::Scope;

/// The paths that are passed on. The first one lacks its last slash and is sent to the second.
pub(crate) const PATHS: [&str; 3] = ["/i/{instance_id}", "/i/{instance_id}/", "/i/{instance_id}/{*path}"];

/// How long an idle connection to an instance is kept.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// How many idle connections per instance are kept.
const IDLE_PER_INSTANCE_MAX: usize = 32;

/// Where a client's connection comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// The connections to the instances.
#[derive(Clone, Debug)]
pub(crate) struct Upstream(Client<HttpConnector, Body>);

impl Upstream {
    pub(crate) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(PROXY_CONNECT_MAX));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(IDLE_PER_INSTANCE_MAX)
            .build(connector);
        Self(client)
    }
}

/// Passes a request on to its instance, and the instance's answer back.
pub(crate) async fn pass(State(app): State<Arc<App>>, request: Request) -> Result<Response, Refusal> {
    let (id, prefix) = named(request.uri())?;
    let Some(rest) = request.uri().path().strip_prefix(prefix.as_str()).filter(|rest| !rest.is_empty()) else {
        return Ok(with_slash(&prefix, request.uri()));
    };
    // Without a caller the proxy is open to all.
    let scope = request.extensions().get::<Caller>().map_or(Scope::Everything, |caller| caller.scope.clone());
    let (endpoint, _) = live(&app, id, &scope).await?;
    let target = target(&endpoint, rest, request.uri().query())?;
    forward(&app, id, &prefix, target, request).await
}

/// The instance that a path names, and the part of the path that is ours.
fn named(uri: &Uri) -> Result<(InstanceId, String), Refusal> {
    let text = uri.path().split('/').nth(2).unwrap_or_default();
    Ok((InstanceId::read(text)?, format!("/i/{text}")))
}

/// Relative links of the instance's pages need the slash.
fn with_slash(prefix: &str, uri: &Uri) -> Response {
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut response = StatusCode::PERMANENT_REDIRECT.into_response();
    if let Ok(location) = HeaderValue::try_from(format!("{prefix}/{query}")) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

fn target(endpoint: &Endpoint, rest: &str, query: Option<&str>) -> Result<Uri, Refusal> {
    let broken = |why: &dyn std::fmt::Display| Refusal::broken(&format_args!("endpoint `{}`: {why}", endpoint.0));
    let authority = endpoint.0.strip_prefix("http://").ok_or_else(|| broken(&"is not http"))?;
    let authority: Authority = authority.trim_end_matches('/').parse().map_err(|why| broken(&why))?;
    let path = match query {
        Some(query) => format!("{rest}?{query}"),
        None => rest.to_owned(),
    };
    let path: PathAndQuery =
        path.parse().map_err(|_| Refusal::new(Code::InvalidRequest, "the path behind the instance cannot be read"))?;
    Uri::builder().scheme(Scheme::HTTP).authority(authority).path_and_query(path).build().map_err(|why| broken(&why))
}

async fn forward(
    app: &App,
    id: InstanceId,
    prefix: &str,
    target: Uri,
    mut request: Request,
) -> Result<Response, Refusal> {
    let ours = !app.settings.proxy_public || app.keys.is_ours(request.headers()).await;
    // The other header that our keys come in: an instance may have one of that name, with keys of its own.
    let platform_ours = match platform::key(request.headers()) {
        // Whoever cannot tell keeps it here.
        Ok(key) => app.keys.identify_key(key).await.map_or_else(|no| no.0.code != Code::Unauthorized, |_| true),
        Err(_) => true,
    };
    let client_side = upgrade::wanted(request.headers()).then(|| hyper::upgrade::on(&mut request));
    let (mut parts, body) = request.into_parts();
    let wanted = client_side.is_some().then(|| upgrade::protocol(&parts.headers)).flatten();

    let peer = parts.extensions.get::<Peer>().map(|Peer(address)| address.ip());
    let host = parts.headers.get(HOST).cloned();
    headers::for_next_hop(&mut parts.headers);
    if ours {
        parts.headers.remove(AUTHORIZATION);
    }
    if platform_ours {
        parts.headers.remove(platform::KEY);
    }
    headers::forwarded(&mut parts.headers, peer, host, prefix);
    if let Some(id) = parts.extensions.get::<RequestId>() {
        parts.headers.insert(REQUEST_ID, id.0.clone());
    }
    if let Some(authority) = target.authority().and_then(|it| HeaderValue::try_from(it.as_str()).ok()) {
        parts.headers.insert(HOST, authority);
    }
    if let Some(protocol) = &wanted {
        upgrade::ask(&mut parts.headers, protocol);
    }

    let (body, sent) = Watched::new(body);
    let mut onward = http::Request::new(Body::new(body));
    *onward.method_mut() = parts.method;
    *onward.uri_mut() = target;
    *onward.headers_mut() = parts.headers;
    let answered = sent.silent_for(PROXY_SILENCE_MAX, app.upstream.0.request(onward)).await;
    let mut answer = match answered {
        Some(Ok(answer)) => answer,
        Some(Err(error)) => return Err(unreachable(id, &error)),
        None => return Err(unreachable(id, &"no answer in time")),
    };

    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        let (Some(client), Some(protocol)) = (client_side, wanted) else {
            return Err(unreachable(id, &"it changed protocols although nobody asked"));
        };
        upgrade::join(client, hyper::upgrade::on(&mut answer), app.shutdown.clone());
        let (mut parts, _) = answer.into_parts();
        headers::for_next_hop(&mut parts.headers);
        upgrade::ask(&mut parts.headers, &protocol);
        return Ok(theirs(Response::from_parts(parts, Body::empty())));
    }
    let (mut parts, body) = answer.into_parts();
    headers::for_next_hop(&mut parts.headers);
    Ok(theirs(Response::from_parts(parts, Body::new(body))))
}

fn theirs(mut response: Response) -> Response {
    response.extensions_mut().insert(Proxied);
    response
}

fn unreachable(id: InstanceId, why: &dyn std::fmt::Display) -> Refusal {
    tracing::info!(instance = %id, %why, "an instance does not answer");
    let detail = "the instance does not answer; it may be starting, stopped, or not listening on its PORT";
    Problem::new(Code::InstanceUnreachable, detail).instance(uuid(id.as_bytes())).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "01990000-0000-7000-8000-000000000001";

    #[test]
    fn the_prefix_is_ours_and_the_rest_goes_on_as_it_was_written() {
        let uri: Uri = format!("/i/{ID}/a%2Fb/../c?x=%20&y").parse().unwrap();
        let (id, prefix) = named(&uri).unwrap();
        assert_eq!(id.to_string(), ID);
        let rest = uri.path().strip_prefix(&prefix).unwrap();
        let endpoint = Endpoint("http://127.0.0.1:40001".into());
        let target = target(&endpoint, rest, uri.query()).unwrap();
        assert_eq!(target.to_string(), "http://127.0.0.1:40001/a%2Fb/../c?x=%20&y");
    }

    #[test]
    fn a_path_without_its_slash_is_sent_to_the_one_with_it() {
        let uri: Uri = format!("/i/{ID}?a=b").parse().unwrap();
        let response = with_slash(&named(&uri).unwrap().1, &uri);
        assert_eq!(response.status(), StatusCode::PERMANENT_REDIRECT);
        assert_eq!(response.headers()[LOCATION], format!("/i/{ID}/?a=b"));
    }

    #[test]
    fn an_id_that_is_none_is_refused() {
        assert_eq!(named(&"/i/nonsense/".parse().unwrap()).unwrap_err().0.code, Code::InvalidRequest);
    }
}
