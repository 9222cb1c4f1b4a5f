//! One call of the Machines API, as it was read from the wire. The table below is all that exists.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::answer::Answer;

macro_rules! endpoints {
    ($($variant:ident = $name:literal: $method:literal $path:literal,)*) => {
        /// An endpoint, or every one. Named in rules and counters as in `name()`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[expect(missing_docs, reason = "the names say it, and the table has their methods and paths")]
        pub enum Endpoint {
            /// Every endpoint; in rules only.
            #[serde(rename = "any")]
            Any,
            $(#[serde(rename = $name)] $variant,)*
        }

        impl Endpoint {
            /// Every endpoint with its name, method and path below `/v1`.
            pub const TABLE: &[(Endpoint, &str, &str, &str)] = &[$((Endpoint::$variant, $name, $method, $path),)*];
        }
    };
}

// The paths of the published document (docs.machines.dev) that a control plane needs. The app secrets are those of
// superfly/fly-go, flaps/flaps_secrets.go: POST with `values` sets many and deletes those that are null.
endpoints! {
    ListApps = "list_apps": "GET" "/apps",
    CreateApp = "create_app": "POST" "/apps",
    GetApp = "get_app": "GET" "/apps/{app}",
    DeleteApp = "delete_app": "DELETE" "/apps/{app}",
    ListSecrets = "list_secrets": "GET" "/apps/{app}/secrets",
    SetSecrets = "set_secrets": "POST" "/apps/{app}/secrets",
    SetSecret = "set_secret": "POST" "/apps/{app}/secrets/{key}",
    DeleteSecret = "delete_secret": "DELETE" "/apps/{app}/secrets/{key}",
    ListMachines = "list_machines": "GET" "/apps/{app}/machines",
    CreateMachine = "create_machine": "POST" "/apps/{app}/machines",
    GetMachine = "get_machine": "GET" "/apps/{app}/machines/{id}",
    UpdateMachine = "update_machine": "POST" "/apps/{app}/machines/{id}",
    DeleteMachine = "delete_machine": "DELETE" "/apps/{app}/machines/{id}",
    StartMachine = "start_machine": "POST" "/apps/{app}/machines/{id}/start",
    StopMachine = "stop_machine": "POST" "/apps/{app}/machines/{id}/stop",
    RestartMachine = "restart_machine": "POST" "/apps/{app}/machines/{id}/restart",
    SuspendMachine = "suspend_machine": "POST" "/apps/{app}/machines/{id}/suspend",
    CordonMachine = "cordon_machine": "POST" "/apps/{app}/machines/{id}/cordon",
    UncordonMachine = "uncordon_machine": "POST" "/apps/{app}/machines/{id}/uncordon",
    WaitMachine = "wait_machine": "GET" "/apps/{app}/machines/{id}/wait",
    ListEvents = "list_events": "GET" "/apps/{app}/machines/{id}/events",
    GetLease = "get_lease": "GET" "/apps/{app}/machines/{id}/lease",
    TakeLease = "take_lease": "POST" "/apps/{app}/machines/{id}/lease",
    ReleaseLease = "release_lease": "DELETE" "/apps/{app}/machines/{id}/lease",
    GetMetadata = "get_metadata": "GET" "/apps/{app}/machines/{id}/metadata",
    PutMetadata = "put_metadata": "PUT" "/apps/{app}/machines/{id}/metadata",
    GetMetadataKey = "get_metadata_key": "GET" "/apps/{app}/machines/{id}/metadata/{key}",
    SetMetadataKey = "set_metadata_key": "POST" "/apps/{app}/machines/{id}/metadata/{key}",
    DeleteMetadataKey = "delete_metadata_key": "DELETE" "/apps/{app}/machines/{id}/metadata/{key}",
    ListVolumes = "list_volumes": "GET" "/apps/{app}/volumes",
    CreateVolume = "create_volume": "POST" "/apps/{app}/volumes",
    GetVolume = "get_volume": "GET" "/apps/{app}/volumes/{id}",
    UpdateVolume = "update_volume": "PUT" "/apps/{app}/volumes/{id}",
    DeleteVolume = "delete_volume": "DELETE" "/apps/{app}/volumes/{id}",
    ExtendVolume = "extend_volume": "PUT" "/apps/{app}/volumes/{id}/extend",
}

impl Endpoint {
    /// The name in rules and counters.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::TABLE.iter().find(|row| row.0 == self).map_or("any", |row| row.1)
    }
}

/// A call, ready to be carried out now or later.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) endpoint: Endpoint,
    /// The app of the path, or the name that a create asks for.
    pub(crate) app: String,
    pub(crate) id: String,
    pub(crate) key: String,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) token: Option<String>,
    /// The header `fly-machine-lease-nonce`.
    pub(crate) nonce: Option<String>,
    pub(crate) body: Vec<u8>,
}

