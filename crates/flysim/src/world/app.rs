//! Apps: one namespace for everybody, each in one organisation.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::machine::{Machine, State};
use super::volume::Volume;
use super::{Due, Kind, Millis, World};
use crate::answer::Answer;
use crate::call::Call;

/// The longest name of an app or a machine: both are labels of the domain name system.
pub(super) const NAME_MAX: usize = 63;

#[derive(Debug)]
pub(super) struct App {
    pub(super) id: String,
    pub(super) org: String,
    pub(super) network: String,
    pub(super) created: Millis,
    /// Deleted, and not gone yet.
    pub(super) deleting: bool,
    pub(super) machines: BTreeMap<String, Machine>,
    pub(super) volumes: BTreeMap<String, Volume>,
    pub(super) secrets: BTreeMap<String, String>,
    pub(super) secrets_version: u64,
}

#[derive(Deserialize)]
struct CreateApp {
    #[serde(alias = "name")]
    app_name: String,
    org_slug: Option<String>,
    network: Option<String>,
}

impl World {
    pub(super) fn list_apps(&mut self, org: &str, call: &Call) -> Result<Answer, Answer> {
        let asked = call.query.get("org_slug").map_or(org, String::as_str);
        if asked != org {
            return Err(Answer::error(403, "unauthorized"));
        }
        let apps: Vec<Value> =
            self.apps.iter().filter(|(_, app)| app.org == org).map(|(name, app)| shown(name, app)).collect();
        Ok(Answer::json(200, json!({ "total_apps": apps.len(), "apps": apps })))
    }

    pub(super) fn create_app(&mut self, org: &str, call: &Call) -> Result<Answer, Answer> {
        let asked: CreateApp = call.parse()?;
        if !is_label(&asked.app_name) {
            return Err(Answer::error(422, "Name may only contain lowercase letters, numbers and dashes"));
        }
        if asked.org_slug.is_some_and(|slug| slug != org) {
            return Err(Answer::error(403, "unauthorized"));
        }
        // Also while the former bearer of the name is on its way out.
        if self.apps.contains_key(&asked.app_name) {
            return Err(Answer::coded(422, "Name has already been taken", "name_taken"));
        }
        let id = self.add_app(org, &asked.app_name, asked.network.as_deref().unwrap_or("default"));
        // fly.io/docs/machines/api/apps-resource: the id and a number of milliseconds.
        Ok(Answer::json(201, json!({ "id": id, "created_at": self.now })))
    }

    /// Makes an app, whoever asks. The name is free.
    pub(super) fn add_app(&mut self, org: &str, name: &str, network: &str) -> String {
        let id = self.id("", b"0123456789abcdefghijklmnopqrstuvwxyz", 16);
        let app = App {
            id: id.clone(),
            org: org.to_owned(),
            network: network.to_owned(),
            created: self.now,
            deleting: false,
            machines: BTreeMap::new(),
            volumes: BTreeMap::new(),
            secrets: BTreeMap::new(),
            secrets_version: 0,
        };
        self.apps.insert(name.to_owned(), app);
        self.ledger.made(Kind::App, &id, name, name, self.now);
        id
    }

    pub(super) fn get_app(&mut self, org: &str, call: &Call) -> Result<Answer, Answer> {
        let app = self.app(org, &call.app)?;
        Ok(Answer::json(200, shown(&call.app, app)))
    }

    /// 202: the app is still there for a while, and refuses creates.
    pub(super) fn delete_app(&mut self, org: &str, call: &Call) -> Result<Answer, Answer> {
        let app = self.app(org, &call.app)?;
        if app.deleting {
            return Ok(Answer::empty(202));
        }
        let running: Vec<String> =
            app.machines.values().filter(|one| one.state != State::Destroyed).map(|one| one.id.clone()).collect();
        if !running.is_empty() && !call.flag("force") {
            // The document names no status of its own for this; 412 is what Fly says of a state that does not allow it.
            return Err(Answer::error(412, "failed_precondition: app still has machines"));
        }
        let id = app.id.clone();
        if let Some(app) = self.apps.get_mut(&call.app) {
            app.deleting = true;
        }
        for machine in running {
            self.destroy(&call.app, &machine);
        }
        let wait = self.options.app_gone;
        if wait.is_zero() {
            self.drop_app(&call.app);
        } else {
            self.later(wait, Due::App { name: call.app.clone(), id });
        }
        Ok(Answer::empty(202))
    }

    /// The app is gone, with everything in it.
    pub(super) fn drop_app(&mut self, name: &str) {
        let Some(app) = self.apps.remove(name) else { return };
        for id in app.machines.keys().chain(app.volumes.keys()).chain([&app.id]) {
            self.ledger.gone(id, self.now);
        }
    }

    /// The app, as far as the caller may see it.
    pub(super) fn app(&self, org: &str, name: &str) -> Result<&App, Answer> {
        match self.apps.get(name) {
            None => Err(Answer::error(404, "app not found")),
            Some(app) if app.org != org => Err(Answer::error(403, "unauthorized")),
            Some(app) => Ok(app),
        }
    }

    /// The app, to make something in it.
    pub(super) fn app_to_fill(&self, org: &str, name: &str) -> Result<&App, Answer> {
        let app = self.app(org, name)?;
        if app.deleting { Err(Answer::error(422, "app is being deleted")) } else { Ok(app) }
    }
}

/// The shape of fly-go's `App` (flaps/flaps_apps.go).
fn shown(name: &str, app: &App) -> Value {
    let live = app.machines.values().filter(|machine| machine.state != State::Destroyed).count();
    let status = match (app.deleting, live) {
        (true, _) => "pending_delete",
        (false, 0) => "pending",
        (false, _) => "deployed",
    };
    json!({
        "id": app.id,
        "name": name,
        "organization": { "name": app.org, "slug": app.org },
        "network": app.network,
        "status": status,
        "machine_count": live,
        "volume_count": app.volumes.len(),
    })
}

/// Lowercase letters, digits and dashes, from a letter or digit to another.
pub(super) fn is_label(name: &str) -> bool {
    let inner = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    inner && !name.is_empty() && name.len() <= NAME_MAX && !name.starts_with('-') && !name.ends_with('-')
}
