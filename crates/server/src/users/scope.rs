//! What a caller may see. A key of ours sees every context, an end user only its own: `user:{sub}`, and what its
//! organisations own for it.

use std::collections::BTreeSet;
use std::sync::Arc;

use freehold_domain::owner::{Context, ExternalId, Owner};

/// An end user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    sub: ExternalId,
    orgs: BTreeSet<ExternalId>,
    /// Names it among callers. No key's id has a colon.
    pub(crate) id: Arc<str>,
}

impl User {
    pub(crate) fn new(sub: ExternalId, orgs: impl IntoIterator<Item = ExternalId>) -> Self {
        let id = Arc::from(format!("user:{sub}"));
        Self { sub, orgs: orgs.into_iter().collect(), id }
    }

    /// Whether a context is its own.
    pub(crate) fn has(&self, context: &Context) -> bool {
        *context.assigned_user() == self.sub && self.may_be(context.owner())
    }

    /// Whether it may have contexts of an owner.
    pub(crate) fn may_be(&self, owner: &Owner) -> bool {
        match owner {
            Owner::User(id) => *id == self.sub,
            Owner::Org(id) => self.orgs.contains(id),
        }
    }

    /// Every owner that it may have contexts of.
    pub(crate) fn owners(&self) -> Vec<Owner> {
        let orgs = self.orgs.iter().cloned().map(Owner::Org);
        std::iter::once(Owner::User(self.sub.clone())).chain(orgs).collect()
    }

    /// The person that it is.
    pub(crate) fn sub(&self) -> &ExternalId {
        &self.sub
    }
}

/// What a caller may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Every context.
    Everything,
    /// One end user's.
    Of(Arc<User>),
}

impl Scope {
    /// Whether a context is within it.
    pub(crate) fn has(&self, context: &Context) -> bool {
        match self {
            Self::Everything => true,
            Self::Of(user) => user.has(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(owner: &str, user: &str) -> Context {
        Context::new(owner.parse().unwrap(), Some(user.parse().unwrap())).unwrap()
    }

    #[test]
    fn a_user_has_its_own_contexts_and_those_that_its_organisations_own_for_it() {
        let scope = Scope::Of(Arc::new(User::new("alice".parse().unwrap(), ["acme".parse().unwrap()])));
        for (owner, user, own) in [
            ("user:alice", "alice", true),
            ("org:acme", "alice", true),
            ("user:bob", "bob", false),
            ("org:acme", "bob", false),
            ("org:other", "alice", false),
            ("org:alice", "alice", false),
            ("user:acme", "acme", false),
        ] {
            assert_eq!(scope.has(&context(owner, user)), own, "{owner} for {user}");
            assert!(Scope::Everything.has(&context(owner, user)));
        }
    }
}
