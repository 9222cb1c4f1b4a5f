//! Looks: what is there under an ident, and whose it is. They change nothing.
//!
//! - An app is ours if it has our name and is in our organisation: apps carry no tags. One with a name of its own is ours
//!   if, besides, there is a machine in it that carries our tags.
//! - A machine is ours by its tags, a volume by its name; in an app with a name of its own by the machine that holds it.
//!   What is in our app and is neither is somebody else's work.
//! - A 404 is believed if the list of apps does not name the app either: an id may be unknown for a while after it was made.

use std::sync::Arc;
use std::time::Instant;

use freehold_domain::resource::{Custody, Found, Observation, Resource, ResourceKind, RuntimeState};
use freehold_engine::ports::{Ident, Unanswered};

use super::FlyProvider;
use super::api::{Answer, Trouble};
use super::names;
use super::wire::{App, Apps, Machine, Volume, kept_first};

/// Whose an app is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    Nobodys,
    Ours,
    SomebodyElses,
}

impl From<Trouble> for Unanswered {
    fn from(trouble: Trouble) -> Self {
        Self(trouble.to_string())
    }
}

/// The answer to a look that is no success. A token that is not accepted proves nothing about what is there.
pub(super) fn blind(answer: &Answer) -> Unanswered {
    let hint = if answer.status == 401 { "; is the token still valid?" } else { "" };
    Unanswered(format!("{}{hint}", answer.in_words()))
}

/// The organisation's apps.
#[derive(Debug)]
pub(super) struct AppList {
    /// When the question left.
    asked_at: Instant,
    /// Their names, sorted.
    pub(super) names: Vec<String>,
    request_id: String,
}

/// The machines and volumes of an app, the ones to keep first.
pub(super) struct Contents {
    pub(super) machines: Vec<Machine>,
    pub(super) volumes: Vec<Volume>,
    pub(super) asked: Vec<String>,
}

impl FlyProvider {
    /// Whose an app is, with the request ids of the question.
    pub(super) async fn whose(&self, app: &str) -> Result<(Whose, Vec<String>), Unanswered> {
        let answer = self.api.get(app, &format!("/apps/{app}"), &[]).await?;
        let mut asked = vec![answer.request_id.clone()];
        let whose = match answer.status {
            200 => {
                let app: App = answer.read().map_err(Unanswered)?;
                let ours = app.organization.is_some_and(|organization| organization.slug == self.org_slug);
                if ours { Whose::Ours } else { Whose::SomebodyElses }
            }
            403 if answer.complaint().is_some() => Whose::SomebodyElses,
            404 if answer.complaint().is_some() => {
                let list = self.apps_since(Instant::now()).await?;
                asked.push(list.request_id.clone());
                if list.names.binary_search_by(|name| name.as_str().cmp(app)).is_ok() {
                    return Err(Unanswered(format!("{app} is listed and cannot be seen yet")));
                }
                Whose::Nobodys
            }
            _ => return Err(blind(&answer)),
        };
        Ok((whose, asked))
    }

    /// The list of apps as it was asked for at `earliest` or later. However many want to know at once, one asks for all.
    pub(super) async fn apps_since(&self, earliest: Instant) -> Result<Arc<AppList>, Unanswered> {
        let mut last = self.last_list.lock().await;
        if let Some(list) = last.as_ref().filter(|list| list.asked_at >= earliest) {
            return Ok(list.clone());
        }
        let list = Arc::new(self.apps().await?);
        *last = Some(list.clone());
        Ok(list)
    }

    async fn apps(&self) -> Result<AppList, Unanswered> {
        let asked_at = Instant::now();
        let answer = self.api.get(&self.org_slug, "/apps", &[("org_slug", &self.org_slug)]).await?;
        if answer.status != 200 {
            return Err(blind(&answer));
        }
        let list: Apps = answer.read().map_err(Unanswered)?;
        let mut names: Vec<_> = list.apps.into_iter().map(|app| app.name).collect();
        names.sort_unstable();
        Ok(AppList { asked_at, names, request_id: answer.request_id })
    }

