//! Nodes that want the same at the same moment.

use std::sync::Arc;
use std::time::Duration;

use freehold_domain::lease::LeaseTerm;
use freehold_domain::reservation::FrozenSpec;
use freehold_engine::ports::{AdmitRefused, Admitted, DestroyAccepted, Store, StoreError};
use freehold_store::PostgresStore;
use freehold_store::conformance::{Bench, TERM, TestClock, key, lease, member, node as holder, user};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::{Place, bench, block_on, node, trail};

/// How many nodes there are, each with connections of its own.
const NODES: usize = 4;

/// How many ask at each of them, all at once.
const OF_EACH: usize = 8;

fn nodes(url: &str, clock: &Arc<TestClock>, term: LeaseTerm) -> Vec<Arc<PostgresStore>> {
    (0..NODES).map(|_| node(url, clock, term)).collect()
}

/// Runs `ask` at every node at once, behind a barrier.
async fn all_at_once<T, F>(nodes: &[Arc<PostgresStore>], ask: impl Fn(Arc<PostgresStore>, usize) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let barrier = Arc::new(Barrier::new(NODES * OF_EACH));
    let mut racers = JoinSet::new();
    for number in 0..NODES * OF_EACH {
        let asked = ask(Arc::clone(&nodes[number % NODES]), number);
        let barrier = Arc::clone(&barrier);
        racers.spawn(async move {
            barrier.wait().await;
            asked.await
        });
    }
    racers.join_all().await
}

/// New contexts and contexts that were used before, with keys and without.
#[test]
fn one_of_many_nodes_gets_a_context() {
    let place = Place::new();
    block_on(async {
        let bench = bench(&place.url);
        bench.store.made_at().await.expect("ready");
        let nodes = nodes(&place.url, &bench.clock, TERM);
        for round in 0..20 {
            let context = user(&format!("u{}", round / 2));
            let outcomes = all_at_once(&nodes, |node, _| {
                let admission = bench.admission(&context);
                async move { node.admit(admission).await }
            })
            .await;
            let taken: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok()).collect();
            let [Admitted::Taken(run)] = taken.as_slice() else { panic!("round {round}: {taken:?}") };
            for outcome in &outcomes {
                let fine = matches!(outcome, Ok(_) | Err(AdmitRefused::Conflict(_)));
                assert!(fine, "{outcome:?}");
            }
            bench.release_untouched(run).await;
        }
        trail(bench.store.as_ref()).await;
    });
}

/// A key of an organisation that is used for two of its people at once leads to one of them.
#[test]
fn a_key_leads_to_one_operation_across_contexts() {
    let place = Place::new();
    block_on(async {
        let bench = bench(&place.url);
        bench.store.made_at().await.expect("ready");
        let nodes = nodes(&place.url, &bench.clock, TERM);
        for round in 0..10_u8 {
            let outcomes = all_at_once(&nodes, |node, number| {
                let person = number % 2;
                let mut admission = bench.admission(&member("acme", &format!("p{person}-{round}")));
                admission.idempotency = Some(key(round, u8::try_from(person).expect("0 or 1")));
                async move { node.admit(admission).await }
            })
            .await;
            let count = |is: fn(&Result<Admitted, AdmitRefused>) -> bool| outcomes.iter().filter(|o| is(o)).count();
            let half = NODES * OF_EACH / 2;
            assert_eq!(count(|o| matches!(o, Ok(Admitted::Taken(_)))), 1);
            assert_eq!(count(|o| matches!(o, Ok(Admitted::Replayed { .. }))), half - 1);
            assert_eq!(count(|o| matches!(o, Err(AdmitRefused::KeyReused))), half);
        }
    });
}

/// One node gets a lapsed lease; and a renewal that comes first keeps everybody away.
#[test]
fn one_of_many_nodes_takes_over() {
    let place = Place::new();
    block_on(async {
        let bench = bench(&place.url);
        let nodes = nodes(&place.url, &bench.clock, TERM);
        for round in 0..10 {
            let run = bench.taken(&user(&format!("u{round}"))).await;
            bench.clock.advance(TERM.0 * 2);
            let operation = run.operation.id;
            let renewed = Arc::new(lease(&run));
            let outcomes = all_at_once(&nodes, |node, number| {
                let renewed = Arc::clone(&renewed);
                async move {
                    match number {
                        0 => node.renew(&[(*renewed).clone()]).await.map(|held| held[0]).map(|held| (held, 0)),
                        _ => {
                            let claimed = node.claim(operation, &holder(&format!("n{number}"))).await;
                            claimed.map(|claimed| (claimed.is_ok(), 1))
                        }
                    }
                }
            })
            .await;
            let won: Vec<_> = outcomes.into_iter().map(|o| o.expect("answers")).filter(|(won, _)| *won).collect();
            assert_eq!(won.len(), 1, "round {round}: {won:?}");
        }
    });
}

