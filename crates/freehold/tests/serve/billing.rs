//! The whole program with a billing service behind HTTP: a lab of one, which fails on cue, and the one of the guide.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{SystemTime, UNIX_EPOCH};

use freehold_billing::lab::{BillingLab, Fault, Message, SECRET};

use crate::support::{Answer, Home, Server, stderr};

/// A lab, and the runtime that it lives in.
struct Town {
    lab: BillingLab,
    _runtime: tokio::runtime::Runtime,
}

impl Town {
    fn new() -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        Self { lab: runtime.block_on(BillingLab::start()).unwrap(), _runtime: runtime }
    }

    /// A home whose server asks the lab.
    fn home(&self) -> Home {
        let mut home = Home::new();
        let file = home.path().join("secret");
        std::fs::write(&file, SECRET).unwrap();
        home.set("BILLING__KIND", "http");
        home.set("BILLING__URL", &self.lab.url());
        home.set("BILLING__SECRET_FILE", file.to_str().unwrap());
        home.set("PROVISION__MAX_ATTEMPTS", "2");
        home.set("TIMING__RETRY_MIN", "50ms");
        home
    }

    fn send(&self, server: &Server, id: &str, kind: &str, instance: &str) -> Answer {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let (signed, body) = self.lab.event(id, kind, instance, i64::try_from(now).unwrap());
        let headers = signed.headers().map(|(name, value)| format!("{name}: {value}\r\n")).concat();
        server.ask("POST", "/v1/billing/events", &headers, &body)
    }
}