impl Call {
    /// Finds the endpoint of a method and a path that starts with `/v1`.
    ///
    /// # Errors
    /// 404 where there is no such path, 405 where it has no such method.
    pub(crate) fn route(method: &str, path: &str, query: &str) -> Result<Self, Answer> {
        let path = path.strip_prefix("/v1/").ok_or_else(|| Answer::error(404, "not found"))?;
        let parts: Vec<String> = path.split('/').map(decode).collect();
        let mut known = false;
        for (endpoint, _, wanted, pattern) in Endpoint::TABLE {
            let Some(found) = fill(pattern, &parts) else { continue };
            known = true;
            if *wanted == method {
                let part = |name: &str| found.get(name).cloned().unwrap_or_default();
                return Ok(Self {
                    endpoint: *endpoint,
                    app: part("app"),
                    id: part("id"),
                    key: part("key"),
                    query: pairs(query),
                    token: None,
                    nonce: None,
                    body: Vec::new(),
                });
            }
        }
        Err(if known { Answer::error(405, "method not allowed") } else { Answer::error(404, "not found") })
    }

    /// The body as `T`; an empty one counts as `{}`.
    ///
    /// # Errors
    /// 400 where it is not JSON, 422 where it is JSON of another shape.
    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T, Answer> {
        let text: &[u8] = if self.body.is_empty() { b"{}" } else { &self.body };
        let value: Value = serde_json::from_slice(text)
            .map_err(|error| Answer::error(400, format!("invalid_argument: malformed JSON: {error}")))?;
        if !value.is_object() {
            return Err(Answer::error(400, "invalid_argument: the body must be an object"));
        }
        T::deserialize(value).map_err(|error| Answer::error(422, format!("invalid_argument: {error}")))
    }

    /// Whether a flag of the query is set.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.query.get(name).is_some_and(|value| matches!(value.as_str(), "true" | "1"))
    }

    /// Learns the app's name from the body of a create, so that rules can name it.
    pub(crate) fn name_from_body(&mut self) {
        if self.endpoint == Endpoint::CreateApp {
            let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
            // fly-go sends `name`, the published document says `app_name`.
            let name = body.get("app_name").or_else(|| body.get("name")).and_then(Value::as_str);
            self.app = name.unwrap_or_default().to_owned();
        }
    }
}

fn fill<'p>(pattern: &'p str, parts: &[String]) -> Option<BTreeMap<&'p str, String>> {
    let pattern: Vec<&str> = pattern.trim_start_matches('/').split('/').collect();
    if pattern.len() != parts.len() {
        return None;
    }
    let mut found = BTreeMap::new();
    for (want, have) in pattern.iter().zip(parts) {
        match want.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
            Some(_) if have.is_empty() => return None,
            Some(name) => {
                found.insert(name, have.clone());
            }
            None if want == have => {}
            None => return None,
        }
    }
    Some(found)
}

fn pairs(query: &str) -> BTreeMap<String, String> {
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(&key.replace('+', " ")), decode(&value.replace('+', " ")))
    };
    query.split('&').filter(|one| !one.is_empty()).map(pair).collect()
}

/// Percent-decoding; what is not valid stays as it is.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = (*first == b'%').then(|| after.get(..2)).flatten();
        let byte = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match byte {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{Call, Endpoint, decode};

    #[test]
    fn every_row_of_the_table_is_found_by_its_own_path() {
        for (endpoint, name, method, path) in Endpoint::TABLE {
            let path = format!("/v1{}", path.replace("{app}", "a").replace("{id}", "i").replace("{key}", "k"));
            let call = Call::route(method, &path, "").expect("the table is complete");
            assert_eq!((call.endpoint, call.endpoint.name()), (*endpoint, *name));
        }
    }

    #[test]
    fn an_unknown_path_is_404_and_an_unknown_method_405() {
        let status = |method, path| Call::route(method, path, "").expect_err("it is not there").status;
        assert_eq!(status("GET", "/v1/planets"), 404);
        assert_eq!(status("GET", "/v2/apps"), 404);
        assert_eq!(status("PATCH", "/v1/apps"), 405);
    }

    #[test]
    fn queries_and_paths_are_decoded() {
        let call = Call::route("GET", "/v1/apps/a%2Db/machines", "metadata.k=a%20b+c&summary=true").expect("it is");
        assert_eq!((call.app.as_str(), call.query["metadata.k"].as_str()), ("a-b", "a b c"));
        assert!(call.flag("summary") && !call.flag("force"));
        assert_eq!(decode("100%"), "100%");
    }
}
