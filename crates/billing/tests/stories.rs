//! The port at a real socket: each way that a billing service answers, or does not, and what is made of it.
#![expect(clippy::unwrap_used, reason = "what is missing in a test fails the test")]

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use freehold_billing::lab::{BillingLab, Fault, Message, SECRET};
use freehold_billing::{HttpBilling, HttpBillingOptions};
use freehold_domain::ids::{InstanceId, SubscriptionId};
use freehold_domain::lease::{PriceVersion, TierName};
use freehold_domain::owner::Context;
use freehold_domain::resource::Outcome;
use freehold_domain::time::Timestamp;
use freehold_engine::local_billing::LocalBilling;
use freehold_engine::ports::{Billing, Clock, Entitlement, EntitlementRefused, Entropy};

struct Now;

impl Clock for Now {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap())
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// Not chance, but never the same.
#[derive(Default)]
struct Counter(AtomicU8);

impl Entropy for Counter {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(self.0.fetch_add(1, Ordering::Relaxed));
    }
}

fn price(name: &str) -> PriceVersion {
    name.parse().unwrap()
}

fn tier(name: &str) -> TierName {
    name.parse().unwrap()
}

fn plans() -> LocalBilling {
    LocalBilling {
        price_version: price("2026-01-01"),
        price_versions: BTreeMap::from([(price("2026-01-01"), tier("small")), (price("2026-02-01"), tier("large"))]),
        ranks: BTreeMap::from([(tier("small"), 1), (tier("large"), 2)]),
    }
}

fn options(url: &str) -> HttpBillingOptions {
    HttpBillingOptions {
        url: url.to_owned(),
        secrets: SECRET.parse().unwrap(),
        timeout: Duration::from_secs(2),
        plans: plans(),
        falls_back: false,
    }
}

fn billing(options: HttpBillingOptions) -> HttpBilling {
    // A second test of the same process finds it installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    HttpBilling::new(options, Arc::new(Now), Arc::new(Counter::default())).unwrap()
}

fn alice() -> Context {
    Context::new("user:alice".parse().unwrap(), None).unwrap()
}

const INSTANCE: u64 = 7;

fn instance() -> InstanceId {
    InstanceId::mint(INSTANCE, [1; 10])
}

fn proposed() -> SubscriptionId {
    SubscriptionId::mint(1, [9; 10])
}

/// One word for an outcome.
fn word<T>(outcome: &Outcome<T>) -> String {
    match outcome {
        Outcome::NotSent(_) => "not sent".to_owned(),
        Outcome::Rejected(rejection) => rejection.class.name().to_owned(),
        Outcome::Done(_) => "done".to_owned(),
        Outcome::Unknown(_) => "unknown".to_owned(),
    }
}

#[tokio::test]
async fn a_subscription_starts_once_and_ends_for_ever() {
    let lab = BillingLab::start().await.unwrap();
    let billing = billing(options(&lab.url()));
    let (alice, price) = (alice(), price("2026-01-01"));
    let start = || billing.start(instance(), &alice, &price, proposed());
    let Outcome::Done(first) = start().await else { panic!("it starts") };
    let Outcome::Done(again) = start().await else { panic!("it is found") };
    assert_eq!(first, again);
    assert_eq!((first.plan.as_str(), &first.price_version), ("small", &price));
    let books = lab.books();
    let key = instance().to_string();
    assert_eq!(books.started[&key], 1);
    assert_eq!((books.active[&key].owner.as_str(), books.unsigned), ("user:alice", 0));
    assert_eq!(books.ids[&("subscription.start", key.clone())].len(), 1, "every retry has the same id");

    assert_eq!(billing.end(instance(), "instance_destroyed").await, Outcome::Done(()));
    assert_eq!(billing.end(instance(), "instance_destroyed").await, Outcome::Done(()));
    assert_eq!(word(&start().await), "invalid", "what was ended never starts again");
    let books = lab.books();
    assert!(books.active.is_empty() && books.ended.contains(&key));
    assert_eq!(books.ids[&("subscription.end", key)].len(), 1);
}

