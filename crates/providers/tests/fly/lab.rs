//! An adapter over a fresh simulated Fly.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use freehold_domain::ids::InstanceId;
use freehold_domain::owner::Context;
use freehold_engine::ident::Idents;
use freehold_engine::ports::{Blueprint, Ident};
use freehold_flysim::{FlySim, Options};
use freehold_providers::conformance::Subject;
use freehold_providers::fly::{FlyOptions, FlyProvider};

/// How long any state may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// When a call counts as unanswered.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) fn instant() -> Options {
    Options::instant()
}

pub(crate) fn slow() -> Options {
    Options { app_gone: Duration::from_millis(300), boot: Duration::from_millis(200), ..Options::default() }
}

pub(crate) fn idents(key: u8) -> Idents {
    Idents::new("test".parse().expect("valid"), &[key; 32])
}

pub(crate) fn ident(idents: &Idents, number: u64) -> Ident {
    let context = Context::new("user:alice".parse().expect("valid"), None).expect("valid");
    idents.of(InstanceId::mint(number, [7; 10]), &context)
}

pub(crate) fn blueprint() -> Blueprint {
    Blueprint {
        command: Vec::new(),
        image: Some("registry.example/hello:1".to_owned()),
        env: BTreeMap::from([("TOKEN".to_owned(), "hunter2".to_owned())]),
        secrets: BTreeSet::from(["TOKEN".to_owned()]),
        memory_mb: 256,
        cpu_millis: 1_000,
        volume_gb: 1,
        region: Some("ams".to_owned()),
    }
}

pub(crate) fn options(url: String) -> FlyOptions {
    let _ = rustls::crypto::ring::default_provider().install_default();
    FlyOptions {
        api_url: url,
        request_timeout: TIMEOUT,
        settle_horizon: Duration::from_secs(1),
        changes_per_second: 1_000,
        ..FlyOptions::new("flysim".to_owned())
    }
}

/// A Fly and our adapter in front of it.
pub(crate) struct Lab {
    pub(crate) fly: FlySim,
    pub(crate) provider: FlyProvider,
    pub(crate) ident: Ident,
    pub(crate) app: String,
}

impl Lab {
    pub(crate) async fn open(options: Options) -> Self {
        let fly = FlySim::start(options).await.expect("it listens");
        let provider = FlyProvider::new(self::options(fly.api_url()), idents(1)).expect("opens");
        let ident = ident(&idents(1), 1);
        let app = ident.name.clone();
        Self { fly, provider, ident, app }
    }
}

/// The subject of the conformance suite.
pub(crate) async fn subject(options: Options) -> Subject {
    let fly = FlySim::start(options).await.expect("it listens");
    let url = fly.api_url();
    let open =
        move |idents: &Idents| Arc::new(FlyProvider::new(self::options(url.clone()), idents.clone()).expect("opens"));
    let (ours, theirs) = (idents(1), idents(2));
    Subject {
        provider: open(&ours),
        stranger: open(&theirs),
        stranger_idents: theirs,
        blueprint: blueprint(),
        more_than_a_page: 21,
        untagged_base: true,
        patience: PATIENCE,
        keep: Box::new(fly),
        made_up: Mutex::default(),
        reopen: {
            let ours = ours.clone();
            Box::new(move || open(&ours))
        },
        idents: ours,
    }
}
