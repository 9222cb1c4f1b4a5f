//! Everything that exists in the simulated Fly, and the one place where it changes.
//!
//! [`World::call`] carries out one call as a whole, or refuses it. Time is an argument, in milliseconds since 1970, and
//! never runs backwards. What takes time is a queue of due changes that is worked off, in order, before anything is
//! read or done; so nobody sees the world between two of them, and no task runs beside it.

mod app;
mod config;
mod lease;
mod ledger;
mod machine;
mod make;
mod metadata;
mod secret;
mod view;
mod volume;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use crate::answer::Answer;
use crate::call::{Call, Endpoint};
use crate::chance::Chance;
use crate::options::Options;

use self::app::App;
use self::ledger::Ledger;
pub use self::ledger::{Kind, Late, Made, Tally};
use self::machine::State;
pub(crate) use self::machine::wait_seconds;
pub(crate) use self::view::shift_times;
pub use self::view::{AppView, MachineView, VolumeView, WorldView};

/// Milliseconds since 1970.
pub(crate) type Millis = u64;

/// Most resources that were ever made: the list of them is kept whole. A call past it is refused.
const MADE_MAX: usize = 200_000;

/// A change that comes by itself.
#[derive(Debug)]
enum Due {
    /// A machine goes on, unless something else was done to it in between.
    Machine { app: String, id: String, step: u64, state: State },
    /// A destroyed machine is forgotten.
    Forget { app: String, id: String },
    /// A deleted volume is gone.
    Volume { app: String, id: String },
    /// A deleted app is gone, if it is still the same.
    App { name: String, id: String },
    /// A call whose effect comes late.
    Call(Box<Call>),
}

/// See the top of the file.
#[derive(Debug)]
pub(crate) struct World {
    options: Options,
    now: Millis,
    apps: BTreeMap<String, App>,
    /// By time, and by order within it.
    queue: BTreeMap<(Millis, u64), Due>,
    sequence: u64,
    /// For ids, which are drawn by calls only.
    chance: Chance,
    /// For versions and events, which are also drawn when something happens by itself.
    versions: Chance,
    revoked: BTreeSet<String>,
    pub(crate) ledger: Ledger,
}

impl World {
    pub(crate) fn new(options: Options, now: Millis) -> Self {
        let (chance, versions) = (Chance::of(options.seed), Chance::of(!options.seed));
        Self {
            options,
            now,
            apps: BTreeMap::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            chance,
            versions,
            revoked: BTreeSet::new(),
            ledger: Ledger::default(),
        }
    }

