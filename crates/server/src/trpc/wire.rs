//! How a request says what it calls, and how answers are written: one, several in order, or a stream of lines.

use axum::body::{Body, Bytes};
use axum::extract::Query;
use axum::response::Response;
use freehold_api::{Code, Problem};
use http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER, VARY, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use serde_json::{Map, Value, json};

use super::code;

/// What is before the names of the procedures.
const BASE: &str = "/trpc/";

const TRPC_ACCEPT: HeaderName = HeaderName::from_static("trpc-accept");

/// What asks for a stream of lines.
const JSON_LINES: &str = "application/jsonl";

/// The most calls that are told one by one that their batch is refused.
const REFUSED_CALLS_MAX: usize = 1_000;

/// What a request calls, and how it wants to be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// The procedures, in order. One, where it is no batch.
    pub(super) paths: Vec<String>,
    pub(super) batch: bool,
    lines: bool,
    /// The input, where it is in the query.
    pub(super) input: Bytes,
}

/// A call that was answered, or not.
pub(super) type Outcome = Result<Value, Problem>;

impl Shape {
    /// What a request says of itself.
    pub(crate) fn of(uri: &Uri, headers: &HeaderMap) -> Self {
        let (mut batch, mut input) = (false, Bytes::new());
        // What cannot be read says nothing.
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(uri).map(|Query(pairs)| pairs).unwrap_or_default();
        for (name, value) in pairs {
            match name.as_str() {
                "batch" => batch = value == "1",
                "input" => input = value.into(),
                _ => {}
            }
        }
        let path = uri.path().strip_prefix(BASE).unwrap_or_default();
        // Of what the names are made of only the comma is ever written otherwise.
        let path = path.replace("%2C", ",").replace("%2c", ",");
        let paths = if batch { path.split(',').map(str::to_owned).collect() } else { vec![path] };
        // The second is what a later client sends.
        let lines =
            [TRPC_ACCEPT, ACCEPT].iter().any(|name| headers.get(name).is_some_and(|wanted| wanted == JSON_LINES));
        Self { paths, batch, lines: lines && batch, input }
    }

