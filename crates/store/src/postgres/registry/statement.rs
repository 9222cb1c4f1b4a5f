//! The statement that writes changes of different contexts, each under its own guard.
//!
//! - It locks the guards first and leaves out those that somebody else has: it never waits for one while it has another.
//! - Nothing below a guard is written that it did not get: every other part joins it.
//! - What begins is inserted, and what is on record is updated: an insertion that turns out to be an update costs twice.
//! - It has only the parts that its changes need: where a pooler is in between it is planned each time.

use std::sync::LazyLock;

use super::columns::{columns, names, source};
use super::rows::{AuditRows, LeakRows, OperationRows, ReservationRows, ResolvedRows};
use super::time::{now, patience};
use crate::postgres::args::Id;

columns! {
    /// A guard: the version that it must have, and what it has from then on.
    GuardRow in GuardRows {
        context_id: Id = "uuid",
        seen: i64 = "bigint",
        owner: String = "text",
        assigned_user: String = "text",
        shard: i16 = "smallint",
        commit_id: Id = "uuid",
        audit_seq: i64 = "bigint",
        audit_head: Vec<u8> = "bytea",
    }
}

/// Which guards a statement is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guards {
    /// Of contexts that are not on record.
    New,
    /// Of several that are: whoever is held by somebody else is left out.
    Several,
    /// Of one that is: whoever holds it is waited for, holding nothing.
    One,
}

/// What a statement writes besides guards and the audit trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) guards: Guards,
    /// Reservations and operations that begin.
    pub(super) begins: bool,
    /// Those that are on record.
    pub(super) changes: bool,
    /// Leaks.
    pub(super) leaks: bool,
}

const GUARDS: [Guards; 3] = [Guards::New, Guards::Several, Guards::One];

/// The texts of all shapes.
static TEXTS: LazyLock<[String; 24]> = LazyLock::new(|| {
    std::array::from_fn(|number| {
        let has = |bit| number & bit != 0;
        statement(Shape { guards: GUARDS[number / 8], begins: has(1), changes: has(2), leaks: has(4) })
    })
});

impl Shape {
    /// The text of the statement. Its arguments are the columns of guards, of what begins, of what changes, of lines of
    /// the trail and of leaks, as far as it has them.
    pub(super) fn text(self) -> &'static str {
        let Self { guards, begins, changes, leaks } = self;
        let first = match guards {
            Guards::New => 0,
            Guards::Several => 8,
            Guards::One => 16,
        };
        &TEXTS[first + usize::from(begins) + 2 * usize::from(changes) + 4 * usize::from(leaks)]
    }
}

type Names = &'static [(&'static str, &'static str)];

fn statement(shape: Shape) -> String {
    let mut arg = 1;
    let want = source("w", GuardRows::COLUMNS, &mut arg);
    let mut parts = guard(shape.guards);
    let insert = |table: &str, columns: Names, arg: &mut usize, order: &str| {
        format!(
            "INSERT INTO freehold_registry.{table} ({}) SELECT {} FROM {} \
             JOIN guard g ON g.context_id = n.context_id ORDER BY n.context_id, n.{order}",
            names("", columns),
            names("n.", columns),
            source("n", columns, arg),
        )
    };
    if shape.begins {
        let reservations = insert("reservations", ReservationRows::COLUMNS, &mut arg, "instance_id");
        let operations = insert("operations", OperationRows::COLUMNS, &mut arg, "id");
        parts += &format!(", reserved AS ({reservations}), begun AS ({operations})");
    }
    if shape.changes {
        let (reservations, operations) = (changed_reservations(&mut arg), changed_operations(&mut arg));
        parts += &format!(", changed AS ({reservations}), worked AS ({operations})");
    }
    let lines = insert("audit", AuditRows::COLUMNS, &mut arg, "seq");
    parts += &format!(", told AS ({lines})");
    if shape.leaks {
        let opened = insert("leaks", LeakRows::COLUMNS, &mut arg, "id");
        let resolved = source("n", ResolvedRows::COLUMNS, &mut arg);
        parts += &format!(
            ", opened AS ({opened}), resolved AS ( \
                UPDATE freehold_registry.leaks l SET resolved_at = n.resolved_at \
                FROM {resolved} JOIN guard g ON g.context_id = n.context_id \
                WHERE l.context_id = n.context_id AND l.instance_id = n.instance_id AND l.resolved_at IS NULL)"
        );
    }
    format!(
        "WITH want AS MATERIALIZED (SELECT w.*, {} AS patience FROM {want}), {parts} SELECT context_id FROM guard",
        patience!()
    )
}

