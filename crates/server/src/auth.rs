//! Who calls: bearer keys, from the configuration and from the registry, and end users' tokens.
//!
//! A key is known by its SHA-256; the key itself is nowhere. The table is entered by the first bytes of that hash, which
//! nobody can steer towards a key they do not have, and what is found there is compared in constant time.
//!
//! Keys in the registry are read again every few seconds, so that a revoked one is refused soon on every node, and when
//! an unknown one arrives, so that a new one works at once; the latter not more often than [`UNKNOWN_READ_EVERY`], or
//! guessing would be a load on the store.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use freehold_api::Code;
use freehold_domain::event::Actor;
use freehold_engine::ports::{KeyRecord, KeyRole, Store};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use ring::digest;
use subtle::ConstantTimeEq as _;

use crate::problems::Refusal;
use crate::users::{Scope, UnusableKeys, User, UserTokens, Users};

/// After how long the registry's keys are read again, by one of the requests while the others go on.
const READ_EVERY: Duration = Duration::from_secs(2);

/// After how long nobody goes on without reading them again: a revoked key is refused everywhere after this.
const READ_AT_THE_LATEST: Duration = Duration::from_secs(5);

/// How often an unknown key makes the registry's keys be read again.
const UNKNOWN_READ_EVERY: Duration = Duration::from_secs(1);

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bearer {
    /// Names the caller: a key's public id, its role where the configuration has it, or a user with `user:` in front.
    pub(crate) id: Arc<str>,
    /// What it may do.
    pub(crate) role: Role,
}

/// What a caller may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// What its key is for, in every context.
    Key(KeyRole),
    /// What end users do, in its own contexts.
    User(Arc<User>),
}

impl Role {
    fn name(&self) -> &'static str {
        match self {
            Self::Key(role) => role.name(),
            Self::User(_) => "user",
        }
    }

    /// Who an actor is in the audit trail. Readers change nothing, so they never get there.
    pub(crate) fn actor(&self) -> Actor {
        match self {
            Self::Key(KeyRole::Platform | KeyRole::Viewer) => Actor::Platform,
            Self::Key(KeyRole::Operator) => Actor::Operator,
            Self::User(_) => Actor::User,
        }
    }

    /// What it sees.
    pub(crate) fn scope(&self) -> Scope {
        match self {
            Self::Key(_) => Scope::Everything,
            Self::User(user) => Scope::Of(Arc::clone(user)),
        }
    }

    /// Whether its requests are counted. A backend's own keys are not.
    pub(crate) fn is_rate_limited(&self) -> bool {
        match self {
            Self::Key(KeyRole::Viewer) | Self::User(_) => true,
            Self::Key(KeyRole::Platform | KeyRole::Operator) => false,
        }
    }
}

/// The least that a route asks of a caller with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Access {
    /// Nothing: no key is looked at.
    Open,
    /// Any key: reads.
    Viewer,
    /// A key for any context.
    Platform,
    /// A key for the operators' routes.
    Operator,
}

impl Access {
    /// By its name in the OpenAPI document.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "viewer" => Some(Self::Viewer),
            "platform" => Some(Self::Platform),
            "operator" => Some(Self::Operator),
            _ => None,
        }
    }

    fn of(role: KeyRole) -> Self {
        match role {
            KeyRole::Viewer => Self::Viewer,
            KeyRole::Platform => Self::Platform,
            KeyRole::Operator => Self::Operator,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Open | Self::Viewer => "viewer",
            Self::Platform => "platform",
            Self::Operator => "operator",
        }
    }
}

/// What a route asks of its callers. Users are let in where it says so and nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Door {
    /// Of those with a key.
    pub(crate) key: Access,
    /// Whether end users may come too.
    pub(crate) users: bool,
}

impl Door {
    /// For whoever comes.
    pub(crate) const OPEN: Self = Self { key: Access::Open, users: true };

    /// For operators only: what holds where nothing is said.
    pub(crate) const SHUT: Self = Self { key: Access::Operator, users: false };

    /// Lets a caller in, or says why not.
    pub(crate) fn check(self, role: &Role) -> Result<(), Refusal> {
        let enough = match role {
            Role::Key(role) => Access::of(*role) >= self.key,
            Role::User(_) => self.users,
        };
        if enough {
            return Ok(());
        }
        let (least, has) = (self.key.name(), role.name());
        let detail = format!("this needs a key with the role {least}; this caller has the role {has}");
        Err(Refusal::new(Code::Forbidden, detail))
    }
}

struct Known {
    hash: [u8; 32],
    bearer: Bearer,
}