/// A destroy and a completion cross: either the completion is refused, or what it published is buried.
#[test]
fn a_destroy_wins_over_a_completion_on_another_node() {
    let place = Place::new();
    block_on(async {
        let bench = bench(&place.url);
        let other = node(&place.url, &bench.clock, TERM);
        let (mut first, mut second) = (0, 0);
        for round in 0..40 {
            let run = bench.taken(&user(&format!("u{round}"))).await;
            let (instance, asked) = (run.reservation.instance, bench.asked());
            let completing = {
                let (bench, run) = (Arc::clone(&bench), bench.made(&run).await);
                let proof = bench.proof(&run.reservation).await;
                tokio::spawn(async move {
                    let endpoint = freehold_domain::route::Endpoint("http://127.0.0.1:1".to_owned());
                    let settlement = freehold_domain::run::Settlement::Complete { proof, endpoint };
                    bench.settle(&run, settlement, None).await
                })
            };
            let destroyed = other.destroy_intent_set(instance, None, asked).await.expect("accepted");
            assert!(matches!(destroyed, DestroyAccepted::Accepted { .. }), "{destroyed:?}");
            match completing.await.expect("no panic") {
                Ok(_) => first += 1,
                Err(StoreError::Refused(_)) => second += 1,
                Err(other) => panic!("{other:?}"),
            }
            let route = bench.store.route_lookup(instance).await.expect("answers").expect("known");
            assert!(route.route.is_none_or(|route| !route.is_live()), "round {round} is routable");
        }
        println!("{first} completions came first, {second} were refused");
        trail(bench.store.as_ref()).await;
    });
}

/// A renewal and a claim of one lapsed lease wait for the guard, the renewal first. Answers whether each was granted.
async fn renewed_then_claimed(place: &Place, bench: &Arc<Bench>) -> (bool, bool) {
    let run = bench.taken(&user("alice")).await;
    bench.clock.advance(TERM.0 * 2);
    let guard = place.lab.hold("db0", "BEGIN; SELECT 1 FROM freehold_registry.contexts FOR UPDATE").expect("held");
    let (held, operation) = (lease(&run), run.operation.id);
    let store = Arc::clone(&bench.store);
    let renewing = tokio::spawn(async move { store.renew(&[held]).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let store = Arc::clone(&bench.store);
    let claiming = tokio::spawn(async move { store.claim(operation, &holder("b")).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    drop(guard);
    let renewed = renewing.await.expect("no panic").expect("answers")[0];
    (renewed, claiming.await.expect("no panic").expect("answers").is_ok())
}

/// Whoever read before a renewal does not claim after it.
#[test]
fn a_claim_that_was_decided_before_a_renewal_is_decided_anew() {
    let place = Place::new();
    let granted = block_on(async { renewed_then_claimed(&place, &bench(&place.url)).await });
    assert_eq!(granted, (true, false));
}

/// The twin: a guard whose version stays guards nothing, and both are told that they hold the lease.
#[test]
fn without_the_guards_version_both_hold_the_lease() {
    let place = Place::new();
    let granted = block_on(async {
        let bench = bench(&place.url);
        bench.store.made_at().await.expect("ready");
        place
            .sql(
                "CREATE FUNCTION freehold_registry.stay() RETURNS trigger LANGUAGE plpgsql AS $$ \
                 BEGIN NEW.version := OLD.version; RETURN NEW; END $$; \
                 CREATE TRIGGER stay BEFORE UPDATE ON freehold_registry.contexts \
                 FOR EACH ROW EXECUTE FUNCTION freehold_registry.stay()",
            )
            .expect("replaced");
        renewed_then_claimed(&place, &bench).await
    });
    assert_eq!(granted, (true, true), "nobody noticed");
}

/// Whoever read an owner's context before it was anonymised must not write into the one that the owner has afterwards.
#[test]
fn a_guard_that_begins_again_is_at_no_version_of_the_one_before() {
    let place = Place::new();
    block_on(async {
        let bench = bench(&place.url);
        let version = || -> i64 {
            let said = place.sql("SELECT version FROM freehold_registry.contexts WHERE owner = 'user:alice'");
            said.expect("answers").trim().parse().expect("a number")
        };
        let alice = user("alice");
        bench.release_untouched(&bench.taken(&alice).await).await;
        let before = version();
        let pseudonym = "user:nobody".parse().expect("an owner");
        let renamed = bench.store.owner_anonymize(alice.owner(), &pseudonym, FrozenSpec(b"{}".as_slice().into())).await;
        assert_eq!(renamed, Ok(Ok(1)));
        bench.taken(&alice).await;
        assert!(version() > before, "{} was at {before} before", version());
    });
}
