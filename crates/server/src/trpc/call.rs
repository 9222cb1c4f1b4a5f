//! One call: its input is read, the endpoint under `/v1` that does the same is asked, and its answer is unpacked.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use freehold_api::idempotency::IdempotencyKey;
use freehold_api::v1::instances::{CreateInstance, ListInstances, UpdateInstance};
use freehold_api::{Code, Problem};
use http::Method;
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::procedure::{Kind, Procedure};
use crate::auth::{Access, Door};
use crate::http::App;
use crate::http::edge::count;
use crate::http::extract::{At, Caller, JsonBody, Key, Named, Params, Wait};
use crate::http::{instances, operations};
use crate::problems::Refusal;

/// What the calls of a request have in common.
pub(super) struct Call<'a> {
    pub(super) app: &'a Arc<App>,
    pub(super) caller: &'a Caller,
    pub(super) wait: Wait,
    pub(super) key: Option<&'a IdempotencyKey>,
    pub(super) method: &'a Method,
}

impl Call<'_> {
    /// Answers one call. The first one of a request is counted where the request is.
    pub(super) async fn answer(
        &self,
        index: usize,
        path: &str,
        procedure: Option<Procedure>,
        input: Option<Value>,
    ) -> Result<Value, Refusal> {
        if index > 0 {
            count(self.app, self.caller)?;
        }
        let Some(procedure) = procedure else {
            let shown: String = path.chars().take(64).collect();
            return Err(Refusal::new(Code::NotFound, format!("there is no procedure `{}`", shown.escape_default())));
        };
        let (asked, least) = match procedure.kind() {
            Kind::Query => (matches!(*self.method, Method::GET | Method::POST), Access::Viewer),
            Kind::Mutation => (*self.method == Method::POST, Access::Platform),
        };
        if !asked {
            let detail = format!("`{path}` does not take {}: queries take GET and POST, mutations POST", self.method);
            return Err(Refusal::new(Code::MethodNotAllowed, detail));
        }
        Door { key: least, users: true }.check(&self.caller.role)?;
        let input = match input {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(input)) => input,
            Some(_) => return Err(Refusal::at("#", "the input is an object")),
        };
        // Each of these is large, and most requests are one call.
        Box::pin(self.run(procedure, input)).await
    }

    async fn run(&self, procedure: Procedure, mut input: Map<String, Value>) -> Result<Value, Refusal> {
        let state = || State(Arc::clone(self.app));
        let (caller, wait) = (self.caller.clone(), self.wait);
        match procedure {
            Procedure::InstanceGet => {
                let id = self.only(input).await?;
                unpacked(instances::show::show(state(), id).await?).await
            }
            Procedure::InstanceList => {
                let query: ListInstances = read(input)?;
                unpacked(instances::list::list(state(), Params(query), caller).await?).await
            }
            Procedure::OperationGet => {
                let id = self.only(input).await?;
                unpacked(operations::show::show(state(), id).await?).await
            }
            Procedure::InstanceProvision => {
                let body: CreateInstance = read(input)?;
                let key = Key(self.key.cloned());
                unpacked(instances::create::create(state(), caller, wait, key, JsonBody(body)).await?).await
            }
            Procedure::InstanceDestroy => {
                let id = self.take(&mut input).await?;
                let query: instances::destroy::Query = read(input)?;
                unpacked(instances::destroy::destroy(state(), id, Params(query), caller, wait).await?).await
            }
            Procedure::InstanceStart => {
                let id = self.only(input).await?;
                unpacked(instances::start::start(state(), id, caller, wait).await?).await
            }
            Procedure::InstanceStop => {
                let id = self.only(input).await?;
                unpacked(instances::stop::stop(state(), id, caller, wait).await?).await
            }
            Procedure::InstanceUpdate => {
                let id = self.take(&mut input).await?;
                let body: UpdateInstance = read(input)?;
                unpacked(instances::update::update(state(), id, caller, wait, JsonBody(body)).await?).await
            }
        }
    }

    /// The id in an input, which the caller may know of.
    async fn take<T: Named>(&self, input: &mut Map<String, Value>) -> Result<At<T>, Refusal> {
        match input.remove("id") {
            Some(Value::String(id)) => self.caller.named(self.app, &id).await.map(At),
            Some(_) => Err(Refusal::at("#/id", "an id is a text")),
            None => Err(Refusal::at("#", "`id` is missing")),
        }
    }

    /// The same where an input has nothing else.
    async fn only<T: Named>(&self, mut input: Map<String, Value>) -> Result<At<T>, Refusal> {
        let id = self.take(&mut input).await?;
        match input.keys().next() {
            None => Ok(id),
            Some(other) => {
                let other: String = other.chars().take(64).collect();
                Err(Refusal::at("#", format!("there is no field `{}` here", other.escape_default())))
            }
        }
    }
}

fn read<T: DeserializeOwned>(input: Map<String, Value>) -> Result<T, Refusal> {
    Ok(freehold_api::json::read(Value::Object(input).to_string().as_bytes())?)
}

/// What an endpoint answered: what is in its body, whether it is good or a problem.
async fn unpacked(response: Response) -> Result<Value, Refusal> {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map_err(|error| Refusal::broken(&error))?.to_bytes();
    let broken = |error: serde_json::Error| Refusal::broken(&error);
    if parts.status.is_success() {
        return serde_json::from_slice(&body).map_err(broken);
    }
    Err(serde_json::from_slice::<Problem>(&body).map_err(broken)?.into())
}
