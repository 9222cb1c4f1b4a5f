//! The routes below `/_sim/`: the same as the methods of [`crate::FlySim`], for whoever is in another process.
//!
//! They are no part of the Machines API and have no lock of their own: whoever reaches the listener may use them, which
//! is why it is on a loopback address only.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::fault::Rule;
use crate::server::BODY_BYTES_MAX;
use crate::sim::Sim;
use crate::world::WorldView;

pub(crate) fn routes(sim: Sim) -> Router {
    Router::new()
        .route("/_sim/world", get(world))
        .route("/_sim/rules", get(rules).post(add_rules).delete(clear_rules))
        .route("/_sim/reset", post(reset))
        .route("/_sim/advance", post(advance))
        .route("/_sim/full", put(full))
        .route("/_sim/vanish", post(vanish))
        .route("/_sim/plant", post(plant))
        .route("/_sim/state", post(state))
        .route("/_sim/revoke", post(revoke))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(sim)
}

async fn world(State(sim): State<Sim>) -> Json<WorldView> {
    Json(sim.state().world.view())
}

async fn rules(State(sim): State<Sim>) -> Json<Value> {
    let shown =
        |(rule, matched, happened): (Rule, u64, u64)| json!({ "rule": rule, "matched": matched, "happened": happened });
    let rules: Vec<Value> = sim.state().rules.list().into_iter().map(shown).collect();
    Json(json!({ "rules": rules }))
}

/// One rule, or a list of them: all are taken, or none.
async fn add_rules(State(sim): State<Sim>, Json(body): Json<Value>) -> Response {
    let rules = if body.is_array() {
        serde_json::from_value(body)
    } else {
        serde_json::from_value(body).map(|rule: Rule| vec![rule])
    };
    let rules = match rules {
        Ok(rules) => rules,
        Err(error) => return refused(&error.to_string()),
    };
    let mut state = sim.state();
    if let Err(why) = state.rules.add(rules) {
        return refused(&why);
    }
    (StatusCode::CREATED, Json(json!({ "rules": state.rules.list().len() }))).into_response()
}

async fn clear_rules(State(sim): State<Sim>) -> StatusCode {
    sim.state().rules.clear();
    StatusCode::NO_CONTENT
}

async fn reset(State(sim): State<Sim>) -> StatusCode {
    sim.state().reset();
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
struct Advance {
    ms: u64,
}

async fn advance(State(sim): State<Sim>, Json(by): Json<Advance>) -> Json<Value> {
    let by = u64::try_from(Duration::from_millis(by.ms).as_millis()).unwrap_or(u64::MAX);
    {
        let mut state = sim.state();
        state.skipped = state.skipped.saturating_add(by);
    }
    Json(json!({ "now": sim.state().world.now() }))
}

/// A field that is left out is left alone.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Full {
    regions: Option<Vec<String>>,
    volume_hosts: Option<Vec<String>>,
}

async fn full(State(sim): State<Sim>, Json(full): Json<Full>) -> StatusCode {
    let mut state = sim.state();
    let options = state.world.options_mut();
    if let Some(regions) = full.regions {
        options.full_regions = regions.into_iter().collect();
    }
    if let Some(regions) = full.volume_hosts {
        options.full_volume_hosts = regions.into_iter().collect();
    }
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
struct Vanish {
    id: String,
}

async fn vanish(State(sim): State<Sim>, Json(what): Json<Vanish>) -> StatusCode {
    found(sim.state().world.vanish(&what.id))
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum Plant {
    App {
        org: String,
        name: String,
    },
    Machine {
        app: String,
        name: String,
        #[serde(default)]
        metadata: BTreeMap<String, String>,
    },
    Volume {
        app: String,
        name: String,
    },
}

async fn plant(State(sim): State<Sim>, Json(what): Json<Plant>) -> Response {
    let world = &mut sim.state().world;
    let id = match what {
        Plant::App { org, name } => world.plant_app(&org, &name),
        Plant::Machine { app, name, metadata } => world.plant_machine(&app, &name, &metadata),
        Plant::Volume { app, name } => world.plant_volume(&app, &name),
    };
    match id {
        Some(id) => (StatusCode::CREATED, Json(json!({ "id": id }))).into_response(),
        None => refused("the app's name is taken, or there is no such app"),
    }
}

#[derive(Deserialize)]
struct PutState {
    machine: String,
    state: String,
}

async fn state(State(sim): State<Sim>, Json(put): Json<PutState>) -> StatusCode {
    found(sim.state().world.put_state(&put.machine, &put.state))
}

#[derive(Deserialize)]
struct Revoke {
    token: String,
}

async fn revoke(State(sim): State<Sim>, Json(revoke): Json<Revoke>) -> StatusCode {
    sim.state().world.revoke(&revoke.token);
    StatusCode::NO_CONTENT
}

fn found(found: bool) -> StatusCode {
    if found { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND }
}

fn refused(why: &str) -> Response {
    (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({ "error": why }))).into_response()
}