fn create(server: &Server, owner: &str) -> Answer {
    server.ask("POST", "/v1/instances", "", &format!(r#"{{"owner":"{owner}"}}"#))
}

#[test]
fn a_program_that_nobody_pays_for_is_stopped_and_one_that_is_paid_for_again_answers() {
    let town = Town::new();
    let home = town.home();
    let server = home.serve();
    let made = create(&server, "user:alice");
    assert_eq!(made.status, 201, "{made:?}");
    let id = made.body["id"].as_str().unwrap();
    assert_eq!(town.lab.books().started[id], 1);
    assert_eq!(home.programs().len(), 1);

    let path = format!("/v1/instances/{id}");
    assert_eq!(town.send(&server, "msg_1", "subscription.suspended", id).body["changed"], true);
    server.until(&path, |seen| seen.body["status"] == "stopped" && home.programs().is_empty());
    let refused = server.ask("POST", &format!("{path}/start"), "", "");
    assert_eq!((refused.status, &refused.body["code"]), (403, &"entitlement_denied".into()));

    // It stays so for the next start of the server, and what arrived stays known.
    server.kill();
    let server = home.serve();
    assert_eq!(server.get(&path).body["subscription"]["status"], "suspended");
    assert_eq!(town.send(&server, "msg_2", "subscription.resumed", id).body["changed"], true);
    server.until(&path, |seen| seen.body["status"] == "running");
    assert_eq!(town.send(&server, "msg_1", "subscription.suspended", id).body["changed"], false);
    assert_eq!(server.get(&format!("/i/{id}/hello")).status, 200);
}

#[test]
fn what_the_configuration_started_is_reported_by_the_next_start_of_the_server() {
    let town = Town::new();
    let home = town.home().with("BILLING__FALLBACK", "local");
    let server = home.serve();
    town.lab.fail_always(Message::Start, Fault::Down);
    let made = create(&server, "user:alice");
    assert_eq!(made.status, 201, "{made:?}");
    let id = made.body["id"].as_str().unwrap();
    assert!(town.lab.books().active.is_empty());
    server.kill();
    town.lab.heal();
    let server = home.serve();
    let minted = &made.body["subscription"]["id"];
    server.until(&format!("/v1/instances/{id}"), |seen| seen.body["subscription"]["id"] != *minted);
    assert_eq!(town.lab.books().started[id], 1);
}

#[test]
fn without_a_fallback_nothing_is_left_of_what_billing_does_not_take() {
    let town = Town::new();
    let home = town.home();
    let server = home.serve();
    town.lab.fail_always(Message::Start, Fault::Down);
    let failed = create(&server, "user:alice");
    assert_eq!((failed.status, &failed.body["code"]), (502, &"provision_failed".into()), "{failed:?}");
    let id = failed.body["instance_id"].as_str().unwrap();
    server.until(&format!("/v1/instances/{id}"), |_| home.programs().is_empty());
    server.until(&format!("/v1/reservations/{id}"), |seen| seen.body["status"] == "released");
    assert!(town.lab.books().ended.contains(id), "billing knows that it is over");
    town.lab.fail_always(Message::Resolve, Fault::Down);
    let closed = create(&server, "user:alice");
    assert_eq!((closed.status, &closed.body["code"]), (503, &"billing_unavailable".into()), "{closed:?}");
    town.lab.heal();
    assert_eq!(create(&server, "user:alice").status, 201);
}

#[test]
fn a_secret_that_cannot_be_used_ends_the_start_and_is_not_shown() {
    let town = Town::new();
    let home = town.home();
    std::fs::write(home.path().join("secret"), "whsec_hunter2h").unwrap();
    let output = home.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = stderr(&output);
    assert!(said.contains("billing.secret: secret 1 has 6 bytes") && said.contains("hint: write whsec_"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}

/// A process that ends with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // One that ended already is what was wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The only block of a language in the guide.
fn of_the_guide(language: &str) -> String {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guides/billing.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let (_, block) = guide.split_once(&format!("```{language}\n")).unwrap();
    block.split_once("```").unwrap().0.to_owned()
}

#[test]
fn the_guides_example_is_a_billing_service_and_its_script_suspends() {
    freehold_postgres_lab::need(&[("/usr/bin/node", "nodejs")]).unwrap();
    let mut home = Home::new();
    let (program, script) = (home.path().join("billing.mjs"), home.path().join("event.sh"));
    std::fs::write(&program, of_the_guide("js")).unwrap();
    std::fs::write(&script, of_the_guide("sh")).unwrap();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let node = Command::new("node")
        .arg(&program)
        .env("BILLING_WEBHOOK_SECRET", SECRET)
        .env("PORT", address.port().to_string())
        .spawn();
    let _node = Running(node.unwrap());
    home.set("BILLING__KIND", "http");
    home.set("BILLING__URL", &format!("http://{address}/"));
    std::fs::write(home.path().join("secret"), SECRET).unwrap();
    home.set("BILLING__SECRET_FILE", home.path().join("secret").to_str().unwrap().to_owned().as_str());
    let server = home.serve();
    let deadline = std::time::Instant::now() + crate::support::LONG;
    while TcpStream::connect(address).is_err() {
        assert!(std::time::Instant::now() < deadline, "node does not listen");
        std::thread::yield_now();
    }

    let made = create(&server, "user:alice");
    assert_eq!(made.status, 201, "{made:?}");
    let denied = create(&server, "user:mallory");
    assert_eq!((denied.status, &denied.body["detail"]), (403, &"your card has expired".into()), "{denied:?}");
    let id = made.body["id"].as_str().unwrap();
    let send = |kind: &str| {
        let mut send = Command::new("sh");
        send.arg(&script).args([kind, id]).env("BILLING_WEBHOOK_SECRET", SECRET).env("FREEHOLD_SERVER", server.url());
        String::from_utf8(send.output().unwrap().stdout).unwrap()
    };
    let path = format!("/v1/instances/{id}");
    assert_eq!(send("subscription.suspended").trim(), r#"{"changed":true} 200"#);
    server.until(&path, |seen| seen.body["status"] == "stopped" && home.programs().is_empty());
    assert_eq!(send("subscription.resumed").trim(), r#"{"changed":true} 200"#);
    server.until(&path, |seen| seen.body["status"] == "running");
    server.ask("DELETE", &path, "", "");
    server.until(&path, |seen| seen.body["status"] == "destroyed");
}
