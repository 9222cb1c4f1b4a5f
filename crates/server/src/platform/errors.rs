//! How these routes word a problem: `{"error", "code"?}`, and for a request that is wrong `{"error", "details"}` with what
//! is wrong by field.
//!
//! The sentences that users read stand next to the codes in [`freehold_api::Code::user_message`]; other errors are for
//! whoever writes the web application.

use std::collections::BTreeMap;

use axum::response::Response;
use freehold_api::{Code, FieldError, Problem};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};

/// Where the fields of version 1 are in the bodies of these routes.
const FIELDS: [(&str, &str); 2] = [("#/spec/env", "#/envVars"), ("#/tier", "#/instanceType")];

/// A problem as it goes over the wire.
pub(crate) fn write(problem: &Problem, response: &mut Response) {
    let (status, body) = worded(problem);
    *response.status_mut() = status;
    *response.body_mut() = axum::body::Body::from(body.to_string());
    let headers = response.headers_mut();
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(seconds) = problem.retry_after_seconds() {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
}

fn worded(problem: &Problem) -> (StatusCode, Value) {
    let code = problem.code;
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Some(sentence) = code.user_message() {
        return (status, json!({"error": sentence, "code": code}));
    }
    match code {
        // Which keys there are, and which role one has, is nothing that a caller of these routes is told.
        Code::Unauthorized | Code::Forbidden => (StatusCode::UNAUTHORIZED, json!({"error": "Unauthorized"})),
        Code::MalformedJson => (status, json!({"error": "Malformed JSON body"})),
        Code::InvalidRequest => (status, json!({"error": "Invalid request", "details": details(problem)})),
        Code::ProvisionFailed => (StatusCode::INTERNAL_SERVER_ERROR, json!({"error": "provision failed"})),
        _ => (status, json!({"error": problem.detail, "code": code})),
    }
}

/// What is wrong, by the field of the body or the parameter of the query. What concerns no single one is under `request`.
fn details(problem: &Problem) -> BTreeMap<String, Vec<String>> {
    let mut details: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for FieldError { pointer, detail } in &problem.errors {
        let (field, below) = place(pointer);
        let said = if below.is_empty() { detail.clone() } else { format!("{below}: {detail}") };
        details.entry(field).or_default().push(said);
    }
    if details.is_empty() {
        details.insert("request".to_owned(), vec![problem.detail.clone()]);
    }
    details
}

/// The field that a pointer leads into, and what it leads to below that.
fn place(pointer: &str) -> (String, String) {
    let ours = FIELDS.iter().find_map(|(theirs, ours)| Some(format!("{ours}{}", pointer.strip_prefix(theirs)?)));
    let ours = ours.as_deref().unwrap_or(pointer).trim_start_matches(['#', '/']);
    let (field, below) = ours.split_once('/').unwrap_or((ours, ""));
    let field = if field.is_empty() { "request" } else { field };
    (field.to_owned(), below.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_read_sentences_and_developers_the_detail() {
        for code in Code::ALL.iter().copied().filter(|code| code.user_message().is_some()) {
            let (status, body) = worded(&Problem::new(code, "instance 0199"));
            assert_eq!(body, json!({"error": code.user_message(), "code": code}));
            assert_eq!(status.as_u16(), code.status());
        }
        let (status, body) = worded(&Problem::new(Code::BillingUnavailable, "billing did not answer"));
        assert_eq!((status.as_u16(), &body["error"]), (503, &json!("billing did not answer")));
        let (status, body) = worded(&Problem::new(Code::ProvisionFailed, "the provider said: quota"));
        assert_eq!((status.as_u16(), body), (500, json!({"error": "provision failed"})));
        let (status, body) = worded(&Problem::new(Code::Forbidden, "this key has the role viewer"));
        assert_eq!((status.as_u16(), body), (401, json!({"error": "Unauthorized"})));
        assert_eq!(worded(&Problem::new(Code::MalformedJson, "x")).1, json!({"error": "Malformed JSON body"}));
    }

    #[test]
    fn what_is_wrong_is_told_by_field() {
        let errors = [
            ("#/userId", "is needed"),
            ("#/tier", "is too long"),
            ("#/spec/env/FREEHOLD_X", "is reserved"),
            ("#/spec/env/9", "is no name"),
            ("#", "a field is there twice"),
        ];
        let problem = Problem::invalid(errors.map(|(at, says)| FieldError::new(at, says)).to_vec());
        let (status, body) = worded(&problem);
        assert_eq!(status, StatusCode::BAD_REQUEST);
        let details = json!({
            "userId": ["is needed"],
            "instanceType": ["is too long"],
            "envVars": ["FREEHOLD_X: is reserved", "9: is no name"],
            "request": ["a field is there twice"],
        });
        assert_eq!(body, json!({"error": "Invalid request", "details": details}));
        let query = Problem::new(Code::InvalidRequest, "the query has `userId` twice");
        assert_eq!(worded(&query).1["details"], json!({"request": ["the query has `userId` twice"]}));
    }
}
