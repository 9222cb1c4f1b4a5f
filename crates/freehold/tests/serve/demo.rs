//! The tour, as a newcomer takes it.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{Home, json, stderr};

fn demo_programs() -> Vec<String> {
    let of_demo = |entry: std::fs::DirEntry| {
        let environment = std::fs::read(entry.path().join("environ")).ok()?;
        let text = String::from_utf8_lossy(&environment).into_owned();
        text.split('\0').find_map(|pair| pair.strip_prefix("FREEHOLD_INSTALL=")).map(str::to_owned)
    };
    std::fs::read_dir("/proc").unwrap().flatten().filter_map(of_demo).collect()
}

#[test]
fn everything_holds_and_nothing_is_left_but_the_folder() {
    let home = Home::new();
    let output = home.command(&["demo", "--exit", "--json"]).env("TMPDIR", home.path()).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let report: Value = json(&output);
    assert_eq!(report["ok"], true);
    assert_eq!((&report["stampede"]["admitted"], &report["stampede"]["conflicts"]), (&1.into(), &49.into()));
    assert_eq!(report["crash"]["provisions"], 10);
    assert!(report["crash"]["taken_over"].as_u64().unwrap() > 0, "the kill was in the middle: {report:#}");
    assert_eq!(report["processes"]["instances"], report["processes"]["processes"]);
    let folder = report["folder"].as_str().unwrap();
    assert!(std::path::Path::new(folder).join("data/registry.db").exists());
    let install = folder.rsplit("freehold-").next().unwrap();
    assert!(!demo_programs().iter().any(|name| name == install), "{install} left processes");
    assert!(stderr(&output).contains("49 got 409 with that id"), "{}", stderr(&output));
}

#[test]
fn without_exit_the_server_stays_up_until_it_is_told() {
    let home = Home::new();
    let mut child = home
        .command(&["demo"])
        .env("TMPDIR", home.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let told = lines.by_ref().find(|line| line.starts_with("The API is at http://")).unwrap();
    let address = told.strip_prefix("The API is at http://").unwrap().split(';').next().unwrap().to_owned();
    assert!(lines.any(|line| line.contains("Ctrl-C ends it")));
    assert!(std::net::TcpStream::connect(&address).is_ok(), "the server is up");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(std::net::TcpStream::connect(&address).is_err(), "the server is down");
}
