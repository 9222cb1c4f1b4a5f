//! Removing, and the list of what could be removed.
//!
//! - Gone is success; every other answer leaves the resource on record.
//! - An app is deleted with all that is in it, so it is looked into first: what is somebody else's keeps it standing.

use std::time::{Duration, Instant};

use freehold_domain::resource::{Outcome, RejectionClass, Resource, ResourceKind};
use freehold_engine::ports::{Claim, Ident, OwnedPage, OwnedResource, Unanswered};

use super::look::{Whose, base};
use super::outcome::{Call, Meaning, is_id};
use super::{FlyProvider, names, other, rejected, somebody_elses, unheard, unseen};

/// How long to wait for a machine to be destroyed, in seconds: less than a call may take.
const DESTROY_WAIT_SECONDS: &str = "10";

/// How long to wait for a deleted app to be gone; whoever asks again waits again.
const GONE_WAIT: Duration = Duration::from_secs(10);

/// The first pause between two looks at a deleted app; it doubles with each.
const GONE_PAUSE_MIN: Duration = Duration::from_millis(50);

/// The longest such pause.
const GONE_PAUSE_MAX: Duration = Duration::from_secs(1);

/// How many apps a page of the list covers: each takes two questions.
const PAGE_APPS: usize = 20;

impl FlyProvider {
    pub(super) async fn remove(&self, ident: &Ident, resource: &Resource) -> Outcome<()> {
        let app = names::app(&self.app_prefix, ident);
        match resource.kind {
            ResourceKind::Base if resource.id == app => self.remove_app(&app, ident).await,
            ResourceKind::Base => rejected(RejectionClass::Invalid, format!("{} is not the app {app}", resource.id)),
            ResourceKind::Storage | ResourceKind::Runtime if !is_id(&resource.id) => {
                rejected(RejectionClass::Invalid, format!("{:?} is no id", resource.id))
            }
            ResourceKind::Storage => self.remove_volume(&app, ident, &resource.id).await,
            ResourceKind::Runtime => self.remove_machine(&app, ident, &resource.id).await,
        }
    }

    /// Deletes an app with everything in it. `Done` once its name answers as that of nothing.
    pub(super) async fn remove_app(&self, app: &str, ident: &Ident) -> Outcome<()> {
        match self.whose(app).await {
            Ok((Whose::Nobodys, _)) => return Outcome::Done(()),
            Ok((Whose::SomebodyElses, _)) => return somebody_elses(app),
            Ok((Whose::Ours, _)) => {}
            Err(unanswered) => return unseen(unanswered),
        }
        match self.contents(app).await {
            Ok(None) => {}
            Ok(Some(contents)) => {
                if let Some(id) = self.strange(&contents, ident) {
                    let detail =
                        format!("{id} in the app {app} is somebody else's; remove it by hand, and the app follows");
                    return rejected(RejectionClass::ConflictForeign, detail);
                }
            }
            Err(unanswered) => return unseen(unanswered),
        }
        let path = format!("/apps/{app}");
        let answer = match self.api.change(Call::DeleteApp, app, &path, &[("force", "true")], None).await {
            Ok(answer) => answer,
            Err(trouble) => return unheard(trouble),
        };
        match answer.meaning(Call::DeleteApp) {
            Meaning::Done | Meaning::Gone => self.until_gone(app).await,
            meaning => other(meaning, &answer, None),
        }
    }

    /// Deleting an app is accepted first and done later: it is gone when its name says so.
    async fn until_gone(&self, app: &str) -> Outcome<()> {
        let asked_at = Instant::now();
        let mut pause = GONE_PAUSE_MIN;
        loop {
            match self.whose(app).await {
                Ok((Whose::Nobodys, _)) => return Outcome::Done(()),
                Ok(_) if asked_at.elapsed() + pause < GONE_WAIT => tokio::time::sleep(pause).await,
                Ok(_) => return Outcome::Unknown(format!("{app} is being deleted")),
                Err(unanswered) => return Outcome::Unknown(unanswered.0),
            }
            pause = (2 * pause).min(GONE_PAUSE_MAX);
        }
    }

