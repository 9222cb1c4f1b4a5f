//! What the calls do to the disk and to processes. It blocks, for a bounded time.

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use freehold_domain::resource::{
    Custody, Found, Observation, Outcome, Rejection, RejectionClass, Resource, ResourceKind, RuntimeState,
};
use freehold_engine::ident::Idents;
use freehold_engine::ports::{Claim, Ident, Made, OwnedPage, OwnedResource, Tags};
use rustix::process::Signal;

use super::folder::{Folder, Layout, Locked, Standing};
use super::kernel;
use super::record::{self, Handle, Marker, Record, StopAsked};
use super::{cgroup, durable, kill, ports};

/// How long a launch under way may keep a seal waiting before it is ended: it takes a few milliseconds.
const SEAL_PATIENCE: Duration = Duration::from_secs(2);

/// How many folders a page of the list covers.
const PAGE_FOLDERS: usize = 100;

/// How often making a folder is tried while others make and remove it.
const RACES_MAX: usize = 3;

pub(super) const SEALED: &str = "sealed: nothing is made under this ident any more";

/// The place of one instance, and who is allowed to touch it.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) layout: Layout,
    pub(super) idents: Idents,
    pub(super) ident: Ident,
}

pub(super) fn rejected<T>(class: RejectionClass, detail: impl Into<String>) -> Outcome<T> {
    Outcome::Rejected(Rejection { class, detail: detail.into() })
}

pub(super) fn foreign<T>(folder: &Folder) -> Outcome<T> {
    rejected(RejectionClass::ConflictForeign, format!("{} is somebody else's", folder.path().display()))
}

fn unknown<T>(what: &str, error: &io::Error) -> Outcome<T> {
    Outcome::Unknown(format!("{what}: {error}"))
}

impl Place {
    pub(super) fn folder(&self) -> Folder {
        self.layout.folder(self.ident.instance)
    }

    pub(super) fn standing(&self, folder: &Folder) -> io::Result<Standing> {
        folder.standing(|tags| self.idents.verify(tags, self.ident.instance))
    }

    pub(super) fn resource(&self, kind: ResourceKind, handle: String) -> Resource {
        Resource { kind, id: self.ident.name.clone(), region: None, handle }
    }

    pub(super) fn runtime(&self, record: Option<&Record>, state: RuntimeState) -> Made {
        let handle = record.and_then(|record| serde_json::to_string(&Handle::from(record)).ok()).unwrap_or_default();
        Made { resource: self.resource(ResourceKind::Runtime, handle), runtime: Some(state) }
    }

    pub(super) fn ensure_base(&self) -> Outcome<Made> {
        let folder = self.folder();
        let made = Made { resource: self.resource(ResourceKind::Base, String::new()), runtime: None };
        for _ in 0..RACES_MAX {
            match self.standing(&folder) {
                Ok(Standing::Ours { sealed: true, .. }) => return rejected(RejectionClass::Invalid, SEALED),
                Ok(Standing::Ours { base: true, sealed: false }) => return Outcome::Done(made),
                Ok(Standing::Foreign) => return foreign(&folder),
                Ok(Standing::Missing | Standing::Ours { base: false, sealed: false }) => {}
                Err(error) => return Outcome::NotSent(format!("the instance's folder cannot be read: {error}")),
            }
            match folder.make_base(&self.ident.tags) {
                Ok(()) => return Outcome::Done(made),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return unknown("the instance's folder may not have been made", &error),
            }
        }
        Outcome::Unknown("others make and remove the instance's folder at the same time".to_owned())
    }

    pub(super) fn ensure_storage(&self, deadline: Instant) -> Outcome<Made> {
        let folder = self.folder();
        let _turn = match self.turn_to_make(&folder, deadline) {
            Ok(turn) => turn,
            Err(outcome) => return outcome.map(|never| match never {}),
        };
        let made = durable::make_folder(&folder.volume()).and_then(|()| durable::sync_folder(folder.path()));
        match made {
            Ok(()) => {
                Outcome::Done(Made { resource: self.resource(ResourceKind::Storage, String::new()), runtime: None })
            }
            Err(error) => unknown("the volume may not have been made", &error),
        }
    }

