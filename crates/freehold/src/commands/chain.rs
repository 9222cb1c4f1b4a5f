//! The audit chain, recomputed from what the API shows.
//!
//! Every line's hash covers the line before it in its context, so whoever recomputes the hashes finds the first line that
//! was changed, dropped or put in. What was cut off at the very end of a context's chain cannot be found this way; keep
//! the last hashes elsewhere for that.

use std::collections::HashMap;

use freehold_api::client::{Client, ClientError};
use freehold_api::v1::PAGE_MAX;
use freehold_api::v1::audit::{AuditEvent, AuditPage, ListAudit};
use freehold_domain::event::{Actor, Event, EventKind};
use freehold_domain::lease::Epoch;
use freehold_domain::operation::FailureCode;
use freehold_domain::owner::Context;
use freehold_domain::reservation::{Resolution, Status};
use freehold_domain::time::Timestamp;
use freehold_engine::audit::{GENESIS, hash};
use serde::Serialize;

/// What came of a check.
#[derive(Debug, Serialize)]
pub(crate) struct Verified {
    /// Whether every line is what it was.
    pub(crate) ok: bool,
    /// Lines that were checked.
    pub(crate) events: u64,
    /// Contexts that they belong to.
    pub(crate) contexts: usize,
    /// The first line that does not fit.
    pub(crate) broken: Option<Broken>,
}

/// A line that does not fit.
#[derive(Debug, Serialize)]
pub(crate) struct Broken {
    /// Its cursor.
    pub(crate) event_id: String,
    /// Whose it is.
    pub(crate) owner: String,
    /// For whom.
    pub(crate) assigned_user: String,
    /// Its number in its context, from 1.
    pub(crate) line: u64,
    /// What does not fit.
    pub(crate) why: String,
}

/// Which contexts to check.
#[derive(Clone, Debug)]
pub(crate) enum Scope {
    /// Every one.
    All,
    /// The one with this owner and assigned user.
    Context(String, String),
}

/// The end of a context's chain, as far as it was read.
#[derive(Clone, Copy)]
struct Head {
    lines: u64,
    hash: [u8; 32],
}

/// Chains that are being recomputed.
struct Chains {
    scope: Scope,
    heads: HashMap<(String, String), Head>,
    events: u64,
}

/// Reads the whole trail and recomputes it, up to the first line that does not fit.
///
/// # Errors
/// A server that does not answer.
pub(crate) async fn verify(client: &Client, scope: Scope) -> Result<Verified, ClientError> {
    let mut chains = Chains { scope, heads: HashMap::new(), events: 0 };
    let mut after = None;
    loop {
        let query = ListAudit { after, instance_id: None, limit: Some(PAGE_MAX) };
        let AuditPage { events, next_cursor } = client.audit(&query).await?;
        for event in &events {
            if let Some(broken) = chains.take(event) {
                return Ok(chains.verdict(Some(broken)));
            }
        }
        // A page may be shorter than asked for and not the last: what was never written leaves a hole.
        match next_cursor {
            Some(cursor) => after = Some(cursor),
            None => return Ok(chains.verdict(None)),
        }
    }
}

impl Chains {
    fn verdict(self, broken: Option<Broken>) -> Verified {
        Verified { ok: broken.is_none(), events: self.events, contexts: self.heads.len(), broken }
    }

    fn take(&mut self, shown: &AuditEvent) -> Option<Broken> {
        let whose = (shown.owner.clone(), shown.assigned_user.clone());
        match &self.scope {
            Scope::All => {}
            Scope::Context(owner, user) if (owner, user) == (&whose.0, &whose.1) => {}
            Scope::Context(..) => return None,
        }
        self.events += 1;
        let head = self.heads.entry(whose).or_insert(Head { lines: 0, hash: GENESIS });
        let line = head.lines + 1;
        match link(head.hash, line, shown) {
            Ok(hash) => {
                *head = Head { lines: line, hash };
                None
            }
            Err(why) => Some(Broken {
                event_id: shown.id.clone(),
                owner: shown.owner.clone(),
                assigned_user: shown.assigned_user.clone(),
                line,
                why,
            }),
        }
    }
}

/// The hash of a line, if it is the one that the line shows.
fn link(before: [u8; 32], line: u64, shown: &AuditEvent) -> Result<[u8; 32], String> {
    let previous = shown.previous_hash.as_deref().map_or(Some(GENESIS), digest).ok_or("its previous hash is none")?;
    if previous != before || shown.context_seq != line {
        return Err("it does not follow the line before it: a line is missing, changed or put in".to_owned());
    }
    let (context, event) = read(shown)?;
    let recomputed = hash(&before, &context, line, &event);
    if digest(&shown.hash) == Some(recomputed) {
        Ok(recomputed)
    } else {
        Err("its hash is not the hash of what it says: the line was changed".to_owned())
    }
}

