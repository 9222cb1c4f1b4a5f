//! Under which names and labels things of an instance are, and whose a thing is by its labels.

use freehold_domain::ids::InstanceId;
use freehold_domain::resource::ResourceKind;
use freehold_engine::ident::Idents;
use freehold_engine::ports::{Ident, Tags};

use super::engine::Labels;

/// What a thing is: `base`, `storage` or `runtime`.
pub(super) const ROLE: &str = "freehold_role";

/// On what keeps up a seal.
pub(super) const TOMBSTONE: &str = "freehold_tombstone";

/// The port that the program in a container was told to listen on.
pub(super) const PORT: &str = "freehold_port";

/// What the label of an installation is called.
pub(super) const INSTALL: &str = "freehold_install";

/// What the label of an instance is called.
pub(super) const INSTANCE: &str = "freehold_instance";

/// Whose a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Ours.
    Ours,
    /// Ours, and there to keep up a seal.
    Tombstone,
    /// Somebody else's.
    Foreign,
}

/// The name of an instance's thing of a kind. Volumes and containers have names of their own.
pub(super) fn name_of(ident: &Ident, kind: ResourceKind) -> String {
    match kind {
        ResourceKind::Base | ResourceKind::Runtime => ident.name.clone(),
        ResourceKind::Storage => format!("{}-data", ident.name),
    }
}

/// The labels of an instance's thing.
pub(super) fn labels(ident: &Ident, kind: ResourceKind) -> Labels {
    let tags = ident.tags.pairs().into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    tags.chain([(ROLE.to_owned(), kind.name().to_owned())]).collect()
}

/// The labels of what keeps up a seal in its place.
pub(super) fn tombstone_labels(ident: &Ident, kind: ResourceKind) -> Labels {
    let mut labels = labels(ident, kind);
    labels.insert(TOMBSTONE.to_owned(), "1".to_owned());
    labels
}

/// The tags among labels, where all of them are there.
pub(super) fn tags(labels: &Labels) -> Option<Tags> {
    let label = |name: &str| labels.get(name).cloned();
    Some(Tags {
        install: label(INSTALL)?,
        instance: label(INSTANCE)?,
        owner: label("freehold_owner")?,
        mac: label("freehold_mac")?,
    })
}

/// Whether labels say that a thing keeps up a seal. Whose, they do not.
pub(super) fn is_tombstone(labels: &Labels) -> bool {
    labels.contains_key(TOMBSTONE)
}

/// Whose a thing with these labels is.
pub(super) fn standing(labels: &Labels, idents: &Idents, instance: InstanceId) -> Standing {
    match tags(labels) {
        Some(tags) if idents.verify(&tags, instance) && is_tombstone(labels) => Standing::Tombstone,
        Some(tags) if idents.verify(&tags, instance) => Standing::Ours,
        Some(_) | None => Standing::Foreign,
    }
}

/// What kind of thing a volume is: by its name, and a renamed one by its label.
pub(super) fn kind_of_volume(name: &str, labels: &Labels) -> ResourceKind {
    let says_base = labels.get(ROLE).is_some_and(|role| role == ResourceKind::Base.name());
    if says_base && !name.ends_with("-data") { ResourceKind::Base } else { ResourceKind::Storage }
}

#[cfg(test)]
mod tests {
    use super::*;
    use freehold_domain::owner::Context;

    #[test]
    fn a_thing_is_ours_by_its_tags_and_a_tombstone_by_its_label() {
        let idents = |key| Idents::new("test".parse().expect("valid"), &[key; 32]);
        let context = Context::new("user:alice".parse().expect("valid"), None).expect("valid");
        let ident = idents(1).of(InstanceId::mint(1, [1; 10]), &context);
        let ours = labels(&ident, ResourceKind::Base);
        let sealed = tombstone_labels(&ident, ResourceKind::Base);
        assert_eq!(standing(&ours, &idents(1), ident.instance), Standing::Ours);
        assert_eq!(standing(&sealed, &idents(1), ident.instance), Standing::Tombstone);
        for (labels, idents) in [(&ours, idents(2)), (&sealed, idents(2)), (&Labels::new(), idents(1))] {
            assert_eq!(standing(labels, &idents, ident.instance), Standing::Foreign);
        }
        assert_eq!(kind_of_volume(&name_of(&ident, ResourceKind::Base), &ours), ResourceKind::Base);
        assert_eq!(kind_of_volume(&name_of(&ident, ResourceKind::Storage), &ours), ResourceKind::Storage);
    }
}
