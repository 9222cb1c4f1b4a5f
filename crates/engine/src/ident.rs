//! The provider-side name and tags of an instance: derived, so that every attempt, on every node, uses the same ones.

use freehold_domain::ids::InstanceId;
use freehold_domain::lease::InstallId;
use freehold_domain::owner::{Context, Owner};
use freehold_domain::protection::{Protection, stands};
use freehold_domain::reservation::Reservation;
use ring::{digest, hmac};

use crate::ports::{Claim, Ident, Tags};

/// Derives idents, and checks whose a found resource is.
#[derive(Clone)]
pub struct Idents {
    install: InstallId,
    key: hmac::Key,
}

impl std::fmt::Debug for Idents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Idents").field("install", &self.install).finish_non_exhaustive()
    }
}

impl Idents {
    /// For an installation and the key that signs its tags.
    #[must_use]
    pub fn new(install: InstallId, mac_key: &[u8; 32]) -> Self {
        Self { install, key: hmac::Key::new(hmac::HMAC_SHA256, mac_key) }
    }

    /// The installation.
    #[must_use]
    pub fn install(&self) -> &InstallId {
        &self.install
    }

    /// The ident of an instance.
    #[must_use]
    pub fn of(&self, instance: InstanceId, context: &Context) -> Ident {
        let owner = hashed(context.owner());
        let mac = hex(
            hmac::sign(&self.key, signed(self.install.as_str(), &instance.to_string(), &owner).as_bytes()).as_ref()
        );
        Ident {
            instance,
            name: format!("fh-{}", instance.simple()),
            given: None,
            tags: Tags { install: self.install.to_string(), instance: instance.to_string(), owner, mac },
        }
    }

    /// The ident of what a reservation is for. What was not made here keeps the name that it has at the provider.
    #[must_use]
    pub fn of_reservation(&self, reservation: &Reservation) -> Ident {
        let derived = self.of(reservation.instance, &reservation.context);
        match &reservation.named {
            Some(name) => Ident { given: Some(name.clone()), ..derived },
            None => derived,
        }
    }

    /// The instance that a listed resource belongs to; `None` for what is somebody else's. The registry's word stands for
    /// a MAC where only a name is to be had: an instance that it does not know is nobody's here.
    #[must_use]
    pub fn whose(&self, claim: &Claim) -> Option<InstanceId> {
        match claim {
            Claim::Tags(tags) => tags.instance.parse().ok().filter(|instance| self.verify(tags, *instance)),
            Claim::Name(instance) => Some(*instance),
        }
    }

    /// A fingerprint of bytes that may hold secrets: whoever has the database alone cannot try guesses on it.
    #[must_use]
    pub fn fingerprint(&self, bytes: &[u8]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        // Tags never begin like this, so no fingerprint is a MAC of theirs.
        context.update(b"\0fingerprint\0");
        context.update(bytes);
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(context.sign().as_ref());
        fingerprint
    }

    /// Whether tags were made by this installation for this instance: the comparison takes the same time whatever is
    /// wrong with them.
    #[must_use]
    pub fn verify(&self, tags: &Tags, instance: InstanceId) -> bool {
        if !stands(Protection::MacIsChecked) {
            return true;
        }
        let ours = tags.install == self.install.as_str() && tags.instance == instance.to_string();
        let mac = unhex(&tags.mac).unwrap_or_default();
        let message = signed(&tags.install, &tags.instance, &tags.owner);
        hmac::verify(&self.key, message.as_bytes(), &mac).is_ok() && ours
    }
}

fn signed(install: &str, instance: &str, owner: &str) -> String {
    // None of the three can contain a line feed.
    format!("{install}\n{instance}\n{owner}")
}

fn hashed(owner: &Owner) -> String {
    hex(&digest::digest(&digest::SHA256, owner.to_string().as_bytes()).as_ref()[..16])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup() -> (Idents, InstanceId, Context) {
        let idents = Idents::new("prod".parse().expect("valid"), &[7; 32]);
        let context = Context::new("user:alice".parse().expect("valid"), None).expect("valid");
        (idents, InstanceId::mint(1, [1; 10]), context)
    }

    #[test]
    fn an_ident_is_the_same_on_every_attempt_and_is_ours() {
        let (idents, instance, context) = setup();
        let ident = idents.of(instance, &context);
        assert_eq!(ident, idents.of(instance, &context));
        assert_eq!(ident.name.len(), 35);
        assert!(idents.verify(&ident.tags, instance));
    }

    #[test]
    fn a_fingerprint_needs_the_key() {
        let (idents, ..) = setup();
        let other = Idents::new("prod".parse().expect("valid"), &[8; 32]);
        assert_eq!(idents.fingerprint(b"body"), idents.fingerprint(b"body"));
        assert_ne!(idents.fingerprint(b"body"), idents.fingerprint(b"other"));
        assert_ne!(idents.fingerprint(b"body"), other.fingerprint(b"body"));
    }

    #[test]
    fn tags_of_another_install_instance_owner_or_key_are_foreign() {
        let (idents, instance, context) = setup();
        let good = idents.of(instance, &context).tags;
        let other = InstanceId::mint(2, [1; 10]);
        assert!(!idents.verify(&good, other));
        for wrong in [
            Tags { install: "test".to_owned(), ..good.clone() },
            Tags { instance: other.to_string(), ..good.clone() },
            Tags { owner: "0".repeat(32), ..good.clone() },
            Tags { mac: "0".repeat(64), ..good.clone() },
            Tags { mac: "zz".to_owned(), ..good.clone() },
            Tags { mac: "ü".to_owned(), ..good.clone() },
        ] {
            assert!(!idents.verify(&wrong, instance), "{wrong:?}");
        }
        assert!(!Idents::new("prod".parse().expect("valid"), &[8; 32]).verify(&good, instance));
    }
}
