//! Who may call which route. The OpenAPI document is the table: what an operation says under `security` is what is
//! enforced, and an operation that says nothing lets nobody in but operators. End users come in where `user` is named.

use std::collections::HashMap;
use std::sync::Arc;

use http::Method;
use serde_json::Value;

use crate::auth::{Access, Door};

/// How callers of a route show their key and read refusals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Wire {
    /// A bearer key, and problem details.
    #[default]
    V1,
    /// As [`crate::platform`] has it.
    Platform,
    /// As [`crate::trpc`] has it: a bearer key, and refusals in the shape of the calls.
    Trpc,
}

/// A route, with what its methods ask of their callers.
#[derive(Clone, Debug)]
pub(crate) struct Guarded {
    /// Its pattern, as it is named in metrics and logs.
    pub(crate) route: Arc<str>,
    /// How callers show their key and read refusals.
    pub(crate) wire: Wire,
    methods: Vec<(Method, Door)>,
}

impl Guarded {
    /// What a method asks of its caller. One that is not in the document asks for the most.
    pub(crate) fn door(&self, method: &Method) -> Door {
        let said = |method: &Method| self.methods.iter().find(|(name, _)| name == method).map(|(_, door)| *door);
        let head = || said(&Method::GET).filter(|_| *method == Method::HEAD);
        said(method).or_else(head).unwrap_or_else(|| self.least())
    }

    /// For methods that the route does not have, which end in 405: whoever may use it at all may learn that.
    fn least(&self) -> Door {
        let doors = || self.methods.iter().map(|(_, door)| *door);
        let key = doors().map(|door| door.key).min().unwrap_or(Door::SHUT.key);
        Door { key, users: doors().any(|door| door.users) }
    }

    /// A route that asks the same of every method.
    pub(crate) fn always(route: &str, door: Door) -> Self {
        let methods = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];
        let methods = methods.map(|method| (method, door)).to_vec();
        Self { route: Arc::from(route), wire: Wire::default(), methods }
    }

    /// The same route, spoken to in another way.
    pub(crate) fn speaking(self, wire: Wire) -> Self {
        Self { wire, ..self }
    }

    /// Where tRPC is spoken: whether somebody is there may be asked by whoever comes.
    pub(crate) fn trpc(route: &str, door: Door) -> Self {
        let mut guarded = Self::always(route, door);
        guarded.methods.push((Method::HEAD, Door::OPEN));
        guarded.speaking(Wire::Trpc)
    }
}

/// Every route, by its pattern.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table(HashMap<String, Guarded>);

impl Table {
    /// As the document says.
    pub(crate) fn of(document: &Value) -> Self {
        let paths = document["paths"].as_object();
        let guarded = paths.into_iter().flatten().map(|(path, item)| {
            let methods = item.as_object().into_iter().flatten().filter_map(|(name, operation)| {
                let method = Method::from_bytes(name.to_ascii_uppercase().as_bytes()).ok()?;
                Some((method, door_of(operation)))
            });
            (path.clone(), Guarded { route: Arc::from(path.as_str()), wire: Wire::V1, methods: methods.collect() })
        });
        Self(guarded.collect())
    }

    /// And one route that is not in the document.
    pub(crate) fn with(mut self, guarded: Guarded) -> Self {
        self.0.insert(guarded.route.to_string(), guarded);
        self
    }

    /// The route of a pattern.
    pub(crate) fn find(&self, pattern: &str) -> Option<&Guarded> {
        self.0.get(pattern)
    }
}

fn door_of(operation: &Value) -> Door {
    let asked = |requirement: &Value| requirement["key"][0].as_str().and_then(Access::named);
    match operation["security"].as_array().map(Vec::as_slice) {
        Some([Value::Object(requirement)]) if requirement.is_empty() => Door::OPEN,
        Some([requirement]) => asked(requirement).map_or(Door::SHUT, |key| Door { key, users: false }),
        Some([requirement, user]) if user.get("user").is_some() => {
            asked(requirement).map_or(Door::SHUT, |key| Door { key, users: true })
        }
        Some(_) | None => Door::SHUT,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_document_decides_and_silence_lets_nobody_in() {
        let table = Table::of(&json!({"paths": {"/a": {
            "get": {"security": [{"key": ["viewer"]}]},
            "post": {"security": [{}]},
            "put": {},
            "patch": {"security": [{"key": ["nonsense"]}]},
            "delete": {"security": [{"key": ["platform"]}, {}]},
            "trace": {"security": [{"user": []}]},
        }, "/b": {"put": {"security": [{"key": ["platform"]}, {"user": []}]}}}}));
        let a = table.find("/a").unwrap();
        let keys = |key| Door { key, users: false };
        for (method, door) in [
            (Method::GET, keys(Access::Viewer)),
            (Method::HEAD, keys(Access::Viewer)),
            (Method::POST, Door::OPEN),
            (Method::PUT, Door::SHUT),
            (Method::PATCH, Door::SHUT),
            (Method::DELETE, Door::SHUT),
            (Method::TRACE, Door::SHUT),
        ] {
            assert_eq!(a.door(&method), door, "{method}");
        }
        let both = Door { key: Access::Platform, users: true };
        let b = table.find("/b").unwrap();
        assert_eq!(b.door(&Method::PUT), both);
        assert_eq!(b.door(&Method::GET), both, "to learn that there is no GET");
        assert!(table.find("/c").is_none());
    }
}
