//! The way to the instances.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use freehold_domain::route::Endpoint;
use freehold_server::Settings;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::client::PATIENCE;
use crate::server::{OPERATOR, Options, PLATFORM, Server, VIEWER};
use crate::tokens;

/// An instance: it tells what it was sent, or, where it is asked to change protocols, repeats what it hears.
async fn instance(mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.headers().contains_key(UPGRADE) {
        let upgraded = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut io = TokioIo::new(upgraded.await.unwrap());
            let (mut read, mut write) = tokio::io::split(&mut io);
            let _ = tokio::io::copy(&mut read, &mut write).await;
        });
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        response.headers_mut().insert(UPGRADE, HeaderValue::from_static("echo"));
        return Ok(response);
    }
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let headers: serde_json::Map<_, _> =
        parts.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().into())).collect();
    let told = json!({"method": parts.method.as_str(), "uri": parts.uri.to_string(), "headers": headers,
                      "bytes": body.len()});
    let mut response = Response::new(Full::from(told.to_string()));
    *response.status_mut() = StatusCode::IM_A_TEAPOT;
    response.headers_mut().insert("set-cookie", HeaderValue::from_static("theirs=1"));
    Ok(response)
}

async fn listening() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(instance);
            let builder = hyper::server::conn::http1::Builder::new();
            tokio::spawn(builder.serve_connection(TokioIo::new(stream), service).with_upgrades());
        }
    });
    address
}

/// A server with one instance that answers, and the instance's id.
async fn serving(settings: Settings) -> (Server, String) {
    let server = Server::with(Options { settings, ..Options::default() }).await;
    server.cloud.answer_at(Endpoint(format!("http://{}", listening().await)));
    let id = server.made("user:alice").await["id"].as_str().unwrap().to_owned();
    (server, id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_arrives_as_it_was_sent_without_what_is_ours() {
    let (server, id) = serving(Settings::default()).await;
    let call = server
        .call(Method::PUT, &format!("/i/{id}/a%20b/c?x=1&y=%2F"))
        .key(PLATFORM)
        .header("x-request-id", "r-1")
        .header("cookie", "theirs=1")
        .header("te", "trailers")
        .header("x-forwarded-host", "evil")
        .body(vec![b'x'; 300_000]);
    let answer = call.send().await.with(418);
    assert_eq!(answer.header("set-cookie"), "theirs=1");
    assert_eq!(answer.header("x-request-id"), "r-1");
    assert_eq!(answer.header("cache-control"), "", "an instance's own headers are left alone");
    let told = answer.json();
    assert_eq!((&told["method"], &told["uri"]), (&json!("PUT"), &json!("/a%20b/c?x=1&y=%2F")));
    assert_eq!(told["bytes"], 300_000, "there is no limit to a body");
    let headers = &told["headers"];
    assert_eq!(headers["authorization"], json!(null));
    assert_eq!(headers["te"], json!(null));
    assert_eq!(headers["cookie"], "theirs=1");
    assert_eq!(headers["x-forwarded-for"], "127.0.0.1");
    assert_eq!(headers["x-forwarded-host"], server.address.to_string());
    assert_eq!(headers["x-forwarded-proto"], "http");
    assert_eq!(headers["x-forwarded-prefix"], format!("/i/{id}"));
    assert_eq!(headers["x-request-id"], "r-1");
    assert_ne!(headers["host"], server.address.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_is_open_to_those_who_may_and_ends_with_the_instance() {
    let (server, id) = serving(Settings::default()).await;
    let path = format!("/i/{id}/");
    server.call(Method::GET, &path).send().await.problem(401, "unauthorized");
    server.call(Method::GET, &path).key(VIEWER).send().await.problem(403, "forbidden");
    server.call(Method::OPTIONS, &path).key(PLATFORM).send().await.with(418);
    server.call(Method::GET, &path).key(&tokens::of("bob", &[])).send().await.problem(404, "instance_not_found");
    let own = server.call(Method::GET, &path).key(&tokens::of("alice", &[])).send().await.with(418).json();
    assert_eq!(own["headers"]["authorization"], json!(null), "a token is for us, and goes no further");
    let redirect = server.call(Method::GET, &format!("/i/{id}?a=b")).key(PLATFORM).send().await.with(308);
    assert_eq!(redirect.header("location"), format!("/i/{id}/?a=b"));
    server.delete(&format!("/v1/instances/{id}")).await.with(200);
    server.get(&path).await.problem(410, "gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_way_needs_no_key_and_gives_none_of_ours_away() {
    let (server, id) = serving(Settings { proxy_public: true, ..Settings::default() }).await;
    let path = format!("/i/{id}/");
    server.call(Method::GET, &path).send().await.with(418);
    let theirs = server.call(Method::GET, &path).key("a key of the instance").send().await.with(418).json();
    assert_eq!(theirs["headers"]["authorization"], "Bearer a key of the instance");
    let ours = server.call(Method::GET, &path).key(OPERATOR).send().await.with(418).json();
    assert_eq!(ours["headers"]["authorization"], json!(null));
    let token = tokens::of("bob", &[]);
    let ours = server.call(Method::GET, &path).key(&token).send().await.with(418).json();
    assert_eq!(ours["headers"]["authorization"], json!(null), "whoever's token it is");
    let token = tokens::expired("alice");
    let theirs = server.call(Method::GET, &path).key(&token).send().await.with(418).json();
    assert_eq!(theirs["headers"]["authorization"], format!("Bearer {token}"), "it may be one of the instance's own");
    for (key, seen) in [("a key of the instance", json!("a key of the instance")), (PLATFORM, json!(null))] {
        let answer = server.call(Method::GET, &path).header("x-internal-api-key", key).send().await.with(418).json();
        assert_eq!(answer["headers"]["x-internal-api-key"], seen);
    }
    server.call(Method::GET, &format!("/v1/instances/{id}")).send().await.problem(401, "unauthorized");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_may_become_something_else() {
    let (server, id) = serving(Settings::default()).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = format!(
        "GET /i/{id}/socket HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {PLATFORM}\r\nconnection: Upgrade\r\n\
         upgrade: echo\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap());
    }
    let answer = String::from_utf8(answer).unwrap().to_lowercase();
    assert!(answer.starts_with("http/1.1 101") && answer.contains("upgrade: echo"), "{answer}");
    for said in [&b"hello"[..], b"again"] {
        stream.write_all(said).await.unwrap();
        let mut heard = vec![0; said.len()];
        timeout(PATIENCE, stream.read_exact(&mut heard)).await.unwrap().unwrap();
        assert_eq!(heard, said);
    }
    server.shutdown.cancel();
    let mut rest = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_does_not_answer_is_said_to() {
    let server = Server::start().await;
    // Taken and given up again: nobody listens there.
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    server.cloud.answer_at(Endpoint(format!("http://{nobody}")));
    let id = server.made("user:alice").await["id"].as_str().unwrap().to_owned();
    let problem = server.get(&format!("/i/{id}/")).await.problem(502, "instance_unreachable");
    assert_eq!(problem["instance_id"], id.as_str());
}
