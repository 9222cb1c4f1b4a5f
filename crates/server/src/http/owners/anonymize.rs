//! `POST /v1/owners/{owner}/anonymize`: forget whose destroyed instances were.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use freehold_api::v1::owners::Anonymized;
use freehold_api::{Code, Problem};
use freehold_domain::owner::Owner;
use freehold_engine::control_plane::ForgetError;
use http::StatusCode;

use crate::convert::uuid;
use crate::detach::finishing;
use crate::http::extract::{At, Caller, json};
use crate::http::state::App;
use crate::problems::{self, Refusal};

/// Puts a pseudonym in the place of an owner whose instances are all destroyed: in the records and their change log, in
/// the registry and on the audit trail. What was billed stays on record, and whose it was does not. Reasons that people
/// wrote stay as they wrote them.
#[utoipa::path(
    post, path = "/v1/owners/{owner}/anonymize", tag = "owners", operation_id = "anonymizeOwner",
    params(("owner" = String, Path, description = "`user:ID` or `org:ID`")),
    responses(
        (status = 200, description = "It is forgotten", body = Anonymized),
        (status = 400, description = "`invalid_request`"),
        (status = 404, description = "`owner_not_found`"),
        (status = 409, description = "`instance_already_active`: an instance of it is not destroyed"),
        (status = 503, description = "`store_unavailable`: ask again, it goes on"),
    ),
    security(("key" = ["operator"])),
)]
pub(crate) async fn anonymize(
    State(app): State<Arc<App>>,
    At(owner): At<Owner>,
    caller: Caller,
) -> Result<Response, Refusal> {
    let control_plane = Arc::clone(&app.control_plane);
    let forgetting = async move { control_plane.anonymize(&caller.engine, &owner).await };
    let forgotten = finishing(forgetting).await.map_err(refuse)?;
    let answer = Anonymized { pseudonym: forgotten.pseudonym.to_string(), instances: forgotten.instances };
    Ok(json(StatusCode::OK, &answer))
}

fn refuse(error: ForgetError) -> Refusal {
    match error {
        ForgetError::NotFound => Refusal::new(Code::OwnerNotFound, "there is no such owner"),
        ForgetError::StillThere(there) => {
            let detail = format!("{there}; destroy what the owner has before it is forgotten");
            Problem::new(Code::InstanceAlreadyActive, detail).instance(uuid(there.0.as_bytes())).into()
        }
        ForgetError::Records(error) => Refusal::new(Code::StoreUnavailable, format!("{error}; ask again")),
        ForgetError::Store(error) => problems::store(&error, Code::OwnerNotFound).into(),
    }
}
