//! What any records must do, wherever they are. No registry is needed: what it does not know is not its to judge.
//!
//! `records_conformance!(name => open)` makes a module with one test per case; `open` answers records that are empty, and
//! what must outlive them.

use std::any::Any;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use freehold_domain::event::Actor;
use freehold_domain::ids::{InstanceId, OperationId, SubscriptionId};
use freehold_domain::owner::{Context, Owner};
use freehold_domain::records::{InstanceRow, RecordsView, Subscription, SubscriptionStatus};
use freehold_domain::time::Timestamp;
use freehold_engine::ports::{Because, Clock, RecordChange, Records, RecordsError, SubscriptionTerms};

use super::{TestClock, member, user};

/// How often two writers cross in one case.
const CROSSINGS: usize = 200;

/// Records, a clock, and hands to use them with.
pub struct Book {
    /// The records.
    pub records: Arc<dyn Records>,
    clock: TestClock,
    minted: AtomicU64,
}

/// Records that were opened for one case, and what must outlive them.
pub type OpenedRecords = (Arc<dyn Records>, Box<dyn Any + Send + Sync>);

/// Runs one case.
///
/// # Panics
/// Where the records do not do what the case says.
pub fn run<F: Future<Output = ()>>(open: impl FnOnce() -> OpenedRecords, case: impl FnOnce(Arc<Book>) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let (records, keep) = open();
    let book = Arc::new(Book::of(records));
    runtime.block_on(case(Arc::clone(&book)));
    drop(book);
    drop(runtime);
    drop(keep);
}

/// Says why.
#[must_use]
pub fn because() -> Because {
    Because { actor: Actor::System, operation: None, reason: "a story".to_owned() }
}

impl Book {
    /// Over some records.
    #[must_use]
    pub fn of(records: Arc<dyn Records>) -> Self {
        Self { records, clock: TestClock::default(), minted: AtomicU64::new(0) }
    }

