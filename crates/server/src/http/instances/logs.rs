//! `GET /v1/instances/{id}/logs`: what an instance wrote, as plain text; with `follow`, for as long as it writes.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use freehold_api::Code;
use freehold_domain::ids::InstanceId;
use freehold_domain::reservation::Status;
use freehold_engine::ports::{LogQuery, LogReader, LogsUnavailable};
use futures_util::{Stream, StreamExt as _, stream};
use http::{HeaderValue, StatusCode};
use serde::Deserialize;

use crate::http::extract::{At, Params, bad_param, bytes_as};
use crate::http::state::App;
use crate::limits::{LOG_LINES_DEFAULT, LOG_LINES_MAX};
use crate::problems::{self, Refusal};

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Query {
    /// How many of the last lines to begin with: at most 10000, 200 where it is left out.
    #[param(nullable = false, maximum = 10000)]
    tail: Option<usize>,
    /// Whether to go on with what is written from then on.
    #[serde(default)]
    follow: bool,
}

/// Reads what an instance wrote.
#[utoipa::path(
    get, path = "/v1/instances/{id}/logs", tag = "instances", operation_id = "instanceLogs",
    params(("id" = Uuid, Path, description = "The instance"), Query),
    responses(
        (status = 200, description = "The lines", body = String, content_type = "text/plain"),
        (status = 400, description = "`invalid_request`"),
        (status = 404, description = "`instance_not_found`"),
        (status = 410, description = "`gone`"),
        (status = 501, description = "`not_supported`"),
        (status = 503, description = "`provider_unavailable`"),
    ),
    security(("key" = ["viewer"]), ("user" = [])),
)]
pub(crate) async fn logs(
    State(app): State<Arc<App>>,
    At(id): At<InstanceId>,
    Params(Query { tail, follow }): Params<Query>,
) -> Result<Response, Refusal> {
    let tail = tail.unwrap_or(LOG_LINES_DEFAULT);
    if tail > LOG_LINES_MAX {
        return Err(bad_param("tail", format_args!("takes at most {LOG_LINES_MAX} lines")));
    }
    let missing = |error| problems::read(&error, Code::InstanceNotFound);
    let reader = match app.control_plane.logs(id, LogQuery { tail, follow }).await.map_err(missing)? {
        Ok(reader) => reader,
        Err(LogsUnavailable::Unreadable(why)) => {
            let registered = app.control_plane.instance(id).await.map_err(missing)?.registered;
            return Err(match registered.reservation.status {
                Status::Released { .. } => Refusal::new(Code::Gone, "the instance is gone, and its logs with it"),
                Status::InProgress | Status::NeedsReconciliation { .. } | Status::Completed => {
                    problems::logs(&LogsUnavailable::Unreadable(why))
                }
            });
        }
        Err(LogsUnavailable::Unsupported) => return Err(problems::logs(&LogsUnavailable::Unsupported)),
    };
    let lines = lines(reader).take_until(app.shutdown.clone().cancelled_owned());
    Ok(bytes_as(StatusCode::OK, HeaderValue::from_static("text/plain; charset=utf-8"), Body::from_stream(lines)))
}

fn lines(reader: Box<dyn LogReader>) -> impl Stream<Item = Result<Bytes, Infallible>> {
    stream::unfold(reader, |mut reader| async move {
        let piece = reader.next().await?;
        Some((Ok(Bytes::from(piece)), reader))
    })
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use tokio_util::sync::CancellationToken;

    use super::*;

    /// Gives its lines, and then waits for more.
    struct Followed(Vec<&'static str>);

    #[async_trait::async_trait]
    impl LogReader for Followed {
        async fn next(&mut self) -> Option<Vec<u8>> {
            match self.0.pop() {
                Some(line) => Some(line.into()),
                None => std::future::pending().await,
            }
        }
    }

    #[tokio::test]
    async fn lines_are_passed_on_as_they_come_until_the_server_stops() {
        let shutdown = CancellationToken::new();
        let reader = Box::new(Followed(vec!["two\n", "one\n"]));
        let mut body = Body::from_stream(lines(reader).take_until(shutdown.clone().cancelled_owned()));
        for line in ["one\n", "two\n"] {
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), line);
        }
        shutdown.cancel();
        assert!(body.frame().await.is_none());
    }
}
