//! The world as a test or an operator sees it, and the ways in which the API writes times and images.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::app::App;
use super::config::Checked;
use super::machine::State;
use super::{Late, Made, Millis, Tally, World};

/// Everything that exists, and everything that was counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorldView {
    /// The simulated time. Milliseconds since 1970.
    pub now: u64,
    /// Every app that exists, by name.
    pub apps: BTreeMap<String, AppView>,
    /// How often each endpoint was called, refused or not.
    pub endpoints: BTreeMap<String, u64>,
    /// How often each fault was met.
    pub faults: BTreeMap<String, u64>,
    /// How often each status was answered. What got no answer is not in it.
    pub statuses: BTreeMap<u16, u64>,
    /// The counts of every app's name that was ever used.
    pub tallies: BTreeMap<String, Tally>,
    /// What became of late effects.
    pub late: Late,
    /// Everything that was ever made, in order.
    pub made: Vec<Made>,
}

impl WorldView {
    /// The counts of an app's name; zeros where it was never used.
    #[must_use]
    pub fn tally(&self, app: &str) -> Tally {
        self.tallies.get(app).cloned().unwrap_or_default()
    }

    /// How often an endpoint was called.
    #[must_use]
    pub fn calls(&self, endpoint: crate::Endpoint) -> u64 {
        self.endpoints.get(endpoint.name()).copied().unwrap_or(0)
    }

    /// Every machine that is not destroyed, with the name of its app.
    pub fn machines(&self) -> impl Iterator<Item = (&str, &MachineView)> {
        let live = |machine: &&MachineView| machine.state != "destroyed";
        self.apps
            .iter()
            .flat_map(move |(name, app)| app.machines.iter().filter(live).map(move |machine| (name.as_str(), machine)))
    }

    /// Every volume that exists, with the name of its app.
    pub fn volumes(&self) -> impl Iterator<Item = (&str, &VolumeView)> {
        self.apps.iter().flat_map(|(name, app)| app.volumes.iter().map(move |volume| (name.as_str(), volume)))
    }
}

/// One app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are those of the Machines API")]
pub struct AppView {
    pub id: String,
    pub org: String,
    pub network: String,
    /// Deleted, and not gone yet.
    pub deleting: bool,
    pub machines: Vec<MachineView>,
    pub volumes: Vec<VolumeView>,
    /// Names and digests.
    pub secrets: BTreeMap<String, String>,
}

/// One machine; a destroyed one is still here while it can be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are those of the Machines API")]
pub struct MachineView {
    pub id: String,
    pub name: String,
    pub state: String,
    pub region: String,
    pub instance_id: String,
    pub private_ip: String,
    pub image: String,
    pub volume: Option<String>,
    pub cordoned: bool,
    pub metadata: BTreeMap<String, String>,
    /// Names only: values may be secret.
    pub env: Vec<String>,
}

/// One volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are those of the Machines API")]
pub struct VolumeView {
    pub id: String,
    pub name: String,
    pub state: String,
    pub region: String,
    pub size_gb: u64,
    pub attached_machine_id: Option<String>,
}

impl World {
    /// A copy of everything.
    pub(crate) fn view(&self) -> WorldView {
        WorldView {
            now: self.now,
            apps: self.apps.iter().map(|(name, app)| (name.clone(), app_view(app))).collect(),
            endpoints: self.ledger.endpoints.clone(),
            faults: self.ledger.faults.clone(),
            statuses: self.ledger.statuses.clone(),
            tallies: self.ledger.tallies.clone(),
            late: self.ledger.late.clone(),
            made: self.ledger.made.clone(),
        }
    }

    /// Takes something away behind everybody's back. Whether it was there.
    pub(crate) fn vanish(&mut self, id: &str) -> bool {
        let found = self.apps.iter().find_map(|(name, app)| {
            let here = app.id == id || name == id || app.machines.contains_key(id) || app.volumes.contains_key(id);
            here.then(|| name.clone())
        });
        let Some(name) = found else { return false };
        let Some(app) = self.apps.get_mut(&name) else { return false };
        if let Some(machine) = app.machines.remove(id) {
            self.attach(&name, machine.volume.as_deref(), None);
            self.ledger.gone(id, self.now);
        } else if app.volumes.remove(id).is_some() {
            self.ledger.gone(id, self.now);
        } else {
            self.drop_app(&name);
        }
        true
    }

    /// An app of any organisation, unless the name is taken. Its id.
    pub(crate) fn plant_app(&mut self, org: &str, name: &str) -> Option<String> {
        if self.apps.contains_key(name) { None } else { Some(self.add_app(org, name, "default")) }
    }

    /// A started machine that nobody here asked for, with this metadata. Its id; `None` where there is no such app.
    pub(crate) fn plant_machine(
        &mut self,
        app: &str,
        name: &str,
        metadata: &BTreeMap<String, String>,
    ) -> Option<String> {
        self.apps.get(app)?;
        let region = self.options.regions.first().cloned().unwrap_or_default();
        let image = "planted/app:1".to_owned();
        let config = json!({ "image": image, "metadata": metadata });
        let id = self.add_machine(app, Some(name.to_owned()), region, config, Checked { image, volume: None });
        self.go(app, &id, &[(std::time::Duration::ZERO, State::Started)]);
        Some(id)
    }

