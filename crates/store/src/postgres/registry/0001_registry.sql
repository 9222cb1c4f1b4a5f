-- The registry, for any number of nodes.
--
-- Every row belongs to a context and carries its id, by which the tables can be distributed; a rule that must hold is a
-- change of rows of one context. The context's own row is its guard: whoever writes any of its rows raises `version` in
-- the same statement, and only if it is still what it was when the rows were read. No session keeps anything, nothing
-- listens, and what is used of SQL is what PostgreSQL shares with the engines that speak its protocol.
--
-- Times are microseconds since the Unix epoch, by the database's clock where they decide anything. Names are those of
-- the domain's `name()` functions. No row of an instance is ever deleted.

CREATE TABLE freehold_registry.contexts (
    context_id    uuid     PRIMARY KEY, -- made of the owner and the user
    owner         text     NOT NULL,
    assigned_user text     NOT NULL,
    shard         smallint NOT NULL,    -- made of the owner: in which part of the timers its operations are
    version       bigint   NOT NULL,
    commit_id     uuid     NOT NULL,    -- of the last change: whoever lost an answer reads it back
    audit_seq     bigint   NOT NULL,
    audit_head    bytea    NOT NULL
) WITH (fillfactor = 80);

CREATE INDEX contexts_by_owner ON freehold_registry.contexts (owner, assigned_user);

CREATE TABLE freehold_registry.reservations (
    context_id         uuid    NOT NULL,
    instance_id        uuid    NOT NULL,
    provider           text    NOT NULL,
    tier               text    NOT NULL,
    price_version      text    NOT NULL,
    regions            text    NOT NULL, -- JSON
    named              text,
    status             text    NOT NULL,
    status_reason      text,             -- a failure code or a resolution
    epoch              bigint  NOT NULL,
    destroy_at         bigint,           -- set once destroy is accepted
    destroy_reason     text,
    power              text    NOT NULL,
    operation_id       uuid    NOT NULL,
    unanswered         integer NOT NULL,
    last_sent_at       bigint,
    resources          text    NOT NULL, -- JSON
    sealed_at          bigint,
    lookups            text    NOT NULL, -- JSON
    runtime_state      text,
    runtime_detail     text,
    runtime_at         bigint,
    recoveries         integer NOT NULL,
    check_at           bigint,           -- null for never
    started_at         bigint  NOT NULL,
    updated_at         bigint  NOT NULL,
    completed_at       bigint,
    released_at        bigint,
    route_endpoint     text,
    route_epoch        bigint,
    route_tombstone_at bigint,           -- once set, never cleared
    spec               bytea,
    PRIMARY KEY (context_id, instance_id)
) WITH (fillfactor = 80);

CREATE INDEX reservations_by_instance ON freehold_registry.reservations (instance_id);
-- OneUnresolved, a second time: the rule itself is the domain's.
CREATE UNIQUE INDEX reservations_one_unresolved ON freehold_registry.reservations (context_id)
    WHERE status IN ('in_progress', 'failed_requires_reconciliation');
-- The ledger: tombstones do not count, and are not read.
CREATE INDEX reservations_of_ledger ON freehold_registry.reservations (context_id) WHERE status <> 'released';
-- One instance for each name that was given elsewhere.
CREATE UNIQUE INDEX reservations_named ON freehold_registry.reservations (provider, named)
    WHERE named IS NOT NULL AND status <> 'released';
CREATE INDEX reservations_unresolved ON freehold_registry.reservations (started_at)
    WHERE status IN ('in_progress', 'failed_requires_reconciliation');
CREATE INDEX reservations_to_check ON freehold_registry.reservations (check_at) WHERE check_at IS NOT NULL;
CREATE INDEX reservations_destroying ON freehold_registry.reservations (destroy_at)
    WHERE destroy_at IS NOT NULL AND released_at IS NULL;

