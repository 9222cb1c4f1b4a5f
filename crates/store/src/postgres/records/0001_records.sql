-- The canonical records: rows of instances, subscriptions, and the log of their changes.
--
-- The rules are the triggers', so that they hold for whoever writes; the functions are what Freehold calls, one for each
-- sentence of its port, and each is one transaction by itself. No session keeps anything, so that any pooler may stand
-- between.
--
-- What is checked here is what Freehold can read: one row that it cannot would be in the way of every list.
--
-- Everything that is written about an instance first takes the instance's guard. Two that cross therefore come one after
-- the other, whether or not there is a row yet, and at any isolation: the guard is updated, not merely locked.

CREATE TABLE freehold.freehold_instance_guards (
    instance_id uuid   PRIMARY KEY CHECK (
        get_byte(uuid_send(instance_id), 6) >> 4 = 7 AND get_byte(uuid_send(instance_id), 8) >> 6 = 2),
    writes      bigint NOT NULL DEFAULT 1
);
COMMENT ON TABLE freehold.freehold_instance_guards IS
    'One row for each instance that anything was written about; each write takes it first. For Freehold only.';
COMMENT ON COLUMN freehold.freehold_instance_guards.writes IS 'How often it was taken.';

CREATE TABLE freehold.freehold_instances (
    instance_id   uuid        PRIMARY KEY REFERENCES freehold.freehold_instance_guards,
    owner         text        NOT NULL CHECK (owner COLLATE "C" ~ '^(user|org):[!-~]{1,200}$'),
    assigned_user text        NOT NULL CHECK (assigned_user COLLATE "C" ~ '^[!-~]{1,200}$'),
    provider      text        NOT NULL CHECK (provider COLLATE "C" ~ '^[a-zA-Z0-9._-]{1,64}$'),
    tier          text        NOT NULL CHECK (tier COLLATE "C" ~ '^[a-zA-Z0-9._-]{1,64}$'),
    created_at    timestamptz NOT NULL,
    destroyed_at  timestamptz,
    CONSTRAINT freehold_instances_users_own CHECK (owner NOT LIKE 'user:%' OR owner = 'user:' || assigned_user)
);
COMMENT ON TABLE freehold.freehold_instances IS
    'The canonical row of each instance. Never deleted; it is active until destroyed_at is set, which happens once.';
COMMENT ON COLUMN freehold.freehold_instances.instance_id IS 'The id of the instance, a UUIDv7. Never used again.';
COMMENT ON COLUMN freehold.freehold_instances.owner IS 'Whose it is: user:ID or org:ID, with the id as the application knows it.';
COMMENT ON COLUMN freehold.freehold_instances.assigned_user IS 'The id of the person it is for; for user: owners the same id.';
COMMENT ON COLUMN freehold.freehold_instances.provider IS 'The configured provider that it runs at.';
COMMENT ON COLUMN freehold.freehold_instances.tier IS 'The configured tier that it was made with.';
COMMENT ON COLUMN freehold.freehold_instances.created_at IS 'When the row was written, by the clock of the Freehold server.';
COMMENT ON COLUMN freehold.freehold_instances.destroyed_at IS 'When it was destroyed, by the clock of the Freehold server; null while it is active. Set once, never cleared.';

CREATE INDEX freehold_instances_active_context
    ON freehold.freehold_instances (owner, assigned_user, created_at, instance_id) WHERE destroyed_at IS NULL;
CREATE INDEX freehold_instances_active_owner
    ON freehold.freehold_instances (owner, created_at, instance_id) WHERE destroyed_at IS NULL;
CREATE INDEX freehold_instances_active
    ON freehold.freehold_instances (instance_id) WHERE destroyed_at IS NULL;
CREATE INDEX freehold_instances_owner ON freehold.freehold_instances (owner);

CREATE TABLE freehold.freehold_subscriptions (
    instance_id     uuid        PRIMARY KEY REFERENCES freehold.freehold_instances,
    subscription_id uuid        NOT NULL UNIQUE CHECK (
        get_byte(uuid_send(subscription_id), 6) >> 4 BETWEEN 1 AND 8
        AND get_byte(uuid_send(subscription_id), 8) >> 6 = 2),
    status          text        NOT NULL CHECK (status IN ('active', 'suspended', 'ended')),
    plan            text        NOT NULL,
    price_version   text        NOT NULL CHECK (price_version COLLATE "C" ~ '^[a-zA-Z0-9._-]{1,64}$'),
    started_at      timestamptz NOT NULL,
    ended_at        timestamptz,
    reported        boolean     NOT NULL,
    CONSTRAINT freehold_subscriptions_ended CHECK ((status = 'ended') = (ended_at IS NOT NULL))
);
COMMENT ON TABLE freehold.freehold_subscriptions IS
    'What is paid for an instance: at most one subscription for each, ever. Never deleted; what has ended stays so.';
