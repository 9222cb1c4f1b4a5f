//! The grid over a provider of one's own: every place in the flow, with everything that can happen there and everything that
//! can go wrong with a call, between this engine and a real adapter.
//!
//! Faults are put between the engine and the adapter: a call that is lost is not made, one whose answer is lost is made and
//! not heard, a late one is made later. Time is virtual; what the adapter does takes the time that it takes, and is waited
//! for. Each cell has a provider of its own, and whatever it made is removed at its end.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use freehold_domain::ids::InstanceId;
use freehold_domain::operation::Step;
use freehold_domain::plan::{Capabilities, Names};
use freehold_domain::resource::{
    Custody, Observation, Outcome, Rejection, RejectionClass, Resource, ResourceKind, RuntimeState,
};
use freehold_domain::route::Endpoint;
use freehold_domain::time::Timestamp;
use freehold_engine::ident::Idents;
use freehold_engine::ports::{
    Blueprint, Ident, LogQuery, LogReader, LogsUnavailable, Made, Order, OwnedPage, Provider, Unanswered,
};
use freehold_engine::world::Template;
use freehold_providers::fake::{CallKind, Fault, Sight};

use crate::grid::{self, Cell, Occurrence, Promise, Trouble};
use crate::ground::Ground;
use crate::town::{Land, idents};

/// Something to be waited for.
pub type Waiting<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Waits for the adapter's calls: `&|call| runtime.block_on(call)`.
pub type BlockOn = Arc<dyn Fn(Waiting<'_>) + Send + Sync>;

/// What is to be proved.
pub struct Subject<'a> {
    /// Opens a provider over a world in which nothing is.
    pub open: &'a dyn Fn(&Idents) -> Arc<dyn Provider>,
    /// Waits for its calls.
    pub block_on: BlockOn,
    /// A program that runs until it is stopped.
    pub command: Vec<String>,
    /// The image it is in, for providers that run images.
    pub image: Option<String>,
}

impl std::fmt::Debug for Subject<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subject").field("command", &self.command).finish_non_exhaustive()
    }
}

/// Which cells to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Every one.
    All,
    /// Those in which one thing happens or goes wrong.
    Singles,
    /// Of those every n-th: for tests that have no minutes.
    EveryNth(usize),
}

/// What a proof came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// How many cells were run to rest.
    pub cells: usize,
    /// Places that this provider never comes to, of the only step that may be left out: a runtime that is up at once is not
    /// waited for.
    pub unreached: BTreeSet<String>,
    /// What broke, by cell.
    pub broken: Vec<(String, Vec<String>)>,
}

/// The cells that a provider can be asked for: those of its promises, without what only a fake can be told to do.
#[must_use]
pub fn cells(capabilities: Capabilities, selection: Selection) -> Vec<Cell> {
    let promise = match (capabilities.names, capabilities.seals) {
        (Names::Unique | Names::UniqueButStorage, true) => Promise::NamesAndSeal,
        (_, true) => Promise::SealOnly,
        (_, false) => Promise::Nothing,
    };
    let can = |trouble: &Trouble| match trouble {
        Trouble::Call(_, Fault::Late(span)) => *span <= capabilities.settle_horizon,
        Trouble::Call(_, Fault::Foreign | Fault::BackAgain(_)) => false,
        Trouble::Call(..)
        | Trouble::None
        | Trouble::Look(_)
        | Trouble::GoneAlready(_)
        | Trouble::Billing(..)
        | Trouble::Records(..)
        | Trouble::Commit(_) => true,
    };
    let single = |cell: &Cell| cell.occurrence == Occurrence::Nothing || cell.trouble == Trouble::None;
    let cells = grid::all().into_iter().filter(|cell| cell.promise == promise && can(&cell.trouble));
    match selection {
        Selection::All => cells.collect(),
        Selection::Singles => cells.filter(single).collect(),
        Selection::EveryNth(nth) => cells.filter(single).step_by(nth.max(1)).collect(),
    }
}

