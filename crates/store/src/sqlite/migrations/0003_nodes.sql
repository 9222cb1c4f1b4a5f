-- Nodes, owners that take turns, and a registry that went back in time.

-- Whoever serves this registry, as it told of itself.
CREATE TABLE nodes (
    node        TEXT    PRIMARY KEY NOT NULL,
    incarnation INTEGER NOT NULL,
    roles       TEXT    NOT NULL,
    version     TEXT    NOT NULL,
    address     TEXT    NOT NULL,
    started_at  INTEGER NOT NULL,
    seen_at     INTEGER NOT NULL,
    draining    INTEGER NOT NULL
) STRICT;

-- In which part of the timers an operation is, by its owner. What is on record already is in the first one.
ALTER TABLE operations ADD COLUMN shard INTEGER NOT NULL DEFAULT 0;

CREATE INDEX operations_due_in_part ON operations (shard, due_at) WHERE due_at IS NOT NULL;

-- One row while nothing may be changed at a provider.
CREATE TABLE quarantine (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    why      TEXT    NOT NULL,
    since    INTEGER NOT NULL
) STRICT;
