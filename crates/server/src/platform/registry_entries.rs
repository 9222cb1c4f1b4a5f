//! `GET /api/platform/registry-entries`: the registries that concern a person: their own and, where it is named, the
//! organisation's. Tombstones included.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use freehold_api::Code;
use freehold_domain::owner::Owner;
use freehold_engine::control_plane::{OwnerView, ReadError};
use http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};

use super::ask::Names;
use crate::convert;
use crate::http::App;
use crate::http::extract::{Params, json as answer};
use crate::problems::{self, Refusal};

pub(super) async fn registry_entries(
    State(app): State<Arc<App>>,
    Params(names): Params<Names>,
) -> Result<Response, Refusal> {
    let (whose, _) = names.checked()?;
    let user = Owner::User(whose.context.assigned_user().clone());
    let mut owners = vec![user];
    if whose.org_named {
        owners.push(whose.context.owner().clone());
    }
    let mut registries = Vec::with_capacity(owners.len());
    for owner in owners {
        registries.push(registry(&app, &owner).await?);
    }
    Ok(answer(StatusCode::OK, &json!({ "registries": registries })))
}

async fn registry(app: &App, owner: &Owner) -> Result<Value, Refusal> {
    let OwnerView { registered, backfilled } = match app.control_plane.owner(owner).await {
        Ok(view) => view,
        // Somebody who never had anything has an empty registry, and nothing that is still to be brought into it.
        Err(ReadError::NotFound) => OwnerView { registered: Vec::new(), backfilled: true },
        Err(error) => return Err(problems::read(&error, Code::OwnerNotFound)),
    };
    Ok(json!({
        "registryKey": owner.to_string(),
        "entries": registered.iter().filter_map(convert::entry).map(|entry| camel(&entry)).collect::<Vec<_>>(),
        "reservations": registered.iter().map(|one| camel(&convert::reservation(one))).collect::<Vec<_>>(),
        "migrated": backfilled,
    }))
}

/// The same in camelCase. What version 1 adds is here as well.
fn camel(wire: &impl Serialize) -> Value {
    renamed(serde_json::to_value(wire).unwrap_or_default())
}

fn renamed(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            Value::Object(members.into_iter().map(|(name, value)| (camel_case(&name), renamed(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(renamed).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}

fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| {
        let mut letters = word.chars();
        let capital = letters.next().map(|letter| letter.to_ascii_uppercase());
        name + &capital.into_iter().chain(letters).collect::<String>()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_change_and_values_do_not() {
        let wire = json!({"instance_id": "a_b", "list": [{"started_at": null}], "epoch": 1});
        assert_eq!(camel(&wire), json!({"instanceId": "a_b", "list": [{"startedAt": null}], "epoch": 1}));
    }
}