/// Takes the guards that are still what they were. One that begins is at the time: the owner of its context may have been
/// anonymised and be back, and at a number that the earlier guard had a change would pass that was decided on what is gone.
fn guard(guards: Guards) -> String {
    let skip = match guards {
        Guards::New => {
            return concat!(
                "guard AS ( \
                    INSERT INTO freehold_registry.contexts AS c (context_id, owner, assigned_user, shard, version, \
                        commit_id, audit_seq, audit_head) \
                    SELECT w.context_id, w.owner, w.assigned_user, w.shard, ",
                now!(),
                ", w.commit_id, w.audit_seq, w.audit_head \
                    FROM want w ORDER BY w.context_id ON CONFLICT (context_id) DO NOTHING RETURNING c.context_id)"
            )
            .to_owned();
        }
        Guards::Several => " SKIP LOCKED",
        Guards::One => "",
    };
    format!(
        "free AS MATERIALIZED ( \
            SELECT c.context_id FROM freehold_registry.contexts c JOIN want w ON w.context_id = c.context_id \
            WHERE c.version = w.seen FOR UPDATE OF c{skip}), \
        guard AS ( \
            UPDATE freehold_registry.contexts c \
            SET version = c.version + 1, commit_id = w.commit_id, audit_seq = w.audit_seq, audit_head = w.audit_head \
            FROM want w JOIN free f ON f.context_id = w.context_id \
            WHERE c.context_id = w.context_id AND c.version = w.seen RETURNING c.context_id)"
    )
}

/// `SET` for all columns but those that stay, or are given apart.
fn set(columns: Names, except: &[&str]) -> String {
    let set = columns.iter().map(|(name, _)| *name).filter(|name| !except.contains(name));
    set.map(|name| format!("{name} = n.{name}")).collect::<Vec<_>>().join(", ")
}

/// NoRevive, a second time: what is buried stays buried.
fn changed_reservations(arg: &mut usize) -> String {
    let fixed = [
        "context_id",
        "instance_id",
        "provider",
        "tier",
        "price_version",
        "regions",
        "named",
        "started_at",
        "spec",
        "route_endpoint",
        "route_epoch",
        "route_tombstone_at",
    ];
    format!(
        "UPDATE freehold_registry.reservations t SET {}, spec = COALESCE(n.spec, t.spec), \
            route_endpoint = CASE WHEN t.route_tombstone_at IS NULL THEN n.route_endpoint END, \
            route_epoch = CASE WHEN t.route_tombstone_at IS NULL THEN n.route_epoch END, \
            route_tombstone_at = COALESCE(t.route_tombstone_at, n.route_tombstone_at) \
         FROM {} JOIN guard g ON g.context_id = n.context_id \
         WHERE t.context_id = n.context_id AND t.instance_id = n.instance_id",
        set(ReservationRows::COLUMNS, &fixed),
        source("n", ReservationRows::COLUMNS, arg),
    )
}

/// An answer is kept where a key may ask for it again, and the first one stays.
fn changed_operations(arg: &mut usize) -> String {
    let fixed = [
        "context_id",
        "id",
        "instance_id",
        "shard",
        "kind",
        "deadline",
        "spec",
        "request_id",
        "started_at",
        "key_scope",
        "key_fingerprint",
        "answer_status",
        "answer_body",
    ];
    format!(
        "UPDATE freehold_registry.operations t SET {}, \
            answer_status = CASE WHEN t.key_scope IS NOT NULL AND t.answer_status IS NULL \
                THEN n.answer_status ELSE t.answer_status END, \
            answer_body = CASE WHEN t.key_scope IS NOT NULL AND t.answer_status IS NULL \
                THEN n.answer_body ELSE t.answer_body END \
         FROM {} JOIN guard g ON g.context_id = n.context_id \
         WHERE t.context_id = n.context_id AND t.id = n.id",
        set(OperationRows::COLUMNS, &fixed),
        source("n", OperationRows::COLUMNS, arg),
    )
}