    /// Lets time pass up to `now`.
    pub(crate) fn settle(&mut self, now: Millis) {
        let now = now.max(self.now);
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= now) {
            let at = entry.key().0;
            let due = entry.remove();
            self.now = self.now.max(at);
            self.happen(due);
        }
        self.now = now;
    }

    pub(crate) fn now(&self) -> Millis {
        self.now
    }

    pub(crate) fn options_mut(&mut self) -> &mut Options {
        &mut self.options
    }

    /// A token is worth nothing from here on.
    pub(crate) fn revoke(&mut self, token: &str) {
        self.revoked.insert(token.to_owned());
    }

    /// Has a call carried out by itself in a while. Its answer is lost.
    pub(crate) fn call_later(&mut self, call: Call, delay: Duration) {
        self.ledger.late.waiting += 1;
        self.later(delay, Due::Call(Box::new(call)));
    }

    /// Carries out one call. `None` where it is a wait that has to go on.
    pub(crate) fn call(&mut self, call: &Call) -> Option<Answer> {
        match self.perform(call) {
            Ok(answer) => answer,
            Err(refusal) => Some(refusal),
        }
    }

    fn perform(&mut self, call: &Call) -> Result<Option<Answer>, Answer> {
        let org = self.org(call)?;
        if self.ledger.made.len() >= MADE_MAX {
            return Err(Answer::error(503, "unavailable: the simulation is full; reset it"));
        }
        let answer = match call.endpoint {
            Endpoint::ListApps => self.list_apps(&org, call),
            Endpoint::CreateApp => self.create_app(&org, call),
            Endpoint::GetApp => self.get_app(&org, call),
            Endpoint::DeleteApp => self.delete_app(&org, call),
            Endpoint::ListSecrets => self.list_secrets(&org, call),
            Endpoint::SetSecrets => self.set_secrets(&org, call),
            Endpoint::SetSecret => self.set_secret(&org, call),
            Endpoint::DeleteSecret => self.delete_secret(&org, call),
            Endpoint::ListMachines => self.list_machines(&org, call),
            Endpoint::CreateMachine => self.create_machine(&org, call),
            Endpoint::GetMachine => self.get_machine(&org, call),
            Endpoint::UpdateMachine => self.update_machine(&org, call),
            Endpoint::DeleteMachine => self.delete_machine(&org, call),
            Endpoint::StartMachine => self.start_machine(&org, call),
            Endpoint::StopMachine => self.stop_machine(&org, call),
            Endpoint::RestartMachine => self.restart_machine(&org, call),
            Endpoint::SuspendMachine => self.suspend_machine(&org, call),
            Endpoint::CordonMachine => self.cordon_machine(&org, call, true),
            Endpoint::UncordonMachine => self.cordon_machine(&org, call, false),
            Endpoint::WaitMachine => return self.wait_machine(&org, call),
            Endpoint::ListEvents => self.list_events(&org, call),
            Endpoint::GetLease => self.get_lease(&org, call),
            Endpoint::TakeLease => self.take_lease(&org, call),
            Endpoint::ReleaseLease => self.release_lease(&org, call),
            Endpoint::GetMetadata => self.get_metadata(&org, call),
            Endpoint::PutMetadata => self.put_metadata(&org, call),
            Endpoint::GetMetadataKey => self.get_metadata_key(&org, call),
            Endpoint::SetMetadataKey => self.set_metadata_key(&org, call),
            Endpoint::DeleteMetadataKey => self.delete_metadata_key(&org, call),
            Endpoint::ListVolumes => self.list_volumes(&org, call),
            Endpoint::CreateVolume => self.create_volume(&org, call),
            Endpoint::GetVolume => self.get_volume(&org, call),
            Endpoint::UpdateVolume => self.update_volume(&org, call),
            Endpoint::DeleteVolume => self.delete_volume(&org, call),
            Endpoint::ExtendVolume => self.extend_volume(&org, call),
            Endpoint::Any => Err(Answer::error(404, "not found")),
        };
        answer.map(Some)
    }

    /// When what a call reads was made; a call that reads nothing by its id has none.
    pub(crate) fn born(&self, call: &Call) -> Option<Millis> {
        let app = self.apps.get(&call.app)?;
        match call.endpoint {
            Endpoint::GetApp => Some(app.created),
            _ => {
                let machine = app.machines.get(&call.id).map(|machine| machine.created);
                machine.or_else(|| app.volumes.get(&call.id).map(|volume| volume.created))
            }
        }
    }

    /// When the resource with this id was made, in whatever app it is.
    pub(crate) fn born_id(&self, id: &str) -> Option<Millis> {
        self.apps.values().find_map(|app| {
            let own = (app.id == id).then_some(app.created);
            let machine = || app.machines.get(id).map(|machine| machine.created);
            own.or_else(machine).or_else(|| app.volumes.get(id).map(|volume| volume.created))
        })
    }

    /// The organisation of the caller.
    fn org(&self, call: &Call) -> Result<String, Answer> {
        let token = call.token.as_ref().filter(|token| !self.revoked.contains(*token));
        token.and_then(|token| self.options.tokens.get(token)).cloned().ok_or_else(Answer::unauthorized)
    }

    fn later(&mut self, delay: Duration, due: Due) {
        self.sequence += 1;
        self.queue.insert((self.now.saturating_add(millis(delay)), self.sequence), due);
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::Machine { app, id, step, state } => {
                let same = self.machine(&app, &id).is_some_and(|machine| machine.step == step);
                if same {
                    self.enter(&app, &id, state);
                }
            }
            Due::Forget { app, id } => {
                let machines = self.apps.get_mut(&app).map(|app| &mut app.machines);
                if let Some(machines) = machines {
                    machines.retain(|key, machine| *key != id || machine.state != State::Destroyed);
                }
            }
            Due::Volume { app, id } => self.drop_volume(&app, &id),
            Due::App { name, id } => {
                if self.apps.get(&name).is_some_and(|app| app.id == id) {
                    self.drop_app(&name);
                }
            }
            Due::Call(call) => {
                self.ledger.late.waiting -= 1;
                match self.perform(&call) {
                    Ok(_) => self.ledger.late.done += 1,
                    Err(_) => self.ledger.late.refused += 1,
                }
            }
        }
    }

    /// A version of a machine: the time and 80 random bits, in the letters of a ULID.
    fn ulid(&mut self) -> String {
        const LETTERS: &[u8] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        let time: String =
            (0..10).rev().map(|at| char::from(LETTERS[((self.now >> (5 * at)) & 31) as usize])).collect();
        time + &self.versions.text(LETTERS, 16)
    }

    /// An id that nothing else has: `prefix` and `length` random characters.
    fn id(&mut self, prefix: &str, alphabet: &[u8], length: usize) -> String {
        loop {
            let id = format!("{prefix}{}", self.chance.text(alphabet, length));
            if self.born_id(&id).is_none() {
                return id;
            }
        }
    }

    /// The names and digests of secrets are shown; the values are for whoever holds the world itself.
    pub(crate) fn secret(&self, app: &str, name: &str) -> Option<String> {
        self.apps.get(app)?.secrets.get(name).cloned()
    }
}

pub(crate) fn millis(duration: Duration) -> Millis {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The text of a field, or nothing.
fn text<'v>(value: &'v Value, field: &str) -> Option<&'v str> {
    value.get(field).and_then(Value::as_str)
}

#[cfg(test)]
mod tests;
