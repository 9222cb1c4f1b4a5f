//! The keys that an issuer publishes: fetched when they are first needed, again from time to time, and when a token
//! names one that is not known, which is how a rotation begins; the last not more often than [`JwksTiming::unknown`], or
//! made-up tokens would be a load on the issuer.
//!
//! Keys stay good while the issuer does not answer. A key that it publishes no more is refused from the next fetch on.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

use crate::limits::{JWKS_BYTES_MAX, JWKS_FETCH_MAX, JWKS_KEYS_MAX};

/// When an issuer's keys are fetched again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JwksTiming {
    /// After how long, by itself: how long a withdrawn key may still be good.
    pub refresh: Duration,
    /// The least time between two fetches for keys that are not known, and after one that failed.
    pub unknown: Duration,
}

impl Default for JwksTiming {
    fn default() -> Self {
        Self { refresh: Duration::from_secs(300), unknown: Duration::from_secs(5) }
    }
}

/// A key that checks signatures.
pub(super) struct Key {
    kid: Option<String>,
    /// The one algorithm that it is for.
    pub(super) algorithm: Algorithm,
    pub(super) decoding: DecodingKey,
}

/// What became of a look for a key.
pub(super) enum Lookup {
    /// This is it.
    Found(Arc<Key>),
    /// The issuer has none like it.
    Unknown,
    /// It is not known, and the issuer could not be asked; when to try again.
    Unavailable(Duration),
}

#[derive(Default)]
struct State {
    keys: Arc<Vec<Arc<Key>>>,
    asked_at: Option<Instant>,
    /// Whether the last fetch failed.
    failed: bool,
}

/// The keys of one issuer.
pub(super) struct Jwks {
    url: reqwest::Url,
    client: reqwest::Client,
    timing: JwksTiming,
    state: RwLock<State>,
    fetching: tokio::sync::Mutex<()>,
}

impl Jwks {
    pub(super) fn new(url: &str, timing: JwksTiming) -> Result<Self, String> {
        let url: reqwest::Url = url.parse().map_err(|_| "it is no URL".to_owned())?;
        let client = reqwest::Client::builder()
            .timeout(JWKS_FETCH_MAX)
            // The keys are where the operator said, and nowhere that somebody else sends us to.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| error.without_url().to_string())?;
        Ok(Self { url, client, timing, state: RwLock::default(), fetching: tokio::sync::Mutex::default() })
    }

    /// The key of a token.
    pub(super) async fn find(self: &Arc<Self>, kid: Option<&str>, algorithm: Algorithm) -> Lookup {
        if let Some(key) = self.known(kid, algorithm) {
            if self.age() >= self.look(|state| if state.failed { self.timing.unknown } else { self.timing.refresh }) {
                let jwks = Arc::clone(self);
                tokio::spawn(async move { jwks.fetch_if_alone().await });
            }
            return Lookup::Found(key);
        }
        self.fetch_if_older_than(self.timing.unknown).await;
        match self.known(kid, algorithm) {
            Some(key) => Lookup::Found(key),
            None if self.look(|state| state.failed) => Lookup::Unavailable(self.timing.unknown),
            None => Lookup::Unknown,
        }
    }

    fn known(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<Arc<Key>> {
        let keys = self.look(|state| Arc::clone(&state.keys));
        let mut fitting = keys.iter().filter(|key| key.algorithm == algorithm);
        match kid {
            Some(kid) => fitting.find(|key| key.kid.as_deref() == Some(kid)).cloned(),
            // Without a name it is the only one that fits, or none.
            None => fitting.next().filter(|_| fitting.next().is_none()).cloned(),
        }
    }

    fn look<T>(&self, at: impl FnOnce(&State) -> T) -> T {
        at(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn age(&self) -> Duration {
        self.look(|state| state.asked_at).map_or(Duration::MAX, |at| at.elapsed())
    }

    async fn fetch_if_alone(&self) {
        if let Ok(_alone) = self.fetching.try_lock() {
            self.fetch().await;
        }
    }

    async fn fetch_if_older_than(&self, age: Duration) {
        if self.age() < age {
            return;
        }
        let _alone = self.fetching.lock().await;
        // Whoever was first has fetched them for all that waited.
        if self.age() >= age {
            self.fetch().await;
        }
    }

    async fn fetch(&self) {
        let fetched = self.published().await;
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.asked_at = Some(Instant::now());
        state.failed = fetched.is_err();
        match fetched {
            Ok(keys) => state.keys = Arc::new(keys),
            Err(why) => {
                let kept = state.keys.len();
                tracing::warn!(why, kept, "the keys of the issuer of end users' tokens cannot be fetched");
            }
        }
    }

    async fn published(&self) -> Result<Vec<Arc<Key>>, String> {
        let mut response = self.client.get(self.url.clone()).send().await.map_err(said)?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(format!("it answers {}", response.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(said)? {
            if body.len() + chunk.len() > JWKS_BYTES_MAX {
                return Err(format!("it is longer than {JWKS_BYTES_MAX} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        read(&body)
    }
}

/// What went wrong, down to its cause. The address may hold a password, and the log has no need of it.
fn said(error: reqwest::Error) -> String {
    let error = error.without_url();
    let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[derive(Deserialize)]
struct Published {
    keys: Vec<Value>,
}

/// The keys in a JWK set that can check tokens. What cannot is left out: sets have keys for other purposes.
fn read(body: &[u8]) -> Result<Vec<Arc<Key>>, String> {
    let Published { keys } = serde_json::from_slice(body).map_err(|_| "it is no JWK set".to_owned())?;
    if keys.len() > JWKS_KEYS_MAX {
        return Err(format!("it has more than {JWKS_KEYS_MAX} keys"));
    }
    let usable: Vec<_> = keys.into_iter().filter_map(usable).map(Arc::new).collect();
    if usable.is_empty() { Err("it has no key for RS256, ES256 or EdDSA".to_owned()) } else { Ok(usable) }
}

fn usable(key: Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(key).ok()?;
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => Algorithm::ES256,
        AlgorithmParameters::OctetKeyPair(curve) if curve.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
        // A shared secret that is published is none.
        _ => return None,
    };
    let signs = jwk.common.public_key_use.as_ref().is_none_or(|purpose| *purpose == PublicKeyUse::Signature);
    let fits = jwk.common.key_algorithm.is_none_or(|said| said.to_string() == format!("{algorithm:?}"));
    if !(signs && fits) {
        return None;
    }
    Some(Key { decoding: DecodingKey::from_jwk(&jwk).ok()?, kid: jwk.common.key_id, algorithm })
}
