//! What was made elsewhere, under a name of its own.

use std::sync::Arc;

use freehold_domain::ledger::Refusal;
use freehold_domain::operation::OperationKind;
use freehold_domain::owner::Context;
use freehold_domain::reservation::{Power, Status};
use freehold_domain::resource::ResourceKind;
use freehold_domain::run::{Bid, Run, Work};
use freehold_engine::ports::{Adopted, Adoption, WorkAccepted};
use tokio::task::JoinSet;

use super::{Bench, resource, user};

/// Racers for one name.
const RACERS: usize = 20;

fn adoption(bench: &Bench, context: &Context, name: &str) -> Adoption {
    let admission = bench.admission(context);
    Adoption {
        bid: Bid { named: Some(name.to_owned()), ..admission.bid },
        resources: [ResourceKind::Base, ResourceKind::Runtime].map(|kind| resource(kind, name)).to_vec(),
        power: Power::Off,
        asked: admission.asked,
        limit: 1,
    }
}

async fn adopted(bench: &Bench, context: &Context, name: &str) -> Run {
    match bench.store.adopt(adoption(bench, context, name)).await.expect("it answers") {
        Adopted::Taken(run) => *run,
        other => panic!("it is not taken in: {other:?}"),
    }
}

/// It takes its context's place with all that is at the provider, stays down if it is, and is found by its name.
pub async fn what_was_made_elsewhere_is_on_record_whole(bench: Arc<Bench>) {
    let run = adopted(&bench, &user("alice"), "acme").await;
    bench.check(&run).await;
    assert_eq!((run.reservation.status, run.reservation.power), (Status::Completed, Power::Off));
    assert_eq!((run.operation.kind, run.reservation.completed_at), (OperationKind::Adopt, None));
    assert_eq!(run.reservation.resources.len(), 2);
    let provider = &run.reservation.provider;
    let found = bench.store.instance_named(provider, "acme").await.expect("answers").expect("is there");
    assert_eq!(found.reservation, run.reservation);
    assert_eq!(bench.store.instance_named(provider, "other").await, Ok(None));
    assert!(bench.store.admit(bench.admission(&user("alice"))).await.is_err(), "the context is taken");
    // Only what may publish it takes its operation's place.
    let instance = run.reservation.instance;
    let stop = bench.store.work_begin(instance, Work::Stop, bench.asked()).await.expect("answers");
    assert!(matches!(stop, WorkAccepted::Refused(_)), "{stop:?}");
    let mend = bench.store.work_begin(instance, Work::Mend, bench.asked()).await.expect("answers");
    assert!(matches!(mend, WorkAccepted::Accepted { .. }), "{mend:?}");
}

/// One instance for a name, however many ask and in whichever context; and none for a context that is taken.
pub async fn a_name_is_taken_in_once(bench: Arc<Bench>) {
    let mut racers = JoinSet::new();
    for number in 0..RACERS {
        let bench = Arc::clone(&bench);
        let context = user(if number % 2 == 0 { "alice" } else { "bob" });
        racers.spawn(async move { bench.store.adopt(adoption(&bench, &context, "acme")).await.expect("answers") });
    }
    let (mut taken, mut known) = (Vec::new(), Vec::new());
    for outcome in racers.join_all().await {
        match outcome {
            Adopted::Taken(run) => taken.push(*run),
            Adopted::Known(instance) => known.push(instance),
            Adopted::Conflict(refusal) => panic!("both contexts are free: {refusal:?}"),
        }
    }
    let [run] = taken.as_slice() else { panic!("{} were taken in", taken.len()) };
    assert!(known.len() == RACERS - 1 && known.iter().all(|instance| *instance == run.reservation.instance));
    let second = bench.store.adopt(adoption(&bench, &run.reservation.context, "second")).await;
    let refused =
        matches!(second, Ok(Adopted::Conflict(Refusal::AlreadyActive { instance, .. })) if instance == known[0]);
    assert!(refused, "{second:?}");
}
