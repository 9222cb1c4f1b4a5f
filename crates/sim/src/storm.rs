//! A storm: a random history with random faults, and the calm after it. Safety is checked after every write; in the calm
//! everything must settle by itself. The same seed has the same history, to the byte.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use freehold_domain::plan::{Capabilities, Names};
use freehold_domain::resource::RejectionClass;
use freehold_providers::fake::{Call, CallKind, FakeCloud, Fault, Sight};
use freehold_store::CommitFault;

use crate::billing::{BillingCall, BillingFault};
use crate::chance::Chance;
use crate::ground::HORIZON;
use crate::places::Hits;
use crate::records::{RecordsCall, RecordsFault};
use crate::requests;
use crate::tasks::Task;
use crate::town::{Land, Town, idents};
use crate::watch::Watch;

/// How likely things are to go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// How many events the storm has.
    pub events: usize,
    /// Of 1,000 events: how often a node dies.
    pub crash: u32,
    /// Of 1,000 events: how often a node freezes.
    pub freeze: u32,
    /// Of 1,000 events: how often a clock jumps.
    pub clock: u32,
    /// Of 1,000 events: how often a lease is stolen.
    pub steal: u32,
    /// Of 100 calls to the provider: how many go wrong.
    pub provider: u32,
    /// Of 100 calls to billing: how many go wrong.
    pub billing: u32,
    /// Of 100 calls to the records: how many go wrong.
    pub records: u32,
    /// Whether the records are in a database of their own.
    pub elsewhere: bool,
    /// Of 100 commits: how many are refused, or have their answer lost.
    pub commit: u32,
    /// Whether the provider breaks its word now and then: effects later than its horizon, deletes that come back.
    pub breaks_word: bool,
    /// Whether there is a janitor. Without one the oracle has to notice what is left.
    pub janitor: bool,
    /// Whether looks may find nothing and swear to it, whatever is there. No honest provider does this: the oracle has to
    /// notice what comes of it.
    pub lies: bool,
}

impl Profile {
    /// Nothing goes wrong.
    pub const FAIR: Self = Self {
        events: 600,
        crash: 0,
        freeze: 0,
        clock: 0,
        steal: 0,
        provider: 0,
        billing: 0,
        records: 0,
        elsewhere: false,
        commit: 0,
        breaks_word: false,
        janitor: true,
        lies: false,
    };

    /// Everything does, often.
    pub const STORM: Self = Self {
        events: 2_000,
        crash: 4,
        freeze: 3,
        clock: 2,
        steal: 4,
        provider: 25,
        billing: 15,
        records: 15,
        elsewhere: true,
        commit: 4,
        breaks_word: true,
        janitor: true,
        lies: false,
    };

    /// The profiles that have a name. `mixed` is one for each seed.
    pub const NAMED: [Named; 12] = [
        ("mixed", Self::mixed),
        ("fair", |_| Self::FAIR),
        ("crashes", |_| Self { events: 1_500, crash: 15, ..Self::FAIR }),
        ("freezes", |_| Self { events: 1_500, freeze: 8, steal: 5, ..Self::FAIR }),
        ("clocks", |_| Self { events: 1_500, clock: 8, crash: 3, ..Self::FAIR }),
        ("provider", |_| Self { events: 1_500, provider: 40, ..Self::FAIR }),
        ("word-breaker", |_| Self { events: 1_500, provider: 30, crash: 3, breaks_word: true, ..Self::FAIR }),
        ("billing", |_| Self { events: 1_500, billing: 40, crash: 3, ..Self::FAIR }),
        ("records", |_| Self { events: 1_500, records: 40, crash: 3, ..Self::FAIR }),
        ("far-records", |_| Self { events: 1_500, records: 30, crash: 3, freeze: 3, elsewhere: true, ..Self::FAIR }),
        ("commits", |_| Self { events: 1_500, commit: 8, ..Self::FAIR }),
        ("storm", |_| Self::STORM),
    ];

    /// The profile of a name, for each seed.
    #[must_use]
    pub fn named(name: &str) -> Option<fn(u64) -> Self> {
        Self::NAMED.iter().find(|(known, _)| *known == name).map(|(_, profile)| *profile)
    }

