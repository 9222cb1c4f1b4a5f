//! Making and moving: one changing call each, or two where the first is a setting that may be repeated.

use freehold_domain::resource::{Outcome, RejectionClass, Resource, ResourceKind, RuntimeState};
use freehold_engine::ports::{Blueprint, Ident, Made, Order};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::api::Answer;
use super::look::{Whose, base};
use super::outcome::{Call, Meaning, is_id, machine_in_the_way};
use super::wire::{Machine, SecretsSet, Volume};
use super::{FlyProvider, names, other, rejected, somebody_elses, unheard, unseen};

/// Memory comes in steps of so many MiB.
const MEMORY_STEP_MB: u32 = 256;

/// How long to wait for a machine to stop, in seconds: less than a call may take.
const STOP_WAIT_SECONDS: &str = "10";

/// Thousandths of a CPU.
const CPU: u32 = 1_000;

impl FlyProvider {
    pub(super) async fn make_app(&self, ident: &Ident) -> Outcome<Made> {
        if let Some(refused) = not_made_here(ident) {
            return refused;
        }
        let app = names::app(&self.app_prefix, ident);
        let body = json!({"app_name": app, "org_slug": self.org_slug});
        let answer = match self.api.change(Call::CreateApp, &app, "/apps", &[], Some(&body)).await {
            Ok(answer) => answer,
            Err(trouble) => return unheard(trouble),
        };
        let made = Made { resource: base(&app), runtime: None };
        match answer.meaning(Call::CreateApp) {
            Meaning::Done => Outcome::Done(made),
            Meaning::Taken => match self.whose(&app).await {
                Ok((Whose::Ours, _)) => self.adopted(&app, ident, made).await,
                Ok((Whose::SomebodyElses, _)) => somebody_elses(&app),
                // Taken a moment ago, and not there: it goes away, or cannot be seen yet.
                Ok((Whose::Nobodys, _)) => Outcome::Unknown(answer.in_words()),
                Err(unanswered) => Outcome::Unknown(unanswered.0),
            },
            meaning => other(meaning, &answer, None),
        }
    }

    /// An app of our name in our organisation is ours, unless somebody else works in it.
    async fn adopted(&self, app: &str, ident: &Ident, made: Made) -> Outcome<Made> {
        match self.contents(app).await {
            Ok(Some(contents)) if self.strange(&contents, ident).is_some() => somebody_elses(app),
            Ok(Some(_)) => Outcome::Done(made),
            Ok(None) => Outcome::Unknown(format!("{app} goes away while it is made")),
            Err(unanswered) => Outcome::Unknown(unanswered.0),
        }
    }

    pub(super) async fn make_volume(&self, order: &Order<'_>) -> Outcome<Made> {
        if let Some(refused) = not_made_here(order.ident) {
            return refused;
        }
        let Order { ident, blueprint, .. } = order;
        let app = names::app(&self.app_prefix, ident);
        if let Some(refused) = self.refused_app(&app).await {
            return refused;
        }
        // The names of volumes are not unique, so what was made before is looked for first.
        let name = names::volume(ident);
        match self.contents(&app).await {
            Ok(Some(contents)) if self.strange(&contents, ident).is_some() => return somebody_elses(&app),
            Ok(Some(contents)) => {
                if let Some(volume) = contents.volumes.iter().find(|volume| volume.name == name) {
                    return Outcome::Done(Made { resource: volume.resource(), runtime: None });
                }
            }
            Ok(None) => return Outcome::NotSent(format!("the app {app} is not there")),
            Err(unanswered) => return unseen(unanswered),
        }
        let body = json!({
            "name": name,
            "region": blueprint.region,
            "size_gb": blueprint.volume_gb.max(1),
            "encrypted": true,
            "compute": guest(blueprint),
        });
        let path = format!("/apps/{app}/volumes");
        let answer = match self.api.change(Call::CreateVolume, &app, &path, &[], Some(&body)).await {
            Ok(answer) => answer,
            Err(trouble) => return unheard(trouble),
        };
        match answer.meaning(Call::CreateVolume) {
            Meaning::Done => match answer.read::<Volume>() {
                Ok(volume) => Outcome::Done(Made { resource: volume.resource(), runtime: None }),
                Err(why) => Outcome::Unknown(why),
            },
            meaning => other(meaning, &answer, blueprint.region.as_deref()),
        }
    }

