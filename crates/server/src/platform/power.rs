//! What start and stop share: whose instance it is, what it did before, and what it does after a wait.

use std::sync::Arc;

use axum::response::Response;
use freehold_api::Code;
use freehold_domain::ids::InstanceId;
use freehold_engine::control_plane::{Changed, WorkError};
use http::StatusCode;
use serde_json::json;
use tokio::time::Instant;

use super::ask::Names;
use super::find;
use crate::convert::uuid;
use crate::detach::finishing;
use crate::http::App;
use crate::http::extract::json as answer;
use crate::http::instances::worked;
use crate::problems::{self, Refusal};

/// Asks, waits, and tells. An instance that is as asked already is success, and so is one that is still on its way
/// there when the wait is over.
pub(super) async fn turned<A>(
    app: &Arc<App>,
    names: &Names,
    asking: impl FnOnce(InstanceId) -> A,
) -> Result<Response, Refusal>
where
    A: Future<Output = Result<Changed, WorkError>> + Send + 'static,
{
    let deadline = Instant::now() + app.settings.default_wait;
    let (whose, which) = names.checked()?;
    let before = find::meant(app, &whose, which).await?;
    let id = before.registered.reservation.instance;
    let changed = finishing(asking(id)).await.map_err(|error| problems::work(&error, uuid(id.as_bytes())))?;
    let changed = match changed {
        Changed::NothingToDo => false,
        Changed::By(operation) => {
            worked(app, operation, deadline).await?;
            true
        }
    };
    let after = app.control_plane.instance(id).await.map_err(|error| problems::read(&error, Code::InstanceNotFound))?;
    let body = json!({
        "ok": true,
        "changed": changed,
        "instanceId": id.to_string(),
        "sandboxId": find::sandbox_id(id),
        "previousStatus": before.status().name(),
        "currentStatus": after.status().name(),
    });
    Ok(answer(StatusCode::OK, &body))
}
