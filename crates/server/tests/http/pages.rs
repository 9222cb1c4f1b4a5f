//! The server about itself.

use std::sync::Arc;

use http::Method;

use crate::server::{Options, Server, VIEWER};

#[tokio::test(flavor = "multi_thread")]
async fn health_is_alive_and_ready_is_able() {
    let server = Server::start().await;
    for path in ["/healthz", "/livez", "/readyz"] {
        let answer = server.call(Method::GET, path).send().await.with(200);
        assert_eq!(answer.text(), r#"{"status":"ok"}"#);
    }
    let verbose = server.call(Method::GET, "/readyz?verbose").send().await.with(200).json();
    let names: Vec<_> = verbose["checks"].as_array().unwrap().iter().map(|check| check["name"].clone()).collect();
    assert_eq!(names, ["store", "executor", "records", "registry", "serving"]);

    let probe = Arc::new(|| Err("the loops ended".to_owned()));
    let server = Server::with(Options { probe, ..Options::default() }).await;
    let unready = server.call(Method::GET, "/readyz?verbose").send().await.with(503).json();
    assert_eq!(unready["status"], "unavailable");
    assert_eq!(unready["checks"][1]["detail"], "the loops ended");
    server.call(Method::GET, "/healthz").send().await.with(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_tell_what_happened_and_name_nobody() {
    let server = Server::start().await;
    server.made("user:somebody-in-particular").await;
    server.create("user:somebody-in-particular").send().await.problem(409, "instance_already_active");
    let answer = server.call(Method::GET, "/metrics").key(VIEWER).send().await.with(200);
    assert!(answer.header("content-type").starts_with("application/openmetrics-text"));
    let text = answer.text();
    for line in [
        r#"freehold_admissions_total{outcome="taken"} 1"#,
        r#"freehold_admissions_total{outcome="conflict"} 1"#,
        r#"freehold_operations_total{kind="provision",outcome="succeeded"} 1"#,
        r#"freehold_http_request_seconds_count{route="/v1/instances",status="201"} 1"#,
        r#"freehold_unresolved_reservations{status="in_progress"} 0"#,
        r#"freehold_provider_requests_total{provider="local",op="ensure_base",outcome="done"} 1"#,
        "freehold_leaks_open 0",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
    assert!(!text.contains("somebody"), "{text}");
    assert!(text.ends_with("# EOF\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_problem_leads_to_a_page_and_a_browser_finds_its_way() {
    let server = Server::start().await;
    let problem = server.call(Method::GET, "/nowhere").send().await.json();
    let page = server.call(Method::GET, problem["type"].as_str().unwrap()).send().await.with(200);
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert!(page.header("content-security-policy").starts_with("default-src 'none'"));
    assert!(page.text().contains("<h1>not_found</h1>"), "{}", page.text());
    server.call(Method::GET, "/problems/nonsense").send().await.problem(404, "not_found");
    let landing = server.call(Method::GET, "/").send().await.with(200);
    assert!(landing.text().contains("href=\"/openapi.json\""));
    for path in ["/", "/healthz"] {
        assert_eq!(server.call(Method::GET, path).send().await.header("x-content-type-options"), "nosniff");
    }
}
