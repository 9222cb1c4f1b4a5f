//! The OpenAPI 3.1 document. Endpoints describe themselves; what is the same for all of them is said here once.

use freehold_api::{Code, Problem};
use serde_json::{Map, Value, json};
use utoipa::OpenApi as _;

const ABOUT: &str = "One instance per customer context, or an honest answer.\n\n\
Create with `POST /v1/instances`; send an `Idempotency-Key`, and a repeated request gets the same answer. An answer of \
202 names an operation: look at it, follow its events, or repeat the create with the same key.\n\n\
Traffic reaches an instance under `/i/{instance_id}/`, with any method, streamed both ways, WebSockets included; it \
needs a platform or operator key, or the token of the user whose instance it is, unless the server is configured otherwise, and a path below that is the instance's own, \
so it is not listed here. Neither are the procedures under `/trpc/`, which do the same by the protocol of that name.\n\n\
Every error is an `application/problem+json` document whose `type` leads to a page that explains it.";

#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "Freehold", version = "1"),
    components(schemas(Problem, Code)),
    tags(
        (name = "instances", description = "What callers come for"),
        (name = "operations", description = "Work that goes on behind an answer"),
        (name = "owners", description = "What the registry knows of an owner"),
        (name = "reservations", description = "Operators' tools: who may create, and why"),
        (name = "routes", description = "Where traffic goes"),
        (name = "audit", description = "What happened"),
        (name = "leaks", description = "Resources that were given up on"),
        (name = "nodes", description = "Who serves this registry"),
        (name = "restore", description = "A registry that comes from a backup"),
        (name = "billing", description = "What the billing service says by itself"),
        (name = "server", description = "The server itself"),
    )
)]
struct Base;

/// What the endpoints' descriptions are put into.
pub(crate) fn base() -> utoipa::openapi::OpenApi {
    Base::openapi()
}

/// The finished document.
pub(crate) fn finish(document: &utoipa::openapi::OpenApi) -> Value {
    let mut document = serde_json::to_value(document).unwrap_or_default();
    document["info"]["description"] = json!(ABOUT);
    document["info"]["license"] = json!({"name": "Apache-2.0", "identifier": "Apache-2.0"});
    document["components"]["securitySchemes"] = json!({
        "key": {
            "type": "http", "scheme": "bearer",
            "description": "An API key. Its role, `viewer`, `platform` or `operator`, is at least the one that the \
                            operation names.",
        },
        "user": {
            "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
            "description": "An end user's token: `sub` is the user, `orgs` its organisations. It sees its own contexts \
                            and nothing else: what is somebody else's is answered like what is not there.",
        },
    });
    let paths = document["paths"].as_object_mut();
    for operation in paths.into_iter().flatten().flat_map(|(_, item)| item.as_object_mut().into_iter().flatten()) {
        complete(operation.1);
    }
    document
}

/// Gives an operation the refusals that every one of its sort has, and each refusal its body.
fn complete(operation: &mut Value) {
    let guarded = operation["security"][0].as_object().is_some_and(|requirement| !requirement.is_empty());
    let Some(responses) = operation["responses"].as_object_mut() else { return };
    let mut common = vec![("500", "`internal_error`")];
    if guarded {
        common.extend([
            ("401", "`unauthorized`"),
            ("403", "`forbidden`"),
            ("429", "`rate_limited`"),
            ("503", "`store_unavailable`"),
        ]);
    }
    for (status, description) in common {
        let entry = responses.entry(status).or_insert_with(|| json!({"description": ""}));
        let said = entry["description"].as_str().unwrap_or_default();
        if !said.contains(description) {
            let both = if said.is_empty() { description.to_owned() } else { format!("{said}, {description}") };
            entry["description"] = json!(both);
        }
    }
    for (status, response) in responses.iter_mut() {
        let bare = response.get("content").is_none();
        if bare && status.as_str() >= "400" {
            let schema = json!({"schema": {"$ref": "#/components/schemas/Problem"}});
            let content = Map::from_iter([(freehold_api::problem::MEDIA_TYPE.to_owned(), schema)]);
            response["content"] = Value::Object(content);
        }
    }
}
