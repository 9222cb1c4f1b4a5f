//! `reservation release` and `leak`, typed by hand against a real server whose provider does not let anything be removed.

use std::fs;
use std::process::Output;

use serde_json::Value;

use crate::support::{Home, Server, json, stderr};

/// A provision that gave up, and cannot be sealed: the program has made its folder look like somebody else's. Answers the
/// server and the instance.
fn stuck(home: &mut Home) -> (Server, String) {
    let data = home.data().display().to_string();
    // One rename changes it, so that no look finds anything in between.
    let script = format!(
        "cd {data}/instances/$FREEHOLD_INSTANCE_ID && cp owner {data}/owner && \
         tr 0123456789 1234567890 < owner > other && mv other owner; exit 1"
    );
    let file = home.path().join("freehold.toml");
    let template = format!("[templates.hello]\ncommand = [\"sh\", \"-c\", {}]\n", serde_json::json!(script));
    let patience = "[timing]\nretry_min = \"50ms\"\nretry_max = \"200ms\"\n[provision]\ndefault_wait = \"2s\"\n";
    fs::write(&file, format!("{template}{patience}")).unwrap();
    let mut serving = home.serving();
    serving.arg("--config").arg(&file);
    let server = home.serve_with(serving);
    let begun = server.begin("user:alice");
    let instance = begun["instance_id"].as_str().unwrap().to_owned();
    server.until(&format!("/v1/reservations/{instance}"), |seen| {
        let evidence = seen.body["evidence"].as_array().cloned().unwrap_or_default();
        evidence.iter().any(|item| item["detail"].as_str().is_some_and(|detail| detail.starts_with("seal, attempt")))
    });
    (server, instance)
}

/// The provider finds what is ours again.
fn mended(home: &Home, instance: &str) {
    let place = home.data().join("instances").join(instance).join("owner");
    fs::rename(home.data().join("owner"), place).unwrap();
}

fn run(home: &Home, server: &Server, args: &[&str]) -> Output {
    home.command(args).args(["--server", &server.url()]).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn leaks(home: &Home, server: &Server) -> Vec<Value> {
    json(&run(home, server, &["leak", "list", "--json"]))["leaks"].as_array().unwrap().clone()
}

#[test]
fn a_release_shows_what_stands_in_its_way_and_frees_the_context_once_absence_is_proven() {
    let mut home = Home::new();
    let (server, instance) = stuck(&mut home);
    let release = || {
        let args = ["reservation", "release", &instance, "--reason", "the machine is fine again", "--yes"];
        run(&home, &server, &args)
    };
    let held = release();
    assert_eq!(held.status.code(), Some(3), "{}", stderr(&held));
    assert!(stderr(&held).contains("the provider refuses: seal: "), "{}", stderr(&held));
    let tried = stderr(&held).lines().filter(|line| line.starts_with("tried ")).count();
    assert_eq!(tried, 2, "before the proof and after it: {}", stderr(&held));

    mended(&home, &instance);
    let released = release();
    assert_eq!(released.status.code(), Some(0), "{}", stderr(&released));
    assert!(stdout(&released).contains("released on proof"), "{}", stdout(&released));
    for line in ["sealed ", "absent "] {
        assert!(stderr(&released).lines().any(|said| said.starts_with(line)), "{line}: {}", stderr(&released));
    }
    let trail = stdout(&run(&home, &server, &["audit", "tail"]));
    assert!(trail.contains("the machine is fine again"), "{trail}");
    assert_eq!(leaks(&home, &server), Vec::<Value>::new());
}

#[test]
fn an_override_needs_a_reason_and_its_leak_closes_once_nothing_is_left() {
    let mut home = Home::new();
    let (server, instance) = stuck(&mut home);
    let release = |reason| {
        let args = ["reservation", "release", &instance, "--override", "--yes", "--reason", reason];
        run(&home, &server, &args)
    };
    assert_eq!(release("").status.code(), Some(2));
    assert_eq!(leaks(&home, &server), Vec::<Value>::new());
    let released = release("the region is gone");
    assert_eq!(released.status.code(), Some(0), "{}", stderr(&released));
    assert!(stdout(&released).contains("freehold leak list"), "{}", stdout(&released));
    let open = leaks(&home, &server);
    assert_eq!((open.len(), &open[0]["reason"]), (1, &"the region is gone".into()), "{open:?}");
    assert_eq!(release("again").status.code(), Some(3), "it is released already");

    mended(&home, &instance);
    server.until("/v1/leaks", |seen| seen.body["leaks"] == serde_json::json!([]));
    let trail = stdout(&run(&home, &server, &["audit", "tail"]));
    assert!(trail.contains("instance.orphan_removed"), "{trail}");
    assert_eq!(home.programs(), []);
}

#[test]
fn a_leak_that_is_resolved_by_hand_stays_resolved() {
    let mut home = Home::new();
    let (server, instance) = stuck(&mut home);
    let args = ["reservation", "release", &instance, "--override", "--yes", "--reason", "gone"];
    assert_eq!(run(&home, &server, &args).status.code(), Some(0));
    let leak = leaks(&home, &server)[0]["id"].as_str().unwrap().to_owned();
    let resolved = run(&home, &server, &["leak", "resolve", &leak, "--reason", "deleted by hand", "--yes"]);
    assert_eq!(resolved.status.code(), Some(0), "{}", stderr(&resolved));
    assert!(stdout(&resolved).contains("deleted by hand"), "{}", stdout(&resolved));
    assert_eq!(leaks(&home, &server), Vec::<Value>::new());
    let missing = ["leak", "resolve", "01990000-0000-7000-8000-000000000001", "--reason", "x", "--yes"];
    assert_eq!(run(&home, &server, &missing).status.code(), Some(4));
}
