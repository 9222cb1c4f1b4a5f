//! Leaks: what was given up on, on record until somebody answers for it.

pub(crate) mod list;
pub(crate) mod resolve;

use freehold_api::v1::leaks::Leak;
use freehold_engine::ports::{LeakRecord, StoreError};

use super::state::App;
use crate::convert;

/// A leak, with the provider of its instance.
async fn shown(app: &App, record: &LeakRecord, resolution: Option<String>) -> Result<Leak, StoreError> {
    let registered = app.control_plane.world().store.instance_describe(record.instance).await?;
    let provider = registered.map(|it| it.reservation.provider.to_string()).unwrap_or_default();
    Ok(convert::leak(record, &provider, resolution))
}