    /// A profile drawn by the seed: each sort of fault is there or not, and more or less often.
    #[must_use]
    pub fn mixed(seed: u64) -> Self {
        let chance = Chance::of(seed ^ 0x6d69_7865_6400_0000);
        let up_to = |most: usize| {
            let often = chance.below(most) as u32 + 1;
            if chance.percent(50) { often } else { 0 }
        };
        Self {
            events: 400 + chance.below(800),
            crash: up_to(10),
            freeze: up_to(6),
            clock: up_to(5),
            steal: up_to(8),
            provider: up_to(45),
            billing: up_to(40),
            records: up_to(30),
            elsewhere: chance.percent(50),
            commit: up_to(8),
            breaks_word: chance.percent(50),
            janitor: true,
            lies: false,
        }
    }
}

/// A profile's name, and what it is for each seed.
pub type Named = (&'static str, fn(u64) -> Profile);

/// What a world came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// Its history, line by line.
    pub trace: Vec<String>,
    /// What was broken; empty if all is well.
    pub broken: Vec<String>,
    /// How many steps it took: from one call to the next.
    pub steps: u64,
    /// How many commits wrote something.
    pub commits: u64,
    /// How often each fault happened.
    pub faults: BTreeMap<&'static str, u64>,
    /// How often a node died while an executor was at each place.
    pub crashed_at: Hits,
    /// The longest time that something stayed unresolved in the calm.
    pub slowest_settle: Duration,
}

impl Report {
    /// What a town came to.
    pub(crate) fn of(seed: u64, town: Town, broken: Vec<String>) -> Self {
        Self {
            seed,
            trace: town.history.lines(),
            broken,
            steps: town.steps,
            commits: town.store.stats().commits,
            faults: town.shared.watch.faults(),
            slowest_settle: town.slowest_settle,
            crashed_at: town.crashed_at,
        }
    }
}

/// How many things are under way at once at the most.
const TASKS_MAX: usize = 24;

/// How far clocks jump: an hour, in microseconds.
const JUMP_MICROS: i64 = 3_600_000_000;

/// Runs one seed.
///
/// # Panics
/// When the store cannot be opened in memory.
#[must_use]
pub fn run(seed: u64, profile: &Profile) -> Report {
    let chance = Chance::of(seed);
    let capabilities = Capabilities { settle_horizon: HORIZON, ..*chance.pick(&PROMISES) };
    let cloud = FakeCloud::default();
    let mut town = Town::found_with(chance, Land::fake(&cloud, &idents(), capabilities), profile.elsewhere);
    town.janitor = profile.janitor;
    town.history.tell(format!("seed {seed}, {profile:?}, provider {capabilities:?}"));
    let stormy = Arc::new(AtomicBool::new(true));
    let watch = town.shared.watch.clone();
    let chance = town.chance.clone();
    cloud.set_chance(provider_faults(*profile, chance.clone(), capabilities, watch.clone()));
    town.shared.billing.set_chance(billing_faults(profile.billing, chance.clone(), watch.clone()));
    town.shared.far_records.set_chance(records_faults(profile.records, chance.clone(), watch.clone()));
    town.decide_commits(commit_faults(profile.commit, chance, stormy.clone(), watch));
    let mut storm = Storm { town, cloud, profile: *profile };
    let mut broken = storm.rage();
    if broken.is_empty() {
        broken = storm.town.calm(Some(&stormy));
    }
    Report::of(seed, storm.town, broken)
}

struct Storm {
    town: Town,
    cloud: FakeCloud,
    profile: Profile,
}

impl Storm {
    fn rage(&mut self) -> Vec<String> {
        for event in 0..self.profile.events {
            self.happen();
            let broken = self.town.broken();
            if !broken.is_empty() {
                self.town.history.tell(format!("broken at event {event}"));
                return broken;
            }
        }
        Vec::new()
    }

    fn happen(&mut self) {
        let Self { town, profile, .. } = self;
        let chance = town.chance.clone();
        town.pass(Duration::from_micros(chance.below(20_000) as u64));
        let node = chance.below(town.nodes.len());
        let Profile { crash, freeze, clock, steal, .. } = *profile;
        let dice = chance.below(1_000) as u32;
        let faults = [crash, freeze, clock, steal];
        let below = |count: usize| faults[..count].iter().sum::<u32>();
        match dice {
            dice if dice < below(1) => town.crash(node),
            dice if dice < below(2) => town.freeze(node, 1 + chance.below(100) as u32),
            dice if dice < below(3) => Self::jump(town, node, &chance),
            dice if dice < below(4) => Self::steal(town, &chance),
            dice if dice < 100 => Self::ask(town, node),
            dice if dice < 130 => town.tick(node),
            dice if dice < 160 => town.renew(node),
            dice if dice < 168 => town.look_after(node),
            dice if dice < 174 && profile.janitor => town.sweep(node),
            dice if dice < 200 => town.pass(Duration::from_millis(chance.below(5_000) as u64)),
            dice if dice < 206 && profile.provider > 0 => self.impair(&chance),
            _ => Self::go_on(town, &chance),
        }
    }

