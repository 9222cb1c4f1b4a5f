//! Commands that work beside a server.

use std::time::Instant;

use serde_json::Value;

use crate::support::{Home, LONG, json, stderr};

#[test]
fn a_key_is_made_beside_a_running_server_works_at_once_and_is_refused_once_revoked() {
    let home = Home::new();
    let server = home.serve();
    let url = server.url();
    let made = json(&home.run(&["key", "create", "--role", "viewer", "--label", "dashboard", "--json"]));
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    let as_viewer = |args: &[&str]| {
        let mut command = home.command(args);
        command.args(["--server", &url]).env("FREEHOLD_TOKEN", key).output().unwrap()
    };
    assert!(as_viewer(&["instance", "list"]).status.success(), "{}", stderr(&as_viewer(&["instance", "list"])));
    let create = as_viewer(&["instance", "create", "user:alice"]);
    assert!(stderr(&create).contains("(forbidden)"), "{}", stderr(&create));

    let listed = home.run(&["key", "list", "--json"]);
    assert!(!String::from_utf8_lossy(&listed.stdout).contains(key), "a key is shown once");
    assert_eq!(
        (&json(&listed)["keys"][0]["id"], &json(&listed)["keys"][0]["label"]),
        (&id.into(), &"dashboard".into())
    );

    assert_eq!(home.run(&["key", "revoke", id]).status.code(), Some(2), "nobody can be asked");
    assert!(home.run(&["key", "revoke", id, "--yes"]).status.success());
    let deadline = Instant::now() + LONG;
    while as_viewer(&["instance", "list"]).status.success() {
        assert!(Instant::now() < deadline, "a revoked key goes on working");
    }
    assert!(stderr(&as_viewer(&["instance", "list"])).contains("(unauthorized)"));
    assert_eq!(home.run(&["key", "revoke", "nobody", "--yes"]).status.code(), Some(4));
}

#[test]
fn keys_need_a_registry_and_say_so() {
    let home = Home::new();
    let output = home.run(&["key", "list"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("there is no registry at"), "{}", stderr(&output));
    assert!(stderr(&output).contains("hint: start the server"), "{}", stderr(&output));
    assert!(!home.data().exists());
}

#[test]
fn a_schema_is_brought_up_apart_from_the_server_and_not_beside_it() {
    let home = Home::new();
    let before = json(&home.run(&["migrate", "status", "--json"]));
    assert_eq!((&before["schema"], &before["steps"][0]["applied_at"]), (&0.into(), &Value::Null));
    assert!(!home.data().exists(), "a look changes nothing");
    let up = json(&home.run(&["migrate", "up", "--json"]));
    assert_eq!(up["schema"], up["latest"]);
    assert!(home.run(&["key", "create", "--role", "platform"]).status.success(), "a registry is there");
    let _server = home.serve();
    let refused = home.run(&["migrate", "up"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("is in use by the server with pid"), "{}", stderr(&refused));
    assert!(home.run(&["migrate", "status"]).status.success());
}

#[test]
fn a_line_that_was_changed_behind_the_servers_back_is_found() {
    let home = Home::new();
    let server = home.serve();
    for owner in ["user:alice", "user:bob"] {
        let operation = server.begin(owner);
        assert_eq!(server.until_over(&operation)["status"], "succeeded");
    }
    let id = server.get("/v1/instances").body["instances"][0]["id"].as_str().unwrap().to_owned();
    let verify = |args: &[&str]| {
        let server = home.serve();
        home.run(&[&["audit", "verify", "--json", "--server", &server.url()], args].concat())
    };
    assert!(server.end().0.success());
    let whole = json(&verify(&[]));
    assert_eq!((&whole["ok"], &whole["contexts"]), (&true.into(), &2.into()), "{whole}");
    let one = json(&verify(&["--instance", &id]));
    assert_eq!((&one["ok"], &one["contexts"]), (&true.into(), &1.into()), "{one}");

    // An actor is a text in its row; another one of the same length is all the difference to the file.
    let database = home.data().join("registry.db");
    let mut bytes = std::fs::read(&database).unwrap();
    let actor = bytes.windows(8).rposition(|window| window == b"operator").unwrap();
    bytes[actor..actor + 8].copy_from_slice(b"platform");
    std::fs::write(&database, bytes).unwrap();
    let broken = verify(&[]);
    assert_eq!(broken.status.code(), Some(1), "{broken:?}");
    assert!(stderr(&broken).contains("the line was changed"), "{}", stderr(&broken));
}

#[test]
fn the_document_is_printed_without_a_server_and_is_the_one_that_a_server_serves() {
    let home = Home::new();
    let printed = json(&home.run(&["openapi"]));
    assert_eq!(home.serve().get("/openapi.json").body, printed);
    assert!(printed["paths"]["/v1/instances"]["post"].is_object());
}
