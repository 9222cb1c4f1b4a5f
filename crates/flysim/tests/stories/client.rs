//! A client that says what came back, also where nothing did.

use std::time::{Duration, Instant};

use freehold_flysim::{FlySim, Options};
use reqwest::{Method, header::HeaderMap};
use serde_json::{Value, json};

/// No story waits longer than this for a state.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Fly {
    pub(crate) sim: FlySim,
    client: reqwest::Client,
    pub(crate) token: Option<&'static str>,
    pub(crate) nonce: Option<String>,
    pub(crate) timeout: Duration,
}

#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: u16,
    pub(crate) body: Value,
    pub(crate) text: String,
    pub(crate) headers: HeaderMap,
}

impl Said {
    pub(crate) fn error(&self) -> &str {
        self.body["error"].as_str().unwrap_or_default()
    }
}

pub(crate) async fn fly(options: Options) -> Fly {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let sim = FlySim::start(options).await.expect("a free port");
    Fly { sim, client, token: Some("flysim"), nonce: None, timeout: PATIENCE }
}

impl Fly {
    /// `None`: no answer, or not a whole one.
    pub(crate) async fn try_send(&self, method: Method, path: &str, body: Option<Value>) -> Option<Said> {
        let mut request = self.client.request(method, format!("{}{path}", self.sim.url())).timeout(self.timeout);
        if let Some(token) = self.token {
            request = request.bearer_auth(token);
        }
        if let Some(nonce) = &self.nonce {
            request = request.header("fly-machine-lease-nonce", nonce);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.ok()?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.ok()?;
        let body = serde_json::from_str(&text).unwrap_or_default();
        Some(Said { status, body, text, headers })
    }

    pub(crate) async fn get(&self, path: &str) -> Said {
        self.try_send(Method::GET, path, None).await.expect("an answer")
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Said {
        self.try_send(Method::POST, path, Some(body)).await.expect("an answer")
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Said {
        self.try_send(Method::PUT, path, Some(body)).await.expect("an answer")
    }

    pub(crate) async fn delete(&self, path: &str) -> Said {
        self.try_send(Method::DELETE, path, None).await.expect("an answer")
    }

    /// An app by that name.
    pub(crate) async fn app(&self, name: &str) {
        let said = self.post("/v1/apps", json!({ "app_name": name, "org_slug": "personal" })).await;
        assert_eq!(said.status, 201, "{}", said.text);
    }

    /// A machine by that name, and its id.
    pub(crate) async fn machine(&self, app: &str, name: &str) -> String {
        let said = self.post(&format!("/v1/apps/{app}/machines"), config(name)).await;
        assert_eq!(said.status, 200, "{}", said.text);
        said.body["id"].as_str().expect("an id").to_owned()
    }

    /// A volume by that name, and its id.
    pub(crate) async fn volume(&self, app: &str, name: &str) -> String {
        let said = self.post(&format!("/v1/apps/{app}/volumes"), json!({ "name": name, "region": "ams" })).await;
        assert_eq!(said.status, 200, "{}", said.text);
        said.body["id"].as_str().expect("an id").to_owned()
    }

    /// Asks until the answer is as it should be.
    pub(crate) async fn until(&self, path: &str, wanted: impl Fn(&Said) -> bool) -> Said {
        let end = Instant::now() + PATIENCE;
        loop {
            let said = self.get(path).await;
            if wanted(&said) {
                return said;
            }
            assert!(Instant::now() < end, "it never came: {}", said.text);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// The body that makes a machine by that name.
pub(crate) fn config(name: &str) -> Value {
    json!({
        "name": name,
        "region": "ams",
        "config": {
            "image": "registry.fly.io/app:1",
            "env": { "PORT": "8080" },
            "metadata": { "owner": "somebody" },
            "guest": { "cpu_kind": "shared", "cpus": 1, "memory_mb": 256 },
        },
    })
}

/// The same with a volume.
pub(crate) fn config_with(name: &str, volume: &str) -> Value {
    let mut config = config(name);
    config["config"]["mounts"] = json!([{ "volume": volume, "path": "/data" }]);
    config
}
