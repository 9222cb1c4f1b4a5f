//! Who is let in, and what is said to a request that cannot be read.

use http::Method;
use serde_json::json;

use super::{call, get, made, post};
use crate::client::Call;
use crate::server::{OPERATOR, PLATFORM, Server, VIEWER};

const ROUTES: [(Method, &str); 9] = [
    (Method::POST, "provision"),
    (Method::POST, "provision/repair-reservation"),
    (Method::POST, "provision/release-reservation"),
    (Method::POST, "destroy"),
    (Method::POST, "start"),
    (Method::POST, "stop"),
    (Method::GET, "status"),
    (Method::GET, "registry-entries"),
    (Method::GET, "nowhere"),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_route_asks_for_the_platform_key() {
    let server = Server::start().await;
    for (method, route) in ROUTES {
        let call = || Call::new(server.address, method.clone(), &format!("/api/platform/{route}"));
        call().send().await.error(401, "Unauthorized", "");
        call().key(PLATFORM).send().await.error(401, "Unauthorized", "");
        for key in ["", "wrong", VIEWER, "platform-key-of-the-tes"] {
            call().header("x-internal-api-key", key).send().await.error(401, "Unauthorized", "");
        }
        let twice = call().header("x-internal-api-key", PLATFORM).header("x-internal-api-key", PLATFORM);
        twice.send().await.error(401, "Unauthorized", "");
        for key in [PLATFORM, OPERATOR] {
            let status = call().header("x-internal-api-key", key).send().await.status;
            assert!([400, 404, 415].contains(&status), "{method} {route}: {status}");
        }
    }
    // The key of one header opens nothing behind the other.
    let v1 = server.call(Method::GET, "/v1/instances").header("x-internal-api-key", PLATFORM);
    v1.send().await.problem(401, "unauthorized");
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_and_methods_that_are_not_there_are_refused_in_the_same_words() {
    let server = Server::start().await;
    get(&server, "nowhere").await.code(404, "not_found");
    let wrong = get(&server, "provision").await;
    assert_eq!(wrong.header("allow"), "POST");
    wrong.code(405, "method_not_allowed");
    let document = server.get("/openapi.json").await.with(200);
    assert!(!document.text().contains("/api/platform"), "they are not version 1's");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_cannot_be_read_are_refused() {
    let server = Server::start().await;
    for (_, route) in ROUTES.into_iter().take(6) {
        let send = |body: &str| {
            let call = call(&server, Method::POST, route).header("content-type", "application/json");
            call.body(body.to_owned()).send()
        };
        for body in ["{", "nonsense", r#"{"userId":"a"} x"#] {
            send(body).await.error(400, "Malformed JSON body", "");
        }
        for body in ["[]", "null", r#""alice""#, r#"{"userId":"a","userId":"b"}"#] {
            send(body).await.wrong(&["request"]);
        }
        send(&format!(r#"{{"userId":"{}"}}"#, "x".repeat(1 << 17))).await.code(413, "payload_too_large");
        let plain = call(&server, Method::POST, route).header("content-type", "text/plain").body("{}");
        plain.send().await.code(415, "unsupported_media_type");
    }
    let silent = call(&server, Method::POST, "provision").body("{}").send().await;
    silent.code(415, "unsupported_media_type");
    server.get("/v1/owners/user:a").await.problem(404, "owner_not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_field_is_looked_at() {
    let server = Server::start().await;
    let long = "x".repeat(300);
    let good = json!({"userId": "alice", "instanceId": "01990000-0000-7000-8000-000000000001",
                      "acknowledgeCleanupVerified": true});
    let with = |field: &str, value: serde_json::Value| {
        let mut body = good.clone();
        if field == "provider" {
            body.as_object_mut().unwrap().remove("instanceId");
        }
        body[field] = value;
        body
    };
    for (_, route) in ROUTES.into_iter().take(6) {
        for field in ["userId", "orgId"] {
            for value in [json!(""), json!("a b"), json!("a\u{0}"), json!("ü"), json!(long), json!(5), json!({})] {
                post(&server, route, with(field, value)).await.wrong(&[field]);
            }
        }
        post(&server, route, with("userId", json!(null))).await.wrong(&["userId"]);
        for value in [json!("nonsense"), json!(""), json!(7)] {
            post(&server, route, with("instanceId", value)).await.wrong(&["instanceId"]);
        }
    }
    for (field, values) in [
        ("bootstrapSubscription", vec![json!("yes"), json!(1)]),
        ("provider", vec![json!(""), json!("a b"), json!(long), json!(1)]),
        ("instanceType", vec![json!(""), json!("a b"), json!(long), json!(1)]),
        ("region", vec![json!(""), json!("e u"), json!(long), json!(["eu"])]),
        (
            "envVars",
            vec![
                json!({"1": ""}),
                json!({"FREEHOLD_X": "1"}),
                json!({"A": 7}),
                json!({"A": null}),
                json!([]),
                json!("A=1"),
            ],
        ),
    ] {
        for value in values {
            post(&server, "provision", with(field, value)).await.wrong(&[field]);
        }
    }
    for route in ["provision/repair-reservation", "provision/release-reservation"] {
        post(&server, route, with("instanceId", json!(null))).await.wrong(&["instanceId"]);
    }
    for value in [json!(false), json!(null), json!("true"), json!(1)] {
        let body = with("acknowledgeCleanupVerified", value);
        post(&server, "provision/release-reservation", body).await.wrong(&["acknowledgeCleanupVerified"]);
    }
    for value in [json!("x".repeat(501)), json!(5)] {
        post(&server, "destroy", with("reason", value)).await.wrong(&["reason"]);
    }
    let several = json!({"userId": "a b", "instanceType": "x y", "envVars": {"9": ""}});
    post(&server, "provision", several).await.wrong(&["envVars", "instanceType", "userId"]);
    server.get("/v1/owners/user:alice").await.problem(404, "owner_not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_are_looked_at_like_bodies() {
    let server = Server::start().await;
    made(&server, "alice").await;
    for route in ["status", "registry-entries"] {
        get(&server, route).await.wrong(&["userId"]);
        get(&server, &format!("{route}?userId=")).await.wrong(&["userId"]);
        get(&server, &format!("{route}?userId=alice&orgId=a%20b")).await.wrong(&["orgId"]);
        get(&server, &format!("{route}?userId=alice&userId=bob")).await.wrong(&["request"]);
        get(&server, &format!("{route}?userId=alice&unknown=1")).await.with(200);
    }
    get(&server, "status?userId=alice&instanceId=nonsense").await.wrong(&["instanceId"]);
    for verb in ["start", "stop"] {
        call(&server, Method::POST, verb).send().await.wrong(&["userId"]);
        let both = call(&server, Method::POST, &format!("{verb}?userId=alice")).json(&json!({"userId": "bob"}));
        both.send().await.wrong(&["userId"]);
    }
}
