//! Who may call which route. The OpenAPI document is the table: what an operation says under `security` is what is
//! enforced, and an operation that says nothing lets nobody in but operators.

use std::collections::HashMap;
use std::sync::Arc;

use http::Method;
use serde_json::Value;

use crate::auth::Access;

/// A route, with what its methods ask of their callers.
#[derive(Clone, Debug)]
pub(crate) struct Guarded {
    /// Its pattern, as it is named in metrics and logs.
    pub(crate) route: Arc<str>,
    methods: Vec<(Method, Access)>,
}

impl Guarded {
    /// What a method asks of its caller. One that is not in the document asks for the most.
    pub(crate) fn access(&self, method: &Method) -> Access {
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        self.methods.iter().find(|(name, _)| name == method).map_or_else(|| self.least(), |(_, access)| *access)
    }

    /// For methods that the route does not have, which end in 405: whoever may use it at all may learn that.
    fn least(&self) -> Access {
        self.methods.iter().map(|(_, access)| *access).min().unwrap_or(Access::Operator)
    }

    /// A route that asks the same of every method.
    pub(crate) fn always(route: &str, access: Access) -> Self {
        let methods = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];
        Self { route: Arc::from(route), methods: methods.map(|method| (method, access)).to_vec() }
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
                Some((method, access_of(operation)))
            });
            (path.clone(), Guarded { route: Arc::from(path.as_str()), methods: methods.collect() })
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

fn access_of(operation: &Value) -> Access {
    match operation["security"].as_array().map(Vec::as_slice) {
        Some([Value::Object(requirement)]) if requirement.is_empty() => Access::Open,
        Some([requirement]) => requirement["key"][0].as_str().and_then(Access::named).unwrap_or(Access::Operator),
        Some(_) | None => Access::Operator,
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
        }, "/b": {"put": {"security": [{"key": ["platform"]}]}}}}));
        let a = table.find("/a").unwrap();
        for (method, access) in [
            (Method::GET, Access::Viewer),
            (Method::HEAD, Access::Viewer),
            (Method::POST, Access::Open),
            (Method::PUT, Access::Operator),
            (Method::PATCH, Access::Operator),
            (Method::DELETE, Access::Operator),
        ] {
            assert_eq!(a.access(&method), access, "{method}");
        }
        assert_eq!(table.find("/b").unwrap().access(&Method::GET), Access::Platform, "to learn that there is no GET");
        assert!(table.find("/c").is_none());
    }
}
