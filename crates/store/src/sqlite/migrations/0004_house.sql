-- The way back from a backup, and a registry that lives elsewhere by now.

-- Null while the quarantine lasts. The row of one that is over stays: the janitor is careful for a while behind it.
ALTER TABLE quarantine ADD COLUMN ended_at INTEGER;
-- The audit trail counts as this far at least.
ALTER TABLE quarantine ADD COLUMN reached INTEGER NOT NULL DEFAULT 0;

-- One row once everything in here was copied to another database, which is the registry from then on.
CREATE TABLE moved (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    place    TEXT    NOT NULL,
    at       INTEGER NOT NULL
) STRICT;