CREATE TABLE freehold_registry.operations (
    context_id         uuid     NOT NULL,
    id                 uuid     NOT NULL,
    instance_id        uuid     NOT NULL,
    shard              smallint NOT NULL,
    epoch              bigint   NOT NULL, -- of the reservation when this row was written last
    kind               text     NOT NULL,
    status             text     NOT NULL,
    attempt            integer  NOT NULL,
    holder_node        text,
    holder_incarnation bigint,
    due_at             bigint,            -- null once it is over
    deadline           bigint   NOT NULL,
    steps              text     NOT NULL, -- JSON
    regions_full       integer  NOT NULL,
    failure            text,              -- JSON
    spec               bytea,
    request_id         text     NOT NULL,
    started_at         bigint   NOT NULL,
    finished_at        bigint,
    key_scope          bytea,             -- set while an idempotency key leads here
    key_fingerprint    bytea,
    answer_status      integer,
    answer_body        bytea,
    PRIMARY KEY (context_id, id)
) WITH (fillfactor = 80);

CREATE INDEX operations_by_id ON freehold_registry.operations (id);
-- The timers, in parts.
CREATE INDEX operations_due ON freehold_registry.operations (shard, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX operations_held ON freehold_registry.operations (holder_node, holder_incarnation)
    WHERE holder_node IS NOT NULL AND due_at IS NOT NULL;
-- SameAnswer, a second time: a key leads to one operation.
CREATE UNIQUE INDEX operations_by_key ON freehold_registry.operations (key_scope) WHERE key_scope IS NOT NULL;
CREATE INDEX operations_to_forget ON freehold_registry.operations (finished_at)
    WHERE key_scope IS NOT NULL AND finished_at IS NOT NULL;

-- Positions are given before they are committed: a reader waits out the gaps, see `audit.rs`.
CREATE SEQUENCE freehold_registry.audit_position;

CREATE TABLE freehold_registry.audit (
    context_id   uuid   NOT NULL,
    seq          bigint NOT NULL,
    position     bigint NOT NULL DEFAULT nextval('freehold_registry.audit_position'),
    kind         text   NOT NULL,
    instance_id  uuid   NOT NULL,
    operation_id uuid   NOT NULL,
    epoch        bigint NOT NULL,
    status       text   NOT NULL,
    actor        text   NOT NULL,
    at           bigint NOT NULL,
    detail       text   NOT NULL,
    prev_hash    bytea  NOT NULL,
    hash         bytea  NOT NULL,
    PRIMARY KEY (context_id, seq)
);

CREATE UNIQUE INDEX audit_in_order ON freehold_registry.audit (position);

CREATE TABLE freehold_registry.leaks (
    context_id  uuid   NOT NULL,
    id          uuid   NOT NULL,
    instance_id uuid   NOT NULL,
    reason      text   NOT NULL,
    opened_at   bigint NOT NULL,
    resolved_at bigint,
    PRIMARY KEY (context_id, id)
);

CREATE INDEX leaks_by_id ON freehold_registry.leaks (id);
CREATE INDEX leaks_open ON freehold_registry.leaks (instance_id) WHERE resolved_at IS NULL;

CREATE TABLE freehold_registry.installation (
    only_row   integer PRIMARY KEY CHECK (only_row = 1),
    install    text    NOT NULL,
    mac_key    bytea   NOT NULL,
    secret_key bytea   NOT NULL
);

CREATE TABLE freehold_registry.api_keys (
    id         text   PRIMARY KEY,
    label      text   NOT NULL,
    role       text   NOT NULL,
    hash       bytea  NOT NULL,
    created_at bigint NOT NULL,
    revoked_at bigint
);

-- Owners whose instances were all taken in from the records.
CREATE TABLE freehold_registry.owners_backfilled (
    owner text   PRIMARY KEY,
    at    bigint NOT NULL
);

-- Messages that arrived, for as long as they could arrive again.
CREATE TABLE freehold_registry.deliveries (
    id         text   PRIMARY KEY,
    keep_until bigint NOT NULL
);

CREATE INDEX deliveries_to_forget ON freehold_registry.deliveries (keep_until);

-- Whoever serves this registry, as it told of itself.
CREATE TABLE freehold_registry.nodes (
    node        text    PRIMARY KEY,
    incarnation bigint  NOT NULL,
    roles       text    NOT NULL,
    version     text    NOT NULL,
    address     text    NOT NULL,
    started_at  bigint  NOT NULL,
    seen_at     bigint  NOT NULL,
    draining    boolean NOT NULL
);

-- One row while nothing may be changed at a provider.
CREATE TABLE freehold_registry.quarantine (
    only_row integer PRIMARY KEY CHECK (only_row = 1),
    why      text    NOT NULL,
    since    bigint  NOT NULL
);
