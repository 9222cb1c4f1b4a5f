//! What one call has in its hands: an instance's ident, an engine, a deadline, and whether anything was sent yet.
//!
//! Nothing is touched before its labels were verified. A container is removed by its id and never by its name, so that
//! what has the name by then stays.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use freehold_domain::resource::{Outcome, Rejection, RejectionClass, Resource, ResourceKind};
use freehold_engine::ident::Idents;
use freehold_engine::ports::{Ident, Made};

use super::DockerOptions;
use super::engine::{Changed, Container, Engine, Labels, Volume};
use super::names::{self, Standing, name_of};
use super::table::{Call, Meaning};
use super::wire::{Ask, Trouble, escaped};

pub(super) const SEALED: &str = "sealed: nothing is made under this ident any more";

/// How long to wait before a name that is taken and has nobody is looked at again.
pub(super) const PAUSE: Duration = Duration::from_millis(20);

/// Why a call ends before it did what it was for.
pub(super) type Ended = Outcome<Infallible>;

pub(super) fn rejected<T>(class: RejectionClass, detail: impl Into<String>) -> Outcome<T> {
    Outcome::Rejected(Rejection { class, detail: detail.into() })
}

pub(super) fn foreign<T>(name: &str) -> Outcome<T> {
    rejected(RejectionClass::ConflictForeign, format!("{name} is somebody else's"))
}

/// What came of a call.
pub(super) fn outcome<T>(result: Result<T, Ended>) -> Outcome<T> {
    match result {
        Ok(value) => Outcome::Done(value),
        Err(ended) => ended.map(|never| match never {}),
    }
}

/// The place of one instance at an engine, for one call.
pub(super) struct Place<'a> {
    pub(super) engine: &'a Engine,
    pub(super) options: &'a DockerOptions,
    pub(super) idents: &'a Idents,
    pub(super) ident: &'a Ident,
    deadline: Mutex<Instant>,
    sent: AtomicBool,
}

impl<'a> Place<'a> {
    pub(super) fn new(engine: &'a Engine, options: &'a DockerOptions, idents: &'a Idents, ident: &'a Ident) -> Self {
        let deadline = Mutex::new(Instant::now() + options.request_timeout);
        Self { engine, options, idents, ident, deadline, sent: AtomicBool::new(false) }
    }

    pub(super) fn deadline(&self) -> Instant {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the call its whole time again, after something that has a time of its own.
    pub(super) fn begin_again(&self) {
        let deadline = Instant::now() + self.options.request_timeout;
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) = deadline;
    }

    /// Waits a moment; `false` once there is no time left for that.
    pub(super) async fn pause(&self) -> bool {
        let goes_on = Instant::now() + 2 * PAUSE < self.deadline();
        if goes_on {
            tokio::time::sleep(PAUSE).await;
        }
        goes_on
    }

    /// The call ends like this. Once something was sent, nobody can say that nothing was.
    pub(super) fn ended(&self, outcome: Ended) -> Ended {
        match outcome {
            Outcome::NotSent(why) if self.sent.load(Ordering::Relaxed) => Outcome::Unknown(why),
            other => other,
        }
    }

    /// A look in the middle of a call had no answer. The look itself changed nothing.
    pub(super) fn unseen(&self, trouble: Trouble) -> Ended {
        self.ended(Outcome::NotSent(trouble.why()))
    }

    /// Sends a call that changes something.
    pub(super) async fn change(&self, call: Call, path: &str, with: impl FnOnce(Ask) -> Ask) -> Result<Changed, Ended> {
        match self.engine.change(call, path, with, self.deadline()).await {
            Ok(changed) => {
                // A refusal left everything as it was.
                if matches!(changed.meaning, Meaning::Done | Meaning::Stuck | Meaning::UnderWay | Meaning::Unknown) {
                    self.sent.store(true, Ordering::Relaxed);
                }
                Ok(changed)
            }
            Err(trouble) => Err(self.ended(trouble.outcome())),
        }
    }

