//! The grid: every place in the flow, with everything that can happen there and everything that can go wrong there, each
//! run to rest. A cell whose place is not reached fails like one in which something breaks, and so does one in which the call,
//! the write or the commit that is to go wrong does not. Looks are impaired for some seconds, whoever looks.

mod cell;

use freehold_domain::ids::InstanceId;
use freehold_domain::operation::Step;
use freehold_domain::plan::Capabilities;
use freehold_domain::reservation::{Resolution, Status};
use freehold_engine::ports::{ContextPeek, Registered, Store};
use freehold_providers::fake::{FakeCloud, Fault};

use crate::chance::Chance;
use crate::ground::HORIZON;
use crate::node::LEASE;
use crate::requests::{self, Create};
use crate::storm::{PROMISES, Report};
use crate::tasks::{Task, at_once};
use crate::town::{Land, Town, idents};
use std::time::Duration;

pub use cell::{Cell, NoSuchCell, Occurrence, Promise, Trouble, all};

/// What decides ids in every cell, and nothing else.
const SEED: u64 = 1;

/// How many rounds it may take until an executor is at the place.
const ROUNDS_MAX: usize = 500;

/// How long looks are impaired.
const IMPAIRED: Duration = Duration::from_secs(3);

/// The node that is asked first.
const FIRST: usize = 0;

/// An hour, in microseconds.
const HOUR_MICROS: i64 = 3_600_000_000;

/// Runs a cell.
///
/// # Panics
/// When the store cannot be opened in memory.
#[must_use]
pub fn run(cell: &Cell) -> Report {
    let capabilities = match cell.promise {
        Promise::NamesAndSeal => PROMISES[0],
        Promise::SealOnly => PROMISES[1],
        Promise::Nothing => PROMISES[2],
    };
    let capabilities = Capabilities { settle_horizon: HORIZON, ..capabilities };
    let cloud = FakeCloud::default();
    run_on(cell, Land::fake(&cloud, &idents(), capabilities))
}

/// Runs a cell on a land of its own.
pub(crate) fn run_on(cell: &Cell, land: Land) -> Report {
    let mut town = Town::found(Chance::of(SEED), land);
    town.history.tell(cell.to_string());
    let mut broken = Run { town: &mut town, cell, instance: None, here: FIRST }.go();
    if broken.is_empty() {
        broken = town.broken();
    }
    Report::of(SEED, town, broken)
}

/// What the executor comes to the place by.
enum By {
    Create,
    Restart,
    Update,
    Destroy,
}

impl By {
    fn way_to(step: Step) -> Self {
        match step {
            Step::CheckActive
            | Step::Base
            | Step::Storage
            | Step::Runtime
            | Step::Ready
            | Step::Record
            | Step::Subscribe
            | Step::Complete => Self::Create,
            Step::Power => Self::Restart,
            Step::Update => Self::Update,
            Step::Seal | Step::Remove | Step::Absence | Step::EndSubscription | Step::MarkDestroyed | Step::Release => {
                Self::Destroy
            }
        }
    }
}

struct Run<'t> {
    town: &'t mut Town,
    cell: &'t Cell,
    /// The instance that it is about.
    instance: Option<InstanceId>,
    /// The node that the executor at the place runs on; another one does what happens meanwhile.
    here: usize,
}

const CREATE: Create = Create { owner: 0, key: Some(0), body: 1 };