    /// Why nothing can be made in an app, if that is sure.
    async fn refused_app(&self, app: &str) -> Option<Outcome<Made>> {
        match self.whose(app).await {
            Ok((Whose::Ours, _)) => None,
            Ok((Whose::Nobodys, _)) => Some(Outcome::NotSent(format!("the app {app} is not there"))),
            Ok((Whose::SomebodyElses, _)) => Some(somebody_elses(app)),
            Err(unanswered) => Some(unseen(unanswered)),
        }
    }

    pub(super) async fn make_machine(&self, order: &Order<'_>) -> Outcome<Made> {
        if let Some(refused) = not_made_here(order.ident) {
            return refused;
        }
        let Order { ident, blueprint, resources } = order;
        if let Err(why) = freehold_engine::ports::Provider::accepts(self, blueprint) {
            return rejected(RejectionClass::Invalid, why);
        }
        let app = names::app(&self.app_prefix, ident);
        let secrets = match self.set_secrets(&app, blueprint).await {
            Ok(version) => version,
            Err(outcome) => return outcome,
        };
        let volume = own(resources, ResourceKind::Storage);
        let region = volume.and_then(|volume| volume.region.clone()).or_else(|| blueprint.region.clone());
        let body = json!({
            "name": ident.name,
            "region": region,
            "config": self.config(ident, blueprint, volume.map(|volume| volume.id.as_str())),
            "min_secrets_version": secrets,
        });
        let path = format!("/apps/{app}/machines");
        let answer = match self.api.change(Call::CreateMachine, &app, &path, &[], Some(&body)).await {
            Ok(answer) => answer,
            Err(trouble) => return unheard(trouble),
        };
        match answer.meaning(Call::CreateMachine) {
            Meaning::Done => made(&answer),
            Meaning::Taken => self.adopt(&app, ident, &answer).await,
            // A refusal does not say whether it is the app that is not ours.
            Meaning::Unauthorized => match self.refused_app(&app).await {
                Some(Outcome::Rejected(rejection)) => Outcome::Rejected(rejection),
                Some(_) | None => other(Meaning::Unauthorized, &answer, None),
            },
            meaning => other(meaning, &answer, region.as_deref()),
        }
    }

    /// The machine that has the name already. One that is down is started: it was made to run.
    async fn adopt(&self, app: &str, ident: &Ident, answer: &Answer) -> Outcome<Made> {
        let complaint = answer.complaint().unwrap_or_default();
        let Some(id) = machine_in_the_way(&complaint.error) else { return Outcome::Unknown(answer.in_words()) };
        let machine = match self.machine(app, id).await {
            Ok(Some(machine)) => machine,
            Ok(None) => return Outcome::Unknown(format!("machine {id} has the name, and cannot be seen")),
            Err(why) => return Outcome::Unknown(why),
        };
        if !self.is_ours(&machine, ident) {
            return rejected(RejectionClass::ConflictForeign, format!("machine {id} is somebody else's"));
        }
        if machine.runtime() == RuntimeState::Stopped {
            return self.moved(Call::StartMachine, app, &machine, RuntimeState::Starting).await;
        }
        Outcome::Done(Made { resource: machine.resource(), runtime: Some(machine.runtime()) })
    }

