//! The Docker provider in the grid: a real container for every instance, with what can happen at each place in the flow, and
//! what can go wrong with a call there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use freehold_engine::ident::Idents;
use freehold_engine::ports::Provider;
use freehold_providers::docker::{DockerOptions, DockerProvider};
use freehold_sim::adapter::{Selection, Subject, prove};

use super::world::{IMAGE, Kind, clear, options};

/// `FREEHOLD_GRID=singles` runs every cell with one fault: an hour.
fn selection() -> Selection {
    match std::env::var("FREEHOLD_GRID").as_deref() {
        Ok("all") => Selection::All,
        Ok("singles") => Selection::Singles,
        Ok(_) | Err(_) => Selection::EveryNth(41),
    }
}

#[test]
#[ignore = "needs a Docker engine: cargo xtask engines"]
fn the_docker_provider_keeps_every_promise_in_the_grid() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let runtime = Arc::new(runtime);
    let open = |idents: &Idents| -> Arc<dyn Provider> {
        // Every cell has the same names, and finds nothing of the cell before, seals included.
        clear(&Kind::Docker.host(), idents.install().as_str());
        // A network without published ports costs less.
        let usual = options(Kind::Docker.host());
        let options = DockerOptions { network: Some("bridge".to_owned()), stop_grace: Duration::ZERO, ..usual };
        Arc::new(DockerProvider::open(options, idents.clone()).unwrap())
    };
    let waits = runtime.clone();
    let subject = Subject {
        open: &open,
        block_on: Arc::new(move |call| waits.block_on(call)),
        command: vec!["sleep".to_owned(), "3600".to_owned()],
        image: Some(IMAGE.to_owned()),
    };
    let began = Instant::now();
    let verdict = prove(&subject, selection(), |_| {});
    clear(&Kind::Docker.host(), "sim");
    println!("{} cells in {:?}, never reached: {:?}", verdict.cells, began.elapsed(), verdict.unreached);
    assert!(verdict.broken.is_empty(), "{:#?}", verdict.broken);
    assert!(verdict.cells > 30, "only {} cells", verdict.cells);
}
