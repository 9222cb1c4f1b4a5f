//! How a run is read: its rows, and the guard that says at what version they were, in one statement and so in one view of
//! the database. Many runs are read at once.

use std::collections::HashMap;
use std::sync::Arc;

use freehold_domain::route::Route;
use freehold_domain::run::Run;
use freehold_domain::time::Timestamp;
use freehold_engine::ports::StoreError;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::batcher::{Asked, Batcher};
use super::guard::Guard;
use super::rows::Columns;
use super::time::now;
use super::{Desk, Of};
use crate::postgres::args::{Args, Id};
use crate::shared::chain::Chain;
use crate::shared::fields::Fields as _;
use crate::shared::rows::{self, route_columns, run_columns};

/// How many runs one statement reads.
const READ_AT_ONCE: usize = 256;

/// How many such statements there are at once.
const READERS: usize = 2;

/// A run as it was read.
#[derive(Clone, Debug)]
pub(super) struct Loaded {
    pub(super) guard: Guard,
    /// In which part of the timers its operations are.
    pub(super) shard: i16,
    pub(super) run: Run,
    pub(super) route: Option<Route>,
    /// The store's time.
    pub(super) read_at: Timestamp,
}

pub(super) const LOADED: &str = concat!(
    "SELECT w.n, ",
    now!(),
    ", c.context_id, c.version, c.audit_seq, c.audit_head, c.shard, ",
    run_columns!(),
    ", ",
    route_columns!(),
    " FROM unnest($1::uuid[], $2::uuid[]) WITH ORDINALITY AS w(instance_id, operation_id, n) \
     JOIN freehold_registry.reservations r ON r.instance_id = COALESCE(w.instance_id, \
        (SELECT x.instance_id FROM freehold_registry.operations x WHERE x.id = w.operation_id)) \
     JOIN freehold_registry.contexts c ON c.context_id = r.context_id \
     JOIN freehold_registry.operations o ON o.context_id = r.context_id AND o.id = r.operation_id"
);

type Answer = Result<Option<Loaded>, StoreError>;

/// Those who read runs.
pub(super) struct Reads(Batcher<Of, Answer>);

impl Reads {
    pub(super) fn start(desk: &Arc<Desk>) -> Self {
        let (desk, within) = (Arc::clone(desk), desk.within());
        Self(Batcher::start(READERS, READ_AT_ONCE, within, move |batch| {
            let desk = Arc::clone(&desk);
            Box::pin(async move { answer(&desk, batch).await })
        }))
    }

    /// Reads a run; `None` where nothing is on record.
    pub(super) async fn load(&self, of: Of) -> Answer {
        self.0.ask(of).await.map_err(|unanswered| StoreError::Unavailable(unanswered.to_string()))?
    }
}

async fn answer(desk: &Desk, batch: Vec<Asked<Of, Answer>>) {
    let (mut instances, mut operations) = (Vec::new(), Vec::new());
    for asked in &batch {
        let (instance, operation) = match asked.question {
            Of::Instance(instance) => (Some(Id(*instance.as_bytes())), None),
            Of::Operation(operation) => (None, Some(Id(*operation.as_bytes()))),
        };
        instances.push(instance);
        operations.push(operation);
    }
    let args = Args::default().column(instances, Type::UUID_ARRAY).column(operations, Type::UUID_ARRAY);
    let read = desk.read(LOADED, &args).await;
    let mut loaded: HashMap<usize, Result<Loaded, StoreError>> = HashMap::new();
    for row in read.as_deref().unwrap_or_default() {
        let mut columns = Columns::of(row);
        if let Ok(n) = columns.count::<usize>() {
            loaded.insert(n, one(desk, &mut columns));
        }
    }
    for (n, asked) in batch.into_iter().enumerate() {
        let answer = match &read {
            Ok(_) => loaded.remove(&(n + 1)).transpose(),
            Err(error) => Err(error.clone()),
        };
        asked.answer(answer);
    }
}

fn one(desk: &Desk, columns: &mut Columns<'_>) -> Result<Loaded, StoreError> {
    let read_at = desk.time.at(columns.number()?);
    Ok(Loaded {
        read_at,
        guard: Guard {
            context_id: columns.id_bytes()?,
            version: columns.number()?,
            chain: Chain { seq: columns.count()?, head: columns.bytes()? },
        },
        shard: columns.count()?,
        run: rows::run(columns)?,
        route: rows::route(columns)?,
    })
}

/// Rows, each read by itself.
pub(super) fn all<T>(
    rows: &[Row],
    read: impl Fn(&mut Columns<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    rows.iter().map(|row| read(&mut Columns::of(row))).collect()
}

/// The first row.
pub(super) fn first<T>(
    rows: &[Row],
    read: impl Fn(&mut Columns<'_>) -> Result<T, StoreError>,
) -> Result<Option<T>, StoreError> {
    rows.first().map(|row| read(&mut Columns::of(row))).transpose()
}
