//! What the Machines API says, as far as anybody here listens: every field that may be missing is optional, every word
//! that may be new is a text, and what is not understood is never taken for an end.

use std::collections::BTreeMap;

use freehold_domain::resource::{Resource, ResourceKind, RuntimeState};
use freehold_engine::ports::Tags;
use serde::{Deserialize, Serialize};

/// The states of a volume that is on its way out: it is not to be found any more.
const VOLUME_LEAVES: [&str; 5] =
    ["scheduling_destroy", "fork_cleanup", "waiting_for_detach", "pending_destroy", "destroying"];

/// `GET /apps/{app}`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct App {
    pub(super) organization: Option<Organization>,
}

/// Whose an app is.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Organization {
    pub(super) slug: String,
}

/// `GET /apps`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Apps {
    pub(super) apps: Vec<NamedApp>,
}

/// One app of a list.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct NamedApp {
    pub(super) name: String,
}

/// A machine.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Machine {
    pub(super) id: String,
    #[serde(default)]
    pub(super) state: String,
    pub(super) region: Option<String>,
    pub(super) instance_id: Option<String>,
    pub(super) private_ip: Option<String>,
    #[serde(default)]
    pub(super) created_at: String,
    pub(super) config: Option<Config>,
    pub(super) events: Option<Vec<Event>>,
}

/// What a machine runs.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Config {
    pub(super) metadata: Option<BTreeMap<String, String>>,
    pub(super) mounts: Option<Vec<Mount>>,
    pub(super) services: Option<Vec<Service>>,
}

/// What it answers to the public, through Fly's proxy. Machines that are made here have none.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Service {
    pub(super) internal_port: Option<i64>,
}

/// What it has mounted.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Mount {
    pub(super) volume: Option<String>,
}

/// Something that happened to a machine.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Event {
    #[serde(default, rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) timestamp: i64,
    pub(super) request: Option<EventRequest>,
}

/// What led to an event.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct EventRequest {
    pub(super) exit_event: Option<ExitEvent>,
}

/// How a machine went down.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ExitEvent {
    #[serde(default)]
    pub(super) exit_code: i64,
    #[serde(default)]
    pub(super) requested_stop: bool,
    #[serde(default)]
    pub(super) oom_killed: bool,
}

/// A volume.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Volume {
    pub(super) id: String,
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) state: String,
    pub(super) region: Option<String>,
    pub(super) attached_machine_id: Option<String>,
    #[serde(default)]
    pub(super) created_at: String,
    pub(super) size_gb: Option<u32>,
}

/// `POST /apps/{app}/secrets`. The document writes the version with a capital letter.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct SecretsSet {
    #[serde(alias = "Version")]
    pub(super) version: Option<u64>,
}

/// What finds a machine's traffic again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Handle {
    /// Its address on the organisation's private network.
    pub(super) ip: String,
    /// The port it says that it answers at, where it was made elsewhere and says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) port: Option<u16>,
}

impl Machine {
    /// Its tags, if it has any of ours.
    pub(super) fn tags(&self) -> Option<Tags> {
        let metadata = self.config.as_ref()?.metadata.as_ref()?;
        let tag = |name: &str| metadata.get(name).cloned();
        Some(Tags {
            install: tag("freehold_install")?,
            instance: tag("freehold_instance")?,
            owner: tag("freehold_owner")?,
            mac: tag("freehold_mac")?,
        })
    }

    /// Whether it carries anything of the kind, by whomever.
    pub(super) fn is_marked(&self) -> bool {
        let metadata = self.config.as_ref().and_then(|config| config.metadata.as_ref());
        metadata.is_some_and(|metadata| metadata.keys().any(|name| name.starts_with("freehold_")))
    }

    /// Where it says that it answers: at the first port that Fly's proxy sends traffic to.
    fn port(&self) -> Option<u16> {
        let services = self.config.as_ref()?.services.as_ref()?;
        services.iter().find_map(|service| u16::try_from(service.internal_port?).ok())
    }

