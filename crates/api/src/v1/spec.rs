//! What an instance runs.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::json::child;
use crate::names::{Env, Secrets};
use crate::problem::FieldError;

/// The most words a command may have.
pub const COMMAND_WORDS_MAX: usize = 128;

/// The most bytes the words of a command may have together: a quarter of the largest request body (64 KiB).
pub const COMMAND_BYTES_MAX: usize = 16 * 1024;

/// The longest name of a template, tier or provider, in bytes: they are keys of the configuration.
pub const NAME_BYTES_MAX: usize = 64;

/// The longest image reference, in bytes: registry host, path, tag and digest.
pub const IMAGE_BYTES_MAX: usize = 512;

/// What to run, as a caller says it. What is left out comes from the template, or stays as it was in an update; a map
/// or list that is given replaces the whole one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The template to start from, by its name in the configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "hello", max_length = 64)]
    pub template: Option<String>,
    /// The image to run, at providers that run images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 512)]
    pub image: Option<String>,
    /// The program and its arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_items = 1, max_items = 128)]
    pub command: Option<Vec<String>>,
    /// Environment variables: names like `^[A-Za-z_][A-Za-z0-9_]*$` that do not start with `FREEHOLD_`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<std::collections::BTreeMap<String, String>>)]
    pub env: Option<Env>,
    /// Secret environment variables, named like the others. Encrypted at rest and never returned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<std::collections::BTreeMap<String, String>>)]
    pub secrets: Option<Secrets>,
}

impl Spec {
    /// Says what is wrong with it; `at` is the pointer to it.
    #[must_use]
    pub fn check(&self, at: &str) -> Vec<FieldError> {
        let Self { template, image, command, env, secrets } = self;
        let mut errors = Vec::new();
        errors.extend(check_name(template.as_deref(), &child(at, "template")));
        errors.extend(check_text(image.as_deref(), IMAGE_BYTES_MAX, &child(at, "image")));
        if let Some(command) = command {
            errors.extend(check_command(command, &child(at, "command")));
        }
        let env_at = child(at, "env");
        let secrets_at = child(at, "secrets");
        errors.extend(env.iter().flat_map(|env| env.check(&env_at)));
        errors.extend(secrets.iter().flat_map(|secrets| secrets.check(&secrets_at)));
        if let (Some(env), Some(secrets)) = (env, secrets) {
            let both = secrets.iter().filter(|(name, _)| env.get(name).is_some());
            errors.extend(both.map(|(name, _)| {
                FieldError::new(child(&secrets_at, name), "is in `env` as well; keep it in one of the two")
            }));
        }
        errors
    }
}

fn check_command(command: &[String], at: &str) -> Option<FieldError> {
    let bytes: usize = command.iter().map(String::len).sum();
    let detail = if command.first().is_none_or(String::is_empty) {
        "names no program; leave it out to run the template's".to_owned()
    } else if command.len() > COMMAND_WORDS_MAX {
        format!("has {} words; at most {COMMAND_WORDS_MAX} are taken", command.len())
    } else if bytes > COMMAND_BYTES_MAX {
        format!("has {bytes} bytes; at most {COMMAND_BYTES_MAX} are taken")
    } else if command.iter().any(|word| word.contains('\0')) {
        "a command cannot hold a NUL character".to_owned()
    } else {
        return None;
    };
    Some(FieldError::new(at, detail))
}

/// Checks the name of something in the configuration; whether it is there is for the server to say.
pub(super) fn check_name(name: Option<&str>, at: &str) -> Option<FieldError> {
    check_text(name, NAME_BYTES_MAX, at)
}

/// Checks a short text: printable ASCII without spaces, 1 to `most` bytes.
pub(super) fn check_text(text: Option<&str>, most: usize, at: &str) -> Option<FieldError> {
    let text = text?;
    let fits = (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    (!fits).then(|| FieldError::new(at, format!("takes 1 to {most} printable ASCII characters without spaces")))
}

/// What an instance runs, as it is read back: without secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SpecView {
    /// The template it started from.
    #[schema(required)]
    pub template: Option<String>,
    /// The image.
    #[schema(required)]
    pub image: Option<String>,
    /// The program and its arguments.
    #[schema(required)]
    pub command: Option<Vec<String>>,
    /// Environment variables.
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    pub env: Env,
}
