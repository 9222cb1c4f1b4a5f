//! Every table that moves, once: how its rows are read in SQLite, and what they are in PostgreSQL. The names of the
//! columns are the target's; behind each stands what it is made of.

/// What a column is, and how a value of it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Sixteen bytes.
    Uuid,
    /// A context's id, made of owner and user: two columns of the source.
    Context,
    /// The part of the timers, made of the owner.
    Shard,
    /// A text; the one character that PostgreSQL's texts do not have is replaced, as its store does.
    Text,
    /// A text that a hash covers: it is the same or it does not move.
    Exact,
    /// JSON, whose spelling does not count.
    Json,
    /// A number.
    Int,
    /// A number of 32 bits.
    Int4,
    /// Bytes.
    Bytes,
    /// Yes or no.
    Bool,
    /// A time, as PostgreSQL has them.
    At,
}

impl Kind {
    /// What it is in SQL.
    pub(super) fn sql(self) -> &'static str {
        match self {
            Self::Uuid | Self::Context => "uuid",
            Self::Shard => "smallint",
            Self::Text | Self::Exact | Self::Json => "text",
            Self::Int => "bigint",
            Self::Int4 => "integer",
            Self::Bytes => "bytea",
            Self::Bool => "boolean",
            Self::At => "timestamptz",
        }
    }
}

/// A column of the target.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// What it is made of in the source.
    pub(super) from: &'static str,
}

/// What the rows of a table are told apart by in the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyKind {
    Number,
    Bytes,
    Text,
}

/// A table, or a part of one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table {
    /// Its name, in progress and in reports.
    pub(super) name: &'static str,
    /// The table of the target.
    pub(super) target: &'static str,
    /// The key in the source: an expression, and what it is.
    pub(super) key: &'static str,
    pub(super) key_kind: KeyKind,
    /// What is read in the source.
    pub(super) from: &'static str,
    /// Which columns tell the rows of the target apart.
    pub(super) identity: &'static [&'static str],
    pub(super) columns: &'static [Column],
    /// Whether a trigger of the target stands in the way, for it judges what is new and this is old.
    pub(super) arrives: bool,
    /// Whether it is of the records.
    pub(super) of_records: bool,
}

const fn col(name: &'static str, kind: Kind, from: &'static str) -> Column {
    Column { name, kind, from }
}

const fn registry(
    name: &'static str,
    target: &'static str,
    (key, key_kind): (&'static str, KeyKind),
    from: &'static str,
    identity: &'static [&'static str],
    columns: &'static [Column],
) -> Table {
    Table { name, target, key, key_kind, from, identity, columns, arrives: false, of_records: false }
}

const fn records(
    name: &'static str,
    target: &'static str,
    (key, key_kind): (&'static str, KeyKind),
    from: &'static str,
    identity: &'static [&'static str],
    columns: &'static [Column],
    arrives: bool,
) -> Table {
    Table { name, target, key, key_kind, from, identity, columns, arrives, of_records: true }
}

use Kind::{At, Bool, Bytes, Context, Exact, Int, Int4, Json, Shard, Text, Uuid};

/// Whose it is, from the context's row.
const CONTEXT: &str = "c.owner, c.assigned_user";

const CONTEXTS: &[Column] = &[
    col("context_id", Context, CONTEXT),
    col("owner", Text, "c.owner"),
    col("assigned_user", Text, "c.assigned_user"),
    col("shard", Shard, "c.owner"),
    col("version", Int, "1"),
    col("commit_id", Context, CONTEXT),
    col("audit_seq", Int, "c.audit_seq"),
    col("audit_head", Bytes, "c.audit_head"),
];

const RESERVATIONS: &[Column] = &[
    col("context_id", Context, CONTEXT),
    col("instance_id", Uuid, "r.instance_id"),
    col("provider", Text, "r.provider"),
    col("tier", Text, "r.tier"),
    col("price_version", Text, "r.price_version"),
    col("regions", Text, "r.regions"),
    col("named", Text, "r.named"),
    col("status", Text, "r.status"),
    col("status_reason", Text, "r.status_reason"),
    col("epoch", Int, "r.epoch"),
    col("destroy_at", Int, "r.destroy_at"),
    col("destroy_reason", Text, "r.destroy_reason"),
    col("power", Text, "r.power"),
    col("operation_id", Uuid, "r.operation_id"),
    col("unanswered", Int4, "r.unanswered"),
    col("last_sent_at", Int, "r.last_sent_at"),
    col("resources", Text, "r.resources"),
    col("sealed_at", Int, "r.sealed_at"),
    col("lookups", Text, "r.lookups"),
    col("runtime_state", Text, "r.runtime_state"),
    col("runtime_detail", Text, "r.runtime_detail"),
    col("runtime_at", Int, "r.runtime_at"),
    col("recoveries", Int4, "r.recoveries"),
    col("check_at", Int, "r.check_at"),
    col("started_at", Int, "r.started_at"),
    col("updated_at", Int, "r.updated_at"),
    col("completed_at", Int, "r.completed_at"),
    col("released_at", Int, "r.released_at"),
    col("route_endpoint", Text, "r.route_endpoint"),
    col("route_epoch", Int, "r.route_epoch"),
    col("route_tombstone_at", Int, "r.route_tombstone_at"),
    col("spec", Bytes, "r.spec"),
];

