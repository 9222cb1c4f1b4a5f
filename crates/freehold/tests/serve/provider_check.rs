//! `provider check` against real programs, beside a server and without one.

use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Home, json, stderr};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn the_process_provider_passes_beside_a_server_and_nothing_is_left() {
    let home = Home::new();
    let server = home.serve();
    server.begin("user:alice");
    server.until("/v1/instances", |seen| seen.body["instances"][0]["status"] == "running");
    let (programs, before) = (home.programs(), folders(&home));
    let done = home.run(&["provider", "check", "local", "--json"]);
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    let report = json(&done);
    let checks = report["checks"].as_array().unwrap();
    assert!(checks.len() > 10, "{report:#}");
    for check in checks {
        assert_eq!(check["grade"], "passed", "{check:#}");
    }
    assert_eq!(report["left"], serde_json::json!([]));
    assert!(report["horizon"]["samples"].as_u64().unwrap() > 0, "{report:#}");
    assert_eq!((home.programs(), folders(&home)), (programs, before), "the server's are as they were");
}

fn folders(home: &Home) -> Vec<String> {
    let entries = std::fs::read_dir(home.data()).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    // What the server writes by itself, meanwhile too.
    names.retain(|name| !name.contains("registry") && name != "high_water");
    names.sort();
    names
}

#[test]
fn an_interrupt_removes_what_was_made() {
    let home = Home::new();
    let mut command = home.command(&["provider", "check", "local"]);
    let mut check = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    // In the middle of a check: a program of the check's installation runs.
    while programs_of_checks(&home) == 0 {
        assert!(begun.elapsed() < PATIENCE, "it makes nothing");
        assert_eq!(check.try_wait().unwrap(), None, "it is over before it is interrupted");
        std::thread::yield_now();
    }
    kill_process(Pid::from_child(&check), Signal::INT).unwrap();
    let status = check.wait().unwrap();
    assert_eq!(status.code(), Some(1), "not every check was run");
    assert_eq!(programs_of_checks(&home), 0);
    assert!(!home.data().exists(), "there was no data folder before");
}

/// How many programs run whose folder is in this home: by the machine's own list.
fn programs_of_checks(home: &Home) -> usize {
    let folder = home.data().display().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let environments = processes.filter_map(|entry| std::fs::read(entry.path().join("environ")).ok());
    environments
        .filter(|environment| {
            let text = String::from_utf8_lossy(environment);
            text.split('\0').any(|pair| pair.starts_with("FREEHOLD_INSTALL=check-")) && text.contains(&folder)
        })
        .count()
}

#[test]
fn what_cannot_be_checked_is_refused_in_words() {
    let home = Home::new();
    for (args, code, says) in [
        (&["provider", "check", "locl"][..], 2, "there is no provider `locl`"),
        (&["provider", "check", "local", "--only", "nothing"], 2, "create_twice_is_one_resource"),
        (&["provider", "check", "local", "--template", "no"], 2, "there is no template `no`"),
        (&["provider", "check", "local", "--image", "alpine"], 2, "local does not run this"),
    ] {
        let done = home.run(args);
        assert_eq!(done.status.code(), Some(code), "{args:?}: {}", stderr(&done));
        assert!(stderr(&done).contains(says), "{args:?}: {}", stderr(&done));
        assert!(!home.data().exists(), "{args:?} left a folder");
    }
}
