//! What tests may rely on in a lab.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use freehold_postgres_lab::Lab;

#[test]
fn what_is_committed_survives_a_kill_and_what_is_not_does_not() {
    let lab = Lab::start().expect("a cluster");
    let _url = lab.database().expect("a database");
    lab.sql("db0", "CREATE TABLE t (n int); INSERT INTO t VALUES (1)").expect("written");
    let open = lab.hold("db0", "BEGIN; INSERT INTO t VALUES (2)").expect("an open transaction");
    lab.kill().expect("it ran");
    lab.restart().expect("it starts again");
    drop(open);
    assert_eq!(lab.sql("db0", "SELECT n FROM t").expect("it answers"), "1");
    lab.stop().expect("it ran");
    lab.restart().expect("it starts again");
    assert_eq!(lab.sql("db0", "SELECT count(*) FROM t").expect("it answers"), "1");
}

#[test]
fn settings_are_kept_over_a_restart_and_wrong_ones_are_refused() {
    let lab = Lab::start_with(&[("fsync", "on"), ("max_connections", "77")]).expect("a cluster");
    let settings = || lab.sql("postgres", "SHOW fsync; SHOW max_connections").expect("it answers");
    assert_eq!(settings(), "on\n77");
    lab.kill().expect("it ran");
    lab.restart().expect("it starts again");
    assert_eq!(settings(), "on\n77");
    let wrong = Lab::start_with(&[("max_connections", "many")]).expect_err("no such number");
    assert!(format!("{wrong:#}").contains("max_connections"), "{wrong:#}");
}

#[test]
fn nothing_is_left_of_a_lab() {
    let lab = Lab::start().expect("a cluster");
    let url = lab.database().expect("a database");
    assert_ne!(lab.bouncer(&url).expect("a bouncer"), url);
    let log = lab.log();
    let port = lab.port();
    drop(lab);
    assert!(!log.exists(), "{}", log.display());
    std::net::TcpListener::bind(("127.0.0.1", port)).expect("its port is free");
}

/// The other half of the next test: the process that is killed.
#[test]
fn a_lab_that_waits_to_be_killed() {
    let Some(told) = std::env::var_os("LAB_WAITS") else { return };
    let lab = Lab::start().expect("a cluster");
    lab.freeze().expect("it runs");
    std::fs::write(&told, lab.log().to_str().expect("text")).expect("told");
    loop {
        std::thread::park();
    }
}

#[test]
fn nothing_is_left_of_a_lab_whose_test_is_killed() {
    let told = std::env::temp_dir().join(format!("lab-told-{}", std::process::id()));
    let mut test = Command::new(std::env::current_exe().expect("a program"));
    test.args(["--exact", "a_lab_that_waits_to_be_killed"]).env("LAB_WAITS", &told);
    let mut test = test.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    let deadline = Instant::now() + Duration::from_secs(60);
    let until = |what: &str, done: &dyn Fn() -> bool| {
        while !done() {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let log = || std::fs::read_to_string(&told).unwrap_or_default();
    until("there is no lab", &|| !log().is_empty());
    let log = log();
    assert!(Path::new(&log).exists());
    test.kill().expect("it ran");
    test.wait().expect("it ended");
    until("the lab is still there", &|| !Path::new(&log).exists());
    std::fs::remove_file(told).expect("it is there");
}