/// Keys by the first bytes of their hashes.
#[derive(Default)]
struct Table(HashMap<[u8; 8], Vec<Known>>);

impl Table {
    fn insert(&mut self, hash: [u8; 32], bearer: Bearer) {
        self.0.entry(first(&hash)).or_default().push(Known { hash, bearer });
    }

    fn find(&self, hash: &[u8; 32]) -> Option<Bearer> {
        let candidates = self.0.get(&first(hash))?;
        let mut found = None;
        for known in candidates {
            if bool::from(known.hash.ct_eq(hash)) {
                found = Some(known.bearer.clone());
            }
        }
        found
    }
}

fn first(hash: &[u8; 32]) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hash[..8]);
    bytes
}

fn hashed(key: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, key.as_bytes()).as_ref());
    hash
}

struct Stored {
    table: Arc<Table>,
    read_at: Option<Instant>,
    /// Whether the last reading had an answer.
    fresh: bool,
}

/// All keys that are known.
pub struct Keys {
    store: Arc<dyn Store>,
    configured: Table,
    stored: RwLock<Stored>,
    reading: tokio::sync::Mutex<()>,
    users: Option<Users>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys")
    }
}

impl Keys {
    /// The registry's keys.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        let stored = Stored { table: Arc::default(), read_at: None, fresh: false };
        Self {
            store,
            configured: Table::default(),
            stored: RwLock::new(stored),
            reading: tokio::sync::Mutex::default(),
            users: None,
        }
    }

    /// And one from the configuration, or minted at first start. `id` names it where keys are told apart, such as in the
    /// scope of idempotency keys: keep it when the key is rotated.
    #[must_use]
    pub fn with(mut self, id: &str, role: KeyRole, key: &str) -> Self {
        self.configured.insert(hashed(key), Bearer { id: Arc::from(id), role: Role::Key(role) });
        self
    }

    /// And end users' tokens, which are refused otherwise.
    ///
    /// # Errors
    /// Keys that no token can be checked with.
    pub fn with_users(mut self, tokens: UserTokens) -> Result<Self, UnusableKeys> {
        self.users = Some(Users::new(tokens)?);
        Ok(self)
    }

    /// Whose request this is.
    ///
    /// # Errors
    /// `unauthorized` without a key or token that is good, `store_unavailable` or `issuer_unavailable` if it cannot be
    /// told.
    pub(crate) async fn identify(&self, headers: &HeaderMap) -> Result<Bearer, Refusal> {
        let token = bearer_token(headers)?;
        if !looks_like_jwt(token) {
            return self.identify_key(token).await;
        }
        let Some(users) = &self.users else {
            let detail = "this server takes no end-user tokens; send an API key";
            return Err(Refusal::new(Code::Unauthorized, detail));
        };
        let user = users.identify(token).await?;
        Ok(Bearer { id: Arc::clone(&user.id), role: Role::User(user) })
    }

    /// Whose key this is.
    ///
    /// # Errors
    /// As [`Self::identify`].
    pub(crate) async fn identify_key(&self, key: &str) -> Result<Bearer, Refusal> {
        let hash = hashed(key);
        if let Some(bearer) = self.configured.find(&hash) {
            return Ok(bearer);
        }
        self.keep_fresh().await;
        if let Some(bearer) = self.known(&hash) {
            return Ok(bearer);
        }
        self.read_if_older_than(UNKNOWN_READ_EVERY).await;
        if let Some(bearer) = self.known(&hash) {
            return Ok(bearer);
        }
        if self.look(|stored| stored.fresh) {
            Err(Refusal::new(Code::Unauthorized, "this key is not known; it may be mistyped or revoked"))
        } else {
            Err(Refusal::new(Code::StoreUnavailable, "the registry of keys cannot be read; try again"))
        }
    }

    /// Whether these headers carry a key or token for us, whoever's it is.
    pub(crate) async fn is_ours(&self, headers: &HeaderMap) -> bool {
        headers.contains_key(AUTHORIZATION) && self.identify(headers).await.is_ok()
    }

    fn known(&self, hash: &[u8; 32]) -> Option<Bearer> {
        let table = self.look(|stored| Arc::clone(&stored.table));
        table.find(hash)
    }

    fn look<T>(&self, at: impl FnOnce(&Stored) -> T) -> T {
        at(&self.stored.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn age(&self) -> Duration {
        self.look(|stored| stored.read_at).map_or(Duration::MAX, |at| at.elapsed())
    }

    async fn keep_fresh(&self) {
        let age = self.age();
        if age >= READ_AT_THE_LATEST {
            self.read_if_older_than(READ_AT_THE_LATEST).await;
        } else if age >= READ_EVERY
            && let Ok(_alone) = self.reading.try_lock()
        {
            self.read().await;
        }
    }

    async fn read_if_older_than(&self, age: Duration) {
        if self.age() < age {
            return;
        }
        let _alone = self.reading.lock().await;
        // Whoever was first has read it for all that waited.
        if self.age() >= age {
            self.read().await;
        }
    }

    async fn read(&self) {
        let read = self.store.key_list().await;
        let mut stored = self.stored.write().unwrap_or_else(PoisonError::into_inner);
        stored.read_at = Some(Instant::now());
        stored.fresh = read.is_ok();
        match read {
            Ok(keys) => {
                let mut table = Table::default();
                for KeyRecord { id, label: _, role, hash, created_at: _, revoked_at } in keys {
                    if revoked_at.is_none() {
                        table.insert(hash, Bearer { id: Arc::from(id), role: Role::Key(role) });
                    }
                }
                stored.table = Arc::new(table);
            }
            Err(error) => tracing::warn!(%error, "the registry's keys cannot be read; those known go on working"),
        }
    }
}

fn bearer_token(headers: &HeaderMap) -> Result<&str, Refusal> {
    let refuse = |detail: &str| Err(Refusal::new(Code::Unauthorized, detail));
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return refuse("send one `Authorization: Bearer KEY` header");
    };
    let token = value.to_str().ok().and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    match token {
        Some(token) if !token.is_empty() => Ok(token),
        Some(_) | None => refuse("the header is not `Authorization: Bearer KEY`"),
    }
}

