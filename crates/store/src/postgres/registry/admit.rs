//! Admission, and what else begins a run: a look at the context and at the key in one statement, the domain's word, and one
//! statement that writes it all.
//!
//! Whoever asks for an instance looks first, and is admitted on that look: the common admission is one statement more. A
//! look that was overtaken meanwhile is found out by the guard's version, like any other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use freehold_domain::ids::{InstanceId, OperationId};
use freehold_domain::lease::ProviderName;
use freehold_domain::ledger::{self, Entry};
use freehold_domain::owner::Context;
use freehold_domain::protection::{Protection, stands};
use freehold_domain::reservation::Status;
use freehold_domain::resource::Resource;
use freehold_domain::run::{self, Bid, Change, Run};
use freehold_domain::time::Timestamp;
use freehold_engine::ports::{
    Admission, AdmitRefused, Admitted, Adopted, Adoption, Asked, ContextPeek, IdempotencyKey, StoreError,
};
use tokio_postgres::types::Type;

use super::batcher::{Asked as Waiting, Batcher};
use super::guard::Guard;
use super::loaded::first;
use super::rows::Columns;
use super::time::now;
use super::writes::{Write, Written};
use super::{Desk, Of, PostgresStore, context_id};
use crate::postgres::args::{Args, Id};
use crate::shared::chain::Chain;
use crate::shared::desk::Moment;
use crate::shared::fields::Fields as _;
use crate::shared::rows;

/// How many contexts one statement looks at.
const LOOK_AT_ONCE: usize = 256;

/// How many such statements there are at once.
const LOOKERS: usize = 2;

/// A context, and where a key leads.
pub(super) const LOOK: &str = concat!(
    "SELECT w.n, ",
    now!(),
    ", c.version, c.audit_seq, c.audit_head, k.id, k.instance_id, k.key_fingerprint, \
        r.instance_id, r.operation_id, r.status, r.status_reason, r.destroy_at, o.due_at \
     FROM unnest($1::uuid[], $2::bytea[]) WITH ORDINALITY AS w(context_id, scope, n) \
     LEFT JOIN freehold_registry.contexts c ON c.context_id = w.context_id \
     LEFT JOIN freehold_registry.operations k ON k.key_scope = w.scope \
     LEFT JOIN freehold_registry.reservations r ON r.context_id = w.context_id AND r.status <> 'released' \
     LEFT JOIN freehold_registry.operations o ON o.context_id = r.context_id AND o.id = r.operation_id"
);

/// How long a look is good for an admission. It is bounded so that what is on record is not from long before.
const LOOK_KEPT: Duration = Duration::from_secs(1);

/// How many looks are kept at most; beyond that they are forgotten.
const LOOKS_KEPT: usize = 4_096;

/// What a look asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Question {
    context_id: [u8; 16],
    key: Option<IdempotencyKey>,
}

/// Where a key leads.
#[derive(Clone, Copy)]
struct Known {
    operation: OperationId,
    instance: InstanceId,
    fingerprint: [u8; 32],
}

/// What a look saw.
struct Look {
    /// When it was sent, by this process's clock: the store's time was read after that.
    sent_at: Instant,
    read_at: Timestamp,
    guard: Guard,
    known: Option<Known>,
    /// The ledger, each entry with the timer of what works on it.
    entries: Vec<(Entry, Option<Timestamp>)>,
}

/// What a key says to a request.
enum Key {
    New,
    Replayed { operation: OperationId, instance: InstanceId },
    Reused,
}

impl Look {
    /// The time of an admission on a look that was kept. A lease lasts from the admission, and what passed since the look
    /// is counted from its sending, so that no holder believes in it longer than the store does.
    fn moment_now(&self, desk: &Desk) -> Moment {
        match desk.time.given() {
            Some(now) => Moment::at(Timestamp::from_micros(now), desk.options.lease_term),
            None => Moment::at(self.read_at.plus(self.sent_at.elapsed()), desk.options.lease_term),
        }
    }

    fn key(&self, key: Option<&IdempotencyKey>) -> Key {
        match (key, self.known) {
            (Some(key), Some(Known { operation, instance, fingerprint })) => {
                if fingerprint == key.fingerprint || !stands(Protection::FingerprintIsChecked) {
                    Key::Replayed { operation, instance }
                } else {
                    Key::Reused
                }
            }
            _ => Key::New,
        }
    }

    fn ledger(&self) -> Vec<Entry> {
        self.entries.iter().map(|(entry, _)| entry.clone()).collect()
    }
}

type Answer = Result<Look, StoreError>;

/// Those who look at contexts, and the looks that may be admitted on.
pub(super) struct Looks {
    batcher: Batcher<Question, Answer>,
    free: Mutex<HashMap<[u8; 16], (Question, Look)>>,
}

impl Looks {
    pub(super) fn start(desk: &Arc<Desk>) -> Self {
        let (desk, within) = (Arc::clone(desk), desk.within());
        let batcher = Batcher::start(LOOKERS, LOOK_AT_ONCE, within, move |batch| {
            let desk = Arc::clone(&desk);
            Box::pin(async move { answer(&desk, batch).await })
        });
        Self { batcher, free: Mutex::default() }
    }

