//! What start, stop and restart share: ask, wait, and show the instance.

use std::sync::Arc;

use axum::response::Response;
use freehold_api::v1::instances::Changed as Answer;
use freehold_domain::ids::InstanceId;
use freehold_engine::control_plane::{Changed, WorkError};
use http::StatusCode;
use tokio::time::Instant;

use super::{goes_on, shown, worked};
use crate::convert::uuid;
use crate::detach::finishing;
use crate::http::extract::json;
use crate::http::state::App;
use crate::problems::{self, Refusal};

/// Asks, and waits until the deadline. An instance that is as asked already is success.
pub(super) async fn answer(
    app: &Arc<App>,
    instance: InstanceId,
    deadline: Instant,
    asking: impl Future<Output = Result<Changed, WorkError>> + Send + 'static,
) -> Result<Response, Refusal> {
    let changed = finishing(asking).await.map_err(|error| problems::work(&error, uuid(instance.as_bytes())))?;
    let under_way = match changed {
        Changed::NothingToDo => None,
        Changed::By(operation) => worked(app, operation, deadline).await?,
    };
    let changed = match changed {
        Changed::NothingToDo => false,
        Changed::By(_) => true,
    };
    let answer = Answer { changed, instance: shown(app, instance).await? };
    Ok(match under_way {
        Some(view) => goes_on(view.operation.id, json(StatusCode::ACCEPTED, &answer)),
        None => json(StatusCode::OK, &answer),
    })
}
