//! What any store must do, over the ports and a clock that the test moves.
//!
//! ```ignore
//! store_conformance!(sqlite_on_disk => |clock, term| Opened { … });
//! ```
//!
//! makes a module with one test per case. Each case has a store of its own, and ends with a look at the invariants that
//! the store counted.

pub mod accept;
pub mod admission;
pub mod adopt;
pub mod audit;
pub mod journal;
pub mod keys;
pub mod late;
pub mod lease;
pub mod lists;
pub mod nodes;
pub mod quarantine;
pub mod records;

use std::any::Any;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use freehold_domain::event::Actor;
use freehold_domain::evidence::{NothingSent, Release};
use freehold_domain::ids::{InstanceId, LeakId, OperationId, SubscriptionId};
use freehold_domain::lease::{Holder, Lease, LeaseTerm};
use freehold_domain::operation::{Failure, FailureCode, Step};
use freehold_domain::owner::Context;
use freehold_domain::records::{CanonicalSuccess, InstanceRow, Subscription, SubscriptionStatus};
use freehold_domain::reservation::{FrozenSpec, Reservation};
use freehold_domain::resource::{Resource, ResourceKind, RuntimeState};
use freehold_domain::route::Endpoint;
use freehold_domain::run::{Bid, Effect, Finding, Note, Run, Settle, Settlement, Then};
use freehold_domain::time::Timestamp;
use freehold_engine::ports::{
    Admission, Admitted, Answer, Asked, Clock, IdempotencyKey, Records, Registered, Store, StoreError,
};

/// How long a lease lasts in these tests.
pub const TERM: LeaseTerm = LeaseTerm(Duration::from_secs(10));

/// When these tests begin: 2026-01-01, in microseconds since the Unix epoch.
const START: i64 = 1_767_225_600_000_000;

/// A clock that the test moves.
#[derive(Debug)]
pub struct TestClock(AtomicI64);

impl Default for TestClock {
    fn default() -> Self {
        Self(AtomicI64::new(START))
    }
}

impl TestClock {
    /// Lets `span` pass.
    pub fn advance(&self, span: Duration) {
        self.0.fetch_add(i64::try_from(span.as_micros()).expect("a short time"), Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        self.now().since(Timestamp::from_micros(START))
    }
}

/// A store that was opened for one case.
pub struct Opened {
    /// The registry.
    pub store: Arc<dyn Store>,
    /// The records.
    pub records: Arc<dyn Records>,
    /// What must outlive both, such as a folder.
    pub keep: Box<dyn Any + Send + Sync>,
}

/// A store, a clock, and hands to use them with.
pub struct Bench {
    /// The registry.
    pub store: Arc<dyn Store>,
    /// The records.
    pub records: Arc<dyn Records>,
    /// The store's clock.
    pub clock: Arc<TestClock>,
    minted: AtomicU64,
}

/// Runs one case.
///
/// # Panics
/// Where the store does not do what the case says.
pub fn run<F: Future<Output = ()>>(
    open: impl FnOnce(Arc<TestClock>, LeaseTerm) -> Opened,
    case: impl FnOnce(Arc<Bench>) -> F,
) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let inside = runtime.enter();
    let clock = Arc::new(TestClock::default());
    let Opened { store, records, keep } = open(Arc::clone(&clock), TERM);
    let bench = Arc::new(Bench::over(store, records, clock));
    drop(inside);
    runtime.block_on(case(Arc::clone(&bench)));
    assert_eq!(bench.store.violations(), [], "invariants were violated");
    drop(bench);
    drop(keep);
}

/// A node in its first life here.
#[must_use]
pub fn node(name: &str) -> Holder {
    Holder { node: name.parse().expect("a name"), incarnation: 1 }
}

/// `user:` and the id.
#[must_use]
pub fn user(id: &str) -> Context {
    Context::new(format!("user:{id}").parse().expect("an owner"), None).expect("a context")
}

/// A person of an organisation.
#[must_use]
pub fn member(org: &str, person: &str) -> Context {
    let owner = format!("org:{org}").parse().expect("an owner");
    Context::new(owner, Some(person.parse().expect("a person"))).expect("a context")
}