fn looks_like_jwt(token: &str) -> bool {
    token.starts_with("eyJ") && token.split('.').count() == 3
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(value))])
    }

    #[test]
    fn a_key_is_read_from_one_bearer_header() {
        assert_eq!(bearer_token(&headers("Bearer abc")).unwrap(), "abc");
        assert_eq!(bearer_token(&headers("bearer  abc ")).unwrap(), "abc");
        for bad in ["", "Bearer", "Bearer ", "Basic abc", "abc"] {
            assert_eq!(bearer_token(&headers(bad)).unwrap_err().0.code, Code::Unauthorized, "{bad}");
        }
        let mut two = headers("Bearer abc");
        two.append(AUTHORIZATION, HeaderValue::from_static("Bearer abd"));
        assert!(bearer_token(&two).is_err());
        assert!(bearer_token(&HeaderMap::new()).is_err());
    }

    #[test]
    fn a_table_finds_its_keys_and_no_others() {
        let mut table = Table::default();
        table.insert(hashed("one"), Bearer { id: "1".into(), role: Role::Key(KeyRole::Viewer) });
        table.insert(hashed("two"), Bearer { id: "2".into(), role: Role::Key(KeyRole::Operator) });
        assert_eq!(table.find(&hashed("two")).unwrap().id.as_ref(), "2");
        assert_eq!(table.find(&hashed("three")), None);
        // The same first bytes are not enough.
        let mut near = hashed("one");
        near[31] ^= 1;
        assert_eq!(table.find(&near), None);
    }

    #[test]
    fn roles_are_ordered_and_a_weak_one_is_told_what_is_missing() {
        for (key, allowed) in [
            (Access::Open, [true, true, true]),
            (Access::Viewer, [true, true, true]),
            (Access::Platform, [true, true, false]),
            (Access::Operator, [false, true, false]),
        ] {
            for users in [false, true] {
                let seen = KeyRole::ALL.map(|role| Door { key, users }.check(&Role::Key(role)).is_ok());
                assert_eq!(seen, allowed, "{key:?} for platform, operator, viewer");
            }
        }
        let refusal = Door::SHUT.check(&Role::Key(KeyRole::Platform)).unwrap_err();
        assert_eq!(refusal.0.code, Code::Forbidden);
        assert!(refusal.0.detail.contains("operator") && refusal.0.detail.contains("platform"));
    }

    #[test]
    fn a_user_comes_in_where_users_are_named_and_nowhere_else() {
        let user = Arc::new(User::new("alice".parse().unwrap(), []));
        let role = Role::User(user);
        for key in [Access::Viewer, Access::Platform, Access::Operator] {
            assert!(Door { key, users: true }.check(&role).is_ok());
            assert_eq!(Door { key, users: false }.check(&role).unwrap_err().0.code, Code::Forbidden);
        }
        assert_eq!(role.actor(), Actor::User);
        assert!(role.is_rate_limited());
    }
}
