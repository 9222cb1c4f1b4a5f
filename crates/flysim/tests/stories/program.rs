//! The program: it says where it listens, takes rules from a file, and ends when it is told to.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Never left behind, whatever a story ends with.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_freehold-flysim"));
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[tokio::test]
async fn it_listens_obeys_its_file_and_ends_on_sigterm() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().expect("a folder");
    let rules = folder.path().join("rules.json");
    let text = r#"[{ "endpoint": "list_apps", "fault": { "kind": "status", "status": 503 }, "count": 1 }]"#;
    std::fs::write(&rules, text).expect("a file");
    let rules = rules.to_str().expect("a path");
    let arguments = ["--listen", "127.0.0.1:0", "--token", "secret=acme", "--boot", "0", "--rules", rules];
    let mut child = Program(program(&arguments).spawn().expect("it starts"));
    let mut line = String::new();
    BufReader::new(child.0.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
    let url = line.trim().strip_prefix("listening on ").expect("an address").to_owned();
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let mut statuses = Vec::new();
    for _ in 0..2 {
        let response = client.get(format!("{url}/v1/apps?org_slug=acme")).bearer_auth("secret").send().await;
        statuses.push(response.expect("an answer").status().as_u16());
    }
    assert_eq!(statuses, [503, 200]);
    let pid = child.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill exists").success());
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(status) = child.0.try_wait().expect("it is our child") {
            assert!(status.success(), "{status}");
            return;
        }
        assert!(Instant::now() < end, "it does not end");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn it_refuses_what_it_cannot_do() {
    for (arguments, said) in [
        (["--listen", "0.0.0.0:0"], "loopback"),
        (["--rules", "/nowhere/rules.json"], "/nowhere/rules.json"),
        (["--boot", "soon"], "50ms"),
    ] {
        let output = program(&arguments).output().expect("it runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && stderr.contains(said), "{arguments:?}: {stderr}");
    }
}