/// A key with a body.
#[must_use]
pub fn key(scope: u8, body: u8) -> IdempotencyKey {
    IdempotencyKey { scope: [scope; 32], fingerprint: [body; 32] }
}

/// An answer with a body.
#[must_use]
pub fn answer(status: u16, body: &str) -> Answer {
    Answer { status, body: body.as_bytes().to_vec() }
}

/// A resource of a kind.
#[must_use]
pub fn resource(kind: ResourceKind, id: &str) -> Resource {
    Resource { kind, id: id.to_owned(), region: Some("ams".to_owned()), handle: format!("{{\"id\":\"{id}\"}}") }
}

/// A failure going forward.
#[must_use]
pub fn failure() -> Failure {
    Failure { code: FailureCode::ProviderProvisionFailed, rejection: None, detail: "it did not work".to_owned() }
}

/// What a run is held under.
///
/// # Panics
/// If nobody holds it.
#[must_use]
pub fn lease(run: &Run) -> Lease {
    run.lease().expect("somebody holds it")
}

impl Bench {
    /// Hands for a store that is open already.
    #[must_use]
    pub fn over(store: Arc<dyn Store>, records: Arc<dyn Records>, clock: Arc<TestClock>) -> Self {
        Self { store, records, clock, minted: AtomicU64::new(0) }
    }

    /// The same, where an earlier bench minted as many ids.
    #[must_use]
    pub fn behind(self, minted: u64) -> Self {
        Self { minted: AtomicU64::new(minted), ..self }
    }

    fn chance(&self) -> [u8; 10] {
        let mut chance = [0; 10];
        chance[3..].copy_from_slice(&self.minted.fetch_add(1, Ordering::SeqCst).to_be_bytes()[1..]);
        chance
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// An instance id.
    #[must_use]
    pub fn instance(&self) -> InstanceId {
        InstanceId::mint(self.now().as_millis(), self.chance())
    }

    /// An operation id.
    #[must_use]
    pub fn operation(&self) -> OperationId {
        OperationId::mint(self.now().as_millis(), self.chance())
    }

    /// A leak id.
    #[must_use]
    pub fn leak(&self) -> LeakId {
        LeakId::mint(self.now().as_millis(), self.chance())
    }

    /// Node `a` asks, and runs what comes of it.
    #[must_use]
    pub fn asked(&self) -> Asked {
        Asked {
            operation: self.operation(),
            actor: Actor::Platform,
            request_id: "req-1".to_owned(),
            deadline_in: Duration::from_secs(120),
            holder: Some(node("a")),
        }
    }

    /// Somebody asks who leaves the work to others.
    #[must_use]
    pub fn asked_of_others(&self) -> Asked {
        Asked { holder: None, ..self.asked() }
    }

    /// What an admission in a context asks for, at most one instance.
    #[must_use]
    pub fn admission(&self, context: &Context) -> Admission {
        Admission {
            bid: Bid {
                instance: self.instance(),
                context: context.clone(),
                provider: "process".parse().expect("a name"),
                tier: "small".parse().expect("a name"),
                price_version: "2026-01".parse().expect("a name"),
                regions: vec!["ams".to_owned(), "fra".to_owned()],
                named: None,
                spec: FrozenSpec(Arc::from(&b"{\"command\":[\"sleep\"]}"[..])),
            },
            asked: self.asked(),
            limit: 1,
            idempotency: None,
        }
    }

    /// Takes what is asked for.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn take(&self, admission: Admission) -> Run {
        match self.store.admit(admission).await {
            Ok(Admitted::Taken(run)) => *run,
            other => panic!("not taken: {other:?}"),
        }
    }

    /// An instance that is being made in a context.
    pub async fn taken(&self, context: &Context) -> Run {
        self.take(self.admission(context)).await
    }

    /// Commits a note.
    ///
    /// # Errors
    /// As the store's.
    pub async fn note(&self, run: &Run, finding: Option<(Step, Finding)>, then: Then) -> Result<Run, StoreError> {
        self.store.note(&lease(run), Note { at: self.now(), finding, then }).await
    }

