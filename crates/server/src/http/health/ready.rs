//! `GET /readyz`: whether this node can do its work: the store answers, somebody runs operations, and it is neither
//! stopping nor being drained.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use freehold_api::v1::health::{Health, HealthCheck, HealthStatus};
use http::StatusCode;
use serde::Deserialize;
use tokio::time::timeout;

use crate::http::extract::{Params, json};
use crate::http::state::App;
use crate::limits::READY_LOOK_MAX;
use crate::problems::Refusal;

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Query {
    /// Present, with any value or none: list the single checks.
    #[param(nullable = false)]
    verbose: Option<String>,
}

/// Whether the server can do its work. 503 if it cannot.
#[utoipa::path(
    get, path = "/readyz", tag = "server", operation_id = "readyz",
    params(Query),
    responses(
        (status = 200, description = "It can", body = Health),
        (status = 503, description = "It cannot", body = Health),
    ),
    security(()),
)]
pub(crate) async fn readyz(
    State(app): State<Arc<App>>,
    Params(Query { verbose }): Params<Query>,
) -> Result<Response, Refusal> {
    let checks = vec![
        check("store", store(&app).await),
        check("executor", (app.executor)()),
        // Of which nothing here has to wait: routes are known without them.
        HealthCheck { ok: true, ..check("records", records(&app).await) },
        // Reads, routes and traffic go on in quarantine: whoever takes this node out for it takes them away.
        HealthCheck { ok: true, ..check("registry", registry(&app)) },
        check("serving", serving(&app)),
    ];
    let well = checks.iter().all(|check| check.ok);
    let (status, code) = match well {
        true => (HealthStatus::Ok, StatusCode::OK),
        false => (HealthStatus::Unavailable, StatusCode::SERVICE_UNAVAILABLE),
    };
    let shown = verbose.is_some_and(|value| value != "false");
    Ok(json(code, &Health { status, checks: if shown { checks } else { Vec::new() } }))
}

fn check(name: &str, seen: Result<String, String>) -> HealthCheck {
    let ok = seen.is_ok();
    HealthCheck { name: name.to_owned(), ok, detail: seen.unwrap_or_else(|why| why) }
}

fn registry(app: &App) -> Result<String, String> {
    match app.control_plane.world().standing.check() {
        Ok(()) => Ok("acts on what is asked".into()),
        Err(why) => Err(format!("reads, routes and traffic only: {why}")),
    }
}

fn serving(app: &App) -> Result<String, String> {
    match app.control_plane.world().duty.laid_down() {
        _ if app.shutdown.is_cancelled() => Err("stopping".into()),
        Some(why) => Err(why.to_string()),
        None => Ok("yes".into()),
    }
}

async fn records(app: &App) -> Result<String, String> {
    let world = app.control_plane.world();
    if !world.records_elsewhere {
        return Ok("in the registry's database".into());
    }
    match timeout(READY_LOOK_MAX, world.records.unreported(1)).await {
        Ok(Ok(_)) => Ok("answer".into()),
        Ok(Err(error)) => {
            tracing::warn!(%error, "the records are unavailable: what needs them waits");
            Err("do not answer: what needs them waits, and routes go on; the log has more".into())
        }
        Err(_) => Err(format!("no answer within {} s: what needs them waits", READY_LOOK_MAX.as_secs())),
    }
}

async fn store(app: &App) -> Result<String, String> {
    match timeout(READY_LOOK_MAX, app.control_plane.world().store.due_next()).await {
        Ok(Ok(_)) => Ok("answers".into()),
        Ok(Err(error)) => {
            tracing::warn!(%error, "not ready: the store is unavailable");
            Err("does not answer; the log has more".into())
        }
        Err(_) => Err(format!("no answer within {} s", READY_LOOK_MAX.as_secs())),
    }
}