    async fn remove_machine(&self, app: &str, ident: &Ident, id: &str) -> Outcome<()> {
        match self.machine(app, id).await {
            Ok(None) => return Outcome::Done(()),
            Ok(Some(machine)) if self.is_ours(&machine, ident) => {}
            Ok(Some(_)) => {
                return rejected(RejectionClass::ConflictForeign, format!("machine {id} is somebody else's"));
            }
            Err(why) => return Outcome::NotSent(why),
        }
        let path = format!("/apps/{app}/machines/{id}");
        match self.delete(Call::DeleteMachine, id, &path, &[("force", "true")]).await {
            Outcome::Done(()) => {}
            outcome => return outcome,
        }
        // It holds its volume until it is destroyed, and is seen until then.
        let query = [("state", "destroyed"), ("timeout", DESTROY_WAIT_SECONDS)];
        match self.api.change(Call::AwaitMachine, id, &format!("{path}/wait"), &query, None).await {
            Ok(answer) if answer.meaning(Call::AwaitMachine) == Meaning::Done => Outcome::Done(()),
            Ok(answer) if answer.status == 404 && answer.complaint().is_some() => Outcome::Done(()),
            Ok(answer) => Outcome::Unknown(answer.in_words()),
            Err(trouble) => Outcome::Unknown(trouble.to_string()),
        }
    }

    async fn remove_volume(&self, app: &str, ident: &Ident, id: &str) -> Outcome<()> {
        let contents = match self.contents(app).await {
            Ok(Some(contents)) => contents,
            Ok(None) => return Outcome::Done(()),
            Err(unanswered) => return unseen(unanswered),
        };
        let Some(volume) = contents.volumes.iter().find(|volume| volume.id == id) else { return Outcome::Done(()) };
        // In an app that was made elsewhere a volume is ours by the record that names it: who holds it is asked below.
        if ident.given.is_none() && volume.name != names::volume(ident) {
            return rejected(RejectionClass::ConflictForeign, format!("volume {id} is somebody else's"));
        }
        // What holds it goes first: a machine of ours that is on nobody's record any more.
        if let Some(machine) = contents.machines.iter().find(|machine| machine.holds(id)) {
            match self.remove_machine(app, ident, &machine.id).await {
                Outcome::Done(()) => {}
                outcome => return outcome,
            }
        }
        self.delete(Call::DeleteVolume, id, &format!("/apps/{app}/volumes/{id}"), &[]).await
    }

    async fn delete(&self, call: Call, id: &str, path: &str, query: &[(&str, &str)]) -> Outcome<()> {
        match self.api.change(call, id, path, query, None).await {
            Err(trouble) => unheard(trouble),
            Ok(answer) => match answer.meaning(call) {
                Meaning::Done | Meaning::Gone => Outcome::Done(()),
                Meaning::Held => Outcome::NotSent(answer.in_words()),
                meaning => other(meaning, &answer, None),
            },
        }
    }

    /// A page of what carries the install's tags, or is named as only our apps are.
    pub(super) async fn list(&self, install: &str, after: Option<&str>) -> Result<OwnedPage, Unanswered> {
        let list = self.apps_since(Instant::now()).await?;
        let mut ours: Vec<_> = list
            .names
            .iter()
            .filter(|name| after.is_none_or(|after| name.as_str() > after))
            .filter_map(|name| Some((names::instance(&self.app_prefix, name)?, name.clone())))
            .collect();
        let next = (ours.len() > PAGE_APPS).then(|| ours[PAGE_APPS - 1].1.clone());
        ours.truncate(PAGE_APPS);
        let (mut resources, mut unseen) = (Vec::new(), 0);
        for (instance, app) in ours {
            let contents = match self.contents(&app).await {
                Ok(Some(contents)) => contents,
                // It went away since it was listed.
                Ok(None) => continue,
                // The others are seen all the same: one bad answer in a thousand must not hide them for ever.
                Err(unanswered) => {
                    tracing::debug!(app, %unanswered, "it cannot be looked into");
                    unseen += 1;
                    continue;
                }
            };
            let tags = contents.machines.iter().find_map(super::wire::Machine::tags);
            if tags.as_ref().is_some_and(|tags| tags.install != install) {
                continue;
            }
            let mut own = |resource, claim| resources.push(OwnedResource { resource, claim });
            for machine in &contents.machines {
                match machine.tags() {
                    Some(tags) if tags.install == install => own(machine.resource(), Claim::Tags(tags)),
                    Some(_) | None => {}
                }
            }
            let named = tags.as_ref().map(|tags| names::volume_of(&tags.mac));
            let claim = tags.map_or(Claim::Name(instance), Claim::Tags);
            for volume in &contents.volumes {
                if named.as_ref().map_or_else(|| names::is_volume(&volume.name), |name| volume.name == *name) {
                    own(volume.resource(), claim.clone());
                }
            }
            own(base(&app), claim);
        }
        Ok(OwnedPage { resources, unseen, next })
    }
}