/// Runs the grid over a provider. `progress` is told how many cells are done.
#[must_use]
pub fn prove(subject: &Subject<'_>, selection: Selection, progress: impl Fn(usize)) -> Verdict {
    let mut verdict = Verdict::default();
    let capabilities = (subject.open)(&idents()).capabilities();
    for cell in cells(capabilities, selection) {
        let adapter = Arc::new(Faulty::over((subject.open)(&idents()), subject.block_on.clone()));
        let program =
            Template { image: subject.image.clone(), command: subject.command.clone(), ..Template::default() };
        let land = Land { provider: adapter.clone(), ground: adapter.clone(), program };
        let report = grid::run_on(&cell, land);
        adapter.clear();
        verdict.cells += 1;
        progress(verdict.cells);
        let unreached = format!("the grid: {} was not reached", cell.place);
        let mut broken = report.broken;
        broken.append(&mut adapter.between().blind);
        if cell.place.step == Step::Ready && broken == [unreached] {
            verdict.unreached.insert(cell.place.to_string());
        } else if !broken.is_empty() {
            verdict.broken.push((cell.to_string(), broken));
        }
    }
    verdict
}

/// A call that is made later.
struct Late {
    due: Timestamp,
    kind: CallKind,
    ident: Ident,
    blueprint: Option<Blueprint>,
    resources: Vec<Resource>,
    running: bool,
}

#[derive(Default)]
struct Between {
    now: Timestamp,
    script: BTreeMap<CallKind, Fault>,
    late: Vec<Late>,
    landed: BTreeSet<InstanceId>,
    idents: BTreeMap<InstanceId, Ident>,
    sight: Option<(Sight, Timestamp)>,
    looks: u64,
    as_it_was: BTreeMap<InstanceId, Observation>,
    /// Looks of the oracle's own that proved nothing.
    blind: Vec<String>,
}

/// What is between the engine and an adapter.
struct Faulty {
    provider: Arc<dyn Provider>,
    block_on: BlockOn,
    between: Mutex<Between>,
}

/// What a call comes to without the adapter, or the fault to put behind it.
enum Met<T> {
    Answered(Outcome<T>),
    Made(Option<Fault>),
}

impl Faulty {
    fn over(provider: Arc<dyn Provider>, block_on: BlockOn) -> Self {
        Self { provider, block_on, between: Mutex::default() }
    }

    fn between(&self) -> MutexGuard<'_, Between> {
        self.between.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<T: Send>(&self, call: impl Future<Output = T> + Send) -> T {
        let mut answer = None;
        (self.block_on)(Box::pin(async { answer = Some(call.await) }));
        answer.unwrap_or_else(|| unreachable!("a call that was waited for has an answer"))
    }

    /// What goes wrong with a call.
    fn meet<T>(
        &self,
        kind: CallKind,
        ident: &Ident,
        order: Option<&Order<'_>>,
        resources: &[Resource],
        running: bool,
    ) -> Met<T> {
        let mut between = self.between();
        between.idents.insert(ident.instance, ident.clone());
        let fault = between.script.remove(&kind);
        match fault {
            Some(Fault::NothingDone) => Met::Answered(Outcome::Unknown("no answer".to_owned())),
            Some(Fault::NotSent) => Met::Answered(Outcome::NotSent("it never left".to_owned())),
            Some(Fault::Refused(class)) => refused(class),
            Some(Fault::Foreign) => refused(RejectionClass::ConflictForeign),
            Some(Fault::Late(span)) => {
                let due = between.now.plus(span);
                let blueprint = order.map(|order| order.blueprint.clone());
                let (ident, resources) = (ident.clone(), resources.to_vec());
                between.late.push(Late { due, kind, ident, blueprint, resources, running });
                Met::Answered(Outcome::Unknown("no answer yet".to_owned()))
            }
            Some(Fault::AnswerLost | Fault::Twice | Fault::NeverFinished | Fault::BackAgain(_)) | None => {
                Met::Made(fault)
            }
        }
    }

    fn make(&self, kind: CallKind, order: &Order<'_>, running: bool) -> Outcome<Made> {
        match self.meet(kind, order.ident, Some(order), order.resources, running) {
            Met::Answered(outcome) => outcome,
            Met::Made(fault) => {
                if fault == Some(Fault::Twice) {
                    drop(self.call(kind, order, running));
                }
                let answer = self.call(kind, order, running);
                if fault == Some(Fault::AnswerLost) {
                    Outcome::Unknown("the answer was lost".to_owned())
                } else {
                    answer
                }
            }
        }
    }

