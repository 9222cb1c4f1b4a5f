//! How a change is written: in one statement that takes effect only if the guard is still at the version that was read,
//! and many changes in one statement, each under its own guard.
//!
//! - The statement is in `statement.rs`. It leaves out whose guard somebody else has: whoever is left out reads again.
//! - A rule of the schema that refuses one change refuses the statement; then each of its changes goes by itself.
//! - Where the answer is lost, every guard is raised: what was sent and has not happened cannot happen any more. Raising
//!   is a commit of its own behind everything that happened before it, so what is on record then is as durable as it is.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

use freehold_domain::protection::{Protection, stands};
use freehold_domain::run::{Change, LeakChange};
use freehold_engine::ports::{Answer, IdempotencyKey, StoreError};
use tokio::time::{Instant, sleep};
use tokio_postgres::types::Type;

use super::batcher::{Asked, Batcher, Unanswered};
use super::columns::source;
use super::guard::Guard;
use super::loaded::Loaded;
use super::rows::{
    self, AuditRow, AuditRows, Columns, LeakRow, LeakRows, OperationRow, OperationRows, ReservationRow,
    ReservationRows, ResolvedRow, ResolvedRows,
};
use super::statement::{GuardRow, GuardRows, Guards, Shape};
use super::time::{now, patience};
use super::{Desk, PAUSE_MAX, of_write, shard};
use crate::postgres::args::{Args, Id};
use crate::postgres::pool::Trouble;
use crate::shared::chain::Chain;
use crate::shared::corrupt;
use crate::shared::fields::Fields as _;

/// How many changes one statement writes.
const WRITE_AT_ONCE: usize = 128;

/// How many write at once: what begins, and as many what is on record.
const WRITERS: usize = 2;

/// How many calls' time the question what became of a change may take.
const SETTLE_CALLS: u32 = 2;

/// A change on its way.
#[derive(Clone)]
pub(super) struct Write {
    guard: GuardRow,
    /// What is on record from then on, and was not before.
    begun: RunRows,
    /// What was on record before. Where one operation takes the place of another, it is the one that was replaced.
    changed: RunRows,
    lines: Vec<AuditRow>,
    leak: Option<LeakRow>,
    resolved: Option<ResolvedRow>,
}

/// What is written of a run.
#[derive(Clone, Default)]
struct RunRows {
    reservation: Option<ReservationRow>,
    operation: Option<OperationRow>,
}

/// What a write came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// It is on record.
    Done,
    /// Surely nothing was written: somebody else wrote first, or has what this change would take a second time.
    Overtaken,
}

impl Write {
    /// A change of a run that was read.
    pub(super) fn of_change(loaded: &Loaded, change: &Change, answer: Option<&Answer>) -> Result<Self, StoreError> {
        let Loaded { guard, shard, run: before, route, .. } = loaded;
        let Change { run: after, replaced, route: new_route, leak, events } = change;
        let id = guard.context_id;
        let context = &after.reservation.context;
        let buried = route.as_ref().is_some_and(|route| !route.is_live());
        if buried && new_route.as_ref().is_some_and(freehold_domain::route::Route::is_live) {
            let instance = after.reservation.instance;
            return Err(corrupt(format!("instance {instance} is buried and was to be published")));
        }
        // What is buried stays as it is.
        let route = if buried { route.as_ref() } else { new_route.as_ref().or(route.as_ref()) };
        let with_spec = after.reservation.spec != before.reservation.spec;
        let epoch = after.reservation.epoch.get();
        let operation = rows::operation(id, *shard, epoch, &after.operation, None, answer)?;
        let replaced = replaced.as_ref().map(|replaced| rows::operation(id, *shard, epoch, replaced, None, None));
        let (begun, changed) = match after.operation.id == before.operation.id {
            true => (None, Some(operation)),
            false => (Some(operation), replaced.transpose()?),
        };
        let at = events.last().map_or(after.reservation.updated_at, |event| event.at);
        let instance_id = Id(*after.reservation.instance.as_bytes());
        let (mut opened, mut resolved) = (None, None);
        match leak {
            Some(LeakChange::Open { id: leak, reason }) => {
                opened = Some(LeakRow {
                    context_id: Id(id),
                    id: Id(*leak.as_bytes()),
                    instance_id,
                    reason: rows::text(reason),
                    opened_at: at.as_micros(),
                });
            }
            Some(LeakChange::Resolve) => {
                resolved = Some(ResolvedRow { context_id: Id(id), instance_id, resolved_at: at.as_micros() });
            }
            None => {}
        }
        let mut write = Self::under(guard, context, events)?;
        write.begun.operation = begun;
        write.changed = RunRows {
            reservation: Some(rows::reservation(id, &after.reservation, route, with_spec)?),
            operation: changed,
        };
        write.leak = opened;
        write.resolved = resolved;
        Ok(write)
    }

