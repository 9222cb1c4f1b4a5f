//! Looks: what there is of one instance, and what there is of an installation.
//!
//! An engine knows what it has, so a look that was answered is conclusive. What keeps up a seal is no resource.

use std::time::Instant;

use freehold_domain::ids::InstanceId;
use freehold_domain::resource::{Custody, Found, Observation, Resource, ResourceKind, RuntimeState};
use freehold_engine::ident::Idents;
use freehold_engine::ports::{Claim, OwnedPage, OwnedResource};
use jiff::Timestamp;

use super::engine::{Engine, Labels};
use super::names::{self, Standing, name_of};
use super::place::Place;
use super::runtime::handle;
use super::wire::Trouble;

/// How many resources a page of the list has.
const PAGE: usize = 100;

/// When something was made, as an engine writes it.
pub(super) fn made_at(written: Option<&str>) -> Option<Timestamp> {
    written?.parse().ok()
}

/// The instance that labels name, if they are ours.
pub(super) fn instance_of(labels: &Labels, idents: &Idents) -> Option<InstanceId> {
    let tags = names::tags(labels)?;
    tags.instance.parse().ok().filter(|instance| idents.verify(&tags, *instance))
}

/// Something found, and when it was made.
struct Sighted {
    made_at: Option<Timestamp>,
    found: Found,
}

impl Place<'_> {
    /// Everything that carries the ident: by name, and by label for what has another name.
    pub(super) async fn observe(&self) -> Result<Observation, Trouble> {
        let (engine, until) = (self.engine, self.deadline());
        let (base, storage) = (name_of(self.ident, ResourceKind::Base), name_of(self.ident, ResourceKind::Storage));
        let name = name_of(self.ident, ResourceKind::Runtime);
        let label = format!("{}={}", names::INSTANCE, self.ident.tags.instance);
        let (named, labelled, by_name, by_label) = tokio::join!(
            async { Ok::<_, Trouble>([engine.volume(&base, until).await?, engine.volume(&storage, until).await?]) },
            engine.volumes(&label, until),
            engine.container(&name, until),
            engine.containers(&label, until),
        );
        let mut sighted = Vec::new();
        let copies = labelled?.into_iter().filter(|volume| volume.name != base && volume.name != storage);
        let copies: Vec<_> = copies.collect();
        for volume in named?.into_iter().flatten().chain(copies) {
            let kind = match &volume.name {
                name if *name == base => ResourceKind::Base,
                name if *name == storage => ResourceKind::Storage,
                name => names::kind_of_volume(name, volume.labels()),
            };
            let made_at = made_at(volume.created_at.as_deref());
            self.add(&mut sighted, kind, &volume.name, String::new(), volume.labels(), made_at);
        }
        let (by_name, by_label) = (by_name?, by_label?);
        let mut runtime = RuntimeState::Missing;
        if let Some(container) = &by_name {
            let handle = handle(container, self.options.network.as_deref());
            if self.standing(container.labels()) == Standing::Ours {
                runtime = self.state(container).await?;
            }
            let made_at = made_at(Some(&container.created));
            self.add(&mut sighted, ResourceKind::Runtime, &name, handle, container.labels(), made_at);
        }
        for copy in by_label {
            if copy.name() != name && by_name.as_ref().is_none_or(|container| container.id != copy.id) {
                let made_at = Timestamp::from_second(copy.created).ok();
                self.add(&mut sighted, ResourceKind::Runtime, copy.name(), String::new(), copy.labels(), made_at);
            }
        }
        // Within a kind the oldest comes first.
        sighted.sort_by_key(|one| (one.found.resource.kind, one.made_at));
        Ok(Observation {
            conclusive: true,
            found: sighted.into_iter().map(|one| one.found).collect(),
            runtime,
            reference: String::new(),
        })
    }

    fn add(
        &self,
        sighted: &mut Vec<Sighted>,
        kind: ResourceKind,
        name: &str,
        handle: String,
        labels: &Labels,
        made_at: Option<Timestamp>,
    ) {
        let custody = match self.standing(labels) {
            Standing::Ours => Custody::Ours,
            Standing::Tombstone => return,
            Standing::Foreign => Custody::Foreign,
        };
        let handle = if custody == Custody::Ours { handle } else { String::new() };
        let resource = Resource { kind, id: name.to_owned(), region: None, handle };
        sighted.push(Sighted { made_at, found: Found { resource, custody } });
    }
}

/// A page of what carries the install's tags, in the order of names. A page begins behind the last entry of the one before,
/// so that what comes and goes meanwhile neither hides nor repeats the others.
pub(super) async fn list_owned(
    engine: &Engine,
    install: &str,
    after: Option<&str>,
    until: Instant,
) -> Result<OwnedPage, Trouble> {
    let label = format!("{}={install}", names::INSTALL);
    let (volumes, containers) = tokio::join!(engine.volumes(&label, until), engine.containers(&label, until));
    let mut entries = Vec::new();
    let mut add = |kind: ResourceKind, name: &str, labels: &Labels| {
        let Some(tags) = names::tags(labels).filter(|_| !names::is_tombstone(labels)) else { return };
        let resource = Resource { kind, id: name.to_owned(), region: None, handle: String::new() };
        entries.push((format!("{name} {kind}"), OwnedResource { resource, claim: Claim::Tags(tags) }));
    };
    for volume in volumes? {
        add(names::kind_of_volume(&volume.name, volume.labels()), &volume.name, volume.labels());
    }
    for container in containers? {
        add(ResourceKind::Runtime, container.name(), container.labels());
    }
    entries.retain(|(key, _)| after.is_none_or(|after| key.as_str() > after));
    entries.sort_by(|(one, _), (other, _)| one.cmp(other));
    let next = (entries.len() > PAGE).then(|| entries[PAGE - 1].0.clone());
    entries.truncate(PAGE);
    Ok(OwnedPage { resources: entries.into_iter().map(|(_, owned)| owned).collect(), unseen: 0, next })
}