fn read(shown: &AuditEvent) -> Result<(Context, Event), String> {
    let AuditEvent {
        id: _,
        at,
        kind,
        owner,
        assigned_user,
        context_seq: _,
        instance_id,
        operation_id,
        epoch,
        status,
        actor,
        detail,
        previous_hash: _,
        hash: _,
    } = shown;
    let unknown = |what: &str, text: &str| format!("its {what} `{text}` is not known to this program");
    let owner = owner.parse().map_err(|_| unknown("owner", owner))?;
    let assigned_user = assigned_user.parse().map_err(|_| unknown("assigned user", assigned_user))?;
    let context = Context::new(owner, Some(assigned_user)).map_err(|error| error.to_string())?;
    let operation = operation_id.ok_or("it names no operation")?.to_string();
    let event = Event {
        kind: EventKind::ALL.iter().copied().find(|known| known.name() == kind).ok_or_else(|| unknown("kind", kind))?,
        instance: instance_id.to_string().parse().map_err(|_| unknown("instance", &instance_id.to_string()))?,
        operation: operation.parse().map_err(|_| unknown("operation", &operation))?,
        epoch: Epoch::new(*epoch),
        status: statuses().into_iter().find(|known| known == status).ok_or_else(|| unknown("status", status))?,
        actor: Actor::ALL.into_iter().find(|known| known.name() == actor).ok_or_else(|| unknown("actor", actor))?,
        at: Timestamp::from_micros(at.as_microsecond()),
        detail: detail.clone(),
    };
    Ok((context, event))
}

/// The names of a reservation's statuses.
fn statuses() -> [&'static str; 4] {
    [
        Status::InProgress.name(),
        Status::NeedsReconciliation { code: FailureCode::Cancelled }.name(),
        Status::Completed.name(),
        Status::Released { because: Resolution::AbsenceProven }.name(),
    ]
}

fn digest(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> =
        text.chars().map(|digit| digit.to_digit(16).map(|value| value as u8)).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// A trail of two contexts, taking turns.
    fn trail() -> Vec<AuditEvent> {
        let mut heads: HashMap<&str, (u64, [u8; 32])> = HashMap::new();
        let mut trail = Vec::new();
        for (position, owner) in ["user:a", "user:b", "user:a", "user:b", "user:a"].into_iter().enumerate() {
            let mut event = AuditEvent {
                id: position.to_string(),
                at: jiff::Timestamp::from_microsecond(1_000_001 + position as i64).unwrap(),
                kind: EventKind::ReservationStarted.name().to_owned(),
                owner: owner.to_owned(),
                assigned_user: owner[5..].to_owned(),
                context_seq: 0,
                instance_id: Uuid::now_v7(),
                operation_id: Some(Uuid::now_v7()),
                epoch: 1,
                status: "in_progress".to_owned(),
                actor: "platform".to_owned(),
                detail: format!("line {position}"),
                previous_hash: None,
                hash: String::new(),
            };
            let (lines, before) = heads.get(owner).copied().unwrap_or((0, GENESIS));
            let (context, plain) = read(&event).unwrap();
            let after = hash(&before, &context, lines + 1, &plain);
            event.context_seq = lines + 1;
            event.previous_hash = (lines > 0).then(|| hex(&before));
            event.hash = hex(&after);
            heads.insert(owner, (lines + 1, after));
            trail.push(event);
        }
        trail
    }

    fn check(trail: &[AuditEvent], scope: Scope) -> Verified {
        let mut chains = Chains { scope, heads: HashMap::new(), events: 0 };
        let broken = trail.iter().find_map(|event| chains.take(event));
        chains.verdict(broken)
    }

    #[test]
    fn an_untouched_trail_holds() {
        let verified = check(&trail(), Scope::All);
        assert!(verified.ok, "{verified:?}");
        assert_eq!((verified.events, verified.contexts), (5, 2));
        let of_a = check(&trail(), Scope::Context("user:a".to_owned(), "a".to_owned()));
        assert_eq!((of_a.ok, of_a.events, of_a.contexts), (true, 3, 1));
    }

    #[test]
    fn whatever_is_done_to_a_line_is_found_at_that_line_or_the_next() {
        type Deed = fn(&mut Vec<AuditEvent>);
        let deeds: [(&str, Deed, &str); 6] = [
            ("changed", |trail| trail[2].detail.push('!'), "2"),
            ("dropped", |trail| drop(trail.remove(2)), "4"),
            ("the first dropped", |trail| drop(trail.remove(0)), "2"),
            ("swapped", |trail| trail.swap(0, 2), "2"),
            ("given to another", |trail| (trail[3].owner, trail[3].assigned_user) = ("user:c".into(), "c".into()), "3"),
            ("doubled", |trail| trail.insert(3, trail[2].clone()), "2"),
        ];
        for (name, deed, place) in deeds {
            let mut trail = trail();
            deed(&mut trail);
            let broken = check(&trail, Scope::All).broken.unwrap();
            assert_eq!(broken.event_id, place, "{name}: {broken:?}");
        }
    }
}
