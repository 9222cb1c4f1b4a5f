-- Records that may be elsewhere, and that say who changed what.

-- What an instance's base is called at its provider, where it was not made here.
ALTER TABLE reservations ADD COLUMN named TEXT;

-- One instance for each of them.
CREATE UNIQUE INDEX reservations_named ON reservations (provider, named) WHERE named IS NOT NULL AND status <> 'released';

-- Owners whose instances were all taken in from the records.
CREATE TABLE owners_backfilled (
    owner TEXT    PRIMARY KEY NOT NULL,
    at    INTEGER NOT NULL
) STRICT;

-- Messages that arrived, for as long as they could arrive again.
CREATE TABLE deliveries (
    id         TEXT    PRIMARY KEY NOT NULL,
    keep_until INTEGER NOT NULL
) STRICT;

CREATE INDEX deliveries_to_forget ON deliveries (keep_until);

-- Whether billing knows of it.
ALTER TABLE records_subscriptions ADD COLUMN reported INTEGER NOT NULL DEFAULT 1;

CREATE INDEX records_subscriptions_unreported ON records_subscriptions (instance_id) WHERE reported = 0;
CREATE INDEX records_instances_of_owner ON records_instances (owner, created_at) WHERE destroyed_at IS NULL;

-- Instances that were closed before any row of them arrived: one that comes later is refused.
CREATE TABLE records_closed (
    instance_id BLOB    PRIMARY KEY NOT NULL,
    at          INTEGER NOT NULL
) STRICT;

-- Who changed what, in the commit that changed it. Whoever is forgotten is forgotten here too; nothing else is changed.
CREATE TABLE records_change_log (
    position     INTEGER PRIMARY KEY,
    instance_id  BLOB    NOT NULL,
    action       TEXT    NOT NULL,
    actor        TEXT    NOT NULL,
    operation_id BLOB,
    reason       TEXT    NOT NULL,
    before       TEXT,             -- JSON
    after        TEXT,             -- JSON
    at           INTEGER NOT NULL
) STRICT;

CREATE INDEX records_change_log_of ON records_change_log (instance_id, position);

CREATE TRIGGER records_change_log_stays BEFORE DELETE ON records_change_log
BEGIN SELECT RAISE(ABORT, 'the change log is append-only'); END;
CREATE TRIGGER records_change_log_as_it_is
BEFORE UPDATE OF position, instance_id, action, actor, operation_id, reason, at ON records_change_log
BEGIN SELECT RAISE(ABORT, 'the change log is append-only'); END;
CREATE TRIGGER records_instances_stay BEFORE DELETE ON records_instances
BEGIN SELECT RAISE(ABORT, 'rows of instances are never deleted'); END;
CREATE TRIGGER records_subscriptions_stay BEFORE DELETE ON records_subscriptions
BEGIN SELECT RAISE(ABORT, 'rows of subscriptions are never deleted'); END;
CREATE TRIGGER records_instances_destroyed_once BEFORE UPDATE OF destroyed_at ON records_instances
WHEN OLD.destroyed_at IS NOT NULL AND NEW.destroyed_at IS NOT OLD.destroyed_at
BEGIN SELECT RAISE(ABORT, 'what is destroyed stays so'); END;
