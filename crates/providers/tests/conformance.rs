//! Every adapter of this crate that needs nothing from outside passes the suite.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use freehold_domain::plan::Capabilities;
use freehold_engine::ident::Idents;
use freehold_engine::ports::Blueprint;
use freehold_providers::conformance::Subject;
use freehold_providers::fake::{FakeCloud, FakeProvider};
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
    let cloud = FakeCloud::default();
    let (idents, stranger_idents) = two_idents();
    let open = move |idents: &Idents| Arc::new(FakeProvider::new(cloud.clone(), idents.clone(), capabilities));
    Subject {
        provider: open(&idents),
        stranger: open(&stranger_idents),
        stranger_idents,
        blueprint: blueprint(),
        more_than_a_page: 8,
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
provider_conformance!(fake_that_promises_little => fake(Capabilities {
    enforces_names: false,
    seals: false,
    storage: false,
    logs: false,
    settle_horizon: Duration::from_secs(10),
}));