    /// A program whose volume is on record and gone would begin anew, and look well: it is not started.
    pub(super) fn without_its_volume(&self, known: &[Resource]) -> Option<Outcome<Made>> {
        let volume = known.iter().find(|resource| resource.kind == ResourceKind::Storage)?;
        match durable::is_there(&self.folder().volume()) {
            Ok(true) => None,
            Ok(false) => {
                let why = format!("its volume {} is gone; put it back, or destroy the instance", volume.id);
                Some(rejected(RejectionClass::Invalid, why))
            }
            Err(error) => Some(Outcome::NotSent(format!("its volume cannot be looked for: {error}"))),
        }
    }

    /// The folder's lock, for making something in a base that is not sealed.
    fn turn_to_make(&self, folder: &Folder, deadline: Instant) -> Result<Locked, Outcome<std::convert::Infallible>> {
        let unread = |error: io::Error| Outcome::NotSent(format!("the instance's folder cannot be read: {error}"));
        let no_base = || rejected(RejectionClass::Invalid, "there is no base; make that first");
        match self.standing(folder).map_err(unread)? {
            Standing::Foreign => return Err(foreign(folder)),
            Standing::Missing => return Err(no_base()),
            Standing::Ours { .. } => {}
        }
        let Some(turn) = durable::there(folder.lock(deadline)).transpose() else { return Err(no_base()) };
        let Some(turn) = turn.map_err(unread)? else {
            return Err(Outcome::NotSent("a launch or clean-up takes too long".to_owned()));
        };
        match self.standing(folder).map_err(unread)? {
            Standing::Ours { sealed: true, .. } => Err(rejected(RejectionClass::Invalid, SEALED)),
            Standing::Ours { base: true, sealed: false } => Ok(turn),
            Standing::Ours { base: false, sealed: false } | Standing::Missing => Err(no_base()),
            Standing::Foreign => Err(foreign(folder)),
        }
    }

    pub(super) fn observe(&self) -> io::Result<Observation> {
        let folder = self.folder();
        let standing = self.standing(&folder)?;
        let mut found = Vec::new();
        let mut add = |kind, handle, custody| found.push(Found { resource: self.resource(kind, handle), custody });
        let seen = match standing {
            Standing::Foreign => {
                add(ResourceKind::Base, String::new(), Custody::Foreign);
                None
            }
            Standing::Missing => record::look(&folder, &Marker::of(&self.ident))?,
            Standing::Ours { base, sealed: _ } => {
                if base {
                    add(ResourceKind::Base, String::new(), Custody::Ours);
                }
                if durable::is_there(&folder.volume())? {
                    add(ResourceKind::Storage, String::new(), Custody::Ours);
                }
                record::look(&folder, &Marker::of(&self.ident))?
            }
        };
        let runtime = match seen {
            None => RuntimeState::Missing,
            Some(seen) => {
                let made = self.runtime(seen.record.as_ref(), seen.state.clone());
                add(ResourceKind::Runtime, made.resource.handle, Custody::Ours);
                seen.state
            }
        };
        Ok(Observation { conclusive: true, found, runtime, reference: String::new() })
    }

