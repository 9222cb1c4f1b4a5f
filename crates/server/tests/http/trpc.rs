//! tRPC: what goes over the wire, and the ordinary client of the protocol under Node.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use freehold_api::{Code, Problem};
use freehold_domain::records::RecordsView;
use freehold_engine::ports::{self, Registered, Render};
use http::Method;
use serde_json::{Value, json};

use crate::client::{Answer, Call};
use crate::server::{Options, PLATFORM, Server, VIEWER};
use crate::tokens;

const MISSING: &str = "01990000-0000-7000-8000-000000000001";

fn query(server: &Server, procedures: &str, rest: &str) -> Call {
    server.call(Method::GET, &format!("/trpc/{procedures}{rest}")).key(PLATFORM)
}

fn mutation(server: &Server, procedure: &str, input: &Value) -> Call {
    server.call(Method::POST, &format!("/trpc/{procedure}")).key(PLATFORM).json(input)
}

fn written(input: &Value) -> String {
    let encoded: String = input.to_string().bytes().map(|byte| format!("%{byte:02X}")).collect();
    format!("input={encoded}")
}

/// The error, which has this status and tRPC code, and is whole.
#[track_caller]
fn error(answer: Answer, status: u16, name: &str, number: i32, slug: &str) -> Value {
    let answer = answer.with(status);
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("vary"), "trpc-accept, accept");
    let said = answer.json();
    let error = &said["error"];
    assert_eq!((&error["code"], &error["data"]["code"]), (&json!(number), &json!(name)), "{said}");
    assert_eq!(error["data"]["httpStatus"], status);
    assert_eq!(error["data"]["problem"]["code"], slug, "{said}");
    assert!(error["data"]["problem"]["request_id"].is_string(), "{said}");
    assert!(error["message"].is_string());
    error.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_read_and_answered_as_the_protocol_has_it() {
    let server = Server::start().await;
    let made = mutation(&server, "instance.provision", &json!({"owner": "user:alice"})).send().await.with(200);
    assert_eq!(made.header("content-type"), "application/json");
    assert_eq!(made.header("vary"), "trpc-accept, accept");
    let made = made.json()["result"]["data"].clone();
    assert_eq!(made["owner"], "user:alice");
    let by_id = written(&json!({"id": made["id"]}));
    let shown = query(&server, "instance.get", &format!("?{by_id}")).send().await.with(200).json();
    assert_eq!(shown["result"]["data"]["id"], made["id"]);
    assert_eq!(
        query(&server, "instance.list", "").send().await.with(200).json()["result"]["data"]["next_cursor"],
        json!(null)
    );
    let head = server.call(Method::HEAD, "/trpc/instance.list").send().await.with(204);
    assert!(head.body.is_empty());

    let missing = query(&server, "instance.get", &format!("?{}", written(&json!({"id": MISSING})))).send().await;
    let missing = error(missing, 404, "NOT_FOUND", -32004, "instance_not_found");
    assert_eq!(missing["message"], "Active instance not found");
    assert_eq!(missing["data"]["path"], "instance.get");
    let active = mutation(&server, "instance.provision", &json!({"owner": "user:alice"})).send().await;
    let active = error(active, 409, "CONFLICT", -32009, "instance_already_active");
    assert_eq!(active["message"], "User already has an active instance");
    assert_eq!(active["data"]["problem"]["instance_id"], made["id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_a_call_is_refused_in_the_shape_of_one() {
    let server = Server::start().await;
    let bad = |answer, status, name, number, slug| error(answer, status, name, number, slug);
    for method in [Method::PUT, Method::PATCH, Method::DELETE] {
        let answer = server.call(method, "/trpc/instance.list").key(PLATFORM).send().await;
        bad(answer, 405, "METHOD_NOT_SUPPORTED", -32005, "method_not_allowed");
    }
    let answer = query(&server, "instance.provision", "").send().await;
    bad(answer, 405, "METHOD_NOT_SUPPORTED", -32005, "method_not_allowed");
    bad(query(&server, "instance.nothing", "").send().await, 404, "NOT_FOUND", -32004, "not_found");
    bad(query(&server, "a/b", "").send().await, 404, "NOT_FOUND", -32004, "not_found");
    bad(query(&server, "instance.get", "?input=%7B").send().await, 400, "PARSE_ERROR", -32700, "malformed_json");
    bad(query(&server, "instance.get", "?input=7").send().await, 400, "BAD_REQUEST", -32600, "invalid_request");
    let post = |body: &'static str| server.call(Method::POST, "/trpc/instance.provision").key(PLATFORM).body(body);
    let json = |body| post(body).header("content-type", "application/json").send();
    bad(json("{").await, 400, "PARSE_ERROR", -32700, "malformed_json");
    bad(json("").await, 400, "BAD_REQUEST", -32600, "invalid_request");
    bad(json("[]").await, 400, "BAD_REQUEST", -32600, "invalid_request");
    bad(post("").send().await, 400, "BAD_REQUEST", -32600, "invalid_request");
    for other in ["text/plain", "multipart/form-data; boundary=x"] {
        let answer = post("{}").header("content-type", other).send().await;
        bad(answer, 415, "UNSUPPORTED_MEDIA_TYPE", -32015, "unsupported_media_type");
    }
    bad(post("{}").send().await, 415, "UNSUPPORTED_MEDIA_TYPE", -32015, "unsupported_media_type");
    let long = server.call(Method::POST, "/trpc/instance.provision").key(PLATFORM);
    let long = long.header("content-type", "application/json").body(vec![b' '; 100_000]).send().await;
    bad(long, 413, "PAYLOAD_TOO_LARGE", -32013, "payload_too_large");
    let nobody = server.call(Method::GET, "/trpc/instance.list").send().await;
    assert_eq!(nobody.header("www-authenticate"), "Bearer");
    bad(nobody, 401, "UNAUTHORIZED", -32001, "unauthorized");
    let key = mutation(&server, "instance.provision", &json!({"owner": "user:a"})).header("idempotency-key", "");
    bad(key.send().await, 400, "BAD_REQUEST", -32600, "idempotency_key_invalid");
    let viewer = server.call(Method::POST, "/trpc/instance.provision").key(VIEWER).json(&json!({"owner": "user:a"}));
    bad(viewer.send().await, 403, "FORBIDDEN", -32003, "forbidden");
    server.get("/trpc").await.problem(404, "not_found");
    server.get("/v1/owners/user:a").await.problem(404, "owner_not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_answered_in_order_with_one_status_or_207() {
    let server = Server::start().await;
    let made = server.made("user:alice").await;
    let batch =
        |procedures: &str, input: &Value| query(&server, procedures, &format!("?batch=1&{}", written(input))).send();
    let input = json!({"0": {"id": made["id"]}, "2": {"id": made["id"]}, "3": {"id": MISSING}});
    let mixed = batch("instance.get,instance.list,instance.get,instance.get,no.such", &input).await.with(207).json();
    let ids: Vec<&Value> = [0, 2].iter().map(|index| &mixed[*index]["result"]["data"]["id"]).collect();
    assert_eq!(ids, [&made["id"], &made["id"]]);
    assert_eq!(mixed[1]["result"]["data"]["instances"].as_array().unwrap().len(), 1);
    assert_eq!(mixed[3]["error"]["data"]["path"], "instance.get");
    assert_eq!(mixed[4]["error"]["data"]["path"], "no.such");
    assert_eq!(mixed.as_array().unwrap().len(), 5);
    batch("instance.list%2Cinstance.list", &json!({})).await.with(200);
    assert!(batch("no.such,not.either", &json!({})).await.with(404).json().is_array());
    error(batch("instance.list,instance.stop", &json!({})).await, 400, "BAD_REQUEST", -32600, "invalid_request");
    error(batch("instance.list", &json!([1])).await, 400, "BAD_REQUEST", -32600, "invalid_request");
    let many = vec!["instance.list"; 20].join(",");
    batch(&many, &json!({})).await.with(200);
    error(batch(&format!("{many},instance.list"), &json!({})).await, 400, "BAD_REQUEST", -32600, "invalid_request");
    // Without `batch=1` a comma is part of a name that nobody has.
    error(query(&server, "instance.list,instance.list", "").send().await, 404, "NOT_FOUND", -32004, "not_found");

    let lines = query(&server, "instance.list,no.such", "?batch=1").header("trpc-accept", "application/jsonl");
    let lines = lines.send().await.with(200);
    assert_eq!(lines.header("content-type"), "application/json");
    assert!(lines.text().ends_with('\n') && lines.text().lines().count() == 1);
    let lines = lines.json();
    assert!(lines["0"][0][0]["result"]["data"]["instances"].is_array(), "{lines}");
    assert_eq!(lines["1"][0][0]["error"]["data"]["code"], "NOT_FOUND");
    let nobody = server.call(Method::GET, "/trpc/instance.list,instance.list?batch=1");
    let nobody = nobody.header("trpc-accept", "application/jsonl").send().await.with(200).json();
    for index in ["0", "1"] {
        assert_eq!(nobody[index][0][0]["error"]["data"]["httpStatus"], 401);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_somebody_elses_is_answered_like_what_is_not_there() {
    let server = Server::start().await;
    let bobs = server.made("user:bob").await;
    let gone = server.made("user:carol").await;
    server.delete(&format!("/v1/instances/{}", gone["id"].as_str().unwrap())).await.with(200);
    let before = server.get("/v1/audit?limit=500").await.with(200).json();
    let calls = server.cloud.calls().len();
    let token = tokens::of("alice", &["acme"]);
    for (procedure, kind, more) in [
        ("instance.get", "instance", json!({})),
        ("operation.get", "operation", json!({})),
        ("instance.destroy", "instance", json!({"reason": "mine now"})),
        ("instance.start", "instance", json!({})),
        ("instance.stop", "instance", json!({})),
        ("instance.update", "instance", json!({"tier": "large"})),
        ("instance.update", "instance", json!({"nonsense": 1})),
    ] {
        let ask = async |id: &Value| {
            let mut input = more.clone();
            input["id"] = id.clone();
            let call = server.call(Method::POST, &format!("/trpc/{procedure}")).json(&input);
            let answer = call.key(&token).header("x-request-id", "r").send().await;
            (answer.status, answer.json())
        };
        let nothing = ask(&json!(MISSING)).await;
        assert_eq!(nothing.0, 404, "{procedure}: {}", nothing.1);
        let id = if kind == "operation" { "operation_id" } else { "id" };
        for other in [&bobs, &gone] {
            assert_eq!(ask(&other[id]).await, nothing, "{procedure}");
        }
    }
    let create = server.call(Method::POST, "/trpc/instance.provision").key(&token).json(&json!({"owner": "user:bob"}));
    error(create.send().await, 403, "FORBIDDEN", -32003, "forbidden");
    let list = server.call(Method::GET, "/trpc/instance.list").key(&token).send().await.with(200).json();
    assert_eq!(list["result"]["data"]["instances"], json!([]));
    assert_eq!(server.get("/v1/audit?limit=500").await.with(200).json(), before, "nothing was changed");
    assert_eq!(server.cloud.calls().len(), calls);
}

/// Says of every provision that it is nearly done.
struct Pending;

impl Render for Pending {
    fn provision(&self, _: &Registered, _: &RecordsView) -> ports::Answer {
        let problem =
            Problem::new(Code::ProvisionCompletionPending, "the instance is still being finished; look again");
        ports::Answer { status: problem.status, body: serde_json::to_vec(&problem).unwrap() }
    }
}

/// Runs a program to its end; what it said, if that was a good one.
fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(said) } else { Err(format!("{command:?}: {}\n{said}", output.status)) }
}

/// The client's folder, with what it needs installed into it.
fn installed() -> std::path::PathBuf {
    freehold_postgres_lab::need(&[("/usr/bin/node", "nodejs"), ("/usr/bin/npm", "npm")]).unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/trpc");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("trpc");
    std::fs::create_dir_all(&folder).unwrap();
    let lock = std::fs::read(source.join("package-lock.json")).unwrap();
    // What is there already for the same lock file is as good.
    let fresh = std::fs::read(folder.join("installed")).is_ok_and(|old| old == lock);
    for file in ["package.json", "package-lock.json", "client.mjs"] {
        std::fs::copy(source.join(file), folder.join(file)).unwrap();
    }
    if !fresh {
        let mut install = Command::new("npm");
        install.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(&folder);
        run(&mut install).unwrap_or_else(|why| panic!("the real tRPC client cannot be installed: {why}"));
        std::fs::write(folder.join("installed"), lock).unwrap();
    }
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ordinary_client_understands_every_answer() {
    let folder = tokio::task::spawn_blocking(installed).await.unwrap();
    let (running, paused) = (Server::start().await, Server::paused().await);
    let pending = Server::with(Options { render: Arc::new(Pending), ..Options::default() }).await;
    paused.create("user:taken").header("prefer", "respond-async").send().await.with(202);
    let mut node = Command::new("node");
    node.arg("client.mjs").current_dir(folder);
    node.env("RUNNING", format!("http://{}", running.address)).env("PAUSED", format!("http://{}", paused.address));
    node.env("PENDING", format!("http://{}", pending.address));
    node.env("PLATFORM", PLATFORM).env("VIEWER", VIEWER);
    node.env("ALICE", tokens::of("alice", &[])).env("BOB", tokens::of("bob", &[]));
    let said = tokio::task::spawn_blocking(move || run(&mut node)).await.unwrap();
    let said = said.unwrap_or_else(|why| panic!("{why}"));
    for link in ["single", "batched", "streamed"] {
        assert!(said.contains(&format!("{link}: done")), "{said}");
    }
}