    fn call(&self, kind: CallKind, order: &Order<'_>, running: bool) -> Outcome<Made> {
        let provider = &self.provider;
        match kind {
            CallKind::Ensure(ResourceKind::Base) => self.wait(provider.ensure_base(order)),
            CallKind::Ensure(ResourceKind::Storage) => self.wait(provider.ensure_storage(order)),
            CallKind::Ensure(ResourceKind::Runtime) => self.wait(provider.ensure_runtime(order)),
            CallKind::Start => self.wait(provider.start(order)),
            CallKind::Stop => self.wait(provider.stop(order)),
            CallKind::Restart => self.wait(provider.restart(order)),
            CallKind::Update => self.wait(provider.update(order, running)),
            CallKind::Seal | CallKind::Destroy(_) => Outcome::NotSent("it makes nothing".to_owned()),
        }
    }

    /// Makes a call that was late.
    fn happen(&self, late: &Late) {
        let Late { kind, ident, blueprint, resources, running, .. } = late;
        match (kind, blueprint) {
            (CallKind::Seal, _) => drop(self.wait(self.provider.seal(ident))),
            (CallKind::Destroy(_), _) => {
                for resource in resources {
                    drop(self.wait(self.provider.destroy(ident, resource)));
                }
            }
            (_, Some(blueprint)) => drop(self.call(*kind, &Order { ident, blueprint, resources }, *running)),
            (_, None) => {}
        }
        self.between().landed.insert(ident.instance);
    }

    /// Removes everything that was made.
    fn clear(&self) {
        let idents: Vec<_> = self.between().idents.values().cloned().collect();
        for ident in idents {
            if self.provider.capabilities().seals {
                drop(self.wait(self.provider.seal(&ident)));
            }
            for resource in self.live_of(&ident).iter().rev() {
                drop(self.wait(self.provider.destroy(&ident, resource)));
            }
        }
    }
}

fn refused<T>(class: RejectionClass) -> Met<T> {
    Met::Answered(Outcome::Rejected(Rejection { class, detail: "refused".to_owned() }))
}

impl Ground for Faulty {
    fn live_of(&self, ident: &Ident) -> Vec<Resource> {
        let seen = match self.wait(self.provider.observe(ident)) {
            Ok(seen) if seen.conclusive => seen.found,
            inconclusive => {
                self.between().blind.push(format!("a look that nothing impairs proves nothing: {inconclusive:?}"));
                return Vec::new();
            }
        };
        seen.into_iter().filter(|found| found.custody == Custody::Ours).map(|found| found.resource).collect()
    }

    fn script_next(&self, call: CallKind, fault: Fault) {
        self.between().script.insert(call, fault);
    }

    fn has_script(&self) -> bool {
        !self.between().script.is_empty()
    }

    fn impair(&self, sight: Sight, until: Timestamp) {
        let mut between = self.between();
        between.sight = Some((sight, until));
        between.as_it_was.clear();
    }

    fn heal(&self) {
        let mut between = self.between();
        between.script.clear();
        between.sight = None;
    }

    fn has_late(&self) -> bool {
        !self.between().late.is_empty()
    }

    fn take_landed(&self) -> BTreeSet<InstanceId> {
        std::mem::take(&mut self.between().landed)
    }

    fn harmed(&self) -> Vec<String> {
        Vec::new()
    }

    fn advance(&self, now: Timestamp) {
        let due = {
            let mut between = self.between();
            between.now = now;
            let (mut due, late): (Vec<_>, Vec<_>) =
                std::mem::take(&mut between.late).into_iter().partition(|late| late.due <= now);
            between.late = late;
            due.sort_by_key(|late| late.due);
            due
        };
        for late in due {
            self.happen(&late);
        }
    }

    fn vanish(&self, instance: InstanceId, kind: ResourceKind) {
        let Some(ident) = self.between().idents.get(&instance).cloned() else { return };
        for resource in self.live_of(&ident).iter().filter(|resource| resource.kind == kind) {
            drop(self.wait(self.provider.destroy(&ident, resource)));
        }
    }
}

