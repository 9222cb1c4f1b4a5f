//! Clients: each asks one thing at a time, as callers do who lose answers, and writes down what it was told.
//!
//! - After a lost answer a create with a key is asked again with the same key, and a destroy again; a create without a key is
//!   not, because nobody could tell which one it was.
//! - What is acknowledged is kept apart from the history: it must be true in the end, whatever the history looks like.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use freehold_api::client::{Client, ClientError, Outcome};
use freehold_api::v1::instances::{CreateInstance, InstanceStatus, ListInstances};
use freehold_api::{Code, Prefer};
use uuid::Uuid;

use crate::chance::Chance;
use crate::history::{Call, Recorder, Said};

/// How long a client waits for an answer, beyond what it asks the server to wait.
const ANSWER_MAX: Duration = Duration::from_secs(8);

/// How often a lost answer is asked for again.
const AGAIN_MAX: u32 = 6;

/// The longest pause between two questions of a client, in milliseconds.
const PAUSE_MS_MAX: u64 = 160;

/// Of 100 questions, how many are about one of the hot contexts.
const HOT_PER_CENT: u64 = 40;

/// Who is asked about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crowd {
    pub(crate) clients: usize,
    pub(crate) contexts: u64,
    /// The first so many of them are asked about by everybody.
    pub(crate) hot: u64,
}

/// What clients were promised.
#[derive(Clone, Debug, Default)]
pub(crate) struct Promises {
    /// Answered 201, by instance: whose it is.
    pub(crate) made: BTreeMap<Uuid, String>,
    /// Answered 202.
    pub(crate) admitted: BTreeMap<Uuid, String>,
    /// Destroys that were asked for, answered or not.
    pub(crate) asked_to_destroy: BTreeSet<Uuid>,
    /// Destroys that were accepted.
    pub(crate) destroyed: BTreeSet<Uuid>,
    /// Answers that no server may give.
    pub(crate) wrong: Vec<String>,
}

/// What everybody knows and counts together.
pub(crate) struct Shared {
    pub(crate) recorder: Recorder,
    pub(crate) promises: Mutex<Promises>,
    /// Answers, by what they were.
    pub(crate) answers: Mutex<BTreeMap<&'static str, u64>>,
    known: Mutex<BTreeMap<String, Uuid>>,
    over: AtomicBool,
}

impl Shared {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            recorder: Recorder::new(),
            promises: Mutex::default(),
            answers: Mutex::default(),
            known: Mutex::default(),
            over: AtomicBool::new(false),
        })
    }

    /// Nobody begins anything from here on.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    fn count(&self, what: &'static str) {
        *self.answers.lock().unwrap().entry(what).or_default() += 1;
    }

    fn wrong(&self, what: &str, error: &ClientError) {
        self.promises.lock().unwrap().wrong.push(format!("{what}: {error:?}"));
    }
}

/// One client, until it is over.
pub(crate) async fn live(shared: Arc<Shared>, client: Client, crowd: Crowd, number: usize, mut chance: Chance) {
    let mut turn = 0;
    while !shared.is_over() {
        tokio::time::sleep(Duration::from_millis(chance.below(PAUSE_MS_MAX))).await;
        turn += 1;
        let among = if chance.below(100) < HOT_PER_CENT { crowd.hot } else { crowd.contexts };
        let asking = Asking { shared: &shared, client: &client, owner: format!("user:c{}", chance.below(among)) };
        let known = shared.known.lock().unwrap().get(&asking.owner).copied();
        match (chance.below(10), known) {
            (0..=1, Some(_)) | (9, None) => asking.read().await,
            (2..=4, Some(id)) => asking.destroy(id, &mut chance).await,
            (8, _) => {
                asking.create(None, &mut chance).await;
            }
            (_, _) => asking.create_until_answered(&format!("{number}-{turn}"), &mut chance).await,
        }
    }
}

struct Asking<'s> {
    shared: &'s Shared,
    client: &'s Client,
    owner: String,
}

/// What came of a question.
enum Told<T> {
    Answer(T),
    Refused(Box<ClientError>),
    /// It may have happened, and may not.
    Lost,
    /// Nobody heard it.
    NotSent,
}

