//! The audit trail in the order of positions.
//!
//! A position is given inside the statement that writes its line, so a later one may be committed before an earlier one. A
//! reader that met a gap and went on would skip the line that fills it. So a gap is closed before anybody reads past it:
//! a line that says nothing is put there. Whoever is about to fill the gap is thereby waited for; if nobody is, the gap
//! stays closed for good. Behind a backup the positions jump, and one such line stands for all that are skipped: its number
//! is the first of them.

use freehold_domain::event::{Actor, Event, EventKind};
use freehold_domain::ids::InstanceId;
use freehold_domain::lease::Epoch;
use freehold_domain::time::Timestamp;
use freehold_engine::ports::{AuditPage, AuditQuery, AuditRecord, StoreError};

use super::lists::{one_more, page};
use super::loaded::all;
use super::rows::{Columns, count};
use super::time::patience;
use super::writes::{Write, Written};
use super::{Of, PostgresStore};
use crate::postgres::args::Args;
use crate::shared::fields::Fields as _;
use crate::shared::{corrupt, names, sentences};

/// The context of the lines that say nothing.
pub(super) const NOBODY: &str = "'00000000-0000-0000-0000-000000000000'";

macro_rules! select {
    ($from:literal) => {
        concat!(
            "SELECT a.position, a.seq, c.owner, c.assigned_user, a.kind, a.instance_id, a.operation_id, a.epoch, \
             a.status, a.actor, a.at, a.detail, a.prev_hash, a.hash ",
            $from,
            " AND a.position > $1 ORDER BY a.position LIMIT $2"
        )
    };
}

/// Lines that say nothing have no context.
pub(super) const OF_ALL: &str = select!(
    "FROM freehold_registry.audit a LEFT JOIN freehold_registry.contexts c ON c.context_id = a.context_id WHERE true"
);

/// By way of the context, whose lines are numbered in the order of positions.
pub(super) const OF_INSTANCE: &str = select!(
    "FROM freehold_registry.reservations r JOIN freehold_registry.audit a ON a.context_id = r.context_id \
     JOIN freehold_registry.contexts c ON c.context_id = a.context_id \
     WHERE r.instance_id = $3 AND a.instance_id = r.instance_id"
);

/// The lines of a context, in their order.
pub(super) const OF_CONTEXT: &str = "\
    SELECT a.kind, a.instance_id, a.operation_id, a.epoch, a.status, a.actor, a.at, a.detail \
     FROM freehold_registry.audit a WHERE a.context_id = $1 ORDER BY a.seq";

/// How many positions one statement closes.
const CLOSED_AT_ONCE: u64 = 1_000;

/// How often gaps are closed and the page read again, before what is before the gap is answered.
const READS: u32 = 8;

/// A line of the trail.
enum Line {
    Said(Box<AuditRecord>),
    /// One that says nothing, of every position from `first` to `last`.
    Nothing {
        first: u64,
        last: u64,
    },
}

impl Line {
    fn position(&self) -> u64 {
        match self {
            Self::Said(record) => record.position,
            Self::Nothing { last, .. } => *last,
        }
    }

    /// The first position that it stands for.
    fn begins(&self) -> u64 {
        match self {
            Self::Said(record) => record.position,
            Self::Nothing { first, .. } => *first,
        }
    }
}

fn line(columns: &mut Columns<'_>) -> Result<Line, StoreError> {
    let (position, seq) = (columns.count()?, columns.count()?);
    if columns.next_is_null()? {
        return Ok(Line::Nothing { first: seq, last: position });
    }
    Ok(Line::Said(Box::new(AuditRecord {
        position,
        context: columns.context()?,
        context_seq: seq,
        event: event(columns)?,
        prev_hash: columns.bytes()?,
        hash: columns.bytes()?,
    })))
}

/// What a line says.
pub(super) fn event(columns: &mut Columns<'_>) -> Result<Event, StoreError> {
    Ok(Event {
        kind: columns.named()?,
        instance: columns.id()?,
        operation: columns.id()?,
        epoch: Epoch::new(columns.count()?),
        status: {
            let name = columns.text()?;
            names::status_name(name).ok_or_else(|| corrupt(format!("{name:?} is no status")))?
        },
        actor: columns.named()?,
        at: columns.time()?,
        detail: columns.text()?.to_owned(),
    })
}