    fn jump(town: &mut Town, node: usize, chance: &Chance) {
        match chance.below(5) {
            0 => town.jump_store(JUMP_MICROS),
            1 | 2 => town.jump_node(node, JUMP_MICROS),
            _ => town.jump_node(node, -JUMP_MICROS),
        }
    }

    fn steal(town: &mut Town, chance: &Chance) {
        let running: Vec<_> = town.tasks.iter().filter_map(|task| task.operation).collect();
        if !running.is_empty() {
            town.steal(*chance.pick(&running));
        }
    }

    fn impair(&mut self, chance: &Chance) {
        let honest = [Sight::Unanswered, Sight::Inconclusive, Sight::Flapping, Sight::Stale];
        let sight = if self.profile.lies { Sight::Lying } else { *chance.pick(&honest) };
        let until = self.town.time.now().plus(Duration::from_millis(chance.below(4_000) as u64));
        self.town.history.tell(format!("looks are {sight:?}"));
        self.town.shared.watch.count(match sight {
            Sight::Unanswered => "looks without an answer",
            Sight::Inconclusive => "looks that prove nothing",
            Sight::Flapping => "looks that flap",
            Sight::Stale => "looks into the past",
            Sight::Lying => "looks that lie",
        });
        self.cloud.impair(sight, until);
    }

    fn ask(town: &mut Town, node: usize) {
        if town.tasks.len() < TASKS_MAX {
            let control = town.nodes[node].control.clone();
            let (name, request) = requests::any(&town.chance, control, town.history.clone());
            town.tasks.push(Task::new(node, name, request));
        }
    }

    /// Lets one thing that is under way on a node that is awake go on for some calls, most often one.
    fn go_on(town: &mut Town, chance: &Chance) {
        let awake: Vec<usize> = (0..town.tasks.len()).filter(|&position| town.may_go_on(position)).collect();
        if awake.is_empty() {
            return;
        }
        let number = town.tasks[*chance.pick(&awake)].number;
        for _ in 0..=chance.below(BURST_MAX) {
            let Some(position) = town.tasks.iter().position(|task| task.number == number) else { return };
            town.poll(position);
        }
    }
}

/// How many calls one thing goes on for at the most before others may: things get somewhere, and still meet.
const BURST_MAX: usize = 8;

/// What the providers of different worlds promise.
pub(crate) const PROMISES: [Capabilities; 3] = [
    Capabilities { names: Names::Unique, seals: true, storage: true, logs: false, settle_horizon: HORIZON },
    Capabilities { names: Names::Free, seals: true, storage: true, logs: false, settle_horizon: HORIZON },
    Capabilities { names: Names::Free, seals: false, storage: true, logs: false, settle_horizon: HORIZON },
];

fn commit_faults(
    percent: u32,
    chance: Chance,
    stormy: Arc<AtomicBool>,
    watch: Watch,
) -> impl FnMut() -> CommitFault + Send {
    move || {
        if !stormy.load(Ordering::Relaxed) || !chance.percent(percent) {
            return CommitFault::None;
        }
        let (name, fault) = match chance.below(3) {
            0 => ("commit refused", CommitFault::Refuse),
            1 => ("commit applied, answer lost", CommitFault::Lose { applied: true }),
            _ => ("commit not applied, answer lost", CommitFault::Lose { applied: false }),
        };
        watch.count(name);
        fault
    }
}