    async fn look(&self, context: &Context, key: Option<IdempotencyKey>) -> Answer {
        let (sent_at, question) = (Instant::now(), Question::of(context, key));
        let look = self.batcher.ask(question).await;
        let look = look.map_err(|unanswered| StoreError::Unavailable(unanswered.to_string()))??;
        Ok(Look { sent_at, ..look })
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<[u8; 16], (Question, Look)>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a look that saw nothing in the way, for whoever is about to be admitted.
    fn keep(&self, context: &Context, key: Option<IdempotencyKey>, look: Look) {
        let mut kept = self.kept();
        if kept.len() >= LOOKS_KEPT {
            kept.clear();
        }
        let question = Question::of(context, key);
        kept.insert(question.context_id, (question, look));
    }

    /// The look that was kept for this very question, if it is young. It is good for one admission.
    fn take(&self, context: &Context, key: Option<IdempotencyKey>) -> Option<Look> {
        let question = Question::of(context, key);
        let (asked, look) = self.kept().remove(&question.context_id)?;
        (asked == question && look.sent_at.elapsed() < LOOK_KEPT).then_some(look)
    }
}

impl Question {
    fn of(context: &Context, key: Option<IdempotencyKey>) -> Self {
        Self { context_id: context_id(context), key: key.filter(|_| stands(Protection::KeyIsKept)) }
    }
}

async fn answer(desk: &Desk, batch: Vec<Waiting<Question, Answer>>) {
    let contexts: Vec<Id> = batch.iter().map(|waiting| Id(waiting.question.context_id)).collect();
    let scopes: Vec<Option<Vec<u8>>> =
        batch.iter().map(|waiting| waiting.question.key.map(|key| key.scope.to_vec())).collect();
    let args = Args::default().column(contexts, Type::UUID_ARRAY).column(scopes, Type::BYTEA_ARRAY);
    let read = desk.read(LOOK, &args).await;
    let mut looks: HashMap<usize, Answer> = HashMap::new();
    for row in read.as_deref().unwrap_or_default() {
        let mut columns = Columns::of(row);
        let Ok(n) = columns.count::<usize>() else { continue };
        let Some(waiting) = n.checked_sub(1).and_then(|n| batch.get(n)) else { continue };
        match (looks.get_mut(&n), one(desk, &mut columns, waiting.question.context_id)) {
            // A context with several entries has a row for each.
            (Some(Ok(look)), Ok(more)) => look.entries.extend(more.entries),
            (Some(Err(_)), _) => {}
            (Some(look @ Ok(_)), Err(error)) => *look = Err(error),
            (None, look) => drop(looks.insert(n, look)),
        }
    }
    for (n, waiting) in batch.into_iter().enumerate() {
        let answer = match &read {
            Ok(_) => looks
                .remove(&(n + 1))
                .unwrap_or_else(|| Err(StoreError::Corrupt("a look that was asked for has no row".to_owned()))),
            Err(error) => Err(error.clone()),
        };
        waiting.answer(answer);
    }
}

fn one(desk: &Desk, columns: &mut Columns<'_>, context_id: [u8; 16]) -> Answer {
    let read_at = desk.time.at(columns.number()?);
    let guard = match columns.number_or_null()? {
        None => {
            columns.skip(2);
            Guard::new(context_id)
        }
        Some(version) => Guard { context_id, version, chain: Chain { seq: columns.count()?, head: columns.bytes()? } },
    };
    let known = if columns.next_is_null()? {
        columns.skip(3);
        None
    } else {
        Some(Known { operation: columns.id()?, instance: columns.id()?, fingerprint: columns.bytes()? })
    };
    let mut entries = Vec::new();
    if !columns.next_is_null()? {
        entries.push((entry(columns)?, columns.time_or_null()?));
    }
    Ok(Look { sent_at: Instant::now(), read_at, guard, known, entries })
}

fn entry(columns: &mut Columns<'_>) -> Result<Entry, StoreError> {
    Ok(Entry {
        instance: columns.id()?,
        operation: columns.id()?,
        status: rows::status(columns)?,
        destroying: columns.time_or_null()?.is_some(),
    })
}

/// The instance that has a name of its own at a provider.
pub(super) const NAMED: &str = "\
    SELECT instance_id FROM freehold_registry.reservations \
    WHERE provider = $1 AND named = $2 AND status <> 'released'";

impl PostgresStore {
    /// Takes a reservation, if the domain lets it.
    pub(super) async fn admission(&self, admission: &Admission) -> Result<Result<Admitted, AdmitRefused>, StoreError> {
        let Admission { bid, asked, limit, idempotency } = admission;
        if let Some(look) = self.looks.take(&bid.context, *idempotency)
            && ledger::admit(&look.ledger(), *limit).is_ok()
        {
            let Moment { now, lease_until } = look.moment_now(&self.desk);
            let change = run::admitted(bid.clone(), &asked.commission(now, lease_until), now);
            if let Some(run) = self.begin(&look, change, idempotency.as_ref()).await? {
                return Ok(Ok(Admitted::Taken(Box::new(run))));
            }
        }
        let mut tries = self.desk.tries();
        loop {
            let look = self.looks.look(&bid.context, *idempotency).await?;
            match look.key(idempotency.as_ref()) {
                Key::Replayed { operation, instance } => return Ok(Ok(Admitted::Replayed { operation, instance })),
                Key::Reused => return Ok(Err(AdmitRefused::KeyReused)),
                Key::New => {}
            }
            if let Err(refusal) = ledger::admit(&look.ledger(), *limit) {
                return Ok(Err(AdmitRefused::Conflict(refusal)));
            }
            let Moment { now, lease_until } = Moment::at(look.read_at, self.desk.options.lease_term);
            let change = run::admitted(bid.clone(), &asked.commission(now, lease_until), now);
            if let Some(run) = self.begin(&look, change, idempotency.as_ref()).await? {
                return Ok(Ok(Admitted::Taken(Box::new(run))));
            }
            tries.another().await?;
        }
    }

