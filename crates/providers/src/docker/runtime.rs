//! Containers: made, started, stopped and replaced.
//!
//! A container is only made where the base is ours and not sealed, and only under its name, which an engine gives once. An
//! engine never restarts one by itself: it would come up under another port than the route has, and nobody would hear that
//! it was down.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use freehold_domain::resource::{Outcome, RejectionClass, Resource, ResourceKind, RuntimeState};
use freehold_engine::ports::{Blueprint, Made};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::engine::Container;
use super::names::{self, name_of};
use super::place::{Ended, Place, rejected};
use super::stopped;
use super::table::{Call, Meaning};
use super::wire::{Trouble, escaped, shortened};

/// How often a container is started over after somebody removed it in between.
const RACES_MAX: usize = 5;

/// A time that no run began at.
const NEVER_STARTED: &str = "0001-01-01T00:00:00Z";

/// What others need to reach a runtime: opaque to the engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Handle {
    /// The container's id.
    container: String,
    /// `HOST:PORT`, while it runs.
    pub(super) address: Option<String>,
}

/// What a container is doing, as far as its state tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    /// What it says.
    This(RuntimeState),
    /// It is down, or was never up: because it was asked to, if a file in it says so, and otherwise this.
    Down(RuntimeState),
}

/// What the state of a container means.
pub(super) fn doing(container: &Container) -> Doing {
    let state = &container.state;
    let health = state.health.as_ref().map_or("", |health| health.status.as_str());
    let error = state.error.as_deref().filter(|error| !error.is_empty());
    match state.status.as_str() {
        "running" | "stopping" if health == "starting" => Doing::This(RuntimeState::Starting),
        "running" | "stopping" => Doing::This(RuntimeState::Running),
        "exited" | "stopped" => {
            let status = format!("exit status {}", state.exit_code);
            let how = match error {
                _ if state.oom_killed => format!("out of memory, {status}"),
                Some(error) => format!("{status}: {}", shortened(error)),
                None => status,
            };
            Doing::Down(RuntimeState::Exited(how))
        }
        "created" => Doing::Down(match error {
            Some(error) => RuntimeState::Exited(shortened(error)),
            None => RuntimeState::Starting,
        }),
        "paused" => Doing::This(RuntimeState::Exited("paused".to_owned())),
        "dead" => Doing::This(RuntimeState::Exited("dead: the engine could not remove it".to_owned())),
        "removing" => Doing::This(RuntimeState::Exited("on its way to be removed".to_owned())),
        // `restarting`, and what engines may come to say: on its way somewhere.
        _ => Doing::This(RuntimeState::Starting),
    }
}

/// The run that a container is in, or was in last.
fn run_of(container: &Container) -> &str {
    let began = container.state.started_at.as_str();
    if began.is_empty() { NEVER_STARTED } else { began }
}

/// `HOST:PORT` under which a running container is reached.
fn address(container: &Container, network: Option<&str>) -> Option<String> {
    if container.state.status != "running" {
        return None;
    }
    let port = container.labels().get(names::PORT)?;
    let (host, port) = match network {
        Some(network) => {
            let place = container.network_settings.networks.as_ref()?.get(network)?;
            (place.ip_address.as_str(), port.as_str())
        }
        None => {
            let ports = container.network_settings.ports.as_ref()?;
            let binding = ports.get(&format!("{port}/tcp"))?.as_ref()?.first()?;
            (binding.host_ip.as_str(), binding.host_port.as_str())
        }
    };
    match host.parse::<IpAddr>().ok()? {
        IpAddr::V4(host) => Some(format!("{host}:{port}")),
        IpAddr::V6(host) => Some(format!("[{host}]:{port}")),
    }
}

/// What of a container is put on record.
pub(super) fn handle(container: &Container, network: Option<&str>) -> String {
    let handle = Handle { container: container.id.clone(), address: address(container, network) };
    serde_json::to_string(&handle).unwrap_or_default()
}

/// A reference that names one image: without a tag or digest an engine would fetch every one there is.
fn one_image(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") }
}

/// A container that was asked for.
enum Asked {
    Made(String),
    NameTaken,
}