    /// A run that begins, and the key that leads to its operation.
    pub(super) fn of_beginning(
        guard: &Guard,
        change: &Change,
        key: Option<&IdempotencyKey>,
    ) -> Result<Self, StoreError> {
        // What begins touches none of what a change of a run may replace.
        let Change { run, replaced: _, route: _, leak: _, events } = change;
        let context = &run.reservation.context;
        let mut write = Self::under(guard, context, events)?;
        let (shard, epoch) = (shard(context.owner()), run.reservation.epoch.get());
        write.begun = RunRows {
            reservation: Some(rows::reservation(guard.context_id, &run.reservation, None, true)?),
            operation: Some(rows::operation(guard.context_id, shard, epoch, &run.operation, key, None)?),
        };
        Ok(write)
    }

    /// Events alone.
    pub(super) fn of_events(loaded: &Loaded, events: &[freehold_domain::event::Event]) -> Result<Self, StoreError> {
        Self::under(&loaded.guard, &loaded.run.reservation.context, events)
    }

    fn under(
        guard: &Guard,
        context: &freehold_domain::owner::Context,
        events: &[freehold_domain::event::Event],
    ) -> Result<Self, StoreError> {
        let Guard { context_id, version, mut chain } = *guard;
        let mut lines = Vec::new();
        for event in events.iter().filter(|_| stands(Protection::AuditInCommit)) {
            let mut event = event.clone();
            event.detail = rows::text(&event.detail);
            lines.push(rows::audit(context_id, &chain.link(context, &event)));
        }
        let Chain { seq, head } = chain;
        Ok(Self {
            guard: GuardRow {
                context_id: Id(context_id),
                seen: version,
                owner: context.owner().to_string(),
                assigned_user: context.assigned_user().to_string(),
                shard: shard(context.owner()),
                commit_id: Id(chance()?),
                audit_seq: rows::count(seq),
                audit_head: head.to_vec(),
            },
            begun: RunRows::default(),
            changed: RunRows::default(),
            lines,
            leak: None,
            resolved: None,
        })
    }

    fn context_id(&self) -> [u8; 16] {
        self.guard.context_id.0
    }

    fn begins_a_context(&self) -> bool {
        self.guard.seen == 0
    }
}

/// An id that nobody else has.
fn chance() -> Result<[u8; 16], StoreError> {
    use ring::rand::{SecureRandom as _, SystemRandom};
    let mut id = [0; 16];
    let filled = SystemRandom::new().fill(&mut id);
    filled.map_err(|_| StoreError::Unavailable("the system gives no random bytes".to_owned()))?;
    Ok(id)
}

/// Raises guards whatever they are at, and says what they were at and who changed them last.
static RAISE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "INSERT INTO freehold_registry.contexts AS c (context_id, owner, assigned_user, shard, version, commit_id, \
            audit_seq, audit_head) \
         SELECT w.context_id, w.owner, w.assigned_user, w.shard, {}, $9::uuid, 0, $10::bytea \
         FROM {} WHERE {} <> '' AND (w.seen = 0 OR EXISTS ( \
            SELECT 1 FROM freehold_registry.contexts e WHERE e.context_id = w.context_id)) ORDER BY w.context_id \
         ON CONFLICT (context_id) DO UPDATE SET version = c.version + 1 \
         RETURNING c.context_id, c.version - 1, c.commit_id",
        now!(),
        source("w", GuardRows::COLUMNS, &mut 1),
        patience!()
    )
});

/// Which lines are on record.
const IS_TOLD: &str = "\
    SELECT a.context_id FROM unnest($1::uuid[], $2::bigint[], $3::bytea[]) AS w(context_id, seq, hash) \
    JOIN freehold_registry.audit a ON a.context_id = w.context_id AND a.seq = w.seq AND a.hash = w.hash";

type Outcome = Result<Written, StoreError>;

/// Those who write. What begins has writers of its own: whoever waits for an admission does not wait behind timers that
/// rang.
pub(super) struct Writes {
    beginnings: Batcher<Write, Outcome>,
    changes: Batcher<Write, Outcome>,
}

impl Writes {
    pub(super) fn start(desk: &Arc<Desk>) -> Self {
        let writers = || {
            let (desk, within) = (Arc::clone(desk), desk.within());
            Batcher::start(WRITERS, WRITE_AT_ONCE, within, move |batch| {
                let desk = Arc::clone(&desk);
                Box::pin(async move { work(&desk, batch).await })
            })
        };
        Self { beginnings: writers(), changes: writers() }
    }

