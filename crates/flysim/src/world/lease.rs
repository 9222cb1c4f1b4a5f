//! Leases: while somebody holds one, whoever does not show its nonce changes nothing.

use serde::Deserialize;
use serde_json::{Value, json};

use super::machine::State;
use super::view::time;
use super::{Millis, World};
use crate::answer::Answer;
use crate::call::Call;
use crate::chance::Chance;

/// How long a lease lasts where nothing is asked for. Seconds.
const TTL_DEFAULT: u64 = 30;
/// The longest lease. Seconds.
const TTL_MAX: u64 = 24 * 60 * 60;

#[derive(Debug)]
pub(super) struct Lease {
    pub(super) nonce: String,
    owner: String,
    description: String,
    expires: Millis,
}

impl Lease {
    pub(super) fn new(chance: &mut Chance, org: &str, description: &str, now: Millis, ttl: u64) -> Self {
        Self {
            nonce: chance.text(b"0123456789abcdef", 12),
            owner: format!("{org}@tokens.flysim"),
            description: description.to_owned(),
            expires: now + ttl.min(TTL_MAX) * 1000,
        }
    }

    pub(super) fn holds(&self, now: Millis) -> bool {
        now < self.expires
    }

    /// The shape of fly-go's `MachineLease`.
    fn shown(&self, version: &str) -> Value {
        json!({
            "status": "success",
            "data": {
                "nonce": self.nonce,
                "expires_at": self.expires / 1000,
                "owner": self.owner,
                "description": self.description,
                "version": version,
            },
        })
    }
}

#[derive(Deserialize)]
struct Asked {
    ttl: Option<u64>,
    #[serde(default)]
    description: String,
}

impl World {
    pub(super) fn get_lease(&mut self, org: &str, call: &Call) -> Result<Answer, Answer> {
        let machine = self.known(org, &call.app, &call.id)?;
        let lease = machine.lease.as_ref().filter(|lease| lease.holds(self.now));
        let lease = lease.ok_or_else(|| Answer::error(404, "lease not found"))?;
        Ok(Answer::json(200, lease.shown(&machine.instance_id)))
    }

    /// Takes a lease, or prolongs one whose nonce is shown.
    pub(super) fn take_lease(&mut self, org: &str, call: &Call) -> Result<Answer, Answer> {
        if self.leased(org, call)? == State::Destroyed {
            return Err(Answer::error(404, "machine not found"));
        }
        let asked: Asked = call.parse()?;
        // fly-go gives the time in the query.
        let in_query = call.query.get("ttl").and_then(|ttl| ttl.parse().ok());
        let ttl = asked.ttl.or(in_query).filter(|ttl| *ttl > 0).unwrap_or(TTL_DEFAULT);
        let mut lease = Lease::new(&mut self.chance, org, &asked.description, self.now, ttl);
        let now = self.now;
        self.change(&call.app, &call.id, |machine| {
            if let Some(held) = machine.lease.take().filter(|held| held.holds(now)) {
                lease.nonce = held.nonce;
            }
            machine.lease = Some(lease);
        });
        let machine = self.known(org, &call.app, &call.id)?;
        let shown = machine.lease.as_ref().map_or(Value::Null, |lease| lease.shown(&machine.instance_id));
        Ok(Answer::json(201, shown))
    }

    pub(super) fn release_lease(&mut self, org: &str, call: &Call) -> Result<Answer, Answer> {
        self.leased(org, call)?;
        let machine = self.known(org, &call.app, &call.id)?;
        if !machine.lease.as_ref().is_some_and(|lease| lease.holds(self.now)) {
            return Err(Answer::error(404, "lease not found"));
        }
        self.change(&call.app, &call.id, |machine| machine.lease = None);
        Ok(Answer::ok())
    }

    /// The state of a machine that this call may change.
    ///
    /// # Errors
    /// 409 where somebody else holds a lease on it, in the words of the live API.
    pub(super) fn leased(&self, org: &str, call: &Call) -> Result<State, Answer> {
        let machine = self.known(org, &call.app, &call.id)?;
        match machine.lease.as_ref().filter(|lease| lease.holds(self.now)) {
            Some(lease) if call.nonce.as_ref() != Some(&lease.nonce) => Err(Answer::error(
                409,
                format!(
                    "aborted: machine ID {} lease currently held by {}, expires at {}",
                    machine.id,
                    lease.owner,
                    time(lease.expires)
                ),
            )),
            Some(_) | None => Ok(machine.state),
        }
    }
}
