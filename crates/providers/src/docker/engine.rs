//! What is asked of an engine, and what is read of its answers: no more than is needed, so that an engine that says more,
//! or something else, is understood as far as possible.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use hyper::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::table::{Call, Meaning, meaning};
use super::wire::{Answer, Ask, Opened, Trouble, Wire, escaped, is_ok, shortened};

/// The version of the interface that is spoken, where the engine speaks no older one: engines from 2024 on refuse
/// anything below it, and nothing is used that 1.41 lacks.
const MINOR_VERSION: u32 = 44;

/// The longest line of a stream of progress, in bytes.
const LINE_BYTES_MAX: usize = 1 << 20;

pub(super) type Labels = BTreeMap<String, String>;

/// A volume.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Volume {
    pub(super) name: String,
    labels: Option<Labels>,
    #[serde(default)]
    pub(super) created_at: Option<String>,
}

impl Volume {
    pub(super) fn labels(&self) -> &Labels {
        const NONE: &Labels = &Labels::new();
        self.labels.as_ref().unwrap_or(NONE)
    }
}

/// A container, inspected.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Container {
    pub(super) id: String,
    pub(super) created: String,
    pub(super) state: State,
    config: ContainerConfig,
    #[serde(default)]
    pub(super) network_settings: NetworkSettings,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ContainerConfig {
    labels: Option<Labels>,
}

/// What a container is doing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct State {
    pub(super) status: String,
    #[serde(rename = "OOMKilled")]
    pub(super) oom_killed: bool,
    pub(super) exit_code: i64,
    pub(super) error: Option<String>,
    pub(super) started_at: String,
    pub(super) health: Option<Health>,
}

/// What its health check says.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Health {
    pub(super) status: String,
}

/// Where a container is reached.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct NetworkSettings {
    pub(super) ports: Option<BTreeMap<String, Option<Vec<PortBinding>>>>,
    pub(super) networks: Option<BTreeMap<String, Network>>,
}

/// An address of this machine that leads to a port of a container.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PortBinding {
    pub(super) host_ip: String,
    pub(super) host_port: String,
}

/// A container's place in a network.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Network {
    #[serde(rename = "IPAddress")]
    pub(super) ip_address: String,
}

impl Container {
    pub(super) fn labels(&self) -> &Labels {
        const NONE: &Labels = &Labels::new();
        self.config.labels.as_ref().unwrap_or(NONE)
    }
}

/// A container in a list.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Listed {
    pub(super) id: String,
    names: Option<Vec<String>>,
    /// Seconds since the beginning of 1970.
    pub(super) created: i64,
    labels: Option<Labels>,
}

impl Listed {
    /// Its name; its id while it has none.
    pub(super) fn name(&self) -> &str {
        let named = self.names.iter().flatten().next().map(|name| name.trim_start_matches('/'));
        named.unwrap_or(&self.id)
    }

