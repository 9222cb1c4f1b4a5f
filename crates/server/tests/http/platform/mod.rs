//! The platform routes: what they answer, to the letter.

mod instance;
mod provision;
mod refusals;
mod registry;
mod update;

use freehold_domain::ids::InstanceId;
use http::Method;
use serde_json::{Value, json};

use crate::client::{Answer, Call};
use crate::server::{PLATFORM, Server};

const CREATING: &str = "An instance is already being created. Wait for setup to finish, then try again.";
const ACTIVE: &str = "User already has an active instance";
const PENDING: &str = "Provisioning completed but finalization is pending";
const NOT_FOUND: &str = "Active instance not found";
const DESTROYED: &str = "Instance was destroyed during update";

/// A call with the platform key.
fn call(server: &Server, method: Method, route: &str) -> Call {
    server.call(method, &format!("/api/platform/{route}")).header("x-internal-api-key", PLATFORM)
}

async fn post(server: &Server, route: &str, body: Value) -> Answer {
    call(server, Method::POST, route).json(&body).send().await
}

async fn get(server: &Server, route: &str) -> Answer {
    call(server, Method::GET, route).send().await
}

/// An instance of a user, made by these routes.
async fn made(server: &Server, user: &str) -> String {
    let answer = post(server, "provision", json!({ "userId": user })).await.with(201).json();
    answer["instanceId"].as_str().unwrap().to_owned()
}

/// An instance that is on its way, made by nobody yet.
async fn begun(server: &Server, user: &str) -> InstanceId {
    let create = server.create(&format!("user:{user}")).header("prefer", "respond-async");
    let operation = create.send().await.with(202).json()["operation"].clone();
    operation["instance_id"].as_str().unwrap().parse().unwrap()
}

impl Answer {
    /// The answer, which is this error and nothing else.
    #[track_caller]
    fn error(self, status: u16, error: &str, code: &str) {
        let answer = self.with(status);
        let body = if code.is_empty() { json!({ "error": error }) } else { json!({"error": error, "code": code}) };
        assert_eq!(answer.json(), body);
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert!(!answer.header("x-request-id").is_empty());
    }

    /// The answer, which has this code, whatever it says to developers.
    #[track_caller]
    fn code(self, status: u16, code: &str) {
        let answer = self.with(status);
        let body = answer.json();
        assert_eq!(body["code"], code, "{body}");
        assert!(!body["error"].as_str().unwrap().is_empty(), "{body}");
        assert_eq!(body.as_object().unwrap().len(), 2, "{body}");
    }

    /// The answer, which says that these fields are wrong and no other.
    #[track_caller]
    fn wrong(self, fields: &[&str]) {
        let answer = self.with(400);
        let body = answer.json();
        assert_eq!(body["error"], "Invalid request", "{body}");
        let details = body["details"].as_object().unwrap_or_else(|| panic!("{body}"));
        assert_eq!(details.keys().map(String::as_str).collect::<Vec<_>>(), fields, "{body}");
        for said in details.values() {
            assert!(said.as_array().unwrap().iter().all(Value::is_string), "{body}");
        }
    }
}
