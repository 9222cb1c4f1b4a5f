//! The metadata of a machine. It lives in the configuration, and changing it makes no other version.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::machine::{Machine, State};
use super::{World, text};
use crate::answer::Answer;
use crate::call::Call;

#[derive(Deserialize)]
struct Put {
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    machine_version: Option<String>,
}

impl World {
    pub(super) fn get_metadata(&mut self, org: &str, call: &Call) -> Result<Answer, Answer> {
        let machine = self.known(org, &call.app, &call.id)?;
        let metadata = machine.config.get("metadata").filter(|metadata| metadata.is_object());
        Ok(Answer::json(200, metadata.cloned().unwrap_or_else(|| json!({}))))
    }

    /// The whole map, only if the machine still has the version that was named.
    pub(super) fn put_metadata(&mut self, org: &str, call: &Call) -> Result<Answer, Answer> {
        self.alive(org, call)?;
        let put: Put = call.parse()?;
        let version = &self.known(org, &call.app, &call.id)?.instance_id;
        if put.machine_version.is_some_and(|named| named != *version) {
            return Err(Answer::error(412, "failed_precondition: machine version mismatch"));
        }
        self.change(&call.app, &call.id, |machine| machine.config["metadata"] = json!(put.metadata));
        Ok(Answer::empty(204))
    }

    pub(super) fn get_metadata_key(&mut self, org: &str, call: &Call) -> Result<Answer, Answer> {
        let value = self.known(org, &call.app, &call.id)?.metadata(&call.key);
        let value = value.ok_or_else(|| Answer::error(404, "metadata key not found"))?;
        Ok(Answer::json(200, json!({ "value": value })))
    }

    pub(super) fn set_metadata_key(&mut self, org: &str, call: &Call) -> Result<Answer, Answer> {
        self.alive(org, call)?;
        let body: Value = call.parse()?;
        let value = text(&body, "value").ok_or_else(|| Answer::error(400, "invalid_argument: value is required"))?;
        self.change(&call.app, &call.id, |machine| {
            if !machine.config.get("metadata").is_some_and(Value::is_object) {
                machine.config["metadata"] = json!({});
            }
            machine.config["metadata"][&call.key] = Value::from(value);
        });
        Ok(Answer::empty(204))
    }

    pub(super) fn delete_metadata_key(&mut self, org: &str, call: &Call) -> Result<Answer, Answer> {
        self.alive(org, call)?;
        self.change(&call.app, &call.id, |machine| {
            if let Some(metadata) = machine.config.get_mut("metadata").and_then(Value::as_object_mut) {
                metadata.remove(&call.key);
            }
        });
        Ok(Answer::empty(204))
    }

    fn alive(&self, org: &str, call: &Call) -> Result<&Machine, Answer> {
        let machine = self.known(org, &call.app, &call.id)?;
        if machine.state == State::Destroyed { Err(Answer::error(404, "machine not found")) } else { Ok(machine) }
    }
}
