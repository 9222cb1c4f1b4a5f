//! The process provider in the grid: a real program for every instance, with everything that can happen at each place in
//! the flow, and everything that can go wrong with a call there.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use freehold_engine::ident::Idents;
use freehold_engine::ports::Provider;
use freehold_providers::process::{Launcher, ProcessOptions, ProcessProvider};
use freehold_sim::adapter::{Selection, Subject, prove};

/// `FREEHOLD_GRID=all` runs every cell, `FREEHOLD_GRID=singles` those with one fault: some minutes.
fn selection() -> Selection {
    match std::env::var("FREEHOLD_GRID").as_deref() {
        Ok("all") => Selection::All,
        Ok("singles") => Selection::Singles,
        Ok(_) | Err(_) => Selection::EveryNth(11),
    }
}

#[test]
fn the_process_provider_keeps_every_promise_in_the_grid() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let runtime = Arc::new(runtime);
    let folders = Mutex::new(Vec::new());
    let open = |idents: &Idents| -> Arc<dyn Provider> {
        let _inside = runtime.enter();
        // In memory where there is such a folder: what survives a power cut is tried elsewhere.
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let dir = tempfile::tempdir_in(place).expect("a folder");
        let launcher = Launcher { program: env!("CARGO_BIN_EXE_freehold-shim").into(), arguments: Vec::new() };
        let grace = Duration::from_millis(200);
        let options = ProcessOptions { launcher, grace, ..ProcessOptions::new(dir.path().to_owned()) };
        let provider = ProcessProvider::open(options, idents.clone()).expect("opens");
        // The last cell's folder is not needed any more: what ran in it was removed.
        let mut folders = folders.lock().expect("nobody panicked");
        folders.push(dir);
        let old = folders.len().saturating_sub(2);
        folders.drain(..old);
        Arc::new(provider)
    };
    let waits = runtime.clone();
    let subject = Subject {
        open: &open,
        block_on: Arc::new(move |call| waits.block_on(call)),
        command: vec!["sleep".to_owned(), "3600".to_owned()],
        image: None,
    };
    let verdict = prove(&subject, selection(), |_| {});
    println!("{} cells, never reached: {:?}", verdict.cells, verdict.unreached);
    assert!(verdict.broken.is_empty(), "{:#?}", verdict.broken);
    assert!(verdict.cells > 100, "only {} cells", verdict.cells);
}