    /// Puts the secrets into the app's vault, which injects them when the machine starts. Doing it again changes nothing.
    async fn set_secrets(&self, app: &str, blueprint: &Blueprint) -> Result<Option<u64>, Outcome<Made>> {
        let values: serde_json::Map<String, Value> = blueprint
            .secrets
            .iter()
            .filter_map(|name| Some((name.clone(), Value::from(blueprint.env.get(name)?.as_str()))))
            .collect();
        if values.is_empty() {
            return Ok(None);
        }
        let path = format!("/apps/{app}/secrets");
        let body = json!({ "values": values });
        let answer = match self.api.change(Call::SetSecrets, app, &path, &[], Some(&body)).await {
            Ok(answer) => answer,
            // Whatever came of it: no machine was asked for.
            Err(trouble) => return Err(Outcome::NotSent(format!("the secrets are not set: {trouble}"))),
        };
        match answer.meaning(Call::SetSecrets) {
            Meaning::Done => Ok(answer.read::<SecretsSet>().ok().and_then(|set| set.version)),
            meaning => match other(meaning, &answer, None) {
                Outcome::Unknown(why) => Err(Outcome::NotSent(format!("the secrets are not set: {why}"))),
                outcome => Err(outcome),
            },
        }
    }

    /// The configuration of a machine: the same for the same order, whenever it is sent.
    fn config(&self, ident: &Ident, blueprint: &Blueprint, volume: Option<&str>) -> Value {
        let mut env = blueprint.env.clone();
        env.retain(|name, _| !blueprint.secrets.contains(name));
        env.entry("PORT".to_owned()).or_insert_with(|| self.port.to_string());
        let metadata: serde_json::Map<String, Value> =
            ident.tags.pairs().into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        let mut config = json!({
            "image": blueprint.image,
            "env": env,
            "guest": guest(blueprint),
            "metadata": metadata,
            "restart": {"policy": "on-failure"},
            "auto_destroy": false,
        });
        if !blueprint.command.is_empty() {
            config["init"] = json!({"exec": blueprint.command});
        }
        if let Some(volume) = volume {
            config["mounts"] = json!([{"volume": volume, "path": self.volume_path}]);
        }
        config
    }

    /// A machine by its id; `None` if there is none.
    pub(super) async fn machine(&self, app: &str, id: &str) -> Result<Option<Machine>, String> {
        self.machine_as(app, id).await.map(|machine| machine.filter(|machine: &Machine| !machine.is_gone()))
    }

    /// A machine by its id as far as `T` listens; `None` if there is none.
    pub(super) async fn machine_as<T: DeserializeOwned>(&self, app: &str, id: &str) -> Result<Option<T>, String> {
        if !is_id(id) {
            return Err(format!("{id:?} is no machine's id"));
        }
        let answer = self
            .api
            .get(id, &format!("/apps/{app}/machines/{id}"), &[])
            .await
            .map_err(|trouble| trouble.to_string())?;
        match answer.status {
            200 => answer.read().map(Some),
            404 if answer.complaint().is_some() => Ok(None),
            _ => Err(super::look::blind(&answer).0),
        }
    }

    /// The instance's own machine, which something is to be done with; without it if it was removed behind our back.
    async fn own_machine(&self, order: &Order<'_>) -> Result<(String, Option<Machine>), Outcome<Made>> {
        let app = names::app(&self.app_prefix, order.ident);
        let known = own(order.resources, ResourceKind::Runtime);
        let Some(known) = known else {
            return Err(rejected(RejectionClass::Invalid, "there is no machine on record"));
        };
        match self.machine(&app, &known.id).await {
            Ok(Some(machine)) if self.is_ours(&machine, order.ident) => Ok((app, Some(machine))),
            Ok(Some(_)) => {
                Err(rejected(RejectionClass::ConflictForeign, format!("machine {} is somebody else's", known.id)))
            }
            Ok(None) => Ok((app, None)),
            Err(why) => Err(Outcome::NotSent(why)),
        }
    }

    /// Moves a machine, and says what it will be.
    async fn moved(&self, call: Call, app: &str, machine: &Machine, to: RuntimeState) -> Outcome<Made> {
        let verb = match call {
            Call::StartMachine => "start",
            Call::StopMachine => "stop",
            _ => "restart",
        };
        let path = format!("/apps/{app}/machines/{}/{verb}", machine.id);
        let answer = match self.api.change(call, &machine.id, &path, &[], Some(&json!({}))).await {
            Ok(answer) => answer,
            Err(trouble) => return unheard(trouble),
        };
        match answer.meaning(call) {
            Meaning::Done => Outcome::Done(Made { resource: machine.resource(), runtime: Some(to) }),
            meaning => other(meaning, &answer, machine.region.as_deref()),
        }
    }

