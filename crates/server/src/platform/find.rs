//! Which instance a request is about. One that is not the caller's looks like one that is not there.

use freehold_api::{Code, FieldError, Problem};
use freehold_domain::ids::InstanceId;
use freehold_engine::control_plane::{InstanceView, ReadError};
use freehold_engine::ports::InstanceQuery;

use super::ask::{For, Which};
use crate::http::App;
use crate::problems::{self, Refusal};

/// How many instances of a context that are not gone yet are looked at: one may be wanted in most installations, and the
/// rest are on their way out.
const UNRELEASED_MAX: usize = 100;

/// An instance that was named. `missing` is the code for one that is not there, or somebody else's.
///
/// # Errors
/// `missing`, and `store_unavailable`.
pub(super) async fn named(app: &App, whose: &For, id: InstanceId, missing: Code) -> Result<InstanceView, Refusal> {
    let view = app.control_plane.instance(id).await.map_err(|error| problems::read(&error, missing))?;
    let context = &view.registered.reservation.context;
    let theirs = match whose.org_named {
        true => *context == whose.context,
        false => context.assigned_user() == whose.context.assigned_user(),
    };
    if theirs { Ok(view) } else { Err(problems::not_found(missing).into()) }
}

/// The instance of a context: the one that is wanted, else the newest of those that are being destroyed, else none.
///
/// # Errors
/// `invalid_request` where several are wanted, and `store_unavailable`.
pub(super) async fn only(app: &App, whose: &For) -> Result<Option<InstanceView>, Refusal> {
    let query = InstanceQuery {
        owner: Some(whose.context.owner().clone()),
        assigned_user: Some(whose.context.assigned_user().clone()),
        limit: UNRELEASED_MAX,
        ..InstanceQuery::default()
    };
    let listed = app.control_plane.instances(query, None).await;
    let listed = listed.map_err(|error| problems::read(&error, Code::InstanceNotFound))?.items;
    let (mut leaving, mut wanted): (Vec<_>, Vec<_>) =
        listed.into_iter().partition(|view| view.registered.reservation.intent.is_destroy());
    if wanted.len() > 1 {
        let error = FieldError::new("#/instanceId", "is needed: there are several instances");
        return Err(Problem::invalid(vec![error]).into());
    }
    Ok(wanted.pop().or_else(|| leaving.pop()))
}

/// The instance that was named, or the context's own.
///
/// # Errors
/// `instance_not_found`, `invalid_request` where several could be meant, and `store_unavailable`.
pub(super) async fn meant(app: &App, whose: &For, which: Which) -> Result<InstanceView, Refusal> {
    match which.named(Code::InstanceNotFound)? {
        Some(id) => named(app, whose, id, Code::InstanceNotFound).await,
        None => only(app, whose).await?.ok_or_else(|| problems::not_found(Code::InstanceNotFound).into()),
    }
}

/// The instance that a destroy is about: also one that is gone already, if it is the context's last.
///
/// # Errors
/// As [`meant`].
pub(super) async fn ever(app: &App, whose: &For, which: Which) -> Result<InstanceId, Refusal> {
    if let Some(id) = which.named(Code::InstanceNotFound)? {
        return Ok(named(app, whose, id, Code::InstanceNotFound).await?.registered.reservation.instance);
    }
    if let Some(view) = only(app, whose).await? {
        return Ok(view.registered.reservation.instance);
    }
    let of_owner = match app.control_plane.owner(whose.context.owner()).await {
        Ok(view) => view.registered,
        Err(ReadError::NotFound) => Vec::new(),
        Err(error) => return Err(problems::read(&error, Code::InstanceNotFound)),
    };
    let last = of_owner.iter().rfind(|registered| registered.reservation.context == whose.context);
    last.map(|registered| registered.reservation.instance)
        .ok_or_else(|| problems::not_found(Code::InstanceNotFound).into())
}

/// How an instance is called in the older worker's answers.
pub(super) fn sandbox_id(instance: InstanceId) -> String {
    format!("ki_{}", instance.to_string().replace('-', ""))
}
