//! Nodes on the list, and one that is drained while it works.

use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Home, Server, json, stderr};

/// How long the provider takes for each call.
const LATENCY: Duration = Duration::from_secs(1);

fn home() -> Home {
    Home::new()
        .with("PROVIDERS__LOCAL__KIND", "fake")
        .with("PROVIDERS__LOCAL__LATENCY", "1s")
        .with("TIMING__RENEW", "200ms")
        .with("TIMING__LEASE", "60s")
        .with("NODE_ID", "node-a")
}

fn run(home: &Home, server: &Server, args: &[&str]) -> Output {
    home.command(args).args(["--server", &server.url()]).output().unwrap()
}

fn shown(server: &Server, operation: &Value) -> Value {
    server.get(&format!("/v1/operations/{}", operation["id"].as_str().unwrap())).body
}

/// What there is of steps, by status.
fn statuses(operation: &Value) -> Vec<&str> {
    operation["steps"].as_array().unwrap().iter().map(|step| step["status"].as_str().unwrap()).collect()
}

#[test]
fn a_node_is_drained_between_two_steps_and_goes_on_when_it_is_asked_to() {
    let home = home();
    let server = home.serve();
    let mut operations: Vec<Value> = (0..20).map(|number| server.begin(&format!("user:{number}"))).collect();
    let first = format!("/v1/operations/{}", operations[0]["id"].as_str().unwrap());
    server.until(&first, |seen| statuses(&seen.body).contains(&"noted"));
    assert_eq!(server.get("/readyz").status, 200);

    let began = Instant::now();
    let drained = run(&home, &server, &["node", "drain", "node-a", "--json"]);
    assert!(drained.status.success(), "{}", stderr(&drained));
    assert!(stderr(&drained).contains("node-a holds"), "{}", stderr(&drained));
    let node = json(&drained);
    assert_eq!((&node["draining"], &node["operations"]), (&true.into(), &0.into()), "{node:#}");
    assert_eq!(node["roles"], serde_json::json!(["http", "reconcilers", "proxy"]));
    assert!(began.elapsed() < LATENCY * 5, "it waited for more than the step under way: {:?}", began.elapsed());

    // Every call was waited for, nothing is in doubt, and nobody has it.
    for operation in &operations {
        let operation = shown(&server, operation);
        assert_eq!((&operation["status"], &operation["holder"]), (&"waiting".into(), &Value::Null), "{operation:#}");
        assert!(statuses(&operation).iter().all(|status| *status == "done"), "{operation:#}");
        assert_eq!(operation["attempt"], 1);
    }
    let ready = server.get("/readyz?verbose");
    assert_eq!(ready.status, 503);
    assert!(ready.body.to_string().contains("draining"), "{ready:?}");

    // It goes on serving, and what it accepts is for others.
    assert_eq!(server.get("/v1/instances").status, 200);
    operations.push(server.begin("user:late"));
    let late = shown(&server, operations.last().unwrap());
    assert_eq!((&late["holder"], &late["steps"]), (&Value::Null, &serde_json::json!([])), "{late:#}");

    let undone = run(&home, &server, &["node", "drain", "node-a", "--undo"]);
    assert!(undone.status.success(), "{}", stderr(&undone));
    for operation in &operations {
        let operation = server.until_over(operation);
        assert_eq!(operation["status"], "succeeded", "{operation:#}");
    }
    assert_eq!(server.get("/readyz").status, 200);
    let verified = run(&home, &server, &["audit", "verify"]);
    assert!(verified.status.success(), "{}", stderr(&verified));
}

#[test]
fn a_restart_ends_a_drain_and_an_end_is_on_the_list() {
    let home = home();
    let server = home.serve();
    let drained = run(&home, &server, &["node", "drain", "node-a", "--no-wait", "--json"]);
    assert_eq!(json(&drained)["draining"], true, "{}", stderr(&drained));
    let before = json(&run(&home, &server, &["node", "list", "--json"]))["nodes"][0].clone();
    assert_eq!((&before["name"], &before["address"]), (&"node-a".into(), &server.address.clone().into()));
    assert!(server.end().0.success());

    let server = home.serve();
    let after = json(&run(&home, &server, &["node", "list", "--json"]));
    let node = &after["nodes"][0];
    assert_eq!(after["nodes"].as_array().unwrap().len(), 1);
    assert_eq!(node["draining"], false);
    assert_ne!(node["incarnation"], before["incarnation"]);
    let operation = server.until_over(&server.begin("user:alice"));
    assert_eq!(operation["status"], "succeeded");

    let missing = run(&home, &server, &["node", "drain", "node-b"]);
    assert_eq!(missing.status.code(), Some(4), "{}", stderr(&missing));
    assert!(stderr(&missing).contains("(node_not_found)"), "{}", stderr(&missing));
    let listed = run(&home, &server, &["node", "list"]);
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.starts_with("NAME") && listed.contains("http,executor,reconcilers,proxy"), "{listed}");
}
