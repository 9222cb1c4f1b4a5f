//! Registries that go back in time, on real processes: by a copy that was made for it, by a file that was put back, and by
//! a dump of PostgreSQL.

use std::process::{Command, Stdio};
use std::time::Instant;

use freehold_postgres_lab::{DATABASE_ROLE, Lab};
use serde_json::{Value, json};

use crate::support::{Home, LONG, Server, json, stderr};

fn made(server: &Server, owner: &str) -> String {
    let operation = server.until_over(&server.begin(owner));
    assert_eq!(operation["status"], "succeeded", "{operation:#}");
    operation["instance_id"].as_str().unwrap().to_owned()
}

fn destroyed(server: &Server, id: &str) {
    let path = format!("/v1/instances/{id}");
    assert!([200, 202].contains(&server.ask("DELETE", &path, "", "").status));
    server.until(&path, |shown| shown.body["status"] == "destroyed");
}

/// What is refused, and what goes on.
fn is_in_quarantine(server: &Server, running: &str, why: &str) {
    let refused = server.ask("POST", "/v1/instances", "", r#"{"owner":"user:zoe"}"#);
    assert_eq!((refused.status, &refused.body["code"]), (503, &json!("store_unavailable")), "{refused:?}");
    assert!(refused.body["detail"].as_str().unwrap().contains("freehold restore confirm"), "{refused:?}");
    for work in ["stop", "restart"] {
        assert_eq!(server.ask("POST", &format!("/v1/instances/{running}/{work}"), "", "").status, 503, "{work}");
    }
    assert_eq!(server.get(&format!("/v1/instances/{running}")).status, 200);
    assert_eq!(server.get(&format!("/v1/routes/{running}")).status, 200);
    assert_eq!(server.get(&format!("/i/{running}/")).status, 200, "traffic goes on");
    let ready = server.get("/readyz?verbose");
    let checks = ready.body["checks"].as_array().unwrap();
    let registry = checks.iter().find(|check| check["name"] == "registry").unwrap();
    assert_eq!((ready.status, &registry["ok"]), (200, &json!(true)));
    assert!(registry["detail"].as_str().unwrap().contains("reads, routes and traffic only"), "{registry}");
    let status = server.get("/v1/restore");
    assert_eq!(status.body["quarantined"], true, "{status:?}");
    assert!(status.body["why"].as_str().unwrap().contains(why), "{status:?}");
}

#[test]
fn a_copy_is_served_in_quarantine_until_somebody_has_compared_it() {
    let home = Home::new();
    let copy = home.path().join("copy.db");
    let server = home.serve();
    let (alice, bob) = (made(&server, "user:alice"), made(&server, "user:bob"));
    let made_copy = home.run(&["backup", "--to", copy.to_str().unwrap(), "--json"]);
    assert!(made_copy.status.success(), "{}", stderr(&made_copy));
    assert_eq!((&json(&made_copy)["instances"], &json(&made_copy)["quarantined"]), (&json!(2), &json!(true)));
    let again = home.run(&["backup", "--to", copy.to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(3), "what is there stays: {}", stderr(&again));

    // After the copy: one goes, one comes.
    destroyed(&server, &bob);
    let carol = made(&server, "user:carol");
    assert!(server.end().0.success());
    for left in ["registry.db-wal", "registry.db-shm"] {
        let _ = std::fs::remove_file(home.data().join(left));
    }
    std::fs::copy(&copy, home.data().join("registry.db")).unwrap();

    let server = home.serve();
    is_in_quarantine(&server, &alice, "made by `freehold backup`");
    let url = server.url();
    let status = json(&home.run(&["restore", "status", "--server", &url, "--json"]));
    let named = |list: &str| -> Vec<&str> {
        let list = status["comparison"][list].as_array().unwrap();
        let mut ids: Vec<&str> = list.iter().map(|one| one["instance_id"].as_str().unwrap()).collect();
        ids.dedup();
        ids
    };
    assert_eq!(named("unknown"), [carol.as_str()], "{status:#}");
    assert_eq!(named("missing"), [bob.as_str()], "{status:#}");
    // A destroy is true whatever happened since; it is carried out later.
    let accepted = server.ask("DELETE", &format!("/v1/instances/{alice}"), "", "");
    assert_eq!((accepted.status, &accepted.body["finalized"]), (202, &json!(false)), "{accepted:?}");
    let pids = |id: &str| home.programs().into_iter().filter(|(of, _)| of == id).count();
    assert_eq!((pids(&alice), pids(&carol)), (1, 1));

    // A restart ends nothing.
    drop(server);
    let server = home.serve();
    let url = server.url();
    assert_eq!(server.get("/v1/restore").body["quarantined"], true);
    let unasked = home.run(&["restore", "confirm", "--server", &url]);
    assert_eq!(unasked.status.code(), Some(2), "{}", stderr(&unasked));
    let confirmed = home.run(&["restore", "confirm", "--server", &url, "--yes", "--json"]);
    assert!(confirmed.status.success(), "{}", stderr(&confirmed));
    assert_eq!(json(&confirmed)["raised"], 2);
    server.until(&format!("/v1/instances/{alice}"), |shown| shown.body["status"] == "destroyed");
    assert_eq!(pids(&alice), 0);
    let zoe = made(&server, "user:zoe");
    assert_eq!(server.get(&format!("/i/{zoe}/")).status, 200);
    assert_eq!(pids(&carol), 1, "what the registry does not know is left alone");
    let twice = home.run(&["restore", "confirm", "--server", &url, "--yes"]);
    assert_eq!(twice.status.code(), Some(3), "{}", stderr(&twice));
    let audit: Value = json(&home.run(&["audit", "verify", "--server", &url, "--json"]));
    assert_eq!(audit["ok"], true, "{audit:#}");
}

#[test]
fn a_file_that_was_put_back_is_known_by_the_mark() {
    let home = Home::new();
    let server = home.serve();
    let alice = made(&server, "user:alice");
    assert!(server.end().0.success());
    let registry = home.data().join("registry.db");
    let kept = home.path().join("kept.db");
    std::fs::copy(&registry, &kept).unwrap();
    let server = home.serve();
    made(&server, "user:bob");
    assert!(server.end().0.success(), "the last mark is written at the end");
    std::fs::copy(&kept, &registry).unwrap();

    let server = home.serve();
    is_in_quarantine(&server, &alice, "its audit trail ends at");
    let confirmed = home.run(&["restore", "confirm", "--server", &server.url(), "--yes"]);
    assert!(confirmed.status.success(), "{}", stderr(&confirmed));
    made(&server, "user:zoe");
    // The mark follows, so that the next start is not the same again.
    assert!(server.end().0.success());
    let server = home.serve();
    assert_eq!(server.get("/v1/restore").body["quarantined"], false);
    assert_eq!(server.get(&format!("/i/{alice}/")).status, 200);
    assert!(server.end().0.success());

    // Back once more behind a confirmed restore: that is a step back like any other.
    std::fs::copy(&kept, &registry).unwrap();
    let server = home.serve();
    is_in_quarantine(&server, &alice, "its audit trail ends at");
}

/// A database of its own for a registry.
struct Database {
    url: String,
    name: String,
}

impl Database {
    fn new(lab: &Lab) -> Self {
        let url = lab.database().unwrap();
        let name = url.rsplit('/').next().unwrap().split('?').next().unwrap().to_owned();
        Self { url, name }
    }

    /// One of PostgreSQL's own tools, on it.
    fn tool(&self, lab: &Lab, tool: &str) -> Command {
        let mut command = Command::new(format!("/usr/lib/postgresql/15/bin/{tool}"));
        let port = lab.port().to_string();
        command.args(["-h", "127.0.0.1", "-p", &port, "-U", DATABASE_ROLE, "-d", &self.name]);
        command
    }

    /// Asks until the answer is as wanted.
    fn until(&self, lab: &Lab, question: &str, wanted: &str) {
        let deadline = Instant::now() + LONG;
        while lab.sql(&self.name, question).unwrap().trim() != wanted {
            assert!(Instant::now() < deadline, "{question} never is {wanted}");
        }
    }
}

/// A dump is read back, the server is killed in the middle of the confirmation, and it is confirmed again.
#[test]
fn a_dump_that_was_read_back_waits_and_is_confirmed_again_where_that_broke_off() {
    let lab = Lab::start().unwrap();
    let (before, back) = (Database::new(&lab), Database::new(&lab));
    let mut home = Home::new().with("REGISTRY__URL", &before.url);
    let server = home.serve();
    let instances = ["user:alice", "user:bob", "user:carol"].map(|owner| made(&server, owner));
    let dump = home.path().join("dump.sql");
    let dumped = before.tool(&lab, "pg_dump").arg("-f").arg(&dump).status().unwrap();
    assert!(dumped.success());
    let late = made(&server, "user:late");
    assert!(server.end().0.success(), "the last mark is written at the end");
    let mut read = back.tool(&lab, "psql");
    read.args(["-q", "-v", "ON_ERROR_STOP=1", "-f"]).arg(&dump).stdout(Stdio::null());
    assert!(read.status().unwrap().success());

    home.set("REGISTRY__URL", &back.url);
    let server = home.serve();
    is_in_quarantine(&server, &instances[0], "its audit trail ends at");
    // Somebody has the guard of one: the others are raised, and then the server is killed.
    let hold =
        "BEGIN; SELECT 1 FROM freehold_registry.contexts WHERE owner = 'user:alice' FOR UPDATE; SELECT pg_sleep(60)";
    let mut holding = back.tool(&lab, "psql").args(["-q", "-c", hold]).stdout(Stdio::null()).spawn().unwrap();
    back.until(&lab, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'", "1");
    let confirm = |server: &Server| home.command(&["restore", "confirm", "--yes", "--json", "--server", &server.url()]);
    let broken = confirm(&server).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    back.until(&lab, "SELECT count(*) FROM freehold_registry.reservations WHERE epoch > 1048576", "2");
    server.kill();
    assert!(!broken.wait_with_output().unwrap().status.success());
    let _ = lab.sql(&back.name, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'");
    holding.wait().unwrap();

    let server = home.serve();
    is_in_quarantine(&server, &instances[0], "its audit trail ends at");
    let confirmed = confirm(&server).output().unwrap();
    assert!(confirmed.status.success(), "{}", stderr(&confirmed));
    assert_eq!(json(&confirmed)["raised"], 3);
    for instance in &instances {
        server.until(&format!("/i/{instance}/"), |greeting| greeting.status == 200);
    }
    assert_eq!(server.get(&format!("/v1/instances/{late}")).status, 404);
    assert_eq!(home.programs().iter().filter(|(of, _)| *of == late).count(), 1, "what it does not know is left alone");
    made(&server, "user:zoe");
    let audit = json(&home.run(&["audit", "verify", "--server", &server.url(), "--json"]));
    assert_eq!(audit["ok"], true, "{audit:#}");
}
