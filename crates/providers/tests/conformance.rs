//! Every adapter of this crate that needs nothing from outside passes the suite.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use freehold_domain::plan::{Capabilities, Names};
use freehold_domain::resource::{ResourceKind, RuntimeState};
use freehold_domain::time::Timestamp;
use freehold_engine::ident::Idents;
use freehold_engine::ports::Blueprint;
use freehold_providers::conformance::{CHECKS, Pass, Subject};
use freehold_providers::fake::{CallKind, FakeCloud, FakeProvider, Fault, Sight};
use freehold_providers::process::{Launcher, ProcessOptions, ProcessProvider};
use freehold_providers::provider_conformance;

/// How long any state may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn two_idents() -> (Idents, Idents) {
    let idents = |key| Idents::new("test".parse().expect("valid"), &[key; 32]);
    (idents(1), idents(2))
}

fn blueprint() -> Blueprint {
    Blueprint {
        command: vec!["sleep".to_owned(), "3600".to_owned()],
        image: None,
        env: BTreeMap::new(),
        secrets: BTreeSet::new(),
        memory_mb: 64,
        cpu_millis: 1000,
        volume_gb: 1,
        region: None,
    }
}

fn process() -> Subject {
    let dir = tempfile::tempdir().expect("a folder");
    let (idents, stranger_idents) = two_idents();
    let launcher = Launcher { program: env!("CARGO_BIN_EXE_freehold-shim").into(), arguments: Vec::new() };
    let options = ProcessOptions { launcher, ..ProcessOptions::new(dir.path().to_owned()) };
    let open = move |idents: &Idents| Arc::new(ProcessProvider::open(options.clone(), idents.clone()).expect("opens"));
    Subject {
        provider: open(&idents),
        stranger: open(&stranger_idents),
        stranger_idents,
        blueprint: blueprint(),
        more_than_a_page: 101,
        untagged_base: false,
        patience: PATIENCE,
        keep: Box::new(dir),
        made_up: Mutex::default(),
        reopen: {
            let idents = idents.clone();
            Box::new(move || open(&idents))
        },
        idents,
    }
}

fn fake(capabilities: Capabilities) -> Subject {
    fake_in(FakeCloud::default(), capabilities)
}

fn fake_in(cloud: FakeCloud, capabilities: Capabilities) -> Subject {
    let (idents, stranger_idents) = two_idents();
    let open = move |idents: &Idents| Arc::new(FakeProvider::new(cloud.clone(), idents.clone(), capabilities));
    Subject {
        provider: open(&idents),
        stranger: open(&stranger_idents),
        stranger_idents,
        blueprint: blueprint(),
        more_than_a_page: 8,
        untagged_base: false,
        patience: PATIENCE,
        keep: Box::new(()),
        made_up: Mutex::default(),
        reopen: {
            let idents = idents.clone();
            Box::new(move || open(&idents))
        },
        idents,
    }
}

provider_conformance!(process_provider => process());
provider_conformance!(fake_that_promises_all => fake(FakeProvider::BEST));
provider_conformance!(fake_that_promises_little => fake(LITTLE));

const LITTLE: Capabilities = Capabilities {
    names: Names::Free,
    seals: false,
    storage: false,
    logs: false,
    settle_horizon: Duration::from_secs(10),
};

/// The suite must notice a provider that does not do what it says.
#[tokio::test]
async fn the_suite_notices_what_is_wrong() {
    type Wrong = fn(&FakeCloud);
    const RUNTIME: CallKind = CallKind::Ensure(ResourceKind::Runtime);
    let cases: [(&str, Capabilities, Wrong); 10] = [
        ("create_with_the_answer_cut", LITTLE, |cloud| {
            cloud.set_chance(|call| (call.kind == RUNTIME && call.nth > 1).then_some(Fault::Twice));
        }),
        ("destroy_while_creating", LITTLE, |cloud| {
            cloud.set_chance(|call| {
                (call.kind == CallKind::Destroy(ResourceKind::Runtime)).then_some(Fault::NeverFinished)
            });
        }),
        ("lists_are_paged", LITTLE, |cloud| cloud.script(CallKind::Ensure(ResourceKind::Base), 2, Fault::Foreign)),
        ("create_twice_is_one_resource", LITTLE, |cloud| cloud.script(RUNTIME, 1, Fault::Twice)),
        ("resources_come_in_order", LITTLE, |cloud| cloud.script(RUNTIME, 1, Fault::Late(Duration::from_secs(1)))),
        ("destroy_twice_is_success", LITTLE, |cloud| {
            cloud.set_chance(|call| {
                (call.kind == CallKind::Destroy(ResourceKind::Base)).then_some(Fault::NeverFinished)
            });
        }),
        ("sealed_means_refused", FakeProvider::BEST, |cloud| {
            cloud.set_chance(|call| (call.kind == CallKind::Seal).then_some(Fault::NeverFinished));
        }),
        ("looks_follow_what_was_done", LITTLE, |cloud| cloud.impair(Sight::Lying, Timestamp::NEVER)),
        ("foreign_is_left_alone", LITTLE, |cloud| cloud.impair(Sight::Stale, Timestamp::NEVER)),
        ("power_does_what_it_says", LITTLE, |cloud| {
            cloud.first_states([RuntimeState::Exited("exit status 1".to_owned())]);
        }),
    ];
    for (name, capabilities, wrong) in cases {
        let cloud = FakeCloud::default();
        wrong(&cloud);
        let subject = Subject { patience: Duration::from_millis(50), ..fake_in(cloud, capabilities) };
        let check = CHECKS.iter().find(|check| check.name == name).expect("the check exists");
        assert!(check.run(&subject).await.is_err(), "{name} noticed nothing");
    }
}

/// A call that takes time is cut in the middle.
#[tokio::test]
async fn a_slow_create_is_cut() {
    let subject = fake(FakeProvider::BEST);
    let slow = FakeProvider::new(FakeCloud::default(), subject.idents.clone(), FakeProvider::BEST)
        .with_pause(Arc::new(|| Box::pin(tokio::time::sleep(Duration::from_millis(2)))));
    let subject = Subject { provider: Arc::new(slow), ..subject };
    let check = CHECKS.iter().find(|check| check.name == "create_with_the_answer_cut").expect("the check exists");
    assert_eq!(check.run(&subject).await, Ok(Pass::Passed));
}