    /// What an app of ours holds; `None` if it went away meanwhile.
    pub(super) async fn contents(&self, app: &str) -> Result<Option<Contents>, Unanswered> {
        let mut asked = Vec::new();
        let answer = self.api.get(&format!("{app} machines"), &format!("/apps/{app}/machines"), &[]).await?;
        if answer.status == 404 && answer.complaint().is_some() {
            return Ok(None);
        }
        if answer.status != 200 {
            return Err(blind(&answer));
        }
        let mut machines: Vec<Machine> = answer.read().map_err(Unanswered)?;
        machines.retain(|machine| !machine.is_gone());
        machines.sort_by_key(|machine| (machine.created_at.clone(), machine.id.clone()));
        asked.push(answer.request_id);
        let answer = self.api.get(&format!("{app} volumes"), &format!("/apps/{app}/volumes"), &[]).await?;
        if answer.status == 404 && answer.complaint().is_some() {
            return Ok(None);
        }
        if answer.status != 200 {
            return Err(blind(&answer));
        }
        let mut volumes: Vec<Volume> = answer.read().map_err(Unanswered)?;
        volumes.retain(|volume| !volume.is_gone());
        kept_first(&mut volumes);
        asked.push(answer.request_id);
        Ok(Some(Contents { machines, volumes, asked }))
    }

    /// Whether a machine's tags are this instance's.
    pub(super) fn is_ours(&self, machine: &Machine, ident: &Ident) -> bool {
        machine.tags().is_some_and(|tags| self.idents.verify(&tags, ident.instance))
    }

    /// Whether a volume is this instance's.
    fn is_our_volume(&self, contents: &Contents, ident: &Ident, volume: &Volume) -> bool {
        match &ident.given {
            None => volume.name == names::volume(ident),
            Some(_) => {
                let mut ours = contents.machines.iter().filter(|machine| self.is_ours(machine, ident));
                ours.any(|machine| machine.holds(&volume.id))
            }
        }
    }

    /// Something in an app of ours that is somebody else's work, by its id.
    pub(super) fn strange<'a>(&self, contents: &'a Contents, ident: &Ident) -> Option<&'a str> {
        let machine = contents.machines.iter().find(|machine| !self.is_ours(machine, ident));
        let volume = contents.volumes.iter().find(|volume| !self.is_our_volume(contents, ident, volume));
        machine.map(|machine| machine.id.as_str()).or(volume.map(|volume| volume.id.as_str()))
    }

    pub(super) async fn look(&self, ident: &Ident) -> Result<Observation, Unanswered> {
        let app = names::app(&self.app_prefix, ident);
        let (whose, mut asked) = self.whose(&app).await?;
        let base = |custody| Found { resource: base(&app), custody };
        let (mut found, mut runtime) = (Vec::new(), RuntimeState::Missing);
        match whose {
            Whose::Nobodys => {}
            Whose::SomebodyElses => found.push(base(Custody::Foreign)),
            Whose::Ours => {
                let Some(mut contents) = self.contents(&app).await? else {
                    return Err(Unanswered(format!("{app} goes away while it is looked at")));
                };
                asked.append(&mut contents.asked);
                let custody = |ours: bool| if ours { Custody::Ours } else { Custody::Foreign };
                let tagged = || contents.machines.iter().any(|machine| self.is_ours(machine, ident));
                found.push(base(custody(ident.given.is_none() || tagged())));
                found.extend(contents.volumes.iter().map(|volume| Found {
                    resource: volume.resource(),
                    custody: custody(self.is_our_volume(&contents, ident, volume)),
                }));
                for machine in &contents.machines {
                    let ours = self.is_ours(machine, ident);
                    if ours && runtime == RuntimeState::Missing {
                        runtime = machine.runtime();
                    }
                    found.push(Found { resource: machine.resource(), custody: custody(ours) });
                }
            }
        }
        asked.retain(|id| !id.is_empty());
        let reference = if asked.is_empty() { String::new() } else { format!("fly-request-id {}", asked.join(", ")) };
        Ok(Observation { conclusive: true, found, runtime, reference })
    }
}

/// An app as a resource.
pub(super) fn base(app: &str) -> Resource {
    Resource { kind: ResourceKind::Base, id: app.to_owned(), region: None, handle: String::new() }
}
