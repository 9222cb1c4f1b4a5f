-- Nodes, and a registry that went back in time.

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

-- One row while nothing may be changed at a provider.
CREATE TABLE quarantine (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    why      TEXT    NOT NULL,
    since    INTEGER NOT NULL
) STRICT;
