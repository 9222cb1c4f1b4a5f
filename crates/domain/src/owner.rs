//! Who an instance is for. A context, (owner, assigned user), is the scope of "exactly one".
//!
//! Ids of users and organisations belong to the caller; they are taken as they are: 1 to [`EXTERNAL_ID_BYTES_MAX`]
//! printable ASCII characters without spaces. Parsing is the only way in, so a value of these types is always valid.

use std::fmt;
use std::str::FromStr;

/// The longest user or organisation id, in bytes: long enough for identity providers' ids and e-mail addresses, short
/// enough for an index key.
pub const EXTERNAL_ID_BYTES_MAX: usize = 200;

/// Why a text names no owner or user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOwner {
    /// Neither `user:` nor `org:` in front.
    #[error("an owner is `user:ID` or `org:ID`")]
    Kind,
    /// Nothing behind the colon.
    #[error("the id is empty; write `user:ID` or `org:ID`")]
    Empty,
    /// Longer than [`EXTERNAL_ID_BYTES_MAX`].
    #[error("the id is longer than {EXTERNAL_ID_BYTES_MAX} bytes")]
    TooLong,
    /// A space, a control character, or something beyond ASCII.
    #[error("an id has printable ASCII characters only, and no spaces")]
    Character,
    /// `user:` owners are their own assigned user.
    #[error("the assigned user of a `user:` owner is that user")]
    AssignedUserDiffers,
    /// `org:` owners name one.
    #[error("an `org:` owner needs an assigned user")]
    AssignedUserMissing,
}

/// The id of a person or organisation, as the caller's system knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExternalId(String);

impl ExternalId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ExternalId {
    type Err = InvalidOwner;
    fn from_str(text: &str) -> Result<Self, InvalidOwner> {
        if text.is_empty() {
            Err(InvalidOwner::Empty)
        } else if text.len() > EXTERNAL_ID_BYTES_MAX {
            Err(InvalidOwner::TooLong)
        } else if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Err(InvalidOwner::Character)
        } else {
            Ok(Self(text.to_owned()))
        }
    }
}

impl fmt::Display for ExternalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who the registry entry belongs to: written `user:ID` or `org:ID`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    /// A person.
    User(ExternalId),
    /// An organisation.
    Org(ExternalId),
}

impl FromStr for Owner {
    type Err = InvalidOwner;
    fn from_str(text: &str) -> Result<Self, InvalidOwner> {
        match text.split_once(':') {
            Some(("user", id)) => Ok(Self::User(id.parse()?)),
            Some(("org", id)) => Ok(Self::Org(id.parse()?)),
            Some(_) | None => Err(InvalidOwner::Kind),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => write!(f, "user:{id}"),
            Self::Org(id) => write!(f, "org:{id}"),
        }
    }
}

/// The scope of "exactly one".
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Context {
    owner: Owner,
    assigned_user: ExternalId,
}

impl Context {
    /// Puts an owner and the person the instance is for together.
    ///
    /// # Errors
    /// For `user:` owners the assigned user may be left out and must else be the owner's id; `org:` owners need one.
    pub fn new(owner: Owner, assigned_user: Option<ExternalId>) -> Result<Self, InvalidOwner> {
        let assigned_user = match (&owner, assigned_user) {
            (Owner::User(id), None) => id.clone(),
            (Owner::User(id), Some(user)) if user == *id => user,
            (Owner::User(_), Some(_)) => return Err(InvalidOwner::AssignedUserDiffers),
            (Owner::Org(_), Some(user)) => user,
            (Owner::Org(_), None) => return Err(InvalidOwner::AssignedUserMissing),
        };
        Ok(Self { owner, assigned_user })
    }

    /// Who the registry entry belongs to.
    #[must_use]
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// The person the instance is for.
    #[must_use]
    pub fn assigned_user(&self) -> &ExternalId {
        &self.assigned_user
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn owners_that_are_none_say_why() {
        for (text, why) in [
            ("user:", InvalidOwner::Empty),
            ("admin:x", InvalidOwner::Kind),
            ("alice", InvalidOwner::Kind),
            ("", InvalidOwner::Kind),
            ("user:a b", InvalidOwner::Character),
            ("user:a\u{7}", InvalidOwner::Character),
            ("org:ü", InvalidOwner::Character),
        ] {
            assert_eq!(text.parse::<Owner>(), Err(why), "{text:?}");
        }
        assert_eq!(format!("user:{}", "x".repeat(300)).parse::<Owner>(), Err(InvalidOwner::TooLong));
    }

    #[test]
    fn a_user_is_its_own_assigned_user_and_an_org_names_one() {
        let alice: Owner = "user:alice".parse().expect("valid");
        let acme: Owner = "org:acme".parse().expect("valid");
        let bob: ExternalId = "bob".parse().expect("valid");
        assert_eq!(Context::new(alice.clone(), None).expect("valid").assigned_user().as_str(), "alice");
        assert_eq!(Context::new(alice, Some(bob.clone())), Err(InvalidOwner::AssignedUserDiffers));
        assert_eq!(Context::new(acme.clone(), None), Err(InvalidOwner::AssignedUserMissing));
        assert_eq!(Context::new(acme, Some(bob.clone())).expect("valid").assigned_user(), &bob);
    }

    proptest! {
        #[test]
        fn an_owner_reads_back_as_itself(org: bool, id in "[!-~]{1,200}") {
            let text = format!("{}:{id}", if org { "org" } else { "user" });
            prop_assert_eq!(text.parse::<Owner>().expect("valid").to_string(), text);
        }
    }
}