    fn chance(&self) -> [u8; 10] {
        let mut chance = [0; 10];
        chance[2..].copy_from_slice(&self.minted.fetch_add(1, Ordering::SeqCst).to_be_bytes());
        chance
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A second later.
    pub fn later(&self) -> Timestamp {
        self.clock.advance(Duration::from_micros(1_000_001));
        self.now()
    }

    /// An instance id, greater than those before it.
    #[must_use]
    pub fn instance(&self) -> InstanceId {
        InstanceId::mint(self.now().as_millis(), self.chance())
    }

    /// A row that is not on record.
    #[must_use]
    pub fn row(&self, context: &Context) -> InstanceRow {
        InstanceRow {
            instance: self.instance(),
            context: context.clone(),
            provider: "process".parse().expect("a name"),
            tier: "small".parse().expect("a name"),
            created_at: self.now(),
            destroyed_at: None,
        }
    }

    /// A subscription that is not on record.
    #[must_use]
    pub fn subscription(&self, instance: InstanceId) -> Subscription {
        Subscription {
            id: SubscriptionId::mint(self.now().as_millis(), self.chance()),
            instance,
            status: SubscriptionStatus::Active,
            plan: "small".to_owned(),
            price_version: "2026-01".parse().expect("a name"),
            started_at: self.now(),
            ended_at: None,
            reported: true,
        }
    }

    /// A row that is on record.
    pub async fn inserted(&self, context: &Context) -> InstanceRow {
        let row = self.row(context);
        self.records.insert(row.clone(), &because()).await.expect("a row");
        row
    }

    /// A row and a subscription that are on record.
    pub async fn subscribed(&self, context: &Context) -> (InstanceRow, Subscription) {
        let row = self.inserted(context).await;
        let subscription = self.subscription(row.instance);
        self.records.subscription_put(subscription.clone(), &because()).await.expect("a subscription");
        (row, subscription)
    }

    /// Closes an instance.
    pub async fn closed(&self, instance: InstanceId) -> RecordsView {
        self.records.mark_destroyed(instance, self.now(), &because()).await.expect("it is closed")
    }

    async fn changes(&self, instance: InstanceId) -> Vec<RecordChange> {
        self.records.changes(instance, 1_000).await.expect("a log")
    }

    async fn actions(&self, instance: InstanceId) -> Vec<String> {
        self.changes(instance).await.into_iter().map(|change| change.action).collect()
    }
}

fn of(row: &InstanceRow, subscription: Option<&Subscription>) -> RecordsView {
    let closed = row.destroyed_at.is_some();
    RecordsView { row: Some(row.clone()), subscription: subscription.cloned(), closed }
}

fn rows(views: Vec<RecordsView>) -> Vec<InstanceId> {
    views.into_iter().filter_map(|view| view.row).map(|row| row.instance).collect()
}

fn is_refused<T>(answer: &Result<T, RecordsError>) -> bool {
    matches!(answer, Err(RecordsError::Refused(_)))
}

/// Again changes nothing, and both marks are for good.
pub async fn rows_are_written_once(book: Arc<Book>) {
    let row = book.row(&user("alice"));
    assert_eq!(book.records.describe(row.instance).await, Ok(RecordsView::default()));
    let view = of(&row, None);
    assert_eq!(book.records.insert(row.clone(), &because()).await, Ok(view.clone()));
    let other = InstanceRow { tier: "large".parse().expect("a name"), ..row.clone() };
    assert_eq!(book.records.insert(other, &because()).await, Ok(view.clone()), "the first row stays");
    assert_eq!(book.records.describe(row.instance).await, Ok(view));
    let destroyed_at = book.later();
    let gone = of(&InstanceRow { destroyed_at: Some(destroyed_at), ..row.clone() }, None);
    assert_eq!(book.closed(row.instance).await, gone);
    book.later();
    assert_eq!(book.closed(row.instance).await, gone);
    assert_eq!(book.records.insert(row.clone(), &because()).await, Ok(gone), "what is destroyed stays so");
    assert_eq!(book.actions(row.instance).await, ["instance_inserted", "instance_destroyed"]);
}

/// Closed before its row came: it never comes.
pub async fn what_is_closed_has_no_row_later(book: Arc<Book>) {
    let late = book.row(&user("alice"));
    let closed = RecordsView { closed: true, ..RecordsView::default() };
    assert_eq!(book.closed(late.instance).await, closed);
    assert_eq!(book.closed(late.instance).await, closed, "again changes nothing");
    let refused = book.records.insert(late.clone(), &because()).await;
    assert!(is_refused(&refused), "{refused:?}");
    assert!(is_refused(&book.records.subscription_put(book.subscription(late.instance), &because()).await));
    assert_eq!(book.records.describe(late.instance).await, Ok(closed));
    assert_eq!(book.actions(late.instance).await, ["instance_closed"]);
}

/// At most one per instance, ever.
pub async fn a_subscription_starts_and_ends_once(book: Arc<Book>) {
    let (row, subscription) = book.subscribed(&member("acme", "alice")).await;
    let view = of(&row, Some(&subscription));
    assert_eq!(book.records.describe(row.instance).await, Ok(view.clone()));
    let second = book.subscription(row.instance);
    assert_eq!(book.records.subscription_put(second.clone(), &because()).await, Ok(view), "the first one stays");
    let ended_at = book.later();
    let ended = Subscription { status: SubscriptionStatus::Ended, ended_at: Some(ended_at), ..subscription };
    let view = of(&row, Some(&ended));
    assert_eq!(book.records.subscription_end(row.instance, ended_at, &because()).await, Ok(view.clone()));
    let again = book.later();
    assert_eq!(book.records.subscription_end(row.instance, again, &because()).await, Ok(view.clone()));
    assert_eq!(book.records.subscription_put(second, &because()).await, Ok(view.clone()), "what ended stays so");
    for to in [SubscriptionStatus::Active, SubscriptionStatus::Suspended] {
        assert_eq!(book.records.subscription_turn(row.instance, to, &because()).await, Ok(view.clone()), "{to:?}");
    }
    let logged = ["instance_inserted", "subscription_started", "subscription_ended"];
    assert_eq!(book.actions(row.instance).await, logged);
    let nothing = book.records.subscription_end(book.instance(), again, &because()).await;
    assert_eq!(nothing, Ok(RecordsView::default()));
}

/// The row comes before the subscription, and is active.
pub async fn nothing_is_billed_without_a_row(book: Arc<Book>) {
    let instance = book.instance();
    let refused = book.records.subscription_put(book.subscription(instance), &because()).await;
    assert!(is_refused(&refused), "{refused:?}");
    assert_eq!(book.records.describe(instance).await, Ok(RecordsView::default()));
    let row = book.inserted(&user("alice")).await;
    book.closed(row.instance).await;
    let refused = book.records.subscription_put(book.subscription(row.instance), &because()).await;
    assert!(is_refused(&refused), "{refused:?}");
    assert_eq!(book.actions(row.instance).await, ["instance_inserted", "instance_destroyed"]);
}

/// A suspended one stands, and runs again.
pub async fn a_subscription_is_suspended_and_resumed(book: Arc<Book>) {
    let (row, subscription) = book.subscribed(&user("alice")).await;
    let turn = async |to| book.records.subscription_turn(row.instance, to, &because()).await.expect("answers");
    let suspended = Subscription { status: SubscriptionStatus::Suspended, ..subscription.clone() };
    for _ in 0..2 {
        let view = turn(SubscriptionStatus::Suspended).await;
        assert_eq!(view, of(&row, Some(&suspended)));
        assert!(view.subscription_is_active() && view.is_suspended());
    }
    for _ in 0..2 {
        assert_eq!(turn(SubscriptionStatus::Active).await, of(&row, Some(&subscription)));
    }
    assert!(is_refused(&book.records.subscription_turn(row.instance, SubscriptionStatus::Ended, &because()).await));
    let nothing = book.records.subscription_turn(book.instance(), SubscriptionStatus::Active, &because()).await;
    assert_eq!(nothing, Ok(RecordsView::default()));
    let logged = ["instance_inserted", "subscription_started", "subscription_suspended", "subscription_resumed"];
    assert_eq!(book.actions(row.instance).await, logged);
}

/// What was started without billing is on a list until billing has heard of it, and is on its terms from then on.
pub async fn what_billing_has_not_heard_of_is_reported_once(book: Arc<Book>) {
    let (known, _) = book.subscribed(&user("alice")).await;
    let mut unheard = Vec::new();
    for name in ["bob", "carol"] {
        let row = book.inserted(&user(name)).await;
        let subscription = Subscription { reported: false, ..book.subscription(row.instance) };
        book.records.subscription_put(subscription.clone(), &because()).await.expect("a subscription");
        unheard.push((row, subscription));
    }
    let listed = async |limit| rows(book.records.unreported(limit).await.expect("a list"));
    let mut both = listed(10).await;
    both.sort_unstable();
    assert_eq!(both, [unheard[0].0.instance, unheard[1].0.instance]);
    assert_eq!(listed(1).await.len(), 1);
    let (row, subscription) = &unheard[0];
    // Of a service that mints ids of version 4.
    let id = "123e4567-e89b-42d3-a456-426614174000".parse().expect("an id");
    let terms =
        |plan: &str| SubscriptionTerms { id, plan: plan.to_owned(), price_version: "2026-07".parse().expect("a name") };
    let SubscriptionTerms { id, plan, price_version } = terms("billing's");
    let reported = Subscription { id, plan, price_version, reported: true, ..subscription.clone() };
    let view = of(row, Some(&reported));
    for plan in ["billing's", "another"] {
        let answer = book.records.subscription_reported(row.instance, terms(plan), &because()).await;
        assert_eq!(answer, Ok(view.clone()), "{plan}");
    }
    assert_eq!(listed(10).await, [unheard[1].0.instance]);
    let heard = book.records.subscription_reported(known.instance, terms("another"), &because()).await;
    assert!(heard.expect("answers").subscription.is_some_and(|subscription| subscription.plan == "small"));
    let logged = ["instance_inserted", "subscription_started", "subscription_reported"];
    assert_eq!(book.actions(row.instance).await, logged);
}

/// Of one context, and of one owner, without the destroyed ones.
pub async fn active_rows_are_oldest_first(book: Arc<Book>) {
    let context = member("acme", "alice");
    let mut of_alice = Vec::new();
    for _ in 0..3 {
        of_alice.push(book.inserted(&context).await);
        book.later();
    }
    let of_bob = book.inserted(&member("acme", "bob")).await;
    book.inserted(&user("alice")).await;
    book.closed(of_alice[1].instance).await;
    let active = book.records.active_in(&context).await.expect("answers");
    assert_eq!(active, [of(&of_alice[0], None), of(&of_alice[2], None)]);
    assert_eq!(book.records.active_in(&user("nobody")).await, Ok(vec![]));
    let in_order = [of_alice[0].instance, of_alice[2].instance, of_bob.instance];
    let of_acme = async |limit| rows(book.records.active_of(context.owner(), limit).await.expect("answers"));
    assert_eq!(of_acme(10).await, in_order);
    assert_eq!(of_acme(2).await, in_order[..2]);
    assert_eq!(book.records.active_of(user("nobody").owner(), 10).await, Ok(vec![]));
}

/// Page by page, each once, without the destroyed ones.
pub async fn pages_of_active_rows_have_each_once(book: Arc<Book>) {
    let mut all = Vec::new();
    for number in 0..7 {
        all.push(book.inserted(&user(&format!("u{number}"))).await.instance);
        book.later();
    }
    book.closed(all.remove(3)).await;
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = rows(book.records.active_after(after, 4).await.expect("a page"));
        assert!(page.len() <= 4);
        let Some(last) = page.last() else { break };
        after = Some(*last);
        seen.extend(page);
    }
    assert_eq!(seen, all);
}

