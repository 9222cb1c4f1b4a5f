//! A registry that moves from a file into PostgreSQL, on real processes: with operations in flight, and killed on its way.

use std::process::Output;
use std::time::Duration;

use freehold_postgres_lab::Lab;
use serde_json::Value;

use crate::support::{Home, json, stderr};

/// The variable that holds where to.
const TO: &str = "NEW_REGISTRY";

fn moving(home: &Home, url: &str) -> std::process::Command {
    let mut command = home.command(&["migrate", "store", "--from", "sqlite:registry.db", "--to-env", TO, "--json"]);
    command.env(TO, url);
    command
}

fn moved(home: &Home, url: &str) -> Output {
    moving(home, url).output().unwrap()
}

/// A fake provider forgets everything with its server, and is reached from everywhere.
fn home() -> Home {
    Home::new().with("PROVIDERS__LOCAL__KIND", "fake").with("PROVIDERS__LOCAL__LATENCY", "2s")
}

#[test]
fn a_registry_moves_with_operations_in_flight_wherever_the_move_is_killed() {
    let lab = Lab::start().unwrap();
    // A killed move leaves its connections to the pooler, and the next one meets them.
    let url = lab.bouncer(&lab.database().unwrap()).unwrap();
    let mut home = home();
    let server = home.serve();
    let operations: Vec<Value> = (0..40).map(|number| server.begin(&format!("user:{number}"))).collect();
    let refused = moved(&home, &url);
    assert_eq!(refused.status.code(), Some(1), "a server has it: {}", stderr(&refused));
    // As a power cut would: leases are held, steps are noted, calls are on their way.
    server.kill();

    let mut killed = 0;
    let report = loop {
        let mut child = moving(&home, &url)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        if killed < 12 {
            std::thread::sleep(Duration::from_millis(40 + 25 * killed));
            let was_over = child.try_wait().unwrap().is_some();
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            killed += 1;
            if was_over && output.status.success() {
                break json(&output);
            }
            continue;
        }
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        break json(&output);
    };
    // One that was killed when all was done has said nothing, and the next one knows no more than that.
    if report["moved_before"] == false {
        let tables = report["tables"].as_array().unwrap();
        let rows = |name: &str| tables.iter().find(|table| table["table"] == name).unwrap()["rows"].clone();
        assert_eq!((rows("contexts"), rows("operations")), (40.into(), 40.into()), "{report:#}");
        assert!(!report.to_string().contains("@"), "no secrets: {report:#}");
    }

    // Whoever did not hear that it was done asks again, and may.
    let again = moved(&home, &url);
    assert!(again.status.success(), "{}", stderr(&again));
    assert_eq!(json(&again)["moved_before"], true);

    // The file is served by nobody any more, and the new one goes on with everything.
    let refused = home.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("was moved to PostgreSQL at"), "{}", stderr(&refused));
    home.set("REGISTRY__URL", &url);
    home.set("PROVIDERS__LOCAL__LATENCY", "0s");
    let server = home.serve();
    for operation in &operations {
        let over = server.until_over(operation);
        assert_eq!(over["status"], "succeeded", "{over:#}");
    }
    let audit = json(&home.run(&["audit", "verify", "--server", &server.url(), "--json"]));
    assert_eq!(audit["ok"], true, "{audit:#}");
    assert_eq!(server.get("/v1/restore").body["quarantined"], false, "the mark goes along");
    assert_eq!(server.get("/v1/instances?limit=500").body["instances"].as_array().unwrap().len(), 40);
}

#[test]
fn what_is_asked_for_wrongly_is_said() {
    let home = home();
    let run = |args: &[&str]| {
        let output = home.run(&[&["migrate", "store"], args].concat());
        (output.status.code(), stderr(&output))
    };
    let (code, said) = run(&["--to", "postgres://freehold:hunter2@127.0.0.1:1/x"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--to-env") && !said.contains("hunter2"), "{said}");
    assert_eq!(run(&["--to-env", "NO_SUCH_VARIABLE"]).0, Some(2));
    assert_eq!(run(&[]).0, Some(2));
    assert_eq!(run(&["--from", "postgres://x@y/z", "--to", "postgres://x@127.0.0.1:1/x"]).0, Some(2));
    let (code, said) = run(&["--to", "postgres://x@127.0.0.1:1/x?sslmode=disable"]);
    assert_eq!(code, Some(4), "{said}");
    assert!(home.serve().end().0.success());
    let (code, said) = run(&["--to", "postgres://x@127.0.0.1:1/x?sslmode=disable"]);
    assert_eq!(code, Some(5), "{said}");
    assert!(home.serve().end().0.success(), "nothing was changed");
}