impl Run<'_> {
    fn go(&mut self) -> Vec<String> {
        let by = By::way_to(self.cell.place.step);
        if !matches!(by, By::Create) {
            self.ask(FIRST, "prepare", |town| requests_create(town, FIRST, CREATE));
            let broken = self.town.calm(None);
            if !broken.is_empty() {
                return broken;
            }
            self.learn();
        }
        self.arm();
        match by {
            By::Create => self.begin("create", |town| requests_create(town, FIRST, CREATE)),
            By::Restart => self.begin_work("restart", |control, id| async move {
                format!("{:?}", requests::restart(&control, id).await)
            }),
            By::Update => self.begin_work("update", |control, id| async move {
                format!("{:?}", requests::update(&control, id, 1).await)
            }),
            By::Destroy => {
                let history = self.town.history.clone();
                self.begin_work("destroy", move |control, id| async move {
                    format!("{:?}", requests::destroy(&control, &history, id).await)
                });
            }
        }
        match self.reach() {
            Ok(true) => {}
            Ok(false) => return vec![format!("the grid: {} was not reached", self.cell.place)],
            Err(broken) => return broken,
        }
        self.learn();
        self.happen();
        let troubled = match self.go_on() {
            Ok(troubled) => troubled,
            Err(broken) => return broken,
        };
        let broken = self.town.calm(None);
        if !broken.is_empty() {
            return broken;
        }
        let mut broken = self.check_end();
        if !troubled {
            broken.push(format!("the grid: {:?} did not happen", self.cell.trouble));
        }
        broken
    }

    /// Tells the watch what the provider is about to do, once the instance is known.
    fn forewarn(&self) {
        let Some(instance) = self.instance else { return };
        let watch = &self.town.shared.watch;
        match &self.cell.trouble {
            Trouble::Call(_, Fault::Late(span)) if *span > HORIZON => watch.may_be_late(instance),
            Trouble::Call(_, Fault::BackAgain(_)) => watch.may_return(instance),
            Trouble::Call(_, Fault::Twice) => watch.may_double(instance),
            Trouble::Call(_, Fault::NeverFinished) => watch.lie_to(instance),
            Trouble::Call(
                _,
                Fault::Late(_)
                | Fault::AnswerLost
                | Fault::NothingDone
                | Fault::Refused(_)
                | Fault::NotSent
                | Fault::Foreign,
            )
            | Trouble::None
            | Trouble::Look(_)
            | Trouble::GoneAlready(_)
            | Trouble::Billing(..)
            | Trouble::Records(..)
            | Trouble::Commit(_) => {}
        }
    }

    /// Has the trouble wait for its call.
    fn arm(&mut self) {
        let now = self.town.time.now();
        match &self.cell.trouble {
            Trouble::None | Trouble::Commit(_) => {}
            Trouble::Call(call, fault) => self.town.ground.script_next(*call, fault.clone()),
            Trouble::Look(sight) => self.town.ground.impair(*sight, now.plus(IMPAIRED)),
            Trouble::GoneAlready(kind) => {
                if let Some(instance) = self.instance {
                    self.town.ground.vanish(instance, *kind);
                }
            }
            Trouble::Billing(call, fault) => self.town.shared.billing.script_next(*call, *fault),
            Trouble::Records(call, fault) => self.town.shared.far_records.script_next(*call, *fault),
        }
        self.town.shared.places.arm(self.cell.place);
    }

    /// Whether the trouble is still to come.
    fn is_armed(&self) -> bool {
        self.town.ground.has_script()
            || self.town.shared.billing.has_script()
            || self.town.shared.far_records.has_script()
            || self.town.commit_is_armed()
    }

    /// Goes on until the instance is known, so that the watch can be told of it before its first call.
    fn meet(&mut self) -> Result<(), Vec<String>> {
        for _ in 0..ROUNDS_MAX {
            self.learn();
            if self.instance.is_some() {
                break;
            }
            let Some(position) = (0..self.town.tasks.len()).next() else { break };
            self.town.poll(position);
        }
        self.forewarn();
        Ok(())
    }

    /// Goes on until an executor is at the place, and parks it there.
    fn reach(&mut self) -> Result<bool, Vec<String>> {
        self.meet()?;
        for _ in 0..ROUNDS_MAX {
            let seen = self.town.round(|town, node| town.shared.places.take_reached().then_some(node))?;
            if let Some(node) = seen {
                self.here = node;
                if let Trouble::Commit(fault) = self.cell.trouble {
                    self.town.arm_commit(fault);
                }
                return Ok(true);
            }
            self.town.pass_until_next();
        }
        Ok(false)
    }

    /// Everything goes on until the trouble is over, for as long as trouble may last: what is impaired is healed only
    /// then.
    fn go_on(&mut self) -> Result<bool, Vec<String>> {
        let began = self.town.time.passed();
        for _ in 0..ROUNDS_MAX {
            self.town.round(|_, _| None::<()>)?;
            let impaired = matches!(self.cell.trouble, Trouble::Look(_)) && self.town.time.passed() < began + IMPAIRED;
            if !self.is_armed() && !impaired && self.town.all_awake() {
                return Ok(true);
            }
            if self.town.is_at_rest() && self.town.all_awake() {
                break;
            }
            self.town.pass_until_next();
        }
        Ok(!self.is_armed())
    }

    fn registered(&self) -> Option<Registered> {
        at_once(self.town.store.instance_describe(self.instance?)).ok().flatten()
    }

    fn learn(&mut self) {
        if self.instance.is_none() {
            let owner = "user:0".parse().expect("a valid owner");
            let first = at_once(self.town.store.owner_describe(&owner)).ok().and_then(|all| all.into_iter().next());
            self.instance = first.map(|one| one.reservation.instance);
        }
    }

    fn begin(&mut self, name: &str, request: impl FnOnce(&Town) -> requests::Request) {
        let request = request(self.town);
        self.town.tasks.push(Task::new(FIRST, name, request));
    }

    fn begin_work<F: Future<Output = String> + 'static>(
        &mut self,
        name: &str,
        work: impl FnOnce(std::sync::Arc<freehold_engine::control_plane::ControlPlane>, InstanceId) -> F,
    ) {
        if let Some(instance) = self.instance {
            let work = work(self.town.nodes[FIRST].control.clone(), instance);
            self.town.tasks.push(Task::new(FIRST, name, work));
        }
    }

    fn there(&self) -> usize {
        1 - self.here
    }

    /// Asks at a node while everybody else stands still.
    fn ask(&mut self, node: usize, name: &str, request: impl FnOnce(&Town) -> requests::Request) {
        let request = request(self.town);
        self.town.ask_alone(Task::new(node, name, request));
    }

    fn happen(&mut self) {
        let operation = self.registered().map(|registered| registered.operation.id);
        let Some((instance, operation)) = self.instance.zip(operation) else { return };
        self.town.history.tell(format!("at {}: {:?}", self.cell.place, self.cell.occurrence));
        match self.cell.occurrence {
            Occurrence::Nothing => {}
            Occurrence::Crash => self.town.crash(self.here),
            Occurrence::FailOver => self.town.lose(self.here),
            Occurrence::ShortPause => self.town.freeze(self.here, 5),
            Occurrence::Pause => self.town.freeze(self.here, 15),
            Occurrence::LongPause => self.town.freeze(self.here, 100),
            Occurrence::LeaseStolen => {
                self.town.steal(operation);
                self.renew_here();
            }
            Occurrence::ClockAhead => self.town.jump_node(self.here, HOUR_MICROS),
            Occurrence::ClockBack => self.town.jump_node(self.here, -HOUR_MICROS),
            Occurrence::StoreClockAhead => self.town.jump_store(HOUR_MICROS),
            Occurrence::SameKey => self.ask_to_create("same key", CREATE),
            Occurrence::OtherBody => self.ask_to_create("other body", Create { body: 2, ..CREATE }),
            Occurrence::NewKey => self.create_anew(),
            Occurrence::Destroy => self.destroy(instance, self.there()),
            Occurrence::DestroyInPause => {
                self.town.freeze(self.here, 15);
                self.destroy(instance, self.there());
            }
            Occurrence::DestroyInShortPause => {
                self.town.freeze(self.here, 9);
                self.destroy(instance, self.there());
            }
            Occurrence::DestroyOfStuck => self.destroy_of_stuck(instance),
            Occurrence::DestroyThenCreate => {
                self.destroy(instance, self.there());
                self.create_anew();
            }
            Occurrence::DestroyTwice => {
                self.destroy(instance, self.there());
                self.destroy(instance, self.here);
            }
            Occurrence::Stop => self.work_there("stop", move |control| async move {
                format!("{:?}", requests::stop(&control, instance).await)
            }),
            Occurrence::Update => self.work_there("update", move |control| async move {
                format!("{:?}", requests::update(&control, instance, 2).await)
            }),
            Occurrence::Janitor => {
                for _ in 0..2 {
                    let pass = self.town.janitors_pass(self.there());
                    self.town.ask_alone(pass);
                    self.town.pass(HORIZON.max(LEASE) + Duration::from_secs(1));
                }
            }
            Occurrence::Repair => self.work_there("repair", move |control| async move {
                format!("{:?}", requests::repair(&control, instance).await.map(|one| one.reservation.status))
            }),
            Occurrence::Release => self.work_there("release", move |control| async move {
                format!("{:?}", requests::release(&control, instance, false).await)
            }),
            Occurrence::Override => self.work_there("override", move |control| async move {
                format!("{:?}", requests::release(&control, instance, true).await)
            }),
        }
    }

    fn work_there<F: Future<Output = String> + 'static>(
        &mut self,
        name: &str,
        work: impl FnOnce(std::sync::Arc<freehold_engine::control_plane::ControlPlane>) -> F,
    ) {
        let work = work(self.town.nodes[self.there()].control.clone());
        self.ask(self.there(), name, |_| Box::pin(work));
    }

    fn destroy(&mut self, instance: InstanceId, node: usize) {
        let (control, history) = (self.town.nodes[node].control.clone(), self.town.history.clone());
        self.ask(node, "destroy meanwhile", |_| {
            Box::pin(async move { format!("{:?}", requests::destroy(&control, &history, instance).await) })
        });
    }

    fn destroy_of_stuck(&mut self, instance: InstanceId) {
        let (renewed, then) = (LEASE * 5 / 2, LEASE * 9 / 10);
        let free_at = self.town.time.now().plus(renewed + then);
        for task in self.town.tasks.iter_mut().filter(|task| task.at == Some(self.cell.place)) {
            task.stuck_until = Some(free_at);
        }
        let began = self.town.time.passed();
        self.renew_here();
        while self.town.time.passed() < began + renewed {
            self.town.pass(LEASE / 4);
            self.renew_here();
        }
        self.destroy(instance, self.there());
    }

    fn renew_here(&mut self) {
        let executor = self.town.nodes[self.here].executor.clone();
        self.ask(self.here, "renew", |_| {
            Box::pin(async move {
                executor.renew().await;
                String::new()
            })
        });
    }

    fn create_anew(&mut self) {
        self.ask_to_create("create anew", Create { key: Some(1), ..CREATE });
    }

    fn ask_to_create(&mut self, name: &str, create: Create) {
        let there = self.there();
        self.ask(there, name, |town| requests_create(town, there, create));
    }

    /// What the cell must end in, beyond what is true of every world at rest.
    fn check_end(&self) -> Vec<String> {
        let Some(Registered { reservation, operation, .. }) = self.registered() else {
            return vec!["the grid: nothing was admitted".to_owned()];
        };
        let mut broken = Vec::new();
        let released = matches!(reservation.status, Status::Released { .. });
        let destroyed = self.town.history.promise(|promises| promises.destroyed.contains(&reservation.instance));
        let overridden = reservation.status == Status::Released { because: Resolution::OperatorOverride };
        // A destroy whose answer was lost may be on record all the same.
        let to_go = reservation.intent.is_destroy() || overridden;
        // A complete instance is not lost by a refusal, nor by a deadline.
        let made_here = matches!(By::way_to(self.cell.place.step), By::Create);
        let may_fail = self.cell.trouble.refuses() || self.cell.occurrence == Occurrence::StoreClockAhead;
        let may_go = to_go || (made_here && may_fail);
        if released && !may_go {
            let why = operation.failure.map(|failure| failure.detail);
            broken.push(format!("the grid: one fault that can be lived with cost the instance: {why:?}"));
        }
        if !released && destroyed {
            broken.push(format!("DestroyWins: the instance is {} at rest", reservation.status.name()));
        }
        // A context whose instance is gone is free.
        let owner_has_another =
            self.cell.occurrence == Occurrence::DestroyThenCreate || self.cell.occurrence == Occurrence::NewKey;
        let peek = at_once(self.town.store.context_peek(&reservation.context, 1, None));
        if released && !owner_has_another && peek != Ok(ContextPeek::Free) {
            broken.push(format!("Settles: the context is not free: {peek:?}"));
        }
        broken
    }
}

fn requests_create(town: &Town, node: usize, create: Create) -> requests::Request {
    let (control, history) = (town.nodes[node].control.clone(), town.history.clone());
    Box::pin(async move { format!("{:?}", create.ask(&control, &history).await) })
}