/// Who, in the course of what, why, and what was on record before and after.
pub async fn changes_say_who_and_why(book: Arc<Book>) {
    let row = book.row(&user("alice"));
    let operation = OperationId::mint(1, [1; 10]);
    let inserted = Because::of(operation, "it \"runs\"");
    book.records.insert(row.clone(), &inserted).await.expect("a row");
    let closed = Because { actor: Actor::Operator, operation: None, reason: "no longer wanted".to_owned() };
    book.records.mark_destroyed(row.instance, book.later(), &closed).await.expect("it is closed");
    let changes = book.changes(row.instance).await;
    assert_eq!(changes.len(), 2, "{changes:?}");
    assert_eq!((&changes[0].because, &changes[1].because), (&inserted, &closed));
    assert!(changes.iter().all(|change| change.instance == row.instance));
    assert!(changes[0].at <= changes[1].at);
    assert_eq!(changes[0].before, None);
    let json = |text: &Option<String>| -> serde_json::Value {
        serde_json::from_str(text.as_deref().expect("something")).expect("JSON")
    };
    assert_eq!(json(&changes[0].after), json(&changes[1].before));
    let after = json(&changes[1].after);
    assert_eq!(after["instance"]["owner"], "user:alice");
    assert_eq!(after["instance"]["created_at"], row.created_at.as_micros());
    assert_eq!(after["instance"]["destroyed_at"], book.now().as_micros());
    assert!(after["subscription"].is_null(), "{after}");
    assert_eq!(book.records.changes(row.instance, 1).await, Ok(changes[..1].to_vec()));
    assert_eq!(book.records.changes(book.instance(), 10).await, Ok(vec![]));
}