    /// What an answer that is no success means for the call.
    pub(super) fn failed(&self, changed: &Changed) -> Ended {
        let why = changed.message.clone();
        match changed.meaning {
            Meaning::Invalid | Meaning::NoImage => rejected(RejectionClass::Invalid, why),
            Meaning::Foreign => rejected(RejectionClass::ConflictForeign, why),
            Meaning::Unauthorized => rejected(RejectionClass::Unauthorized, why),
            Meaning::NotSent | Meaning::InUse => self.ended(Outcome::NotSent(why)),
            Meaning::Done
            | Meaning::Gone
            | Meaning::NameTaken
            | Meaning::Running
            | Meaning::Stuck
            | Meaning::UnderWay
            | Meaning::Unknown => Outcome::Unknown(why),
        }
    }

    pub(super) fn standing(&self, labels: &Labels) -> Standing {
        names::standing(labels, self.idents, self.ident.instance)
    }

    /// Only what is ours goes on.
    pub(super) fn must_be_ours(&self, name: &str, labels: &Labels) -> Result<(), Ended> {
        match self.standing(labels) {
            Standing::Ours => Ok(()),
            Standing::Tombstone => Err(rejected(RejectionClass::Invalid, SEALED)),
            Standing::Foreign => Err(foreign(name)),
        }
    }

    pub(super) async fn container(&self, name: &str) -> Result<Option<Container>, Ended> {
        self.engine.container(name, self.deadline()).await.map_err(|trouble| self.unseen(trouble))
    }

    pub(super) async fn volume(&self, name: &str) -> Result<Option<Volume>, Ended> {
        self.engine.volume(name, self.deadline()).await.map_err(|trouble| self.unseen(trouble))
    }

    /// What has its volume on record and not at the engine would begin anew, and look well: it is not brought up.
    pub(super) async fn must_have_its_volume(&self, known: &[Resource]) -> Result<(), Ended> {
        let Some(volume) = known.iter().find(|resource| resource.kind == ResourceKind::Storage) else { return Ok(()) };
        if self.volume(&name_of(self.ident, ResourceKind::Storage)).await?.is_some() {
            return Ok(());
        }
        let why = format!("its volume {} is gone; put it back, or destroy the instance", volume.id);
        Err(rejected(RejectionClass::Invalid, why))
    }

    /// There is a base to make something in, and it is not sealed.
    pub(super) async fn must_have_base(&self) -> Result<(), Ended> {
        let name = name_of(self.ident, ResourceKind::Base);
        match self.volume(&name).await? {
            Some(base) => self.must_be_ours(&name, base.labels()),
            None => Err(rejected(RejectionClass::Invalid, "there is no base; make that first")),
        }
    }

    /// Makes a volume, or finds it made: names of volumes are unique, and making one twice answers with the first.
    pub(super) async fn volume_with(&self, name: &str, labels: &Labels) -> Result<Volume, Ended> {
        let body = serde_json::json!({ "Name": name, "Labels": labels });
        loop {
            let made = self.change(Call::MakeVolume, "/volumes/create", |ask| ask.json(&body)).await?;
            match made.meaning {
                Meaning::Done => {
                    return made.volume().filter(|volume| volume.name == name).ok_or_else(|| {
                        Outcome::Unknown("the engine's answer to the making of a volume makes no sense".to_owned())
                    });
                }
                // Podman lets one of several who make it at once know that another one was faster.
                Meaning::NameTaken => {
                    if let Some(volume) = self.volume(name).await? {
                        return Ok(volume);
                    }
                    if !self.pause().await {
                        return Err(Outcome::Unknown(made.message));
                    }
                }
                _ => return Err(self.failed(&made)),
            }
        }
    }

