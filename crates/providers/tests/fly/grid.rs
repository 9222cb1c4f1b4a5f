//! The Fly adapter in the grid: over a Machines API of its own for every cell, with everything that can happen at each
//! place in the flow, and everything that can go wrong with a call there.

use std::sync::{Arc, Mutex};

use freehold_engine::ident::Idents;
use freehold_engine::ports::Provider;
use freehold_flysim::{FlySim, Options};
use freehold_providers::fly::FlyProvider;
use freehold_sim::adapter::{Selection, Subject, prove};

use crate::lab;

/// `FREEHOLD_GRID=all` runs every cell, `FREEHOLD_GRID=singles` those with one fault: some minutes.
fn selection() -> Selection {
    match std::env::var("FREEHOLD_GRID").as_deref() {
        Ok("all") => Selection::All,
        Ok("singles") => Selection::Singles,
        Ok(_) | Err(_) => Selection::EveryNth(7),
    }
}

#[test]
fn the_fly_adapter_keeps_every_promise_in_the_grid() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let runtime = Arc::new(runtime);
    let flies = Mutex::new(Vec::new());
    let open = |idents: &Idents| -> Arc<dyn Provider> {
        let fly = runtime.block_on(FlySim::start(Options::instant())).expect("it listens");
        let provider = FlyProvider::new(lab::options(fly.api_url()), idents.clone()).expect("opens");
        // The last cell's is not needed any more.
        let mut flies = flies.lock().expect("nobody panicked");
        flies.push(fly);
        let old = flies.len().saturating_sub(2);
        flies.drain(..old);
        Arc::new(provider)
    };
    let waits = runtime.clone();
    let subject = Subject {
        open: &open,
        block_on: Arc::new(move |call| waits.block_on(call)),
        command: Vec::new(),
        image: Some("registry.example/hello:1".to_owned()),
    };
    let verdict = prove(&subject, selection(), |_| {});
    println!("{} cells, never reached: {:?}", verdict.cells, verdict.unreached);
    assert!(verdict.broken.is_empty(), "{:#?}", verdict.broken);
    assert!(verdict.cells > 100, "only {} cells", verdict.cells);
}
