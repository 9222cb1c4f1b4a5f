//! A machine is made, or given another configuration: the two calls that take one.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::app::is_label;
use super::config::{self, Checked};
use super::lease::Lease;
use super::machine::{Machine, State};
use super::{Kind, World, millis};
use crate::answer::Answer;
use crate::call::Call;

#[derive(Deserialize)]
struct Asked {
    name: Option<String>,
    region: Option<String>,
    #[serde(default)]
    config: Value,
    #[serde(default)]
    skip_launch: bool,
    lease_ttl: Option<u64>,
    current_version: Option<String>,
}

impl World {
    pub(super) fn create_machine(&mut self, org: &str, call: &Call) -> Result<Answer, Answer> {
        self.app_to_fill(org, &call.app)?;
        let asked: Asked = call.parse()?;
        let region = self.region(asked.region)?;
        let checked = config::check(&asked.config, &self.options.missing_images)?;
        if let Some(name) = &asked.name {
            self.free_name(&call.app, name)?;
        }
        self.free_volume(&call.app, &region, &checked)?;
        self.room(&region, &checked)?;
        let id = self.add_machine(&call.app, asked.name, region, asked.config, checked);
        if let Some(ttl) = asked.lease_ttl.filter(|ttl| *ttl > 0) {
            let lease = Lease::new(&mut self.chance, org, "", self.now, ttl);
            self.change(&call.app, &id, |machine| machine.lease = Some(lease));
        }
        self.launch(&call.app, &id, asked.skip_launch);
        let machine = self.known(org, &call.app, &id)?;
        let mut shown = machine.shown(false);
        if let Some(lease) = &machine.lease {
            shown["nonce"] = Value::from(lease.nonce.clone());
        }
        Ok(Answer::json(200, shown))
    }

    /// The whole configuration is replaced. What runs is replaced too: another version, in the same place.
    pub(super) fn update_machine(&mut self, org: &str, call: &Call) -> Result<Answer, Answer> {
        self.leased(org, call)?;
        let asked: Asked = call.parse()?;
        let machine = self.known(org, &call.app, &call.id)?;
        let (state, instance, held) = (machine.state, machine.instance_id.clone(), machine.volume.clone());
        let fixed = asked.name.as_ref().is_none_or(|name| *name == machine.name)
            && asked.region.as_ref().is_none_or(|region| *region == machine.region);
        if asked.current_version.is_some_and(|version| version != instance) {
            return Err(Answer::error(409, "aborted: machine update failed due to concurrent update"));
        }
        if !matches!(state, State::Started | State::Stopped | State::Suspended | State::Failed | State::Created) {
            let error = format!("failed_precondition: unable to update machine from current state: '{}'", state.name());
            return Err(Answer::error(412, error));
        }
        if !fixed {
            return Err(Answer::error(422, "invalid_argument: the name and the region of a machine cannot change"));
        }
        let region = machine.region.clone();
        let checked = config::check(&asked.config, &self.options.missing_images)?;
        if checked.volume != held {
            self.free_volume(&call.app, &region, &checked)?;
        }
        let version = self.ulid();
        let now = self.now;
        self.attach(&call.app, held.as_deref(), None);
        self.attach(&call.app, checked.volume.as_deref(), Some(&call.id));
        self.change(&call.app, &call.id, |machine| {
            machine.config = asked.config;
            machine.image = checked.image;
            machine.volume = checked.volume;
            machine.instance_id = version;
            machine.updated = now;
        });
        let boot = self.options.boot;
        let end = if asked.skip_launch && state != State::Started { State::Stopped } else { State::Started };
        self.go(&call.app, &call.id, &[(Duration::ZERO, State::Replacing), (boot, end)]);
        Ok(Answer::json(200, self.known(org, &call.app, &call.id)?.shown(false)))
    }

    /// Makes a machine in `created`, whoever asks. Everything about it was checked.
    pub(super) fn add_machine(
        &mut self,
        app: &str,
        name: Option<String>,
        region: String,
        config: Value,
        checked: Checked,
    ) -> String {
        let id = self.id("", b"0123456789abcdef", 14);
        let name = name.unwrap_or_else(|| format!("machine-{}", &id[..6]));
        let private_ip = self.options.private_ip.clone().unwrap_or_else(|| {
            // The private network of an organisation is in fdaa::/16 (fly.io/docs/networking/private-networking).
            let word = self.chance.draw();
            format!(
                "fdaa:0:{:x}:a7b:{:x}:{:x}:{:x}:2",
                word & 0xffff,
                word >> 16 & 0xfff,
                word >> 32 & 0xffff,
                word >> 48
            )
        });
        let machine = Machine {
            id: id.clone(),
            name: name.clone(),
            region,
            state: State::Created,
            step: 0,
            config,
            image: checked.image,
            volume: checked.volume.clone(),
            instance_id: self.ulid(),
            private_ip,
            cordoned: false,
            lease: None,
            created: self.now,
            updated: self.now,
            events: Vec::new(),
        };
        self.attach(app, checked.volume.as_deref(), Some(&id));
        if let Some(app) = self.apps.get_mut(app) {
            app.machines.insert(id.clone(), machine);
        }
        self.ledger.made(Kind::Machine, &id, app, &name, self.now);
        id
    }

