//! Seals: the names of an instance's things are taken for good by things that do nothing.
//!
//! - A name is taken or it is not: an engine gives it to one, whoever asks. A late call that makes something finds the
//!   tombstone, sees by its labels what that is, and goes away.
//! - The container comes first: one that runs holds the volume.
//! - What keeps up a seal is removed once no late call can come any more, by the engine's own clock.

use std::time::{Duration, Instant};

use freehold_domain::resource::{Outcome, ResourceKind};
use freehold_engine::ident::Idents;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::engine::{Engine, Labels};
use super::names::{self, Standing, name_of};
use super::place::{Ended, Place, foreign};
use super::stopped;
use super::table::{Call, Meaning};
use super::wire::{Ask, Trouble, escaped};
use super::{DockerOptions, look};

/// The image of tombstones: empty. It is made where it is missing. Both engines tag an import that names no tag `latest`.
const IMAGE: &str = "localhost/freehold-tombstone";

/// How long a name may be taken by what cannot be seen: a container that is being made or removed shows sooner.
const REMNANT_AFTER: Duration = Duration::from_secs(3);

/// The id that Podman names when it refuses a name.
fn holder_of_name(refusal: &str) -> Option<&str> {
    let (_, behind) = refusal.split_once("already in use by ")?;
    let id = behind.split(|letter: char| !letter.is_ascii_hexdigit()).next()?;
    (id.len() >= 12).then_some(id)
}

impl Place<'_> {
    /// Makes creation under the ident impossible.
    pub(super) async fn seal(&self) -> Result<(), Ended> {
        self.seal_container().await?;
        // Copies under other names are in the way of a volume's removal.
        let label = format!("{}={}", names::INSTANCE, self.ident.tags.instance);
        let copies = self.engine.containers(&label, self.deadline()).await.map_err(|trouble| self.unseen(trouble))?;
        for copy in copies.iter().filter(|copy| self.standing(copy.labels()) == Standing::Ours) {
            self.remove_container(&copy.id).await?;
        }
        for kind in [ResourceKind::Storage, ResourceKind::Base] {
            self.seal_volume(kind).await?;
        }
        Ok(())
    }

    async fn seal_container(&self) -> Result<(), Ended> {
        let name = name_of(self.ident, ResourceKind::Runtime);
        let body = json!({
            "Image": IMAGE,
            "Cmd": ["sealed"],
            "Labels": names::tombstone_labels(self.ident, ResourceKind::Runtime),
            "NetworkDisabled": true,
        });
        let mut unseen: Option<(String, Instant)> = None;
        loop {
            let made = self
                .change(Call::MakeContainer, "/containers/create", |ask: Ask| ask.with("name", &name).json(&body))
                .await?;
            match made.meaning {
                Meaning::Done => return Ok(()),
                Meaning::NoImage => self.make_image().await?,
                Meaning::NameTaken => match self.container(&name).await? {
                    Some(container) => match self.standing(container.labels()) {
                        Standing::Tombstone => return Ok(()),
                        Standing::Foreign => return Err(foreign(&name)),
                        Standing::Ours => self.remove_container(&container.id).await?,
                    },
                    // It is being made, or being removed; or it is what a Podman that was killed while it made one does
                    // not know of, and keeps the name for: the same for long.
                    None => {
                        let holder = holder_of_name(&made.message).map(str::to_owned);
                        unseen = match (unseen, holder) {
                            (Some(known), Some(id)) if known.0 == id => Some(known),
                            (_, holder) => holder.map(|id| (id, Instant::now())),
                        };
                        match &unseen {
                            Some((id, since)) if since.elapsed() > REMNANT_AFTER => {
                                tracing::warn!(instance = %self.ident.instance, id, "removing what the engine half made and forgot");
                                self.remove_container(id).await?;
                            }
                            _ if !self.pause().await => {
                                return Err(Outcome::Unknown(format!("{name} is taken, and cannot be seen")));
                            }
                            _ => {}
                        }
                    }
                },
                _ => return Err(self.failed(&made)),
            }
            if !self.pause().await {
                return Err(Outcome::Unknown("others make the container again and again".to_owned()));
            }
        }
    }

    async fn make_image(&self) -> Result<(), Ended> {
        let with = |ask: Ask| ask.with("fromSrc", "-").with("repo", IMAGE).tar(stopped::empty_archive());
        let made = self.change(Call::MakeImage, "/images/create", with).await?;
        if made.meaning == Meaning::Done { Ok(()) } else { Err(self.failed(&made)) }
    }

    async fn seal_volume(&self, kind: ResourceKind) -> Result<(), Ended> {
        let name = name_of(self.ident, kind);
        let labels = names::tombstone_labels(self.ident, kind);
        loop {
            let volume = self.volume_with(&name, &labels).await?;
            match self.standing(volume.labels()) {
                Standing::Tombstone => return Ok(()),
                Standing::Foreign if self.remove_remnant(&volume).await? => {}
                Standing::Foreign => return Err(foreign(&name)),
                Standing::Ours => {
                    // Somebody who is about to fail may hold it for a moment.
                    if let Some(held) = self.remove_volume(&name).await?
                        && !self.pause().await
                    {
                        return Err(Outcome::Unknown(held));
                    }
                }
            }
        }
    }
}

/// Removes what keeps up seals that no late call can need any more, of this installation. Answers how many things it
/// removed.
pub(super) async fn forget(engine: &Engine, options: &DockerOptions, idents: &Idents) -> Result<u64, Trouble> {
    let until = || Instant::now() + options.request_timeout;
    let date = engine.date(until()).await?;
    let now = jiff::fmt::rfc2822::parse(&date)
        .map_err(|error| Trouble::Cut(format!("the engine's time is not understood: {error}")))?
        .timestamp();
    let kept =
        SignedDuration::try_from(options.settle_horizon.max(options.seal_kept_min)).unwrap_or(SignedDuration::MAX);
    let is_old = |made: Option<Timestamp>| made.is_some_and(|made| now.duration_since(made) > kept);
    let ours = |labels: &Labels| names::is_tombstone(labels) && look::instance_of(labels, idents).is_some();
    let label = format!("{}={}", names::INSTALL, idents.install());
    let mut removed = 0;
    for container in engine.containers(&label, until()).await? {
        if ours(container.labels()) && is_old(Timestamp::from_second(container.created).ok()) {
            let path = format!("/containers/{}", escaped(&container.id));
            // Never by force: a tombstone does not run.
            removed += u64::from(
                engine.change(Call::RemoveContainer, &path, |ask| ask, until()).await?.meaning == Meaning::Done,
            );
        }
    }
    for volume in engine.volumes(&label, until()).await? {
        if ours(volume.labels()) && is_old(look::made_at(volume.created_at.as_deref())) {
            let path = format!("/volumes/{}", escaped(&volume.name));
            removed +=
                u64::from(engine.change(Call::RemoveVolume, &path, |ask| ask, until()).await?.meaning == Meaning::Done);
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::holder_of_name;

    #[test]
    fn podman_names_who_has_a_name() {
        let refusal = "container create: creating container storage: the container name \"fh-1\" is already in use by \
                       1b21a5d0c3e4. You have to remove that container to be able to reuse that name: that name is already in use";
        assert_eq!(holder_of_name(refusal), Some("1b21a5d0c3e4"));
        for other in ["", "already in use by ", "already in use by a ghost", "Conflict. The container name is taken"] {
            assert_eq!(holder_of_name(other), None, "{other}");
        }
    }
}