    /// Stops the program, if one runs. A stop that was asked for is on record before anything is done about it.
    pub(super) fn stop(&self, grace: Duration, deadline: Instant) -> Outcome<Made> {
        let folder = self.folder();
        match self.standing(&folder) {
            Ok(Standing::Foreign) => return foreign(&folder),
            Ok(Standing::Missing | Standing::Ours { .. }) => {}
            Err(error) => return Outcome::NotSent(format!("the instance's folder cannot be read: {error}")),
        }
        let stopped = || -> io::Result<Outcome<Made>> {
            let marker = Marker::of(&self.ident);
            let Some(turn) = durable::there(folder.lock(deadline))? else {
                return Ok(Outcome::Done(self.runtime(None, RuntimeState::Stopped)));
            };
            let Some(turn) = turn else {
                return Ok(Outcome::NotSent("a launch or clean-up takes too long".to_owned()));
            };
            // A launch that waits for its turn would start what was just stopped.
            self.end_launches(&folder)?;
            let known = Record::read(&folder)?;
            let found = match &known {
                Some(record) if record.is_alive(&folder, &marker)? => None,
                Some(_) | None => record::unrecorded(known.as_ref(), &marker.processes()?)?,
            };
            if let Some(found) = &found {
                durable::replace_record(&folder.runtime(), found)?;
            }
            let Some(record) = found.or(known) else {
                return Ok(Outcome::Done(self.runtime(None, RuntimeState::Stopped)));
            };
            durable::replace_record(&folder.stop(), &StopAsked { launch: record.launch })?;
            // A destroy need not wait for the grace of a stop.
            drop(turn);
            if kill::stop(&record, &folder, &marker, grace, deadline)? {
                return Ok(Outcome::Done(self.runtime(Some(&record), RuntimeState::Stopped)));
            }
            Ok(Outcome::Unknown("the program does not end".to_owned()))
        };
        stopped().unwrap_or_else(|error| unknown("the program may not have ended", &error))
    }

    pub(super) fn seal(&self, deadline: Instant) -> Outcome<()> {
        let folder = self.folder();
        let sealed = || -> io::Result<Outcome<()>> {
            for _ in 0..RACES_MAX {
                match self.standing(&folder)? {
                    Standing::Foreign => return Ok(foreign(&folder)),
                    Standing::Missing => match folder.make_sealed(&self.ident.tags) {
                        Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                        other => return other.map(Outcome::Done),
                    },
                    Standing::Ours { .. } => {}
                }
                let patience = (Instant::now() + SEAL_PATIENCE).min(deadline);
                let Some(turn) = durable::there(folder.lock(patience)).transpose() else { continue };
                let turn = match turn? {
                    Some(turn) => Some(turn),
                    None => {
                        self.end_launches(&folder)?;
                        folder.lock(deadline)?
                    }
                };
                let Some(turn) = turn else { break };
                folder.seal(&turn, &self.ident.tags)?;
                return Ok(Outcome::Done(()));
            }
            Ok(Outcome::Unknown("others do not let go of the instance's folder".to_owned()))
        };
        sealed().unwrap_or_else(|error| unknown("the seal may not hold", &error))
    }

    /// Ends whoever launches and does not get on. What it may have started already is found by its marker.
    fn end_launches(&self, folder: &Folder) -> io::Result<()> {
        let attending = Record::read(folder)?.and_then(|record| record.shim);
        for process in Marker::of(&self.ident).processes()? {
            if record::launch_of(&process).is_none() && Some(process.stat.id) != attending {
                kernel::signal(process.stat.id, Signal::KILL)?;
            }
        }
        Ok(())
    }

    pub(super) fn destroy(&self, resource: &Resource, deadline: Instant) -> Outcome<()> {
        let kind = resource.kind;
        if resource.id != self.ident.name {
            // What is here has one name. Another one is not here, and nothing that is here may go in its place.
            return rejected(RejectionClass::Invalid, format!("{} is no {kind} of {}", resource.id, self.ident.name));
        }
        let folder = self.folder();
        let destroyed = || -> io::Result<Outcome<()>> {
            let standing = self.standing(&folder)?;
            if standing == Standing::Foreign {
                return Ok(foreign(&folder));
            }
            let turn = match durable::there(folder.lock(deadline))? {
                Some(None) => return Ok(Outcome::Unknown("a launch or clean-up takes too long".to_owned())),
                Some(Some(turn)) => Some(turn),
                None => None,
            };
            match kind {
                ResourceKind::Storage if turn.is_some() => {
                    durable::remove_folder(&folder.volume(), folder.instances())?;
                    durable::sync_folder(folder.path())?;
                }
                ResourceKind::Storage => {}
                ResourceKind::Base | ResourceKind::Runtime => {
                    if !kill::everything(&folder, &Marker::of(&self.ident), deadline)? {
                        return Ok(Outcome::Unknown("something of the instance does not end".to_owned()));
                    }
                    if let Some(turn) = &turn {
                        self.forget_runtime(&folder)?;
                        if kind == ResourceKind::Base {
                            self.remove_base(&folder, turn)?;
                        }
                    }
                }
            }
            Ok(Outcome::Done(()))
        };
        destroyed().unwrap_or_else(|error| unknown("it may still be there", &error))
    }

