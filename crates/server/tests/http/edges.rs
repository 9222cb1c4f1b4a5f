//! Requests that are not quite requests, and a server that stops.

use std::sync::Arc;
use std::time::{Duration, Instant};

use freehold_server::Bounds;
use http::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::{Events, PATIENCE, raw};
use crate::server::{OPERATOR, Options, Server};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_named_in_its_answer() {
    let server = Server::start().await;
    let named = server.call(Method::GET, "/nowhere").header("x-request-id", "abc").send().await;
    assert_eq!(named.header("x-request-id"), "abc");
    assert_eq!(named.problem(404, "not_found")["request_id"], "abc");
    let insane = server.call(Method::GET, "/healthz").header("x-request-id", &"a".repeat(65)).send().await;
    assert_eq!(insane.header("x-request-id").len(), 32);
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_that_a_path_lacks_are_refused_with_those_it_has() {
    let server = Server::start().await;
    let put = server.call(Method::PUT, "/v1/instances").key(OPERATOR).send().await;
    let allow = put.header("allow").to_owned();
    assert!(allow.contains("GET") && allow.contains("POST"), "{allow}");
    put.problem(405, "method_not_allowed");
    server.call(Method::PUT, "/v1/instances").send().await.problem(401, "unauthorized");
    server.call(Method::POST, "/healthz").send().await.problem(405, "method_not_allowed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_has_no_body() {
    let server = Server::start().await;
    let head = server.call(Method::HEAD, "/v1/instances").key(OPERATOR).send().await.with(200);
    assert!(head.body.is_empty());
    let refused = server.call(Method::HEAD, "/v1/instances").send().await.with(401);
    assert!(refused.body.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_headers_are_cut_off() {
    let server = Server::start().await;
    let many: String = (0..200).map(|n| format!("x-{n}: y\r\n")).collect();
    let answer = raw(server.address, format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{many}\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let long = format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "y".repeat(128 * 1024));
    let answer = raw(server.address, long.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let answer = raw(server.address, b"nonsense\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    server.call(Method::GET, "/healthz").send().await.with(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_head_is_not_waited_for() {
    let bounds = Bounds { head_read: Duration::from_millis(200), ..Bounds::default() };
    let server = Server::with(Options { bounds, ..Options::default() }).await;
    let begun = Instant::now();
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: ").await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(begun.elapsed() >= Duration::from_millis(190) && begun.elapsed() < PATIENCE);
    assert!(!String::from_utf8_lossy(&answer).contains("200 OK"));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_connections_than_there_are_places_wait() {
    let bounds = Bounds { connections: 1, ..Bounds::default() };
    let server = Server::with(Options { bounds, ..Options::default() }).await;
    let first = TcpStream::connect(server.address).await.unwrap();
    let second = tokio::spawn(server.call(Method::GET, "/healthz").send());
    tokio::task::yield_now().await;
    assert!(!second.is_finished());
    drop(first);
    second.await.unwrap().with(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_a_problem_and_not_the_end() {
    let probe = Arc::new(|| -> Result<String, String> { panic!("this panic is part of the test") });
    let server = Server::with(Options { probe, ..Options::default() }).await;
    let problem = server.call(Method::GET, "/readyz").send().await.problem(500, "internal_error");
    assert!(!problem.to_string().contains("part of the test"), "{problem}");
    server.call(Method::GET, "/healthz").send().await.with(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_streams_finishes_requests_and_refuses_new_ones() {
    let mut server = Server::paused().await;
    let created = server.create("user:alice").header("prefer", "respond-async").send().await.with(202);
    let path = format!("{}/events", created.header("location"));
    let mut followed = Events::of(server.call(Method::GET, &path).key(OPERATOR)).await;
    let mut everything = Events::of(server.call(Method::GET, "/v1/events").key(OPERATOR)).await;
    followed.next().await.unwrap();
    everything.next().await.unwrap();
    let waiting = tokio::spawn(server.create("user:bob").header("prefer", "wait=1").send());
    let begun = Instant::now();
    while server.get("/v1/owners/user:bob").await.status != 200 {
        assert!(begun.elapsed() < PATIENCE);
    }

    server.shutdown.cancel();
    assert!(followed.next().await.is_none());
    while everything.next().await.is_some() {}
    waiting.await.unwrap().with(202);
    (&mut server.serving).await.unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err(), "nobody listens");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_ever() {
    let bounds = Bounds { drain: Duration::from_millis(100), ..Bounds::default() };
    let mut server = Server::with(Options { bounds, running: false, ..Options::default() }).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = format!(
        "POST /v1/instances HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {OPERATOR}\r\ncontent-type: application/json\r\n\
         content-length: 100\r\n\r\n{{"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let begun = Instant::now();
    server.get("/healthz").await.with(200);
    server.shutdown.cancel();
    (&mut server.serving).await.unwrap().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "a body that does not come holds nothing up");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_say_everything_and_leave_are_served() {
    let server = Server::start().await;
    for number in 0..40 {
        let body = format!(r#"{{"owner":"user:hasty-{number}"}}"#);
        let head = format!(
            "POST /v1/instances HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {OPERATOR}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        // From another thread, so that everything is there before the server looks.
        let address = server.address;
        let left = std::thread::spawn(move || {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
        });
        left.join().unwrap();
    }
    let deadline = Instant::now() + PATIENCE;
    for number in 0..40 {
        let owner = format!("/v1/owners/user:hasty-{number}");
        while server.call(Method::GET, &owner).key(OPERATOR).send().await.status != 200 {
            assert!(Instant::now() < deadline, "what client {number} asked for was dropped");
            tokio::task::yield_now().await;
        }
    }
}