COMMENT ON COLUMN freehold.freehold_subscriptions.instance_id IS 'What it is for.';
COMMENT ON COLUMN freehold.freehold_subscriptions.subscription_id IS 'Its id: billing''s own, once billing has heard of it.';
COMMENT ON COLUMN freehold.freehold_subscriptions.status IS 'active; suspended while nobody pays, when the instance is kept and not to run; ended for ever.';
COMMENT ON COLUMN freehold.freehold_subscriptions.plan IS 'The name of the plan.';
COMMENT ON COLUMN freehold.freehold_subscriptions.price_version IS 'The price that was agreed.';
COMMENT ON COLUMN freehold.freehold_subscriptions.started_at IS 'When it started, by the clock of the Freehold server.';
COMMENT ON COLUMN freehold.freehold_subscriptions.ended_at IS 'When it ended; null before.';
COMMENT ON COLUMN freehold.freehold_subscriptions.reported IS 'Whether billing knows of it: one that was started without billing is reported later.';

CREATE INDEX freehold_subscriptions_unreported
    ON freehold.freehold_subscriptions (instance_id) WHERE NOT reported;

CREATE TABLE freehold.freehold_tombstones (
    instance_id uuid        PRIMARY KEY REFERENCES freehold.freehold_instance_guards,
    closed_at   timestamptz NOT NULL
);
COMMENT ON TABLE freehold.freehold_tombstones IS
    'Instances that were closed before a row of them arrived: a row that arrives later is refused. Never deleted.';
COMMENT ON COLUMN freehold.freehold_tombstones.instance_id IS 'The id of the instance.';
COMMENT ON COLUMN freehold.freehold_tombstones.closed_at IS 'When it was closed, by the clock of the Freehold server.';

