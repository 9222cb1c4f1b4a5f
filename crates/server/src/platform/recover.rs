//! A provision that names an instance: an update, or a recovery. It never takes a reservation, and loses to a destroy,
//! whether that was there before or comes while this goes on.
//!
//! What is on record as made and paid for is completed first. A recovery, which is asked for by
//! `bootstrapSubscription` or by saying nothing to change, also starts what is down; an update leaves that as it is.

use std::sync::Arc;

use freehold_api::names::Env;
use freehold_api::v1::instances::CreateInstance;
use freehold_api::{Code, FieldError, Problem};
use freehold_domain::ids::InstanceId;
use freehold_domain::reservation::{Reservation, Status};
use freehold_domain::status::InstanceStatus;
use freehold_engine::control_plane::{Changed, InstanceView, RepairRefused, SpecChange, UpdateRequest, WorkError};
use tokio::time::Instant;

use super::provision::{definite, patiently, pending};
use crate::convert::uuid;
use crate::detach::finishing;
use crate::http::App;
use crate::http::extract::Caller;
use crate::http::instances::worked;
use crate::problems::{self, Refusal};

/// Updates or recovers an instance. Of `wanted`, the owner is known to be its own.
pub(super) async fn recovered(
    app: &Arc<App>,
    caller: Caller,
    view: &InstanceView,
    wanted: CreateInstance,
    bootstrap: bool,
    deadline: Instant,
) -> Result<InstanceId, Refusal> {
    let id = view.registered.reservation.instance;
    let request = update(view, wanted)?;
    wanted_still(&view.registered.reservation)?;
    completed(app, &caller, view, bootstrap, deadline).await?;
    let changes = request.tier.is_some() || request.spec.env.is_some();
    if changes {
        let (control_plane, caller) = (Arc::clone(&app.control_plane), caller.engine.clone());
        let asking = async move { control_plane.update(&caller, id, request).await };
        done(app, id, deadline, asking).await?;
    }
    if bootstrap || !changes {
        let (control_plane, caller) = (Arc::clone(&app.control_plane), caller.engine);
        let asking = async move { control_plane.start_instance(&caller, id).await };
        done(app, id, deadline, asking).await?;
    }
    Ok(id)
}

fn update(view: &InstanceView, wanted: CreateInstance) -> Result<UpdateRequest, Refusal> {
    let CreateInstance { owner: _, assigned_user: _, provider, tier, region: _, spec, instance_id: _ } = wanted;
    let now = view.registered.reservation.provider.to_string();
    if provider.is_some_and(|provider| provider != now) {
        let detail = format!("an instance stays with its provider, which is `{now}`");
        return Err(Problem::invalid(vec![FieldError::new("#/provider", detail)]).into());
    }
    let tier = tier.map(|name| {
        name.parse().map_err(|_| Refusal::new(Code::TierNotOffered, format!("tier `{name}` is not offered")))
    });
    let env = spec.and_then(|spec| spec.env).map(Env::into_inner);
    Ok(UpdateRequest { spec: SpecChange { env, ..SpecChange::default() }, tier: tier.transpose()? })
}

/// Refuses what is destroyed or will be.
fn wanted_still(reservation: &Reservation) -> Result<(), Refusal> {
    let gone = match reservation.status {
        Status::Released { .. } => true,
        Status::InProgress | Status::NeedsReconciliation { .. } | Status::Completed => reservation.intent.is_destroy(),
    };
    if gone { Err(problems::work(&WorkError::Destroyed, uuid(reservation.instance.as_bytes()))) } else { Ok(()) }
}

/// Completes an instance that is on record as made and paid for. One that is not is left to what is to be done to it,
/// except in a recovery of its subscription: one that was never started is, and one that ended stays so.
async fn completed(
    app: &Arc<App>,
    caller: &Caller,
    view: &InstanceView,
    bootstrap: bool,
    deadline: Instant,
) -> Result<(), Refusal> {
    let id = view.registered.reservation.instance;
    if view.registered.reservation.status.is_unresolved() {
        let (control_plane, caller) = (Arc::clone(&app.control_plane), caller.engine.clone());
        match finishing(async move { control_plane.repair(&caller, id).await }).await {
            Ok(_) | Err(RepairRefused::Unavailable(_)) => {}
            Err(refused @ (RepairRefused::NotFound | RepairRefused::Store(_))) => return Err(refused.into()),
        }
    }
    if !bootstrap {
        return Ok(());
    }
    let look = || async {
        let now = app.control_plane.instance(id).await;
        let now = now.map_err(|error| problems::read(&error, Code::InstanceNotFound))?;
        wanted_still(&now.registered.reservation)?;
        Ok::<_, Refusal>(now)
    };
    let mut now = look().await?;
    if now.registered.reservation.is_active() && now.records.subscription.is_none() {
        let (control_plane, caller) = (Arc::clone(&app.control_plane), caller.engine.clone());
        done(app, id, deadline, async move { control_plane.mend(&caller, id).await }).await?;
        now = look().await?;
    }
    let incomplete = now.registered.reservation.status.is_unresolved() || now.status() == InstanceStatus::Quarantined;
    if incomplete { Err(pending()) } else { Ok(()) }
}

/// Asks for work, and waits until it is done.
async fn done(
    app: &Arc<App>,
    id: InstanceId,
    deadline: Instant,
    asking: impl Future<Output = Result<Changed, WorkError>> + Send + 'static,
) -> Result<(), Refusal> {
    match finishing(asking).await.map_err(|error| problems::work(&error, uuid(id.as_bytes())))? {
        Changed::NothingToDo => Ok(()),
        Changed::By(operation) => match patiently(app, worked(app, operation, deadline)).await {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err(pending()),
            Err(refusal) => Err(definite(refusal)),
        },
    }
}
