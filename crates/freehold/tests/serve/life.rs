//! A server's life when nothing goes wrong.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;

use rustix::process::Signal;

use crate::support::Home;

#[test]
fn the_first_start_mints_what_later_ones_keep_and_sigterm_ends_it_well() {
    let home = Home::new();
    let server = home.serve();
    assert_eq!(server.get("/healthz").status, 200);
    let ready = server.get("/readyz?verbose");
    assert_eq!((ready.status, &ready.body["status"]), (200, &"ok".into()), "{ready:?}");
    assert_eq!(server.get("/v1/instances").status, 200, "the minted key is good");
    let (key, node) = (home.key(), std::fs::read_to_string(home.data().join("node_id")).unwrap());
    assert!(key.starts_with("fh_operator_"), "{key}");
    let mode = std::fs::metadata(home.data().join("operator.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let (status, rest) = server.end();
    assert!(status.success(), "{status}");
    assert_eq!(rest, "", "stdout has one line");

    let again = home.serve();
    assert_eq!((home.key(), std::fs::read_to_string(home.data().join("node_id")).unwrap()), (key, node));
    assert_eq!(again.get("/v1/instances").status, 200);
}

#[test]
fn an_instance_is_made_answers_outlives_its_server_and_is_destroyed() {
    let home = Home::new();
    let server = home.serve();
    let made = server.ask("POST", "/v1/instances", "", r#"{"owner":"user:alice"}"#);
    assert_eq!(made.status, 201, "{made:?}");
    let id = made.body["id"].as_str().unwrap().to_owned();
    let hello = server.get(&format!("/i/{id}/hello"));
    assert_eq!((hello.status, &hello.body["instance_id"]), (200, &id.as_str().into()), "{hello:?}");
    let metrics = server.get("/metrics").body.to_string();
    assert!(metrics.contains("freehold_store_commit_seconds_count"), "{metrics}");
    assert!(!metrics.contains("freehold_store_commit_seconds_count 0"), "commits are timed");
    let programs = home.programs();
    assert_eq!(programs.len(), 1, "{programs:?}");
    assert_eq!(hello.body["pid"], programs[0].1);
    assert!(server.end().0.success());

    assert_eq!(home.programs(), programs, "it runs on without a server");
    let again = home.serve();
    assert_eq!(again.get(&format!("/i/{id}/hello")).body["pid"], programs[0].1);
    let gone = again.ask("DELETE", &format!("/v1/instances/{id}"), "", "");
    assert!([200, 202].contains(&gone.status), "{gone:?}");
    again.until(&format!("/v1/instances/{id}"), |seen| seen.body["status"] == "destroyed");
    assert_eq!(again.get(&format!("/v1/routes/{id}")).status, 410);
    assert_eq!(home.programs(), []);
}

#[test]
fn a_new_registry_has_a_janitor_that_only_looks_and_an_operator_decides_otherwise() {
    for (dry_run, careful) in [(None, true), (Some("always"), true), (Some("never"), false)] {
        let mut home = Home::new();
        if let Some(dry_run) = dry_run {
            home.set("JANITOR__DRY_RUN", dry_run);
        }
        assert!(home.serve().end().0.success());
        let told = home.log().contains("the janitor removes nothing and logs what it would");
        assert_eq!(told, careful, "{dry_run:?}: {}", home.log());
    }
}

#[test]
fn a_stream_ends_when_the_server_does() {
    let home = Home::new();
    let server = home.serve();
    let mut events = server.send("GET", "/v1/events", "", "");
    let mut byte = [0];
    events.read_exact(&mut byte).unwrap();
    server.signal(Signal::TERM);
    let mut rest = String::new();
    events.read_to_string(&mut rest).unwrap();
    assert!(rest.starts_with("TTP/1.1 200"), "{rest}");
    assert!(server.ended().0.success());
}

#[test]
fn a_client_that_hangs_up_while_it_waits_gets_its_instance_all_the_same() {
    let home = Home::new();
    let server = home.serve();
    let waiting = server.send("POST", "/v1/instances", "", r#"{"owner":"user:hasty"}"#);
    let owner = server.until("/v1/owners/user:hasty", |seen| seen.status == 200);
    drop(waiting);
    let id = owner.body["reservations"][0]["instance_id"].as_str().unwrap_or_else(|| panic!("{owner:?}"));
    server.until(&format!("/v1/instances/{id}"), |seen| seen.body["routable"] == true);
    assert_eq!(home.programs().len(), 1);
}

#[test]
fn a_deleted_operator_key_is_minted_anew_and_the_old_one_is_worth_nothing() {
    let home = Home::new();
    let server = home.serve();
    assert!(server.end().0.success());
    let old = home.key();
    std::fs::remove_file(home.data().join("operator.key")).unwrap();
    let server = home.serve();
    assert_ne!(home.key(), old);
    assert_eq!(server.get("/v1/instances").status, 200);
    let listed = home.command(&["instance", "list", "--server", &server.url()]).env("FREEHOLD_TOKEN", &old).output();
    assert_eq!(listed.unwrap().status.code(), Some(1));
}

#[test]
fn a_node_without_the_api_is_alive_and_answers_nothing_else() {
    let home = Home::new();
    let mut serving = home.serving();
    serving.args(["--roles", "executor,reconcilers"]);
    let server = home.serve_with(serving);
    assert_eq!(server.get("/readyz").status, 200);
    assert_eq!(server.get("/v1/instances").status, 404);
}