#[tokio::test]
async fn every_way_to_answer_a_start_has_one_meaning_and_the_books_say_what_happened() {
    let says = |text: &str| Fault::Says(text.to_owned());
    let rows = [
        (Fault::Refuse, "invalid", false),
        (Fault::Deny("pay first".into()), "unauthorized", false),
        (Fault::Throttle, "not sent", false),
        (Fault::Down, "unknown", false),
        (Fault::AnswerLost, "unknown", true),
        (Fault::Slow(Duration::from_secs(60)), "unknown", true),
        (Fault::Slow(Duration::from_millis(1)), "done", true),
        (Fault::Malformed, "unknown", true),
        (Fault::Huge, "unknown", true),
        (Fault::Redirect, "unknown", true),
        (Fault::ErrorBefore, "unknown", false),
        (Fault::ErrorAfter, "unknown", true),
        (says("{}"), "unknown", true),
        (says(r#"{"subscription_id":"","status":"active","plan":"p","price_version":"2026-01-01"}"#), "unknown", true),
        (says(r#"{"subscription_id":"s","status":"odd","plan":"p","price_version":"2026-01-01"}"#), "unknown", true),
        (says(r#"{"subscription_id":"s","status":"ended","plan":"p","price_version":"2026-01-01"}"#), "invalid", true),
        (
            says(r#"{"subscription_id":"s","status":"suspended","plan":"p","price_version":"2026-01-01"}"#),
            "invalid",
            true,
        ),
        (says(r#"{"subscription_id":"s","status":"active","plan":"p","price_version":"2026-02-01"}"#), "invalid", true),
        (
            says(r#"{"subscription_id":"s","status":"active","plan":"p","price_version":"2026-01-01","more":1}"#),
            "done",
            true,
        ),
    ];
    for (fault, meaning, happened) in rows {
        let lab = BillingLab::start().await.unwrap();
        let billing = billing(HttpBillingOptions { timeout: Duration::from_millis(700), ..options(&lab.url()) });
        lab.fail_next(Message::Start, fault.clone());
        let outcome = billing.start(instance(), &alice(), &price("2026-01-01"), proposed()).await;
        assert_eq!(word(&outcome), meaning, "{fault:?}: {outcome:?}");
        let started = lab.books().started.get(&instance().to_string()).copied().unwrap_or_default();
        assert_eq!(started == 1, happened, "{fault:?}");
        let said = format!("{outcome:?}");
        assert!(!said.contains("html") && !said.contains("not like this") && !said.contains("elsewhere"), "{said}");
    }
}

#[tokio::test]
async fn every_way_to_answer_an_end_has_one_meaning() {
    for (fault, meaning) in [
        (Fault::Refuse, "invalid"),
        (Fault::Throttle, "not sent"),
        (Fault::AnswerLost, "unknown"),
        (Fault::Malformed, "unknown"),
        (Fault::ErrorAfter, "unknown"),
        (Fault::Says(String::new()), "done"),
        (Fault::Says("{}".into()), "done"),
    ] {
        let lab = BillingLab::start().await.unwrap();
        lab.fail_next(Message::End, fault.clone());
        let outcome = billing(options(&lab.url())).end(instance(), "instance_destroyed").await;
        assert_eq!(word(&outcome), meaning, "{fault:?}: {outcome:?}");
    }
}

#[tokio::test]
async fn what_never_left_is_told_from_what_was_never_answered() {
    // A port that nobody listens at.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    // One that takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = (silent.local_addr().unwrap(), silent);
    // One that does not speak TLS.
    let lab = BillingLab::start().await.unwrap();
    let plain = lab.url().replace("http://", "https://");
    for (url, meaning) in [
        (format!("http://me:hunter2@{gone}/billing?token=hunter2"), "not sent"),
        ("http://no-such-host.invalid/".to_owned(), "not sent"),
        (plain, "not sent"),
        (format!("http://me:hunter2@{}/billing", silent.0), "unknown"),
    ] {
        let billing = billing(HttpBillingOptions { timeout: Duration::from_millis(500), ..options(&url) });
        let outcome = billing.start(instance(), &alice(), &price("2026-01-01"), proposed()).await;
        assert_eq!(word(&outcome), meaning, "{url}: {outcome:?}");
        let said = format!("{outcome:?} {billing:?} {:?}", billing.entitlement(&alice(), None).await);
        assert!(!said.contains("hunter2") && !said.contains("127.0.0.1"), "{said}");
    }
    assert!(lab.books().received.is_empty());
}

#[tokio::test]
async fn an_entitlement_is_what_billing_says_as_far_as_the_configuration_offers_it() {
    let lab = BillingLab::start().await.unwrap();
    let billing = billing(options(&lab.url()));
    let entitlement =
        |price_name: &str, tier_name: &str| Ok(Entitlement { tier: tier(tier_name), price_version: price(price_name) });
    assert_eq!(billing.entitlement(&alice(), None).await, entitlement("2026-01-01", "small"));
    lab.entitle("2026-02-01", "large");
    assert_eq!(billing.entitlement(&alice(), None).await, entitlement("2026-02-01", "large"));
    let small = tier("small");
    assert_eq!(billing.entitlement(&alice(), Some(&small)).await, entitlement("2026-02-01", "small"));
    let other = tier("other");
    let unknown = billing.entitlement(&alice(), Some(&other)).await;
    assert_eq!(unknown, Err(EntitlementRefused::TierNotOffered("other".into())));
    lab.entitle("2026-01-01", "small");
    let large = tier("large");
    let exceeds = EntitlementRefused::TierExceedsEntitlement { requested: tier("large"), allowed: tier("small") };
    assert_eq!(billing.entitlement(&alice(), Some(&large)).await, Err(exceeds));
}

#[tokio::test]
async fn an_entitlement_that_makes_no_sense_fails_closed() {
    let lab = BillingLab::start().await.unwrap();
    let billing = billing(HttpBillingOptions { timeout: Duration::from_millis(700), ..options(&lab.url()) });
    for (price_version, tier) in [("2027-01-01", "small"), ("2026-01-01", "large"), ("2026-01-01", "other"), ("", "")] {
        lab.entitle(price_version, tier);
        let said = billing.entitlement(&alice(), None).await;
        assert!(matches!(said, Err(EntitlementRefused::Unavailable(_))), "{price_version} {tier}: {said:?}");
    }
    lab.entitle("2026-01-01", "small");
    for fault in [
        Fault::Refuse,
        Fault::Throttle,
        Fault::Down,
        Fault::Slow(Duration::from_secs(60)),
        Fault::Malformed,
        Fault::Huge,
        Fault::Redirect,
        Fault::ErrorBefore,
        Fault::Says("{}".into()),
    ] {
        lab.fail_next(Message::Resolve, fault.clone());
        let said = billing.entitlement(&alice(), None).await;
        assert!(matches!(said, Err(EntitlementRefused::Unavailable(_))), "{fault:?}: {said:?}");
    }
    lab.fail_next(Message::Resolve, Fault::Deny("pay\n first".into()));
    assert_eq!(billing.entitlement(&alice(), None).await, Err(EntitlementRefused::Denied("pay first".into())));
}

#[tokio::test]
async fn a_secret_that_the_service_does_not_know_is_refused_and_one_in_rotation_is_not() {
    let lab = BillingLab::start().await.unwrap();
    let other = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    let with = |secrets: &str| billing(HttpBillingOptions { secrets: secrets.parse().unwrap(), ..options(&lab.url()) });
    assert_eq!(word(&with(other).end(instance(), "x").await), "unauthorized");
    assert_eq!((lab.books().unsigned, lab.books().received.len()), (1, 0));
    assert_eq!(word(&with(&format!("{other} {SECRET}")).end(instance(), "x").await), "done");
}

#[tokio::test]
async fn the_configuration_stands_in_where_it_may() {
    let never = billing(options("http://127.0.0.1:9/"));
    assert_eq!(never.fallback(&price("2026-01-01"), proposed()), None);
    let may = billing(HttpBillingOptions { falls_back: true, ..options("http://127.0.0.1:9/") });
    let terms = may.fallback(&price("2026-02-01"), proposed()).unwrap();
    assert_eq!((terms.id, terms.plan.as_str()), (proposed(), "large"));
    assert_eq!(may.fallback(&price("2027-01-01"), proposed()), None);
}

#[tokio::test]
async fn whoever_keeps_asking_a_service_that_fails_by_chance_gets_there_and_pays_once() {
    let lab = BillingLab::start().await.unwrap();
    let billing = billing(options(&lab.url()));
    lab.fail_by_chance(60, 1);
    let begun = Instant::now();
    for number in 0..20 {
        let instance = InstanceId::mint(number, [2; 10]);
        while word(&billing.start(instance, &alice(), &price("2026-01-01"), proposed()).await) != "done" {
            assert!(begun.elapsed() < Duration::from_secs(60), "it never answers");
        }
    }
    let books = lab.books();
    assert!(books.failed > 10, "{books:?}");
    assert_eq!((books.active.len(), books.started.values().sum::<u32>()), (20, 20));
    assert!(books.ids.values().all(|ids| ids.len() == 1));
}
