//! `POST /api/platform/start`: up, whatever it was.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use super::ask::Either;
use super::power;
use crate::http::App;
use crate::http::extract::Caller;
use crate::problems::Refusal;

pub(super) async fn start(
    State(app): State<Arc<App>>,
    caller: Caller,
    Either(names): Either,
) -> Result<Response, Refusal> {
    let control_plane = Arc::clone(&app.control_plane);
    power::turned(&app, &names, |id| async move { control_plane.start_instance(&caller.engine, id).await }).await
}