impl Asking<'_> {
    async fn ask<T>(&self, asked: impl Future<Output = Result<T, ClientError>>) -> Told<T> {
        match tokio::time::timeout(ANSWER_MAX, asked).await {
            Ok(Ok(answer)) => Told::Answer(answer),
            Ok(Err(ClientError::Unreachable { source, .. })) if source.is_connect() => {
                self.shared.count("no connection");
                Told::NotSent
            }
            Ok(Err(ClientError::Unreachable { .. })) => {
                self.shared.count("answer lost");
                Told::Lost
            }
            Ok(Err(error)) => Told::Refused(Box::new(error)),
            Err(_) => {
                self.shared.count("no answer in time");
                Told::Lost
            }
        }
    }

    async fn create_until_answered(&self, key: &str, chance: &mut Chance) {
        for _ in 0..AGAIN_MAX {
            if self.create(Some(key), chance).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50 + chance.below(300))).await;
        }
    }

    /// Answers whether there was an answer.
    async fn create(&self, key: Option<&str>, chance: &mut Chance) -> bool {
        let invoked = self.shared.recorder.now();
        let prefer = if chance.below(2) == 0 {
            Prefer { respond_async: true, wait: None }
        } else {
            Prefer { respond_async: false, wait: Some(Duration::from_secs(2)) }
        };
        let body = CreateInstance::for_owner(&self.owner);
        let idempotency = key.map(|key| key.parse().unwrap());
        let said = match self.ask(self.client.create(&body, idempotency.as_ref(), prefer)).await {
            Told::Answer(created) => {
                let mut promises = self.shared.promises.lock().unwrap();
                let id = match created.outcome {
                    Outcome::Done(instance) => {
                        promises.made.insert(instance.id, self.owner.clone());
                        instance.id
                    }
                    Outcome::Accepted { operation, .. } => {
                        promises.admitted.insert(operation.instance_id, self.owner.clone());
                        operation.instance_id
                    }
                };
                drop(promises);
                self.shared.known.lock().unwrap().insert(self.owner.clone(), id);
                self.shared.count(if created.replayed { "replayed" } else { "admitted" });
                Said::Got(id)
            }
            Told::Refused(error) => self.refused(&error),
            Told::Lost => Said::Unknown,
            Told::NotSent => return false,
        };
        self.shared.recorder.add(&self.owner, Call::Create { key: key.map(str::to_owned) }, invoked, said);
        said != Said::Unknown
    }

    fn refused(&self, error: &ClientError) -> Said {
        let Some(problem) = error.problem() else {
            self.shared.wrong("a create", error);
            return Said::Unknown;
        };
        match (problem.code, problem.instance_id) {
            (Code::ProvisionInProgress | Code::InstanceAlreadyActive, Some(id)) => {
                self.shared.count("conflict");
                self.shared.known.lock().unwrap().entry(self.owner.clone()).or_insert(id);
                Said::Conflict(id)
            }
            (Code::StoreUnavailable, None) => {
                self.shared.count("registry away (503)");
                Said::Unknown
            }
            // It was admitted, and this is what came of it.
            (Code::InstanceDestroyed, Some(id)) => {
                self.shared.count("destroyed meanwhile");
                Said::Got(id)
            }
            (_, Some(id)) if problem.status >= 500 => {
                self.shared.count("provision failed");
                self.shared.promises.lock().unwrap().admitted.insert(id, self.owner.clone());
                Said::Got(id)
            }
            _ => {
                self.shared.wrong("a create", error);
                Said::Unknown
            }
        }
    }

    async fn destroy(&self, id: Uuid, chance: &mut Chance) {
        self.shared.promises.lock().unwrap().asked_to_destroy.insert(id);
        for _ in 0..AGAIN_MAX {
            let invoked = self.shared.recorder.now();
            let said = match self.ask(self.client.destroy(id, None)).await {
                Told::Answer(_) => {
                    self.shared.count("destroy accepted");
                    self.shared.promises.lock().unwrap().destroyed.insert(id);
                    Said::Accepted
                }
                Told::Refused(error) => match error.problem().map(|problem| problem.code) {
                    Some(Code::InstanceNotFound) => Said::Missing,
                    Some(Code::StoreUnavailable) => {
                        self.shared.count("registry away (503)");
                        Said::Unknown
                    }
                    _ => {
                        self.shared.wrong("a destroy", &error);
                        Said::Unknown
                    }
                },
                Told::Lost => Said::Unknown,
                Told::NotSent => return,
            };
            self.shared.recorder.add(&self.owner, Call::Destroy { id }, invoked, said);
            if said != Said::Unknown {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50 + chance.below(300))).await;
        }
    }

    /// Reads who holds the context, and puts it down where that is plain: one instance that nobody destroys, or none at all.
    async fn read(&self) {
        let invoked = self.shared.recorder.now();
        let query = ListInstances { owner: Some(self.owner.clone()), limit: Some(500), ..ListInstances::default() };
        match self.ask(self.client.instances(&query)).await {
            Told::Answer(list) => {
                self.shared.count("read");
                let ends = |status| matches!(status, InstanceStatus::Destroying | InstanceStatus::Failed);
                let holder = match list.instances.as_slice() {
                    [] => None,
                    [one] if !ends(one.status) => Some(one.id),
                    _ => return,
                };
                self.shared.recorder.add(&self.owner, Call::Read, invoked, Said::Holds(holder));
            }
            Told::Refused(error) if error.problem().is_some_and(|problem| problem.code == Code::StoreUnavailable) => {
                self.shared.count("registry away (503)");
            }
            Told::Refused(error) => self.shared.wrong("a list", &error),
            Told::Lost | Told::NotSent => {}
        }
    }
}
