//! The rows of an admission, inserted by pgbench: the same tables and indexes, the same sizes, one transaction each.
//!
//! Nothing is read, no rule is asked and nothing is answered, so this is a limit and not a rival.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result};

use super::place::Database;

/// How the statements of a transaction travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Each waits for the one before it, as clients do that do not know better.
    OneByOne,
    /// All at once: PostgreSQL's pipeline mode.
    Pipelined,
}

/// The inserts. `k` counts the transactions of a client, so that the ids of instances and operations rise with time as
/// those of version 7 do; what is made of an owner is spread as a hash is. A colon inside a text is written as its code: to
/// pgbench it begins a variable.
const INSERTS: &str = r"
INSERT INTO freehold_registry.contexts (context_id, owner, assigned_user, shard, version, commit_id, audit_seq, audit_head)
VALUES (md5(:n::bigint::text)::uuid, U&'user\003acustomer-' || :n::bigint, 'customer-' || :n::bigint, (:n::bigint % 64)::smallint, 1, md5('c' || :n::bigint)::uuid, 1, sha256('head'));
INSERT INTO freehold_registry.reservations (context_id, instance_id, provider, tier, price_version, regions, status, epoch, power, operation_id, unanswered, resources, lookups, recoveries, started_at, updated_at, spec)
VALUES (md5(:n::bigint::text)::uuid, ID1, 'process', 'small', '2026-01', '[]', 'in_progress', 1, 'on', ID2, 0, '[]', '[]', 0, 1767225600000000 + :n::bigint % 1000000000, 1767225600000000 + :n::bigint % 1000000000, 'SPEC');
INSERT INTO freehold_registry.operations (context_id, id, instance_id, shard, epoch, kind, status, attempt, holder_node, holder_incarnation, due_at, deadline, steps, regions_full, request_id, started_at, key_scope, key_fingerprint)
VALUES (md5(:n::bigint::text)::uuid, ID2, ID1, (:n::bigint % 64)::smallint, 1, 'provision', 'running', 1, 'node-1', 1, 1767225600000000 + :n::bigint % 1000000000, 1767225600000000 + :n::bigint % 1000000000, '[]', 0, '0190a7c8-0000-7000-8000-000000000000', 1767225600000000 + :n::bigint % 1000000000, sha256(:n::bigint::text::bytea), sha256('fingerprint'));
INSERT INTO freehold_registry.audit (context_id, seq, kind, instance_id, operation_id, epoch, status, actor, at, detail, prev_hash, hash)
VALUES (md5(:n::bigint::text)::uuid, 1, 'instance.provision_reservation_started', ID1, ID2, 1, 'in_progress', 'platform', 1767225600000000 + :n::bigint % 1000000000, '', sha256('prev'), sha256('hash'));
";

/// The id of an instance or an operation: the time in front, chance behind.
fn id(letter: char) -> String {
    format!(
        "(lpad(to_hex(:k::bigint * 64 + :client_id::int), 12, '0') || substr(md5('{letter}' || :n::bigint), 1, 20))::uuid"
    )
}

fn script(way: Way) -> String {
    let spec: String = super::load::SPEC.bytes().map(|byte| format!("{byte:02x}")).collect();
    let inserts = INSERTS.replace("ID1", &id('i')).replace("ID2", &id('o')).replace("SPEC", &format!("\\x{spec}"));
    let (begin, end) = match way {
        Way::OneByOne => ("BEGIN;", "COMMIT;"),
        Way::Pipelined => ("\\startpipeline\nBEGIN;", "COMMIT;\n\\endpipeline"),
    };
    format!("\\set k :k + 1\n\\set n random(1, 9000000000000000000)\n{begin}{inserts}{end}\n")
}

/// Runs the inserts for so long, over as many connections as there are clients. Answers how many transactions there were a
/// second.
pub(super) fn inserts(database: &Database, clients: usize, span: Duration, way: Way) -> Result<f64> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(script(way).as_bytes())?;
    let path = file.path().to_str().context("a folder whose name is no text")?;
    run(database, clients, span, path)
}

/// Runs a script as prepared statements.
fn run(database: &Database, clients: usize, span: Duration, script: &str) -> Result<f64> {
    let (clients, span) = (clients.to_string(), span.as_secs().to_string());
    let said = database
        .pgbench(&["-n", "-M", "prepared", "-c", &clients, "-j", "2", "-T", &span, "-D", "k=0", "-f", script])?;
    let rate = said.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    rate.with_context(|| format!("pgbench said nothing of a rate: {said}"))
}
