//! The client against a server that answers from a script and shows what it was sent.

use futures_util::StreamExt as _;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;
use crate::code::Code;
use crate::problem::Problem;

const ID: Uuid = Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_0001);

/// Answers one request with `answer` and hands back the request. The client's connection ends with the answer.
async fn once(answer: String) -> (Client, JoinHandle<String>) {
    // Another test of this process may have been first; any ring provider will do.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/", listener.local_addr().unwrap());
    let served = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let (mut seen, mut chunk) = (Vec::new(), [0; 4096]);
        while !is_whole(&seen) {
            let count = socket.read(&mut chunk).await.unwrap();
            seen.extend_from_slice(&chunk[..count]);
        }
        socket.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(seen).unwrap()
    });
    (Client::new(&base, Some(Token::new("hunter2\n").unwrap())).unwrap(), served)
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())
}

fn operation() -> serde_json::Value {
    json!({
        "id": ID, "kind": "provision", "instance_id": ID, "owner": "user:alice", "status": "running",
        "phase": "runtime", "attempt": 1, "epoch": 1, "holder": "node-a", "deadline": null,
        "started_at": "2026-11-23T10:00:00Z", "finished_at": null, "steps": [], "error": null,
    })
}

#[tokio::test]
async fn a_create_sends_its_key_and_its_wish_and_reads_the_operation() {
    let body = json!({"operation": operation()}).to_string();
    let (client, served) =
        once(answer("202 Accepted", "retry-after: 2\r\nidempotency-replayed: true\r\n", &body)).await;
    let key: IdempotencyKey = "a key".parse().unwrap();
    let prefer = Prefer { respond_async: true, wait: None };
    let created = client.create(&CreateInstance::for_owner("user:alice"), Some(&key), prefer).await.unwrap();
    assert!(created.replayed);
    let Outcome::Accepted { operation, retry_after } = created.outcome else { panic!("the work goes on") };
    assert_eq!((operation.instance_id, retry_after), (ID, Some(Duration::from_secs(2))));

    let seen = served.await.unwrap();
    assert!(seen.starts_with("POST /v1/instances HTTP/1.1\r\n"), "{seen}");
    for line in ["authorization: Bearer hunter2", "idempotency-key: \"a key\"", "prefer: respond-async"] {
        assert!(seen.contains(&format!("{line}\r\n")), "{line} is missing in {seen}");
    }
    assert!(seen.ends_with("\r\n\r\n{\"owner\":\"user:alice\"}"), "{seen}");
}

#[tokio::test]
async fn a_refusal_arrives_as_the_server_said_it() {
    let problem = Problem::new(Code::InstanceAlreadyActive, "the context has its instance").instance(ID);
    let body = serde_json::to_string(&problem).unwrap();
    let (client, _served) = once(answer("409 Conflict", "content-type: application/problem+json\r\n", &body)).await;
    let error = client.start(ID).await.unwrap_err();
    assert_eq!(error.problem(), Some(&problem));
    assert_eq!(error.status(), Some(409));
}

#[tokio::test]
async fn somebody_elses_error_page_is_unexpected() {
    let (client, _served) = once(answer("502 Bad Gateway", "", "<h1>nginx</h1>")).await;
    let error = client.owner("user:alice").await.unwrap_err();
    assert!(matches!(&error, ClientError::Unexpected { status: 502, body } if body.contains("nginx")), "{error:?}");
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let (client, served) = once(String::new()).await;
    let error = client.instance(ID).await.unwrap_err();
    served.await.unwrap();
    assert!(matches!(error, ClientError::Unreachable { .. }), "an answer cut off: {error:?}");
    let error = client.instance(ID).await.unwrap_err();
    assert!(error.to_string().starts_with("no answer from http://127.0.0.1:"), "nobody listens: {error}");
}

#[tokio::test]
async fn events_are_read_until_the_stream_ends() {
    let events = format!(": hello\n\nevent: operation\nid: 1\ndata: {}\n\n", operation());
    let (client, served) = once(answer("200 OK", "content-type: text/event-stream\r\n", &events)).await;
    let events: Vec<_> = client.operation_events(ID).await.unwrap().collect().await;
    assert_eq!(events.len(), 1);
    let operation: Operation = events[0].as_ref().unwrap().json().unwrap();
    assert_eq!(operation.id, ID);
    assert!(served.await.unwrap().starts_with(&format!("GET /v1/operations/{ID}/events ")));
}

#[tokio::test]
async fn an_owner_with_odd_characters_stays_one_segment() {
    let (client, served) = once(answer("404 Not Found", "", "")).await;
    client.owner("user:a/b?c#d%e").await.unwrap_err();
    let seen = served.await.unwrap();
    assert!(seen.starts_with("GET /v1/owners/user:a%2Fb%3Fc%23d%25e HTTP/1.1\r\n"), "{seen}");
}

#[tokio::test]
async fn a_server_that_is_not_ready_is_an_answer() {
    let body = r#"{"status":"unavailable","checks":[{"name":"store","ok":false,"detail":"disk full"}]}"#;
    let (client, _served) = once(answer("503 Service Unavailable", "", body)).await;
    assert!(!client.ready().await.unwrap().checks[0].ok);
}

#[test]
fn tokens_and_addresses_are_checked_and_tokens_are_not_shown() {
    assert_eq!(format!("{:?}", Token::new("hunter2").unwrap()), "Token([redacted])");
    for bad in ["", "  \n", "two words", "caf\u{e9}", "a\nb"] {
        assert!(matches!(Token::new(bad), Err(ClientError::Setup(_))), "{bad:?}");
    }
    for bad in ["", "127.0.0.1:7788", "ftp://host", "http://"] {
        assert!(matches!(Client::new(bad, None), Err(ClientError::Setup(_))), "{bad:?}");
    }
}
