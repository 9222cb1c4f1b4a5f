//! The tRPC v11 HTTP protocol at `/trpc/*`: the same control plane as `/v1`, for the ordinary client of a web page.
//!
//! A call is a method of the API under another name. It is answered by the very function that answers it under `/v1`, so
//! who may do what, how long it waits and what it says are the same; here is only how requests are read and answers are
//! written. Whatever goes wrong, wherever on the way, is answered in the shape that the client reads.

mod call;
mod code;
mod procedure;
mod wire;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use freehold_api::{Code, Problem};
use futures_util::future::join_all;
use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};
use serde_json::Value;

use self::call::Call;
use self::procedure::{Kind, Procedure};
pub(crate) use self::wire::Shape;
use crate::http::App;
use crate::http::edge::RequestId;
use crate::http::extract::{Caller, Key, Wait, bytes_of, says_json};
use crate::problems::Refusal;

/// The path of all calls. What is behind it is not in the OpenAPI document: it is another protocol.
pub(crate) const PATH: &str = "/trpc/{*path}";

/// The most calls in a batch: a page asks for some five things at once, and each call may wait as long as a request.
pub(crate) const BATCH_CALLS_MAX: usize = 20;

/// Answers a call, or a batch of calls.
pub(crate) async fn answer(
    State(app): State<Arc<App>>,
    caller: Caller,
    wait: Wait,
    Key(key): Key,
    request: Request,
) -> Result<Response, Refusal> {
    let shape = request.extensions().get::<Arc<Shape>>().cloned();
    let shape = shape.ok_or_else(|| Refusal::broken(&"a tRPC request came without its shape"))?;
    let id = request.extensions().get::<RequestId>().cloned();
    let method = request.method().clone();
    if shape.paths.len() > BATCH_CALLS_MAX {
        let detail = format!("a batch has at most {BATCH_CALLS_MAX} calls");
        return Err(Refusal::new(Code::InvalidRequest, detail));
    }
    let procedures: Vec<_> = shape.paths.iter().map(|path| Procedure::named(path)).collect();
    let kinds = || procedures.iter().flatten().map(|procedure| procedure.kind());
    if kinds().any(|kind| kind == Kind::Query) && kinds().any(|kind| kind == Kind::Mutation) {
        return Err(Refusal::new(Code::InvalidRequest, "a batch has queries or mutations, not both"));
    }
    let inputs = inputs(&shape, request).await?;
    let call = Call { app: &app, caller: &caller, wait, key: key.as_ref(), method: &method };
    let calls = procedures.into_iter().zip(inputs).enumerate().map(async |(index, (procedure, input))| {
        let said = call.answer(index, &shape.paths[index], procedure, input).await;
        said.map_err(|Refusal(mut problem)| {
            let named = problem.request_id.take().or_else(|| id.as_ref().map(|id| id.as_str().to_owned()));
            Problem { request_id: named, ..*problem }
        })
    });
    Ok(shape.answers(join_all(calls).await))
}

/// Whoever only wants to know whether somebody is there.
pub(crate) async fn head() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// What each call is given, in their order.
async fn inputs(shape: &Shape, request: Request) -> Result<Vec<Option<Value>>, Refusal> {
    let text = if request.method() == Method::POST { posted(request).await? } else { shape.input.clone() };
    let input: Option<Value> = match text {
        text if text.is_empty() => None,
        text => Some(
            serde_json::from_slice(&text)
                .map_err(|why| Refusal::new(Code::MalformedJson, format!("the input is not one JSON value: {why}")))?,
        ),
    };
    if !shape.batch {
        return Ok(vec![input]);
    }
    let mut each = match input {
        None => serde_json::Map::new(),
        Some(Value::Object(each)) => each,
        Some(_) => {
            let detail = "the input of a batch is an object with the inputs of its calls, by their index";
            return Err(Refusal::new(Code::InvalidRequest, detail));
        }
    };
    Ok((0..shape.paths.len()).map(|index| each.remove(&index.to_string())).collect())
}

/// A body, which is JSON if there is one.
async fn posted(request: Request) -> Result<Bytes, Refusal> {
    let unsupported = || Refusal::new(Code::UnsupportedMediaType, "send the input as `content-type: application/json`");
    let json = says_json(request.headers());
    if !json && request.headers().contains_key(CONTENT_TYPE) {
        return Err(unsupported());
    }
    let bytes = bytes_of(request).await?;
    if json || bytes.is_empty() { Ok(bytes) } else { Err(unsupported()) }
}