    /// Looks at a context.
    pub(super) async fn peek(
        &self,
        context: &Context,
        limit: u32,
        key: Option<IdempotencyKey>,
    ) -> Result<ContextPeek, StoreError> {
        let look = self.looks.look(context, key).await?;
        match look.key(key.as_ref()) {
            Key::Replayed { operation, instance } => return Ok(ContextPeek::Replayed { operation, instance }),
            Key::Reused => return Ok(ContextPeek::KeyReused),
            Key::New => {}
        }
        let Err(refusal) = ledger::admit(&look.ledger(), limit) else {
            self.looks.keep(context, key, look);
            return Ok(ContextPeek::Free);
        };
        let unattended = match refusal {
            ledger::Refusal::AlreadyActive { .. } => false,
            ledger::Refusal::InProgress { instance, status, .. } => {
                let rang = look.entries.iter().any(|(entry, timer)| {
                    entry.instance == instance && timer.is_none_or(|due_at| due_at <= look.read_at)
                });
                match status {
                    Status::NeedsReconciliation { .. } => true,
                    Status::InProgress | Status::Completed | Status::Released { .. } => rang,
                }
            }
        };
        Ok(ContextPeek::Taken { refusal, unattended })
    }

    /// Takes an instance in, unless it is on record.
    pub(super) async fn taking_in(
        &self,
        bid: &Bid,
        resources: &[Resource],
        asked: &Asked,
    ) -> Result<Option<Run>, StoreError> {
        let mut tries = self.desk.tries();
        loop {
            // The context is looked at before the instance: what is put down in between raises the guard.
            let look = self.looks.look(&bid.context, None).await?;
            if self.reads.load(Of::Instance(bid.instance)).await?.is_some() {
                return Ok(None);
            }
            let Moment { now, lease_until } = Moment::at(look.read_at, self.desk.options.lease_term);
            let change = run::taken_in(bid.clone(), resources.to_vec(), &asked.commission(now, lease_until), now);
            if let Some(run) = self.begin(&look, change, None).await? {
                return Ok(Some(run));
            }
            tries.another().await?;
        }
    }

    /// Takes in what was made elsewhere under a name of its own.
    pub(super) async fn adopting(&self, adoption: &Adoption) -> Result<Adopted, StoreError> {
        let Adoption { bid, resources, power, asked, limit } = adoption;
        let mut tries = self.desk.tries();
        loop {
            // The context is looked at before the name: whoever is in the way under this very name is known by it.
            let look = self.looks.look(&bid.context, None).await?;
            if let Some(name) = &bid.named
                && let Some(instance) = self.named(&bid.provider, name).await?
            {
                return Ok(Adopted::Known(instance));
            }
            if let Err(refusal) = ledger::admit(&look.ledger(), *limit) {
                return Ok(Adopted::Conflict(refusal));
            }
            let Moment { now, lease_until } = Moment::at(look.read_at, self.desk.options.lease_term);
            let commission = asked.commission(now, lease_until);
            let change = run::adopted(bid.clone(), resources.clone(), *power, &commission, now);
            if let Some(run) = self.begin(&look, change, None).await? {
                return Ok(Adopted::Taken(Box::new(run)));
            }
            tries.another().await?;
        }
    }

    /// The instance that has a name of its own at a provider.
    pub(super) async fn named(&self, provider: &ProviderName, name: &str) -> Result<Option<InstanceId>, StoreError> {
        let rows = self.rows(NAMED, Args::default().text(provider.as_str()).text(name)).await?;
        first(&rows, |columns| columns.id())
    }

    /// Writes what begins, unless somebody wrote first.
    async fn begin(
        &self,
        look: &Look,
        change: Change,
        key: Option<&IdempotencyKey>,
    ) -> Result<Option<Run>, StoreError> {
        let write = Write::of_beginning(&look.guard, &change, key)?;
        Ok(match self.writes.write(write).await? {
            Written::Done => Some(change.run),
            Written::Overtaken => None,
        })
    }
}