    pub(super) fn labels(&self) -> &Labels {
        const NONE: &Labels = &Labels::new();
        self.labels.as_ref().unwrap_or(NONE)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct VolumeList {
    volumes: Option<Vec<Volume>>,
}

/// What a volume takes.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Measured {
    name: String,
    usage_data: Option<Usage>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Usage {
    size: i64,
    ref_count: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DiskUse {
    volumes: Option<Vec<Measured>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Created {
    id: String,
}

/// A line of a stream of progress.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Progress {
    status: Option<String>,
    error: Option<String>,
}

/// What came of a call that changes something.
#[derive(Debug)]
pub(super) struct Changed {
    pub(super) meaning: Meaning,
    /// What the engine says about a failure.
    pub(super) message: String,
    answer: Answer,
}

impl Changed {
    /// The id of what was made, where the answer is whole.
    pub(super) fn id(&self) -> Option<String> {
        parsed::<Created>(&self.answer).ok().map(|created| created.id)
    }

    /// The volume that was made or found.
    pub(super) fn volume(&self) -> Option<Volume> {
        parsed(&self.answer).ok()
    }
}

/// An engine, over the wire.
#[derive(Debug)]
pub(super) struct Engine {
    wire: Wire,
    /// How paths begin at this engine, once it was asked.
    prefix: Mutex<Option<String>>,
}

fn parsed<T: DeserializeOwned>(answer: &Answer) -> Result<T, Trouble> {
    serde_json::from_slice(&answer.body)
        .map_err(|error| Trouble::Cut(format!("an answer that makes no sense: {error}")))
}

fn label_filter(label: &str) -> String {
    serde_json::json!({ "label": [label] }).to_string()
}

impl Engine {
    pub(super) fn new(wire: Wire) -> Self {
        Self { wire, prefix: Mutex::default() }
    }

    /// Asks which version it speaks, and when it thinks it is.
    async fn ping(&self, deadline: Instant) -> Result<Answer, Trouble> {
        let answer = self.wire.send(Ask::new(Method::GET, "/_ping"), deadline).await;
        // A ping changes nothing, however it ends.
        let answer = answer.map_err(|trouble| Trouble::NotSent(trouble.why()))?;
        if is_ok(answer.status) {
            return Ok(answer);
        }
        Err(Trouble::NotSent(format!("{} answers a ping with {}: {}", self.wire.host, answer.status, answer.message())))
    }

    async fn prefix(&self, deadline: Instant) -> Result<String, Trouble> {
        let known = || self.prefix.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(prefix) = known().clone() {
            return Ok(prefix);
        }
        let answer = self.ping(deadline).await?;
        let theirs = answer.version.as_deref().and_then(|version| version.strip_prefix("1.")?.parse().ok());
        let prefix = format!("/v1.{}", theirs.unwrap_or(MINOR_VERSION).min(MINOR_VERSION));
        *known() = Some(prefix.clone());
        Ok(prefix)
    }

    async fn opened(
        &self,
        method: Method,
        path: &str,
        with: impl FnOnce(Ask) -> Ask,
        deadline: Instant,
    ) -> Result<Opened, Trouble> {
        let prefix = self.prefix(deadline).await?;
        self.wire.opened(with(Ask::new(method, format!("{prefix}{path}"))), deadline).await
    }

    async fn asked(
        &self,
        method: Method,
        path: &str,
        with: impl FnOnce(Ask) -> Ask,
        deadline: Instant,
    ) -> Result<Answer, Trouble> {
        let prefix = self.prefix(deadline).await?;
        self.wire.send(with(Ask::new(method, format!("{prefix}{path}"))), deadline).await
    }

    /// Sends a call that changes something.
    pub(super) async fn change(
        &self,
        call: Call,
        path: &str,
        with: impl FnOnce(Ask) -> Ask,
        deadline: Instant,
    ) -> Result<Changed, Trouble> {
        let method = match call {
            Call::RemoveContainer | Call::RemoveVolume => Method::DELETE,
            Call::MakeVolume
            | Call::MakeContainer
            | Call::Start
            | Call::Unpause
            | Call::Kill
            | Call::Stop
            | Call::Restart
            | Call::Rename
            | Call::Pull
            | Call::MakeImage => Method::POST,
        };
        let answer = self.asked(method, path, with, deadline).await?;
        let message = if (200..400).contains(&answer.status) { String::new() } else { answer.message() };
        let meaning = meaning(call, answer.status, &message);
        if answer.status == 400 && meaning == Meaning::NotSent {
            self.forget_version();
        }
        Ok(Changed { meaning, message: format!("the engine answers {}: {message}", answer.status), answer })
    }

    fn forget_version(&self) {
        *self.prefix.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Reads something; `None` if it is not there. `what` is how the engine calls it when it is not.
    async fn read<T: DeserializeOwned>(
        &self,
        path: &str,
        what: &str,
        query: Option<(&str, &str)>,
        deadline: Instant,
    ) -> Result<Option<T>, Trouble> {
        let with = |ask: Ask| match query {
            Some((name, value)) => ask.with("all", "1").with(name, value),
            None => ask,
        };
        let answer = self.asked(Method::GET, path, with, deadline).await?;
        if is_ok(answer.status) {
            return parsed(&answer).map(Some);
        }
        let message = answer.message();
        if answer.status == 404 && message.to_lowercase().contains(what) {
            return Ok(None);
        }
        if answer.status == 400 {
            self.forget_version();
        }
        Err(Trouble::Cut(format!("the engine answers {}: {message}", answer.status)))
    }

    async fn list<T: DeserializeOwned>(&self, path: &str, label: &str, deadline: Instant) -> Result<T, Trouble> {
        let listed = self.read(path, "no list", Some(("filters", &label_filter(label))), deadline).await?;
        listed.ok_or_else(|| Trouble::Cut("there is no list".to_owned()))
    }

    pub(super) async fn container(&self, name: &str, deadline: Instant) -> Result<Option<Container>, Trouble> {
        self.read(&format!("/containers/{}/json", escaped(name)), "no such container", None, deadline).await
    }

    pub(super) async fn volume(&self, name: &str, deadline: Instant) -> Result<Option<Volume>, Trouble> {
        self.read(&format!("/volumes/{}", escaped(name)), "no such volume", None, deadline).await
    }

    /// Whether a volume has nothing in it and nobody uses it. The engine measures all it has for that: seconds.
    pub(super) async fn is_empty(&self, name: &str, deadline: Instant) -> Result<bool, Trouble> {
        let used: Option<DiskUse> = self.read("/system/df", "no such", None, deadline).await?;
        let volumes = used.and_then(|used| used.volumes).unwrap_or_default();
        let usage = volumes.into_iter().find(|volume| volume.name == name).and_then(|volume| volume.usage_data);
        Ok(usage.is_some_and(|usage| usage.size == 0 && usage.ref_count == 0))
    }

    pub(super) async fn has_image(&self, name: &str, deadline: Instant) -> Result<bool, Trouble> {
        let path = format!("/images/{}/json", escaped(name));
        Ok(self.read::<serde_json::Value>(&path, "no such image", None, deadline).await?.is_some())
    }

    /// All containers with a label `NAME=VALUE`.
    pub(super) async fn containers(&self, label: &str, deadline: Instant) -> Result<Vec<Listed>, Trouble> {
        self.list("/containers/json", label, deadline).await
    }

    /// All volumes with a label `NAME=VALUE`.
    pub(super) async fn volumes(&self, label: &str, deadline: Instant) -> Result<Vec<Volume>, Trouble> {
        let listed: VolumeList = self.list("/volumes", label, deadline).await?;
        Ok(listed.volumes.unwrap_or_default())
    }

    /// The engine's own time, as it writes it in every answer.
    pub(super) async fn date(&self, deadline: Instant) -> Result<String, Trouble> {
        let answer = self.ping(deadline).await?;
        answer.date.ok_or_else(|| Trouble::Cut("the engine does not say when it is".to_owned()))
    }

    /// Puts a file archive into a container's root folder; `false` if there is no such container.
    pub(super) async fn put_files(&self, id: &str, archive: Vec<u8>, deadline: Instant) -> Result<bool, Trouble> {
        let path = format!("/containers/{}/archive", escaped(id));
        let answer = self.asked(Method::PUT, &path, |ask| ask.with("path", "/").tar(archive), deadline).await?;
        match answer.status {
            200 => Ok(true),
            404 => Ok(false),
            status => Err(Trouble::Cut(format!("the engine answers {status}: {}", answer.message()))),
        }
    }

    /// Reads a file of a container, as an archive; `None` if it is not there.
    pub(super) async fn file(&self, id: &str, file: &str, deadline: Instant) -> Result<Option<Vec<u8>>, Trouble> {
        let path = format!("/containers/{}/archive", escaped(id));
        let answer = self.asked(Method::GET, &path, |ask| ask.with("path", file), deadline).await?;
        match answer.status {
            200 => Ok(Some(answer.body.to_vec())),
            404 => Ok(None),
            status => Err(Trouble::Cut(format!("the engine answers {status}: {}", answer.message()))),
        }
    }

    /// Opens the logs of a container.
    pub(super) async fn logs(&self, id: &str, tail: usize, follow: bool, deadline: Instant) -> Result<Opened, String> {
        let path = format!("/containers/{}/logs", escaped(id));
        let with = |ask: Ask| {
            let follow = if follow { "1" } else { "0" };
            ask.with("stdout", "1").with("stderr", "1").with("tail", &tail.to_string()).with("follow", follow)
        };
        let opened = self.opened(Method::GET, &path, with, deadline).await.map_err(Trouble::why)?;
        if opened.is_success() {
            return Ok(opened);
        }
        let answer = opened.whole().await.map_err(Trouble::why)?;
        Err(format!("the engine answers {}: {}", answer.status, answer.message()))
    }

    /// Has an image fetched. An error inside a stream that began well is one like any other.
    pub(super) async fn pull(&self, image: &str, deadline: Instant) -> Result<(Meaning, String), Trouble> {
        let with = |ask: Ask| ask.with("fromImage", image);
        let mut opened = self.opened(Method::POST, "/images/create", with, deadline).await?;
        if !opened.is_success() {
            let answer = opened.whole().await?;
            let message = answer.message();
            return Ok((meaning(Call::Pull, answer.status, &message), message));
        }
        let mut line = Vec::new();
        while let Some(piece) = opened.next().await {
            let piece = piece.map_err(|why| Trouble::Cut(format!("the image's progress was cut off: {why}")))?;
            for byte in piece {
                if byte != b'\n' && line.len() < LINE_BYTES_MAX {
                    line.push(byte);
                } else if let Some(error) = told(image, &std::mem::take(&mut line)) {
                    return Ok((meaning(Call::Pull, 500, &error), error));
                }
            }
        }
        Ok(told(image, &line).map_or((Meaning::Done, String::new()), |error| (meaning(Call::Pull, 500, &error), error)))
    }
}

/// What a line of progress says; the error, if it is one.
fn told(image: &str, line: &[u8]) -> Option<String> {
    let Progress { status, error } = serde_json::from_slice(line).unwrap_or_default();
    if let Some(status) = status {
        tracing::debug!(image, "pulling: {}", shortened(&status));
    }
    error.map(|error| shortened(&error))
}