#[async_trait]
impl Provider for Faulty {
    fn kind(&self) -> &'static str {
        self.provider.kind()
    }

    fn capabilities(&self) -> Capabilities {
        self.provider.capabilities()
    }

    fn accepts(&self, blueprint: &Blueprint) -> Result<(), String> {
        self.provider.accepts(blueprint)
    }

    async fn ensure_base(&self, order: &Order<'_>) -> Outcome<Made> {
        self.make(CallKind::Ensure(ResourceKind::Base), order, true)
    }

    async fn ensure_storage(&self, order: &Order<'_>) -> Outcome<Made> {
        self.make(CallKind::Ensure(ResourceKind::Storage), order, true)
    }

    async fn ensure_runtime(&self, order: &Order<'_>) -> Outcome<Made> {
        self.make(CallKind::Ensure(ResourceKind::Runtime), order, true)
    }

    async fn start(&self, order: &Order<'_>) -> Outcome<Made> {
        self.make(CallKind::Start, order, true)
    }

    async fn stop(&self, order: &Order<'_>) -> Outcome<Made> {
        self.make(CallKind::Stop, order, false)
    }

    async fn restart(&self, order: &Order<'_>) -> Outcome<Made> {
        self.make(CallKind::Restart, order, true)
    }

    async fn update(&self, order: &Order<'_>, running: bool) -> Outcome<Made> {
        self.make(CallKind::Update, order, running)
    }

    async fn observe(&self, ident: &Ident) -> Result<Observation, Unanswered> {
        let nothing = Observation {
            conclusive: false,
            found: Vec::new(),
            runtime: RuntimeState::Missing,
            reference: String::new(),
        };
        let (sight, looks) = {
            let mut between = self.between();
            between.looks += 1;
            let now = between.now;
            (between.sight.filter(|(_, until)| now < *until).map(|(sight, _)| sight), between.looks)
        };
        match sight {
            Some(Sight::Unanswered) => return Err(Unanswered("it is out of sight".to_owned())),
            Some(Sight::Inconclusive | Sight::Lying) => return Ok(nothing),
            Some(Sight::Flapping) if looks % 2 == 1 => return Ok(nothing),
            Some(Sight::Flapping | Sight::Stale) | None => {}
        }
        let seen = self.wait(self.provider.observe(ident))?;
        Ok(match sight {
            None => seen,
            Some(Sight::Stale) => {
                let was = self.between().as_it_was.entry(ident.instance).or_insert(seen).clone();
                Observation { conclusive: false, ..was }
            }
            Some(Sight::Flapping | Sight::Unanswered | Sight::Inconclusive | Sight::Lying) => {
                Observation { conclusive: false, ..seen }
            }
        })
    }

    async fn seal(&self, ident: &Ident) -> Outcome<()> {
        match self.meet(CallKind::Seal, ident, None, &[], false) {
            Met::Answered(outcome) => outcome,
            Met::Made(fault) => {
                let answer = self.wait(self.provider.seal(ident));
                if fault == Some(Fault::AnswerLost) {
                    Outcome::Unknown("the answer was lost".to_owned())
                } else {
                    answer
                }
            }
        }
    }

    async fn destroy(&self, ident: &Ident, resource: &Resource) -> Outcome<()> {
        let kind = CallKind::Destroy(resource.kind);
        match self.meet(kind, ident, None, std::slice::from_ref(resource), false) {
            Met::Answered(outcome) => outcome,
            Met::Made(Some(Fault::NeverFinished)) => Outcome::Done(()),
            Met::Made(fault) => {
                let answer = self.wait(self.provider.destroy(ident, resource));
                if fault == Some(Fault::AnswerLost) {
                    Outcome::Unknown("the answer was lost".to_owned())
                } else {
                    answer
                }
            }
        }
    }

    async fn list_owned(&self, install: &str, page: Option<&str>) -> Result<OwnedPage, Unanswered> {
        self.wait(self.provider.list_owned(install, page))
    }

    fn endpoint(&self, resources: &[Resource]) -> Option<Endpoint> {
        self.provider.endpoint(resources)
    }

    async fn logs(&self, ident: &Ident, query: LogQuery) -> Result<Box<dyn LogReader>, LogsUnavailable> {
        self.wait(self.provider.logs(ident, query))
    }
}