CREATE TABLE freehold.freehold_subscription_change_log (
    position    bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    instance_id uuid        NOT NULL REFERENCES freehold.freehold_instance_guards,
    action      text        NOT NULL CHECK (action IN (
        'instance_inserted', 'instance_destroyed', 'instance_closed', 'subscription_started', 'subscription_reported',
        'subscription_suspended', 'subscription_resumed', 'subscription_ended', 'owner_anonymized')),
    actor_type  text        NOT NULL CHECK (actor_type IN ('platform', 'operator', 'system')),
    actor_id    uuid,
    reason      text        NOT NULL,
    before      jsonb,
    after       jsonb,
    at          timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE freehold.freehold_subscription_change_log IS
    'One line for each change of an instance or a subscription, in the transaction that made it. Only ever added to; forgetting an owner replaces its name here too.';
COMMENT ON COLUMN freehold.freehold_subscription_change_log.position IS 'The order of the lines of one instance. Has gaps; says nothing of the order between instances.';
COMMENT ON COLUMN freehold.freehold_subscription_change_log.instance_id IS 'What was changed.';
COMMENT ON COLUMN freehold.freehold_subscription_change_log.action IS 'What was done.';
COMMENT ON COLUMN freehold.freehold_subscription_change_log.actor_type IS 'Who did it: platform, operator or system.';
COMMENT ON COLUMN freehold.freehold_subscription_change_log.actor_id IS 'The id of the operation in the course of which it was done; null outside of one.';
COMMENT ON COLUMN freehold.freehold_subscription_change_log.reason IS 'Why, in words.';
COMMENT ON COLUMN freehold.freehold_subscription_change_log.before IS 'What was on record before: {"instance": …, "subscription": …}, times in microseconds since 1970; null for nothing.';
COMMENT ON COLUMN freehold.freehold_subscription_change_log.after IS 'What is on record since.';
COMMENT ON COLUMN freehold.freehold_subscription_change_log.at IS 'When, by the clock of this database.';

CREATE INDEX freehold_subscription_change_log_of
    ON freehold.freehold_subscription_change_log (instance_id, position);

CREATE VIEW freehold.freehold_records AS
SELECT
    g.instance_id, i.owner, i.assigned_user, i.provider, i.tier, i.created_at, i.destroyed_at,
    s.subscription_id, s.status, s.plan, s.price_version, s.started_at, s.ended_at, s.reported,
    (i.destroyed_at IS NOT NULL OR t.instance_id IS NOT NULL) AS closed
FROM freehold.freehold_instance_guards g
LEFT JOIN freehold.freehold_instances i ON i.instance_id = g.instance_id
LEFT JOIN freehold.freehold_subscriptions s ON s.instance_id = g.instance_id
LEFT JOIN freehold.freehold_tombstones t ON t.instance_id = g.instance_id;
COMMENT ON VIEW freehold.freehold_records IS 'Everything that is on record of an instance. For Freehold only.';

CREATE VIEW freehold.instances_with_subscriptions AS
SELECT
    i.instance_id, i.owner, split_part(i.owner, ':', 1) AS owner_kind, substr(i.owner, strpos(i.owner, ':') + 1) AS owner_id,
    i.assigned_user, i.provider, i.tier, i.created_at, i.destroyed_at,
    s.subscription_id, s.status AS subscription_status, s.plan, s.price_version, s.started_at, s.ended_at
FROM freehold.freehold_instances i
LEFT JOIN freehold.freehold_subscriptions s ON s.instance_id = i.instance_id;
COMMENT ON VIEW freehold.instances_with_subscriptions IS
    'Every instance there ever was, with its subscription if it got one. For applications.';
COMMENT ON COLUMN freehold.instances_with_subscriptions.owner_kind IS 'user or org.';
COMMENT ON COLUMN freehold.instances_with_subscriptions.owner_id IS 'The id of the owner as the application knows it.';

CREATE VIEW freehold.active_instances AS
SELECT * FROM freehold.instances_with_subscriptions
WHERE destroyed_at IS NULL AND subscription_status IN ('active', 'suspended');
COMMENT ON VIEW freehold.active_instances IS
    'Instances that exist and are paid for, or suspended: an active row with a subscription that has not ended. For applications.';

-- What nobody may do.

CREATE FUNCTION freehold.freehold_keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%.% keeps its rows: % is refused', TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP USING ERRCODE = 'FH001';
END $$;

CREATE TRIGGER freehold_keep BEFORE DELETE OR TRUNCATE ON freehold.freehold_instance_guards
    FOR EACH STATEMENT EXECUTE FUNCTION freehold.freehold_keep();
CREATE TRIGGER freehold_keep BEFORE DELETE OR TRUNCATE ON freehold.freehold_instances
    FOR EACH STATEMENT EXECUTE FUNCTION freehold.freehold_keep();
CREATE TRIGGER freehold_keep BEFORE DELETE OR TRUNCATE ON freehold.freehold_subscriptions
    FOR EACH STATEMENT EXECUTE FUNCTION freehold.freehold_keep();
CREATE TRIGGER freehold_keep BEFORE DELETE OR TRUNCATE OR UPDATE ON freehold.freehold_tombstones
    FOR EACH STATEMENT EXECUTE FUNCTION freehold.freehold_keep();
CREATE TRIGGER freehold_keep BEFORE DELETE OR TRUNCATE ON freehold.freehold_subscription_change_log
    FOR EACH STATEMENT EXECUTE FUNCTION freehold.freehold_keep();
CREATE TRIGGER freehold_keep BEFORE DELETE OR TRUNCATE ON freehold.freehold_schema_migrations
    FOR EACH STATEMENT EXECUTE FUNCTION freehold.freehold_keep();

-- Waiting for a lock ends before the caller's patience does: nothing is ever cancelled from outside.
CREATE FUNCTION freehold.freehold_guard(p_instance uuid) RETURNS void LANGUAGE plpgsql SET lock_timeout = '3s' AS $$
BEGIN
    INSERT INTO freehold.freehold_instance_guards AS g (instance_id) VALUES (p_instance)
    ON CONFLICT (instance_id) DO UPDATE SET writes = g.writes + 1;
END $$;

CREATE FUNCTION freehold.freehold_anonymizing() RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT coalesce(current_setting('freehold.anonymizing', true), '') = 'on'
$$;

CREATE FUNCTION freehold.freehold_instance_arrives() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM freehold.freehold_guard(NEW.instance_id);
    IF EXISTS (SELECT FROM freehold.freehold_tombstones t WHERE t.instance_id = NEW.instance_id) THEN
        RAISE EXCEPTION 'instance % is closed', NEW.instance_id USING ERRCODE = 'FH001';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER freehold_arrives BEFORE INSERT ON freehold.freehold_instances
    FOR EACH ROW EXECUTE FUNCTION freehold.freehold_instance_arrives();

CREATE FUNCTION freehold.freehold_tombstone_arrives() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM freehold.freehold_guard(NEW.instance_id);
    IF EXISTS (SELECT FROM freehold.freehold_instances i WHERE i.instance_id = NEW.instance_id) THEN
        RAISE EXCEPTION 'instance % has a row', NEW.instance_id USING ERRCODE = 'FH001';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER freehold_arrives BEFORE INSERT ON freehold.freehold_tombstones
    FOR EACH ROW EXECUTE FUNCTION freehold.freehold_tombstone_arrives();

CREATE FUNCTION freehold.freehold_subscription_arrives() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM freehold.freehold_guard(NEW.instance_id);
    IF NOT EXISTS (
        SELECT FROM freehold.freehold_instances i WHERE i.instance_id = NEW.instance_id AND i.destroyed_at IS NULL
    ) THEN
        RAISE EXCEPTION 'instance % has no active row to subscribe for', NEW.instance_id USING ERRCODE = 'FH001';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER freehold_arrives BEFORE INSERT ON freehold.freehold_subscriptions
    FOR EACH ROW EXECUTE FUNCTION freehold.freehold_subscription_arrives();

CREATE FUNCTION freehold.freehold_instance_changes() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_undone freehold.freehold_instances := NEW;
BEGIN
    IF freehold.freehold_anonymizing() AND OLD.destroyed_at IS NOT NULL THEN
        v_undone.owner := OLD.owner;
        v_undone.assigned_user := OLD.assigned_user;
    ELSIF OLD.destroyed_at IS NULL THEN
        v_undone.destroyed_at := NULL;
    END IF;
    IF v_undone IS DISTINCT FROM OLD THEN
        RAISE EXCEPTION 'the row of instance % is only ever marked destroyed, once', OLD.instance_id
            USING ERRCODE = 'FH001';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER freehold_changes BEFORE UPDATE ON freehold.freehold_instances
    FOR EACH ROW EXECUTE FUNCTION freehold.freehold_instance_changes();

CREATE FUNCTION freehold.freehold_subscription_changes() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_undone freehold.freehold_subscriptions := NEW;
BEGIN
    IF NOT OLD.reported AND NEW.reported THEN
        v_undone.subscription_id := OLD.subscription_id;
        v_undone.plan := OLD.plan;
        v_undone.price_version := OLD.price_version;
        v_undone.reported := false;
    END IF;
    IF OLD.status <> 'ended' THEN
        v_undone.status := OLD.status;
        v_undone.ended_at := NULL;
    END IF;
    IF v_undone IS DISTINCT FROM OLD THEN
        RAISE EXCEPTION 'the subscription of instance % is reported once, ends once and is else as it was agreed',
            OLD.instance_id USING ERRCODE = 'FH001';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER freehold_changes BEFORE UPDATE ON freehold.freehold_subscriptions
    FOR EACH ROW EXECUTE FUNCTION freehold.freehold_subscription_changes();

CREATE FUNCTION freehold.freehold_log_changes() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_undone freehold.freehold_subscription_change_log := NEW;
BEGIN
    IF freehold.freehold_anonymizing() THEN
        v_undone.before := OLD.before;
        v_undone.after := OLD.after;
    END IF;
    IF v_undone IS DISTINCT FROM OLD OR NOT freehold.freehold_anonymizing() THEN
        RAISE EXCEPTION 'the change log is only ever added to' USING ERRCODE = 'FH001';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER freehold_changes BEFORE UPDATE ON freehold.freehold_subscription_change_log
    FOR EACH ROW EXECUTE FUNCTION freehold.freehold_log_changes();

-- What Freehold calls. Reads are functions too, for the sake of their time-outs.

CREATE FUNCTION freehold.freehold_micros(p_at timestamptz) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT (extract(epoch FROM p_at) * 1000000)::bigint
$$;

CREATE FUNCTION freehold.freehold_json(r freehold.freehold_records) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN r.owner IS NULL AND r.closed THEN '{"instance": null, "subscription": null, "closed": true}'::jsonb
        WHEN r.owner IS NOT NULL THEN jsonb_build_object(
            'instance', jsonb_build_object(
                'owner', r.owner, 'assigned_user', r.assigned_user, 'provider', r.provider, 'tier', r.tier,
                'created_at', freehold.freehold_micros(r.created_at),
                'destroyed_at', freehold.freehold_micros(r.destroyed_at)),
            'subscription', CASE WHEN r.subscription_id IS NOT NULL THEN jsonb_build_object(
                'id', r.subscription_id, 'status', r.status, 'plan', r.plan, 'price_version', r.price_version,
                'started_at', freehold.freehold_micros(r.started_at),
                'ended_at', freehold.freehold_micros(r.ended_at), 'reported', r.reported) END)
    END
$$;

-- Adds a line if anything is different from before.
CREATE FUNCTION freehold.freehold_log(
    p_instance uuid, p_action text, p_actor text, p_operation uuid, p_reason text, p_before jsonb
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_after jsonb := (SELECT freehold.freehold_json(r) FROM freehold.freehold_records r WHERE r.instance_id = p_instance);
BEGIN
    IF v_after IS DISTINCT FROM p_before THEN
        INSERT INTO freehold.freehold_subscription_change_log
            (instance_id, action, actor_type, actor_id, reason, before, after)
        VALUES (p_instance, p_action, p_actor, p_operation, p_reason, p_before, v_after);
    END IF;
END $$;

CREATE FUNCTION freehold.freehold_before(p_instance uuid) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM freehold.freehold_guard(p_instance);
    RETURN (SELECT freehold.freehold_json(r) FROM freehold.freehold_records r WHERE r.instance_id = p_instance);
END $$;

CREATE FUNCTION freehold.records_describe(p_instance uuid)
RETURNS SETOF freehold.freehold_records LANGUAGE plpgsql SET lock_timeout = '3s' AS $$
BEGIN
    RETURN QUERY SELECT * FROM freehold.freehold_records r WHERE r.instance_id = p_instance;
END $$;

CREATE FUNCTION freehold.records_active_in(p_owner text, p_assigned_user text)
RETURNS SETOF freehold.freehold_records LANGUAGE plpgsql SET lock_timeout = '3s' AS $$
BEGIN
    RETURN QUERY SELECT * FROM freehold.freehold_records r
        WHERE r.owner = p_owner AND r.assigned_user = p_assigned_user AND r.destroyed_at IS NULL
        ORDER BY r.created_at, r.instance_id;
END $$;

CREATE FUNCTION freehold.records_active_of(p_owner text, p_limit bigint)
RETURNS SETOF freehold.freehold_records LANGUAGE plpgsql SET lock_timeout = '3s' AS $$
BEGIN
    RETURN QUERY SELECT * FROM freehold.freehold_records r
        WHERE r.owner = p_owner AND r.destroyed_at IS NULL
        ORDER BY r.created_at, r.instance_id LIMIT p_limit;
END $$;

CREATE FUNCTION freehold.records_active_after(p_after uuid, p_limit bigint)
RETURNS SETOF freehold.freehold_records LANGUAGE plpgsql SET lock_timeout = '3s' AS $$
BEGIN
    RETURN QUERY SELECT * FROM freehold.freehold_records r
        WHERE r.instance_id > p_after AND r.owner IS NOT NULL AND r.destroyed_at IS NULL
        ORDER BY r.instance_id LIMIT p_limit;
END $$;

CREATE FUNCTION freehold.records_unreported(p_limit bigint)
RETURNS SETOF freehold.freehold_records LANGUAGE plpgsql SET lock_timeout = '3s' AS $$
BEGIN
    RETURN QUERY SELECT * FROM freehold.freehold_records r WHERE NOT r.reported ORDER BY r.instance_id LIMIT p_limit;
END $$;

CREATE FUNCTION freehold.records_changes(p_instance uuid, p_limit bigint)
RETURNS SETOF freehold.freehold_subscription_change_log LANGUAGE plpgsql SET lock_timeout = '3s' AS $$
BEGIN
    RETURN QUERY SELECT * FROM freehold.freehold_subscription_change_log l
        WHERE l.instance_id = p_instance ORDER BY l.position LIMIT p_limit;
END $$;

CREATE FUNCTION freehold.instance_insert(
    p_instance uuid, p_owner text, p_assigned_user text, p_provider text, p_tier text, p_created_at timestamptz,
    p_destroyed_at timestamptz, p_actor text, p_operation uuid, p_reason text
) RETURNS SETOF freehold.freehold_records LANGUAGE plpgsql SET lock_timeout = '3s' AS $$
DECLARE
    v_before jsonb := freehold.freehold_before(p_instance);
BEGIN
    IF NOT EXISTS (SELECT FROM freehold.freehold_instances i WHERE i.instance_id = p_instance) THEN
        INSERT INTO freehold.freehold_instances
        VALUES (p_instance, p_owner, p_assigned_user, p_provider, p_tier, p_created_at, p_destroyed_at);
        PERFORM freehold.freehold_log(p_instance, 'instance_inserted', p_actor, p_operation, p_reason, v_before);
    END IF;
    RETURN QUERY SELECT * FROM freehold.records_describe(p_instance);
END $$;

CREATE FUNCTION freehold.instance_close(
    p_instance uuid, p_at timestamptz, p_actor text, p_operation uuid, p_reason text
) RETURNS SETOF freehold.freehold_records LANGUAGE plpgsql SET lock_timeout = '3s' AS $$
DECLARE
    v_before jsonb := freehold.freehold_before(p_instance);
BEGIN
    IF EXISTS (SELECT FROM freehold.freehold_instances i WHERE i.instance_id = p_instance) THEN
        UPDATE freehold.freehold_instances i SET destroyed_at = p_at
        WHERE i.instance_id = p_instance AND i.destroyed_at IS NULL;
        PERFORM freehold.freehold_log(p_instance, 'instance_destroyed', p_actor, p_operation, p_reason, v_before);
    ELSE
        INSERT INTO freehold.freehold_tombstones VALUES (p_instance, p_at) ON CONFLICT (instance_id) DO NOTHING;
        PERFORM freehold.freehold_log(p_instance, 'instance_closed', p_actor, p_operation, p_reason, v_before);
    END IF;
    RETURN QUERY SELECT * FROM freehold.records_describe(p_instance);
END $$;

CREATE FUNCTION freehold.subscription_put(
    p_instance uuid, p_subscription uuid, p_status text, p_plan text, p_price_version text, p_started_at timestamptz,
    p_ended_at timestamptz, p_reported boolean, p_actor text, p_operation uuid, p_reason text
) RETURNS SETOF freehold.freehold_records LANGUAGE plpgsql SET lock_timeout = '3s' AS $$
DECLARE
    v_before jsonb := freehold.freehold_before(p_instance);
BEGIN
    IF NOT EXISTS (SELECT FROM freehold.freehold_subscriptions s WHERE s.instance_id = p_instance) THEN
        INSERT INTO freehold.freehold_subscriptions VALUES
            (p_instance, p_subscription, p_status, p_plan, p_price_version, p_started_at, p_ended_at, p_reported);
        PERFORM freehold.freehold_log(p_instance, 'subscription_started', p_actor, p_operation, p_reason, v_before);
    END IF;
    RETURN QUERY SELECT * FROM freehold.records_describe(p_instance);
END $$;

CREATE FUNCTION freehold.subscription_turn(
    p_instance uuid, p_status text, p_actor text, p_operation uuid, p_reason text
) RETURNS SETOF freehold.freehold_records LANGUAGE plpgsql SET lock_timeout = '3s' AS $$
DECLARE
    v_before jsonb;
BEGIN
    -- Where there is no row, there is nothing to guard.
    IF EXISTS (SELECT FROM freehold.freehold_instances i WHERE i.instance_id = p_instance) THEN
        v_before := freehold.freehold_before(p_instance);
        UPDATE freehold.freehold_subscriptions s SET status = p_status
        WHERE s.instance_id = p_instance AND s.status <> 'ended' AND s.status <> p_status;
        PERFORM freehold.freehold_log(
            p_instance, CASE p_status WHEN 'suspended' THEN 'subscription_suspended' ELSE 'subscription_resumed' END,
            p_actor, p_operation, p_reason, v_before);
    END IF;
    RETURN QUERY SELECT * FROM freehold.records_describe(p_instance);
END $$;

CREATE FUNCTION freehold.subscription_end(
    p_instance uuid, p_at timestamptz, p_actor text, p_operation uuid, p_reason text
) RETURNS SETOF freehold.freehold_records LANGUAGE plpgsql SET lock_timeout = '3s' AS $$
DECLARE
    v_before jsonb;
BEGIN
    IF EXISTS (SELECT FROM freehold.freehold_instances i WHERE i.instance_id = p_instance) THEN
        v_before := freehold.freehold_before(p_instance);
        UPDATE freehold.freehold_subscriptions s SET status = 'ended', ended_at = p_at
        WHERE s.instance_id = p_instance AND s.status <> 'ended';
        PERFORM freehold.freehold_log(p_instance, 'subscription_ended', p_actor, p_operation, p_reason, v_before);
    END IF;
    RETURN QUERY SELECT * FROM freehold.records_describe(p_instance);
END $$;

CREATE FUNCTION freehold.subscription_reported(
    p_instance uuid, p_subscription uuid, p_plan text, p_price_version text, p_actor text, p_operation uuid,
    p_reason text
) RETURNS SETOF freehold.freehold_records LANGUAGE plpgsql SET lock_timeout = '3s' AS $$
DECLARE
    v_before jsonb;
BEGIN
    IF EXISTS (SELECT FROM freehold.freehold_instances i WHERE i.instance_id = p_instance) THEN
        v_before := freehold.freehold_before(p_instance);
        UPDATE freehold.freehold_subscriptions s
        SET subscription_id = p_subscription, plan = p_plan, price_version = p_price_version, reported = true
        WHERE s.instance_id = p_instance AND NOT s.reported;
        PERFORM freehold.freehold_log(p_instance, 'subscription_reported', p_actor, p_operation, p_reason, v_before);
    END IF;
    RETURN QUERY SELECT * FROM freehold.records_describe(p_instance);
END $$;

-- Puts a pseudonym where a description says whose the instance is.
CREATE FUNCTION freehold.freehold_renamed(p_json jsonb, p_owner text, p_assigned_user text) RETURNS jsonb
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN jsonb_typeof(p_json -> 'instance') = 'object'
        THEN jsonb_set(p_json, '{instance}',
            (p_json -> 'instance') || jsonb_build_object('owner', p_owner, 'assigned_user', p_assigned_user))
        ELSE p_json END
$$;

CREATE FUNCTION freehold.owner_anonymize(
    p_owner text, p_pseudonym text, p_assigned_user text, p_actor text, p_operation uuid, p_reason text
) RETURNS bigint LANGUAGE plpgsql SET lock_timeout = '3s' AS $$
DECLARE
    v_instances uuid[] := ARRAY(
        SELECT i.instance_id FROM freehold.freehold_instances i WHERE i.owner = p_owner ORDER BY i.instance_id);
    v_instance uuid;
BEGIN
    IF EXISTS (SELECT FROM freehold.freehold_instances i WHERE i.owner = p_owner AND i.destroyed_at IS NULL) THEN
        RAISE EXCEPTION 'the owner has an active instance' USING ERRCODE = 'FH001';
    END IF;
    -- For this transaction only.
    PERFORM set_config('freehold.anonymizing', 'on', true);
    FOREACH v_instance IN ARRAY v_instances LOOP
        PERFORM freehold.freehold_guard(v_instance);
        UPDATE freehold.freehold_instances i SET owner = p_pseudonym, assigned_user = p_assigned_user
        WHERE i.instance_id = v_instance;
        UPDATE freehold.freehold_subscription_change_log l SET
            before = freehold.freehold_renamed(l.before, p_pseudonym, p_assigned_user),
            after = freehold.freehold_renamed(l.after, p_pseudonym, p_assigned_user)
        WHERE l.instance_id = v_instance;
        -- Before and after alike have the pseudonym: nothing else was changed, and the name is forgotten.
        INSERT INTO freehold.freehold_subscription_change_log
            (instance_id, action, actor_type, actor_id, reason, before, after)
        SELECT v_instance, 'owner_anonymized', p_actor, p_operation, p_reason,
            freehold.freehold_json(r), freehold.freehold_json(r)
        FROM freehold.freehold_records r WHERE r.instance_id = v_instance;
    END LOOP;
    PERFORM set_config('freehold.anonymizing', 'off', true);
    RETURN cardinality(v_instances);
END $$;