    /// Commits an end.
    ///
    /// # Errors
    /// As the store's.
    pub async fn settle(&self, run: &Run, settlement: Settlement, answer: Option<Answer>) -> Result<Run, StoreError> {
        let check_at = self.now().plus(Duration::from_secs(300));
        self.store.settle(&lease(run), Settle { at: self.now(), finding: None, settlement, check_at }, answer).await
    }

    /// Makes the runtime of an instance that is being made, on record.
    pub async fn made(&self, run: &Run) -> Run {
        let noted = self.note(run, None, Then::Intend(Step::Runtime)).await.expect("it may send");
        let resource = resource(ResourceKind::Runtime, &format!("r-{}", run.reservation.instance.simple()));
        let made = Effect::Made { resource, runtime: Some(RuntimeState::Running) };
        let finding = Some((Step::Runtime, Finding::Done(made)));
        self.note(&noted, finding, Then::Intend(Step::Record)).await.expect("it is noted")
    }

    /// Proof that an instance is on record and paid for, after putting both down.
    pub async fn proof(&self, reservation: &Reservation) -> CanonicalSuccess {
        let row = InstanceRow {
            instance: reservation.instance,
            context: reservation.context.clone(),
            provider: reservation.provider.clone(),
            tier: reservation.tier.clone(),
            created_at: self.now(),
            destroyed_at: None,
        };
        self.records.insert(row, &records::because()).await.expect("a row");
        let view = self
            .records
            .subscription_put(self.subscription(reservation), &records::because())
            .await
            .expect("a subscription");
        CanonicalSuccess::establish(&view).expect("both are active")
    }

    /// A subscription for an instance.
    #[must_use]
    pub fn subscription(&self, reservation: &Reservation) -> Subscription {
        Subscription {
            id: SubscriptionId::mint(self.now().as_millis(), self.chance()),
            instance: reservation.instance,
            status: SubscriptionStatus::Active,
            plan: reservation.tier.to_string(),
            price_version: reservation.price_version.clone(),
            started_at: self.now(),
            ended_at: None,
            reported: true,
        }
    }

    /// Completes an instance that is being made.
    pub async fn complete(&self, run: &Run, answer: Option<Answer>) -> Run {
        let run = self.made(run).await;
        let proof = self.proof(&run.reservation).await;
        let endpoint = Endpoint("http://127.0.0.1:4000".to_owned());
        self.settle(&run, Settlement::Complete { proof, endpoint }, answer).await.expect("it completes")
    }

    /// A complete instance in a context.
    pub async fn completed(&self, context: &Context) -> Run {
        let run = self.taken(context).await;
        self.complete(&run, None).await
    }

    /// Releases an instance for which nothing was sent.
    pub async fn release_untouched(&self, run: &Run) -> Run {
        let evidence = Release::NothingSent(NothingSent::establish(&run.reservation).expect("untouched"));
        let failure = (!run.reservation.intent.is_destroy()).then(failure);
        self.settle(run, Settlement::Release { evidence, failure }, None).await.expect("it is released")
    }

    /// What the registry says of a run's instance.
    pub async fn described(&self, run: &Run) -> Registered {
        let described = self.store.instance_describe(run.reservation.instance).await;
        described.expect("the store answers").expect("it is on record")
    }

    /// Checks that the registry says exactly this of a run.
    ///
    /// # Panics
    /// If it does not.
    pub async fn check(&self, run: &Run) {
        let Registered { reservation, operation, route: _ } = self.described(run).await;
        assert_eq!(&Run { reservation, operation }, run);
    }
}