    /// Writes a change.
    pub(super) async fn write(&self, write: Write) -> Outcome {
        let writers = if write.begun.reservation.is_some() { &self.beginnings } else { &self.changes };
        match writers.ask(write).await {
            Ok(outcome) => outcome,
            Err(unanswered @ (Unanswered::Full | Unanswered::Late)) => {
                Err(StoreError::Unavailable(unanswered.to_string()))
            }
            Err(Unanswered::Broken) => Err(StoreError::Unknown(Unanswered::Broken.to_string())),
        }
    }
}

type Waiting = Asked<Write, Outcome>;

async fn work(desk: &Desk, batch: Vec<Waiting>) {
    let mut there = HashSet::new();
    let (mut new, mut known) = (Vec::new(), Vec::new());
    for waiting in batch {
        if !there.insert(waiting.question.context_id()) {
            // Of two changes of one context one is overtaken by the other.
            waiting.answer(Ok(Written::Overtaken));
        } else if waiting.question.begins_a_context() {
            new.push(waiting);
        } else {
            known.push(waiting);
        }
    }
    tokio::join!(together(desk, Guards::New, new), together(desk, Guards::Several, known));
}

async fn together(desk: &Desk, guards: Guards, batch: Vec<Waiting>) {
    let guards = if guards == Guards::Several && batch.len() == 1 { Guards::One } else { guards };
    let deadline = Instant::now() + desk.within() * 2;
    let writes: Vec<Write> = batch.iter().map(|waiting| waiting.question.clone()).collect();
    if writes.is_empty() {
        return;
    }
    let outcomes = match commit(desk, guards, &writes).await {
        Ok(outcomes) => outcomes,
        Err(Refused) if writes.len() == 1 => vec![Ok(Written::Overtaken)],
        Err(Refused) => {
            let mut outcomes = Vec::new();
            for write in &writes {
                if Instant::now() > deadline {
                    // The statement that it was in was undone, and it was not sent since.
                    let late = "it shared a statement with one that was refused; try again";
                    outcomes.push(Err(StoreError::Unavailable(late.to_owned())));
                    continue;
                }
                let alone = if guards == Guards::New { Guards::New } else { Guards::One };
                let outcome = commit(desk, alone, std::slice::from_ref(write)).await;
                outcomes.push(match outcome {
                    Ok(mut outcomes) => outcomes.pop().unwrap_or(Ok(Written::Overtaken)),
                    Err(Refused) => Ok(Written::Overtaken),
                });
            }
            outcomes
        }
    };
    for (waiting, outcome) in batch.into_iter().zip(outcomes) {
        waiting.answer(outcome);
    }
}

/// The statement was undone for one of its changes: somebody has what it would take a second time, or holds its guard.
struct Refused;

/// Writes changes of different contexts in one statement. Answers what became of each.
async fn commit(desk: &Desk, guards: Guards, writes: &[Write]) -> Result<Vec<Outcome>, Refused> {
    let shape = Shape {
        guards,
        begins: writes.iter().any(|write| write.begun.operation.is_some()),
        changes: writes.iter().any(|write| write.changed.reservation.is_some()),
        leaks: writes.iter().any(|write| write.leak.is_some() || write.resolved.is_some()),
    };
    let began = Instant::now();
    let attempt = desk.database.attempt(desk.within(), shape.text(), &args(writes, shape)).await;
    match attempt {
        Ok(written) => {
            if let Some(watch) = desk.options.watch_commits.as_ref().filter(|_| !written.is_empty()) {
                watch(began.elapsed());
            }
            let written: HashSet<[u8; 16]> =
                written.iter().filter_map(|row| Columns::of(row).id_bytes().ok()).collect();
            let one = |write: &Write| {
                Ok(if written.contains(&write.context_id()) { Written::Done } else { Written::Overtaken })
            };
            Ok(writes.iter().map(one).collect())
        }
        Err(Trouble::Crossed(_)) => Ok(writes.iter().map(|_| Ok(Written::Overtaken)).collect()),
        Err(Trouble::Refused { constraint: Some(rule), said }) => {
            tracing::debug!(rule, said, "a rule of the schema refused a change");
            Err(Refused)
        }
        Err(Trouble::Refused { constraint: None, said } | Trouble::Blocked(said)) if writes.len() > 1 => {
            tracing::debug!(said, "a change undid those beside it");
            Err(Refused)
        }
        Err(Trouble::Unknown(said)) => {
            tracing::warn!(changes = writes.len(), said, "the answer to a commit is lost");
            Ok(settle(desk, writes, &said).await)
        }
        Err(trouble @ (Trouble::Away(_) | Trouble::Blocked(_) | Trouble::Refused { constraint: None, .. })) => {
            let error = of_write(trouble);
            Ok(writes.iter().map(|_| Err(error.clone())).collect())
        }
    }
}

