//! `GET /v1/reservations`: reservations in the order in which they were taken.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use freehold_api::Code;
use freehold_api::v1::reservations::{ListReservations, ReservationList};
use freehold_domain::time::Timestamp;
use freehold_engine::ports::InstanceQuery;
use http::StatusCode;

use crate::convert;
use crate::http::extract::{Params, bad_param, json, page, param};
use crate::http::state::App;
use crate::problems::{self, Refusal};

/// Lists reservations.
#[utoipa::path(
    get, path = "/v1/reservations", tag = "reservations", operation_id = "listReservations",
    params(ListReservations),
    responses(
        (status = 200, description = "A page of reservations", body = ReservationList),
        (status = 400, description = "`invalid_request`"),
    ),
    security(("key" = ["operator"])),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Params(query): Params<ListReservations>,
) -> Result<Response, Refusal> {
    let ListReservations { status, older_than, limit, cursor } = query;
    let world = app.control_plane.world();
    let older_than = older_than.map(|text| period(&text).ok_or_else(|| bad_period(&text))).transpose()?;
    let query = InstanceQuery {
        status: status.map(convert::reservation_status_name),
        started_before: older_than.map(|span| before(world.clock.now(), span)),
        after: param("cursor", cursor.as_deref())?,
        limit: page(limit)?,
        ..InstanceQuery::default()
    };
    let page = world
        .store
        .instance_list(&query)
        .await
        .map_err(|error| Refusal::from(problems::store(&error, Code::ReservationNotFound)))?;
    let reservations = page.items.iter().map(convert::reservation).collect();
    Ok(json(StatusCode::OK, &ReservationList { reservations, next_cursor: page.next.map(|id| id.to_string()) }))
}

fn bad_period(text: &str) -> Refusal {
    let shown: String = text.chars().take(32).flat_map(char::escape_default).collect();
    bad_param("older_than", format_args!("`{shown}` is no period; write a number and s, m, h or d, such as 10m"))
}

/// A number and its unit: `s`, `m`, `h` or `d`.
fn period(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let number = text.strip_suffix(unit)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        _ => return None,
    };
    let number: u32 = number.parse().ok().filter(|_| number.bytes().all(|byte| byte.is_ascii_digit()))?;
    Some(Duration::from_secs(u64::from(number) * seconds))
}

fn before(now: Timestamp, span: Duration) -> Timestamp {
    let micros = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(now.as_micros().saturating_sub(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_a_number_and_a_unit() {
        for (text, seconds) in [("10m", 600), ("0s", 0), ("2h", 7_200), ("1d", 86_400)] {
            assert_eq!(period(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "10", "m", "+1m", "-1m", "1.5h", "10 m", "99999999999d", "1w", "1ü"] {
            assert_eq!(period(text), None, "{text}");
        }
    }
}
