//! The public API, as the crash test uses it: one connection for each request, because servers die.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::http::{self, Answer, Connection};
use crate::server::Server;

/// Where the server is in its present life, and the key to it.
#[derive(Clone, Debug)]
pub(super) struct Api {
    pub(super) address: String,
    pub(super) key: String,
    /// How long the server is asked to wait before it answers that something is on its way, in seconds.
    pub(super) wait: u32,
}

/// Long enough for whatever is asked for to be there.
const PATIENT: u32 = 20;

impl Api {
    pub(super) fn of(server: &Server) -> Self {
        Self { address: server.address.clone(), key: server.key.clone(), wait: PATIENT }
    }

    /// An answer, or an error if the server went away first.
    pub(super) async fn call(&self, method: &str, path: &str, headers: &[&str], body: Option<&str>) -> Result<Answer> {
        let request = http::request(method, path, &self.key, headers, body);
        Connection::open(&self.address).await?.send(&request).await
    }

    fn prefer(&self) -> String {
        format!("prefer: wait={}", self.wait)
    }

    /// Asks for an instance of `owner` under an idempotency key, and waits for it if the server does.
    pub(super) async fn create(&self, owner: &str, key: &str) -> Result<Answer> {
        let key = format!("idempotency-key: {key}");
        self.call("POST", "/v1/instances", &[&key, &self.prefer()], Some(&format!(r#"{{"owner":"{owner}"}}"#))).await
    }

    pub(super) async fn destroy(&self, instance: &str) -> Result<Answer> {
        self.call("DELETE", &format!("/v1/instances/{instance}"), &[&self.prefer()], None).await
    }

    pub(super) async fn work(&self, instance: &str, verb: &str) -> Result<Answer> {
        self.call("POST", &format!("/v1/instances/{instance}/{verb}"), &[&self.prefer()], None).await
    }

    pub(super) async fn update(&self, instance: &str) -> Result<Answer> {
        let body = r#"{"spec":{"env":{"CHANGED":"1"}}}"#;
        self.call("PATCH", &format!("/v1/instances/{instance}"), &[&self.prefer()], Some(body)).await
    }

    pub(super) async fn instance(&self, instance: &str) -> Result<Value> {
        let answer = self.call("GET", &format!("/v1/instances/{instance}"), &[], None).await?;
        ensure!(answer.status == 200, "instance {instance} is answered {}", answer.status);
        answer.json()
    }

    /// A counter among the metrics.
    pub(super) async fn metric(&self, name: &str) -> Result<u64> {
        let metrics = self.call("GET", "/metrics", &[], None).await?;
        let text = String::from_utf8_lossy(&metrics.body).into_owned();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.with_context(|| format!("there is no metric {name}"))?.parse().context("a counter that is no number")
    }

    /// Everything of a paged list.
    pub(super) async fn all(&self, path: &str, items: &str) -> Result<Vec<Value>> {
        let mut all = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let joint = if path.contains('?') { '&' } else { '?' };
            let after = cursor.map_or(String::new(), |cursor| format!("&cursor={cursor}"));
            let answer = self.call("GET", &format!("{path}{joint}limit=200{after}"), &[], None).await?;
            ensure!(
                answer.status == 200,
                "{path} is answered {}: {}",
                answer.status,
                String::from_utf8_lossy(&answer.body)
            );
            let mut page = answer.json()?;
            let Value::Array(some) = page[items].take() else { anyhow::bail!("{path} has no list `{items}`") };
            all.extend(some);
            match page["next_cursor"].as_str() {
                Some(next) => cursor = Some(next.to_owned()),
                None => return Ok(all),
            }
        }
    }
}

/// The instance that an answer to a create names, whatever the answer is.
pub(super) fn instance_named(answer: &Answer) -> Result<String> {
    let body = answer.json()?;
    let named = [&body["id"], &body["operation"]["instance_id"], &body["instance_id"]];
    let id = named.into_iter().find_map(Value::as_str);
    Ok(id.with_context(|| format!("an answer {} that names no instance: {body}", answer.status))?.to_owned())
}
