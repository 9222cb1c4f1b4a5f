//! Whatever was ever made is written down here and never taken out: "exactly one, now and ever" is a look at it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Millis;

/// What sort of thing was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Kind {
    App,
    Machine,
    Volume,
}

/// One thing that was made, by whomever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// What it is.
    pub kind: Kind,
    /// Its id.
    pub id: String,
    /// The app that it is, or is in.
    pub app: String,
    /// Its name.
    pub name: String,
    /// When it was made. Milliseconds since 1970.
    pub made_at: u64,
    /// When it was gone for good. Milliseconds since 1970.
    pub gone_at: Option<u64>,
}

/// The counts of one app's name, over every app that ever had it. A machine is live until it is destroyed, a volume
/// until it is gone for good, also while it is on its way out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Tally {
    pub apps_made: u64,
    pub machines_made: u64,
    pub machines_live: u64,
    /// The most machines that were live at the same time.
    pub machines_live_max: u64,
    pub volumes_made: u64,
    pub volumes_live: u64,
    /// The most volumes that were live at the same time.
    pub volumes_live_max: u64,
}

/// What became of the effects that came late.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Late {
    /// Still to come.
    pub waiting: u64,
    /// Came, and had their effect.
    pub done: u64,
    /// Came, and were refused by the world as it was by then.
    pub refused: u64,
}

/// See the top of the file.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) made: Vec<Made>,
    pub(crate) tallies: BTreeMap<String, Tally>,
    pub(crate) endpoints: BTreeMap<String, u64>,
    pub(crate) faults: BTreeMap<String, u64>,
    pub(crate) statuses: BTreeMap<u16, u64>,
    pub(crate) late: Late,
}

impl Ledger {
    pub(crate) fn made(&mut self, kind: Kind, id: &str, app: &str, name: &str, now: Millis) {
        let tally = self.tallies.entry(app.to_owned()).or_default();
        match kind {
            Kind::App => tally.apps_made += 1,
            Kind::Machine => {
                tally.machines_made += 1;
                tally.machines_live += 1;
                tally.machines_live_max = tally.machines_live_max.max(tally.machines_live);
            }
            Kind::Volume => {
                tally.volumes_made += 1;
                tally.volumes_live += 1;
                tally.volumes_live_max = tally.volumes_live_max.max(tally.volumes_live);
            }
        }
        let (id, app, name) = (id.to_owned(), app.to_owned(), name.to_owned());
        self.made.push(Made { kind, id, app, name, made_at: now, gone_at: None });
    }

    /// Something is gone for good. Said twice, it counts once.
    pub(crate) fn gone(&mut self, id: &str, now: Millis) {
        let Some(made) = self.made.iter_mut().rfind(|made| made.id == id && made.gone_at.is_none()) else { return };
        made.gone_at = Some(now);
        let tally = self.tallies.entry(made.app.clone()).or_default();
        match made.kind {
            Kind::App => {}
            Kind::Machine => tally.machines_live -= 1,
            Kind::Volume => tally.volumes_live -= 1,
        }
    }

    pub(crate) fn asked(&mut self, endpoint: &str) {
        *self.endpoints.entry(endpoint.to_owned()).or_default() += 1;
    }

    pub(crate) fn met(&mut self, fault: &str) {
        *self.faults.entry(fault.to_owned()).or_default() += 1;
    }

    pub(crate) fn answered(&mut self, status: u16) {
        *self.statuses.entry(status).or_default() += 1;
    }
}