/// Its rows and its lines in the log have a pseudonym, and those of others are as they were.
pub async fn an_owner_is_forgotten(book: Arc<Book>) {
    let owner: Owner = "org:acme".parse().expect("an owner");
    let pseudonym: Owner = "org:anon-1".parse().expect("an owner");
    let (first, _) = book.subscribed(&member("acme", "alice")).await;
    let second = book.inserted(&member("acme", "bob")).await;
    let (other, _) = book.subscribed(&user("acme")).await;
    book.closed(first.instance).await;
    let anonymize = async || book.records.anonymize(&owner, &pseudonym, &because()).await;
    let refused = anonymize().await;
    assert!(is_refused(&refused), "one is active: {refused:?}");
    assert_eq!(
        book.records.describe(first.instance).await.expect("answers").row.expect("a row").context,
        first.context
    );
    book.closed(second.instance).await;
    assert_eq!(anonymize().await, Ok(2));
    assert_eq!(anonymize().await, Ok(0), "again changes nothing");
    for row in [&first, &second] {
        let view = book.records.describe(row.instance).await.expect("answers");
        assert_eq!(view.row.expect("a row").context, member("anon-1", "anon-1"));
        let changes = book.changes(row.instance).await;
        assert_eq!(changes.last().map(|change| change.action.as_str()), Some("owner_anonymized"));
        let text = format!("{changes:?}");
        assert!(!text.contains("acme") && !text.contains("alice") && !text.contains("bob"), "{text}");
    }
    assert!(book.records.describe(other.instance).await.expect("answers").row_is_active());
    assert!(format!("{:?}", book.changes(other.instance).await).contains("user:acme"));
}