    /// Whether it is over: such machines stay in lists for a while.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self.state.as_str(), "destroyed" | "replaced" | "migrated")
    }

    /// Whether it holds a volume.
    pub(super) fn holds(&self, volume: &str) -> bool {
        let mounts = self.config.as_ref().and_then(|config| config.mounts.as_deref()).unwrap_or_default();
        mounts.iter().any(|mount| mount.volume.as_deref() == Some(volume))
    }

    /// What it is doing. Words that nobody knows are on their way to something.
    pub(super) fn runtime(&self) -> RuntimeState {
        match self.state.as_str() {
            "started" => RuntimeState::Running,
            "stopped" | "suspended" => self.how_it_stopped(),
            "failed" | "launch_failed" => RuntimeState::Exited(format!("the machine is {}", self.state)),
            "destroyed" | "replaced" | "migrated" => RuntimeState::Missing,
            _ => RuntimeState::Starting,
        }
    }

    fn how_it_stopped(&self) -> RuntimeState {
        let events = self.events.as_deref().unwrap_or_default();
        let last = events.iter().filter(|event| event.kind == "exit").max_by_key(|event| event.timestamp);
        let exit = last.and_then(|event| event.request.as_ref()?.exit_event.as_ref());
        match exit {
            Some(exit) if exit.requested_stop => RuntimeState::Stopped,
            Some(ExitEvent { oom_killed: true, .. }) => RuntimeState::Exited("out of memory".to_owned()),
            Some(exit) => RuntimeState::Exited(format!("exit status {}", exit.exit_code)),
            None => RuntimeState::Stopped,
        }
    }

    /// The machine as a resource.
    pub(super) fn resource(&self) -> Resource {
        let handle = self.private_ip.clone().map(|ip| Handle { ip, port: self.port() });
        let handle = handle.and_then(|handle| serde_json::to_string(&handle).ok()).unwrap_or_default();
        Resource { kind: ResourceKind::Runtime, id: self.id.clone(), region: self.region.clone(), handle }
    }
}

impl Volume {
    /// Whether it is over, or will be without anybody's doing.
    pub(super) fn is_gone(&self) -> bool {
        self.state == "destroyed" || VOLUME_LEAVES.contains(&self.state.as_str())
    }

    /// The volume as a resource.
    pub(super) fn resource(&self) -> Resource {
        let (id, region) = (self.id.clone(), self.region.clone());
        Resource { kind: ResourceKind::Storage, id, region, handle: String::new() }
    }
}

/// The volumes that are there, the one to keep first: attached ones, and of those the oldest.
pub(super) fn kept_first(volumes: &mut [Volume]) {
    let order = |volume: &Volume| (volume.attached_machine_id.is_none(), volume.created_at.clone(), volume.id.clone());
    volumes.sort_by_key(order);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(json: serde_json::Value) -> Machine {
        serde_json::from_value(json).expect("a machine")
    }

    #[test]
    fn every_state_of_the_document_means_something_and_a_new_one_is_on_its_way() {
        let rows = [
            ("created", RuntimeState::Starting),
            ("starting", RuntimeState::Starting),
            ("started", RuntimeState::Running),
            ("stopping", RuntimeState::Starting),
            ("stopped", RuntimeState::Stopped),
            ("suspending", RuntimeState::Starting),
            ("suspended", RuntimeState::Stopped),
            ("restarting", RuntimeState::Starting),
            ("updating", RuntimeState::Starting),
            ("replacing", RuntimeState::Starting),
            ("destroying", RuntimeState::Starting),
            ("failed", RuntimeState::Exited("the machine is failed".to_owned())),
            ("launch_failed", RuntimeState::Exited("the machine is launch_failed".to_owned())),
            ("destroyed", RuntimeState::Missing),
            ("replaced", RuntimeState::Missing),
            ("migrated", RuntimeState::Missing),
            ("a word of next year", RuntimeState::Starting),
        ];
        for (state, means) in rows {
            let machine = machine(serde_json::json!({"id": "m", "state": state}));
            assert_eq!(machine.runtime(), means, "{state}");
            assert_eq!(machine.is_gone(), means == RuntimeState::Missing, "{state}");
        }
    }

    #[test]
    fn a_machine_that_went_down_by_itself_says_how() {
        let exit = |exit: serde_json::Value| {
            machine(serde_json::json!({"id": "m", "state": "stopped", "events": [
                {"type": "start", "timestamp": 3},
                {"type": "exit", "timestamp": 2, "request": {"exit_event": exit}},
                {"type": "exit", "timestamp": 1, "request": {"exit_event": {"exit_code": 9}}},
            ]}))
            .runtime()
        };
        assert_eq!(exit(serde_json::json!({"requested_stop": true})), RuntimeState::Stopped);
        assert_eq!(exit(serde_json::json!({"exit_code": 1})), RuntimeState::Exited("exit status 1".to_owned()));
        assert_eq!(exit(serde_json::json!({"oom_killed": true})), RuntimeState::Exited("out of memory".to_owned()));
    }

    #[test]
    fn of_several_volumes_the_oldest_attached_one_is_kept() {
        let volume = |id: &str, attached: bool, at: &str| Volume {
            id: id.to_owned(),
            name: String::new(),
            state: "created".to_owned(),
            region: None,
            attached_machine_id: attached.then(|| "m".to_owned()),
            created_at: at.to_owned(),
            size_gb: None,
        };
        let mut volumes = [volume("a", false, "1"), volume("b", true, "3"), volume("c", true, "2")];
        kept_first(&mut volumes);
        assert_eq!(volumes.map(|volume| volume.id), ["c", "b", "a"]);
    }

    #[test]
    fn nulls_where_the_document_has_objects_are_nothing() {
        let machine = machine(
            serde_json::json!({"id": "m", "state": "started", "config": {"metadata": null, "mounts": null}, "events": null}),
        );
        assert!(machine.tags().is_none());
        assert!(!machine.holds("vol_1"));
    }
}