    pub(super) async fn start_machine(&self, order: &Order<'_>) -> Outcome<Made> {
        let (app, machine) = match self.own_machine(order).await {
            Ok((app, Some(machine))) => (app, machine),
            // Its name is unique: one that is only out of sight is found by it.
            Ok((_, None)) => return self.make_machine(order).await,
            Err(outcome) => return outcome,
        };
        if machine.state == "started" {
            return Outcome::Done(Made { resource: machine.resource(), runtime: Some(RuntimeState::Running) });
        }
        self.moved(Call::StartMachine, &app, &machine, RuntimeState::Starting).await
    }

    pub(super) async fn stop_machine(&self, order: &Order<'_>) -> Outcome<Made> {
        let (app, machine) = match self.own_machine(order).await {
            Ok((app, Some(machine))) => (app, machine),
            Ok((app, None)) => return Outcome::NotSent(format!("the machine of {app} is not there")),
            Err(outcome) => return outcome,
        };
        let stopped = Made { resource: machine.resource(), runtime: Some(RuntimeState::Stopped) };
        if matches!(machine.state.as_str(), "stopped" | "suspended") {
            return Outcome::Done(stopped);
        }
        if machine.state != "stopping" {
            match self.moved(Call::StopMachine, &app, &machine, RuntimeState::Stopped).await {
                Outcome::Done(_) => {}
                outcome => return outcome,
            }
        }
        let path = format!("/apps/{app}/machines/{}/wait", machine.id);
        let version = machine.instance_id.as_deref().unwrap_or_default();
        let query = [("state", "stopped"), ("timeout", STOP_WAIT_SECONDS), ("instance_id", version)];
        match self.api.change(Call::AwaitMachine, &machine.id, &path, &query, None).await {
            Ok(answer) if answer.meaning(Call::AwaitMachine) == Meaning::Done => Outcome::Done(stopped),
            // It was asked to stop, and has not yet: the id is on record, and it is looked at later.
            Ok(answer) => Outcome::Unknown(answer.in_words()),
            Err(trouble) => Outcome::Unknown(trouble.to_string()),
        }
    }

    pub(super) async fn restart_machine(&self, order: &Order<'_>) -> Outcome<Made> {
        let (app, machine) = match self.own_machine(order).await {
            Ok((app, Some(machine))) => (app, machine),
            // Its name is unique: one that is only out of sight is found by it.
            Ok((_, None)) => return self.make_machine(order).await,
            Err(outcome) => return outcome,
        };
        // One that is down has nothing to stop, and the API refuses to restart it.
        let down = !matches!(machine.runtime(), RuntimeState::Running | RuntimeState::Starting);
        let call = if down { Call::StartMachine } else { Call::RestartMachine };
        self.moved(call, &app, &machine, RuntimeState::Starting).await
    }

    pub(super) async fn update_machine(&self, order: &Order<'_>, running: bool) -> Outcome<Made> {
        let Order { ident, blueprint, resources } = order;
        if let Err(why) = freehold_engine::ports::Provider::accepts(self, blueprint) {
            return rejected(RejectionClass::Invalid, why);
        }
        let (app, machine) = match self.own_machine(order).await {
            Ok((app, Some(machine))) => (app, machine),
            Ok((app, None)) => return Outcome::NotSent(format!("the machine of {app} is not there")),
            Err(outcome) => return outcome,
        };
        let volume = own(resources, ResourceKind::Storage);
        let config = match &ident.given {
            None => self.config(ident, blueprint, volume.map(|volume| volume.id.as_str())),
            Some(_) => match self.changed_config(&app, ident, blueprint, &machine).await {
                Ok(config) => config,
                Err(outcome) => return outcome,
            },
        };
        let secrets = match self.set_secrets(&app, blueprint).await {
            Ok(version) => version,
            Err(outcome) => return outcome,
        };
        let body = json!({
            "config": config,
            // What was changed since it was looked at is not changed back.
            "current_version": machine.instance_id,
            "skip_launch": !running,
            "min_secrets_version": secrets,
        });
        let path = format!("/apps/{app}/machines/{}", machine.id);
        let answer = match self.api.change(Call::UpdateMachine, &machine.id, &path, &[], Some(&body)).await {
            Ok(answer) => answer,
            Err(trouble) => return unheard(trouble),
        };
        match answer.meaning(Call::UpdateMachine) {
            Meaning::Done if running => made(&answer),
            Meaning::Done => made(&answer).map(|made| Made { runtime: Some(RuntimeState::Stopped), ..made }),
            meaning => other(meaning, &answer, machine.region.as_deref()),
        }
    }
}

