-- The way back from a backup, and a registry that is on its way here.

-- Null while the quarantine lasts. The row of one that is over stays: the janitor is careful for a while behind it.
ALTER TABLE freehold_registry.quarantine ADD COLUMN ended_at bigint;

-- One row while another registry is copied to here: until it is all here and compared, nobody serves it.
CREATE TABLE freehold_registry.moving (
    only_row  integer PRIMARY KEY CHECK (only_row = 1),
    install   text    NOT NULL, -- whose
    source    text    NOT NULL, -- from where, for people
    position  bigint  NOT NULL, -- how far its audit trail is: it may not be served meanwhile
    began_at  bigint  NOT NULL,
    part      text    NOT NULL, -- which table is being copied
    last_key  bytea   NOT NULL  -- the last row of it that is here, by its key there
);
