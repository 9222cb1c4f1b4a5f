//! The secrets of an app: written, and shown as names and digests only. Shapes from superfly/fly-go
//! (flaps/flaps_secrets.go and its types); a value that is null is deleted.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::Deserialize;
use serde_json::{Value, json};

use super::World;
use super::app::App;
use crate::answer::Answer;
use crate::call::Call;

#[derive(Deserialize)]
struct Many {
    values: BTreeMap<String, Option<String>>,
}

#[derive(Deserialize)]
struct One {
    value: String,
}

impl World {
    pub(super) fn list_secrets(&mut self, org: &str, call: &Call) -> Result<Answer, Answer> {
        Ok(Answer::json(200, json!({ "secrets": shown(self.app(org, &call.app)?) })))
    }

    pub(super) fn set_secrets(&mut self, org: &str, call: &Call) -> Result<Answer, Answer> {
        let many: Many = call.parse()?;
        self.write_secrets(org, call, many.values, 200)
    }

    pub(super) fn set_secret(&mut self, org: &str, call: &Call) -> Result<Answer, Answer> {
        let one: One = call.parse()?;
        self.write_secrets(org, call, BTreeMap::from([(call.key.clone(), Some(one.value))]), 201)
    }

    pub(super) fn delete_secret(&mut self, org: &str, call: &Call) -> Result<Answer, Answer> {
        if !self.app(org, &call.app)?.secrets.contains_key(&call.key) {
            return Err(Answer::error(404, "secret not found"));
        }
        self.write_secrets(org, call, BTreeMap::from([(call.key.clone(), None)]), 200)
    }

    fn write_secrets(
        &mut self,
        org: &str,
        call: &Call,
        values: BTreeMap<String, Option<String>>,
        status: u16,
    ) -> Result<Answer, Answer> {
        self.app_to_fill(org, &call.app)?;
        let is_name =
            |name: &String| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !values.keys().all(is_name) {
            return Err(Answer::error(422, "invalid_argument: a secret is named by letters, digits and underscores"));
        }
        let Some(app) = self.apps.get_mut(&call.app) else { return Err(Answer::error(404, "app not found")) };
        for (name, value) in values {
            match value {
                Some(value) => app.secrets.insert(name, value),
                None => app.secrets.remove(&name),
            };
        }
        app.secrets_version += 1;
        Ok(Answer::json(status, json!({ "secrets": shown(app), "version": app.secrets_version })))
    }
}

fn shown(app: &App) -> Vec<Value> {
    let one = |(name, value): (&String, &String)| json!({ "name": name, "digest": digest(value) });
    app.secrets.iter().map(one).collect()
}

/// Equal for equal values, and nothing more: a real digest is of no use to a test.
pub(super) fn digest(value: &str) -> String {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}
