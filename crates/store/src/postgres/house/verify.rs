//! Comparing: every row of the source with what is read back, and every chain of the audit trail recomputed from what
//! readers of the target get.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use freehold_domain::lease::LeaseTerm;
use freehold_domain::owner::Context;
use freehold_engine::audit::{GENESIS, hash};
use freehold_engine::ports::{AuditQuery, Store as _};
use ring::digest::{Context as Sha256, SHA256};

use super::source::{Key, Source};
use super::target::{Head, Target};
use super::{MoveError, Part, Progress, Url};
use crate::postgres::registry::{PostgresOptions, PostgresStore};

/// How many lines of the trail are read at once.
const LINES_AT_ONCE: usize = 1_000;

/// Nothing is leased here.
const NO_LEASES: LeaseTerm = LeaseTerm(Duration::ZERO);

/// Compares every row, and counts that there are no others.
pub(super) async fn rows(
    source: &Source,
    target: &Target,
    tell: &mut impl FnMut(Progress),
) -> Result<Vec<Part>, MoveError> {
    let mut parts = Vec::new();
    let mut in_target: BTreeMap<&str, u64> = BTreeMap::new();
    for table in target.tables() {
        let mut sum = Sha256::new(&SHA256);
        let mut after = Key::least(table.key_kind);
        let mut count = 0;
        loop {
            let rows = source.rows(table, &after)?;
            let Some(last) = rows.keys.last() else { break };
            let there = target.read_back(table, &rows).await?;
            for (number, (key, row)) in rows.keys.iter().zip(&rows.rows).enumerate() {
                if there.get(number) != Some(row) {
                    return Err(MoveError::Different { table: table.name, key: key.shown() });
                }
                let mut encoded = Vec::new();
                row.iter().for_each(|cell| cell.encode(&mut encoded));
                sum.update(&encoded);
            }
            after = last.clone();
            count += rows.rows.len() as u64;
            tell(Progress::Compared(table.name, count));
        }
        *in_target.entry(table.target).or_default() += count;
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(sum.finish().as_ref());
        parts.push(Part { table: table.name, rows: count, sha256 });
    }
    for (name, expected) in in_target {
        let count = target.count(name).await?;
        if count != expected {
            return Err(MoveError::Target(format!("{name} has {count} rows, and the source has {expected}")));
        }
    }
    Ok(parts)
}

/// Recomputes every chain. Answers how many there are, and how many lines they have.
pub(super) async fn chains(
    url: &Url,
    target: &Target,
    tell: &mut impl FnMut(Progress),
) -> Result<(u64, u64), MoveError> {
    let store = PostgresStore::to(url, PostgresOptions::new(NO_LEASES))?;
    let mut ends: HashMap<Context, (u64, [u8; 32])> = HashMap::new();
    let (mut after, mut lines) = (0, 0);
    loop {
        let page = store.audit_read(&AuditQuery { after, instance: None, limit: LINES_AT_ONCE }).await;
        let page = page.map_err(|error| MoveError::Target(error.to_string()))?;
        for record in page.items {
            let (seq, head) = ends.entry(record.context.clone()).or_insert((0, GENESIS));
            let broken = |why: &str| MoveError::Chain {
                context: record.context.owner().to_string(),
                why: format!("line {}: {why}", record.context_seq),
            };
            if record.context_seq != *seq + 1 {
                return Err(broken("a line is missing before it"));
            }
            if record.prev_hash != *head
                || record.hash != hash(head, &record.context, record.context_seq, &record.event)
            {
                return Err(broken("its hash is not that of what it says"));
            }
            (*seq, *head) = (record.context_seq, record.hash);
            lines += 1;
        }
        tell(Progress::Chained(lines));
        match page.next {
            Some(next) => after = next,
            None => break,
        }
    }
    let (mut behind, mut chains) = ([0; 16], 0);
    loop {
        let heads = target.heads(behind).await?;
        let Some(last) = heads.last() else { return Ok((chains, lines)) };
        behind = last.context_id;
        for Head { context_id: _, owner, assigned_user, seq, hash } in &heads {
            let broken = |why: &str| MoveError::Chain { context: owner.clone(), why: why.to_owned() };
            let (Ok(of), Ok(user)) = (owner.parse(), assigned_user.parse()) else {
                return Err(broken("it has no owner"));
            };
            let context = Context::new(of, Some(user)).map_err(|_| broken("it has no owner"))?;
            let (end, head) = ends.get(&context).copied().unwrap_or((0, GENESIS));
            if end != *seq || head[..] != hash[..] {
                return Err(broken("it ends elsewhere than its context says"));
            }
            chains += 1;
        }
    }
}
