//! The Docker provider in the grid: a real container for every instance, with what can happen at each place in the flow, and
//! what can go wrong with a call there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use freehold_domain::plan::Capabilities;
use freehold_domain::resource::{Observation, Outcome, Resource};
use freehold_domain::route::Endpoint;
use freehold_engine::ident::Idents;
use freehold_engine::ports::{
    Blueprint, Ident, LogQuery, LogReader, LogsUnavailable, Made, Order, OwnedPage, Provider, Unanswered,
};
use freehold_providers::docker::{DockerOptions, DockerProvider};
use freehold_sim::adapter::{Selection, Subject, prove};

use super::world::{IMAGE, Kind, clear, options};

/// Runs what the grid asks for in the image of the tests: the grid names no images.
struct InAnImage(DockerProvider);

fn in_an_image(blueprint: &Blueprint) -> Blueprint {
    Blueprint { image: Some(IMAGE.to_owned()), ..blueprint.clone() }
}

/// One call of the provider about the same order, in the image.
macro_rules! with_image {
    ($self:ident, $order:ident, $call:ident $(, $more:expr)*) => {{
        let blueprint = in_an_image($order.blueprint);
        let order = Order { ident: $order.ident, blueprint: &blueprint, resources: $order.resources };
        $self.0.$call(&order $(, $more)*).await
    }};
}

#[async_trait]
impl Provider for InAnImage {
    fn kind(&self) -> &'static str {
        self.0.kind()
    }
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }
    fn accepts(&self, blueprint: &Blueprint) -> Result<(), String> {
        self.0.accepts(&in_an_image(blueprint))
    }
    async fn ensure_base(&self, order: &Order<'_>) -> Outcome<Made> {
        with_image!(self, order, ensure_base)
    }
    async fn ensure_storage(&self, order: &Order<'_>) -> Outcome<Made> {
        with_image!(self, order, ensure_storage)
    }
    async fn ensure_runtime(&self, order: &Order<'_>) -> Outcome<Made> {
        with_image!(self, order, ensure_runtime)
    }
    async fn start(&self, order: &Order<'_>) -> Outcome<Made> {
        with_image!(self, order, start)
    }
    async fn stop(&self, order: &Order<'_>) -> Outcome<Made> {
        with_image!(self, order, stop)
    }
    async fn restart(&self, order: &Order<'_>) -> Outcome<Made> {
        with_image!(self, order, restart)
    }
    async fn update(&self, order: &Order<'_>, running: bool) -> Outcome<Made> {
        with_image!(self, order, update, running)
    }
    async fn observe(&self, ident: &Ident) -> Result<Observation, Unanswered> {
        self.0.observe(ident).await
    }
    async fn seal(&self, ident: &Ident) -> Outcome<()> {
        self.0.seal(ident).await
    }
    async fn destroy(&self, ident: &Ident, resource: &Resource) -> Outcome<()> {
        self.0.destroy(ident, resource).await
    }
    async fn list_owned(&self, install: &str, page: Option<&str>) -> Result<OwnedPage, Unanswered> {
        self.0.list_owned(install, page).await
    }
    fn endpoint(&self, resources: &[Resource]) -> Option<Endpoint> {
        self.0.endpoint(resources)
    }
    async fn logs(&self, ident: &Ident, query: LogQuery) -> Result<Box<dyn LogReader>, LogsUnavailable> {
        self.0.logs(ident, query).await
    }
    async fn forget_seals(&self) -> Result<u64, Unanswered> {
        self.0.forget_seals().await
    }
}

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
        Arc::new(InAnImage(DockerProvider::open(options, idents.clone()).unwrap()))
    };
    let waits = runtime.clone();
    let subject = Subject {
        open: &open,
        block_on: Arc::new(move |call| waits.block_on(call)),
        command: vec!["sleep".to_owned(), "3600".to_owned()],
    };
    let began = Instant::now();
    let verdict = prove(&subject, selection(), |_| {});
    clear(&Kind::Docker.host(), "sim");
    println!("{} cells in {:?}, never reached: {:?}", verdict.cells, began.elapsed(), verdict.unreached);
    assert!(verdict.broken.is_empty(), "{:#?}", verdict.broken);
    assert!(verdict.cells > 30, "only {} cells", verdict.cells);
}