/// The first gap behind `after`, both ends included.
fn gap(after: u64, lines: &[Line]) -> Option<(u64, u64)> {
    let mut expected = after + 1;
    for line in lines {
        if line.begins() > expected {
            return Some((expected, line.begins() - 1));
        }
        expected = line.position() + 1;
    }
    None
}

impl PostgresStore {
    /// Reads the trail.
    pub(super) async fn trail(&self, query: &AuditQuery) -> Result<AuditPage, StoreError> {
        let AuditQuery { after, instance, limit } = query;
        let args = || Args::default().number(count(*after)).limit(one_more(*limit));
        if let Some(instance) = instance {
            let rows = self.rows(OF_INSTANCE, args().id(instance.as_bytes())).await?;
            return said(all(&rows, line)?, *limit);
        }
        let mut reads = 0;
        loop {
            let mut lines = all(&self.rows(OF_ALL, args()).await?, line)?;
            let Some((first, last)) = gap(*after, &lines) else { return said(lines, *limit) };
            reads += 1;
            let closed = if reads < READS { self.close_gap(first, last).await } else { Ok(()) };
            if reads == READS || closed.is_err() {
                // What is before the gap is true; the rest waits.
                lines.retain(|line| line.position() < first);
                return said(lines, *limit);
            }
        }
    }

    async fn close_gap(&self, first: u64, last: u64) -> Result<(), StoreError> {
        let last = last.min(first + CLOSED_AT_ONCE - 1);
        let close = format!(
            "INSERT INTO freehold_registry.audit (context_id, seq, position, kind, instance_id, operation_id, epoch, \
                status, actor, at, detail, prev_hash, hash) \
             SELECT {NOBODY}::uuid, p, p, '', {NOBODY}::uuid, {NOBODY}::uuid, 0, '', '', 0, '', ''::bytea, ''::bytea \
             FROM generate_series($1::bigint, $2::bigint) AS p WHERE {} <> '' ON CONFLICT DO NOTHING",
            patience!()
        );
        let args = Args::default().number(count(first)).number(count(last));
        self.desk.write_again(&close, &args).await.map(drop)
    }

    /// Puts an event on an instance's trail that no transition makes.
    pub(super) async fn witnessed(
        &self,
        instance: InstanceId,
        kind: EventKind,
        actor: Actor,
        at: Timestamp,
        detail: &str,
    ) -> Result<(), StoreError> {
        let mut tries = self.desk.tries();
        loop {
            let loaded = self.reads.load(Of::Instance(instance)).await?.ok_or(StoreError::Missing("instance"))?;
            let event = sentences::witness(&loaded.run, kind, actor, at, detail);
            match self.writes.write(Write::of_events(&loaded, &[event])?).await? {
                Written::Done => return Ok(()),
                Written::Overtaken => tries.another().await?,
            }
        }
    }
}

/// A page of lines; those that say nothing are left out, and still move it on.
fn said(lines: Vec<Line>, wanted: usize) -> Result<AuditPage, StoreError> {
    let listed = page(lines, wanted, Line::position);
    let items = listed.items.into_iter().filter_map(|line| match line {
        Line::Said(record) => Some(*record),
        Line::Nothing { .. } => None,
    });
    Ok(AuditPage { items: items.collect(), next: listed.next })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_gap_is_found_wherever_it_is() {
        let one = |&position: &u64| Line::Nothing { first: position, last: position };
        let lines = |positions: &[u64]| positions.iter().map(one).collect::<Vec<_>>();
        assert_eq!(gap(0, &lines(&[1, 2, 3])), None);
        assert_eq!(gap(0, &lines(&[])), None);
        assert_eq!(gap(0, &lines(&[2])), Some((1, 1)));
        assert_eq!(gap(7, &lines(&[8, 11, 13])), Some((9, 10)));
        let jump = |after| gap(after, &[Line::Nothing { first: 12, last: 90 }, Line::Nothing { first: 91, last: 91 }]);
        assert_eq!((jump(11), jump(50), jump(7)), (None, None, Some((8, 11))), "what is skipped is no gap");
    }
}