    /// From `created` on, by itself.
    pub(super) fn launch(&mut self, app: &str, id: &str, skip: bool) {
        let boot = self.options.boot;
        if skip {
            // A machine that is not launched gets its image all the same, and is then a stopped one.
            self.go(app, id, &[(Duration::ZERO, State::Created), (boot, State::Stopped)]);
        } else {
            let path = [(Duration::ZERO, State::Created), (boot / 2, State::Starting), (boot, State::Started)];
            self.go(app, id, &path);
        }
    }

    /// The region that was asked for, or the first one.
    pub(super) fn region(&self, asked: Option<String>) -> Result<String, Answer> {
        let asked = asked.filter(|region| !region.is_empty());
        let region = asked.or_else(|| self.options.regions.first().cloned()).unwrap_or_default();
        if self.options.regions.contains(&region) {
            Ok(region)
        } else {
            Err(Answer::error(422, format!("invalid_argument: region {region} not found")))
        }
    }

    /// Names are unique within an app, among what is not destroyed. The refusal names the bearer; this text is what the
    /// live API says.
    fn free_name(&self, app: &str, name: &str) -> Result<(), Answer> {
        if !is_label(name) {
            return Err(Answer::error(422, "invalid_argument: name is not a valid machine name"));
        }
        let bearer = self.apps.get(app).and_then(|app| {
            app.machines.values().find(|machine| machine.name == name && machine.state != State::Destroyed)
        });
        match bearer {
            None => Ok(()),
            Some(bearer) => Err(Answer::error(
                409,
                format!(
                    "already_exists: unique machine name violation, machine ID {} already exists with name \"{name}\"",
                    bearer.id
                ),
            )),
        }
    }

    /// The volume is in this app and region, and nothing else holds it.
    fn free_volume(&self, app: &str, region: &str, checked: &Checked) -> Result<(), Answer> {
        let Some(id) = &checked.volume else { return Ok(()) };
        let volume = self.apps.get(app).and_then(|app| app.volumes.get(id)).filter(|volume| !volume.going);
        let volume = volume.ok_or_else(|| Answer::error(422, format!("invalid_argument: volume {id} not found")))?;
        if volume.region != region {
            let there = &volume.region;
            let error = format!("invalid_argument: volume {id} is in region {there}, not in {region}");
            return Err(Answer::error(422, error));
        }
        match &volume.attached {
            None => Ok(()),
            Some(holder) => Err(Answer::error(
                412,
                format!("failed_precondition: volume {id} is currently bound to machine: {holder}"),
            )),
        }
    }

    /// Which of the three refusals for capacity, if any (superfly/fly-go, flaps/flaps_error.go and its test): 422 where
    /// the region is full, 412 where a volume pins the machine to a host that is.
    fn room(&self, region: &str, checked: &Checked) -> Result<(), Answer> {
        let full = self.options.full_regions.contains(region);
        let host_full = self.options.full_volume_hosts.contains(region);
        match &checked.volume {
            Some(id) if full => Err(Answer::coded(
                412,
                format!("insufficient resources to create new machine with existing volume '{id}'"),
                "insufficient_capacity",
            )),
            Some(id) if host_full => Err(Answer::coded(
                412,
                format!("insufficient resources to create new machine with existing volume id '{id}'"),
                "volume_placement_capacity",
            )),
            None if full => Err(no_room(region)),
            Some(_) | None => Ok(()),
        }
    }

    /// When something that a path of states takes is through: for the callers that have to wait for it.
    pub(super) fn go(&mut self, app: &str, id: &str, path: &[(Duration, State)]) {
        let mut step = 0;
        self.change(app, id, |machine| {
            machine.step += 1;
            step = machine.step;
        });
        for (after, state) in path {
            if millis(*after) == 0 {
                self.enter(app, id, *state);
            } else {
                let (app, id) = (app.to_owned(), id.to_owned());
                self.later(*after, super::Due::Machine { app, id, step, state: *state });
            }
        }
    }
}

/// 422 `insufficient_capacity`: no host of the region has room.
pub(super) fn no_room(region: &str) -> Answer {
    Answer::coded(422, format!("insufficient resources available in region {region}"), "insufficient_capacity")
}