const OPERATIONS: &[Column] = &[
    col("context_id", Context, CONTEXT),
    col("id", Uuid, "o.id"),
    col("instance_id", Uuid, "o.instance_id"),
    col("shard", Shard, "c.owner"),
    col("epoch", Int, "r.epoch"),
    col("kind", Text, "o.kind"),
    col("status", Text, "o.status"),
    col("attempt", Int4, "o.attempt"),
    col("holder_node", Text, "o.holder_node"),
    col("holder_incarnation", Int, "o.holder_incarnation"),
    col("due_at", Int, "o.due_at"),
    col("deadline", Int, "o.deadline"),
    col("steps", Text, "o.steps"),
    col("regions_full", Int4, "o.regions_full"),
    col("failure", Text, "o.failure"),
    col("spec", Bytes, "o.spec"),
    col("request_id", Text, "o.request_id"),
    col("started_at", Int, "o.started_at"),
    col("finished_at", Int, "o.finished_at"),
    col("key_scope", Bytes, "o.key_scope"),
    col("key_fingerprint", Bytes, "o.key_fingerprint"),
    col("answer_status", Int4, "o.answer_status"),
    col("answer_body", Bytes, "o.answer_body"),
];

const AUDIT: &[Column] = &[
    col("context_id", Context, CONTEXT),
    col("seq", Int, "a.seq"),
    col("position", Int, "a.position"),
    col("kind", Text, "a.kind"),
    col("instance_id", Uuid, "a.instance_id"),
    col("operation_id", Uuid, "a.operation_id"),
    col("epoch", Int, "a.epoch"),
    col("status", Text, "a.status"),
    col("actor", Text, "a.actor"),
    col("at", Int, "a.at"),
    col("detail", Exact, "a.detail"),
    col("prev_hash", Bytes, "a.prev_hash"),
    col("hash", Bytes, "a.hash"),
];

/// Positions that were skipped: one line that says nothing stands for each run of them, as in the trail of PostgreSQL.
const AUDIT_SKIPPED: &[Column] = &[
    col("context_id", Uuid, "zeroblob(16)"),
    col("seq", Int, "a.before + 1"),
    col("position", Int, "a.position - 1"),
    col("kind", Text, "''"),
    col("instance_id", Uuid, "zeroblob(16)"),
    col("operation_id", Uuid, "zeroblob(16)"),
    col("epoch", Int, "0"),
    col("status", Text, "''"),
    col("actor", Text, "''"),
    col("at", Int, "0"),
    col("detail", Exact, "''"),
    col("prev_hash", Bytes, "x''"),
    col("hash", Bytes, "x''"),
];

const SKIPPED: &str = "\
    (SELECT position, before FROM ( \
        SELECT position, lag(position, 1, 0) OVER (ORDER BY position) AS before FROM ( \
            SELECT position FROM audit UNION ALL \
            SELECT reached + 1 FROM quarantine WHERE reached > (SELECT coalesce(max(position), 0) FROM audit))) \
    WHERE position > before + 1) a";

const LEAKS: &[Column] = &[
    col("context_id", Context, CONTEXT),
    col("id", Uuid, "l.id"),
    col("instance_id", Uuid, "l.instance_id"),
    col("reason", Text, "l.reason"),
    col("opened_at", Int, "l.opened_at"),
    col("resolved_at", Int, "l.resolved_at"),
];

const API_KEYS: &[Column] = &[
    col("id", Text, "k.id"),
    col("label", Text, "k.label"),
    col("role", Text, "k.role"),
    col("hash", Bytes, "k.hash"),
    col("created_at", Int, "k.created_at"),
    col("revoked_at", Int, "k.revoked_at"),
];