impl Place<'_> {
    fn made(&self, handle: String, state: RuntimeState) -> Made {
        let id = name_of(self.ident, ResourceKind::Runtime);
        Made { resource: Resource { kind: ResourceKind::Runtime, id, region: None, handle }, runtime: Some(state) }
    }

    /// What a container is doing. One that is down is asked whether that was wanted.
    pub(super) async fn state(&self, container: &Container) -> Result<RuntimeState, Trouble> {
        match doing(container) {
            Doing::This(state) => Ok(state),
            Doing::Down(otherwise) => {
                let file = self.engine.file(&container.id, stopped::FILE, self.deadline()).await?;
                let asked = file.is_some_and(|file| stopped::names(&file, run_of(container)));
                Ok(if asked { RuntimeState::Stopped } else { otherwise })
            }
        }
    }

    /// The container as it is, with all that is put on record.
    async fn as_it_is(&self, id: &str) -> Result<Made, Ended> {
        let Some(container) = self.container(id).await? else {
            return Err(Outcome::Unknown("the container was removed in the same moment".to_owned()));
        };
        let state = self.state(&container).await.map_err(|trouble| self.unseen(trouble))?;
        Ok(self.made(handle(&container, self.options.network.as_deref()), state))
    }

    /// The container, if there is one. One that was given another name by hand gets its own back.
    async fn ours(&self) -> Result<Option<Container>, Ended> {
        let name = name_of(self.ident, ResourceKind::Runtime);
        for _ in 0..RACES_MAX {
            if let Some(container) = self.container(&name).await? {
                self.must_be_ours(&name, container.labels())?;
                return Ok(Some(container));
            }
            let label = format!("{}={}", names::INSTANCE, self.ident.tags.instance);
            let listed =
                self.engine.containers(&label, self.deadline()).await.map_err(|trouble| self.unseen(trouble))?;
            let oldest = listed
                .iter()
                .filter(|listed| self.standing(listed.labels()) == names::Standing::Ours && listed.name() != name)
                .min_by_key(|listed| listed.created);
            let Some(renamed) = oldest else { return Ok(None) };
            tracing::warn!(instance = %self.ident.instance, name = renamed.name(), "a container was renamed; naming it back");
            let path = format!("/containers/{}/rename", escaped(&renamed.id));
            let back = self.change(Call::Rename, &path, |ask| ask.with("name", &name)).await?;
            match back.meaning {
                Meaning::Done | Meaning::Gone | Meaning::NameTaken => {}
                _ => return Err(self.failed(&back)),
            }
        }
        Err(Outcome::Unknown("others rename the container at the same time".to_owned()))
    }

    /// Makes the container and starts it, or finds it made.
    pub(super) async fn up(&self, blueprint: &Blueprint) -> Result<Made, Ended> {
        self.must_have_base().await?;
        let mut races = 0;
        while races < RACES_MAX {
            let (id, is_new) = match self.ours().await? {
                Some(container) => match container.state.status.as_str() {
                    // It will never run again.
                    "dead" | "removing" => {
                        self.remove_container(&container.id).await?;
                        races += 1;
                        continue;
                    }
                    "paused" => {
                        let path = format!("/containers/{}/unpause", escaped(&container.id));
                        let resumed = self.change(Call::Unpause, &path, |ask| ask).await?;
                        match resumed.meaning {
                            Meaning::Done => return self.as_it_is(&container.id).await,
                            Meaning::Gone => {
                                races += 1;
                                continue;
                            }
                            _ => return Err(self.failed(&resumed)),
                        }
                    }
                    // It is up: a start would be one too many if somebody removes it meanwhile.
                    "running" => return self.as_it_is(&container.id).await,
                    _ => (container.id, false),
                },
                None => match self.make(blueprint).await? {
                    Asked::Made(id) => (id, true),
                    // Who has the name cannot be seen while it is being made, which takes as long as it takes.
                    Asked::NameTaken if self.pause().await => continue,
                    Asked::NameTaken => break,
                },
            };
            let path = format!("/containers/{}/start", escaped(&id));
            let started = self.change(Call::Start, &path, |ask| ask).await?;
            match started.meaning {
                Meaning::Done => return self.as_it_is(&id).await,
                Meaning::Gone | Meaning::UnderWay => races += 1,
                // The engine was killed in the middle of a start. Another container has another id and port, and starts.
                Meaning::Stuck => {
                    tracing::warn!(instance = %self.ident.instance, why = started.message, "making another container");
                    self.remove_container(&id).await?;
                    races += 1;
                }
                Meaning::Invalid if is_new => {
                    // A refusal leaves nothing behind.
                    self.remove_container(&id).await?;
                    return Err(self.failed(&started));
                }
                _ => return Err(self.failed(&started)),
            }
        }
        Err(Outcome::Unknown("others make and remove the container at the same time".to_owned()))
    }

    /// Asks for the container; fetches its image, if need be.
    async fn make(&self, blueprint: &Blueprint) -> Result<Asked, Ended> {
        if blueprint.volume_gb > 0 {
            // A mount would make it as well, and Podman's without labels.
            self.ensure_volume(ResourceKind::Storage).await?;
        }
        let body = self.description(blueprint);
        let name = name_of(self.ident, ResourceKind::Runtime);
        for is_first in [true, false] {
            let made = self
                .change(Call::MakeContainer, "/containers/create", |ask| ask.with("name", &name).json(&body))
                .await?;
            match made.meaning {
                Meaning::Done => {
                    return made.id().map(Asked::Made).ok_or_else(|| {
                        Outcome::Unknown("the engine's answer to the making of a container makes no sense".to_owned())
                    });
                }
                Meaning::NameTaken => return Ok(Asked::NameTaken),
                Meaning::NoImage if is_first => self.fetch(blueprint).await?,
                _ => return Err(self.failed(&made)),
            }
        }
        Err(Outcome::Unknown("the image does not stay at the engine".to_owned()))
    }

    /// Fetches the image. Whatever comes of that, nothing of the instance was made by it.
    async fn fetch(&self, blueprint: &Blueprint) -> Result<(), Ended> {
        let image = one_image(blueprint.image.as_deref().unwrap_or_default());
        tracing::info!(image, "the image is not at the engine; fetching it");
        let deadline = Instant::now() + self.options.pull_timeout;
        let pulled = self.engine.pull(&image, deadline).await;
        self.begin_again();
        match pulled {
            Ok((Meaning::Done, _)) => Ok(()),
            Ok((Meaning::Invalid, why)) => Err(rejected(RejectionClass::Invalid, format!("{image}: {why}"))),
            Ok((Meaning::Unauthorized, why)) => Err(rejected(RejectionClass::Unauthorized, format!("{image}: {why}"))),
            Ok((_, why)) => Err(self.ended(Outcome::NotSent(format!("{image} cannot be fetched: {why}")))),
            Err(trouble) => Err(self.ended(Outcome::NotSent(format!("{image} cannot be fetched: {}", trouble.why())))),
        }
    }

    /// The container as the engine is told of it. Secrets are in it.
    fn description(&self, blueprint: &Blueprint) -> Value {
        let Blueprint { command, image, env, secrets: _, memory_mb, cpu_millis, volume_gb, region: _ } = blueprint;
        let options = self.options;
        let mut labels = names::labels(self.ident, ResourceKind::Runtime);
        labels.insert(names::PORT.to_owned(), options.port.to_string());
        let mut variables = env.clone();
        variables.insert("PORT".to_owned(), options.port.to_string());
        variables.insert("FREEHOLD_INSTANCE_ID".to_owned(), self.ident.tags.instance.clone());
        variables.insert("FREEHOLD_INSTALL".to_owned(), self.ident.tags.install.clone());
        let mut host = json!({
            "Memory": i64::from(*memory_mb) << 20,
            "NanoCpus": i64::from(*cpu_millis) * 1_000_000,
            "Init": options.init,
            "RestartPolicy": { "Name": "no" },
        });
        if *volume_gb > 0 {
            variables.insert("FREEHOLD_VOLUME".to_owned(), options.volume_path.clone());
            let source = name_of(self.ident, ResourceKind::Storage);
            let target = &options.volume_path;
            let kept = names::labels(self.ident, ResourceKind::Storage);
            host["Mounts"] =
                json!([{ "Type": "volume", "Source": source, "Target": target, "VolumeOptions": { "Labels": kept } }]);
        }
        let port = format!("{}/tcp", options.port);
        match &options.network {
            Some(network) => host["NetworkMode"] = json!(network),
            None => {
                let binding = json!([{ "HostIp": options.publish_address.to_string(), "HostPort": "" }]);
                host["PortBindings"] = json!({ &port: binding });
            }
        }
        let variables: Vec<String> = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut body = json!({
            "Image": image,
            "Env": variables,
            "Labels": labels,
            "ExposedPorts": { &port: {} },
            "StopTimeout": options.stop_grace.as_secs(),
            "HostConfig": host,
        });
        if !command.is_empty() {
            body["Cmd"] = json!(command);
        }
        body
    }

    /// Puts down that a container's run was asked to end.
    async fn mark_stopped(&self, container: &Container) -> Result<(), Ended> {
        let put = self.engine.put_files(&container.id, stopped::archive(run_of(container)), self.deadline()).await;
        match put {
            Ok(_) => Ok(()),
            Err(trouble @ Trouble::NotSent(_)) => Err(self.unseen(trouble)),
            Err(Trouble::Cut(why)) => {
                // To stop it is more important than to know later that it was stopped.
                tracing::warn!(instance = %self.ident.instance, why, "no file can be put into the container");
                Ok(())
            }
        }
    }

    /// Asks a container to end, and kills it after the grace.
    async fn halt(&self, container: &Container) -> Result<Meaning, Ended> {
        let grace = self.grace().as_secs().to_string();
        let path = format!("/containers/{}/stop", escaped(&container.id));
        let halted = self.change(Call::Stop, &path, |ask| ask.with("t", &grace)).await?;
        match halted.meaning {
            Meaning::Done | Meaning::Gone | Meaning::UnderWay => Ok(halted.meaning),
            _ => Err(self.failed(&halted)),
        }
    }

    /// How long a container may take to end: no longer than a call, in whole seconds.
    fn grace(&self) -> Duration {
        self.options.stop_grace.min(self.options.request_timeout / 2)
    }

    /// Stops the container, if there is one.
    pub(super) async fn down(&self) -> Result<Made, Ended> {
        let name = name_of(self.ident, ResourceKind::Runtime);
        let nothing = || self.made(String::new(), RuntimeState::Stopped);
        let container = match self.container(&name).await? {
            None => return Ok(nothing()),
            Some(container) => container,
        };
        match self.standing(container.labels()) {
            names::Standing::Ours => {}
            names::Standing::Tombstone => return Ok(nothing()),
            names::Standing::Foreign => return Err(super::place::foreign(&name)),
        }
        self.mark_stopped(&container).await?;
        match self.halt(&container).await? {
            Meaning::Done => self.as_it_is(&container.id).await,
            _ => Ok(nothing()),
        }
    }

    /// Stops the container and starts it.
    pub(super) async fn again(&self, blueprint: &Blueprint) -> Result<Made, Ended> {
        self.must_have_base().await?;
        let Some(container) = self.ours().await?.filter(|container| container.state.status == "running") else {
            return self.up(blueprint).await;
        };
        let grace = self.grace().as_secs().to_string();
        let path = format!("/containers/{}/restart", escaped(&container.id));
        let restarted = self.change(Call::Restart, &path, |ask| ask.with("t", &grace)).await?;
        match restarted.meaning {
            Meaning::Done => self.as_it_is(&container.id).await,
            Meaning::Gone | Meaning::UnderWay => self.up(blueprint).await,
            _ => Err(self.failed(&restarted)),
        }
    }

    /// Puts a container of another blueprint in the place of the one there is. Neither image nor environment of a
    /// container can change, so this is a new one with the old one's name and volume.
    pub(super) async fn replace(&self, blueprint: &Blueprint, running: bool) -> Result<Made, Ended> {
        self.must_have_base().await?;
        // What surely cannot be made is refused before anything is stopped.
        let image = one_image(blueprint.image.as_deref().unwrap_or_default());
        let has_image = self.engine.has_image(&image, self.deadline()).await;
        if !has_image.map_err(|trouble| self.unseen(trouble))? {
            self.fetch(blueprint).await?;
        }
        if let Some(old) = self.ours().await? {
            self.halt(&old).await?;
            self.begin_again();
            self.remove_container(&old.id).await?;
        }
        if running {
            return self.up(blueprint).await;
        }
        loop {
            let id = match self.make(blueprint).await? {
                Asked::Made(id) => Some(id),
                Asked::NameTaken => self.ours().await?.map(|container| container.id),
            };
            if let Some(id) = id
                && let Some(container) = self.container(&id).await?
            {
                self.mark_stopped(&container).await?;
                return self.as_it_is(&id).await;
            }
            if !self.pause().await {
                break;
            }
        }
        Err(Outcome::Unknown("others make and remove the container at the same time".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(state: &Value) -> Container {
        let whole = json!({
            "Id": "abc", "Created": "2026-01-01T00:00:00Z", "State": state,
            "Config": { "Labels": { "freehold_port": "80" } },
            "NetworkSettings": {
                "Ports": { "80/tcp": [{ "HostIp": "127.0.0.1", "HostPort": "32768" }], "81/tcp": null },
                "Networks": { "inner": { "IPAddress": "10.1.0.2" }, "six": { "IPAddress": "fd00::2" } },
            },
        });
        serde_json::from_value(whole).expect("a container")
    }

    #[test]
    fn every_state_of_a_container_means_something() {
        let exited = |how: &str| RuntimeState::Exited(how.to_owned());
        for (state, means) in [
            (json!({ "Status": "created" }), Doing::Down(RuntimeState::Starting)),
            (json!({ "Status": "created", "Error": "no such port" }), Doing::Down(exited("no such port"))),
            (json!({ "Status": "running" }), Doing::This(RuntimeState::Running)),
            (json!({ "Status": "running", "Health": { "Status": "" } }), Doing::This(RuntimeState::Running)),
            (json!({ "Status": "running", "Health": { "Status": "starting" } }), Doing::This(RuntimeState::Starting)),
            (json!({ "Status": "running", "Health": { "Status": "healthy" } }), Doing::This(RuntimeState::Running)),
            (json!({ "Status": "running", "Health": { "Status": "unhealthy" } }), Doing::This(RuntimeState::Running)),
            (json!({ "Status": "stopping" }), Doing::This(RuntimeState::Running)),
            (json!({ "Status": "restarting" }), Doing::This(RuntimeState::Starting)),
            (json!({ "Status": "exited", "ExitCode": 3 }), Doing::Down(exited("exit status 3"))),
            (
                json!({ "Status": "exited", "ExitCode": 137, "OOMKilled": true }),
                Doing::Down(exited("out of memory, exit status 137")),
            ),
            (json!({ "Status": "paused" }), Doing::This(exited("paused"))),
            (json!({ "Status": "dead" }), Doing::This(exited("dead: the engine could not remove it"))),
            (json!({ "Status": "removing" }), Doing::This(exited("on its way to be removed"))),
            (json!({ "Status": "a word of tomorrow" }), Doing::This(RuntimeState::Starting)),
        ] {
            assert_eq!(doing(&container(&state)), means, "{state}");
        }
    }

    #[test]
    fn only_what_runs_is_reached() {
        let running = container(&json!({ "Status": "running" }));
        assert_eq!(address(&running, None).as_deref(), Some("127.0.0.1:32768"));
        assert_eq!(address(&running, Some("inner")).as_deref(), Some("10.1.0.2:80"));
        assert_eq!(address(&running, Some("six")).as_deref(), Some("[fd00::2]:80"));
        assert_eq!(address(&running, Some("nosuch")), None);
        assert_eq!(address(&container(&json!({ "Status": "exited" })), None), None);
    }

    #[test]
    fn a_reference_names_one_image() {
        for (image, one) in [
            ("redis", "redis:latest"),
            ("redis:7", "redis:7"),
            ("localhost:5000/a/b", "localhost:5000/a/b:latest"),
            ("a@sha256:00", "a@sha256:00"),
        ] {
            assert_eq!(one_image(image), one);
        }
    }
}