/// The machine of an answer. What it says later is for a look: it starts.
fn made(answer: &Answer) -> Outcome<Made> {
    match answer.read::<Machine>() {
        Ok(machine) if is_id(&machine.id) => {
            let runtime = if machine.state == "started" { RuntimeState::Running } else { RuntimeState::Starting };
            Outcome::Done(Made { resource: machine.resource(), runtime: Some(runtime) })
        }
        Ok(machine) => Outcome::Unknown(format!("{:?} is no machine's id", machine.id)),
        Err(why) => Outcome::Unknown(why),
    }
}

/// Nothing is made in an app that was made elsewhere; see `given.rs`.
fn not_made_here(ident: &Ident) -> Option<Outcome<Made>> {
    let app = ident.given.as_ref()?;
    let why = format!("the app {app} was made elsewhere, and nothing is made in it: what is missing there is lost");
    Some(rejected(RejectionClass::Invalid, why))
}

/// The instance's own resource of a kind.
pub(super) fn own(resources: &[Resource], kind: ResourceKind) -> Option<&Resource> {
    resources.iter().find(|resource| resource.kind == kind)
}

/// The size of a machine: whole CPUs, memory in steps.
pub(super) fn guest(blueprint: &Blueprint) -> Value {
    let cpus = blueprint.cpu_millis.div_ceil(CPU).max(1).next_power_of_two();
    let memory = blueprint.memory_mb.div_ceil(MEMORY_STEP_MB).max(1) * MEMORY_STEP_MB;
    json!({"cpu_kind": "shared", "cpus": cpus, "memory_mb": memory})
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn blueprint(memory_mb: u32, cpu_millis: u32) -> Blueprint {
        Blueprint {
            command: Vec::new(),
            image: Some("registry.example/hello:1".to_owned()),
            env: BTreeMap::from([("A".to_owned(), "1".to_owned()), ("TOKEN".to_owned(), "hunter2".to_owned())]),
            secrets: BTreeSet::from(["TOKEN".to_owned()]),
            memory_mb,
            cpu_millis,
            volume_gb: 1,
            region: None,
        }
    }

    #[test]
    fn sizes_are_rounded_up_to_what_can_be_had() {
        for ((memory, cpu), (cpus, memory_mb)) in
            [((1, 1), (1, 256)), ((256, 1_000), (1, 256)), ((300, 1_001), (2, 512)), ((1024, 3_000), (4, 1024))]
        {
            let guest = guest(&blueprint(memory, cpu));
            assert_eq!((&guest["cpus"], &guest["memory_mb"]), (&json!(cpus), &json!(memory_mb)));
        }
    }

    #[test]
    fn a_secret_is_not_in_the_configuration() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let idents = freehold_engine::ident::Idents::new("prod".parse().expect("valid"), &[7; 32]);
        let context = freehold_domain::owner::Context::new("user:alice".parse().expect("valid"), None).expect("valid");
        let ident = idents.of(freehold_domain::ids::InstanceId::mint(1, [1; 10]), &context);
        let fly = FlyProvider::new(super::super::FlyOptions::new("t".to_owned()), idents).expect("opens");
        let config = fly.config(&ident, &blueprint(256, 1_000), Some("vol_1"));
        assert!(!config.to_string().contains("hunter2"), "{config}");
        assert_eq!(config["env"], json!({"A": "1", "PORT": "8080"}));
        assert_eq!(config["metadata"]["freehold_mac"], json!(ident.tags.mac));
        assert_eq!(config["mounts"], json!([{"volume": "vol_1", "path": "/data"}]));
    }
}
