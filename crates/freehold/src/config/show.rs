//! The configuration as it took effect, fit to be shown: passwords and secrets are left out.

use serde::Serialize;

use super::model::Config;
use super::secret::{REDACTED, SecretSource};

/// A configuration to be shown.
#[derive(Serialize)]
pub(crate) struct Shown<'a> {
    #[serde(flatten)]
    config: &'a Config,
    secrets: Vec<ShownSecret>,
}

/// Whether a secret is there, and where it comes from.
#[derive(Serialize)]
struct ShownSecret {
    setting: &'static str,
    from: String,
    value: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

impl ShownSecret {
    fn of(source: &SecretSource<'_>, env: &dyn Fn(&str) -> Option<String>) -> Self {
        let (value, problem) = match source.read(env) {
            Ok(secret) => (secret.map(|_| REDACTED), None),
            Err(error) => (None, Some(error.to_string())),
        };
        Self { setting: source.path, from: source.describe(), value, problem }
    }
}

impl<'a> Shown<'a> {
    /// Prepares a configuration to be shown, looking which of its secrets are there.
    pub(crate) fn of(config: &'a Config, env: &dyn Fn(&str) -> Option<String>) -> Self {
        Self { config, secrets: config.secrets().iter().map(|source| ShownSecret::of(source, env)).collect() }
    }

    /// As TOML that could be read again, with comments about the secrets.
    ///
    /// # Errors
    /// None in practice: every setting was read from TOML.
    pub(crate) fn to_toml(&self) -> Result<String, toml::ser::Error> {
        let mut text = toml::to_string(self.config)?;
        text.push_str("\n# secrets\n");
        for ShownSecret { setting, from, value, problem } in &self.secrets {
            let state = match (value, problem) {
                (Some(value), _) => (*value).to_owned(),
                (None, Some(problem)) => problem.clone(),
                (None, None) => "not set".to_owned(),
            };
            text.push_str(&format!("# {setting}: {state} (from {from})\n"));
        }
        Ok(text)
    }
}
