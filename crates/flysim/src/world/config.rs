//! What a machine's configuration must look like. Fields that no check names are kept and given back as they came.

use serde_json::Value;

use super::text;
use crate::answer::Answer;

/// What the world needs to know of a configuration.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) image: String,
    /// The id in its one mount.
    pub(super) volume: Option<String>,
}

/// Reads a configuration.
///
/// # Errors
/// 400 where the image is missing from its registry, as Fly has it; 422 for everything else.
pub(super) fn check(config: &Value, missing_images: &[String]) -> Result<Checked, Answer> {
    if !config.is_object() {
        return Err(invalid("config is required"));
    }
    let image = text(config, "image").filter(|image| !image.trim().is_empty());
    let image = image.ok_or_else(|| invalid("config.image is required"))?;
    if missing_images.iter().any(|prefix| image.starts_with(prefix.as_str())) {
        // The text is what the live API says of a tag that its registry does not have, with status 400.
        return Err(Answer::error(
            400,
            format!(
                "failed to get manifest {image}: request failed: not found [http 404]: \
                 {{\"errors\":[{{\"code\":\"MANIFEST_UNKNOWN\",\"message\":\"manifest unknown\"}}]}}"
            ),
        ));
    }
    for map in ["env", "metadata"] {
        let fine = |value: &Value| value.as_object().is_some_and(|map| map.values().all(Value::is_string));
        if !config.get(map).is_none_or(|value| value.is_null() || fine(value)) {
            return Err(invalid(&format!("config.{map} must be a map of strings")));
        }
    }
    check_guest(config.get("guest"))?;
    let policy = config.get("restart").and_then(|restart| text(restart, "policy"));
    if !policy.is_none_or(|policy| matches!(policy, "" | "no" | "always" | "on-failure" | "on-fail" | "spot-price")) {
        return Err(invalid("config.restart.policy is not one of no, always, on-failure"));
    }
    Ok(Checked { image: image.to_owned(), volume: check_mounts(config.get("mounts"))? })
}

fn check_guest(guest: Option<&Value>) -> Result<(), Answer> {
    let Some(guest) = guest.filter(|guest| !guest.is_null()) else { return Ok(()) };
    if !text(guest, "cpu_kind").is_none_or(|kind| matches!(kind, "shared" | "performance")) {
        return Err(invalid("config.guest.cpu_kind is not one of shared, performance"));
    }
    if !guest.get("cpus").is_none_or(|cpus| matches!(cpus.as_u64(), Some(1 | 2 | 4 | 6 | 8 | 10 | 12 | 14 | 16))) {
        return Err(invalid("config.guest.cpus is not a size that exists"));
    }
    let fits = |memory: u64| memory > 0 && memory.is_multiple_of(256);
    if !guest.get("memory_mb").is_none_or(|memory| memory.as_u64().is_some_and(fits)) {
        return Err(invalid("config.guest.memory_mb must be a multiple of 256"));
    }
    Ok(())
}

/// At most one mount, of a volume named by its id, at an absolute path.
fn check_mounts(mounts: Option<&Value>) -> Result<Option<String>, Answer> {
    let Some(mounts) = mounts.filter(|mounts| !mounts.is_null()) else { return Ok(None) };
    let mounts = mounts.as_array().ok_or_else(|| invalid("config.mounts must be a list"))?;
    match mounts.as_slice() {
        [] => Ok(None),
        [mount] => {
            let volume = text(mount, "volume").filter(|volume| !volume.is_empty());
            let volume = volume.ok_or_else(|| invalid("config.mounts[0].volume is required"))?;
            if !text(mount, "path").is_some_and(|path| path.starts_with('/') && path.len() > 1) {
                return Err(invalid("config.mounts[0].path must be an absolute path"));
            }
            Ok(Some(volume.to_owned()))
        }
        _ => Err(invalid("a machine has at most one volume")),
    }
}

fn invalid(what: &str) -> Answer {
    Answer::error(422, format!("invalid_argument: {what}"))
}

#[cfg(test)]
mod tests {
    use super::check;
    use serde_json::{Value, json};

    fn status(config: &Value) -> u16 {
        check(config, &["missing/".to_owned()]).map_or_else(|refusal| refusal.status, |_| 200)
    }

    #[test]
    fn what_is_wrong_is_422_and_a_missing_image_400() {
        for (config, expected) in [
            (json!({ "image": "app:1" }), 200),
            (json!({ "image": "app:1", "unknown": [1] }), 200),
            (json!(null), 422),
            (json!({}), 422),
            (json!({ "image": "missing/app:1" }), 400),
            (json!({ "image": "a", "env": { "A": 1 } }), 422),
            (json!({ "image": "a", "metadata": [] }), 422),
            (json!({ "image": "a", "guest": { "cpu_kind": "shared", "cpus": 1, "memory_mb": 256 } }), 200),
            (json!({ "image": "a", "guest": { "cpu_kind": "quantum" } }), 422),
            (json!({ "image": "a", "guest": { "cpus": 3 } }), 422),
            (json!({ "image": "a", "guest": { "memory_mb": 100 } }), 422),
            (json!({ "image": "a", "restart": { "policy": "maybe" } }), 422),
            (json!({ "image": "a", "mounts": [{ "volume": "vol_1", "path": "/data" }] }), 200),
            (json!({ "image": "a", "mounts": [{ "volume": "vol_1", "path": "data" }] }), 422),
            (json!({ "image": "a", "mounts": [{ "path": "/data" }] }), 422),
            (
                json!({ "image": "a", "mounts": [{ "volume": "a", "path": "/a" }, { "volume": "b", "path": "/b" }] }),
                422,
            ),
        ] {
            assert_eq!(status(&config), expected, "{config}");
        }
    }
}
