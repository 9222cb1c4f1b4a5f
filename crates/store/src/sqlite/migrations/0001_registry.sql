-- The registry, and the records where they live in the same database.
--
-- Times are microseconds since the Unix epoch. Ids are the sixteen bytes of a UUIDv7, so that rows that are made
-- together lie together. Names are those of the domain's `name()` functions. No row of an instance is ever deleted.

-- The guard row of a context: the numbering and the head of its audit chain.
CREATE TABLE contexts (
    id            INTEGER PRIMARY KEY,
    owner         TEXT    NOT NULL,
    assigned_user TEXT    NOT NULL,
    audit_seq     INTEGER NOT NULL,
    audit_head    BLOB    NOT NULL,
    UNIQUE (owner, assigned_user)
) STRICT;

CREATE TABLE reservations (
    instance_id        BLOB    PRIMARY KEY NOT NULL,
    context_id         INTEGER NOT NULL,
    provider           TEXT    NOT NULL,
    tier               TEXT    NOT NULL,
    price_version      TEXT    NOT NULL,
    regions            TEXT    NOT NULL, -- JSON
    status             TEXT    NOT NULL,
    status_reason      TEXT,             -- a failure code or a resolution
    epoch              INTEGER NOT NULL,
    destroy_at         INTEGER,          -- set once destroy is accepted
    destroy_reason     TEXT,
    power              TEXT    NOT NULL,
    operation_id       BLOB    NOT NULL,
    unanswered         INTEGER NOT NULL,
    last_sent_at       INTEGER,
    resources          TEXT    NOT NULL, -- JSON
    sealed_at          INTEGER,
    lookups            TEXT    NOT NULL, -- JSON
    runtime_state      TEXT,
    runtime_detail     TEXT,
    runtime_at         INTEGER,
    recoveries         INTEGER NOT NULL,
    check_at           INTEGER,          -- null for never
    started_at         INTEGER NOT NULL,
    updated_at         INTEGER NOT NULL,
    completed_at       INTEGER,
    released_at        INTEGER,
    route_endpoint     TEXT,
    route_epoch        INTEGER,
    route_tombstone_at INTEGER,          -- once set, never cleared
    spec               BLOB    NOT NULL
) STRICT;

-- OneUnresolved, a second time: the rule itself is the domain's.
CREATE UNIQUE INDEX reservations_one_unresolved ON reservations (context_id)
    WHERE status IN ('in_progress', 'failed_requires_reconciliation');
CREATE INDEX reservations_by_context ON reservations (context_id, status, instance_id);
CREATE INDEX reservations_to_check ON reservations (check_at) WHERE check_at IS NOT NULL;
CREATE INDEX reservations_destroying ON reservations (destroy_at)
    WHERE destroy_at IS NOT NULL AND released_at IS NULL;

CREATE TABLE operations (
    id                 BLOB    PRIMARY KEY NOT NULL,
    instance_id        BLOB    NOT NULL,
    kind               TEXT    NOT NULL,
    status             TEXT    NOT NULL,
    attempt            INTEGER NOT NULL,
    holder_node        TEXT,
    holder_incarnation INTEGER,
    due_at             INTEGER,          -- null once it is over
    deadline           INTEGER NOT NULL,
    steps              TEXT    NOT NULL, -- JSON
    regions_full       INTEGER NOT NULL,
    failure            TEXT,             -- JSON
    spec               BLOB,
    request_id         TEXT    NOT NULL,
    started_at         INTEGER NOT NULL,
    finished_at        INTEGER,
    key_scope          BLOB,             -- set while an idempotency key leads here
    key_fingerprint    BLOB,
    answer_status      INTEGER,
    answer_body        BLOB
) STRICT;

-- The timers. The holder is in it so that a returning node finds its own without reading rows.
CREATE INDEX operations_due ON operations (due_at, holder_node, holder_incarnation) WHERE due_at IS NOT NULL;
-- SameAnswer, a second time: a key leads to one operation.
CREATE UNIQUE INDEX operations_by_key ON operations (key_scope) WHERE key_scope IS NOT NULL;
CREATE INDEX operations_to_forget ON operations (finished_at)
    WHERE key_scope IS NOT NULL AND finished_at IS NOT NULL;

-- Positions are given in the order of commits and never again: rows are never deleted.
CREATE TABLE audit (
    position     INTEGER PRIMARY KEY,
    context_id   INTEGER NOT NULL,
    seq          INTEGER NOT NULL,
    kind         TEXT    NOT NULL,
    instance_id  BLOB    NOT NULL,
    operation_id BLOB    NOT NULL,
    epoch        INTEGER NOT NULL,
    status       TEXT    NOT NULL,
    actor        TEXT    NOT NULL,
    at           INTEGER NOT NULL,
    detail       TEXT    NOT NULL,
    prev_hash    BLOB    NOT NULL,
    hash         BLOB    NOT NULL,
    UNIQUE (context_id, seq)
) STRICT;

CREATE TABLE leaks (
    id          BLOB    PRIMARY KEY NOT NULL,
    instance_id BLOB    NOT NULL,
    reason      TEXT    NOT NULL,
    opened_at   INTEGER NOT NULL,
    resolved_at INTEGER
) STRICT;

CREATE INDEX leaks_open ON leaks (instance_id) WHERE resolved_at IS NULL;

CREATE TABLE installation (
    only_row   INTEGER PRIMARY KEY CHECK (only_row = 1),
    install    TEXT NOT NULL,
    mac_key    BLOB NOT NULL,
    secret_key BLOB NOT NULL
) STRICT;

CREATE TABLE api_keys (
    id         TEXT    PRIMARY KEY NOT NULL,
    label      TEXT    NOT NULL,
    role       TEXT    NOT NULL,
    hash       BLOB    NOT NULL,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;

CREATE TABLE records_instances (
    instance_id   BLOB    PRIMARY KEY NOT NULL,
    owner         TEXT    NOT NULL,
    assigned_user TEXT    NOT NULL,
    provider      TEXT    NOT NULL,
    tier          TEXT    NOT NULL,
    created_at    INTEGER NOT NULL,
    destroyed_at  INTEGER
) STRICT;

CREATE INDEX records_instances_active ON records_instances (owner, assigned_user) WHERE destroyed_at IS NULL;

-- Two changes make the whole history of a subscription: it starts, it ends.
CREATE TABLE records_subscriptions (
    instance_id   BLOB    PRIMARY KEY NOT NULL,
    id            BLOB    NOT NULL UNIQUE,
    status        TEXT    NOT NULL,
    plan          TEXT    NOT NULL,
    price_version TEXT    NOT NULL,
    started_at    INTEGER NOT NULL,
    ended_at      INTEGER
) STRICT;