    /// A volume that nobody here asked for. Its id; `None` where there is no such app.
    pub(crate) fn plant_volume(&mut self, app: &str, name: &str) -> Option<String> {
        self.apps.get(app)?;
        let region = self.options.regions.first().cloned().unwrap_or_default();
        let volume = self.plain_volume(name, &region);
        let id = volume.id.clone();
        self.add_volume(app, volume);
        Some(id)
    }

    /// Puts a machine into a state, such as `stopped` for one that exits by itself. Whether both exist.
    pub(crate) fn put_state(&mut self, id: &str, state: &str) -> bool {
        let app = self.apps.iter().find(|(_, app)| app.machines.contains_key(id)).map(|(name, _)| name.clone());
        let (Some(app), Some(state)) = (app, State::named(state)) else { return false };
        self.go(&app, id, &[(std::time::Duration::ZERO, state)]);
        true
    }
}

fn app_view(app: &App) -> AppView {
    let machines = app.machines.values().map(|machine| MachineView {
        id: machine.id.clone(),
        name: machine.name.clone(),
        state: machine.state.name().to_owned(),
        region: machine.region.clone(),
        instance_id: machine.instance_id.clone(),
        private_ip: machine.private_ip.clone(),
        image: machine.image.clone(),
        volume: machine.volume.clone(),
        cordoned: machine.cordoned,
        metadata: strings(machine.config.get("metadata")).collect(),
        env: strings(machine.config.get("env")).map(|(name, _)| name).collect(),
    });
    let volumes = app.volumes.values().map(|volume| VolumeView {
        id: volume.id.clone(),
        name: volume.name.clone(),
        state: volume.state().to_owned(),
        region: volume.region.clone(),
        size_gb: volume.size_gb,
        attached_machine_id: volume.attached.clone(),
    });
    let digest = |(name, value): (&String, &String)| (name.clone(), super::secret::digest(value));
    AppView {
        id: app.id.clone(),
        org: app.org.clone(),
        network: app.network.clone(),
        deleting: app.deleting,
        machines: machines.collect(),
        volumes: volumes.collect(),
        secrets: app.secrets.iter().map(digest).collect(),
    }
}

fn strings(map: Option<&Value>) -> impl Iterator<Item = (String, String)> {
    let map = map.and_then(Value::as_object).into_iter().flatten();
    map.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
}

/// RFC 3339, in UTC.
pub(crate) fn time(at: Millis) -> String {
    let at = i64::try_from(at).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(at).unwrap_or(Timestamp::MAX).to_string()
}

/// The parts of an image's name, as fly-go's `ImageRef` has them.
pub(super) fn image_ref(image: &str) -> Value {
    let (name, digest) = image.split_once('@').unwrap_or((image, ""));
    let cut = name.rfind(':').filter(|colon| !name[*colon..].contains('/'));
    let (path, tag) = cut.map_or((name, "latest"), |colon| (&name[..colon], &name[colon + 1..]));
    let first = path.split('/').next().unwrap_or_default();
    let is_host = path.contains('/') && (first.contains('.') || first.contains(':') || first == "localhost");
    let (registry, repository) =
        if is_host { (first, &path[first.len() + 1..]) } else { ("registry-1.docker.io", path) };
    json!({ "registry": registry, "repository": repository, "tag": tag, "digest": digest })
}

/// Moves every time of an answer by some seconds: what a clock that is off would have written.
pub(crate) fn shift_times(value: &mut Value, seconds: i64) {
    match value {
        Value::Array(many) => many.iter_mut().for_each(|one| shift_times(one, seconds)),
        Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                if matches!(name.as_str(), "created_at" | "updated_at" | "expires_at" | "timestamp") {
                    shift_one(field, seconds, name == "expires_at");
                } else if name != "config" {
                    shift_times(field, seconds);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Times are texts or milliseconds, except where a lease ends: that is in seconds.
fn shift_one(field: &mut Value, seconds: i64, in_seconds: bool) {
    if let Some(number) = field.as_i64() {
        *field = Value::from(number + seconds * if in_seconds { 1 } else { 1000 });
    } else if let Some(at) = field.as_str().and_then(|text| text.parse::<Timestamp>().ok()) {
        let moved = at.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(at);
        *field = Value::from(moved.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::super::text;
    use super::{image_ref, shift_times};
    use serde_json::json;

    #[test]
    fn an_image_has_parts() {
        for (image, registry, repository, tag) in [
            ("nginx", "registry-1.docker.io", "nginx", "latest"),
            ("flyio/hello:2", "registry-1.docker.io", "flyio/hello", "2"),
            ("registry.fly.io/app:deployment-1@sha256:abc", "registry.fly.io", "app", "deployment-1"),
            ("localhost:5000/app", "localhost:5000", "app", "latest"),
        ] {
            let parts = image_ref(image);
            let found = (text(&parts, "registry"), text(&parts, "repository"), text(&parts, "tag"));
            assert_eq!(found, (Some(registry), Some(repository), Some(tag)), "{image}");
        }
    }

    #[test]
    fn a_clock_that_is_off_moves_times_and_nothing_else() {
        let mut answer = json!({
            "created_at": "2026-01-01T00:00:00Z", "expires_at": 100, "config": { "created_at": 5 },
            "events": [{ "timestamp": 1000 }], "size_gb": 3,
        });
        shift_times(&mut answer, -3600);
        assert_eq!(
            answer,
            json!({
                "created_at": "2025-12-31T23:00:00Z", "expires_at": -3500, "config": { "created_at": 5 },
                "events": [{ "timestamp": -3_599_000 }], "size_gb": 3,
            })
        );
    }
}
