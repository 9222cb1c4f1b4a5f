//! The command line against a server that answers from a script: what is printed where, and the exit code.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

const INSTANCE: &str = "01990000-0000-7000-8000-000000000001";
const OPERATION: &str = "01990000-0000-7000-8000-000000000002";

/// A server that answers each `METHOD /path` with what the script says, and remembers what it was asked.
struct Scripted {
    url: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    fn with(script: &[(&str, u16, Value)]) -> Self {
        let script: HashMap<String, (u16, Value)> =
            script.iter().map(|(what, status, body)| ((*what).to_owned(), (*status, body.clone()))).collect();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let remembered = Arc::clone(&seen);
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                serve(socket, &script, &remembered);
            }
        });
        Self { url, seen }
    }

    fn run(&self, args: &[&str]) -> Output {
        freehold(&self.url, args)
    }

    fn was_asked(&self, what: &str) -> bool {
        self.seen.lock().unwrap().iter().any(|request| request.contains(what))
    }
}

fn serve(mut socket: TcpStream, script: &HashMap<String, (u16, Value)>, seen: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(socket.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return;
        }
    }
    let length = head.to_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).unwrap();
    seen.lock().unwrap().push(format!("{head}{}", String::from_utf8_lossy(&body)));
    let target = head.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    let (status, answer) = script.get(&target).cloned().unwrap_or((404, problem("not_found", 404)));
    // An array under a path of events is a stream of them.
    let (kind, text) = match answer {
        Value::Array(events) => {
            let events = events.iter().map(|event| format!("event: operation\ndata: {event}\n\n"));
            ("text/event-stream", events.collect::<String>())
        }
        other => ("application/json", other.to_string()),
    };
    let length = text.len();
    let answer = format!(
        "HTTP/1.1 {status} x\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{text}"
    );
    // A command that left early is no concern of the script.
    let _ = socket.write_all(answer.as_bytes());
}

