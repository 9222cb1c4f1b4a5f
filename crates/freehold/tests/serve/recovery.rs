//! Servers that are killed, and what the next one makes of it.

use std::process::Stdio;
use std::time::Instant;

use serde_json::Value;

use crate::support::{Home, LONG};

/// More operations than one node runs at once: some of them wait for their turn.
const MORE_THAN_RUN: usize = 300;

/// Every place in a provision where something may exist that nobody wrote down, and some where nothing may.
const PLACES: [&str; 8] = [
    "base:noted",
    "base:sent",
    "runtime:before_note",
    "runtime:noted",
    "runtime:sent",
    "record:sent",
    "complete:before_note",
    "complete:answered",
];

#[test]
fn a_server_that_dies_in_the_middle_is_followed_by_one_that_goes_on_with_one_process() {
    for place in PLACES {
        let home = Home::new();
        let mut serving = home.serving();
        serving.env("FREEHOLD_CRASH_AT", place);
        let server = home.serve_with(serving);
        let operation = server.begin("user:alice");
        let (status, _) = server.ended();
        assert!(!status.success(), "{place}: {status}");

        let again = home.serve();
        let operation = again.until_over(&operation);
        assert_eq!(operation["status"], "succeeded", "{place}: {operation:#}");
        let id = operation["instance_id"].as_str().unwrap();
        assert_eq!(again.get(&format!("/i/{id}/")).status, 200, "{place}");
        let programs = home.programs();
        assert_eq!(programs.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), [id], "{place}");
    }
}

#[test]
fn sigterm_in_the_middle_gives_leases_back_so_that_another_node_goes_on_at_once() {
    // Calls of ten minutes and leases of one: nobody waits for either.
    let mut home = Home::new()
        .with("PROVIDERS__LOCAL__KIND", "fake")
        .with("PROVIDERS__LOCAL__LATENCY", "10m")
        .with("TIMING__LEASE", "60s")
        .with("NODE_ID", "node-a");
    let server = home.serve();
    let operations: Vec<Value> = (0..MORE_THAN_RUN).map(|number| server.begin(&format!("user:{number}"))).collect();
    let path = format!("/v1/operations/{}", operations[0]["id"].as_str().unwrap());
    server.until(&path, |seen| seen.body["steps"].as_array().is_some_and(|steps| steps.len() > 1));
    assert!(server.end().0.success());

    home.set("PROVIDERS__LOCAL__LATENCY", "0s");
    home.set("NODE_ID", "node-b");
    let began = Instant::now();
    let again = home.serve();
    for operation in &operations {
        let operation = again.until_over(operation);
        assert_eq!((&operation["status"], &operation["holder"]), (&"succeeded".into(), &Value::Null), "{operation:#}");
    }
    assert!(began.elapsed() < LONG * 2 / 3, "a lease was waited for");
}

#[test]
fn a_start_that_is_killed_anywhere_is_followed_by_one_that_works() {
    for file in
        ["lock", "registry.db", "registry.db-wal", "registry.db-shm", "node_id", "operator.key.new", "operator.key"]
    {
        let home = Home::new();
        let mut serving = home.serving();
        let mut child = serving.stdout(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + LONG;
        // A draft may come and go between two looks; the name that it gets says the same.
        while !(home.data().join(file).exists() || home.data().join("operator.key").exists()) {
            assert!(Instant::now() < deadline, "{file} never came");
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let server = home.serve();
        assert_eq!(server.get("/v1/instances").status, 200, "{file}");
        assert!(server.end().0.success(), "{file}");
    }
}

#[test]
fn ten_provisions_and_many_kills_leave_one_process_each_and_no_answer_changed() {
    // Each kill may be an attempt of the same step, and none is to be the last.
    let home = Home::new().with("PROVISION__MAX_ATTEMPTS", "100");
    let server = home.serve();
    let mut operations: Vec<Value> = (0..10).map(|number| server.begin(&format!("user:{number}"))).collect();
    server.kill();
    for kill in 0..5 {
        let server = home.serve();
        operations.push(server.begin(&format!("user:late-{kill}")));
        server.kill();
    }
    let server = home.serve();
    for operation in &operations {
        let seen = server.until_over(operation);
        assert_eq!(seen["status"], "succeeded", "{seen:#}");
        assert_eq!(seen["instance_id"], operation["instance_id"]);
    }
    let mut running: Vec<String> = home.programs().into_iter().map(|(id, _)| id).collect();
    let mut wanted: Vec<String> =
        operations.iter().map(|operation| operation["instance_id"].as_str().unwrap().to_owned()).collect();
    running.sort();
    wanted.sort();
    assert_eq!(running, wanted);
    let verified = home.run(&["audit", "verify", "--json", "--server", &server.url()]);
    assert!(verified.status.success(), "{verified:?}");
}