/// Makes a module with one test per case; `$open` opens a store, given a clock and a lease's term.
#[macro_export]
macro_rules! store_conformance {
    ($name:ident => $open:expr) => {
        mod $name {
            use super::*;
            $crate::conformance_cases! { $open;
                admission: an_admission_is_on_record_whole, a_taken_context_refuses_and_names_what_is_there,
                    fifty_racing_admissions_have_one_winner, contexts_do_not_share,
                    a_limit_above_one_counts_complete_instances, a_released_context_is_free,
                    one_key_and_body_have_one_operation, one_key_with_another_body_has_no_effect,
                    fifty_racing_retries_have_one_operation, a_look_says_what_an_admission_would,
                    a_look_sees_who_is_unattended, work_that_nobody_holds_is_due_at_once;
                lease: a_held_operation_is_not_for_others, a_lapsed_lease_is_claimed_under_the_next_epoch,
                    a_node_takes_its_earlier_lifes_work_at_once, what_is_over_is_not_claimed,
                    racing_claims_have_one_winner, a_renewed_lease_lasts, a_lapsed_lease_that_nobody_claimed_is_renewed,
                    a_lost_lease_is_not_renewed, what_is_given_back_is_for_anybody,
                    a_lost_lease_cannot_be_given_back, a_returned_node_rings_what_its_earlier_lives_held,
                    a_hurried_operation_is_due_unless_held, every_writer_with_an_old_epoch_is_fenced,
                    timers_ring_longest_first, one_owners_flood_does_not_keep_another_waiting;
                journal: a_journal_reads_back_as_it_was_written, a_completion_publishes_and_answers,
                    the_first_answer_stays, an_answer_without_a_key_is_not_kept,
                    a_rejection_and_its_release_are_on_record, giving_up_cleans_up_and_releases_on_evidence,
                    what_may_not_be_sent_is_refused_and_not_written, a_look_at_a_runtime_sets_the_next;
                accept: destroy_is_accepted_while_it_is_being_made, destroy_of_a_complete_one_frees_the_context,
                    destroy_is_accepted_while_cleaning_up, destroy_of_what_is_released_is_finished,
                    a_route_is_buried_for_good, work_is_begun_joined_and_replaced, work_is_refused_where_it_makes_no_sense,
                    an_update_changes_the_spec, a_repair_completes_what_is_proven, a_repair_of_the_dead_is_refused,
                    an_override_opens_a_leak_and_cleans_up_behind, an_override_of_what_changed_is_refused,
                    leaks_are_listed_and_resolved, a_sweep_after_a_release_opens_a_leak_and_closes_it,
                    a_sweep_removes_extra_copies_of_a_complete_one, a_sweep_is_refused_wherever_it_could_do_harm,
                    work_takes_the_place_of_a_sweep;
                adopt: what_was_made_elsewhere_is_on_record_whole, a_name_is_taken_in_once;
                audit: the_chain_verifies_from_its_beginning, reading_on_skips_nothing, one_instances_trail,
                    a_witness_is_chained;
                lists: pages_of_instances_have_each_once, filters_agree_with_what_they_say,
                    an_owner_sees_everything_of_its_own, stuck_destroys_are_found, the_summary_counts,
                    what_is_not_there_is_said;
                keys: the_first_installation_is_kept, keys_are_made_listed_and_revoked, old_idempotency_records_are_forgotten,
                    a_message_is_new_once;
                nodes: a_beat_is_on_record, a_new_life_is_not_draining_and_starts_anew, a_node_is_drained_and_not,
                    an_earlier_life_changes_nothing, a_silent_name_is_free, what_is_not_on_the_list_is_not_drained,
                    nodes_are_listed_by_name_for_a_day, held_leases_are_counted, live_executors_share_the_timers,
                    what_another_executor_has_is_elsewhere;
                quarantine: a_quarantine_begins_and_ends, the_end_of_a_quarantine_fences_and_rings,
                    a_quarantine_of_many_ends, the_high_water_only_grows,
                    the_high_water_jumps_without_anything_to_raise, owners_are_asked_for_again;
            }
        }
    };
}

/// One test per case; see [`store_conformance`].
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_cases {
    ($open:expr; $($module:ident: $($case:ident),*;)*) => {$($(
        #[test]
        fn $case() {
            $crate::conformance::run($open, $crate::conformance::$module::$case);
        }
    )*)*};
}
