//! What a message does to the books, and what it is answered. No sockets and no waiting in here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use freehold_api::webhook::Secrets;
use serde_json::{Value, json};

use super::{Fault, Message};

/// A subscription that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Its name here, such as `sub_7`.
    pub id: String,
    /// Whose it is.
    pub owner: String,
    /// At which price.
    pub price_version: String,
}

/// What happened, by instance as it is written on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// What runs.
    pub active: BTreeMap<String, Subscription>,
    /// What is over, for ever; also what was never begun and ended all the same.
    pub ended: BTreeSet<String>,
    /// How many subscriptions an instance ever had. More than one is a customer who pays twice.
    pub started: BTreeMap<String, u32>,
    /// How many messages of each type arrived with a good signature.
    pub received: BTreeMap<&'static str, u64>,
    /// How many of them something went wrong with on purpose.
    pub failed: u64,
    /// How many messages had no good signature.
    pub unsigned: u64,
    /// Under which ids the messages of each type about each instance came. One each, or somebody mints ids anew.
    pub ids: BTreeMap<(&'static str, String), BTreeSet<String>>,
}

/// Chance that repeats (SplitMix64, from Steele, Lea and Flood, 2014).
#[derive(Debug)]
pub(super) struct Chance {
    percent: u64,
    state: u64,
}

impl Chance {
    pub(super) fn of(percent: u8, seed: u64) -> Self {
        Self { percent: u64::from(percent), state: seed }
    }

    fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn fault(&mut self) -> Option<Fault> {
        (self.draw() % 100 < self.percent).then(|| Fault::by_chance(self.draw()))
    }
}

/// The service behind its socket.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) secrets: Secrets,
    pub(super) entitled: (String, String),
    pub(super) script: BTreeMap<Message, VecDeque<Fault>>,
    pub(super) standing: BTreeMap<Message, Fault>,
    pub(super) chance: Option<Chance>,
    pub(super) books: Books,
}

/// An answer, and what becomes of it on its way.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Value,
    pub(super) fault: Option<Fault>,
}

impl Desk {
    pub(super) fn new(secrets: Secrets) -> Self {
        Self {
            secrets,
            entitled: ("2026-01-01".to_owned(), "small".to_owned()),
            script: BTreeMap::new(),
            standing: BTreeMap::new(),
            chance: None,
            books: Books::default(),
        }
    }

    fn fault(&mut self, message: Message) -> Option<Fault> {
        let scripted = self.script.get_mut(&message).and_then(VecDeque::pop_front);
        let standing = || self.standing.get(&message).cloned();
        scripted.or_else(standing).or_else(|| self.chance.as_mut().and_then(Chance::fault))
    }

    /// A message whose signature is good.
    pub(super) fn receive(&mut self, id: &str, message: &Value) -> Reply {
        let kind = Message::ALL.into_iter().find(|kind| message["type"] == kind.name());
        let Some(kind) = kind.filter(|_| message["id"] == id) else {
            return Reply { status: 400, body: json!({"message": "this is no message"}), fault: None };
        };
        let data = &message["data"];
        *self.books.received.entry(kind.name()).or_default() += 1;
        let instance = data["instance_id"].as_str().unwrap_or_default().to_owned();
        if kind != Message::Resolve {
            self.books.ids.entry((kind.name(), instance.clone())).or_default().insert(id.to_owned());
        }
        let fault = self.fault(kind);
        self.books.failed += u64::from(fault.is_some());
        let (status, body) = match &fault {
            Some(Fault::Refuse) => (422, json!({"message": "not like this"})),
            Some(Fault::Deny(message)) => (403, json!({"message": message})),
            Some(Fault::Throttle) => (429, json!({"message": "not so fast"})),
            Some(Fault::ErrorBefore | Fault::Down) => (500, json!({"message": "something is broken"})),
            Some(
                Fault::AnswerLost
                | Fault::Slow(_)
                | Fault::Malformed
                | Fault::Huge
                | Fault::Redirect
                | Fault::ErrorAfter
                | Fault::Says(_),
            )
            | None => (200, self.happen(kind, instance, data)),
        };
        Reply { status, body, fault }
    }

    fn happen(&mut self, kind: Message, instance: String, data: &Value) -> Value {
        let (price_version, tier) = self.entitled.clone();
        match kind {
            Message::Resolve => json!({"price_version": price_version, "tier": tier}),
            Message::Start => {
                let over = self.books.ended.contains(&instance);
                if !over && !self.books.active.contains_key(&instance) {
                    let number: u32 = self.books.started.values().sum();
                    let owner = data["owner"].as_str().unwrap_or_default().to_owned();
                    let begun = Subscription { id: format!("sub_{}", number + 1), owner, price_version };
                    self.books.active.insert(instance.clone(), begun);
                    *self.books.started.entry(instance.clone()).or_default() += 1;
                }
                match self.books.active.get(&instance) {
                    Some(Subscription { id, price_version, .. }) => json!({
                        "subscription_id": id, "status": "active", "plan": tier, "price_version": price_version,
                    }),
                    None => json!({
                        "subscription_id": format!("ended_{instance}"), "status": "ended", "plan": tier,
                        "price_version": self.entitled.0,
                    }),
                }
            }
            Message::End => {
                self.books.active.remove(&instance);
                self.books.ended.insert(instance);
                json!({})
            }
        }
    }
}