    /// Makes the base or the storage.
    pub(super) async fn ensure_volume(&self, kind: ResourceKind) -> Result<Made, Ended> {
        if kind != ResourceKind::Base {
            self.must_have_base().await?;
        }
        let name = name_of(self.ident, kind);
        let labels = names::labels(self.ident, kind);
        let mut volume = self.volume_with(&name, &labels).await?;
        if self.remove_remnant(&volume).await? {
            volume = self.volume_with(&name, &labels).await?;
        }
        self.must_be_ours(&name, volume.labels())?;
        let resource = Resource { kind, id: name, region: None, handle: String::new() };
        Ok(Made { resource, runtime: None })
    }

    /// Removes a container of ours for good, running or not.
    ///
    /// Never by force: Podman lets go of a container while it forces it down, and a start that comes then leaves a process
    /// that it does not know any more. A removal of what is down is one thing at both engines.
    pub(super) async fn remove_container(&self, id: &str) -> Result<(), Ended> {
        let path = format!("/containers/{}", escaped(id));
        loop {
            // Volumes that its image asked for, and that have no name, go with it.
            let removed = self.change(Call::RemoveContainer, &path, |ask| ask.with("v", "1")).await?;
            match removed.meaning {
                Meaning::Done | Meaning::Gone => return Ok(()),
                Meaning::Running => {
                    let killed = self.change(Call::Kill, &format!("{path}/kill"), |ask| ask).await?;
                    match killed.meaning {
                        Meaning::Done | Meaning::Gone => {}
                        _ => return Err(self.failed(&killed)),
                    }
                }
                Meaning::UnderWay => {
                    if self.container(id).await?.is_none() {
                        return Ok(());
                    }
                    if !self.pause().await {
                        return Err(Outcome::Unknown(removed.message));
                    }
                }
                _ => return Err(self.failed(&removed)),
            }
            if Instant::now() > self.deadline() {
                return Err(Outcome::Unknown("others start the container again and again".to_owned()));
            }
        }
    }

    /// Removes what a Docker Engine that was killed leaves of a volume that it was about to make: the folder, and no labels.
    /// Nothing is lost with a volume that is empty and that nobody uses. Answers whether it was one.
    pub(super) async fn remove_remnant(&self, volume: &Volume) -> Result<bool, Ended> {
        if !volume.labels().is_empty() {
            return Ok(false);
        }
        let is_empty = self.engine.is_empty(&volume.name, self.deadline()).await;
        if !is_empty.map_err(|trouble| self.unseen(trouble))? {
            return Ok(false);
        }
        tracing::info!(volume = volume.name, "an empty volume without labels has our name; removing it");
        Ok(self.remove_volume(&volume.name).await?.is_none())
    }

    /// Removes a volume of ours. Answers who holds it, where somebody does.
    pub(super) async fn remove_volume(&self, name: &str) -> Result<Option<String>, Ended> {
        let removed = self.change(Call::RemoveVolume, &format!("/volumes/{}", escaped(name)), |ask| ask).await?;
        match removed.meaning {
            Meaning::Done | Meaning::Gone => Ok(None),
            Meaning::InUse => Ok(Some(removed.message)),
            _ => Err(self.failed(&removed)),
        }
    }

    /// Removes a resource, if it is ours. What keeps up a seal is none.
    pub(super) async fn destroy(&self, resource: &Resource) -> Result<(), Ended> {
        let Resource { kind, id: name, region: _, handle: _ } = resource;
        match kind {
            ResourceKind::Runtime => match self.container(name).await? {
                None => Ok(()),
                Some(container) => match self.standing(container.labels()) {
                    Standing::Ours => self.remove_container(&container.id).await,
                    Standing::Tombstone => Ok(()),
                    Standing::Foreign => Err(foreign(name)),
                },
            },
            ResourceKind::Base | ResourceKind::Storage => match self.volume(name).await? {
                None => Ok(()),
                Some(volume) => match self.standing(volume.labels()) {
                    Standing::Ours => match self.remove_volume(name).await? {
                        None => Ok(()),
                        Some(held) => Err(self.ended(Outcome::NotSent(held))),
                    },
                    Standing::Tombstone => Ok(()),
                    Standing::Foreign => Err(foreign(name)),
                },
            },
        }
    }
}
