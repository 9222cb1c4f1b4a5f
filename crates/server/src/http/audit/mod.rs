//! The audit trail: page by page, or as it grows.

pub(crate) mod events;
pub(crate) mod list;

use crate::http::extract::bad_param;
use crate::problems::Refusal;

/// Reads where in the trail a caller is: the id of an event, or nothing for its beginning.
///
/// # Errors
/// `invalid_request` for what is the id of no event; `from` says where it stood.
fn position(from: &str, id: Option<&str>) -> Result<u64, Refusal> {
    let Some(id) = id else { return Ok(0) };
    id.parse()
        .map_err(|_| bad_param(from, "takes the `id` of an event, or the `next_cursor` of a page: a whole number"))
}
