//! What callers ask for. A caller whose server dies never hears the answer; one that hears it holds the world to it.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use freehold_domain::event::Actor;
use freehold_domain::ids::InstanceId;
use freehold_domain::owner::Context;
use freehold_engine::control_plane::{
    Accepted, Caller, Changed, ControlPlane, Provision, ProvisionRefused, Provisioned, ReleaseRefused, ReleaseStarted,
    RepairRefused, SpecChange, SpecRequest, UpdateRequest, WorkError,
};
use freehold_engine::ports::{IdempotencyKey, Registered};

use crate::chance::Chance;
use crate::history::History;
use crate::tasks::Told;

pub(crate) type Request = Pin<Box<dyn Future<Output = Told>>>;

/// How many contexts a storm has: few, so that they are fought over.
pub(crate) const OWNERS: usize = 3;

/// The variable that updates change.
pub(crate) const CHANGED: &str = "CHANGED";

/// How many keys each owner's backend uses, again and again.
const KEYS: usize = 4;

fn caller(actor: Actor) -> Caller {
    Caller { actor, request_id: "sim".to_owned() }
}

/// The body of a create: the same for the same number.
#[derive(Clone, Debug)]
pub(crate) struct Create {
    pub(crate) owner: usize,
    /// The key's number in its owner's scope.
    pub(crate) key: Option<usize>,
    pub(crate) body: u8,
}

impl Create {
    fn idempotency(&self) -> Option<IdempotencyKey> {
        let key = format!("user:{}-{}", self.owner, self.key?);
        let mut scope = [0; 32];
        scope[..key.len()].copy_from_slice(key.as_bytes());
        Some(IdempotencyKey { scope, fingerprint: [self.body; 32] })
    }

    fn request(&self) -> Provision {
        let owner = format!("user:{}", self.owner).parse().expect("a valid owner");
        Provision {
            caller: caller(Actor::Platform),
            context: Context::new(owner, None).expect("a valid context"),
            provider: None,
            tier: None,
            regions: Vec::new(),
            spec: SpecRequest::default(),
            idempotency: self.idempotency(),
        }
    }

    /// Asks, and holds the world to the answer.
    pub(crate) async fn ask(&self, control: &ControlPlane, history: &History) -> Result<Provisioned, ProvisionRefused> {
        let answer = control.provision(self.request()).await;
        if let Ok(provisioned) = &answer {
            history.promise(|promises| {
                if !promises.admitted.contains(&provisioned.instance) {
                    promises.admitted.push(provisioned.instance);
                }
                if let Some(key) = self.key {
                    promises.keyed(&format!("user:{}-{key}", self.owner), provisioned.operation);
                }
            });
        }
        answer
    }
}

pub(crate) async fn destroy(
    control: &ControlPlane,
    history: &History,
    instance: InstanceId,
) -> Result<Accepted, WorkError> {
    let answer = control.destroy(&caller(Actor::Platform), instance, Some("sim".to_owned())).await;
    if answer.is_ok() {
        history.promise(|promises| promises.destroyed.insert(instance));
    }
    answer
}

pub(crate) async fn restart(control: &ControlPlane, instance: InstanceId) -> Result<Changed, WorkError> {
    control.restart_instance(&caller(Actor::Platform), instance).await
}

pub(crate) async fn stop(control: &ControlPlane, instance: InstanceId) -> Result<Changed, WorkError> {
    control.stop_instance(&caller(Actor::Platform), instance).await
}

pub(crate) async fn update(control: &ControlPlane, instance: InstanceId, to: usize) -> Result<Changed, WorkError> {
    let env = BTreeMap::from([(CHANGED.to_owned(), to.to_string())]);
    let spec = SpecChange { env: Some(env), ..SpecChange::default() };
    control.update(&caller(Actor::Platform), instance, UpdateRequest { spec, tier: None }).await
}

pub(crate) async fn repair(control: &ControlPlane, instance: InstanceId) -> Result<Registered, RepairRefused> {
    control.repair(&caller(Actor::Operator), instance).await
}

/// An operator looks at a reservation and releases it as he saw it.
pub(crate) async fn release(
    control: &ControlPlane,
    instance: InstanceId,
    without_proof: bool,
) -> Result<ReleaseStarted, ReleaseRefused> {
    let seen = control.world().store.instance_describe(instance).await.map_err(ReleaseRefused::Store)?;
    let Some(seen) = seen else { return Err(ReleaseRefused::NotFound) };
    let expected = seen.reservation.status.name();
    control.release(&caller(Actor::Operator), instance, expected, "sim", without_proof).await
}

/// One request, at random.
pub(crate) fn any(chance: &Chance, control: Arc<ControlPlane>, history: History) -> (String, Request) {
    let known = history.promise(|promises| promises.admitted.clone());
    if known.is_empty() || chance.percent(40) {
        let key = chance.percent(60).then(|| chance.below(KEYS));
        let body = 1 + u8::from(chance.percent(15));
        let create = Create { owner: chance.below(OWNERS), key, body };
        let name = format!("{create:?}");
        return (name, Box::pin(async move { format!("{:?}", create.ask(&control, &history).await) }));
    }
    // Mostly the youngest ones: the old ones are gone.
    let recent = &known[known.len().saturating_sub(OWNERS + 1)..];
    let instance = *chance.pick(recent);
    let to = chance.below(3);
    match chance.below(16) {
        0..5 => (
            format!("destroy {instance}"),
            Box::pin(async move { format!("{:?}", destroy(&control, &history, instance).await) }),
        ),
        5..7 => (
            format!("start {instance}"),
            Box::pin(async move { format!("{:?}", control.start_instance(&caller(Actor::Platform), instance).await) }),
        ),
        7..9 => (format!("stop {instance}"), Box::pin(async move { format!("{:?}", stop(&control, instance).await) })),
        9..11 => {
            (format!("restart {instance}"), Box::pin(async move { format!("{:?}", restart(&control, instance).await) }))
        }
        11..13 => (
            format!("update {instance}"),
            Box::pin(async move { format!("{:?}", update(&control, instance, to).await) }),
        ),
        13 => (
            format!("repair {instance}"),
            Box::pin(async move {
                format!("{:?}", repair(&control, instance).await.map(|registered| registered.reservation.status))
            }),
        ),
        14 => (
            format!("prove {instance} gone"),
            Box::pin(async move { format!("{:?}", release(&control, instance, false).await) }),
        ),
        _ => (
            format!("override {instance}"),
            Box::pin(async move { format!("{:?}", release(&control, instance, true).await) }),
        ),
    }
}