const BACKFILLED: &[Column] = &[col("owner", Text, "b.owner"), col("at", Int, "b.at")];

const DELIVERIES: &[Column] = &[col("id", Text, "d.id"), col("keep_until", Int, "d.keep_until")];

const QUARANTINE: &[Column] = &[
    col("only_row", Int4, "q.only_row"),
    col("why", Text, "q.why"),
    col("since", Int, "q.since"),
    col("ended_at", Int, "q.ended_at"),
];

const INSTALLATION: &[Column] = &[
    col("only_row", Int4, "i.only_row"),
    col("install", Text, "i.install"),
    col("mac_key", Bytes, "i.mac_key"),
    col("secret_key", Bytes, "i.secret_key"),
];

const GUARDS: &[Column] = &[col("instance_id", Uuid, "g.instance_id"), col("writes", Int, "1")];

const GUARDED: &str = "\
    (SELECT instance_id FROM records_instances UNION SELECT instance_id FROM records_change_log \
     UNION SELECT instance_id FROM records_closed UNION SELECT instance_id FROM reservations \
        WHERE status NOT IN ('in_progress', 'completed') OR destroy_at IS NOT NULL) g";

const INSTANCES: &[Column] = &[
    col("instance_id", Uuid, "i.instance_id"),
    col("owner", Text, "i.owner"),
    col("assigned_user", Text, "i.assigned_user"),
    col("provider", Text, "i.provider"),
    col("tier", Text, "i.tier"),
    col("created_at", At, "i.created_at"),
    col("destroyed_at", At, "i.destroyed_at"),
];

const SUBSCRIPTIONS: &[Column] = &[
    col("instance_id", Uuid, "s.instance_id"),
    col("subscription_id", Uuid, "s.id"),
    col("status", Text, "s.status"),
    col("plan", Text, "s.plan"),
    col("price_version", Text, "s.price_version"),
    col("started_at", At, "s.started_at"),
    col("ended_at", At, "s.ended_at"),
    col("reported", Bool, "s.reported"),
];

const TOMBSTONES: &[Column] = &[col("instance_id", Uuid, "t.instance_id"), col("closed_at", At, "t.at")];

/// In SQLite the registry at hand says that nothing may be written any more; in PostgreSQL the records say it themselves.
const CLOSED: &str = "\
    (SELECT instance_id, at FROM records_closed WHERE instance_id NOT IN (SELECT instance_id FROM records_instances) \
     UNION ALL SELECT r.instance_id, r.updated_at FROM reservations r \
        WHERE (r.status NOT IN ('in_progress', 'completed') OR r.destroy_at IS NOT NULL) \
        AND r.instance_id NOT IN (SELECT instance_id FROM records_instances) \
        AND r.instance_id NOT IN (SELECT instance_id FROM records_closed)) t";

const CHANGE_LOG: &[Column] = &[
    col("position", Int, "l.position"),
    col("instance_id", Uuid, "l.instance_id"),
    col("action", Text, "l.action"),
    col("actor_type", Text, "l.actor"),
    col("actor_id", Uuid, "l.operation_id"),
    col("reason", Text, "l.reason"),
    col("before", Json, "l.before"),
    col("after", Json, "l.after"),
    col("at", At, "l.at"),
];

use KeyKind::{Bytes as ByBytes, Number as ByNumber, Text as ByText};

