//! An engine that was started for the tests, and a provider over it with an installation of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use freehold_domain::ids::InstanceId;
use freehold_domain::owner::Context;
use freehold_domain::resource::{Outcome, Resource, ResourceKind, RuntimeState};
use freehold_engine::ident::Idents;
use freehold_engine::ports::{Blueprint, Ident, Made, Order, Provider};
use freehold_providers::conformance::Subject;
use freehold_providers::docker::{DockerHost, DockerOptions, DockerProvider};

/// The image that `cargo xtask engines` makes: an HTTP server that says which instance it is.
pub(crate) const IMAGE: &str = "localhost/freehold-test";

/// How long any state may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How long a program gets to end in tests.
const GRACE: Duration = Duration::from_secs(1);

/// An engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Docker,
    Podman,
}

impl Kind {
    pub(crate) fn host(self) -> DockerHost {
        let variable = match self {
            Self::Docker => "FREEHOLD_TEST_DOCKER",
            Self::Podman => "FREEHOLD_TEST_PODMAN",
        };
        let host = std::env::var(variable).expect("run this test with `cargo xtask engines`");
        host.parse().unwrap()
    }
}

pub(crate) fn options(host: DockerHost) -> DockerOptions {
    DockerOptions { stop_grace: GRACE, request_timeout: PATIENCE, ..DockerOptions::new(host) }
}

pub(crate) fn blueprint() -> Blueprint {
    Blueprint {
        command: Vec::new(),
        image: Some(IMAGE.to_owned()),
        env: BTreeMap::from([("GREETING".to_owned(), "hi".to_owned())]),
        secrets: BTreeSet::new(),
        memory_mb: 32,
        cpu_millis: 500,
        volume_gb: 1,
        region: None,
    }
}

fn idents(key: u8) -> Idents {
    // Test binaries of several runs at one engine have installations of their own.
    Idents::new(format!("test-{}", std::process::id()).parse().unwrap(), &[key; 32])
}

pub(crate) fn subject(kind: Kind) -> Subject {
    let open = move |idents: &Idents| -> Arc<dyn Provider> {
        Arc::new(DockerProvider::open(options(kind.host()), idents.clone()).unwrap())
    };
    let (idents, stranger_idents) = (idents(1), idents(2));
    Subject {
        provider: open(&idents),
        stranger: open(&stranger_idents),
        stranger_idents,
        blueprint: blueprint(),
        more_than_a_page: 101,
        untagged_base: false,
        patience: PATIENCE,
        keep: Box::new(()),
        made_up: Mutex::default(),
        reopen: {
            let idents = idents.clone();
            Box::new(move || open(&idents))
        },
        idents,
    }
}

/// Waits until something holds.
pub(crate) async fn eventually(what: &str, holds: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The value of a success.
pub(crate) fn done<T: std::fmt::Debug>(outcome: Outcome<T>) -> T {
    match outcome {
        Outcome::Done(value) => value,
        other => panic!("{other:?}"),
    }
}

/// A provider, and one ident of its installation.
pub(crate) struct World {
    pub(crate) provider: DockerProvider,
    pub(crate) idents: Idents,
    pub(crate) ident: Ident,
}

impl World {
    pub(crate) fn at(host: DockerHost) -> Self {
        Self::with(options(host))
    }

    pub(crate) fn with(options: DockerOptions) -> Self {
        let idents = idents(3);
        let context = Context::new("user:alice".parse().unwrap(), None).unwrap();
        let id = uuid();
        let ident = idents.of(InstanceId::mint(1, id), &context);
        Self { provider: DockerProvider::open(options, idents.clone()).unwrap(), idents, ident }
    }

    pub(crate) async fn ensure(&self, kind: ResourceKind, blueprint: &Blueprint) -> Outcome<Made> {
        let order = Order { ident: &self.ident, blueprint, resources: &[] };
        match kind {
            ResourceKind::Base => self.provider.ensure_base(&order).await,
            ResourceKind::Storage => self.provider.ensure_storage(&order).await,
            ResourceKind::Runtime => self.provider.ensure_runtime(&order).await,
        }
    }

    /// Base, storage and a runtime.
    pub(crate) async fn ensure_all(&self, blueprint: &Blueprint) -> Made {
        done(self.ensure(ResourceKind::Base, blueprint).await);
        done(self.ensure(ResourceKind::Storage, blueprint).await);
        done(self.ensure(ResourceKind::Runtime, blueprint).await)
    }

    pub(crate) async fn until(&self, state: RuntimeState) {
        let what = format!("{state:?}");
        eventually(&what, async || self.provider.observe(&self.ident).await.is_ok_and(|seen| seen.runtime == state))
            .await;
    }

    /// Seals, and removes whatever is found.
    pub(crate) async fn remove(&self) {
        done(self.provider.seal(&self.ident).await);
        let seen = self.provider.observe(&self.ident).await.unwrap();
        for found in seen.found.iter().rev() {
            done(self.provider.destroy(&self.ident, &found.resource).await);
        }
        let seen = self.provider.observe(&self.ident).await.unwrap();
        assert!(seen.proves_absence(), "{seen:?}");
    }

    pub(crate) fn resource(&self, kind: ResourceKind) -> Resource {
        let id =
            if kind == ResourceKind::Storage { format!("{}-data", self.ident.name) } else { self.ident.name.clone() };
        Resource { kind, id, region: None, handle: String::new() }
    }
}

fn uuid() -> [u8; 10] {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let mut id = [0; 10];
    id[..4].copy_from_slice(&since.subsec_nanos().to_be_bytes());
    id[4..8].copy_from_slice(&std::process::id().to_be_bytes());
    id[8..].copy_from_slice(&COUNTER.fetch_add(1, Ordering::Relaxed).to_be_bytes()[2..]);
    id
}

/// One request to an engine's socket, past the provider: what somebody else would do there.
pub(crate) fn raw(host: &DockerHost, method: &str, path: &str, content_type: &str, body: &[u8]) -> (u16, String) {
    use std::io::{Read, Write};
    let DockerHost::Unix(socket) = host else { panic!("{host} is no socket") };
    let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    let length = body.len();
    let head = format!(
        "{method} /v1.41{path} HTTP/1.0\r\nhost: docker\r\ncontent-type: {content_type}\r\n\
         content-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer)
}

/// The same with a body that is JSON, which must go well.
pub(crate) fn by_hand(host: &DockerHost, method: &str, path: &str, body: &serde_json::Value) -> String {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let (status, answer) = raw(host, method, path, "application/json", body.as_bytes());
    assert!(status < 300, "{method} {path}: {answer}");
    answer
}

/// Removes everything of an installation by hand, seals included.
pub(crate) fn clear(host: &DockerHost, install: &str) {
    let filter = format!("filters=%7B%22label%22%3A%5B%22freehold_install%3D{install}%22%5D%7D");
    let list = |path: &str| -> serde_json::Value {
        let (status, answer) = raw(host, "GET", &format!("{path}?all=1&{filter}"), "text/plain", b"");
        assert_eq!(status, 200, "{answer}");
        let body = answer.split_once("\r\n\r\n").unwrap().1;

        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"))
    };
    for container in list("/containers/json").as_array().into_iter().flatten() {
        let id = container["Id"].as_str().unwrap();
        raw(host, "DELETE", &format!("/containers/{id}?force=1"), "text/plain", b"");
    }
    for volume in list("/volumes")["Volumes"].as_array().into_iter().flatten() {
        let name = volume["Name"].as_str().unwrap();
        raw(host, "DELETE", &format!("/volumes/{name}"), "text/plain", b"");
    }
}
