//! A machine's life: its states, and the commands that move it from one to another.

use std::time::Duration;

use serde_json::{Value, json};

use super::lease::Lease;
use super::view::{image_ref, time};
use super::{Due, Millis, World, text};
use crate::answer::Answer;
use crate::call::Call;

/// Most events that a machine remembers, and that a call can ask for (the published document).
const EVENTS_MAX: usize = 50;
/// The longest wait, in seconds (the published document).
const WAIT_SECONDS_MAX: u64 = 60;

macro_rules! states {
    ($($variant:ident = $name:literal,)*) => {
        /// The states of the published document that the simulation knows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum State { $($variant,)* }

        impl State {
            pub(super) fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            pub(super) fn named(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

states! {
    Created = "created",
    Starting = "starting",
    Started = "started",
    Stopping = "stopping",
    Stopped = "stopped",
    Suspending = "suspending",
    Suspended = "suspended",
    Restarting = "restarting",
    Replacing = "replacing",
    Failed = "failed",
    Destroying = "destroying",
    Destroyed = "destroyed",
}

#[derive(Debug)]
pub(super) struct Machine {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) region: String,
    pub(super) state: State,
    /// Rises with every command, so that what an earlier one had in store does not happen.
    pub(super) step: u64,
    pub(super) config: Value,
    pub(super) image: String,
    pub(super) volume: Option<String>,
    /// The version.
    pub(super) instance_id: String,
    pub(super) private_ip: String,
    pub(super) cordoned: bool,
    pub(super) lease: Option<Lease>,
    pub(super) created: Millis,
    pub(super) updated: Millis,
    /// The newest first.
    pub(super) events: Vec<Value>,
}

impl Machine {
    /// As the API shows it. A summary is without the configuration, the checks, the events, the host and the nonce, as
    /// the published document says of `summary`.
    pub(super) fn shown(&self, summary: bool) -> Value {
        let mut shown = json!({
            "id": self.id,
            "name": self.name,
            "state": self.state.name(),
            "region": self.region,
            "instance_id": self.instance_id,
            "private_ip": self.private_ip,
            "image_ref": image_ref(&self.image),
            "created_at": time(self.created),
            "updated_at": time(self.updated),
        });
        if !summary {
            shown["config"] = self.config.clone();
            shown["events"] = Value::from(self.events.clone());
            shown["checks"] = json!([]);
            shown["host_status"] = json!("ok");
        }
        shown
    }

    pub(super) fn metadata(&self, key: &str) -> Option<&str> {
        self.config.get("metadata").and_then(|metadata| text(metadata, key))
    }
}

impl World {
    pub(super) fn list_machines(&mut self, org: &str, call: &Call) -> Result<Answer, Answer> {
        let app = self.app(org, &call.app)?;
        let wanted = |machine: &Machine| {
            let there = call.flag("include_deleted") || machine.state != State::Destroyed;
            let here = call.query.get("region").is_none_or(|region| region.is_empty() || *region == machine.region);
            let states = call.query.get("state").filter(|states| !states.is_empty());
            let so = states.is_none_or(|states| states.split(',').any(|state| state.trim() == machine.state.name()));
            let filters = call.query.iter().filter_map(|(key, value)| Some((key.strip_prefix("metadata.")?, value)));
            there && here && so && filters.into_iter().all(|(key, value)| machine.metadata(key) == Some(value))
        };
        let machines = app.machines.values().filter(|machine| wanted(machine));
        let summary = call.flag("summary");
        let shown: Vec<Value> = machines.map(|machine| machine.shown(summary)).collect();
        Ok(Answer::json(200, Value::from(shown)))
    }

    /// A destroyed machine can still be read for a while.
    pub(super) fn get_machine(&mut self, org: &str, call: &Call) -> Result<Answer, Answer> {
        let machine = self.known(org, &call.app, &call.id)?;
        Ok(Answer::json(200, machine.shown(false)))
    }

    pub(super) fn start_machine(&mut self, org: &str, call: &Call) -> Result<Answer, Answer> {
        let state = self.leased(org, call)?;
        match state {
            State::Started | State::Starting => {}
            State::Stopped | State::Suspended | State::Failed => {
                let boot = self.options.boot;
                self.go(&call.app, &call.id, &[(Duration::ZERO, State::Starting), (boot, State::Started)]);
            }
            // The text of the live API, also for a machine whose image is still being prepared.
            State::Created
            | State::Stopping
            | State::Suspending
            | State::Restarting
            | State::Replacing
            | State::Destroying
            | State::Destroyed => return Err(refused("start", state)),
        }
        // fly-go's `MachineStartResponse`.
        Ok(Answer::json(200, json!({ "previous_state": state.name() })))
    }

    /// Stopping what is stopped is fine.
    pub(super) fn stop_machine(&mut self, org: &str, call: &Call) -> Result<Answer, Answer> {
        self.halt(org, call, "stop", State::Stopping, State::Stopped)
    }

    pub(super) fn suspend_machine(&mut self, org: &str, call: &Call) -> Result<Answer, Answer> {
        self.halt(org, call, "suspend", State::Suspending, State::Suspended)
    }

    fn halt(&mut self, org: &str, call: &Call, verb: &str, on_the_way: State, end: State) -> Result<Answer, Answer> {
        let state = self.leased(org, call)?;
        let _: Value = call.parse()?;
        if state == end || state == on_the_way {
            return Ok(Answer::ok());
        }
        match state {
            State::Started | State::Starting => {
                let wait = self.options.halt;
                self.go(&call.app, &call.id, &[(Duration::ZERO, on_the_way), (wait, end)]);
                Ok(Answer::ok())
            }
            State::Suspended | State::Stopped | State::Failed if end == State::Stopped => {
                self.go(&call.app, &call.id, &[(Duration::ZERO, State::Stopped)]);
                Ok(Answer::ok())
            }
            State::Created
            | State::Stopping
            | State::Stopped
            | State::Suspending
            | State::Suspended
            | State::Restarting
            | State::Replacing
            | State::Failed
            | State::Destroying
            | State::Destroyed => Err(refused(verb, state)),
        }
    }

    pub(super) fn restart_machine(&mut self, org: &str, call: &Call) -> Result<Answer, Answer> {
        let state = self.leased(org, call)?;
        if !matches!(state, State::Started | State::Stopped | State::Suspended | State::Failed) {
            return Err(refused("restart", state));
        }
        let boot = self.options.boot;
        self.go(&call.app, &call.id, &[(Duration::ZERO, State::Restarting), (boot, State::Started)]);
        Ok(Answer::ok())
    }

    pub(super) fn cordon_machine(&mut self, org: &str, call: &Call, cordoned: bool) -> Result<Answer, Answer> {
        self.leased(org, call)?;
        self.change(&call.app, &call.id, |machine| machine.cordoned = cordoned);
        Ok(Answer::ok())
    }

    /// 404 where it is gone already; 412 where it runs and force is not asked for.
    pub(super) fn delete_machine(&mut self, org: &str, call: &Call) -> Result<Answer, Answer> {
        let state = self.leased(org, call)?;
        // fly-go says `kill` for what the document calls `force`.
        let force = call.flag("force") || call.flag("kill");
        match state {
            State::Destroyed => return Err(Answer::error(404, "machine not found")),
            State::Destroying => return Ok(Answer::ok()),
            State::Created | State::Stopped | State::Suspended | State::Failed => {}
            State::Starting
            | State::Started
            | State::Stopping
            | State::Suspending
            | State::Restarting
            | State::Replacing => {
                if !force {
                    // The text of the live API.
                    let error = "failed_precondition: unable to destroy machine, not currently stopped, suspended, \
                                 failed or created";
                    return Err(Answer::error(412, error));
                }
            }
        }
        self.destroy(&call.app, &call.id);
        Ok(Answer::ok())
    }

    /// `None`: not yet. The caller asks again until the time-out, and says 408 then.
    pub(super) fn wait_machine(&mut self, org: &str, call: &Call) -> Result<Option<Answer>, Answer> {
        let wanted = call.query.get("state").map_or("started", String::as_str);
        let known = ["started", "stopped", "suspended", "destroyed", "failed", "settled"].contains(&wanted);
        if !known {
            return Err(Answer::error(400, format!("invalid_argument: invalid state {wanted}")));
        }
        wait_seconds(call)?;
        let version = call.query.get("version").or_else(|| call.query.get("instance_id"));
        if wanted == "stopped" && version.is_none() {
            return Err(Answer::error(400, "invalid_argument: instance_id is required to wait for stopped"));
        }
        let machine = self.known(org, &call.app, &call.id)?;
        // An earlier version is `replaced`, and nothing else will come of it.
        let current = version.is_none_or(|version| *version == machine.instance_id);
        let settled = matches!(
            machine.state,
            State::Created | State::Started | State::Stopped | State::Suspended | State::Failed | State::Destroyed
        );
        let there = current && (machine.state.name() == wanted || (wanted == "settled" && settled));
        Ok(there.then(|| Answer::json(200, json!({ "ok": true, "state": machine.state.name() }))))
    }

    /// What a wait that has lasted long enough is told. The text is that of the live API.
    pub(crate) fn wait_is_over(&self, call: &Call) -> Answer {
        let wanted = call.query.get("state").map_or("started", String::as_str);
        let state = self.machine(&call.app, &call.id).map_or("unknown", |machine| machine.state.name());
        let error = format!("deadline_exceeded: machine failed to reach desired state, {wanted}, currently {state}");
        Answer::error(408, error)
    }

    pub(super) fn list_events(&mut self, org: &str, call: &Call) -> Result<Answer, Answer> {
        let limit = call.query.get("limit").map(|limit| limit.parse::<usize>());
        let limit = match limit {
            None => EVENTS_MAX,
            Some(Ok(limit)) if (1..=EVENTS_MAX).contains(&limit) => limit,
            Some(_) => return Err(Answer::error(400, "invalid_argument: limit is from 1 to 50")),
        };
        let events = &self.known(org, &call.app, &call.id)?.events;
        Ok(Answer::json(200, Value::from(events.iter().take(limit).cloned().collect::<Vec<_>>())))
    }

    pub(super) fn destroy(&mut self, app: &str, id: &str) {
        let wait = self.options.halt;
        self.go(app, id, &[(Duration::ZERO, State::Destroying), (wait, State::Destroyed)]);
    }

    /// A machine is in this state from now on.
    pub(super) fn enter(&mut self, app: &str, id: &str, state: State) {
        let event = json!({
            "id": self.ulid(),
            "type": match state {
                State::Created => "launch",
                State::Starting | State::Started => "start",
                State::Stopping | State::Stopped | State::Failed => "exit",
                State::Suspending | State::Suspended => "suspend",
                State::Restarting => "restart",
                State::Replacing => "update",
                State::Destroying | State::Destroyed => "destroy",
            },
            "status": state.name(),
            "source": "flyd",
            "timestamp": self.now,
        });
        let now = self.now;
        let mut volume = None;
        self.change(app, id, |machine| {
            machine.state = state;
            machine.updated = now;
            machine.events.insert(0, event);
            machine.events.truncate(EVENTS_MAX);
            if state == State::Destroyed {
                volume = machine.volume.take();
                machine.lease = None;
            }
        });
        if state == State::Destroyed {
            self.attach(app, volume.as_deref(), None);
            self.ledger.gone(id, now);
            self.later(self.options.remember, Due::Forget { app: app.to_owned(), id: id.to_owned() });
        }
    }

    pub(super) fn machine(&self, app: &str, id: &str) -> Option<&Machine> {
        self.apps.get(app)?.machines.get(id)
    }

    pub(super) fn known(&self, org: &str, app: &str, id: &str) -> Result<&Machine, Answer> {
        self.app(org, app)?.machines.get(id).ok_or_else(|| Answer::error(404, "machine not found"))
    }

    pub(super) fn change(&mut self, app: &str, id: &str, with: impl FnOnce(&mut Machine)) {
        if let Some(machine) = self.apps.get_mut(app).and_then(|app| app.machines.get_mut(id)) {
            with(machine);
        }
    }
}

/// How long a wait lasts. Seconds.
pub(crate) fn wait_seconds(call: &Call) -> Result<u64, Answer> {
    match call.query.get("timeout").map(|timeout| timeout.parse::<u64>()) {
        None => Ok(WAIT_SECONDS_MAX),
        Some(Ok(seconds)) if seconds <= WAIT_SECONDS_MAX => Ok(seconds),
        Some(_) => Err(Answer::error(400, "invalid_argument: timeout is from 0 to 60 seconds")),
    }
}

fn refused(verb: &str, state: State) -> Answer {
    let error = format!("failed_precondition: unable to {verb} machine from current state: '{}'", state.name());
    Answer::error(412, error)
}