/// The arguments of a statement, in the order of its text.
fn args(writes: &[Write], shape: Shape) -> Args {
    let mut guards = GuardRows::default();
    let (mut begun, mut begun_work) = (ReservationRows::default(), OperationRows::default());
    let (mut changed, mut changed_work) = (ReservationRows::default(), OperationRows::default());
    let (mut lines, mut opened, mut resolved) = (AuditRows::default(), LeakRows::default(), ResolvedRows::default());
    for write in writes.iter().cloned() {
        guards.push(write.guard);
        write.begun.reservation.into_iter().for_each(|row| begun.push(row));
        write.begun.operation.into_iter().for_each(|row| begun_work.push(row));
        write.changed.reservation.into_iter().for_each(|row| changed.push(row));
        write.changed.operation.into_iter().for_each(|row| changed_work.push(row));
        write.lines.into_iter().for_each(|row| lines.push(row));
        write.leak.into_iter().for_each(|row| opened.push(row));
        write.resolved.into_iter().for_each(|row| resolved.push(row));
    }
    let Shape { guards: _, begins, changes, leaks } = shape;
    let args = guards.args(Args::default());
    let args = if begins { begun_work.args(begun.args(args)) } else { args };
    let args = if changes { changed_work.args(changed.args(args)) } else { args };
    let args = lines.args(args);
    if leaks { resolved.args(opened.args(args)) } else { args }
}

/// Finds out what became of changes whose answer is lost.
async fn settle(desk: &Desk, writes: &[Write], said: &str) -> Vec<Outcome> {
    if !stands(Protection::LostCommitIsUnknown) {
        let refused = || Err(StoreError::Unavailable("a lost answer was taken for a refusal".to_owned()));
        return writes.iter().map(|_| refused()).collect();
    }
    let deadline = Instant::now() + desk.within() * SETTLE_CALLS;
    loop {
        match raised(desk, writes).await {
            Ok(outcomes) => return outcomes,
            Err(_) if Instant::now() < deadline => sleep(PAUSE_MAX).await,
            Err(error) => {
                let unknown = StoreError::Unknown(format!("{said}; and what became of it is not known: {error}"));
                return writes.iter().map(|_| Err(unknown.clone())).collect();
            }
        }
    }
}

async fn raised(desk: &Desk, writes: &[Write]) -> Result<Vec<Outcome>, StoreError> {
    let mut guards = GuardRows::default();
    writes.iter().for_each(|write| guards.push(write.guard.clone()));
    let args = guards.args(Args::default()).id(&chance()?).bytes(Chain::NEW.head);
    let rows = desk.database.attempt(desk.within(), &RAISE, &args).await.map_err(of_write)?;
    let mut found = std::collections::HashMap::new();
    for row in &rows {
        let mut columns = Columns::of(row);
        found.insert(columns.id_bytes()?, (columns.number()?, columns.id_bytes()?));
    }
    let (mut contexts, mut seqs, mut hashes) = (Vec::new(), Vec::new(), Vec::new());
    for line in writes.iter().filter_map(|write| write.lines.last()) {
        contexts.push(line.context_id);
        seqs.push(line.seq);
        hashes.push(line.hash.clone());
    }
    let args = Args::default()
        .column(contexts, Type::UUID_ARRAY)
        .column(seqs, Type::INT8_ARRAY)
        .column(hashes, Type::BYTEA_ARRAY);
    let told = desk.read(IS_TOLD, &args).await?;
    let told: HashSet<[u8; 16]> = told.iter().filter_map(|row| Columns::of(row).id_bytes().ok()).collect();
    let one = |write: &Write| match found.get(&write.context_id()) {
        Some((version, _)) if *version == write.guard.seen => Ok(Written::Overtaken),
        Some((_, commit_id)) if *commit_id == write.guard.commit_id.0 => Ok(Written::Done),
        Some(_) if !write.lines.is_empty() && told.contains(&write.context_id()) => Ok(Written::Done),
        Some(_) if !write.lines.is_empty() => Ok(Written::Overtaken),
        // Others wrote since, and it left nothing to know it by.
        Some(_) | None => Err(StoreError::Unknown("others wrote since an answer was lost".to_owned())),
    };
    Ok(writes.iter().map(one).collect())
}