    fn forget_runtime(&self, folder: &Folder) -> io::Result<()> {
        cgroup::remove(folder)?;
        for file in [folder.runtime(), folder.exit(), folder.stop()] {
            durable::remove_if_there(&file)?;
        }
        durable::sync_folder(folder.path())
    }

    /// Removes the base. Of a sealed one the tombstone stays.
    fn remove_base(&self, folder: &Folder, _locked: &Locked) -> io::Result<()> {
        ports::free(&self.layout, folder, self.ident.instance)?;
        if !folder.is_sealed()? {
            return durable::remove_folder(folder.path(), folder.instances());
        }
        for subfolder in [folder.volume(), folder.work(), folder.logs()] {
            durable::remove_folder(&subfolder, folder.instances())?;
        }
        for entry in std::fs::read_dir(folder.path())? {
            let path = entry?.path();
            if path != folder.tombstone() && path != folder.owner() {
                durable::remove_tree_or_file(&path)?;
            }
        }
        // Last: the base is there for as long as this is.
        durable::remove_if_there(&folder.owner())?;
        durable::sync_folder(folder.path())
    }
}

/// A page of what carries the install's tags.
pub(super) fn list_owned(layout: &Layout, install: &str, after: Option<&str>) -> io::Result<OwnedPage> {
    let mut names: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(layout.instances())? {
        if let Ok(name) = entry?.file_name().into_string()
            && after.is_none_or(|after| name.as_str() > after)
        {
            names.push(name);
        }
    }
    names.sort_unstable();
    let next = (names.len() > PAGE_FOLDERS).then(|| names[PAGE_FOLDERS - 1].clone());
    names.truncate(PAGE_FOLDERS);
    let (mut resources, mut unseen) = (Vec::new(), 0);
    for instance in names.iter().filter_map(|name| name.parse::<freehold_domain::ids::InstanceId>().ok()) {
        match owned_in(&layout.folder(instance), instance, install) {
            Ok(owned) => resources.extend(owned),
            Err(error) => {
                tracing::warn!(%instance, %error, "its folder cannot be read");
                unseen += 1;
            }
        }
    }
    Ok(OwnedPage { resources, unseen, next })
}

/// What is in an instance's folder, if that is the install's.
fn owned_in(
    folder: &Folder,
    instance: freehold_domain::ids::InstanceId,
    install: &str,
) -> io::Result<Vec<OwnedResource>> {
    let mut resources = Vec::new();
    // A copy of another instance's folder is a resource of neither.
    let here = |tags: &Tags| tags.install == install && tags.instance == instance.to_string();
    let Some(tags) = folder.owner_tags()?.filter(here) else { return Ok(resources) };
    let mut add = |kind, handle| {
        let resource = Resource { kind, id: format!("fh-{}", instance.simple()), region: None, handle };
        resources.push(OwnedResource { resource, claim: Claim::Tags(tags.clone()) });
    };
    add(ResourceKind::Base, String::new());
    if durable::is_there(&folder.volume())? {
        add(ResourceKind::Storage, String::new());
    }
    if let Some(record) = Record::read(folder)? {
        add(ResourceKind::Runtime, serde_json::to_string(&Handle::from(&record))?);
    }
    Ok(resources)
}