fn records_faults(
    percent: u32,
    chance: Chance,
    watch: Watch,
) -> impl FnMut(RecordsCall) -> Option<RecordsFault> + Send {
    move |call| {
        if !chance.percent(percent) {
            return None;
        }
        let late = RecordsFault::Late(Duration::from_millis(chance.below(15_000) as u64));
        let fault = match chance.below(5) {
            0 if matches!(call, RecordsCall::Insert | RecordsCall::Subscribe) => RecordsFault::Refused,
            0 | 1 => RecordsFault::Down,
            2 if call == RecordsCall::Read => RecordsFault::Down,
            2 | 3 => RecordsFault::AnswerLost,
            _ if call == RecordsCall::Read => RecordsFault::Down,
            _ => late,
        };
        watch.count(fault.name());
        Some(fault)
    }
}

fn billing_faults(
    percent: u32,
    chance: Chance,
    watch: Watch,
) -> impl FnMut(BillingCall) -> Option<BillingFault> + Send {
    move |call| {
        if !chance.percent(percent) {
            return None;
        }
        let late = BillingFault::Late(Duration::from_millis(chance.below(15_000) as u64));
        let fault = match chance.below(6) {
            0 if call == BillingCall::Start => BillingFault::Refused,
            0 | 1 => BillingFault::Down,
            2 => BillingFault::AnswerLost,
            3 => BillingFault::Duplicate,
            4 => late,
            _ => BillingFault::NotSent,
        };
        watch.count(fault.name());
        Some(fault)
    }
}

/// What goes wrong with calls.
fn provider_faults(
    profile: Profile,
    chance: Chance,
    capabilities: Capabilities,
    watch: Watch,
) -> impl FnMut(&Call) -> Option<Fault> + Send {
    move |call| {
        if !chance.percent(profile.provider) {
            return None;
        }
        let (creates, deletes) = match call.kind {
            CallKind::Ensure(_) => (true, false),
            CallKind::Destroy(_) => (false, true),
            CallKind::Start | CallKind::Stop | CallKind::Restart | CallKind::Update | CallKind::Seal => (false, false),
        };
        // A twentieth of the horizon at a time, up to all of it; where the provider breaks its word, up to three of it.
        let span = HORIZON * (1 + chance.below(if profile.breaks_word { 60 } else { 19 }) as u32) / 20;
        let fault = match chance.below(10) {
            0 | 1 => Fault::AnswerLost,
            2 => Fault::NothingDone,
            3 | 4 => Fault::Late(span),
            5 => Fault::NotSent,
            6 if creates => Fault::Refused(chance.pick(&refusals()).clone()),
            7 if creates => Fault::Twice,
            8 if deletes => Fault::NeverFinished,
            9 if deletes && profile.breaks_word => Fault::BackAgain(span),
            _ => Fault::NothingDone,
        };
        match &fault {
            Fault::Late(span) if *span > capabilities.settle_horizon => watch.may_be_late(call.instance),
            Fault::BackAgain(_) => watch.may_return(call.instance),
            Fault::Twice => watch.may_double(call.instance),
            Fault::Late(_)
            | Fault::AnswerLost
            | Fault::NothingDone
            | Fault::Refused(_)
            | Fault::NotSent
            | Fault::Foreign
            | Fault::NeverFinished => {}
        }
        if fault == Fault::NeverFinished {
            watch.lie_to(call.instance);
        }
        watch.count(name_of(&fault));
        Some(fault)
    }
}

/// A fault's name in reports.
pub(crate) fn name_of(fault: &Fault) -> &'static str {
    match fault {
        Fault::AnswerLost => "call done, answer lost",
        Fault::NothingDone => "call not done, no answer",
        Fault::Late(span) if *span > HORIZON => "call done later than the horizon",
        Fault::Late(_) => "call done late",
        Fault::Twice => "call done twice",
        Fault::Refused(RejectionClass::Invalid) => "call refused: invalid",
        Fault::Refused(RejectionClass::Unauthorized) => "call refused: unauthorized",
        Fault::Refused(RejectionClass::Capacity { .. }) => "call refused: capacity",
        Fault::Refused(RejectionClass::Quota) => "call refused: quota",
        Fault::Refused(RejectionClass::ConflictForeign) => "call refused: foreign",
        Fault::NotSent => "call not sent",
        Fault::Foreign => "name is somebody else's",
        Fault::NeverFinished => "call accepted, never finished",
        Fault::BackAgain(_) => "deleted, and back again",
    }
}

fn refusals() -> [RejectionClass; 4] {
    [
        RejectionClass::Invalid,
        RejectionClass::Quota,
        RejectionClass::Unauthorized,
        RejectionClass::Capacity { region: None },
    ]
}
