//! What the API answers, before anything is done to it on its way to the client.

use serde_json::{Value, json};

/// A status and a JSON body, or none.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Option<Value>,
    /// Seconds, for a 429.
    pub(crate) retry_after: Option<u64>,
}

impl Answer {
    pub(crate) fn json(status: u16, body: Value) -> Self {
        Self { status, body: Some(body), retry_after: None }
    }

    /// A status without a body.
    pub(crate) fn empty(status: u16) -> Self {
        Self { status, body: None, retry_after: None }
    }

    /// `{"ok":true}`, as most commands answer.
    pub(crate) fn ok() -> Self {
        Self::json(200, json!({ "ok": true }))
    }

    /// A refusal: `{"error":"…"}`.
    pub(crate) fn error(status: u16, error: impl Into<String>) -> Self {
        Self::json(status, json!({ "error": error.into() }))
    }

    /// A refusal with the machine-readable word beside the text: `{"error":"…","status":"…"}`. The words are those of
    /// `main.statusCode` in the published OpenAPI document: `unknown`, `insufficient_capacity`,
    /// `volume_placement_capacity`, `name_taken`.
    pub(crate) fn coded(status: u16, error: impl Into<String>, code: &str) -> Self {
        Self::json(status, json!({ "error": error.into(), "status": code }))
    }

    /// The one refusal of a caller that is not known.
    pub(crate) fn unauthorized() -> Self {
        Self::error(401, "unauthorized")
    }
}
