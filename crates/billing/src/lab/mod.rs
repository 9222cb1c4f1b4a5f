//! A billing service that fails on cue: a real HTTP server on a loopback address that keeps books.
//!
//! - It does what a billing service must: it checks every signature, is idempotent by instance, and what it ended once it
//!   never starts again, however late a start arrives.
//! - Faults are scripted by message type, or come by chance from a seed. What was scripted for the next message comes
//!   before what holds until [`BillingLab::heal`], and that before chance.
//! - What happened and what was answered are two things: [`BillingLab::books`] says what happened.

mod books;
mod server;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use freehold_api::webhook::{Secrets, Signed};
use tokio::net::TcpListener;

pub use self::books::{Books, Subscription};
use self::books::{Chance, Desk};

/// What messages are signed with where nothing else is said.
pub const SECRET: &str = "whsec_ZnJlZWhvbGQtbGFiLXNlY3JldC1vZi0zMi1ieXRlcyE=";

/// The types of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Message {
    /// `entitlement.resolve`.
    Resolve,
    /// `subscription.start`.
    Start,
    /// `subscription.end`.
    End,
}

impl Message {
    /// Every type.
    pub const ALL: [Self; 3] = [Self::Resolve, Self::Start, Self::End];

    /// Its name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Resolve => "entitlement.resolve",
            Self::Start => "subscription.start",
            Self::End => "subscription.end",
        }
    }
}

/// What goes wrong with a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing happens, and the answer is 422.
    Refuse,
    /// Nothing happens, and the answer is 403 with this message.
    Deny(String),
    /// Nothing happens, and the answer is 429 with `Retry-After: 1`.
    Throttle,
    /// Nothing happens, and the connection is closed without an answer.
    Down,
    /// It happens, and the connection is closed without an answer.
    AnswerLost,
    /// It happens, and the answer comes this much later.
    Slow(Duration),
    /// It happens, and the answer is 200 with something that is no JSON.
    Malformed,
    /// It happens, and the answer is longer than anybody reads.
    Huge,
    /// It happens, and the answer leads elsewhere.
    Redirect,
    /// Nothing happens, and the answer is 500.
    ErrorBefore,
    /// It happens, and the answer is 500.
    ErrorAfter,
    /// It happens, and the answer is 200 with this body.
    Says(String),
}

impl Fault {
    /// What chance has to offer: none of it is a refusal, so whoever keeps asking gets there.
    fn by_chance(drawn: u64) -> Self {
        match drawn % 7 {
            0 => Self::Throttle,
            1 => Self::Down,
            2 => Self::AnswerLost,
            3 => Self::Slow(Duration::from_millis(50)),
            4 => Self::Malformed,
            5 => Self::ErrorBefore,
            _ => Self::ErrorAfter,
        }
    }
}

/// A billing service that is listening. Dropping it closes everything.
#[derive(Debug)]
pub struct BillingLab {
    desk: Arc<Mutex<Desk>>,
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl BillingLab {
    /// Listens on a free port of the loopback address, with [`SECRET`] and the price version `2026-01-01` of tier `small`
    /// for everybody. Needs a tokio runtime with io and time.
    ///
    /// # Errors
    /// No port can be had.
    pub async fn start() -> io::Result<Self> {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), SECRET).await
    }

    /// Listens at an address, with secrets as the configuration writes them.
    ///
    /// # Errors
    /// The address cannot be had, or the secrets cannot be used.
    pub async fn start_at(address: SocketAddr, secrets: &str) -> io::Result<Self> {
        let secrets: Secrets =
            secrets.parse().map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, format!("{why}")))?;
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let desk = Arc::new(Mutex::new(Desk::new(secrets)));
        let task = tokio::spawn(server::accept(listener, Arc::clone(&desk)));
        Ok(Self { desk, address, task })
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where messages go, for `[billing] url`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/billing", self.address)
    }

    /// What everybody may have from now on.
    pub fn entitle(&self, price_version: &str, tier: &str) {
        self.desk().entitled = (price_version.to_owned(), tier.to_owned());
    }

    /// What goes wrong with the next message of a type; several are taken in this order.
    pub fn fail_next(&self, message: Message, fault: Fault) {
        self.desk().script.entry(message).or_default().push_back(fault);
    }

    /// What goes wrong with every message of a type until [`Self::heal`].
    pub fn fail_always(&self, message: Message, fault: Fault) {
        self.desk().standing.insert(message, fault);
    }

    /// Lets so many messages of a hundred go wrong, in ways that a seed decides.
    pub fn fail_by_chance(&self, percent: u8, seed: u64) {
        self.desk().chance = Some(Chance::of(percent, seed));
    }

    /// Nothing goes wrong any more.
    pub fn heal(&self) {
        let mut desk = self.desk();
        desk.script.clear();
        desk.standing.clear();
        desk.chance = None;
    }

    /// What happened until now.
    #[must_use]
    pub fn books(&self) -> Books {
        self.desk().books.clone()
    }

    /// An event for the server, such as `subscription.suspended`, signed at `now` in Unix seconds: its headers and body.
    ///
    /// # Panics
    /// The id cannot be one of a message.
    #[must_use]
    pub fn event(&self, id: &str, r#type: &str, instance: &str, now: i64) -> (Signed, String) {
        let body = serde_json::json!({"type": r#type, "id": id, "data": {"instance_id": instance}}).to_string();
        let signed = self.desk().secrets.sign(id, now, body.as_bytes());
        (signed.unwrap_or_else(|why| panic!("{id:?}: {why}")), body)
    }
}

impl Drop for BillingLab {
    fn drop(&mut self) {
        self.task.abort();
    }
}