    /// The answers to its calls, in their order.
    pub(super) fn answers(&self, outcomes: Vec<Outcome>) -> Response {
        let statuses: Vec<u16> = outcomes.iter().map(status).collect();
        let retry_after = match outcomes.as_slice() {
            [Err(problem)] => problem.retry_after_seconds(),
            _ => None,
        };
        let paths = self.paths.iter().map(|path| Some(path.as_str()));
        let answers = outcomes.into_iter().zip(paths).map(|(outcome, path)| answer(outcome, path));
        let mut response = if self.lines {
            lines(answers)
        } else if self.batch {
            let same = statuses.windows(2).all(|two| two[0] == two[1]);
            let status = statuses.first().filter(|_| same).copied().unwrap_or(207);
            written(status, Value::Array(answers.collect()).to_string())
        } else {
            let status = statuses.first().copied().unwrap_or(500);
            written(status, answers.into_iter().next().unwrap_or_default().to_string())
        };
        if let Some(seconds) = retry_after.filter(|_| !self.lines) {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }

    /// Refuses all calls of a request at once.
    pub(crate) fn refuse(&self, problem: &Problem, response: &mut Response) {
        let mut refused = if self.lines {
            // A client of lines waits for each of its calls.
            let paths = self.paths.iter().take(REFUSED_CALLS_MAX);
            lines(paths.map(|path| answer(Err(problem.clone()), Some(path))))
        } else {
            let path = self.paths.first().map(String::as_str).filter(|_| !self.batch);
            written(code::of(problem.code).status, answer(Err(problem.clone()), path).to_string())
        };
        if let Some(seconds) = problem.retry_after_seconds().filter(|_| !self.lines) {
            refused.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if problem.code == Code::Unauthorized {
            refused.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        *response = refused;
    }
}

fn status(outcome: &Outcome) -> u16 {
    outcome.as_ref().err().map_or(200, |problem| code::of(problem.code).status)
}

fn answer(outcome: Outcome, path: Option<&str>) -> Value {
    let problem = match outcome {
        Ok(data) => return json!({"result": {"data": data}}),
        Err(problem) => problem,
    };
    let said = code::of(problem.code);
    let message = problem.code.user_message().unwrap_or(&problem.detail);
    let mut data = json!({"code": said.name, "httpStatus": said.status, "problem": problem});
    if let Some(path) = path {
        data["path"] = json!(path);
    }
    json!({"error": {"message": message, "code": said.number, "data": data}})
}

/// One line with every answer in it, by its index: a stream that is over with its head. The status is in each of them.
fn lines(answers: impl Iterator<Item = Value>) -> Response {
    let by_index: Map<String, Value> =
        answers.enumerate().map(|(index, answer)| (index.to_string(), json!([[answer]]))).collect();
    written(200, format!("{}\n", Value::Object(by_index)))
}

fn written(status: u16, text: String) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(VARY, HeaderValue::from_static("trpc-accept, accept"));
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    fn shape(uri: &str, lines: bool) -> Shape {
        let mut headers = HeaderMap::new();
        if lines {
            headers.insert(TRPC_ACCEPT, HeaderValue::from_static(JSON_LINES));
        }
        Shape::of(&uri.parse().unwrap(), &headers)
    }

    async fn read(response: Response) -> (u16, Value) {
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    #[test]
    fn a_request_says_what_it_calls() {
        let one = shape("/trpc/a.b?input=%7B%22x%22%3A%22a+b%2Bc%22%7D", true);
        assert_eq!((one.paths.clone(), one.batch, one.lines), (vec!["a.b".to_owned()], false, false));
        assert_eq!(one.input, r#"{"x":"a b+c"}"#);
        for uri in ["/trpc/a.b,c.d?batch=1", "/trpc/a.b%2cc.d?x&batch=1&input="] {
            let two = shape(uri, false);
            assert_eq!((two.paths, two.batch, two.input.len()), (vec!["a.b".to_owned(), "c.d".to_owned()], true, 0));
        }
        assert_eq!(shape("/trpc/a.b,c.d?batch=0", false).paths, ["a.b,c.d"]);
        assert!(shape("/trpc/a.b?batch=1", true).lines);
    }

    #[tokio::test]
    async fn every_code_is_told_alone_in_a_batch_and_in_a_line() {
        for code in Code::ALL {
            let problem = Problem::new(*code, "this time").request("r");
            let said = code::of(*code);
            let message = code.user_message().unwrap_or("this time");
            let error = |path: &str| {
                let data = json!({"code": said.name, "httpStatus": said.status, "path": path, "problem": problem});
                json!({"error": {"message": message, "code": said.number, "data": data}})
            };
            let alone = shape("/trpc/a.b", false).answers(vec![Err(problem.clone())]);
            assert_eq!(alone.headers().contains_key(RETRY_AFTER), code.retryable(), "{code}");
            assert_eq!(read(alone).await, (said.status, error("a.b")));
            let answers = vec![Err(problem.clone()), Ok(json!(1))];
            let both = json!([error("a.b"), {"result": {"data": 1}}]);
            assert_eq!(read(shape("/trpc/a.b,c?batch=1", false).answers(answers.clone())).await, (207, both));
            let lines = json!({"0": [[error("a.b")]], "1": [[{"result": {"data": 1}}]]});
            assert_eq!(read(shape("/trpc/a.b,c?batch=1", true).answers(answers)).await, (200, lines));

            let mut refused = Response::default();
            shape("/trpc/a.b,c?batch=1", false).refuse(&problem, &mut refused);
            let (status, body) = read(refused).await;
            assert_eq!((status, &body["error"]["data"]["path"]), (said.status, &Value::Null), "one for all of them");
            let mut refused = Response::default();
            shape("/trpc/a.b,c?batch=1", true).refuse(&problem, &mut refused);
            assert_eq!(read(refused).await, (200, json!({"0": [[error("a.b")]], "1": [[error("c")]]})));
        }
    }
}
