//! Who may call what.

use freehold_server::{Settings, openapi};
use http::Method;
use serde_json::Value;

use crate::client::Call;
use crate::server::{OPERATOR, Options, PLATFORM, Server, VIEWER};
use crate::tokens;

/// Every operation in the document: its method, its path with something in the places, the least role, if any, and
/// whether end users may call it.
fn operations(document: &Value) -> Vec<(Method, String, Option<String>, bool)> {
    let id = "01990000-0000-7000-8000-000000000001";
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let path = path.replace("{owner}", "user:a").replace("{code}", "gone").replace("{id}", id);
        let path = path.replace("{instance_id}", id).replace("{name}", "node-a");
        assert!(!path.contains('{'), "{path}");
        for (method, operation) in item.as_object().unwrap() {
            let requirements =
                operation["security"].as_array().unwrap_or_else(|| panic!("{method} {path} says nothing"));
            let role = requirements[0]["key"][0].as_str().map(str::to_owned);
            let users = match &requirements[1..] {
                [] => false,
                [user] => user["user"].is_array(),
                _ => panic!("{method} {path}"),
            };
            operations.push((method.to_uppercase().parse().unwrap(), path.clone(), role, users));
        }
    }
    operations
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_asks_for_a_key_with_its_role() {
    let server = Server::start().await;
    let document: Value = server.get("/openapi.json").await.with(200).json();
    let operations = operations(&document);
    assert!(operations.len() >= 26, "{}", operations.len());
    let mut open = Vec::new();
    for (method, path, role, users) in operations {
        let call = || Call::new(server.address, method.clone(), &path).header("prefer", "wait=0");
        let Some(role) = role else {
            // A key opens nothing there: the signature of the message does.
            let signed = path == "/v1/billing/events";
            assert_eq!(call().send().await.status == 401, signed, "{method} {path}");
            assert_eq!(call().key(OPERATOR).send().await.status == 401, signed, "{method} {path}");
            open.push(path);
            continue;
        };
        call().send().await.problem(401, "unauthorized");
        call().key("wrong").send().await.problem(401, "unauthorized");
        call().header("authorization", "Basic b3BlcmF0b3I=").send().await.problem(401, "unauthorized");
        call().key("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln").send().await.problem(401, "unauthorized");
        if users {
            assert_ne!(role, "operator", "{method} {path}");
        } else {
            call().key(&tokens::of("alice", &[])).send().await.problem(403, "forbidden");
        }
        let weaker: &[&str] = match role.as_str() {
            "viewer" => &[],
            "platform" => &[VIEWER],
            "operator" => &[VIEWER, PLATFORM],
            other => panic!("{method} {path} asks for the role {other}"),
        };
        for key in weaker {
            call().key(key).send().await.problem(403, "forbidden");
        }
        let enough = match role.as_str() {
            "viewer" => VIEWER,
            "platform" => PLATFORM,
            _ => OPERATOR,
        };
        let status = call().key(enough).open().await.status();
        assert!(![401, 403].contains(&status.as_u16()), "{method} {path}: {status}");
    }
    open.sort();
    assert_eq!(open, ["/", "/healthz", "/livez", "/openapi.json", "/problems/gone", "/readyz", "/v1/billing/events"]);
}

#[test]
fn the_document_without_a_server_is_the_one_that_is_served() {
    let document = openapi();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(operations(&document).iter().filter(|(_, path, ..)| path == "/v1/instances").count(), 2);
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            assert!(operation["operationId"].is_string(), "{method} {path}");
            for (status, response) in operation["responses"].as_object().unwrap() {
                assert!(!response["description"].as_str().unwrap().is_empty(), "{method} {path} {status}");
                let body = status.as_str() < "300" || response["content"].is_object();
                assert!(body, "{method} {path} {status} has no body");
            }
        }
    }
    let text = document.to_string();
    for name in ["Instance", "Operation", "Problem", "Reservation", "AuditEvent", "Leak", "Destroyed", "Changed"] {
        assert!(document["components"]["schemas"][name].is_object(), "{name}");
    }
    for reference in text.split("\"$ref\":\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(document["components"]["schemas"][name].is_object(), "{name} is referred to and missing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_the_registry_works_at_once_and_not_for_long_after_it_is_revoked() {
    let server = Server::start().await;
    let read = || server.call(Method::GET, "/v1/instances").key(VIEWER).send();
    read().await.with(200);
    let now = server.world.clock.now();
    server.world.store.key_revoke("viewer1", now).await.unwrap();
    let begun = std::time::Instant::now();
    while read().await.status == 200 {
        assert!(begun.elapsed() < std::time::Duration::from_secs(6), "a revoked key still works");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    read().await.problem(401, "unauthorized");
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_have_a_rate_and_writers_have_none() {
    let settings = Settings { requests_per_second_per_caller: 3, ..Settings::default() };
    let server = Server::with(Options { settings, ..Options::default() }).await;
    let read = |key: &'static str| server.call(Method::GET, "/v1/instances").key(key).send();
    let mut refused = None;
    for _ in 0..5 {
        let answer = read(VIEWER).await;
        if answer.status != 200 {
            refused = Some(answer);
        }
    }
    let problem = refused.expect("five at once are too many").problem(429, "rate_limited");
    assert!(problem["retry_after_ms"].as_u64().unwrap() <= 1_000);
    for _ in 0..10 {
        read(PLATFORM).await.with(200);
    }
}
