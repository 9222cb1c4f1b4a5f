//! Apps that were made elsewhere, under names of their own: looked over, tagged, and run from then on.
//!
//! What is made here is known by its name, which is a random id. The name of an app that was made elsewhere proves
//! nothing, and neither do those of its volumes, so custody rests on two other things.
//!
//! - **The tags.** The machine in it carries this instance's tags with a valid MAC. As long as it does the app is ours,
//!   and so is the volume that this machine holds; without them all of it is somebody else's, and nothing in it is
//!   started, stopped, changed or removed.
//! - **The record.** The registry names app, volume and machine by their ids since the moment of adoption, when the
//!   machine held that volume in that app. Ids of machines and volumes are never given twice.
//!
//! Removal goes from the tags to the record. The machine goes first, and only if it carries the tags. Then the volume
//! that the record names, unless another machine holds it by now. Then the app whose name the record has, and only if
//! nothing of somebody else's is left in it. Whatever ends half-way goes on from the record: a machine that is gone
//! cannot be asked for its tags any more, and nothing but its empty app is left to delete.
//!
//! That also is why nothing is ever made in such an app, not even a machine in the place of one that was removed behind
//! our back. No call of ours can add anything to it, however late it arrives, so it is sealed from the beginning; and an
//! app that is deleted before everything in it is gone, as the seal of ours is, would leave nothing to prove the rest by.
//!
//! The list of what is ours does not have such apps: it goes by names, and looking into every app of an organisation
//! takes two calls for each.

use std::collections::BTreeMap;

use freehold_domain::resource::{Outcome, RejectionClass, Resource, ResourceKind};
use freehold_engine::ports::{Blueprint, Ident, Made, Survey, Unanswered, Unfit};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::look::{Whose, base};
use super::make::{guest, own};
use super::outcome::{Call, Meaning};
use super::wire::Machine;
use super::{FlyProvider, names, other, rejected, unheard};

/// Thousandths of a CPU.
const CPU: u32 = 1_000;

/// A machine with all of its configuration: what is not understood is given back as it came.
#[derive(Deserialize)]
struct Whole {
    instance_id: Option<String>,
    #[serde(default)]
    config: Value,
}

/// A machine as it is understood, and as it is.
fn both(machine: Value) -> Result<(Machine, Whole), String> {
    let understood = Machine::deserialize(&machine).map_err(|error| error.to_string())?;
    let whole = Whole::deserialize(&machine).map_err(|error| error.to_string())?;
    Ok((understood, whole))
}

fn refused(why: impl Into<String>) -> Unfit {
    Unfit::Refused(why.into())
}

impl FlyProvider {
    /// Looks an app over that was made elsewhere.
    pub(super) async fn look_over(&self, app: &str) -> Result<Survey, Unfit> {
        if !names::is_app(app) {
            return Err(refused(format!("{app:?} is no name of an app")));
        }
        if names::instance(&self.app_prefix, app).is_some() {
            return Err(refused(format!("{app} is named as only the apps are that are made here")));
        }
        match self.whose(app).await?.0 {
            Whose::Ours => {}
            Whose::Nobodys => return Err(Unfit::Missing(format!("there is no app {app}"))),
            Whose::SomebodyElses => {
                return Err(refused(format!("the app {app} is not of the organisation {}", self.org_slug)));
            }
        }
        let contents = self.contents(app).await?;
        let contents = contents.ok_or_else(|| Unfit::Missing(format!("the app {app} is being deleted")))?;
        let machine = match contents.machines.as_slice() {
            [machine] => machine,
            [] => return Err(refused(format!("there is no machine in {app}"))),
            several => {
                return Err(refused(format!("there are {} machines in {app}; one is taken over", several.len())));
            }
        };
        let volume = match contents.volumes.as_slice() {
            [] => None,
            [volume] if machine.holds(&volume.id) => Some(volume),
            [volume] => return Err(refused(format!("the volume {} in {app} is not on its machine", volume.id))),
            several => return Err(refused(format!("there are {} volumes in {app}; one is taken over", several.len()))),
        };
        let tags = machine.tags();
        if machine.is_marked() && tags.is_none() {
            return Err(refused(format!("the machine {} carries tags that make no sense", machine.id)));
        }
        let whole: Option<Whole> = self.machine_as(app, &machine.id).await.map_err(Unanswered)?;
        let config = whole.map(|whole| whole.config).unwrap_or_default();
        let mut resources = vec![base(app)];
        resources.extend(volume.map(super::wire::Volume::resource));
        resources.push(machine.resource());
        let number = |name: &str| config["guest"][name].as_u64().and_then(|number| u32::try_from(number).ok());
        Ok(Survey {
            resources,
            runtime: machine.runtime(),
            region: machine.region.clone(),
            image: config["image"].as_str().map(str::to_owned),
            command: words(&config["init"]["exec"]),
            env: env(&config["env"]),
            memory_mb: number("memory_mb").unwrap_or_default(),
            cpu_millis: number("cpus").unwrap_or_default().saturating_mul(CPU),
            volume_gb: volume.and_then(|volume| volume.size_gb).unwrap_or_default(),
            tags,
        })
    }