/// However they cross, what is closed has no active row, and what is not active is not billed.
pub async fn crossing_writers_leave_nothing_active_behind(book: Arc<Book>) {
    crossings(book, CROSSINGS).await;
}

/// The same, as often as one likes.
///
/// # Panics
/// Where something is active that is closed.
pub async fn crossings(book: Arc<Book>, rounds: usize) {
    let (mut refused, mut destroyed) = (0, 0);
    for round in 0..rounds {
        let row = book.row(&user("alice"));
        let instance = row.instance;
        let subscription = book.subscription(instance);
        let start = Arc::new(tokio::sync::Barrier::new(3));
        let spawn = |write: std::pin::Pin<Box<dyn Future<Output = bool> + Send>>| {
            let start = Arc::clone(&start);
            tokio::spawn(async move {
                start.wait().await;
                write.await
            })
        };
        let records = Arc::clone(&book.records);
        // In half of the rounds the row is there, and the subscription is what crosses.
        if round % 2 == 1 {
            book.records.insert(row.clone(), &because()).await.expect("a row");
        }
        let inserts = spawn(Box::pin(async move { records.insert(row, &because()).await.is_ok() }));
        let records = Arc::clone(&book.records);
        let subscribes =
            spawn(Box::pin(async move { records.subscription_put(subscription, &because()).await.is_ok() }));
        let (records, at) = (Arc::clone(&book.records), book.now());
        let closes = spawn(Box::pin(async move { records.mark_destroyed(instance, at, &because()).await.is_ok() }));
        let inserted = inserts.await.expect("it answers");
        let subscribed = subscribes.await.expect("it answers");
        assert!(closes.await.expect("it answers"), "closing is never refused");
        let view = book.records.describe(instance).await.expect("answers");
        assert!(view.closed && !view.row_is_active(), "round {round}: {view:?}");
        assert_eq!(inserted, view.row.is_some(), "round {round}: {view:?}");
        assert_eq!(subscribed, view.subscription.is_some(), "round {round}: {view:?}");
        let actions = book.actions(instance).await;
        let at = |action: &str| actions.iter().position(|known| known == action);
        if subscribed {
            assert!(at("subscription_started") < at("instance_destroyed"), "round {round}: {actions:?}");
        }
        assert!(at("instance_closed").is_some() != at("instance_destroyed").is_some(), "round {round}: {actions:?}");
        refused += usize::from(!inserted);
        destroyed += usize::from(inserted);
    }
    println!("{rounds} crossings: {refused} rows came too late, {destroyed} were marked destroyed");
}

/// Makes a module with one test per case; `$open` opens records that are empty.
#[macro_export]
macro_rules! records_conformance {
    ($name:ident => $open:expr) => {
        mod $name {
            use super::*;
            $crate::records_cases! { $open;
                rows_are_written_once, what_is_closed_has_no_row_later, a_subscription_starts_and_ends_once,
                nothing_is_billed_without_a_row, a_subscription_is_suspended_and_resumed,
                what_billing_has_not_heard_of_is_reported_once, active_rows_are_oldest_first,
                pages_of_active_rows_have_each_once, changes_say_who_and_why, an_owner_is_forgotten,
                crossing_writers_leave_nothing_active_behind
            }
        }
    };
}

/// One test per case; see [`records_conformance`].
#[doc(hidden)]
#[macro_export]
macro_rules! records_cases {
    ($open:expr; $($case:ident),*) => {$(
        #[test]
        fn $case() {
            $crate::conformance::records::run($open, $crate::conformance::records::$case);
        }
    )*};
}