fn freehold(server: &str, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_freehold"))
        .args(args)
        .env("FREEHOLD_SERVER", server)
        .env("FREEHOLD_TOKEN", "k3y")
        .env_remove("RUST_BACKTRACE")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn problem(code: &str, status: u16) -> Value {
    json!({"type": format!("/problems/{code}"), "title": "as it is", "status": status, "detail": "it is so",
           "code": code, "retryable": status == 503, "errors": [], "instance_id": INSTANCE, "operation_id": OPERATION})
}

fn operation(status: &str, step: &str, error: Value) -> Value {
    json!({"id": OPERATION, "kind": "provision", "instance_id": INSTANCE, "owner": "user:alice", "status": status,
           "phase": "runtime", "attempt": 1, "epoch": 1, "holder": "node-a", "deadline": null,
           "started_at": "2026-11-23T10:00:00Z", "finished_at": null,
           "steps": [{"name": "runtime", "status": step, "attempts": 1, "started_at": "2026-11-23T10:00:00Z",
                      "finished_at": null, "last_error": null}],
           "error": error})
}

fn instance(status: &str) -> Value {
    json!({"id": INSTANCE, "owner": "user:alice", "assigned_user": "alice", "provider": "local", "status": status,
           "routable": true, "tier": "small", "region": null, "endpoint": "http://127.0.0.1:4000",
           "url": format!("/i/{INSTANCE}/"),
           "spec": {"template": "hello", "image": null, "command": null, "env": {}}, "subscription": null,
           "resources": [{"kind": "runtime", "id": "p-1", "region": null}], "epoch": 1,
           "created_at": "2026-11-23T10:00:00Z", "ready_at": null, "destroyed_at": null, "operation_id": OPERATION})
}

fn provisioning(events: Value) -> Scripted {
    Scripted::with(&[
        ("POST /v1/instances", 202, json!({"operation": operation("running", "noted", Value::Null)})),
        (&format!("GET /v1/operations/{OPERATION}/events"), 200, events),
        (&format!("GET /v1/instances/{INSTANCE}"), 200, instance("running")),
    ])
}

#[test]
fn a_create_follows_the_steps_and_prints_the_instance() {
    let server = provisioning(json!([
        operation("running", "noted", Value::Null),
        operation("running", "done", Value::Null),
        operation("succeeded", "done", Value::Null),
    ]));
    let output = server.run(&["instance", "create", "user:alice", "--env", "A=1", "--", "./x", "--flag"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stderr(&output).contains("runtime: under way\n  runtime: done\n"), "{}", stderr(&output));
    assert!(stdout(&output).contains("status     running\n"), "{}", stdout(&output));
    assert!(server.was_asked("prefer: respond-async"));
    assert!(server.was_asked("authorization: Bearer k3y"));
    assert!(server.was_asked("idempotency-key: "));
    assert!(server.was_asked(r#""command":["./x","--flag"],"env":{"A":"1"}"#));

    let output = server.run(&["instance", "create", "user:alice", "--json"]);
    let printed: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(printed, instance("running"));
}

#[test]
fn a_create_that_does_not_wait_prints_the_operation() {
    let server = provisioning(json!([]));
    let output = server.run(&["instance", "create", "user:alice", "--no-wait", "--json", "--idempotency-key", "k"]);
    assert_eq!(code(&output), 0);
    assert_eq!(serde_json::from_str::<Value>(&stdout(&output)).unwrap()["id"], OPERATION);
    assert!(server.was_asked("idempotency-key: \"k\"") || server.was_asked("idempotency-key: k"));
    assert!(!server.was_asked("/events"));
}

#[test]
fn a_create_that_fails_ends_as_its_problem_says() {
    let server = provisioning(json!([operation("reconciling", "rejected", problem("provision_failed", 502))]));
    let output = server.run(&["instance", "create", "user:alice"]);
    assert_eq!(code(&output), 1);
    let said = stderr(&output);
    assert!(said.contains("error: it is so (provision_failed)\n"), "{said}");
    assert!(
        said.contains(&format!(
            "hint: it is being cleaned up: follow that with `freehold operation watch {OPERATION}`"
        )),
        "{said}"
    );
}

#[test]
fn refusals_have_the_exit_codes_of_the_contract_and_a_hint() {
    for (name, status, exit, hint) in [
        ("instance_already_active", 409, 3, format!("hint: look at it with `freehold instance show {INSTANCE}`")),
        ("provision_in_progress", 409, 3, format!("hint: follow it with `freehold operation watch {OPERATION}`")),
        ("idempotency_key_reused", 422, 3, "hint: the server explains it at /problems/".to_owned()),
        ("invalid_request", 400, 2, "hint: ".to_owned()),
        ("unauthorized", 401, 1, "hint: give a key in FREEHOLD_TOKEN".to_owned()),
        ("store_unavailable", 503, 5, "hint: try again in 1 s".to_owned()),
    ] {
        let server = Scripted::with(&[("POST /v1/instances", status, problem(name, status))]);
        let output = server.run(&["instance", "create", "user:alice"]);
        assert_eq!(code(&output), exit, "{name}");
        assert!(stderr(&output).starts_with(&format!("error: it is so ({name})\n")), "{}", stderr(&output));
        assert!(stderr(&output).contains(&hint), "{name}: {}", stderr(&output));
        assert_eq!(stdout(&output), "");
        let output = server.run(&["instance", "create", "user:alice", "--json"]);
        assert_eq!(serde_json::from_str::<Value>(&stdout(&output)).unwrap()["code"], name);
    }
    let output = Scripted::with(&[]).run(&["instance", "show", INSTANCE]);
    assert_eq!(code(&output), 4);
}

#[test]
fn what_cannot_be_undone_is_not_done_without_a_terminal_or_a_yes() {
    let destroyed = json!({"finalized": true, "instance_id": INSTANCE});
    let server = Scripted::with(&[(&format!("DELETE /v1/instances/{INSTANCE}?reason=over"), 200, destroyed)]);
    let output = server.run(&["instance", "destroy", INSTANCE, "--reason", "over"]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("hint: add --yes"), "{}", stderr(&output));
    assert!(!server.was_asked("DELETE"));
    let output = server.run(&["instance", "destroy", INSTANCE, "--reason", "over", "--yes"]);
    assert_eq!((code(&output), stdout(&output).contains("destroyed")), (0, true));
    for args in
        [["reservation", "release", INSTANCE, "--reason", "over"], ["leak", "resolve", INSTANCE, "--reason", "over"]]
    {
        assert_eq!(code(&server.run(&args)), 2, "{args:?}");
    }
}

#[test]
fn a_release_shows_the_evidence_first() {
    let reservation = json!({
        "instance_id": INSTANCE, "owner": "user:alice", "assigned_user": "alice",
        "status": "failed_requires_reconciliation", "epoch": 3, "operation_id": OPERATION, "work_started": true,
        "started_at": "2026-11-23T10:00:00Z", "updated_at": "2026-11-23T10:00:00Z", "completed_at": null,
        "failure_code": "deadline_exceeded", "resolution_reason": null,
        "evidence": [{"kind": "looked_up", "at": "2026-11-23T10:01:00Z", "detail": "the provider does not answer"}],
    });
    let server = Scripted::with(&[
        (&format!("GET /v1/reservations/{INSTANCE}"), 200, reservation),
        (
            &format!("POST /v1/reservations/{INSTANCE}/release"),
            200,
            json!({"previous_status": "failed_requires_reconciliation"}),
        ),
    ]);
    let output = server.run(&["reservation", "release", INSTANCE, "--reason", "gone", "--yes", "--json"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stderr(&output).contains("the provider does not answer"), "{}", stderr(&output));
    assert!(
        server.was_asked(r#"{"expected_status":"failed_requires_reconciliation","reason":"gone","override":false}"#)
    );
}

#[test]
fn somebody_else_on_the_port_and_nobody_at_all_are_told_apart() {
    let server = Scripted::with(&[("GET /v1/instances", 200, json!("hello"))]);
    let output = server.run(&["instance", "list"]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("not from a Freehold of this version"), "{}", stderr(&output));
    let output = freehold("http://127.0.0.1:1", &["instance", "list"]);
    assert_eq!(code(&output), 5);
    assert!(stderr(&output).contains("connection refused\nhint: start a server"), "{}", stderr(&output));
}

#[test]
fn a_bad_configuration_is_exit_code_2_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("freehold.toml");
    std::fs::write(&file, "[timing]\nrenew = \"9s\"\n").unwrap();
    let file = file.to_str().unwrap();
    let output = freehold("http://127.0.0.1:1", &["config", "check", "--config", file]);
    assert_eq!(code(&output), 2);
    let expected = format!("error: {file}:2:1: timing.renew: 9s is too long to keep a lease of 10s\n");
    assert!(stderr(&output).starts_with(&expected), "{}", stderr(&output));
    let output = freehold("http://127.0.0.1:1", &["config", "check"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
}

/// Holes in the trail make short pages, and empty ones.
#[test]
fn an_audit_trail_is_read_to_its_end_whatever_is_missing_in_the_middle() {
    let event = json!({"id": "41", "at": "2026-11-23T10:00:00Z", "kind": "instance.started", "owner": "user:alice",
                       "assigned_user": "alice", "context_seq": 2, "instance_id": INSTANCE, "operation_id": OPERATION,
                       "epoch": 1, "status": "completed", "actor": "platform", "detail": "", "previous_hash": null,
                       "hash": "00"});
    let server = Scripted::with(&[
        ("GET /v1/audit?limit=500", 200, json!({"events": [], "next_cursor": "40"})),
        ("GET /v1/audit?after=40&limit=500", 200, json!({"events": [event], "next_cursor": null})),
    ]);
    let output = server.run(&["audit", "verify"]);
    assert_eq!(code(&output), 1, "{}", stdout(&output));
    assert!(stderr(&output).contains("event 41 (line 1 of user:alice for alice)"), "{}", stderr(&output));
    let output = server.run(&["audit", "tail"]);
    assert!(stdout(&output).contains("instance.started"), "{}", stdout(&output));
}