    /// Puts our tags on a machine beside what it carries. It goes on running; one that was replaced since it was looked at
    /// is left alone.
    pub(super) async fn tag_machine(&self, ident: &Ident, resources: &[Resource]) -> Outcome<()> {
        let (Some(app), Some(known)) = (&ident.given, own(resources, ResourceKind::Runtime)) else {
            return rejected(RejectionClass::Invalid, "only what was made elsewhere is tagged afterwards");
        };
        let read: Result<Option<Value>, String> = self.machine_as(app, &known.id).await;
        let (machine, whole) = match read.and_then(|machine| machine.map(both).transpose()) {
            Ok(Some((machine, whole))) if !machine.is_gone() => (machine, whole),
            Ok(_) => return rejected(RejectionClass::Invalid, format!("the machine {} is gone", known.id)),
            Err(why) => return Outcome::NotSent(why),
        };
        if self.is_ours(&machine, ident) {
            return Outcome::Done(());
        }
        if machine.is_marked() {
            let why = format!("the machine {} carries somebody else's tags", machine.id);
            return rejected(RejectionClass::ConflictForeign, why);
        }
        let Whole { instance_id, config } = whole;
        let mut metadata = config["metadata"].as_object().cloned().unwrap_or_default();
        metadata.extend(tags(ident));
        let body = json!({"metadata": metadata, "machine_version": instance_id});
        let path = format!("/apps/{app}/machines/{}/metadata", known.id);
        match self.api.change(Call::TagMachine, &known.id, &path, &[], Some(&body)).await {
            Err(trouble) => unheard(trouble),
            Ok(answer) => match answer.meaning(Call::TagMachine) {
                Meaning::Done => Outcome::Done(()),
                meaning => other(meaning, &answer, None),
            },
        }
    }

    /// The configuration that a machine has, with what a blueprint says in it: its mounts, its services and its checks are
    /// whoever's who made it.
    pub(super) async fn changed_config(
        &self,
        app: &str,
        ident: &Ident,
        blueprint: &Blueprint,
        machine: &Machine,
    ) -> Result<Value, Outcome<Made>> {
        let whole: Option<Whole> = self.machine_as(app, &machine.id).await.map_err(Outcome::NotSent)?;
        match whole {
            // What it is changed from is what the compare-and-set names.
            Some(whole) if whole.instance_id == machine.instance_id => Ok(changed(whole.config, ident, blueprint)),
            Some(_) | None => Err(Outcome::NotSent(format!("the machine {} changes", machine.id))),
        }
    }
}

fn changed(mut config: Value, ident: &Ident, blueprint: &Blueprint) -> Value {
    let mut env = blueprint.env.clone();
    env.retain(|name, _| !blueprint.secrets.contains(name));
    config["image"] = json!(blueprint.image);
    config["env"] = json!(env);
    if !blueprint.command.is_empty() {
        put(&mut config, "init", [("exec".to_owned(), json!(blueprint.command))]);
    }
    let size = guest(blueprint);
    put(&mut config, "guest", ["cpus", "memory_mb"].map(|name| (name.to_owned(), size[name].clone())));
    put(&mut config, "metadata", tags(ident));
    config
}

/// Puts members into a member of a configuration, beside what is there.
fn put(config: &mut Value, member: &str, new: impl IntoIterator<Item = (String, Value)>) {
    let mut members: Map<String, Value> = config[member].as_object().cloned().unwrap_or_default();
    members.extend(new);
    config[member] = Value::Object(members);
}

fn tags(ident: &Ident) -> [(String, Value); 4] {
    ident.tags.pairs().map(|(name, value)| (name.to_owned(), json!(value)))
}

fn words(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn env(map: &Value) -> BTreeMap<String, String> {
    let pairs = map.as_object().into_iter().flatten();
    pairs.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn an_update_keeps_what_it_does_not_understand() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let idents = freehold_engine::ident::Idents::new("prod".parse().expect("valid"), &[7; 32]);
        let context = freehold_domain::owner::Context::new("user:alice".parse().expect("valid"), None).expect("valid");
        let ident = idents.of(freehold_domain::ids::InstanceId::mint(1, [1; 10]), &context);
        let blueprint = Blueprint {
            command: Vec::new(),
            image: Some("acme:2".to_owned()),
            env: BTreeMap::from([("A".to_owned(), "2".to_owned()), ("TOKEN".to_owned(), "hunter2".to_owned())]),
            secrets: BTreeSet::from(["TOKEN".to_owned()]),
            memory_mb: 512,
            cpu_millis: 2_000,
            volume_gb: 1,
            region: None,
        };
        let before = json!({
            "image": "acme:1", "env": {"A": "1", "B": "1"}, "init": {"exec": ["run"], "tty": true},
            "guest": {"cpu_kind": "performance", "cpus": 1, "memory_mb": 256},
            "metadata": {"customer": "7"}, "mounts": [{"volume": "vol_1", "path": "/var"}], "services": [{"internal_port": 3}],
        });
        let after = changed(before.clone(), &ident, &blueprint);
        for kept in ["mounts", "services", "init"] {
            assert_eq!(after[kept], before[kept], "{kept}");
        }
        assert_eq!(after["image"], "acme:2");
        assert_eq!(after["env"], json!({"A": "2"}), "no secret, and nothing that is not on record");
        assert_eq!(after["guest"], json!({"cpu_kind": "performance", "cpus": 2, "memory_mb": 512}));
        assert_eq!(after["metadata"]["customer"], "7");
        assert_eq!(after["metadata"]["freehold_mac"], json!(ident.tags.mac));
    }
}
