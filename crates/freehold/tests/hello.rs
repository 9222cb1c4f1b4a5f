//! The program of the `hello` template, as the proxy and an operator meet it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long any answer may take before a test gives up.
const ANSWER_MAX: Duration = Duration::from_secs(20);

struct Hello {
    child: Child,
    address: String,
    _log: BufReader<std::process::ChildStdout>,
}

impl Hello {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_freehold"))
            .arg("hello-instance")
            .env("PORT", "0")
            .env("FREEHOLD_INSTANCE_ID", "i-1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        log.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").unwrap().to_owned();
        Self { child, address, _log: log }
    }

    fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(&self.address).unwrap();
        socket.set_read_timeout(Some(ANSWER_MAX)).unwrap();
        socket
    }

    fn ask(&self, request: &str) -> String {
        let mut socket = self.connect();
        socket.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    }

    fn end(mut self) -> std::process::ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Hello {
    fn drop(&mut self) {
        // One that ended already is what the test wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn it_says_what_reached_it_and_ends_when_it_is_asked_to() {
    let hello = Hello::start();
    let answer =
        hello.ask("PUT /a/b?c=d HTTP/1.1\r\nhost: x\r\nx-one: 1\r\nx-one: 2\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhallo");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    let about: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(about["instance_id"], "i-1");
    assert_eq!(about["pid"], hello.child.id());
    assert_eq!((&about["method"], &about["path"], &about["query"]), (&"PUT".into(), &"/a/b".into(), &"c=d".into()));
    assert_eq!((&about["body"], &about["body_bytes"]), (&"hallo".into(), &5.into()));
    assert_eq!(about["headers"]["x-one"], "1, 2");
    assert!(hello.end().success());
}

#[test]
fn a_body_is_echoed_while_it_still_arrives() {
    let hello = Hello::start();
    let mut socket = hello.connect();
    socket.write_all(b"POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n").unwrap();
    let mut seen = String::new();
    let mut chunk = [0; 1024];
    while !seen.contains("first") {
        let count = socket.read(&mut chunk).unwrap();
        assert!(count > 0, "the echo ended early: {seen}");
        seen.push_str(std::str::from_utf8(&chunk[..count]).unwrap());
    }
    socket.write_all(b"0\r\n\r\n").unwrap();
}

#[test]
fn events_come_one_after_the_other() {
    let hello = Hello::start();
    let answer = hello.ask("GET /stream?count=3&interval_ms=1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    assert!(answer.contains("content-type: text/event-stream"), "{answer}");
    assert_eq!(answer.matches("event: tick").count(), 3, "{answer}");
}

#[test]
fn a_websocket_echoes() {
    let hello = Hello::start();
    let mut socket = hello.connect();
    socket
        .write_all(
            b"GET /ws HTTP/1.1\r\nhost: x\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\
              sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .unwrap();
    let mut reader = BufReader::new(socket.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "{head}");
    }
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    // "hi" in one frame, masked with zeroes; then a close.
    socket.write_all(b"\x81\x82\0\0\0\0hi\x88\x80\0\0\0\0").unwrap();
    let mut frames = Vec::new();
    reader.read_to_end(&mut frames).unwrap();
    assert_eq!(frames, b"\x81\x02hi\x88\x00");
}

#[test]
fn without_a_port_it_says_what_is_missing() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_freehold")).arg("hello-instance").env_remove("PORT").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("error: PORT is \"\""));
}
