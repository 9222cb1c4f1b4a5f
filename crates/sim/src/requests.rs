//! What callers ask for. A caller whose server dies never hears the answer; one that hears it holds the world to it.

use std::pin::Pin;
use std::sync::Arc;

use freehold_domain::event::Actor;
use freehold_domain::ids::InstanceId;
use freehold_domain::owner::Context;
use freehold_engine::control_plane::{Caller, ControlPlane, Provision, SpecChange, SpecRequest, UpdateRequest};
use freehold_engine::ports::IdempotencyKey;

use crate::chance::Chance;
use crate::history::History;
use crate::tasks::Told;
use crate::town::OWNERS;

type Request = Pin<Box<dyn Future<Output = Told>>>;

/// How many keys each owner's backend uses, again and again.
const KEYS: usize = 4;

fn caller() -> Caller {
    Caller { actor: Actor::Platform, request_id: "sim".to_owned() }
}

/// One request, at random.
pub(crate) fn any(chance: &Chance, control: Arc<ControlPlane>, history: History) -> (String, Request) {
    let known = history.promise(|promises| promises.admitted.clone());
    if known.is_empty() || chance.percent(40) {
        return create(chance, control, history);
    }
    // Mostly the youngest ones: the old ones are gone.
    let recent = &known[known.len().saturating_sub(OWNERS + 1)..];
    let instance = *chance.pick(recent);
    match chance.below(6) {
        0 | 1 => (format!("destroy {instance}"), Box::pin(destroy(control, history, instance))),
        2 => (
            format!("start {instance}"),
            Box::pin(async move { format!("{:?}", control.start_instance(&caller(), instance).await) }),
        ),
        3 => (
            format!("stop {instance}"),
            Box::pin(async move { format!("{:?}", control.stop_instance(&caller(), instance).await) }),
        ),
        4 => (
            format!("restart {instance}"),
            Box::pin(async move { format!("{:?}", control.restart_instance(&caller(), instance).await) }),
        ),
        _ => {
            let command = vec!["hello".to_owned(), chance.below(3).to_string()];
            (
                format!("update {instance}"),
                Box::pin(async move {
                    let spec = SpecChange { command: Some(command), ..SpecChange::default() };
                    format!("{:?}", control.update(&caller(), instance, UpdateRequest { spec, tier: None }).await)
                }),
            )
        }
    }
}

fn create(chance: &Chance, control: Arc<ControlPlane>, history: History) -> (String, Request) {
    let owner = format!("user:{}", chance.below(OWNERS));
    let key = chance.percent(60).then(|| format!("{owner}-{}", chance.below(KEYS)));
    let name = format!("create for {owner} with key {key:?}");
    let context = Context::new(owner.parse().expect("a valid owner"), None).expect("a valid context");
    let idempotency = key.as_ref().map(|key| {
        let mut scope = [0; 32];
        scope[..key.len()].copy_from_slice(key.as_bytes());
        IdempotencyKey { scope, fingerprint: [1; 32] }
    });
    let request = Provision {
        caller: caller(),
        context,
        provider: None,
        tier: None,
        regions: Vec::new(),
        spec: SpecRequest::default(),
        idempotency,
    };
    (
        name,
        Box::pin(async move {
            let answer = control.provision(request).await;
            if let Ok(provisioned) = &answer {
                history.promise(|promises| {
                    if !promises.admitted.contains(&provisioned.instance) {
                        promises.admitted.push(provisioned.instance);
                    }
                    if let Some(key) = &key {
                        promises.keyed(key, provisioned.operation);
                    }
                });
            }
            format!("{answer:?}")
        }),
    )
}

async fn destroy(control: Arc<ControlPlane>, history: History, instance: InstanceId) -> Told {
    let answer = control.destroy(&caller(), instance, Some("sim".to_owned())).await;
    if answer.is_ok() {
        history.promise(|promises| promises.destroyed.insert(instance));
    }
    format!("{answer:?}")
}