/// Every table, in the order in which they are copied.
pub(super) const TABLES: &[Table] = &[
    registry("contexts", "freehold_registry.contexts", ("c.id", ByNumber), "contexts c", &["context_id"], CONTEXTS),
    registry(
        "reservations",
        "freehold_registry.reservations",
        ("r.instance_id", ByBytes),
        "reservations r JOIN contexts c ON c.id = r.context_id",
        &["context_id", "instance_id"],
        RESERVATIONS,
    ),
    registry(
        "operations",
        "freehold_registry.operations",
        ("o.id", ByBytes),
        "operations o CROSS JOIN reservations r ON r.instance_id = o.instance_id JOIN contexts c ON c.id = r.context_id",
        &["context_id", "id"],
        OPERATIONS,
    ),
    registry(
        "audit",
        "freehold_registry.audit",
        ("a.position", ByNumber),
        "audit a CROSS JOIN contexts c ON c.id = a.context_id",
        &["context_id", "seq"],
        AUDIT,
    ),
    registry(
        "audit_skipped",
        "freehold_registry.audit",
        ("a.position", ByNumber),
        SKIPPED,
        &["context_id", "seq"],
        AUDIT_SKIPPED,
    ),
    registry(
        "leaks",
        "freehold_registry.leaks",
        ("l.id", ByBytes),
        "leaks l CROSS JOIN reservations r ON r.instance_id = l.instance_id JOIN contexts c ON c.id = r.context_id",
        &["context_id", "id"],
        LEAKS,
    ),
    registry("api_keys", "freehold_registry.api_keys", ("k.id", ByText), "api_keys k", &["id"], API_KEYS),
    registry(
        "owners_backfilled",
        "freehold_registry.owners_backfilled",
        ("b.owner", ByText),
        "owners_backfilled b",
        &["owner"],
        BACKFILLED,
    ),
    registry("deliveries", "freehold_registry.deliveries", ("d.id", ByText), "deliveries d", &["id"], DELIVERIES),
    registry(
        "quarantine",
        "freehold_registry.quarantine",
        ("q.only_row", ByNumber),
        "quarantine q",
        &["only_row"],
        QUARANTINE,
    ),
    registry(
        "installation",
        "freehold_registry.installation",
        ("i.only_row", ByNumber),
        "installation i",
        &["only_row"],
        INSTALLATION,
    ),
    records(
        "records_guards",
        "freehold.freehold_instance_guards",
        ("g.instance_id", ByBytes),
        GUARDED,
        &["instance_id"],
        GUARDS,
        false,
    ),
    records(
        "records_instances",
        "freehold.freehold_instances",
        ("i.instance_id", ByBytes),
        "records_instances i",
        &["instance_id"],
        INSTANCES,
        true,
    ),
    records(
        "records_subscriptions",
        "freehold.freehold_subscriptions",
        ("s.instance_id", ByBytes),
        "records_subscriptions s",
        &["instance_id"],
        SUBSCRIPTIONS,
        true,
    ),
    records(
        "records_closed",
        "freehold.freehold_tombstones",
        ("t.instance_id", ByBytes),
        CLOSED,
        &["instance_id"],
        TOMBSTONES,
        true,
    ),
    records(
        "records_change_log",
        "freehold.freehold_subscription_change_log",
        ("l.position", ByNumber),
        "records_change_log l",
        &["position"],
        CHANGE_LOG,
        false,
    ),
];

/// Tables of the source that do not move, and why.
#[cfg(test)]
pub(super) const LEFT: &[(&str, &str)] = &[
    ("schema_migrations", "the target has steps of its own"),
    ("nodes", "nodes tell of themselves again"),
    ("moved", "it is about the source"),
    ("operations.shard", "it is made of the owner again"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use freehold_domain::time::Timestamp;

    use super::*;
    use crate::sqlite::migrate;

    /// A column that is added to the source and forgotten here does not move, and this says so.
    #[test]
    fn every_column_of_the_source_moves() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("registry.db");
        migrate::up(&path, Timestamp::from_micros(1)).expect("made");
        let conn = rusqlite::Connection::open(&path).expect("opens");
        let mut columns = conn
            .prepare(
                "SELECT t.name, c.name FROM sqlite_schema t, pragma_table_info(t.name) c \
                 WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%'",
            )
            .expect("a statement");
        let columns = columns.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("reads");
        let words: BTreeSet<&str> = TABLES
            .iter()
            .flat_map(|table| table.columns.iter().map(|column| column.from).chain([table.from, table.key]))
            .flat_map(|text| text.split(|sign: char| !(sign.is_ascii_alphanumeric() || sign == '_')))
            .collect();
        let read_from: BTreeSet<&str> = TABLES
            .iter()
            .flat_map(|table| table.from.split(|sign: char| !(sign.is_ascii_alphanumeric() || sign == '_')))
            .collect();
        for column in columns {
            let (table, column): (String, String) = column.expect("reads");
            if LEFT.iter().any(|(left, _)| *left == table || *left == format!("{table}.{column}")) {
                continue;
            }
            assert!(read_from.contains(table.as_str()), "{table} does not move");
            assert!(words.contains(column.as_str()), "{table}.{column} does not move");
        }
    }

    #[test]
    fn every_table_has_a_name_of_its_own_and_knows_its_rows() {
        let names: BTreeSet<&str> = TABLES.iter().map(|table| table.name).collect();
        assert_eq!(names.len(), TABLES.len());
        for table in TABLES {
            let has = |name: &&str| table.columns.iter().any(|column| column.name == *name);
            assert!(!table.identity.is_empty() && table.identity.iter().all(has), "{}", table.name);
        }
    }
}
